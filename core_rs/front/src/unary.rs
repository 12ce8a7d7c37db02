//! The way of a call with one request and one response.
//!
//! Owns: handing over to the node and waiting for its answer. Must not: decide. Where next:
//! `lastunit-node`.

use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use lastunit_node::{Answer, CallInput, Completion};
use lastunit_wire::Method;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::activity::OpenCall;
use crate::caller::Caller;
use crate::dispatch::State;
use crate::framing::Messages;
use crate::peer::Peer;
use crate::reply::{self, Answered};
use crate::{faults, status};

/// Serves one call.
pub(crate) async fn serve(
    state: &State,
    method: Method,
    request: http::Request<Incoming>,
    peer: &Peer,
    open: OpenCall,
) -> Answered {
    let begun = Instant::now();
    let traced = state.traces.begin(request.headers());
    let result = answer(state, method, request, peer, &open).await;
    state.counts.add_timed(method, code_of(&result), begun);
    state.traces.end(traced, method, code_of(&result));
    match result {
        Ok(body) => reply::one(&body, open),
        Err(status) => reply::refused(status, open),
    }
}

async fn answer(
    state: &State,
    method: Method,
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
    let submitted = submit(state, method, &message, &caller);
    // The transport's buffer need not wait for the disk.
    drop(message);
    status::of(submitted.answer().await)
}

/// An answer, or where it will come.
pub(crate) enum Submitted {
    Now(Answer),
    Later(oneshot::Receiver<Answer>),
}

impl Submitted {
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Self::Now(answer) => answer,
            Self::Later(waiting) => waiting.await.unwrap_or_else(|_| gone()),
        }
    }
}

/// Hands one message to the node; never waits for the disk.
pub(crate) fn submit(state: &State, method: Method, request: &[u8], caller: &Caller) -> Submitted {
    let call = CallInput {
        method: method.path(),
        request,
        caller: &caller.name,
        deadline: caller.deadline,
        seen_sequence: caller.seen_sequence,
        seen_epoch: caller.seen_epoch,
        listener: state.settings.listener,
    };
    let (sender, receiver) = oneshot::channel();
    // A caller that has left does not want it any more.
    let completion = Completion::Call(Box::new(move |answer| drop(sender.send(answer))));
    match state.node.submit(&call, completion) {
        Some(answer) => Submitted::Now(answer),
        None => Submitted::Later(receiver),
    }
}

/// What is said when the node dropped a call, which it does only when it ends.
pub(crate) fn gone() -> Answer {
    let fault = faults::no_answer();
    Answer {
        code: fault.code as i32,
        body: fault.to_status(),
    }
}

pub(crate) fn code_of<T>(result: &Result<T, Status>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(status) => status.code() as i32,
    }
}
