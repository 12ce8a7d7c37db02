//! AdmissionService: what the owner of the front answers by itself, rare calls of operators.
//!
//! Owns: the bound of such calls, a thread that may wait for each, and the waking of who watches.
//! Must not: be used for what a flood consists of. Where next: `dispatch.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use lastunit_node::{Answer, Listener};
use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::activity::OpenCall;
use crate::dispatch::State;
use crate::door::Visit;
use crate::framing::Messages;
use crate::peer::Peer;
use crate::reply::{self, Answered};
use crate::streams::OpenStream;
use crate::unary::code_of;
use crate::{faults, status};

/// The service as reflection tells it.
pub(crate) const SERVICE: &str = "lastunit.admission.v1.AdmissionService";

/// Calls that are answered at once; the others wait their turn.
const AT_ONCE: usize = 4;

/// Messages of a watch that wait for the transport.
const MESSAGES_WAITING_MAX: usize = 1;

/// Answers a caller's request message of a method, given by its path; none when it can't any more.
/// Of a watch it is what the watcher should see now.
pub type Respond = dyn Fn(&str, &str, &[u8]) -> Option<Answer> + Send + Sync;

/// Who answers, and the sign that a watch should look again.
#[derive(Clone)]
pub struct Control {
    respond: Arc<Respond>,
    turns: Arc<Semaphore>,
    news: watch::Sender<()>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Control").finish_non_exhaustive()
    }
}

/// How a method answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once.
    One,
    /// Now, and again whenever there is something else to see.
    Watch,
}

impl Shape {
    /// The listener that serves it: who watches looks like a reader, the others are operators.
    pub(crate) fn listener(self) -> Listener {
        match self {
            Self::One => Listener::Settlement,
            Self::Watch => Listener::Data,
        }
    }
}

/// The methods of the service by their gRPC paths, as the contract declares them.
pub(crate) struct ControlMethods(HashMap<String, Shape>);

impl ControlMethods {
    /// Reads them from a serialized set of files.
    ///
    /// # Errors
    /// It does not read.
    pub(crate) fn new(files: &[u8]) -> Result<Self, DecodeError> {
        let mut methods = HashMap::new();
        for file in FileDescriptorSet::decode(files)?.file {
            let package = file.package().to_owned();
            let is_ours = |name: &str| format!("{package}.{name}") == SERVICE;
            for method in (file.service.iter())
                .filter(|service| is_ours(service.name()))
                .flat_map(|service| &service.method)
            {
                let shape = if method.server_streaming() {
                    Shape::Watch
                } else {
                    Shape::One
                };
                methods.insert(format!("/{SERVICE}/{}", method.name()), shape);
            }
        }
        Ok(Self(methods))
    }

    pub(crate) fn shape(&self, path: &str) -> Option<Shape> {
        self.0.get(path).copied()
    }
}

impl Control {
    /// Names who answers, on a thread that may wait. It asks the node's table itself.
    #[must_use]
    pub fn new(respond: Arc<Respond>) -> Self {
        Self {
            respond,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            news: watch::Sender::new(()),
        }
    }

    /// Has every watch look again.
    pub(crate) fn tell_news(&self) {
        self.news.send_replace(());
    }

    /// Serves one call.
    pub(crate) async fn serve(
        &self,
        shape: Shape,
        state: &Arc<State>,
        request: http::Request<Incoming>,
        peer: &Arc<Peer>,
        open: OpenCall,
    ) -> Answered {
        let path = request.uri().path().to_owned();
        match shape {
            Shape::One => {
                let result = self.answer(state, request, peer, &open).await;
                state.counts.add_rare(&path, code_of(&result));
                match result {
                    Ok(body) => reply::one(&body, open),
                    Err(status) => reply::refused(status, open),
                }
            }
            Shape::Watch => match Watching::begin(state, request, peer, &open).await {
                Ok(watching) => reply::many(watching.start(self.clone(), state), open),
                Err(status) => {
                    state.counts.add_rare(&path, status.code() as i32);
                    reply::refused(status, open)
                }
            },
        }
    }

    async fn answer(
        &self,
        state: &State,
        request: http::Request<Incoming>,
        peer: &Peer,
        open: &OpenCall,
    ) -> Result<Bytes, Status> {
        let (parts, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(parts.headers);
        let caller = state.door.caller(&metadata, peer);
        let caller = caller.map_err(|fault| faults::status_of(&fault))?;
        let mut messages = Messages::new(body, open);
        let message = state.anteroom.message(&mut messages).await?;
        self.ask(parts.uri.path(), &caller.name, &message).await
    }

    async fn ask(&self, path: &str, caller: &str, message: &Bytes) -> Result<Bytes, Status> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| faults::status_of(&faults::draining()))?;
        let respond = Arc::clone(&self.respond);
        let (path, caller, message) = (path.to_owned(), caller.to_owned(), message.clone());
        let answered = tokio::task::spawn_blocking(move || {
            let answer = respond(&path, &caller, &message);
            drop(turn);
            answer
        });
        match answered.await {
            Ok(Some(answer)) => status::of(answer),
            _ => Err(faults::status_of(&faults::no_answer())),
        }
    }
}

/// One watch: what its caller asked for, and what it was shown last.
struct Watching {
    path: String,
    message: Bytes,
    visit: Visit,
    stream: OpenStream,
    shown: Option<Bytes>,
}

type Told = mpsc::Sender<Result<Bytes, Status>>;

impl Watching {
    async fn begin(
        state: &State,
        request: http::Request<Incoming>,
        peer: &Arc<Peer>,
        open: &OpenCall,
    ) -> Result<Self, Status> {
        let refused = |fault| faults::status_of(&fault);
        let (parts, body) = request.into_parts();
        let stream = state.streams.open().map_err(refused)?;
        let metadata = MetadataMap::from_headers(parts.headers);
        let visit = state.door.visit(metadata, peer).map_err(refused)?;
        let mut messages = Messages::new(body, open);
        let message = state.anteroom.message(&mut messages).await?;
        Ok(Self {
            path: parts.uri.path().to_owned(),
            message,
            visit,
            stream,
            shown: None,
        })
    }

    fn start(mut self, control: Control, state: &Arc<State>) -> reply::Responses {
        let (messages, responses) = mpsc::channel(MESSAGES_WAITING_MAX);
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let ended = self.follow(&control, &state, &messages).await;
            state.counts.add_rare(&self.path, code_of(&ended));
            if let Err(status) = ended {
                // A watcher that has left does not hear why.
                let _ = messages.send(Err(status)).await;
            }
        });
        responses
    }

    async fn follow(
        &mut self,
        control: &Control,
        state: &State,
        messages: &Told,
    ) -> Result<(), Status> {
        // Before the first look: what changes meanwhile must not be missed.
        let mut news = control.news.subscribe();
        while !self.stream.is_stopping() {
            self.visit.stay_named(&state.door)?;
            let caller = &self.visit.caller.name;
            let body = control.ask(&self.path, caller, &self.message).await?;
            if self.shown.as_ref() != Some(&body) {
                self.shown = Some(body.clone());
                if messages.send(Ok(body)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                biased;
                () = self.stream.stopped() => {}
                () = messages.closed() => return Ok(()),
                told = news.changed() => {
                    // The sender lives in the control that this holds.
                    told.map_err(|_| faults::status_of(&faults::draining()))?;
                }
            }
        }
        Err(faults::status_of(&faults::draining()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_service_is_there_with_its_shape() {
        let methods = ControlMethods::new(lastunit_wire::FILE_DESCRIPTOR_SET).expect("reads");
        let of = |name: &str| methods.shape(&format!("/{SERVICE}/{name}"));

        assert_eq!(Some(Shape::One), of("PutPolicy"));
        assert_eq!(Some(Shape::One), of("SetGate"));
        assert_eq!(Some(Shape::Watch), of("WatchGate"));
        assert_eq!(None, of("Nothing"));
        assert_eq!(
            None,
            methods.shape("/lastunit.stock.v1.StockService/Reserve")
        );
    }
}
