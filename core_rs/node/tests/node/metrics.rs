//! What the node tells of itself: the figures that alarms are built on.

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
fn units_waits_lag_and_audits_are_told() {
    let node = Node::open_on(settings(Path::new("")), Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 10);
    for id in ["r1", "r2", "r3"] {
        assert!(reserve_now(&node, id).result.is_some());
    }
    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("r1"));
    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
    let news = contract::SettlePaymentRequest {
        occurred_time: Some(prost_types::Timestamp::default()),
        ..settle("r1")
    };
    let settled: contract::SettlePaymentResponse = ask(&node, Method::SettlePayment, &news);
    assert_eq!(contract::Outcome::Ok, outcome(settled.result.as_ref()));
    audit(&node);

    let told = metrics(&node);
    let units = told["ledger"]["units"].as_object().unwrap();
    let (_, row) = units.iter().next().unwrap();
    assert_eq!(
        (7, 2, 1),
        (
            row["available"].as_i64().unwrap(),
            row["held"].as_i64().unwrap(),
            row["sold"].as_i64().unwrap()
        )
    );
    assert!(told["queue"]["data"]["count"].as_u64().unwrap() >= 3);
    assert_eq!(1, told["settlement_lag"]["count"]);
    assert_eq!(
        (1, 0),
        (
            told["audit"]["count"].as_u64().unwrap(),
            told["audit"]["finding_count_last"].as_u64().unwrap()
        )
    );
    assert!(told["journal"]["segment_count"].as_u64().unwrap() >= 1);
    assert!(
        told["ledger"]["brake"]["last_lag"]["millis"]
            .as_i64()
            .unwrap()
            >= 0
    );
    assert!(told["ledger"]["oldest_overdue_time_ms"].is_null());
}
