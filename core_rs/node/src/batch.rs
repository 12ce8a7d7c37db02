//! Batches: many operations of one message, decided in their order, each answered by itself.
//!
//! Owns: how much of a batch is decided under one lock hold. Must not: let a batch keep settlement
//! waiting. Where next: `serve.rs` for single calls.

use lastunit_admission::Answer as Verdict;
use lastunit_engine::{Millis, Sequence};
use lastunit_wire::{Batch, Fault, Operation, Replies, Request};

use crate::core::{Core, Decided, Order};
use crate::faults;
use crate::lane_lock::Urgency;
use crate::permissions::Access;
use crate::permit::{Permit, Question};
use crate::query::{self, Shown};
use crate::serve::{
    Context, Ready, check_listener, check_start, note_reserve, operation_of, urgency,
};
use crate::shared::Shared;

/// What was decided of one operation, to be encoded without the lock.
#[expect(
    clippy::large_enum_variant,
    reason = "a batch is mostly commands: a box for each costs more than the room of a few queries"
)]
enum Answered {
    Command(Decided),
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
    let mut replies = Replies::new(batch.exchange_id, batch.operations.len());
    let mut as_of: Sequence = 0;
    let mut operations = batch.operations.into_iter().peekable();
    while operations.peek().is_some() {
        let chunk = operations
            .by_ref()
            .take(shared.settings.batch_chunk_operations);
        let mut chunk = let_in(shared, chunk.collect(), access, context, permit);
        let (decided, chunk_as_of) = decide(shared, &mut chunk, access, context, permit)?;
        as_of = as_of.max(chunk_as_of);
        for (entrant, decided) in chunk.into_iter().zip(decided) {
            let operation = entrant.map(|it| it.operation);
            encode(shared, operation, decided, &mut replies);
        }
    }
    Ok(Ready {
        body: replies.into_bytes(),
        as_of,
    })
}

/// An operation that may be decided.
struct Entrant {
    operation: Operation,
    /// Whether it is answered without tokens, and only as long as it changes nothing.
    is_hopeless: bool,
}

/// Turns operations that may not come in into faults; the others are counted and charged.
fn let_in(
    shared: &Shared,
    chunk: Vec<Result<Operation, Fault>>,
    access: &Access<'_>,
    context: Context,
    permit: &mut Permit,
) -> Vec<Result<Entrant, Fault>> {
    let check = |operation: Operation| {
        access.enter(operation.method, &operation.request)?;
        check_listener(operation_of(operation.method), context.listener)?;
        Ok(Entrant {
            operation,
            is_hopeless: false,
        })
    };
    let mut chunk: Vec<_> = chunk.into_iter().map(|it| it.and_then(check)).collect();
    let entrants = chunk.iter().flatten();
    let questions: Vec<_> = entrants
        .map(|it| question(shared, &it.operation, access))
        .collect();
    let verdicts = shared.turnstile.admit_row(permit, &questions);
    let asked = chunk.iter_mut().filter(|it| it.is_ok());
    for (entrant, verdict) in asked.zip(verdicts) {
        match verdict {
            Verdict::Refused(refusal) => *entrant = Err(faults::refused(&refusal)),
            Verdict::Hopeless => {
                if let Ok(entrant) = entrant {
                    entrant.is_hopeless = true;
                }
            }
            Verdict::Admitted => {}
        }
    }
    chunk
}

fn question<'a>(shared: &Shared, operation: &'a Operation, access: &Access<'a>) -> Question<'a> {
    let kind = operation_of(operation.method);
    Question::new(kind, &operation.request, access.caller(), &shared.gone)
}

/// What became of each operation of a chunk; None where it was a fault before.
type Decisions = Vec<Option<Result<Answered, Fault>>>;

/// Decides a chunk in its order; gives the state that its answers show.
///
/// One lock hold is enough unless units came back of what was thought gone: the operation that
/// could win now is let in like any other, without the lock, and the rest is decided after it.
fn decide(
    shared: &Shared,
    chunk: &mut [Result<Entrant, Fault>],
    access: &Access<'_>,
    context: Context,
    permit: &mut Permit,
) -> Result<(Decisions, Sequence), Fault> {
    let mut decisions = Decisions::with_capacity(chunk.len());
    loop {
        let as_of = decide_under_lock(shared, chunk, &mut decisions, access, context)?;
        shared.flush_signal.wake();
        let Some(stopped) = chunk.get_mut(decisions.len()) else {
            learn(shared, chunk, &decisions, permit);
            return Ok((decisions, as_of));
        };
        let_in_after_all(shared, stopped, access, permit);
    }
}

/// Decides as far as it goes: to the end, or to an operation that is not hopeless any more.
fn decide_under_lock(
    shared: &Shared,
    chunk: &[Result<Entrant, Fault>],
    decisions: &mut Decisions,
    access: &Access<'_>,
    context: Context,
) -> Result<Sequence, Fault> {
    let has_urgent = chunk
        .iter()
        .flatten()
        .any(|it| urgency(operation_of(it.operation.method)) == Urgency::Urgent);
    let urgency = if has_urgent {
        Urgency::Urgent
    } else {
        Urgency::Ordinary
    };
    let mut core = shared.lock(urgency)?;
    shared.meters.count_wait(context);
    let start = check_start(shared, &core, context);
    let mut now = None;
    for entrant in &chunk[decisions.len()..] {
        let decided = match (entrant, &start) {
            (Err(_), _) => None,
            (Ok(_), Err(fault)) => Some(Err(fault.clone())),
            (Ok(entrant), Ok(())) => {
                match decide_one(&mut core, &mut now, access, entrant).transpose() {
                    Some(decided) => Some(decided),
                    None => break,
                }
            }
        };
        decisions.push(decided);
    }
    Ok(core.ledger.sequence())
}

fn let_in_after_all(
    shared: &Shared,
    entrant: &mut Result<Entrant, Fault>,
    access: &Access<'_>,
    permit: &mut Permit,
) {
    let Ok(stopped) = entrant else { return };
    stopped.is_hopeless = false;
    if let Request::Command(command) = &stopped.operation.request {
        shared.gone.forget_command(command);
    }
    let question = question(shared, &stopped.operation, access);
    if let Verdict::Refused(refusal) = shared.turnstile.admit_after_all(permit, &question) {
        *entrant = Err(faults::refused(&refusal));
    }
}

/// Tells admission what became of the reservations that it let in.
fn learn(
    shared: &Shared,
    chunk: &[Result<Entrant, Fault>],
    decisions: &Decisions,
    permit: &mut Permit,
) {
    for (entrant, decided) in chunk.iter().zip(decisions) {
        if let (Ok(entrant), Some(Ok(Answered::Command(decided)))) = (entrant, decided)
            && let Request::Command(command) = &entrant.operation.request
            && !entrant.is_hopeless
        {
            note_reserve(shared, command, decided, permit);
        }
    }
}

/// Decides one operation; None, and nothing done, if it was let through as hopeless and is not.
///
/// `now` is ledger time once a command of this lock hold has asked for it: the hold is shorter than
/// a millisecond, and a clock costs as much as a look-up.
fn decide_one(
    core: &mut Core,
    now: &mut Option<Millis>,
    access: &Access<'_>,
    entrant: &Entrant,
) -> Result<Option<Answered>, Fault> {
    let operation = &entrant.operation;
    match &operation.request {
        Request::Command(command) => {
            access.reach_command(&core.ledger, operation.method, command)?;
            let now = match *now {
                Some(now) => now,
                None => *now.insert(core.now()?.0),
            };
            let decided = if entrant.is_hopeless {
                core.answer_without_effect_at(command, now)?
            } else {
                Some(core.execute_at(command, now)?)
            };
            Ok(decided.map(Answered::Command))
        }
        Request::Query(query) => {
            access.reach_query(&core.ledger, operation.method, query)?;
            let order = core.order();
            let shown = query::look(&core.ledger, query);
            let shown = shown.ok_or_else(|| faults::wrong_call(operation.method.name()))?;
            Ok(Some(Answered::Query(shown, order)))
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
    replies: &mut Replies,
) {
    let wrong = |operation: &Operation| faults::wrong_call(operation.method.name());
    let answered = operation.and_then(|operation| {
        let decided = decided.unwrap_or_else(|| Err(wrong(&operation)))?;
        Ok((operation, decided))
    });
    match answered {
        Ok((operation, Answered::Command(decided))) => {
            if let Request::Command(command) = &operation.request {
                shared.meters.count_decided(command, &decided);
            }
            let place = shared.place(decided.order);
            replies.add_reply(operation.method, &decided.reply, &place);
        }
        Ok((operation, Answered::Query(shown, order))) => {
            shared.meters.count_outcome(shown.outcome(), false);
            replies.add_encoded(operation.method, &shown.encode(&shared.place(order)));
        }
        Err(fault) => {
            shared.meters.count_fault(fault.reason);
            replies.add_fault(&fault);
        }
    }
}
