//! Snapshots: the whole state, or an error that says what to do.

use lastunit_engine::{Frozen, Ledger, SnapshotError};

use crate::script::step;
use crate::world::World;

fn world() -> World {
    let mut world = World::new();
    for line in [
        "sale S settle_by=100",
        "pool A/main labels=place:berlin",
        "supply A/main 9",
        "supply A/main 2 buffer",
        "reserve r1 p1 A*2",
        "begin r1 a1 provider=bank amount=5 currency=EUR",
        "reserve r2 p2 A",
        "merge p2 p1",
        "reserve r3 p3 A,A@main",
        "confirm r3",
        "return r3 A 1 QUARANTINE",
        "at 100",
        "overdue r1",
        "brake on until=9000",
    ] {
        step(&mut world, line);
    }
    world
}

/// An empty ledger is a state too.
#[test]
fn an_empty_ledger_reads_back() {
    let bytes = Ledger::new().to_snapshot();

    assert_eq!(bytes, Ledger::from_snapshot(&bytes).unwrap().to_snapshot());
}

/// A ledger that was read back goes on as the other one does.
#[test]
fn a_restored_ledger_goes_on_alike() {
    let mut world = world();
    world.ledger = Ledger::from_snapshot(&world.ledger.to_snapshot()).unwrap();
    for line in [
        "settle r1 a1 SUCCEEDED => OK CONFIRMED attempt=APPLIED",
        "reserve r2 p2 A => OK HELD replayed",
        "return r3 A 1 RESELL => OK RETURNED count=1",
        "at 9000000",
        "run",
        "is r2 RELEASED reason=EXPIRED",
    ] {
        step(&mut world, line);
    }
    world.check_fold();
}

/// Bytes that are cut anywhere are refused.
#[test]
fn a_snapshot_that_is_cut_is_refused() {
    let bytes = world().ledger.to_snapshot();
    for length in 0..bytes.len() {
        let refused = Ledger::from_snapshot(&bytes[..length]);
        assert_eq!(Some(SnapshotError::Malformed), refused.err(), "{length}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(
        Some(SnapshotError::Malformed),
        Ledger::from_snapshot(&longer).err()
    );
}

/// A sink that fails stops the writing and its error comes back.
#[test]
fn an_error_of_the_sink_ends_the_snapshot() {
    let mut world = world();
    let frozen = world.ledger.freeze();
    let mut calls = 0;
    let written = frozen.write_snapshot(|_| {
        calls += 1;
        Err("disk full")
    });

    assert_eq!((Err("disk full"), 1), (written, calls));
}

/// A frozen copy is read on another thread while the ledger goes on, and comes in small pieces.
#[test]
fn a_frozen_copy_goes_to_another_thread() {
    let mut world = world();
    world.is_thorough = false;
    step(&mut world, "supply A/main 600");
    for number in 0..600 {
        step(
            &mut world,
            &format!("reserve {number:0>64} p{number:0>63} A"),
        );
    }
    let expected = world.ledger.to_snapshot();
    let frozen = world.ledger.freeze();
    step(&mut world, "reserve r4 p4 A");
    let pieces = std::thread::spawn(move || {
        let mut pieces = Vec::new();
        let written: Result<(), ()> = frozen.write_snapshot(|piece| {
            pieces.push(piece.to_vec());
            Ok(())
        });
        written.map(|()| pieces)
    });
    let pieces = pieces.join().unwrap().unwrap();

    assert!(
        pieces
            .iter()
            .all(|piece| piece.len() <= Frozen::PIECE_BYTES_MAX)
    );
    assert_eq!(expected, pieces.concat());
}

/// Another version is named, and the text says what to do.
#[test]
fn another_version_is_named() {
    let mut bytes = world().ledger.to_snapshot();
    bytes[4] = 9;
    let error = Ledger::from_snapshot(&bytes).err().unwrap();

    assert_eq!(SnapshotError::Version { found: 9 }, error);
    assert!(error.to_string().contains("version 9"), "{error}");
}

/// No single wrong byte makes a ledger that panics or breaks an invariant unseen.
#[test]
fn a_wrong_byte_is_refused_or_audits_clean() {
    let bytes = world().ledger.to_snapshot();
    let mut refused = 0;
    for place in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            match Ledger::from_snapshot(&damaged) {
                Ok(ledger) => assert!(ledger.audit().holds()),
                Err(error) => refused += usize::from(!error.to_string().is_empty()),
            }
        }
    }

    assert!(
        refused > bytes.len() / 4,
        "{refused} of {} were refused",
        bytes.len() * 2
    );
}
