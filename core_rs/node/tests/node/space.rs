//! A full disk stops new reservations and never the settlement of existing ones.

use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::Node;
use lastunit_wire::{Method, contract};

use crate::support::*;

#[test]
fn on_a_full_disk_reserve_is_refused_and_settlement_goes_on() {
    let storage = Arc::new(MemoryStorage::new());
    let mut settings = settings(std::path::Path::new(""));
    settings.segment_bytes = 64 * 1024;
    settings.kept_back_bytes = 96 * 1024;
    let node = Node::open_on(settings, storage.clone()).unwrap();
    put_sale(&node, 100_000);
    storage.set_capacity(Some(512 * 1024));
    let mut held = Vec::new();
    let refused = loop {
        let id = format!("r{}", held.len());
        let answer = TESTER.call(&node, Method::Reserve, &reserve(&id));
        if answer.code != 0 {
            break answer;
        }
        held.push(id);
        assert!(held.len() < 20_000, "the disk never filled");
    };
    assert_eq!(
        (8, "JOURNAL_SPACE".to_owned()),
        (refused.code, reason(&refused))
    );

    // The retry of a reservation that exists needs no room.
    assert!(reserve_now(&node, &held[0]).result.unwrap().replayed);
    for id in held.iter().take(100) {
        let begun: contract::BeginPaymentResponse =
            ask(&node, Method::BeginPayment, &begin_payment(id));
        assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
        let settled: contract::SettlePaymentResponse =
            ask(&node, Method::SettlePayment, &settle(id));
        assert_eq!(contract::State::Confirmed, settled.result.unwrap().state());
    }
    assert_eq!(100, counters(&node).sold);

    storage.set_capacity(None);
    wait_until("there is room again", || {
        reason(&TESTER.call(&node, Method::Reserve, &reserve("again"))).is_empty()
    });
    audit(&node);
}
