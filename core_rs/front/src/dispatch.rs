//! Which call goes where.
//!
//! Owns: the table of paths of one listener. Must not: look into a message. Where next:
//! `unary.rs`, `exchange.rs`, `events.rs`, `watch.rs`.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::body::Incoming;
use lastunit_node::{Listener, Node, Subject};
use lastunit_wire::{Lane, Method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use crate::activity::OpenCall;
use crate::anteroom::Anteroom;
use crate::control::{self, ControlMethods, Shape};
use crate::counts::Counts;
use crate::door::{Door, permit};
use crate::framing::Messages;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::reflection::Reflection;
use crate::reply::{self, Answered};
use crate::settings::FrontSettings;
use crate::streams::Streams;
use crate::traces::Traces;
use crate::{events, exchange, faults, unary, watch};

const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";
const REFLECTION_PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The method's name in the node's table that opens reflection.
const REFLECTION_RIGHT: &str = "ServerReflectionInfo";

/// Health and reflection calls at once: what asks for them is known and few.
const OTHERS_MAX: usize = 1024;

/// A question about health comes right behind its headers.
const OTHER_WAIT: Duration = Duration::from_secs(10);

/// What all calls of a listener share.
pub(crate) struct State {
    pub(crate) node: Arc<Node>,
    pub(crate) settings: FrontSettings,
    pub(crate) counts: Counts,
    pub(crate) traces: Traces,
    pub(crate) streams: Arc<Streams>,
    pub(crate) door: Door,
    pub(crate) anteroom: Anteroom,
    /// Where the other kind of calls is served, as callers are told it. Read by refusals only.
    pub(crate) other_address: RwLock<String>,
}

/// Answers questions about health.
pub(crate) type HealthService =
    tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>;

/// Sends each call of a listener to its handler.
pub(crate) struct Dispatch {
    state: Arc<State>,
    health: HealthService,
    control: ControlMethods,
    reflection: Option<Arc<Reflection>>,
    others: Arc<Semaphore>,
}

impl Dispatch {
    pub(crate) fn new(
        state: Arc<State>,
        health: HealthService,
    ) -> Result<Self, prost::DecodeError> {
        let settings = &state.settings;
        let reflection = settings
            .has_reflection
            .then(|| reflection(settings))
            .transpose()?
            .map(Arc::new);
        Ok(Self {
            state,
            health,
            control: ControlMethods::new(lastunit_wire::FILE_DESCRIPTOR_SET)?,
            reflection,
            others: Arc::new(Semaphore::new(OTHERS_MAX)),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.state.settings.limits
    }

    /// Answers one call.
    pub(crate) async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: Arc<Peer>,
        open: OpenCall,
    ) -> Answered {
        if !is_grpc(&request) {
            return reply::no_call(open);
        }
        let Some(method) = Method::from_path(request.uri().path()) else {
            return Box::pin(self.other(request, &peer, open)).await;
        };
        match place_of(method, &self.state.settings) {
            Place::Here => self.serve(method, request, &peer, open).await,
            Place::There => {
                let fault = self.elsewhere(method.path());
                self.state.counts.add(method, fault.code as i32);
                reply::refused(faults::status_of(&fault), open)
            }
            Place::Nowhere => unimplemented(method.path(), open),
        }
    }

    async fn serve(
        &self,
        method: Method,
        request: http::Request<Incoming>,
        peer: &Arc<Peer>,
        open: OpenCall,
    ) -> Answered {
        let state = &self.state;
        // The rare ones are boxed: every call would carry the room that the largest of them takes.
        match method {
            Method::Exchange => exchange::serve(state, request, peer, open),
            Method::ReadEvents => Box::pin(events::serve(state, request, peer, open)).await,
            Method::WatchAvailability => Box::pin(watch::serve(state, request, peer, open)).await,
            _ => unary::serve(state, method, request, peer, open).await,
        }
    }

    async fn other(
        &self,
        request: http::Request<Incoming>,
        peer: &Arc<Peer>,
        open: OpenCall,
    ) -> Answered {
        let path = request.uri().path();
        if let Some(shape) = self.control.shape(path) {
            return self.control(shape, request, peer, open).await;
        }
        let is_health = path.starts_with(HEALTH_PATH);
        let reflection = self.reflection.as_ref();
        let reflection = reflection.filter(|_| REFLECTION_PATHS.contains(&path));
        if !is_health && reflection.is_none() {
            return unimplemented(path, open);
        }
        let Ok(place) = Arc::clone(&self.others).try_acquire_owned() else {
            let fault = faults::too_many_streams(OTHERS_MAX, "ask again in a moment");
            return reply::refused(faults::status_of(&fault), open);
        };
        match reflection {
            Some(reflection) => self.introspect(reflection, request, peer, open, place),
            None => self.tell_health(request, open, place).await,
        }
    }

    async fn control(
        &self,
        shape: Shape,
        request: http::Request<Incoming>,
        peer: &Arc<Peer>,
        open: OpenCall,
    ) -> Answered {
        let state = &self.state;
        let path = request.uri().path();
        if shape.listener() != state.settings.listener {
            let fault = self.elsewhere(path);
            state.counts.add_rare(path, fault.code as i32);
            return reply::refused(faults::status_of(&fault), open);
        }
        match &state.settings.control {
            Some(control) => control.serve(shape, state, request, peer, open).await,
            None => unimplemented(path, open),
        }
    }

    async fn tell_health(
        &self,
        request: http::Request<Incoming>,
        open: OpenCall,
        place: OwnedSemaphorePermit,
    ) -> Answered {
        let open = open.not_awaited();
        let mut health = self.health.clone();
        let told = health.call(request.map(Body::new));
        match tokio::time::timeout(OTHER_WAIT, told).await {
            Ok(Ok(response)) => reply::other(response, open, place),
            Ok(Err(never)) => match never {},
            Err(_) => reply::refused(faults::status_of(&faults::message_late()), open),
        }
    }

    /// Reflection shows how the server is made, so it needs a permission of its own.
    fn introspect(
        &self,
        reflection: &Arc<Reflection>,
        request: http::Request<Incoming>,
        peer: &Peer,
        open: OpenCall,
        place: OwnedSemaphorePermit,
    ) -> Answered {
        let open = open.not_awaited();
        let (parts, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(parts.headers);
        let state = &self.state;
        let caller = state.door.caller(&metadata, peer);
        let permitted = caller
            .map_err(|fault| faults::status_of(&fault))
            .and_then(|caller| permit(&state.node, &caller, REFLECTION_RIGHT, Subject::Ledger));
        match permitted {
            Ok(()) => {
                let questions = Messages::new(body, &open);
                reply::many(reflection.serve(questions, place), open)
            }
            Err(status) => reply::refused(status, open),
        }
    }

    fn elsewhere(&self, path: &str) -> lastunit_wire::Fault {
        let other = self.state.other_address.read();
        let other = other.unwrap_or_else(PoisonError::into_inner);
        faults::wrong_listener(path, self.state.settings.listener, &other)
    }
}

fn is_grpc(request: &http::Request<Incoming>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    request.method() == http::Method::POST
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn unimplemented(path: &str, open: OpenCall) -> Answered {
    let message = format!("{path} is not served here; look at the services with reflection");
    reply::refused(Status::unimplemented(message), open)
}

/// Where a method is served, seen from one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    There,
    Nowhere,
}

fn place_of(method: Method, settings: &FrontSettings) -> Place {
    if method == Method::SetClock && !settings.is_rehearsal {
        return Place::Nowhere;
    }
    let is_settling = matches!(method, Method::Exchange | Method::GetReservation)
        || method.lane() == Some(Lane::Settlement);
    let is_here = match settings.listener {
        Listener::Data => method.lane() != Some(Lane::Control),
        Listener::Settlement => is_settling || method.lane() == Some(Lane::Control),
    };
    if is_here { Place::Here } else { Place::There }
}

fn reflection(settings: &FrontSettings) -> Result<Reflection, prost::DecodeError> {
    let mut services = services(settings);
    services.push(HEALTH_SERVICE);
    let services = services.into_iter().map(str::to_owned).collect();
    let sets = [
        lastunit_wire::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
    ];
    Reflection::new(&sets, services)
}

/// The names of our services on a listener.
pub(crate) fn services(settings: &FrontSettings) -> Vec<&'static str> {
    let mut services = vec!["lastunit.stock.v1.StockService"];
    match settings.listener {
        Listener::Data => services.push("lastunit.stock.v1.JournalService"),
        Listener::Settlement => {
            services.push("lastunit.stock.v1.StockAdminService");
            if settings.control.is_some() {
                services.push(control::SERVICE);
            }
            if settings.is_rehearsal {
                services.push("lastunit.stock.v1.RehearsalService");
            }
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;
    use crate::limits;

    fn settings(listener: Listener) -> FrontSettings {
        FrontSettings {
            address: ([127, 0, 0, 1], 0).into(),
            listener,
            is_rehearsal: false,
            has_reflection: true,
            thread_count: 1,
            limits: limits::of_tests(),
            material: None,
            credentials: Credentials::default(),
            latency_bounds: vec![Duration::from_millis(1)],
            is_traced: false,
            control: None,
        }
    }

    #[test]
    fn every_method_is_served_on_a_listener_and_reservations_never_on_settlement() {
        let [data, settlement] = [Listener::Data, Listener::Settlement].map(settings);
        for method in Method::ALL {
            let places = [place_of(*method, &data), place_of(*method, &settlement)];
            match method {
                Method::SetClock => assert_eq!([Place::Nowhere; 2], places),
                Method::Reserve | Method::ReadEvents => {
                    assert_eq!([Place::Here, Place::There], places);
                }
                Method::Confirm | Method::Exchange | Method::GetReservation => {
                    assert_eq!([Place::Here; 2], places);
                }
                Method::Audit => assert_eq!([Place::There, Place::Here], places),
                _ => assert!(places.contains(&Place::Here), "{method:?}"),
            }
        }
    }
}
