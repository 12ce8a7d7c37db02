//! How far back the journal reaches: old segments go, readers and questions are told, and what was
//! is shown as it was.

use std::path::Path;
use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{
    DirectoryEvents, DirectoryView, Node, NodeSettings, ReadError, repair_directory,
    verify_directory,
};
use lastunit_wire::{Method, contract};
use prost::Message;

use crate::support::*;

/// Small segments, a snapshot every 20 events, and nothing kept for its age.
fn short_history(directory: &Path) -> NodeSettings {
    let mut settings = settings(directory);
    settings.segment_bytes = 8 << 10;
    settings.snapshot_events = 20;
    settings.history_seconds_min = 0;
    settings
}

fn metrics(node: &Node) -> serde_json::Value {
    serde_json::from_str(&node.metrics_json()).unwrap()
}

fn first_sequence(node: &Node) -> i64 {
    metrics(node)["journal"]["first_sequence"].as_i64().unwrap()
}

/// Reserves, again where such small segments could not be prepared fast enough.
fn reserve_patiently(node: &Node, reservation_id: &str) {
    wait_until("there is room", || {
        let answer = TESTER.call(node, Method::Reserve, &reserve(reservation_id));
        let reason = reason(&answer);
        assert!(["", "JOURNAL_SPACE"].contains(&reason.as_str()), "{reason}");
        reason.is_empty()
    });
}

/// Reserves until the journal starts later than it did; gives the first event that is there.
fn reserve_until_removed(node: &Node, prefix: &str, after: i64) -> i64 {
    let mut count = 0;
    wait_until("old segments were removed", || {
        count += 1;
        reserve_patiently(node, &format!("{prefix}{count}"));
        first_sequence(node) > after
    });
    first_sequence(node)
}

fn explain(node: &Node, reservation_id: &str) -> contract::ExplainReservationResponse {
    let request = contract::ExplainReservationRequest {
        reservation_id: reservation_id.into(),
    };
    ask(node, Method::ExplainReservation, &request)
}

#[test]
fn old_events_go_and_whoever_asks_for_them_is_told() {
    let storage = Arc::new(MemoryStorage::new());
    let node = Node::open_on(short_history(Path::new("")), storage.clone()).unwrap();
    put_sale(&node, 1_000_000);
    reserve_now(&node, "first");
    let first = reserve_until_removed(&node, "r", 10);

    let error = node.read_events(0, 100).unwrap_err();
    assert_eq!("EVENTS_REMOVED", error.reason());
    let ReadError::Removed { first_sequence, .. } = error else {
        panic!("{error}");
    };
    assert!(first_sequence >= first);
    let (body, _) = node.read_events(first_sequence - 1, 100).unwrap();
    let page = contract::ReadEventsResponse::decode(body.as_slice()).unwrap();
    assert_eq!(first_sequence, page.events[0].sequence);
    assert!(page.first_sequence >= first_sequence);

    let life = explain(&node, "first");
    assert_eq!(contract::Outcome::Ok, outcome(life.result.as_ref()));
    assert!(!life.is_complete && life.first_sequence >= first_sequence);
    reserve_now(&node, "last");
    let life = explain(&node, "last");
    assert_eq!((true, 1), (life.is_complete, life.transitions.len()));

    drop(node);
    let node = open_on(storage);
    assert_eq!(contract::State::Held, state_of(&node, "first"));
    audit(&node);
}

#[test]
fn named_reader_holds_events_back_and_is_known_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(short_history(directory.path())).unwrap();
    put_sale(&node, 1_000_000);
    node.note_reader("payment", 3).unwrap();
    let sequence = || node.health().durable_sequence;
    for index in 0..400 {
        reserve_patiently(&node, &format!("r{index}"));
    }
    wait_until("snapshots reach far behind the reader", || {
        metrics(&node)["snapshot_sequence"].as_i64() > Some(200)
    });
    assert_eq!(1, first_sequence(&node));
    assert_eq!(
        3,
        metrics(&node)["journal"]["readers"]["payment"]["sequence"]
    );

    node.note_reader("payment", sequence()).unwrap();
    let first = reserve_until_removed(&node, "s", 1);
    let read = metrics(&node)["journal"]["readers"]["payment"]["sequence"].clone();
    assert!(first <= read.as_i64().unwrap() + 1);
    node.close().unwrap();
    let node = Node::open(short_history(directory.path())).unwrap();
    assert_eq!(
        read,
        metrics(&node)["journal"]["readers"]["payment"]["sequence"]
    );
}

#[test]
fn journal_that_is_too_large_shrinks_whoever_still_reads() {
    let mut settings = short_history(Path::new(""));
    settings.history_seconds_min = 1_000_000;
    settings.history_bytes_max = 64 << 10;
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 1_000_000);
    node.note_reader("slow", 0).unwrap();
    reserve_until_removed(&node, "r", 1);

    wait_until("it is within its bound", || {
        metrics(&node)["journal"]["bytes"].as_u64().unwrap() <= 2 * (64 << 10)
    });
    assert!(metrics(&node)["removed"]["segment_count"].as_u64() > Some(0));
}

#[test]
fn readers_without_a_name_or_too_many_are_refused() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let refused = node.note_reader("no name", 0).unwrap_err();
    assert_eq!("READER_INVALID", reason(&refused));
    for index in 0..64 {
        node.note_reader(&format!("reader-{index}"), 0).unwrap();
    }
    let refused = node.note_reader("one-more", 0).unwrap_err();

    assert_eq!("READER_LIMIT", reason(&refused));
}

#[test]
fn every_command_of_an_operator_is_journaled_with_actor_and_reason() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    let state = contract::SetSaleStateRequest {
        request_id: "pause".into(),
        actor: "olga".into(),
        reason: "the provider is down".into(),
        sale_id: SALE.into(),
        state: contract::SaleState::Paused.into(),
    };
    let _: contract::SetSaleStateResponse = ask(&node, Method::SetSaleState, &state);
    let brake = contract::SetExpiryBrakeRequest {
        request_id: "brake".into(),
        actor: "olga".into(),
        reason: "money is late".into(),
        is_on: true,
        ..Default::default()
    };
    let _: contract::SetExpiryBrakeResponse = ask(&node, Method::SetExpiryBrake, &brake);
    let (body, _) = node.read_events(0, 100).unwrap();
    let page = contract::ReadEventsResponse::decode(body.as_slice()).unwrap();
    let signed: Vec<_> = page
        .events
        .iter()
        .filter(|event| !event.request_id.is_empty())
        .map(|event| (event.actor.as_str(), event.reason.as_str()))
        .collect();

    let expected = [
        ("tester", "test"),
        ("tester", "test"),
        ("tester", "test"),
        ("olga", "the provider is down"),
        ("olga", "money is late"),
    ];
    assert_eq!(expected.as_slice(), signed);
}

#[test]
fn directory_shows_the_state_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 5);
    let empty = node.health().sequence;
    reserve_now(&node, "a");
    let held = node.health().sequence;
    let _: contract::BeginPaymentResponse = ask(&node, Method::BeginPayment, &begin_payment("a"));
    let paying = node.health().sequence;
    let _: contract::SettlePaymentResponse = ask(&node, Method::SettlePayment, &settle("a"));
    node.close().unwrap();

    let state = |as_of: Option<i64>| {
        let view = DirectoryView::open(directory.path(), as_of).unwrap();
        let audit: serde_json::Value = serde_json::from_str(&view.audit_json()).unwrap();
        assert_eq!(true, audit["holds"]);
        assert_eq!(view.sequence(), audit["sequence"].as_i64().unwrap());
        let request = contract::GetReservationRequest {
            reservation_id: "a".into(),
        };
        let answer = view.ask(Method::GetReservation.path(), &request.encode_to_vec());
        let found: contract::GetReservationResponse = decode(&answer);
        found.reservation.map(|it| it.state())
    };
    assert_eq!(None, state(Some(empty)));
    assert_eq!(Some(contract::State::Held), state(Some(held)));
    assert_eq!(Some(contract::State::Paying), state(Some(paying)));
    assert_eq!(Some(contract::State::Confirmed), state(None));
    let error = DirectoryView::open(directory.path(), Some(999))
        .err()
        .unwrap();
    assert_eq!("SEQUENCE_NOT_REACHED", error.reason());
}

#[test]
fn directory_answers_questions_only() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 5);
    reserve_now(&node, "a");
    node.close().unwrap();
    let view = DirectoryView::open(directory.path(), None).unwrap();

    let request = contract::ExplainReservationRequest {
        reservation_id: "a".into(),
    };
    let answer = view.ask(Method::ExplainReservation.path(), &request.encode_to_vec());
    let life: contract::ExplainReservationResponse = decode(&answer);
    assert_eq!((true, 1), (life.is_complete, life.transitions.len()));
    let refused = view.ask(Method::Reserve.path(), &reserve("b").encode_to_vec());
    assert_eq!("NOT_OFFLINE", reason(&refused));
}

#[test]
fn directory_is_followed_while_a_node_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 5);
    let mut events = DirectoryEvents::open(directory.path(), true).unwrap();
    reserve_now(&node, "a");
    let target = node.health().durable_sequence;
    let mut last = 0;
    // A quiet node seals its journal, and that proves the last event durable.
    wait_until("the last event is shown", || {
        events.refresh().unwrap();
        last = events.read(last, 1_000).unwrap().1;
        last == target
    });
    assert_eq!(1, events.first_sequence().unwrap());
}

#[test]
fn damage_is_found_by_place_and_what_can_be_saved_is_served_again() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    let node = Node::open(settings(&source)).unwrap();
    put_sale(&node, 50);
    for index in 0..20 {
        reserve_now(&node, &format!("r{index}"));
    }
    drop(node);
    let check = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&verify_directory(path).unwrap()).unwrap()
    };
    assert_eq!(true, check(&source)["is_whole"], "{}", check(&source));

    let segment = source.join("segment-0000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = check(&source)["record_count"].as_u64().unwrap() / 2 * 256;
    bytes[usize::try_from(middle).unwrap()] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let damaged = check(&source);
    assert_eq!(false, damaged["is_whole"]);
    assert_eq!("segment-0000000001.journal", damaged["problems"][0]["file"]);
    assert_eq!(
        "JOURNAL_CORRUPT",
        Node::open(settings(&source)).err().unwrap().reason()
    );

    let copy = directory.path().join("copy");
    let both: serde_json::Value =
        serde_json::from_str(&repair_directory(&source, &copy).unwrap()).unwrap();
    let saved = both["source"]["can_be_saved"]["last_sequence"]
        .as_i64()
        .unwrap();
    assert_eq!(true, both["copy"]["is_whole"]);
    assert!((1..24).contains(&saved), "{saved}");
    let node = Node::open(settings(&copy)).unwrap();
    assert!(node.health().sequence > saved);
    audit(&node);
    assert_eq!(
        bytes,
        std::fs::read(&segment).unwrap(),
        "never repaired in place"
    );
}
