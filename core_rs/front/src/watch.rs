//! WatchAvailability: the present state, then what changes.
//!
//! Owns: asking for one message at a time, so that a slow reader gets fewer and never stale ones.
//! Where next: `lastunit-node`'s watch.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use lastunit_node::{Completion, Subject, Watch};
use lastunit_wire::{Method, Query, Request as Decoded, is_watch_going_on};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::activity::OpenCall;
use crate::dispatch::State;
use crate::door::{Visit, permit};
use crate::framing::Messages;
use crate::peer::Peer;
use crate::reply::{self, Answered};
use crate::streams::OpenStream;
use crate::unary::{code_of, gone};
use crate::{faults, status};

/// Messages that wait for the transport.
const MESSAGES_WAITING_MAX: usize = 1;

/// Serves StockService.WatchAvailability.
pub(crate) async fn serve(
    state: &Arc<State>,
    request: http::Request<Incoming>,
    peer: &Arc<Peer>,
    open_call: OpenCall,
) -> Answered {
    let (watch, visit, stream) = match open(state, request, peer, &open_call).await {
        Ok(opened) => opened,
        Err(status) => {
            let code = status.code() as i32;
            state.counts.add(Method::WatchAvailability, code);
            return reply::refused(status, open_call);
        }
    };
    let (messages, responses) = mpsc::channel(MESSAGES_WAITING_MAX);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let ended = follow(&state, &watch, visit, stream, &messages).await;
        state.counts.add(Method::WatchAvailability, code_of(&ended));
        if let Err(status) = ended {
            // A watcher that has left does not hear why.
            let _ = messages.send(Err(status)).await;
        }
    });
    reply::many(responses, open_call)
}

/// Who watches, and which sale.
struct OpenVisit {
    visit: Visit,
    sale_id: String,
}

async fn open(
    state: &State,
    request: http::Request<Incoming>,
    peer: &Arc<Peer>,
    call: &OpenCall,
) -> Result<(Watch, OpenVisit, OpenStream), Status> {
    let refused = |fault| faults::status_of(&fault);
    let (parts, body) = request.into_parts();
    let stream = state.streams.open().map_err(refused)?;
    let metadata = MetadataMap::from_headers(parts.headers);
    let visit = state.door.visit(metadata, peer).map_err(refused)?;
    let mut messages = Messages::new(body, call);
    let message = state.anteroom.message(&mut messages).await?;
    let sale_id = sale_of(&message);
    let method = Method::WatchAvailability.name();
    permit(&state.node, &visit.caller, method, Subject::Sale(&sale_id))?;
    let watch = state.node.watch(&message).map_err(|answer| {
        let refused = status::of(answer).err();
        refused.unwrap_or_else(|| Status::internal("a refusal without a code"))
    })?;
    Ok((watch, OpenVisit { visit, sale_id }, stream))
}

/// The sale of a watch; empty if the bytes don't decode, which the node will say.
fn sale_of(message: &[u8]) -> String {
    match lastunit_wire::decode(Method::WatchAvailability, message, "") {
        Ok(Decoded::Query(Query::WatchAvailability { sale_id, .. })) => sale_id.to_string(),
        _ => String::new(),
    }
}

type Told = mpsc::Sender<Result<Bytes, Status>>;

async fn follow(
    state: &State,
    watch: &Watch,
    mut visit: OpenVisit,
    mut stream: OpenStream,
    messages: &Told,
) -> Result<(), Status> {
    let mut is_first = true;
    loop {
        let body = tokio::select! {
            biased;
            () = stream.stopped() => return Err(faults::status_of(&faults::draining())),
            () = messages.closed() => return Ok(()),
            body = next(watch) => body?,
        };
        let about = Subject::Sale(&visit.sale_id);
        visit
            .visit
            .stay(&state.door, &state.node, Method::WatchAvailability, about)?;
        // Of an unknown sale or sku there is nothing to watch; the message says so.
        let is_last = is_first && !is_watch_going_on(&body);
        if messages.send(Ok(body)).await.is_err() || is_last {
            return Ok(());
        }
        is_first = false;
    }
}

async fn next(watch: &Watch) -> Result<Bytes, Status> {
    let (sender, receiver) = oneshot::channel();
    let completion = Completion::Call(Box::new(move |answer| drop(sender.send(answer))));
    // Only one message is ever asked for at a time: this future is not started twice at once.
    if watch.next(completion).is_err() {
        return Err(Status::internal(
            "a message of this watch was asked for twice",
        ));
    }
    status::of(receiver.await.unwrap_or_else(|_| gone()))
}
