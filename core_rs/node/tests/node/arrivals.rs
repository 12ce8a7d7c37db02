//! Arrivals: what a node was asked is kept with what became of it, and decided again it gives the
//! same; a directory that cannot be owned is told at the start.

use std::path::Path;
use std::sync::Arc;

use lastunit_admission::{BucketPolicy, Lane, TOKEN};
use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{ArrivalReplay, ArrivalSettings, Node};
use lastunit_wire::{Method, contract};
use serde_json::Value;

use crate::support::*;

const POLICY: &str = "version = 1\n[lanes.reservation]\nrate_per_second = 0.001\nburst = 5\n";

fn open(directory: &Path) -> Arc<Node> {
    let mut settings = settings(Path::new(""));
    settings.admission.limits.lane_mut(Lane::Reservation).bucket = Some(BucketPolicy {
        rate: 1,
        burst: 5 * TOKEN,
    });
    settings.arrivals = Some(ArrivalSettings {
        directory: directory.to_owned(),
        bytes_max: 1 << 20,
    });
    Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap()
}

fn replay(directory: &Path, document: &str) -> Value {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "blocks"))
        .collect();
    names.sort();
    let mut replay = ArrivalReplay::new(document, "{}").unwrap();
    for name in names {
        replay.feed(&std::fs::read(name).unwrap());
    }
    serde_json::from_str(&replay.finish()).unwrap()
}

#[test]
fn calls_and_operations_of_batches_are_kept_with_what_became_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    put_sale(&node, 1);
    for id in ["single", "late"] {
        TESTER.call(&node, Method::Reserve, &reserve(id));
    }
    let batch = contract::ExchangeRequest {
        exchange_id: 1,
        operations: (0..6)
            .map(|it| reserve_operation(&format!("b{it}")))
            .collect(),
    };
    assert_eq!(0, TESTER.call(&node, Method::Exchange, &batch).code);
    TESTER.call(&node, Method::BeginPayment, &begin_payment("single"));
    node.close().unwrap();
    let kept = replay(directory.path(), POLICY);
    let lane = &kept["lanes"]["reservation"];

    // The lane starts with one token: the first one is granted, all others find the lane empty.
    assert_eq!(8, lane["live"]["offered_count"], "{kept}");
    assert_eq!(1, lane["live"]["granted_count"]);
    assert_eq!(7, lane["live"]["refused"]["RATE_LANE"]);
    assert_eq!(lane["live"], lane["forecast"]);
    assert_eq!(1, kept["lanes"]["settlement"]["live"]["served_count"]);
    assert_eq!("tester", kept["callers"][0]["caller"]);
    assert_eq!(
        (&Value::from(1), &Value::from(0)),
        (&kept["run_count"], &kept["damaged_bytes"])
    );

    let wide = replay(directory.path(), "version = 1\n");
    assert_eq!(8, wide["lanes"]["reservation"]["forecast"]["served_count"]);
    assert_eq!(7, wide["lanes"]["reservation"]["newly_served_count"]);
}

#[test]
fn who_asked_for_what_is_gone_is_kept_as_hopeless_until_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    put_sale(&node, 1);
    let policy = lastunit_node::PolicyPut {
        document: "version = 1\n",
        expected_revision: None,
        actor: "sre",
        caller: "sre",
        reason: "no bound",
        origin: lastunit_node::PolicyOrigin::Service,
        effect_time: None,
        is_dry_run: false,
    };
    node.put_policy(&policy).map_err(|it| reason(&it)).unwrap();
    reserve_now(&node, "sold");
    TESTER.call(&node, Method::BeginPayment, &begin_payment("sold"));
    TESTER.call(&node, Method::SettlePayment, &settle("sold"));
    for id in ["seen", "late", "later"] {
        reserve_now(&node, id);
    }
    supply(&node, "more", 10);
    reserve_now(&node, "after-all");
    node.close().unwrap();
    let lane = &replay(directory.path(), "version = 1\n")["lanes"]["reservation"]["live"];

    assert_eq!(2, lane["hopeless_count"]);
    assert_eq!(
        (3, 2),
        (
            lane["served_count"].as_u64().unwrap(),
            lane["granted_count"].as_u64().unwrap()
        )
    );
}

#[test]
fn a_directory_that_another_node_records_to_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    let mut second = settings(Path::new(""));
    second.arrivals = Some(ArrivalSettings {
        directory: directory.path().to_owned(),
        bytes_max: 1 << 20,
    });
    let refused = Node::open_on(second, Arc::new(MemoryStorage::new()))
        .err()
        .unwrap();

    assert_eq!("DIRECTORY_IN_USE", refused.reason());
    node.close().unwrap();
}

#[test]
fn a_node_that_records_nothing_says_so() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let all: Value = serde_json::from_str(&node.metrics_json()).unwrap();

    assert_eq!(Value::Null, all["arrivals"]);
}
