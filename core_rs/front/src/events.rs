//! ReadEvents: every durable event once, in order, then live.
//!
//! Owns: the pages of one reader. Must not: skip or repeat. Where next: `lastunit-node`'s reader.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use lastunit_node::{Completion, ReadError, Subject};
use lastunit_wire::{Code, Fault, Method, Query, Request as Decoded};
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

/// Pages that wait for the transport.
const PAGES_WAITING_MAX: usize = 1;

/// Serves JournalService.ReadEvents.
pub(crate) async fn serve(
    state: &Arc<State>,
    request: http::Request<Incoming>,
    peer: &Arc<Peer>,
    open_call: OpenCall,
) -> Answered {
    let (asked, visit, stream) = match open(state, request, peer, &open_call).await {
        Ok(opened) => opened,
        Err(status) => {
            state.counts.add(Method::ReadEvents, status.code() as i32);
            return reply::refused(status, open_call);
        }
    };
    let (pages, responses) = mpsc::channel(PAGES_WAITING_MAX);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let ended = follow(&state, &asked, visit, stream, &pages).await;
        state.counts.add(Method::ReadEvents, code_of(&ended));
        if let Err(status) = ended {
            // A reader that has left does not hear why.
            let _ = pages.send(Err(status)).await;
        }
    });
    reply::many(responses, open_call)
}

/// What a reader asks for.
struct Asked {
    after: i64,
    is_following: bool,
    page_size: i64,
    reader_id: String,
}

async fn open(
    state: &State,
    request: http::Request<Incoming>,
    peer: &Arc<Peer>,
    call: &OpenCall,
) -> Result<(Asked, Visit, OpenStream), Status> {
    let refused = |fault| faults::status_of(&fault);
    let (parts, body) = request.into_parts();
    let stream = state.streams.open().map_err(refused)?;
    let metadata = MetadataMap::from_headers(parts.headers);
    let visit = state.door.visit(metadata, peer).map_err(refused)?;
    permit(
        &state.node,
        &visit.caller,
        Method::ReadEvents.name(),
        Subject::Ledger,
    )?;
    let mut messages = Messages::new(body, call);
    let message = state.anteroom.message(&mut messages).await?;
    let asked = asked(&message, &visit.caller.name).map_err(refused)?;
    Ok((asked, visit, stream))
}

fn asked(message: &[u8], caller: &str) -> Result<Asked, Fault> {
    let decoded = lastunit_wire::decode(Method::ReadEvents, message, caller)?;
    let Decoded::Query(Query::ReadEvents {
        after_sequence: after,
        follow: is_following,
        page_size,
        reader_id,
    }) = decoded
    else {
        return Err(faults::no_answer());
    };
    Ok(Asked {
        after,
        is_following,
        page_size: i64::try_from(page_size).unwrap_or(i64::MAX),
        reader_id: reader_id.to_string(),
    })
}

type Pages = mpsc::Sender<Result<Bytes, Status>>;

async fn follow(
    state: &Arc<State>,
    asked: &Asked,
    mut visit: Visit,
    mut stream: OpenStream,
    pages: &Pages,
) -> Result<(), Status> {
    let mut after = asked.after;
    let mut is_first = true;
    while !stream.is_stopping() {
        visit.stay(
            &state.door,
            &state.node,
            Method::ReadEvents,
            Subject::Ledger,
        )?;
        let (body, last) = page(state, after, asked).await?;
        let is_news = last > after;
        // The first message tells a follower where the journal stands, events or not.
        if (is_news || is_first) && pages.send(Ok(body)).await.is_err() {
            return Ok(());
        }
        is_first = false;
        after = last;
        if is_news {
            continue;
        }
        if !asked.is_following {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = stream.stopped() => {}
            () = pages.closed() => return Ok(()),
            grown = grown(state, after) => grown?,
        }
    }
    Err(faults::status_of(&faults::draining()))
}

/// Reads on a thread of its own: a reader that is far behind reads from the disk.
async fn page(state: &Arc<State>, after: i64, asked: &Asked) -> Result<(Bytes, i64), Status> {
    if !asked.reader_id.is_empty() {
        let noted = state.node.note_reader(&asked.reader_id, after);
        noted.or_else(|answer| status::of(answer).map(drop))?;
    }
    let limit = asked.page_size;
    let state = Arc::clone(state);
    let read = tokio::task::spawn_blocking(move || state.node.read_events(after, limit)).await;
    let read = read.map_err(|_| faults::status_of(&faults::no_answer()))?;
    read.map(|(body, last)| (body.into(), last))
        .map_err(|error| faults::status_of(&fault_of(after, &error)))
}

fn fault_of(after: i64, error: &ReadError) -> Fault {
    match error {
        ReadError::NotReached { .. } => faults::past_the_end(after),
        ReadError::Removed { first_sequence, .. } => faults::events_removed(after, *first_sequence),
        ReadError::Limit { .. } => {
            Fault::new(Code::InvalidArgument, error.reason(), error.to_string())
        }
        _ => faults::journal_unreadable(error.reason()),
    }
}

/// Returns once an event after a position is durable.
async fn grown(state: &State, after: i64) -> Result<(), Status> {
    let (sender, receiver) = oneshot::channel();
    let completion = Completion::Call(Box::new(move |answer| drop(sender.send(answer))));
    state.node.notify_after(after, completion);
    let answer = receiver.await.unwrap_or_else(|_| gone());
    status::of(answer).map(drop)
}
