//! A native listener from bind to stop.
//!
//! Owns: the threads and the limits of the transport. Must not: know a method. Where next:
//! `dispatch.rs`.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use lastunit_node::{Listener, Node};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::accept::accept;
use crate::anteroom::Anteroom;
use crate::connection::Keeper;
use crate::counts::{CallCount, Counts, Latency};
use crate::credentials::Credentials;
use crate::crowd::Crowd;
use crate::dispatch::{Dispatch, State, services};
use crate::door::{Door, UnknownCallers};
use crate::settings::FrontSettings;
use crate::streams::Streams;
use crate::tls::{Encryption, Material, TlsError};
use crate::traces::{TracedCall, Traces};

/// What the transport gets to send the last replies before connections are cut.
const LINGER: Duration = Duration::from_millis(100);

/// How often a stop looks whether the last call has ended.
const STOP_POLL: Duration = Duration::from_millis(10);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// The address is taken or not one of this machine.
    #[error(
        "{address} can't be bound ({error}): stop what listens there or choose another address"
    )]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The machine gave no threads.
    #[error("the front's threads can't be started: {0}")]
    Threads(std::io::Error),
    /// Certificates that can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The contract that is built in does not read.
    #[error("reflection can't be built: {0}")]
    Reflection(#[from] prost::DecodeError),
}

/// A native listener that serves until it is stopped.
pub struct Front {
    address: SocketAddr,
    state: Arc<State>,
    crowd: Arc<Crowd>,
    encryption: Option<Arc<Encryption>>,
    health: HealthReporter,
    stop: watch::Sender<bool>,
    running: Mutex<Option<Runtime>>,
}

impl Front {
    /// Binds the address and starts to serve; health says NOT_SERVING until it is told otherwise.
    ///
    /// # Errors
    /// The address can't be bound or the machine gives no threads.
    pub fn start(node: Arc<Node>, mut settings: FrontSettings) -> Result<Self, FrontError> {
        let bind = |error| FrontError::Bind {
            address: settings.address,
            error,
        };
        let listener = TcpListener::bind(settings.address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(settings.thread_count)
            .thread_name("lastunit-front")
            .enable_all()
            .build()
            .map_err(FrontError::Threads)?;
        let limits = &settings.limits;
        let crowd = Crowd::new(limits);
        let anteroom = Anteroom::new(limits, Arc::clone(&crowd));
        let streams = Streams::new(limits.streams_max, advice(settings.listener));
        let encryption = settings.material.take().map(|it| Encryption::new(&it));
        let encryption = encryption.transpose()?.map(Arc::new);
        let state = Arc::new(State {
            node,
            counts: Counts::new(std::mem::take(&mut settings.latency_bounds)),
            traces: Traces::new(settings.is_traced),
            streams,
            anteroom,
            other_address: RwLock::default(),
            door: Door::new(std::mem::take(&mut settings.credentials)),
            settings,
        });
        let health = HealthReporter::new();
        let health_server = HealthServer::new(HealthService::from_health_reporter(health.clone()));
        let dispatch = Arc::new(Dispatch::new(Arc::clone(&state), health_server)?);
        let (stop, stopped) = watch::channel(false);
        {
            // A listener of tokio's belongs to the runtime that it is made in.
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(bind_at(address))?;
            let keeper = Keeper::new(dispatch, stopped.clone());
            runtime.spawn(Arc::clone(&crowd).keep_order());
            let crowd = Arc::clone(&crowd);
            runtime.spawn(accept(listener, encryption.clone(), keeper, crowd, stopped));
        }
        let front = Self {
            address,
            state,
            crowd,
            encryption,
            health,
            stop,
            running: Mutex::new(Some(runtime)),
        };
        front.set_health(false);
        Ok(front)
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names the listener that serves the other kind of calls, for callers that knock here.
    pub fn set_other_address(&self, address: String) {
        let mut other = (self.state.other_address.write()).unwrap_or_else(PoisonError::into_inner);
        *other = address;
    }

    /// What health says, of the server and of each service.
    pub fn set_health(&self, is_serving: bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runtime) = running.as_ref() else {
            return;
        };
        let status = if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let settings = &self.state.settings;
        runtime.block_on(async {
            self.health.set_service_status("", status).await;
            for service in services(settings) {
                self.health.set_service_status(service, status).await;
            }
        });
    }

    /// Gives new connections other certificates; open ones keep theirs. A listener that was
    /// started without certificates stays without.
    ///
    /// # Errors
    /// They can't be used; the old stay in force.
    pub fn replace_material(&self, material: &Material) -> Result<(), TlsError> {
        match &self.encryption {
            Some(encryption) => encryption.replace(material),
            None => Ok(()),
        }
    }

    /// Puts other credentials in force; open streams look again, at the node's table too.
    pub fn replace_credentials(&self, credentials: Credentials) {
        self.state.door.replace(credentials);
    }

    /// Has every watch that the owner answers look again.
    pub fn tell_news(&self) {
        if let Some(control) = &self.state.settings.control {
            control.tell_news();
        }
    }

    /// Calls that ended, by method and status.
    #[must_use]
    pub fn counts(&self) -> Vec<CallCount> {
        self.state.counts.read()
    }

    /// How long unary calls took, by method; calls and streams that never ended are not among them.
    #[must_use]
    pub fn latencies(&self) -> Vec<Latency> {
        self.state.counts.latencies()
    }

    /// Takes the finished unary calls that a collector is to be told of, the oldest first, and how
    /// many were lost since this was last taken because nobody took them in time.
    #[must_use]
    pub fn take_traced_calls(&self) -> (Vec<TracedCall>, u64) {
        self.state.traces.take()
    }

    /// Calls and streams of ours that are not finished.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.crowd.totals.open_count.load(Ordering::Relaxed)
    }

    /// Connections and calls that were refused or ended to protect the others, by reason.
    #[must_use]
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.crowd.refusals()
    }

    /// Connections that are open.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.crowd.len()
    }

    /// Bytes that wait in memory for their peers.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.crowd.totals.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Takes what there is to log of callers that were not let in.
    #[must_use]
    pub fn take_unknown_callers(&self) -> Option<UnknownCallers> {
        self.state.door.take_unknown()
    }

    /// Stops accepting, ends the streams, lets calls in flight finish for `grace` at most, and
    /// ends the threads. A second call does nothing.
    pub fn stop(&self, grace: Duration) {
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.take()
        };
        let Some(runtime) = running else { return };
        let end = Instant::now() + grace;
        self.state.streams.stop();
        self.stop.send_replace(true);
        // Relaxed: a count by itself, and a call that begins now is told to go elsewhere.
        while self.crowd.totals.open_count.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            std::thread::sleep(STOP_POLL);
        }
        // Nothing of ours is open. A watcher of health has been told and would stay for ever.
        std::thread::sleep(LINGER);
        runtime.shutdown_timeout(LINGER);
    }
}

impl Drop for Front {
    /// Without a [`Front::stop`] connections are cut; the threads end by themselves.
    fn drop(&mut self) {
        let running = self.running.get_mut();
        if let Some(runtime) = running.unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

fn bind_at(address: SocketAddr) -> impl FnOnce(std::io::Error) -> FrontError {
    move |error| FrontError::Bind { address, error }
}

/// What a caller can do who opens one stream more than may be open.
fn advice(listener: Listener) -> &'static str {
    match listener {
        Listener::Data => "close some or ask the operator to raise data.streams_max",
        Listener::Settlement => "send more operations on the streams that are open",
    }
}
