//! Timers: on a manual clock each at its own instant, on the machine's clock by themselves.

use std::sync::Arc;
use std::time::Duration;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{ClockKind, Node};
use lastunit_wire::{Method, contract};
use prost::Message;

use crate::support::*;

const START: i64 = 1_000_000;

#[test]
fn set_clock_runs_due_timers_in_order_each_at_its_own_instant() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 10);
    reserve_now(&node, "first");
    let _: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(START + 1_000));
    reserve_now(&node, "second");
    reserve_now(&node, "paying");
    let _: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("paying"));
    let head = node.health().sequence;
    let end = START + 10_000_000;
    let moved: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(end));

    let timers = events_after(&node, head);
    let expected = [
        ("first", START + 600_000, contract::State::Released),
        ("second", START + 601_000, contract::State::Released),
        ("paying", START + 901_000, contract::State::Overdue),
    ];
    let place = moved.place.unwrap();
    assert_eq!(node.health().sequence, place.sequence);
    assert!(place.durable_sequence >= place.sequence);
    for (id, time, state) in expected {
        let event = timers.iter().find(|it| it.reservation_id == id).unwrap();
        assert_eq!(time, millis(event.time), "{id}");
        assert_eq!(state, state_of(&node, id));
    }
    assert!(timers.is_sorted_by_key(|it| millis(it.time)));
    audit(&node);
}

#[test]
fn set_clock_is_idempotent_and_never_goes_back() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let _: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(START + 5));
    let again: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(START + 5));
    assert_eq!(0, again.place.unwrap().sequence);

    let back = TESTER.call(&node, Method::SetClock, &set_clock(START + 4));
    assert_eq!((9, "CLOCK_BEHIND".to_owned()), (back.code, reason(&back)));
}

#[test]
fn more_timers_than_one_step_are_all_run() {
    let mut settings = settings(std::path::Path::new(""));
    settings.timer_step_limit = 3;
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 20);
    for index in 0..20 {
        reserve_now(&node, &format!("r{index}"));
    }
    assert_eq!(0, available(&node));
    let _: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(START + 600_000));

    assert_eq!(20, available(&node));
}

#[test]
fn on_the_machines_clock_a_reservation_expires_by_itself() {
    let mut settings = settings(std::path::Path::new(""));
    settings.clock = ClockKind::System;
    settings.timer_interval_ms = 5;
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 1);
    let mut request = reserve("short");
    request.ttl = Some(prost_types::Duration {
        seconds: 0,
        nanos: 50_000_000,
    });
    let reserved: contract::ReserveResponse = ask(&node, Method::Reserve, &request);
    assert_eq!(contract::Outcome::Ok, outcome(reserved.result.as_ref()));
    wait_until("it expired", || {
        std::thread::sleep(Duration::from_millis(5));
        state_of(&node, "short") == contract::State::Released
    });

    let late = TESTER.call(&node, Method::SetClock, &set_clock(0));
    assert_eq!(
        (12, "CLOCK_NOT_MANUAL".to_owned()),
        (late.code, reason(&late))
    );
    assert_eq!(1, available(&node));
}

fn millis(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.unwrap();
    time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000
}

fn events_after(node: &Node, after: i64) -> Vec<contract::Event> {
    let (body, _) = node.read_events(after, 4_096).unwrap();
    contract::ReadEventsResponse::decode(body.as_slice())
        .unwrap()
        .events
}
