//! The bound on memory: nothing new is reserved beyond it, and what is there is settled.

use std::path::Path;
use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::Node;
use lastunit_wire::{Method, contract};

use crate::support::*;

fn metrics(node: &Node) -> serde_json::Value {
    serde_json::from_str(&node.metrics_json()).unwrap()
}

#[test]
fn full_memory_refuses_reservations_and_settles_what_is_there() {
    let mut settings = settings(Path::new(""));
    settings.ledger_bytes_max = 4 << 20;
    settings.segment_bytes = 16 << 20;
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 1_000_000);
    let mut held = Vec::new();
    let refused = loop {
        let id = format!("r{}", held.len());
        let answer = TESTER.call(&node, Method::Reserve, &reserve(&id));
        if answer.code != 0 {
            break answer;
        }
        held.push(id);
        assert!(held.len() < 100_000, "there is a bound");
    };
    assert_eq!("MEMORY_LIMIT", reason(&refused));
    assert!(held.len() > 100, "{}", held.len());
    let bytes = metrics(&node)["ledger"]["memory_bytes"].as_u64().unwrap();
    assert!((4 << 20..5 << 20).contains(&bytes), "{bytes}");

    // A repeat of what is there is answered, and money is taken.
    assert!(reserve_now(&node, &held[0]).result.unwrap().replayed);
    for id in &held[..100] {
        let begun: contract::BeginPaymentResponse =
            ask(&node, Method::BeginPayment, &begin_payment(id));
        assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
        let settled: contract::SettlePaymentResponse =
            ask(&node, Method::SettlePayment, &settle(id));
        assert_eq!(contract::Outcome::Ok, outcome(settled.result.as_ref()));
    }
    assert_eq!(100, counters(&node).sold);
    audit(&node);
}
