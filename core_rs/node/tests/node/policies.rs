//! The policy as a document: kept with who and why, in force at its time, restored as it was, and
//! no call is lost while it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lastunit_journal::testing::{MemoryStorage, Random, seed_from_environment};
use lastunit_node::{Node, NodeSettings, PolicyOrigin, PolicyPut, PolicyText};
use lastunit_wire::{Method, contract};
use serde_json::Value;

use crate::support::*;

const WIDE: &str = "version = 1\n";
const STRICT: &str = "version = 1\n[lanes.reservation]\nrate_per_second = 0.001\nburst = 1\n";

fn open_with(storage: &Arc<MemoryStorage>, policy: Option<PolicyText>) -> Arc<Node> {
    let settings = NodeSettings {
        policy,
        ..settings(std::path::Path::new(""))
    };
    Node::open_on(settings, storage.clone()).unwrap()
}

fn file(document: &str) -> PolicyText {
    PolicyText {
        document: document.to_owned(),
        origin: PolicyOrigin::File,
    }
}

fn put(document: &str) -> PolicyPut<'_> {
    PolicyPut {
        document,
        expected_revision: None,
        actor: "sre",
        caller: "console",
        reason: "a storm",
        origin: PolicyOrigin::Service,
        effect_time: None,
        is_dry_run: false,
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn done(node: &Node, put: &PolicyPut<'_>) -> Value {
    json(&node.put_policy(put).map_err(|it| reason(&it)).unwrap())
}

fn refused(node: &Node, put: &PolicyPut<'_>) -> String {
    reason(&node.put_policy(put).unwrap_err())
}

fn in_force(node: &Node) -> Value {
    json(&node.policy_json())["in_force"]["revision"].clone()
}

fn refusal(node: &Node, reservation_id: &str) -> String {
    reason(&TESTER.call(node, Method::Reserve, &reserve(reservation_id)))
}

#[test]
fn a_policy_that_is_put_decides_the_next_call_and_names_what_changed() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    put_sale(&node, 10);
    assert_eq!("", refusal(&node, "a"));
    let answer = done(&node, &put(STRICT));

    // The new bucket starts with one token.
    assert_eq!("", refusal(&node, "b"));
    assert_eq!("RATE_LANE", refusal(&node, "c"));
    assert_eq!(1, answer["revision"]);
    assert_eq!(1, in_force(&node));
    let keys: Vec<_> = answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["key"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        keys.contains(&"lanes.reservation.rate_per_second".to_owned()),
        "{keys:?}"
    );
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    put_sale(&node, 10);
    let mut trial = put(STRICT);
    trial.is_dry_run = true;
    let tried = done(&node, &trial);

    assert_eq!("", refusal(&node, "a"));
    assert_eq!("", refusal(&node, "b"));
    assert_eq!(0, tried["revision"]);
    assert_eq!(tried["changes"], done(&node, &put(STRICT))["changes"]);
}

#[test]
fn what_is_wrong_is_refused_and_the_policy_stays() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    done(&node, &put(WIDE));
    let mut stale = put(STRICT);
    stale.expected_revision = Some(0);
    let mut nobody = put(STRICT);
    nobody.actor = "no spaces";
    let mut silent = put(STRICT);
    silent.reason = " ";
    let wrong = [
        ("POLICY_INVALID", put("version = 1\n[lanes.fast]")),
        ("REVISION_MISMATCH", stale),
        ("INVALID_FIELD", nobody),
        ("INVALID_FIELD", silent),
    ];
    for (expected, put) in wrong {
        assert_eq!(expected, refused(&node, &put));
    }
    let missing = node.roll_back_policy(9, &put(""));

    assert_eq!("UNKNOWN_REVISION", reason(&missing.unwrap_err()));
    assert_eq!(1, in_force(&node));
}

#[test]
fn a_put_that_is_sent_again_has_one_revision() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    let mut first = put(STRICT);
    first.expected_revision = Some(0);

    assert_eq!(1, done(&node, &first)["revision"]);
    assert_eq!(1, done(&node, &first)["revision"]);
    assert_eq!(1, json(&node.policy_json())["last_revision"]);
}

#[test]
fn revisions_survive_a_restart_and_each_can_be_put_again() {
    let storage = Arc::new(MemoryStorage::new());
    let node = open_with(&storage, None);
    done(&node, &put(STRICT));
    done(&node, &put(WIDE));
    node.close().unwrap();
    drop(node);
    let node = open_with(&storage, None);
    put_sale(&node, 10);
    let kept = json(&node.revisions_json(0, 10));

    assert_eq!(2, in_force(&node));
    assert_eq!(STRICT, kept["revisions"][1]["document"]);
    assert_eq!("a storm", kept["revisions"][1]["reason"]);
    let back = node.roll_back_policy(1, &put("")).map_err(|it| reason(&it));
    assert_eq!(3, json(&back.unwrap())["revision"]);
    // The bucket is clamped to one token.
    assert_eq!("", refusal(&node, "first"));
    assert_eq!("RATE_LANE", refusal(&node, "next"));
}

#[test]
fn a_revision_holds_from_its_time_on_unless_a_later_one_does() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    let start = settings(std::path::Path::new("")).manual_start;
    let mut later = put(STRICT);
    later.effect_time = Some(start + 1_000);
    let answer = done(&node, &later);
    assert_eq!(1, answer["revision"]);
    assert_eq!(0, answer["in_force"]);
    assert_eq!(1, json(&node.policy_json())["next"]["revision"]);

    let set = |at| {
        let _: contract::SetClockResponse = ask(&node, Method::SetClock, &set_clock(at));
    };
    set(start + 999);
    assert_eq!(Value::Null, in_force(&node));
    set(start + 1_000);
    assert_eq!(1, in_force(&node));

    later.effect_time = Some(start + 5_000);
    done(&node, &later);
    done(&node, &put(WIDE));
    set(start + 6_000);
    assert_eq!(3, in_force(&node));
}

#[test]
fn the_file_at_the_start_counts_once() {
    let storage = Arc::new(MemoryStorage::new());
    let restart = |text: &str| open_with(&storage, Some(file(text)));
    let node = restart(STRICT);
    assert_eq!(1, in_force(&node));
    done(&node, &put(WIDE));
    node.close().unwrap();
    // The same file: whoever put something newer meant it.
    let node = restart(STRICT);
    assert_eq!(2, in_force(&node));
    node.close().unwrap();

    let node = restart("version = 1\n# changed\n");
    assert_eq!(3, in_force(&node));
    assert_eq!("file", json(&node.policy_json())["in_force"]["origin"]);
}

#[test]
fn a_policy_on_trial_counts_and_changes_no_answer() {
    let node = open_with(&Arc::new(MemoryStorage::new()), None);
    put_sale(&node, 10);
    node.set_shadow_policy(Some(STRICT), "sre", "a trial")
        .unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!("", refusal(&node, id));
    }
    let counted = json(&node.metrics_json())["admission"]["shadow"].clone();

    // The trial's lane starts with one token.
    assert_eq!(1, counted["both_admitted_count"]);
    assert_eq!(2, counted["only_live_admitted_count"]);
    node.set_shadow_policy(None, "sre", "over").unwrap();
    assert_eq!(
        Value::Null,
        json(&node.metrics_json())["admission"]["shadow"]
    );
}

/// Tokens a second of the lane while everything else changes; bursts stay far above what comes in,
/// so that no change has a reason to take anything.
const STEADY: u32 = 5_000;

/// Policies that differ in all but the lane's rate.
fn documents(count: u32, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut below = |end: u64| random.below(end);
    (0..count)
        .map(|_| {
            let (burst, sku) = (1_000_000 + below(9_000_000), 1_000 + below(100_000));
            let (caller, read) = (10_000 + below(100_000), 100 + below(1_000));
            format!(
                "version = 1\n[lanes.reservation]\nrate_per_second = {STEADY}\nburst = {burst}\n\
                 [lanes.read]\nrate_per_second = {read}\nburst = {read}\n\
                 [skus.default]\nrate_per_second = {sku}\nburst = {sku}\n\
                 [callers.default]\nrate_per_second = {caller}\nburst = {caller}\n"
            )
        })
        .collect()
}

/// Puts one policy after the other while two callers reserve; gives how many calls were answered.
fn change_under_load(node: &Node, documents: &[String]) -> u64 {
    let is_over = AtomicBool::new(false);
    let work = |name: &'static str| {
        let is_over = &is_over;
        move || {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let told = refusal(node, &format!("{name}{count}"));
                let known = ["", "RATE_LANE", "RATE_SKU", "RATE_CALLER"];
                assert!(known.contains(&told.as_str()), "{told}");
                count += 1;
            }
            count
        }
    };
    std::thread::scope(|scope| {
        let callers = [scope.spawn(work("a")), scope.spawn(work("b"))];
        for document in documents {
            done(node, &put(document));
        }
        is_over.store(true, Ordering::Relaxed);
        callers.map(|it| it.join().unwrap()).iter().sum::<u64>()
    })
}

/// What the lane charged and what it holds, in tokens.
fn tokens(lane: &Value) -> f64 {
    lane["charged_tokens"].as_f64().unwrap() + lane["tokens"].as_f64().unwrap()
}

fn check_changes(count: u32) {
    let seed = seed_from_environment("LASTUNIT_SEED", 20_261_122);
    let documents = documents(count, seed);
    let storage = Arc::new(MemoryStorage::new());
    let node = open_with(&storage, None);
    put_sale(&node, 1_000_000);
    let lane = || json(&node.metrics_json())["admission"]["lanes"]["reservation"].clone();
    done(&node, &put(&documents[0]));
    let (start, before) = (Instant::now(), lane());
    let started = start.elapsed();
    let answered = change_under_load(&node, &documents[1..]);
    wait_until("nothing is in flight", || lane()["in_flight"] == 0);
    let least = start.elapsed().checked_sub(started).unwrap();
    let after = lane();
    let most = start.elapsed();

    let names = [
        "admitted",
        "refused_lane_rate",
        "refused_sku_rate",
        "refused_caller_rate",
    ];
    let offered = names.map(|name| after[format!("{name}_count")].as_u64().unwrap());
    assert_eq!(answered, offered.iter().sum::<u64>(), "no call is lost");
    assert!(offered[0] > 0);

    // A change neither gives nor takes: what came in is the rate times the time, whatever changed.
    let came_in = tokens(&after) - tokens(&before);
    let rate = f64::from(STEADY);
    let bounds = [least, most].map(|it| it.as_secs_f64() * rate);
    assert!(
        bounds[0] - 0.01 <= came_in && came_in <= bounds[1] + 0.01,
        "{came_in} tokens came in, {bounds:?} by the rate; LASTUNIT_SEED={seed}"
    );
    check_revisions(&node, &documents);
    node.close().unwrap();
    drop(node);
    check_revisions(&open_with(&storage, None), &documents);
}

/// Every revision is there as it was put, and can be put again.
fn check_revisions(node: &Node, documents: &[String]) {
    let mut kept = Vec::new();
    let mut before = u64::try_from(documents.len()).unwrap() + 1;
    while before > 1 {
        let page = json(&node.revisions_json(before, 1_000));
        for row in page["revisions"].as_array().unwrap() {
            kept.push(row["document"].as_str().unwrap().to_owned());
            before = row["revision"].as_u64().unwrap();
        }
    }
    kept.reverse();
    assert_eq!(documents, kept);
    for number in (1..=documents.len()).step_by(documents.len() / 20) {
        let back = node.roll_back_policy(u64::try_from(number).unwrap(), &put(""));
        back.map_err(|it| reason(&it)).unwrap();
        let held = json(&node.policy_json())["in_force"]["document"].clone();
        assert_eq!(documents[number - 1].as_str(), held);
    }
}

#[test]
fn no_call_no_token_and_no_revision_is_lost_while_policies_change() {
    check_changes(500);
}

#[test]
#[ignore = "takes a minute or more; `.ci/run` runs it"]
fn ten_thousand_changes_lose_no_call_no_token_and_no_revision() {
    check_changes(10_000);
}
