//! The way of a call: checked, decoded, let in, decided under the lock, encoded, answered when
//! durable.
//!
//! Owns: the order of these steps, and which thread takes them. Must not: decide, or wait for the
//! disk. Where next: `core.rs` for the step under the lock, `batch.rs` and `query.rs` for the rest.

use std::time::Instant;

use lastunit_admission::{Answer as Verdict, Lane, Nanos, Operation};
use lastunit_engine::{Command, Outcome, Sequence, is_id};
use lastunit_wire::{Fault, MESSAGE_BYTES_MAX, Method, Query, Request};

use crate::answer::{Answer, Completion, Deliveries};
use crate::clock::{ClockKind, instant_now};
use crate::core::{Core, Decided};
use crate::lane_lock::Urgency;
use crate::life::Phase;
use crate::node::{CallInput, Listener};
use crate::permissions::Access;
use crate::permit::{Permit, Question, reserve_of_command};
use crate::shared::Shared;
use crate::waiters::Waiter;
use crate::{batch, explain, faults, query, timers};

/// What a call brings along beside its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) seen_sequence: Sequence,
    pub(crate) seen_epoch: i64,
    pub(crate) listener: Listener,
}

/// A response, and the state that must be durable before it leaves.
pub(crate) struct Ready {
    pub(crate) body: Vec<u8>,
    pub(crate) as_of: Sequence,
}

/// A call that a worker serves.
pub(crate) struct Job {
    method: Method,
    request: Vec<u8>,
    caller: String,
    context: Context,
    permit: Permit,
    completion: Completion,
}

/// How a call comes before admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// For the first time: it may be sent to wait.
    New,
    /// It has waited, and it is its turn.
    Turn,
    /// It has waited too long, or there was no place to wait: it is refused.
    Late,
}

/// Why a call was not served now.
enum Stop {
    Fault(Fault),
    /// Its lane has no room for so long, and calls of it may wait.
    Wait(Nanos),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Job {
    /// Serves the call on this thread and sees its answer off, or lets it wait.
    pub(crate) fn run(self: Box<Self>, shared: &Shared) {
        if let Some((job, _)) = self.run_as(shared, Entry::New) {
            job.wait(shared);
        }
    }

    /// As `run`; gives the call back with the time that its lane needs if it has to wait.
    pub(crate) fn run_as(
        mut self: Box<Self>,
        shared: &Shared,
        entry: Entry,
    ) -> Option<(Box<Self>, Nanos)> {
        let mut permit = std::mem::replace(&mut self.permit, Permit::free());
        let served = guarded(shared, || {
            serve(
                shared,
                self.method,
                &self.request,
                &self.caller,
                self.context,
                entry,
                &mut permit,
            )
        });
        let served = match served {
            Ok(ready) => Ok(ready),
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Wait(wait)) => {
                self.permit = permit;
                return Some((self, wait));
            }
        };
        if let Some((completion, answer)) = finish(shared, served, permit, self.completion) {
            Deliveries::send_one(completion, answer);
        }
        None
    }

    /// Lets the call wait; answers it if there is no place.
    fn wait(self: Box<Self>, shared: &Shared) {
        let lane = operation_of(self.method).lane();
        let now = shared.turnstile.now();
        if let Err(job) = shared.waiting.enter(self, lane, now) {
            shared.waiting.count_late(lane);
            // A late call is never sent to wait.
            let _ = job.run_as(shared, Entry::Late);
        }
    }
}

/// Serves one call; the answer comes back at once, or goes to `completion` later.
pub(crate) fn submit(
    shared: &Shared,
    call: &CallInput<'_>,
    completion: Completion,
) -> Option<Answer> {
    // Counted before the look at the phase: a drain that begins in between waits for this call.
    let mut permit = shared.turnstile.open();
    let context = Context {
        arrived: instant_now(),
        deadline: call.deadline,
        seen_sequence: call.seen_sequence,
        seen_epoch: call.seen_epoch,
        listener: call.listener,
    };
    let method = match check(shared, call) {
        Ok(method) => method,
        Err(fault) => return Some(refuse(shared, &fault)),
    };
    if let Some(worker) = worker_of(shared, method, call.listener) {
        let job = Box::new(Job {
            method,
            request: call.request.to_vec(),
            caller: call.caller.to_owned(),
            context,
            permit,
            completion,
        });
        let given = worker.give(job);
        return given.err().map(|_| refuse(shared, &faults::worker_full()));
    }
    let served = guarded(shared, || {
        serve(
            shared,
            method,
            call.request,
            call.caller,
            context,
            Entry::New,
            &mut permit,
        )
    });
    let served = match served {
        Ok(ready) => Ok(ready),
        Err(Stop::Fault(fault)) => Err(fault),
        Err(Stop::Wait(_)) => {
            let job = Box::new(Job {
                method,
                request: call.request.to_vec(),
                caller: call.caller.to_owned(),
                context,
                permit,
                completion,
            });
            job.wait(shared);
            return None;
        }
    };
    finish(shared, served, permit, completion).map(|(_, answer)| answer)
}

/// What can be said of a call without reading its request.
fn check(shared: &Shared, call: &CallInput<'_>) -> Result<Method, Fault> {
    if let Some(fault) = shared.refusal() {
        return Err(fault);
    }
    let method = Method::from_path(call.method);
    let method = method.ok_or_else(|| faults::unknown_method(call.method))?;
    if !is_id(call.caller) {
        return Err(faults::caller_invalid());
    }
    // Looked at before a worker copies it; the door would refuse it too.
    if call.request.len() > MESSAGE_BYTES_MAX {
        return Err(faults::message_too_large(
            call.request.len(),
            MESSAGE_BYTES_MAX,
        ));
    }
    if method.is_streaming() && method != Method::Exchange {
        return Err(faults::wrong_call(method.name()));
    }
    check_deadline(call.deadline)?;
    Ok(method)
}

pub(crate) fn check_deadline(deadline: Option<Instant>) -> Result<(), Fault> {
    match deadline {
        Some(deadline) if deadline <= instant_now() => Err(faults::deadline_passed()),
        _ => Ok(()),
    }
}

/// Batches go to their listener's worker, whatever their size, so that they are decided in the
/// order in which they came; what reads a lot goes to the slow worker; the rest is served at once.
fn worker_of(
    shared: &Shared,
    method: Method,
    listener: Listener,
) -> Option<&crate::workers::Worker> {
    match (method, listener) {
        (Method::Exchange, Listener::Data) => Some(&shared.data_worker),
        (Method::Exchange, Listener::Settlement) => Some(&shared.settlement_worker),
        (Method::ExplainReservation | Method::ListReservations, _) => Some(&shared.slow_worker),
        (Method::Audit, _) => Some(&shared.audit_worker),
        _ => None,
    }
}

/// Runs `work`; a panic in it becomes a fault, and the node is poisoned.
fn guarded(shared: &Shared, work: impl FnOnce() -> Result<Ready, Stop>) -> Result<Ready, Stop> {
    shared.guard(work).unwrap_or_else(|| {
        let phase = shared.life.phase();
        Err(faults::not_serving(phase, &shared.life.cause()).into())
    })
}

fn serve(
    shared: &Shared,
    method: Method,
    request: &[u8],
    caller: &str,
    context: Context,
    entry: Entry,
    permit: &mut Permit,
) -> Result<Ready, Stop> {
    let request = lastunit_wire::decode(method, request, caller)?;
    let access = Access::of(shared, caller);
    if let Request::Batch(batch) = request {
        return Ok(batch::serve(shared, batch, &access, context, permit)?);
    }
    access.enter(method, &request)?;
    let operation = operation_of(method);
    check_listener(operation, context.listener)?;
    let question = Question::new(operation, &request, caller, &shared.gone);
    let mut answer = ask_in(shared, permit, &question, context, entry)?;
    if let (Verdict::Hopeless, Request::Command(command)) = (&answer, &request) {
        let told = tell_hopeless(shared, method, command, &access, context)?;
        if let Some(ready) = told {
            return Ok(ready);
        }
        answer = shared.turnstile.admit_after_all(permit, &question);
    }
    if let Verdict::Refused(refusal) = &answer {
        return Err(faults::refused(refusal).into());
    }
    let ready = match request {
        Request::Command(command) => {
            serve_command(shared, method, &command, &access, context, permit)
        }
        Request::SetClock { now } => serve_clock(shared, now),
        Request::Query(Query::ExplainReservation { reservation_id }) => {
            explain::serve(shared, &reservation_id, &access, context)
        }
        Request::Query(query) => query::serve(shared, method, &query, &access, context),
        Request::Batch(_) => Err(faults::wrong_call(method.name())),
    };
    Ok(ready?)
}

/// Asks admission, or says that the call has to wait for its lane.
fn ask_in(
    shared: &Shared,
    permit: &mut Permit,
    question: &Question<'_>,
    context: Context,
    entry: Entry,
) -> Result<Verdict, Stop> {
    let lane = question.lane();
    if entry == Entry::Late {
        if shared.waiting.is_ended() {
            return Err(faults::not_serving(Phase::Draining, "").into());
        }
        return Ok(shared.turnstile.refuse_late(permit, question));
    }
    let may_wait = entry == Entry::Turn || shared.waiting.is_open(lane);
    if !may_wait || question.is_hopeless() {
        return Ok(shared.turnstile.admit(permit, question));
    }
    // Who has given up meanwhile should not take a place from those who have not.
    check_deadline(context.deadline)?;
    let is_behind = entry == Entry::New && shared.waiting.has_any(lane);
    let admitted = if is_behind {
        Err(0)
    } else {
        shared.turnstile.admit_unless_full(permit, question)
    };
    admitted.map_err(|wait| {
        permit.note_wait(shared.turnstile.now());
        Stop::Wait(wait)
    })
}

/// Answers a reservation of what was gone when last asked for: it costs no token. None if units
/// have come back and it could win now; nothing was done then.
fn tell_hopeless(
    shared: &Shared,
    method: Method,
    command: &Command,
    access: &Access<'_>,
    context: Context,
) -> Result<Option<Ready>, Fault> {
    let mut core = shared.lock(urgency(operation_of(method)))?;
    check_start(shared, &core, context)?;
    access.reach_command(&core.ledger, method, command)?;
    let decided = core.answer_without_effect(command)?;
    drop(core);
    let Some(decided) = decided else {
        shared.gone.forget_command(command);
        return Ok(None);
    };
    Ok(Some(see_off(shared, method, command, &decided)))
}

fn serve_command(
    shared: &Shared,
    method: Method,
    command: &Command,
    access: &Access<'_>,
    context: Context,
    permit: &mut Permit,
) -> Result<Ready, Fault> {
    let mut core = shared.lock(urgency(operation_of(method)))?;
    shared.meters.count_wait(context);
    check_start(shared, &core, context)?;
    access.reach_command(&core.ledger, method, command)?;
    let decided = core.execute(command)?;
    drop(core);
    note_reserve(shared, command, &decided, permit);
    Ok(see_off(shared, method, command, &decided))
}

/// Counts, and encodes, without the lock.
fn see_off(shared: &Shared, method: Method, command: &Command, decided: &Decided) -> Ready {
    if decided.is_appended {
        shared.flush_signal.wake();
    }
    let reply = &decided.reply;
    shared.meters.count_decided(command, decided);
    let place = shared.place(decided.order);
    Ready {
        body: lastunit_wire::encode_reply(method, reply, &place),
        as_of: decided.order.as_of,
    }
}

/// What admission learns from a reservation that it let in.
pub(crate) fn note_reserve(
    shared: &Shared,
    command: &Command,
    decided: &Decided,
    permit: &mut Permit,
) {
    let Some(reserve) = reserve_of_command(command) else {
        return;
    };
    let reply = &decided.reply;
    if reply.outcome == Outcome::Ok && !reply.replayed {
        permit.keep_credit();
    }
    shared.gone.note(reserve, reply);
}

fn serve_clock(shared: &Shared, target: i64) -> Result<Ready, Fault> {
    if shared.settings.clock != ClockKind::Manual {
        return Err(faults::clock_not_manual());
    }
    let moved = timers::set_clock(shared, target)?;
    let place = shared.place(moved.order);
    Ok(Ready {
        body: lastunit_wire::encode_clock(moved.sequence, &place),
        as_of: moved.order.as_of,
    })
}

/// The last look before a decision, under the lock: is this journal the one the caller knows, and
/// is there still somebody to answer?
pub(crate) fn check_start(shared: &Shared, core: &Core, context: Context) -> Result<(), Fault> {
    let head = core.ledger.sequence();
    let (seen, seen_epoch) = (context.seen_sequence, context.seen_epoch);
    if !core.epochs.has(seen, seen_epoch, head) {
        let epoch = shared.journal.epoch();
        return Err(faults::rolled_back(seen, head, seen_epoch, epoch));
    }
    check_deadline(context.deadline)
}

/// Reservations have no place on the settlement listener: it is there so that they are not in the
/// way.
pub(crate) fn check_listener(operation: Operation, listener: Listener) -> Result<(), Fault> {
    if listener == Listener::Settlement && operation.lane() == Lane::Reservation {
        return Err(faults::wrong_listener(operation.name()));
    }
    Ok(())
}

pub(crate) fn urgency(operation: Operation) -> Urgency {
    match operation.lane() {
        Lane::Control | Lane::Settlement => Urgency::Urgent,
        Lane::Reservation | Lane::Read => Urgency::Ordinary,
    }
}

/// The one table from methods to what admission knows.
pub(crate) fn operation_of(method: Method) -> Operation {
    match method {
        Method::Reserve => Operation::Reserve,
        Method::BeginPayment => Operation::BeginPayment,
        Method::SettlePayment => Operation::SettlePayment,
        Method::Confirm => Operation::Confirm,
        Method::Release => Operation::Release,
        Method::Extend => Operation::Extend,
        Method::Return => Operation::Return,
        Method::RecordRefund => Operation::RecordRefund,
        Method::GetReservation => Operation::GetReservation,
        Method::ListReservations => Operation::ListReservations,
        Method::GetAvailability => Operation::GetAvailability,
        Method::WatchAvailability => Operation::WatchAvailability,
        _ => Operation::Admin,
    }
}

/// Sees a response off: back to the caller if it may leave now, else into the line of answers.
fn finish(
    shared: &Shared,
    served: Result<Ready, Fault>,
    permit: Permit,
    completion: Completion,
) -> Option<(Completion, Answer)> {
    match served {
        Err(fault) => Some((completion, refuse(shared, &fault))),
        Ok(ready) => {
            let waiter = Waiter {
                completion,
                answer: Answer::ok(ready.body),
                permit,
            };
            let waiter = shared.waiters.wait(ready.as_of, waiter)?;
            Some((waiter.completion, waiter.answer))
        }
    }
}

pub(crate) fn refuse(shared: &Shared, fault: &Fault) -> Answer {
    shared.meters.count_fault(fault.reason);
    Answer::fault(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_and_admission_agree_on_the_lane_of_every_call() {
        let served = |method: &&Method| {
            // Exchange has the lanes of its operations; events are read without admission.
            !matches!(method, Method::Exchange | Method::ReadEvents)
        };
        for method in Method::ALL.iter().filter(served) {
            let expected = method.lane().map(lastunit_wire::Lane::name);

            assert_eq!(
                expected,
                Some(operation_of(*method).lane().name()),
                "{}",
                method.path()
            );
        }
    }
}
