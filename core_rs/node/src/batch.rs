//! Batches: many operations of one message, decided in their order, each answered by itself.
//!
//! Owns: how much of a batch is decided under one lock hold. Must not: let a batch keep settlement
//! waiting. Where next: `serve.rs` for single calls.

use lastunit_admission::Call;
use lastunit_engine::Sequence;
use lastunit_wire::{Batch, Fault, Method, Operation, Request};

use crate::core::{Core, Decided, Order};
use crate::faults;
use crate::lane_lock::Urgency;
use crate::permissions::Access;
use crate::permit::Permit;
use crate::query::{self, Shown};
use crate::serve::{
    Context, Ready, check_listener, check_start, line_count, operation_of, urgency,
};
use crate::shared::Shared;

/// What was decided of one operation, to be encoded without the lock.
enum Answered {
    Command(Box<Decided>),
    Query(Shown, Order),
}

/// Serves one message of an Exchange.
///
/// The lock is given back after each chunk: a batch of 4,096 operations holds it for a few dozen
/// microseconds at a time, and settlement passes in between.
pub(crate) fn serve(
    shared: &Shared,
    batch: Batch,
    access: &Access<'_>,
    context: Context,
    permit: &mut Permit,
) -> Result<Ready, Fault> {
    let mut replies = Vec::with_capacity(batch.operations.len());
    let mut as_of: Sequence = 0;
    let mut operations = batch.operations.into_iter().peekable();
    while operations.peek().is_some() {
        let chunk = operations
            .by_ref()
            .take(shared.settings.batch_chunk_operations);
        let chunk = let_in(shared, chunk.collect(), access, context, permit);
        let (decided, chunk_as_of) = decide(shared, &chunk, access, context)?;
        as_of = as_of.max(chunk_as_of);
        for (operation, decided) in chunk.into_iter().zip(decided) {
            replies.push(encode(shared, operation, decided));
        }
    }
    Ok(Ready {
        body: lastunit_wire::encode_exchange(batch.exchange_id, &replies),
        as_of,
    })
}

/// Turns operations that may not come in into faults; the others are counted and charged.
fn let_in(
    shared: &Shared,
    chunk: Vec<Result<Operation, Fault>>,
    access: &Access<'_>,
    context: Context,
    permit: &mut Permit,
) -> Vec<Result<Operation, Fault>> {
    let check = |operation: Operation| {
        access.enter(operation.method, &operation.request)?;
        check_listener(operation_of(operation.method), context.listener)?;
        Ok(operation)
    };
    let mut chunk: Vec<_> = chunk.into_iter().map(|it| it.and_then(check)).collect();
    let calls: Vec<Call<'_>> = chunk
        .iter()
        .flatten()
        .map(|operation| Call {
            operation: operation_of(operation.method),
            line_count: line_count(&operation.request),
            caller: access.caller(),
        })
        .collect();
    let verdicts = shared.turnstile.admit(permit, &calls);
    let asked = chunk.iter_mut().filter(|it| it.is_ok());
    for (operation, verdict) in asked.zip(verdicts) {
        if let Err(refusal) = verdict {
            *operation = Err(faults::refused(&refusal));
        }
    }
    chunk
}

/// What became of each operation of a chunk; None where it was a fault before.
type Decisions = Vec<Option<Result<Answered, Fault>>>;

/// Decides a chunk under one lock hold; gives the state that its answers show.
fn decide(
    shared: &Shared,
    chunk: &[Result<Operation, Fault>],
    access: &Access<'_>,
    context: Context,
) -> Result<(Decisions, Sequence), Fault> {
    let has_urgent = chunk
        .iter()
        .flatten()
        .any(|it| urgency(operation_of(it.method)) == Urgency::Urgent);
    let urgency = if has_urgent {
        Urgency::Urgent
    } else {
        Urgency::Ordinary
    };
    let mut core = shared.lock(urgency)?;
    let start = check_start(shared, &core, context);
    let decided = chunk
        .iter()
        .map(|operation| {
            let operation = operation.as_ref().ok()?;
            let decided = start
                .clone()
                .and_then(|()| decide_one(&mut core, access, operation));
            Some(decided)
        })
        .collect();
    let as_of = core.ledger.sequence();
    drop(core);
    shared.flush_signal.wake();
    Ok((decided, as_of))
}

fn decide_one(
    core: &mut Core,
    access: &Access<'_>,
    operation: &Operation,
) -> Result<Answered, Fault> {
    match &operation.request {
        Request::Command(command) => {
            access.reach_command(&core.ledger, operation.method, command)?;
            let decided = core.execute(command)?;
            Ok(Answered::Command(Box::new(decided)))
        }
        Request::Query(query) => {
            access.reach_query(&core.ledger, operation.method, query)?;
            let order = core.order();
            let shown = query::look(&core.ledger, query);
            let shown = shown.ok_or_else(|| faults::wrong_call(operation.method.name()))?;
            Ok(Answered::Query(shown, order))
        }
        Request::Batch(_) | Request::SetClock { .. } => {
            Err(faults::wrong_call(operation.method.name()))
        }
    }
}

/// Encodes one reply; counts it.
fn encode(
    shared: &Shared,
    operation: Result<Operation, Fault>,
    decided: Option<Result<Answered, Fault>>,
) -> Result<(Method, Vec<u8>), Fault> {
    let encoded = operation.and_then(|operation| {
        let method = operation.method;
        let decided = decided.unwrap_or_else(|| Err(faults::wrong_call(method.name())))?;
        let body = match decided {
            Answered::Command(decided) => {
                let reply = &decided.reply;
                shared.meters.count_outcome(reply.outcome, reply.replayed);
                lastunit_wire::encode_reply(method, reply, &shared.place(decided.order))
            }
            Answered::Query(shown, order) => {
                shared.meters.count_outcome(shown.outcome(), false);
                shown.encode(&shared.place(order))
            }
        };
        Ok((method, body))
    });
    if let Err(fault) = &encoded {
        shared.meters.count_fault(fault.reason);
    }
    encoded
}
