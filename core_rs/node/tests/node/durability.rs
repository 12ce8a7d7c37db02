//! No answer leaves before the state it shows is durable, and none after the journal failed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lastunit_journal::testing::{Fault, MemoryStorage};
use lastunit_node::Phase;
use lastunit_wire::{Method, contract};

use crate::storages::HeldStorage;
use crate::support::*;

/// Long enough for an answer that does not wait to be seen.
const A_MOMENT: Duration = Duration::from_millis(60);

#[test]
fn an_answer_waits_for_the_flush() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 5);
    let answers = Answers::new();
    storage.hold();
    TESTER.submit(&node, Method::Reserve, &reserve("a"), &answers, 1);
    thread::sleep(A_MOMENT);
    assert_eq!(0, answers.len());

    storage.let_go();
    let (ticket, answer) = answers.take(1).remove(0);
    assert_eq!(1, ticket);
    let response: contract::ReserveResponse = decode(&answer);
    let place = response.place.unwrap();
    assert!(place.durable_sequence >= place.sequence);
    assert_eq!(place.as_of_sequence, place.sequence);
}

#[test]
fn refusals_and_reads_wait_for_the_state_they_show() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 1);
    let (taker, others) = (Answers::new(), Answers::new());
    storage.hold();
    TESTER.submit(&node, Method::Reserve, &reserve("taker"), &taker, 1);
    TESTER.submit(&node, Method::Reserve, &reserve("loser"), &others, 2);
    let look = contract::GetReservationRequest {
        reservation_id: "taker".into(),
    };
    TESTER.submit(&node, Method::GetReservation, &look, &others, 3);
    thread::sleep(A_MOMENT);
    assert_eq!((0, 0), (taker.len(), others.len()));

    storage.let_go();
    let answers = others.take(2);
    let refused: contract::ReserveResponse = decode(&answers[0].1);
    let read: contract::GetReservationResponse = decode(&answers[1].1);
    let sequence = decode::<contract::ReserveResponse>(&taker.take(1)[0].1)
        .place
        .unwrap()
        .sequence;
    assert_eq!(contract::Outcome::SoldOut, outcome(refused.result.as_ref()));
    assert_eq!(sequence, refused.place.unwrap().as_of_sequence);
    assert_eq!(contract::State::Held, read.reservation.unwrap().state());
    assert_eq!(sequence, read.place.unwrap().as_of_sequence);
}

#[test]
fn a_read_of_durable_state_does_not_wait() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 1);
    storage.hold();

    assert_eq!(1, available(&node));
    storage.let_go();
}

#[test]
fn what_came_during_a_flush_shares_the_next_one_and_one_delivery() {
    const CALLS: u64 = 200;
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 1_000);
    let (first, answers) = (Answers::new(), Answers::new());
    storage.hold();
    TESTER.submit(&node, Method::Reserve, &reserve("first"), &first, 0);
    // The first is in flight by itself; then all others wait for the next flush.
    wait_until("the first flush started", || flush_is_in_flight(&node));
    for ticket in 1..=CALLS {
        let request = reserve(&format!("r{ticket}"));
        TESTER.submit(&node, Method::Reserve, &request, &answers, ticket);
    }
    storage.let_go();
    let order: Vec<u64> = answers.take(200).into_iter().map(|it| it.0).collect();

    assert_eq!((1..=CALLS).collect::<Vec<_>>(), order);
    assert_eq!(1, answers.delivery_count());
}

/// The first answer waits and nothing is left to be taken: the flusher has it.
fn flush_is_in_flight(node: &lastunit_node::Node) -> bool {
    let metrics: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap();
    thread::sleep(Duration::from_millis(20));
    metrics["waiting_answer_count"] == 1
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_recovers() {
    for fault in [Fault::Device, Fault::Full] {
        let storage = Arc::new(MemoryStorage::new());
        let node = open_on(storage.clone());
        put_sale(&node, 5);
        reserve_now(&node, "kept");
        // The next two changes are the write of the record and its flush.
        storage.fail_at(storage.change_count() + 1, fault);
        let lost = TESTER.call(&node, Method::Reserve, &reserve("lost"));
        assert_eq!("JOURNAL_FAILED", reason(&lost));

        for method_answer in [
            TESTER.call(&node, Method::Reserve, &reserve("later")),
            TESTER.call(&node, Method::SettlePayment, &settle("kept")),
            TESTER.call(&node, Method::Audit, &contract::AuditRequest {}),
        ] {
            assert_eq!(
                (14, "JOURNAL_FAILED".to_owned()),
                (method_answer.code, reason(&method_answer))
            );
        }
        assert_eq!(Phase::JournalFailed, node.health().phase);
        node.close().expect_err("did not end well");
        drop(node);
        storage.crash_with(0, &mut |_| lastunit_journal::testing::Fate::Lost);
        let node = open_on(storage);

        assert_eq!(contract::State::Held, state_of(&node, "kept"));
        let retried = reserve_now(&node, "lost");
        assert_eq!(contract::Outcome::Ok, outcome(retried.result.as_ref()));
        audit(&node);
    }
}

#[test]
fn a_call_that_waits_when_the_journal_fails_is_told_so() {
    let storage = Arc::new(MemoryStorage::new());
    let node = open_on(storage.clone());
    put_sale(&node, 50);
    storage.fail_at(storage.change_count(), Fault::Device);
    let answers = Answers::new();
    for ticket in 0..20 {
        let request = reserve(&format!("r{ticket}"));
        TESTER.submit(&node, Method::Reserve, &request, &answers, ticket);
    }
    let answers = answers.take(20);

    assert!(
        answers
            .iter()
            .all(|(_, answer)| reason(answer) == "JOURNAL_FAILED")
    );
}
