//! Requests as they come off the wire: the first byte says which method, the rest is the message.
//!
//! What must hold: no panic; memory in proportion; the same answer twice; a refusal that says why;
//! and what the door lets through, the engine's own checks accept and the journal can carry.

use lastunit_engine::{Action, Command, Ledger, Outcome};
use lastunit_wire::{
    Code, Fault, MESSAGE_BYTES_MAX, Method, Replies, Request, decode, decode_record, encode_record,
};

use crate::memory::{Bound, bounded};

/// Two bytes of a batch can be one operation that is refused by itself, with its reason in words;
/// past 4,096 of them the batch is refused as a whole, so the part that grows is bounded.
const MEMORY: Bound = Bound {
    bytes: 8 << 20,
    per_byte: 80,
};

/// Some instant of a ledger; what a request carries is judged against it.
const NOW: i64 = 1_700_000_000_000;

pub(crate) fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    let method = Method::ALL[usize::from(*first) % Method::ALL.len()];
    let decoded = bounded(bytes.len(), MEMORY, || decode(method, bytes, "caller"));
    assert_eq!(
        decoded,
        decode(method, bytes, "caller"),
        "decoding is a function"
    );
    match decoded {
        Err(fault) => check_refusal(&fault),
        Ok(Request::Command(command)) => check_command(&command),
        Ok(Request::Batch(batch)) => {
            for operation in &batch.operations {
                match operation {
                    Err(fault) => check_refusal(fault),
                    Ok(operation) => {
                        assert!(!operation.method.is_streaming());
                        if let Request::Command(command) = &operation.request {
                            check_command(command);
                        }
                    }
                }
            }
            let faults = batch.operations.into_iter().filter_map(Result::err);
            let mut replies = Replies::new(batch.exchange_id, 0);
            let empty = replies.clone().into_bytes().len();
            let count = faults.inspect(|fault| replies.add_fault(fault)).count();
            assert!(replies.into_bytes().len() > empty || count == 0);
        }
        Ok(Request::Query(_) | Request::SetClock { .. }) => {}
    }
}

fn check_refusal(fault: &Fault) {
    let is_too_large = fault.code == Code::ResourceExhausted;
    assert!(
        is_too_large || fault.code == Code::InvalidArgument,
        "{fault:?}"
    );
    assert!(!fault.message.is_empty() && !fault.reason.is_empty());
    assert_eq!(
        fault.reason == "INVALID_FIELD",
        !fault.violations.is_empty()
    );
    let status = fault.to_status();
    assert!(
        !status.is_empty() && status.len() < MESSAGE_BYTES_MAX,
        "a refusal fits an answer"
    );
}

fn check_command(command: &Command) {
    let mut ledger = Ledger::new();
    let decision = ledger.decide(command, NOW);
    assert_eq!(
        decision,
        ledger.decide(command, NOW),
        "deciding is a function"
    );
    // A new ledger has no policy that could forbid anything: what is left are the rules of fields.
    assert!(
        decision.reply.outcome != Outcome::NotAllowed || has_rule_of_two_fields(&command.action),
        "the door let through what the engine's own check refuses: {command:?}"
    );
    if decision.events.is_empty() {
        return;
    }
    let record = encode_record(&decision.events);
    let read = decode_record(&record).expect("the journal reads what was written");
    assert_eq!(decision.events, read, "events survive the journal");
    for event in &read {
        ledger.apply(event);
    }
    let audit = ledger.audit();
    assert!(audit.holds(), "{:?}", audit.findings);
    let again = ledger.decide(command, NOW);
    assert!(again.events.is_empty(), "a repeat has no effect");
}

/// Two fields against each other are the engine's to judge; the contract says NOT_ALLOWED there.
fn has_rule_of_two_fields(action: &Action) -> bool {
    match action {
        Action::PutSale(put) => put.closes_at.is_some(),
        Action::MoveStock {
            source_pool,
            target_pool,
            ..
        } => source_pool == target_pool,
        Action::MergePersons {
            source_person_id,
            target_person_id,
        } => source_person_id == target_person_id,
        // In a new ledger nobody is counted with another.
        Action::SplitPersons { person_ids } => person_ids.len() > 1,
        _ => false,
    }
}

/// The golden messages, which Python wrote.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let golden = include_str!("../../core_rs/wire/tests/golden.txt");
    let rows = golden.lines().filter_map(|line| line.split_once(' '));
    let seed = |(name, text): (&str, &str)| {
        let number = Method::ALL.iter().position(|it| it.name() == name)?;
        let mut bytes = vec![u8::try_from(number).ok()?];
        for pair in text.as_bytes().chunks_exact(2) {
            let digits = std::str::from_utf8(pair).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        }
        Some((name.to_owned(), bytes))
    };
    rows.filter_map(seed).collect()
}
