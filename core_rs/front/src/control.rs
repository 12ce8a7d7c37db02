//! Calls that the owner of the front answers by itself: rare ones, such as an operator's questions.
//!
//! Owns: their bound, and a thread that may wait for them. Must not: be used for what a flood
//! consists of. Where next: `dispatch.rs`.

use std::sync::Arc;

use hyper::body::Incoming;
use lastunit_node::{Answer, Subject};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::activity::OpenCall;
use crate::dispatch::State;
use crate::door::permit;
use crate::framing::Messages;
use crate::peer::Peer;
use crate::reply::{self, Answered};
use crate::{faults, status};

/// Calls that are answered at once; the others wait their turn.
const AT_ONCE: usize = 4;

/// Answers a caller's request message of a method, given by its path; none when it can't any more.
pub type Respond = dyn Fn(&str, &str, &[u8]) -> Option<Answer> + Send + Sync;

/// Methods that the owner answers.
#[derive(Clone)]
pub struct Control {
    paths: Arc<[String]>,
    respond: Arc<Respond>,
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Control");
        shown.field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Control {
    /// Names the methods by their gRPC paths, and who answers them, on a thread that may wait.
    #[must_use]
    pub fn new(paths: Vec<String>, respond: Arc<Respond>) -> Self {
        Self {
            paths: paths.into(),
            respond,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|it| it == path)
    }

    /// Serves one call to a caller that the node's table permits it.
    pub(crate) async fn serve(
        &self,
        state: &State,
        request: http::Request<Incoming>,
        peer: &Peer,
        open: OpenCall,
    ) -> Answered {
        match self.answer(state, request, peer).await {
            Ok(body) => reply::one(&body, open),
            Err(status) => reply::refused(status, open),
        }
    }

    async fn answer(
        &self,
        state: &State,
        request: http::Request<Incoming>,
        peer: &Peer,
    ) -> Result<bytes::Bytes, Status> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let metadata = MetadataMap::from_headers(parts.headers);
        let caller = state.door.caller(&metadata, peer);
        let caller = caller.map_err(|fault| faults::status_of(&fault))?;
        let method = path.rsplit('/').next().unwrap_or_default();
        permit(&state.node, &caller, method, Subject::Ledger)?;
        let message = state.anteroom.message(&mut Messages::new(body)).await?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| faults::status_of(&faults::draining()))?;
        let respond = Arc::clone(&self.respond);
        let answered = tokio::task::spawn_blocking(move || {
            let answer = respond(&path, &caller.name, &message);
            drop(turn);
            answer
        });
        match answered.await {
            Ok(Some(answer)) => status::of(answer),
            _ => Err(faults::status_of(&faults::no_answer())),
        }
    }
}
