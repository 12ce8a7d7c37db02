//! Calls that wait for their lane: in order, for so long at most, in nobody's way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_admission::{BucketPolicy, Lane, QueuePolicy, TOKEN};
use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{Node, PolicyOrigin, PolicyPut};
use lastunit_wire::{Method, contract};
use serde_json::Value;

use crate::storages::HeldStorage;
use crate::support::*;

/// One token, and the next one in a thousand seconds.
const ONE: BucketPolicy = BucketPolicy {
    rate: 1,
    burst: TOKEN,
};

const PATIENT: QueuePolicy = QueuePolicy {
    length_max: 1_000,
    wait_max: 10_000_000_000,
    target: 10_000_000_000,
    interval: 10_000_000_000,
};

fn open(bucket: BucketPolicy, queue: QueuePolicy) -> Arc<Node> {
    let mut settings = settings(std::path::Path::new(""));
    let lane = settings.admission.limits.lane_mut(Lane::Reservation);
    (lane.bucket, lane.queue) = (Some(bucket), Some(queue));
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 100);
    node
}

fn counts(node: &Node) -> [u64; 3] {
    let all: Value = serde_json::from_str(&node.metrics_json()).unwrap();
    ["waiting_count", "served_count", "late_count"]
        .map(|name| all["waiting"]["reservation"][name].as_u64().unwrap())
}

fn submit(node: &Node, answers: &Arc<Answers>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let request = reserve(&format!("r-{number}"));
        TESTER.submit(node, Method::Reserve, &request, answers, number);
    }
}

#[test]
fn who_waits_is_let_in_as_tokens_come_and_in_order() {
    let bucket = BucketPolicy {
        rate: 500_000,
        burst: 5 * TOKEN,
    };
    let node = open(bucket, PATIENT);
    let answers = Answers::new();
    submit(&node, &answers, 0..60);
    let found = answers.take(60);

    let reasons: Vec<_> = found.iter().map(|(_, it)| reason(it)).collect();
    assert_eq!(vec![String::new(); 60], reasons);
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let [waiting, served, late] = counts(&node);
    assert_eq!((0, 0, 40), (waiting, late, available(&node)));
    assert!(served >= 40, "{served} of 60 waited");
}

#[test]
fn who_waited_too_long_or_finds_no_place_is_refused_with_the_limit() {
    let queue = QueuePolicy {
        length_max: 1,
        wait_max: 50_000_000,
        ..QueuePolicy::default()
    };
    let node = open(ONE, queue);
    let answers = Answers::new();
    submit(&node, &answers, 0..1);
    assert_eq!("", reason(&answers.take(1)[0].1));
    submit(&node, &answers, 1..3);
    let mut found = answers.take(2);
    found.sort_by_key(|(number, _)| *number);

    let told: Vec<_> = found.iter().map(|(_, it)| (it.code, reason(it))).collect();
    assert_eq!(vec![(8, "RATE_LANE".to_owned()); 2], told);
    assert_eq!([0, 0, 2], counts(&node));
    assert_eq!(99, available(&node));
}

#[test]
fn settlement_and_reads_do_not_wait_behind_reservations() {
    let node = open(ONE, PATIENT);
    reserve_now(&node, "first");
    let answers = Answers::new();
    submit(&node, &answers, 0..20);
    assert_eq!([20, 0, 0], counts(&node));
    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("first"));

    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
    assert_eq!((99, 0), (available(&node), answers.len()));
}

#[test]
fn a_policy_with_more_room_calls_those_who_wait() {
    let node = open(ONE, PATIENT);
    let answers = Answers::new();
    submit(&node, &answers, 0..20);
    assert_eq!(1, answers.take(1).len());
    let policy = "version = 1\n[lanes.reservation]\nrate_per_second = 100000\nburst = 1000\n";
    node.put_policy(&PolicyPut {
        document: policy,
        expected_revision: None,
        actor: "sre",
        caller: "console",
        reason: "more room",
        origin: PolicyOrigin::Service,
        effect_time: None,
        is_dry_run: false,
    })
    .unwrap();
    let found = answers.take(19);

    assert!(found.iter().all(|(_, it)| reason(it).is_empty()));
    assert_eq!([0, 19, 0], counts(&node));
}

#[test]
fn whoever_gives_up_while_waiting_takes_no_token() {
    let node = open(
        BucketPolicy {
            rate: 20_000,
            burst: TOKEN,
        },
        PATIENT,
    );
    reserve_now(&node, "first");
    let answers = Answers::new();
    let mut hasty = TESTER;
    hasty.deadline = Some(Instant::now() + Duration::from_millis(5));
    hasty.submit(&node, Method::Reserve, &reserve("hasty"), &answers, 1);
    submit(&node, &answers, 2..3);
    let mut found = answers.take(2);
    found.sort_by_key(|(number, _)| *number);

    assert_eq!("DEADLINE_PASSED", reason(&found[0].1));
    assert_eq!("", reason(&found[1].1));
    assert_eq!(98, available(&node));
}

#[test]
fn places_in_flight_are_waited_for_too() {
    let storage = HeldStorage::new();
    let mut settings = settings(std::path::Path::new(""));
    let lane = settings.admission.limits.lane_mut(Lane::Reservation);
    (lane.calls_in_flight_max, lane.queue) = (2, Some(PATIENT));
    let node = Node::open_on(settings, storage.clone()).unwrap();
    put_sale(&node, 10);
    let answers = Answers::new();
    storage.hold();
    submit(&node, &answers, 0..6);
    assert_eq!([4, 0, 0], counts(&node));
    storage.let_go();

    let found = answers.take(6);
    assert!(found.iter().all(|(_, it)| reason(it).is_empty()));
    assert_eq!(4, available(&node));
}

#[test]
fn a_node_that_closes_answers_who_waits() {
    let node = open(ONE, PATIENT);
    let answers = Answers::new();
    submit(&node, &answers, 0..5);
    assert_eq!(1, answers.take(1).len());
    assert!(node.drain(PATIENCE), "nobody waits on");
    let found = answers.take(4);

    let told: Vec<_> = found.iter().map(|(_, it)| reason(it)).collect();
    assert_eq!(vec!["DRAINING".to_owned(); 4], told);
}
