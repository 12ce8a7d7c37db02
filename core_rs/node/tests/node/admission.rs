//! Who is let in: refusals name the limit and when to come back, settlement is not refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_admission::{BucketPolicy, Lane, TOKEN};
use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{Listener, Node, NodeSettings};
use lastunit_wire::{Method, contract};

use crate::storages::HeldStorage;
use crate::support::*;

fn open(change: impl FnOnce(&mut NodeSettings)) -> Arc<Node> {
    let mut settings = settings(std::path::Path::new(""));
    change(&mut settings);
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 100);
    node
}

/// One token, and the next one in a thousand seconds.
const ONE: BucketPolicy = BucketPolicy {
    rate: 1,
    burst: TOKEN,
};

#[test]
fn a_full_lane_says_which_limit_and_leaves_settlement_alone() {
    let node = open(|it| it.admission.limits.lane_mut(Lane::Reservation).bucket = Some(ONE));
    let first = TESTER.call(&node, Method::Reserve, &reserve("first"));
    let second = TESTER.call(&node, Method::Reserve, &reserve("second"));
    assert_eq!(("", 0), (reason(&first).as_str(), first.code));
    assert_eq!((8, "RATE_LANE".to_owned()), (second.code, reason(&second)));

    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("first"));
    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
    assert_eq!(99, available(&node));
}

#[test]
fn a_callers_bucket_does_not_touch_another_caller() {
    let node = open(|it| it.admission.limits.caller = Some(ONE));
    let mut one = TESTER;
    one.name = "one";
    let mut two = TESTER;
    two.name = "two";
    assert_eq!("", reason(&one.call(&node, Method::Reserve, &reserve("a"))));

    assert_eq!(
        "RATE_CALLER",
        reason(&one.call(&node, Method::Reserve, &reserve("b")))
    );
    assert_eq!("", reason(&two.call(&node, Method::Reserve, &reserve("c"))));
}

#[test]
fn a_call_that_costs_more_than_the_burst_is_told_never() {
    let node = open(|it| {
        it.admission.limits.caller = Some(BucketPolicy {
            rate: 1_000,
            burst: 2 * TOKEN,
        });
        it.admission.limits.costs.per_line = TOKEN;
    });
    let mut request = reserve("big");
    request.lines.push(request.lines[0].clone());
    let answer = TESTER.call(&node, Method::Reserve, &request);

    assert_eq!(
        (3, "COST_EXCEEDS_BURST".to_owned()),
        (answer.code, reason(&answer))
    );
}

#[test]
fn calls_in_flight_are_bounded_until_they_are_answered() {
    let storage = HeldStorage::new();
    let mut settings = settings(std::path::Path::new(""));
    settings
        .admission
        .limits
        .lane_mut(Lane::Reservation)
        .calls_in_flight_max = 2;
    let node = Node::open_on(settings, storage.clone()).unwrap();
    put_sale(&node, 10);
    let (inside, outside) = (Answers::new(), Answers::new());
    storage.hold();
    TESTER.submit(&node, Method::Reserve, &reserve("a"), &inside, 1);
    TESTER.submit(&node, Method::Reserve, &reserve("b"), &inside, 2);
    TESTER.submit(&node, Method::Reserve, &reserve("c"), &outside, 3);
    assert_eq!("LANE_FULL", reason(&outside.take(1)[0].1));

    storage.let_go();
    inside.take(2);
    wait_until("the places are free", || {
        reason(&TESTER.call(&node, Method::Reserve, &reserve("c"))).is_empty()
    });
}

#[test]
fn a_reservation_has_no_place_on_the_settlement_listener() {
    let node = open(|_| {});
    let mut caller = TESTER;
    caller.listener = Listener::Settlement;
    let refused = caller.call(&node, Method::Reserve, &reserve("a"));
    assert_eq!(
        (9, "WRONG_LISTENER".to_owned()),
        (refused.code, reason(&refused))
    );

    reserve_now(&node, "a");
    let begun = caller.call(&node, Method::BeginPayment, &begin_payment("a"));
    assert_eq!("", reason(&begun));
}

#[test]
fn a_call_whose_time_is_up_has_no_effect() {
    let node = open(|_| {});
    let mut caller = TESTER;
    caller.deadline = Some(Instant::now());
    let answer = caller.call(&node, Method::Reserve, &reserve("late"));

    assert_eq!(
        (4, "DEADLINE_PASSED".to_owned()),
        (answer.code, reason(&answer))
    );
    assert_eq!(100, available(&node));
}

#[test]
fn an_answer_that_does_not_come_in_time_can_be_asked_for_again() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 5);
    storage.hold();
    let mut caller = TESTER;
    caller.deadline = Some(Instant::now() + Duration::from_millis(30));
    let answer = caller.call(&node, Method::Reserve, &reserve("slow"));
    assert_eq!(
        (4, "ANSWER_TOO_LATE".to_owned()),
        (answer.code, reason(&answer))
    );

    storage.let_go();
    assert!(reserve_now(&node, "slow").result.unwrap().replayed);
}

#[test]
fn what_is_not_a_call_of_this_node_is_named() {
    let node = open(|_| {});
    let table = [
        (Method::ReadEvents, "STREAM_METHOD"),
        (Method::WatchAvailability, "STREAM_METHOD"),
    ];
    for (method, expected) in table {
        let answer = TESTER.call(&node, method, &contract::AuditRequest {});
        assert_eq!((12, expected.to_owned()), (answer.code, reason(&answer)));
    }
    let mut nobody = TESTER;
    nobody.name = "no spaces";
    let answer = nobody.call(&node, Method::Audit, &contract::AuditRequest {});
    assert_eq!("CALLER_INVALID", reason(&answer));
    let bad = TESTER.call(&node, Method::Reserve, &reserve(""));
    assert_eq!((3, "INVALID_FIELD".to_owned()), (bad.code, reason(&bad)));
    assert_eq!(100, available(&node));
}
