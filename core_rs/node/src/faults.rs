//! The node's own faults: one table of reasons, codes and what to do about them.
//!
//! Owns: every reason that the node gives. Must not: know gRPC beyond the code, or find out what is
//! wrong. Where next: `serve.rs`.

use lastunit_admission::{Nanos, Refusal, ReportError};
use lastunit_engine::{Millis, Sequence};
use lastunit_journal::JournalError;
use lastunit_wire::{Code, Fault, Violation};

use crate::life::Phase;
use crate::permissions::{Lack, Subject};

/// How soon a call that found a lack of room or a full batch may work: a few flushes later.
const JOURNAL_RETRY: Millis = 100;

/// How soon memory may be free again: reservations are forgotten in steps, long after they ended.
const MEMORY_RETRY: Millis = 10_000;

/// How long a restart may take at most before a client should ask again.
const RESTART_RETRY: Millis = 500;

/// Adds what a message states as data, whatever its type.
trait Facts {
    fn fact(self, name: &str, value: impl ToString) -> Self;
}

impl Facts for Fault {
    fn fact(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }
}

pub(crate) fn not_serving(phase: Phase, cause: &str) -> Fault {
    let message = match phase {
        Phase::Serving | Phase::Draining => {
            "the node is draining; send the same id to the node that follows".to_owned()
        }
        Phase::Closed => "the node is closed; send the same id to the node that follows".to_owned(),
        Phase::JournalFailed => format!(
            "the journal failed ({cause}), what was answered before is on disk; restart the node, \
             then send the same id again"
        ),
        Phase::Poisoned => format!(
            "the node stopped at a bug ({cause}), what was answered before is on disk; restart the \
             node and report the bug"
        ),
    };
    let reason = match phase {
        Phase::Serving => Phase::Draining.reason(),
        other => other.reason(),
    };
    let fault = Fault::new(Code::Unavailable, reason, message).with_retry_after(RESTART_RETRY);
    if cause.is_empty() {
        return fault;
    }
    fault.fact("cause", cause)
}

pub(crate) fn unknown_method(method: &str) -> Fault {
    let message = format!("{method} is no method of this node; see the contract");
    Fault::new(Code::Unimplemented, "UNKNOWN_METHOD", message).fact("method", method)
}

pub(crate) fn wrong_call(method: &str) -> Fault {
    let message = format!("{method} is a stream; it is not served as a single call");
    Fault::new(Code::Unimplemented, "STREAM_METHOD", message).fact("method", method)
}

pub(crate) fn not_offline(method: &str) -> Fault {
    let message = format!("{method} is no question about a state; ask a node that serves");
    Fault::new(Code::Unimplemented, "NOT_OFFLINE", message).fact("method", method)
}

pub(crate) fn journal_corrupt(error: &dyn std::error::Error) -> Fault {
    let message = format!("the journal cannot be read ({error}); verify it and restore a copy");
    Fault::new(Code::DataLoss, "JOURNAL_CORRUPT", message)
}

pub(crate) fn reader_invalid() -> Fault {
    let message = "the reader's name must be 1 to 64 bytes of [A-Za-z0-9._:-]; correct it";
    Fault::new(Code::InvalidArgument, "READER_INVALID", message)
}

/// No more named readers; each holds events back, so their number is bounded.
pub(crate) fn readers_full(limit: usize) -> Fault {
    let message = format!(
        "{limit} named readers are known already; read without a name, or wait until one that is \
         gone is forgotten"
    );
    Fault::new(Code::ResourceExhausted, "READER_LIMIT", message).fact("limit", limit)
}

/// The ledger holds as much memory as it may; what is there can still be settled.
pub(crate) fn memory_limit(held_bytes: u64, limit: u64) -> Fault {
    let message = format!(
        "the ledger holds {held_bytes} bytes of memory, its limit is {limit}, nothing new is \
         reserved; raise memory.ledger_bytes_max or archive sales that have ended"
    );
    Fault::new(Code::ResourceExhausted, "MEMORY_LIMIT", message)
        .fact("held_bytes", held_bytes)
        .fact("limit", limit)
        .with_retry_after(MEMORY_RETRY)
}

pub(crate) fn clock_not_manual() -> Fault {
    let message = "the ledger's clock is the system's and cannot be set; open the node with a \
                   manual clock";
    Fault::new(Code::Unimplemented, "CLOCK_NOT_MANUAL", message)
}

pub(crate) fn clock_behind(target: Millis, now: Millis) -> Fault {
    let message =
        format!("ledger time is {now} ms already, {target} ms is before it; set a later one");
    Fault::new(Code::FailedPrecondition, "CLOCK_BEHIND", message)
        .fact("now_ms", now)
        .fact("target_ms", target)
}

pub(crate) fn caller_invalid() -> Fault {
    let message = "the caller's name must be 1 to 64 bytes of [A-Za-z0-9._:-]; correct it";
    Fault::new(Code::InvalidArgument, "CALLER_INVALID", message)
}

/// The table of permissions has no row for this; says what such a row would have to name.
pub(crate) fn not_permitted(caller: &str, method: &str, subject: Subject<'_>, lack: Lack) -> Fault {
    let missing = match (lack, subject) {
        (Lack::Caller, _) => "no permission at all".to_owned(),
        (Lack::Method, _) => format!("no permission for {method}"),
        (Lack::Sale, Subject::Sale(sale_id)) => {
            format!("no permission for {method} on sale {sale_id}")
        }
        (Lack::Sale, Subject::Reservation(_)) => {
            format!("no permission for {method} on the sale of this reservation")
        }
        (Lack::Sale, Subject::Ledger) => format!("no permission for {method} on every sale"),
    };
    let message =
        format!("caller {caller} has {missing}; ask the operator for a row that names it");
    let fault = Fault::new(Code::PermissionDenied, "NOT_PERMITTED", message)
        .fact("caller", caller)
        .fact("method", method)
        .fact("missing", lack.name());
    match subject {
        Subject::Sale(sale_id) => fault.fact("sale_id", sale_id),
        Subject::Reservation(_) | Subject::Ledger => fault,
    }
}

pub(crate) fn message_too_large(bytes: usize, limit: usize) -> Fault {
    let message =
        format!("a message of {bytes} bytes is over the limit of {limit}; send less at once");
    Fault::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
        .fact("bytes", bytes)
        .fact("limit", limit)
}

pub(crate) fn deadline_passed() -> Fault {
    let message = "the caller's deadline passed before anything was decided; nothing was changed";
    Fault::new(Code::DeadlineExceeded, "DEADLINE_PASSED", message)
}

pub(crate) fn answer_too_late() -> Fault {
    let message = "the answer did not come in time; send the same id again to find out";
    Fault::new(Code::DeadlineExceeded, "ANSWER_TOO_LATE", message)
}

pub(crate) fn wrong_listener(operation: &str) -> Fault {
    let message = format!(
        "{operation} is not served on the settlement listener, send it to the data listener"
    );
    Fault::new(Code::FailedPrecondition, "WRONG_LISTENER", message).fact("operation", operation)
}

/// The caller has seen what this journal does not have: somebody put an older one in its place.
pub(crate) fn rolled_back(seen: Sequence, head: Sequence, seen_epoch: i64, epoch: i64) -> Fault {
    let message = format!(
        "the caller has seen sequence {seen} of epoch {seen_epoch}, this journal ends at {head} of \
         epoch {epoch}; an older copy is being served, stop and restore the newer one"
    );
    Fault::new(Code::FailedPrecondition, "JOURNAL_ROLLED_BACK", message)
        .fact("seen_sequence", seen)
        .fact("sequence", head)
        .fact("seen_epoch", seen_epoch)
        .fact("epoch", epoch)
}

pub(crate) fn journal_space(free_bytes: u64) -> Fault {
    let message = format!(
        "{free_bytes} bytes of journal are left and kept back for settlement, nothing new is \
         reserved; free space on the disk"
    );
    Fault::new(Code::ResourceExhausted, "JOURNAL_SPACE", message)
        .fact("free_bytes", free_bytes)
        .with_retry_after(JOURNAL_RETRY)
}

/// An append that the journal refused; nothing has changed.
pub(crate) fn journal(error: &JournalError) -> Fault {
    let text = error.to_string();
    match error {
        JournalError::NoRoom { .. } | JournalError::BatchFull { .. } => {
            Fault::new(Code::ResourceExhausted, error.reason(), text)
                .with_retry_after(JOURNAL_RETRY)
        }
        JournalError::RecordTooLarge { .. } | JournalError::EventCount { .. } => {
            Fault::new(Code::FailedPrecondition, error.reason(), text)
        }
        _ => not_serving(Phase::JournalFailed, &text),
    }
}

pub(crate) fn worker_full() -> Fault {
    let message = "too many messages wait for the node; try again later";
    Fault::new(Code::ResourceExhausted, "QUEUE_FULL", message).with_retry_after(JOURNAL_RETRY)
}

pub(crate) fn watches_full(limit: usize) -> Fault {
    let message = format!("{limit} watches are open already; close one, or ask again later");
    Fault::new(Code::ResourceExhausted, "WATCH_LIMIT", message)
        .fact("limit", limit)
        .with_retry_after(RESTART_RETRY)
}

/// Admission's no, with what refused and when to come back.
pub(crate) fn refused(refusal: &Refusal) -> Fault {
    let lane = refusal.lane.name();
    let bucket = refusal.first.limit.reason();
    let base = |code, reason, message: String| {
        Fault::new(code, reason, message)
            .fact("lane", lane)
            .fact("bucket", bucket)
            .fact("cost_millionths", refusal.cost)
            .fact("violation_count", refusal.violation_count)
    };
    // A time to come back is given exactly when waiting helps.
    let Some(retry_after) = refusal.retry_after else {
        let message = format!(
            "the call costs more than its bucket in the {lane} lane can ever hold ({bucket}); send \
             less at once"
        );
        return base(Code::InvalidArgument, "COST_EXCEEDS_BURST", message);
    };
    let millis = millis_up(retry_after);
    let message = format!(
        "the {lane} lane does not let the call in now ({bucket}); try again in {millis} ms"
    );
    base(Code::ResourceExhausted, bucket, message).with_retry_after(millis)
}

/// Rounded up: a caller that comes back then finds its tokens.
fn millis_up(nanos: Nanos) -> Millis {
    Millis::try_from(nanos.div_ceil(1_000_000)).unwrap_or(Millis::MAX)
}

/// A document that is no policy: every mistake with its line.
pub(crate) fn policy_invalid(problems: &[lastunit_policy::Problem]) -> Fault {
    let first = problems.first();
    let told = first.map(ToString::to_string).unwrap_or_default();
    let more = match problems.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let message = format!("{told}{more}; correct the document, the policy in force stays");
    let mut fault = Fault::new(Code::InvalidArgument, "POLICY_INVALID", message)
        .fact("line", first.map_or(0, |it| it.line))
        .fact("key", first.map_or("", |it| &it.key));
    fault.violations = problems
        .iter()
        .map(|problem| Violation {
            field: "document".to_owned(),
            rule: "policy.document",
            description: problem.to_string(),
        })
        .collect();
    fault
}

pub(crate) fn policy_field(field: &str, expected: &str) -> Fault {
    let message = format!("field {field} must be {expected}; correct the request");
    Fault::new(Code::InvalidArgument, "INVALID_FIELD", message).fact("field", field)
}

pub(crate) fn revision_mismatch(expected: u64, last: u64) -> Fault {
    let message = format!(
        "the last revision is {last}, not {expected}: somebody changed the policy meanwhile; look \
         at it (GetPolicy, ListRevisions) and put yours on top of it"
    );
    Fault::new(Code::FailedPrecondition, "REVISION_MISMATCH", message)
        .fact("expected_revision", expected)
        .fact("last_revision", last)
}

pub(crate) fn unknown_revision(revision: u64) -> Fault {
    let message = format!("there is no revision {revision}; ListRevisions names those there are");
    Fault::new(Code::FailedPrecondition, "UNKNOWN_REVISION", message).fact("revision", revision)
}

/// The disk did not take a revision. It may be there after a restart, if the rename went through.
pub(crate) fn policy_not_kept(error: &std::io::Error) -> Fault {
    let message = format!(
        "the revision could not be kept ({error}), the policy in force stays; look after the disk, \
         then put it again"
    );
    Fault::new(Code::Unavailable, "POLICY_NOT_KEPT", message).with_retry_after(JOURNAL_RETRY)
}

pub(crate) fn report_refused(error: ReportError) -> Fault {
    let why = match error {
        ReportError::OldGeneration => "it is of a start before the one that was heard last",
        _ => "its counter is lower than before",
    };
    let message = format!("the report was not taken: {why}; count up, from a new generation");
    Fault::new(Code::FailedPrecondition, "REPORT_REFUSED", message)
}
