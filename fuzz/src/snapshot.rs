//! Snapshots of the ledger, as bytes that somebody changed.
//!
//! An odd first byte: the rest is the snapshot. An even one: the rest are edits of a snapshot that
//! the ledger wrote, which get behind the first checks. What must hold: no panic; memory in
//! proportion; and what is accepted keeps every invariant, is written back byte for byte, and can
//! be worked with.

use std::sync::OnceLock;

use lastunit_engine::{Action, Command, Ledger};

use crate::draw::Draw;
use crate::ledger;
use crate::memory::{Bound, bounded};

/// Counts inside the bytes are believed only in portions; indexes are built beside the state.
const MEMORY: Bound = Bound {
    bytes: 24 << 20,
    per_byte: 400,
};
const EDITS_MAX: usize = 8;

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    if first % 2 == 1 {
        check(rest);
    } else {
        check(&edited(rest));
    }
}

/// A small one, so that a changed byte likely means something.
fn base() -> &'static [u8] {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    BASE.get_or_init(|| ledger::play(&ledger::noise(3, 500)).ledger.to_snapshot())
}

fn edited(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    let mut bytes = base().to_vec();
    for _ in 0..EDITS_MAX {
        if draw.is_empty() || bytes.is_empty() {
            break;
        }
        let at = usize::from(draw.short()) % bytes.len();
        match draw.below(4) {
            0 => bytes[at] = draw.byte(),
            1 => bytes[at] ^= 1 << draw.below(8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, draw.byte()),
        }
    }
    bytes
}

fn check(bytes: &[u8]) {
    let read = bounded(bytes.len(), MEMORY, || Ledger::from_snapshot(bytes));
    let Ok(mut ledger) = read else { return };
    let audit = ledger.audit();
    assert!(audit.holds(), "accepted, but {:?}", audit.findings);
    let written = ledger.to_snapshot();
    let again = Ledger::from_snapshot(&written).expect("what was accepted is accepted again");
    assert!(
        written == again.to_snapshot(),
        "a snapshot is the whole state"
    );

    let now = ledger.time();
    let credit = Command::internal(Action::CreditOutage { outage: 1 });
    for command in ledger.due(now, 16).into_iter().chain([credit]) {
        let decision = ledger.decide(&command, now);
        for event in &decision.events {
            ledger.apply(event);
        }
        let audit = ledger.audit();
        assert!(audit.holds(), "after {command:?}: {:?}", audit.findings);
    }
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut whole = vec![1];
    whole.extend_from_slice(&ledger::play(&[]).ledger.to_snapshot());
    let mut empty = vec![1];
    empty.extend_from_slice(&Ledger::new().to_snapshot());
    vec![
        ("stock".to_owned(), whole),
        ("empty".to_owned(), empty),
        ("edits".to_owned(), vec![0, 40, 0, 1, 3, 90, 0, 0, 7]),
    ]
}
