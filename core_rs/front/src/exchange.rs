//! Exchange: one reply message for each request message, in order.
//!
//! Owns: pace and order. A message is handed to the node while earlier ones wait for the disk, a
//! bounded number of them; then the transport's flow control holds the caller back. Where next:
//! `unary.rs`.

use std::sync::Arc;

use hyper::body::Incoming;
use lastunit_node::Subject;
use lastunit_wire::Method;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::activity::OpenCall;
use crate::dispatch::State;
use crate::door::{Visit, permit};
use crate::framing::Messages;
use crate::peer::Peer;
use crate::reply::{self, Answered};
use crate::streams::OpenStream;
use crate::unary::{Submitted, submit};
use crate::{faults, status};

/// Messages of one Exchange that are handed over and not yet answered.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// Replies that wait for the transport.
const REPLIES_WAITING_MAX: usize = 4;

/// A permission for some sale opens the stream; the node judges each operation.
const ANY_SALE: Subject<'static> = Subject::Reservation("");

/// Serves StockService.Exchange.
pub(crate) fn serve(
    state: &Arc<State>,
    request: http::Request<Incoming>,
    peer: &Arc<Peer>,
    open_call: OpenCall,
) -> Answered {
    let (parts, body) = request.into_parts();
    let metadata = MetadataMap::from_headers(parts.headers);
    let (visit, open) = match open(state, metadata, peer) {
        Ok(opened) => opened,
        Err(status) => {
            state.counts.add(Method::Exchange, status.code() as i32);
            return reply::refused(status, open_call);
        }
    };
    let (waiting, answers) = mpsc::channel(MESSAGES_IN_FLIGHT_MAX);
    let (replies, responses) = mpsc::channel(REPLIES_WAITING_MAX);
    let reader = Arc::clone(state);
    let messages = Messages::new(body, &open_call);
    tokio::spawn(async move {
        read(&reader, visit, messages, open, waiting).await;
    });
    let state = Arc::clone(state);
    tokio::spawn(async move { reply(&state, answers, replies).await });
    reply::many(responses, open_call)
}

fn open(
    state: &State,
    metadata: MetadataMap,
    peer: &Arc<Peer>,
) -> Result<(Visit, OpenStream), Status> {
    let refused = |fault| faults::status_of(&fault);
    let open = state.streams.open().map_err(refused)?;
    let visit = state.door.visit(metadata, peer).map_err(refused)?;
    permit(
        &state.node,
        &visit.caller,
        Method::Exchange.name(),
        ANY_SALE,
    )?;
    Ok((visit, open))
}

/// What the reader passes on: a message's answer, or how the stream ends.
type Pending = Result<Submitted, Status>;

async fn read(
    state: &State,
    mut visit: Visit,
    mut requests: Messages,
    mut open: OpenStream,
    waiting: mpsc::Sender<Pending>,
) {
    loop {
        // The place comes first, so that what is in flight stays bounded.
        let Ok(place) = waiting.reserve().await else {
            return;
        };
        let request = tokio::select! {
            biased;
            () = open.stopped() => {
                place.send(Err(faults::status_of(&faults::draining())));
                return;
            }
            request = requests.next() => request,
        };
        match request {
            Ok(None) => return,
            Err(status) => {
                place.send(Err(status));
                return;
            }
            Ok(Some(request)) => {
                let may_stay = visit.stay(&state.door, &state.node, Method::Exchange, ANY_SALE);
                if let Err(status) = may_stay {
                    place.send(Err(status));
                    return;
                }
                place.send(Ok(submit(state, Method::Exchange, &request, &visit.caller)));
            }
        }
    }
}

async fn reply(
    state: &State,
    mut answers: mpsc::Receiver<Pending>,
    replies: mpsc::Sender<Result<bytes::Bytes, Status>>,
) {
    let mut code = 0;
    while let Some(pending) = answers.recv().await {
        let reply = match pending {
            Ok(submitted) => status::of(submitted.answer().await),
            Err(status) => Err(status),
        };
        let is_last = reply.is_err();
        if let Err(status) = &reply {
            code = status.code() as i32;
        }
        if replies.send(reply).await.is_err() || is_last {
            break;
        }
    }
    state.counts.add(Method::Exchange, code);
}
