//! Opening again: epochs, the outage credit, snapshots, and journals that are not what they were.

use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{ClockKind, Node, OpenError};
use lastunit_wire::{Method, contract};

use crate::support::*;

#[test]
fn a_clean_close_leaves_a_snapshot_that_spares_the_replay() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 5);
    reserve_now(&node, "a");
    node.close().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();

    let metrics: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap();
    assert_eq!(0, metrics["recovery"]["event_count"]);
    assert_eq!(contract::State::Held, state_of(&node, "a"));
    assert!(reserve_now(&node, "a").result.unwrap().replayed);
    audit(&node);
}

#[test]
fn a_snapshot_is_taken_every_so_many_events() {
    let mut settings = settings(std::path::Path::new(""));
    settings.snapshot_events = 20;
    let storage = Arc::new(MemoryStorage::new());
    let node = Node::open_on(settings, storage.clone()).unwrap();
    put_sale(&node, 100);
    for index in 0..60 {
        reserve_now(&node, &format!("r{index}"));
    }
    wait_until("a snapshot was written", || {
        let metrics: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap();
        metrics["snapshot_sequence"].as_i64() >= Some(20)
    });
    drop(node);
    let node = open_on(storage);

    let metrics: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap();
    assert!(metrics["recovery"]["event_count"].as_i64() < Some(60));
    assert_eq!(40, available(&node));
    audit(&node);
}

#[test]
fn the_time_the_ledger_was_down_is_added_to_what_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    // Written with a manual clock ten minutes ago, opened again with the machine's.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let past = i64::try_from(now.as_millis()).unwrap() - 300_000;
    settings.manual_start = past;
    let node = Node::open(settings.clone()).unwrap();
    put_sale(&node, 5);
    let held = reserve_now(&node, "held").expire_time.unwrap();
    drop(node);
    settings.clock = ClockKind::System;
    let node = Node::open(settings).unwrap();

    let request = contract::GetReservationRequest {
        reservation_id: "held".into(),
    };
    let found: contract::GetReservationResponse = ask(&node, Method::GetReservation, &request);
    let found = found.reservation.unwrap();
    assert_eq!(contract::State::Held, found.state());
    let credit = found.expire_time.unwrap().seconds - held.seconds;
    assert!((300..400).contains(&credit), "{credit} s");
    let names = event_names(&node);
    assert_eq!(2, names.iter().filter(|it| *it == "NodeOpened").count());
    assert_eq!(1, names.iter().filter(|it| *it == "OutageCredited").count());
}

#[test]
fn a_manual_clock_stands_still_while_the_ledger_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 5);
    let _: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(1_500_000));
    node.close().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();

    let behind = TESTER.call(&node, Method::SetClock, &set_clock(1_499_999));
    assert_eq!("CLOCK_BEHIND", reason(&behind));
    assert!(!event_names(&node).contains(&"OutageCredited".to_owned()));
}

fn event_names(node: &Node) -> Vec<String> {
    use prost::Message;
    let (body, _) = node.read_events(0, 4_096).unwrap();
    let response = contract::ReadEventsResponse::decode(body.as_slice()).unwrap();
    let names = response.events.into_iter().map(|event| {
        let event = lastunit_wire::event_from_proto(event).unwrap();
        event.body.name().to_owned()
    });
    names.collect()
}

#[test]
fn a_caller_that_has_seen_more_than_the_journal_holds_is_refused() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    let head = node.health().sequence;
    let mut caller = TESTER;
    caller.seen_sequence = head;
    caller.seen_epoch = node.health().epoch;
    let fine = caller.call(&node, Method::Reserve, &reserve("fine"));
    assert_eq!("", reason(&fine));

    caller.seen_sequence = head + 2;
    let behind = caller.call(&node, Method::Reserve, &reserve("behind"));
    assert_eq!(
        (9, "JOURNAL_ROLLED_BACK".to_owned()),
        (behind.code, reason(&behind))
    );
    caller.seen_sequence = 0;
    caller.seen_epoch += 1;
    let other = caller.call(
        &node,
        Method::GetReservation,
        &contract::GetReservationRequest {
            reservation_id: "fine".into(),
        },
    );
    assert_eq!("JOURNAL_ROLLED_BACK", reason(&other));
    assert_eq!(4, available(&node));
}

#[test]
fn an_older_copy_of_the_journal_does_not_sell_again() {
    let storage = Arc::new(MemoryStorage::new());
    let node = open_on(storage.clone());
    put_sale(&node, 1);
    let copy = storage.image();
    let sold = reserve_now(&node, "winner").place.unwrap();
    drop(node);
    let storage = Arc::new(MemoryStorage::from_image(&copy));
    let mut caller = TESTER;
    caller.seen_sequence = sold.sequence;
    caller.seen_epoch = sold.epoch;
    // Each opening writes an event, so the number that the caller has seen is soon there again;
    // what it has seen is not. Closed cleanly in between, so that a snapshot must remember it too.
    for _ in 0..3 {
        let node = open_on(storage.clone());
        assert!(node.health().sequence >= sold.sequence);
        let answer = caller.call(&node, Method::Reserve, &reserve("second"));
        assert_eq!("JOURNAL_ROLLED_BACK", reason(&answer));
        assert_eq!(1, available(&node));
        node.close().unwrap();
    }
}

#[test]
fn what_a_caller_saw_before_a_restart_is_not_held_against_the_journal() {
    let storage = Arc::new(MemoryStorage::new());
    let node = open_on(storage.clone());
    put_sale(&node, 5);
    let seen = reserve_now(&node, "a").place.unwrap();
    drop(node);
    let node = open_on(storage);
    let mut caller = TESTER;
    caller.seen_sequence = seen.durable_sequence;
    caller.seen_epoch = seen.epoch;

    assert_eq!(
        "",
        reason(&caller.call(&node, Method::Reserve, &reserve("b")))
    );
}

#[test]
fn one_directory_has_one_owner_until_it_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    let second = Node::open(settings(directory.path()))
        .err()
        .expect("is refused");
    assert_eq!("DIRECTORY_IN_USE", second.reason());

    node.close().unwrap();
    Node::open(settings(directory.path())).expect("was given back");
    assert_eq!(
        "CLOSED",
        reason(&TESTER.call(&node, Method::Audit, &contract::AuditRequest {}))
    );
}

#[test]
fn a_journal_with_a_damaged_middle_is_not_opened() {
    let storage = Arc::new(MemoryStorage::new());
    let node = open_on(storage.clone());
    put_sale(&node, 50);
    for index in 0..20 {
        reserve_now(&node, &format!("r{index}"));
    }
    drop(node);
    let name = storage
        .image()
        .keys()
        .find(|it| it.contains("00001"))
        .unwrap()
        .clone();
    storage.corrupt(&name, |bytes| bytes[640] ^= 0x40);
    let error = Node::open_on(settings(std::path::Path::new("")), storage)
        .err()
        .unwrap();

    assert_eq!("JOURNAL_CORRUPT", error.reason());
    assert!(matches!(error, OpenError::Journal(_)), "{error}");
}
