//! Each mistake is told with its line and what to do; what is right reads as it is meant.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use lastunit_admission::{BucketPolicy, GateRules, Lane, Operation, QueuePolicy, TOKEN};

use super::*;

fn problem(text: &str) -> Problem {
    let problems = read(text).unwrap_err();
    assert_eq!(1, problems.len(), "{problems:?}");
    problems[0].clone()
}

#[test]
fn the_default_and_the_example_can_be_read() {
    let default = read(DEFAULT_DOCUMENT).unwrap();
    assert_eq!(Ok(default), read("version = 1"));

    let example = include_str!("../../../docs/reference/admission-policy.example.toml");
    let example = read(example).unwrap();
    assert!(example.window.is_some());
    assert!(!example.skus.named.is_empty());
}

#[test]
fn every_setting_is_read_in_its_unit() {
    let text = "version = 1\ncallers_max = 7\nsales_max = 8\nskus_max = 9\n\
        [lanes.reservation]\nrate_per_second = 0.5\nburst = 2.5\ncalls_in_flight_max = 3\n\
        waiting_max = 30\nwait_max_ms = 200\nwait_target_ms = 20\nwait_interval_ms = 40\n\
        [lanes.read]\nwaiting_max = 0\n[callers.default]\nrate_per_second = 5\nburst = 2\n\
        [callers.\"order.service\"]\nrate_per_second = 50\nburst = 20\n\
        [sales.spring]\nrate_per_second = 1\nburst = 1\n[skus.default]\nrate_per_second = 2\n\
        burst = 1\n[costs]\nReserve = 1.25\nper_line = 0.000001\n\
        [window]\ncredits_max = 400\ncredits_min = 40\ntarget_delay_ms = 20\n";
    let policy = read(text).unwrap();
    let limits = &policy.limits;

    let bucket = |rate, burst| Some(BucketPolicy { rate, burst });
    assert_eq!(
        bucket(500, 2_500_000),
        limits.lane(Lane::Reservation).bucket
    );
    assert_eq!(3, limits.lane(Lane::Reservation).calls_in_flight_max);
    assert_eq!(None, limits.lane(Lane::Read).bucket);
    let queue = QueuePolicy {
        length_max: 30,
        wait_max: 200_000_000,
        target: 20_000_000,
        interval: 40_000_000,
    };
    assert_eq!(Some(queue), limits.lane(Lane::Reservation).queue);
    assert_eq!(None, limits.lane(Lane::Read).queue);
    assert_eq!(bucket(5_000, 2 * TOKEN), limits.caller);
    assert_eq!(
        Some(&bucket(50_000, 20 * TOKEN)),
        limits.callers.get("order.service")
    );
    assert_eq!(
        (7, 8, 9),
        (
            limits.callers_max,
            policy.sales.names_max,
            policy.skus.names_max
        )
    );
    assert_eq!(
        Some(&bucket(1_000, TOKEN)),
        policy.sales.named.get("spring")
    );
    assert_eq!(bucket(2_000, TOKEN), policy.skus.each);
    assert_eq!(1_250_002, limits.costs.cost(Operation::Reserve, 2));
    let window = policy.window.unwrap();
    assert_eq!(
        (40, 400, 20_000_000),
        (window.least, window.most, window.target_delay)
    );
}

/// Text, line, key, and what is said of it.
const MISTAKES: &[(&str, usize, &str, &str)] = &[
    ("", 1, "version", "is missing"),
    ("\nversion = 2", 2, "version", "1 to 1"),
    ("version = 1\n[lanes", 2, "", "not TOML"),
    ("version = 1\nversion = 1", 2, "", "not TOML"),
    (
        "version = 1\n\n[lanes.fast]",
        3,
        "lanes.fast",
        "no known key",
    ),
    (
        "version = 1\n[lanes.settlement]\nrate_per_second = 1",
        3,
        "lanes.settlement.rate_per_second",
        "no known key",
    ),
    (
        "version = 1\n[lanes.read]\nrate_per_second = 5",
        2,
        "lanes.read.burst",
        "is missing",
    ),
    (
        "version = 1\n[lanes.read]\nrate_per_second = 1000\nburst = 9",
        4,
        "lanes.read.burst",
        "less than 10 ms",
    ),
    (
        "version = 1\n[lanes.read]\ncalls_in_flight_max = 0",
        3,
        "lanes.read.calls_in_flight_max",
        "1 to 1000000",
    ),
    (
        "version = 1\n[lanes.read]\nwaiting_max = 65537",
        3,
        "lanes.read.waiting_max",
        "0 to 65536",
    ),
    (
        "version = 1\n[lanes.read]\nwait_max_ms = 20",
        2,
        "lanes.read.waiting_max",
        "is missing",
    ),
    (
        "version = 1\n[lanes.read]\nwaiting_max = 9\nwait_max_ms = 20\nwait_target_ms = 21",
        5,
        "lanes.read.wait_target_ms",
        "at most wait_max_ms",
    ),
    (
        "version = 1\n[lanes.read]\nwaiting_max = 9\nwait_target_ms = 9\nwait_interval_ms = 8",
        5,
        "lanes.read.wait_interval_ms",
        "at least wait_target_ms",
    ),
    (
        "version = 1\n[lanes.read]\ncalls_in_flight_max = 1.5",
        3,
        "lanes.read.calls_in_flight_max",
        "whole number",
    ),
    (
        "version = 1\n[lanes.read]\nrate_per_second = \"fast\"\nburst = 1",
        3,
        "lanes.read.rate_per_second",
        "must be a number",
    ),
    (
        "version = 1\n[lanes.read]\nrate_per_second = nan\nburst = 1",
        3,
        "lanes.read.rate_per_second",
        "must be a number",
    ),
    ("version = 1\nlanes = 3", 2, "lanes", "must be a table"),
    (
        "version = 1\n[callers.default]\nburst = 1",
        2,
        "callers.default.rate_per_second",
        "is missing",
    ),
    (
        "version = 1\n[callers.\"a b\"]\nburst = 1\nrate_per_second = 1",
        2,
        "callers.a b",
        "no name",
    ),
    (
        "version = 1\n[costs]\nReserv = 1",
        3,
        "costs.Reserv",
        "names no method",
    ),
    (
        "version = 1\n[costs]\nReserve = -1",
        3,
        "costs.Reserve",
        "0 to 1000",
    ),
    (
        "version = 1\nskus_max = 1\n[skus.a]\nrate_per_second = 1\nburst = 1\n[skus.b]\n\
          rate_per_second = 1\nburst = 1",
        2,
        "skus_max",
        "2 are named",
    ),
    (
        "version = 1\n[window]\ncredits_max = 5\ncredits_min = 6",
        4,
        "window.credits_min",
        "more than credits_max",
    ),
    (
        "version = 1\n[window]\ncredits_min = 6",
        2,
        "window.credits_max",
        "is missing",
    ),
];

#[test]
fn each_mistake_is_told_with_its_line_and_key() {
    for (text, line, key, words) in MISTAKES.iter().copied() {
        let found = problem(text);
        assert_eq!(
            (line, key),
            (found.line, found.key.as_str()),
            "{text}: {found}"
        );
        assert!(found.message.contains(words), "{text}: {found}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let problems = read("version = 1\nfast = 1\n[lanes.read]\nburst = 0\nslow = 2\n").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|it| it.line).collect();

    assert_eq!(vec![2, 4, 5], lines);
}

#[test]
fn gates_are_read_in_their_units_and_what_is_left_out_has_its_default() {
    assert_eq!(None, read("version = 1").unwrap().gate);
    let least = read("version = 1\n[gate]\n").unwrap().gate;
    assert_eq!(Some(GateRules::default()), least);
    let text = "version = 1\n[gate]\nqueue_at = 0.7\nclose_at = 1.25\nreopen_at = 0.4\n\
        dwell_seconds = 0.5\nsettled_per_second = 14.387\npay_p99_seconds = 10.374\n\
        margin_seconds = 3\n";

    let policy = read(text).unwrap();

    let rules = policy.gate.unwrap();
    let steps = rules.policy;
    assert_eq!(
        (700, 1_250, 400),
        (steps.queue_at, steps.close_at, steps.reopen_at)
    );
    assert_eq!(500_000_000, steps.dwell);
    assert_eq!(14_387, rules.settled_rate);
    assert_eq!(
        (10_374_000_000, 3_000_000_000),
        (rules.pay_p99, rules.margin)
    );
    let rows = settings(&policy);
    assert_eq!("14.387", rows["gate.settled_per_second"]);
    assert_eq!("0.5", rows["gate.dwell_seconds"]);
    assert_eq!("1.25", rows["gate.close_at"]);
}

#[test]
fn steps_of_a_gate_that_are_out_of_order_or_range_are_told_with_their_line() {
    for (section, key, line) in [
        ("queue_at = 1.5", "gate.queue_at", 3),
        ("close_at = 0.9\nreopen_at = 0.8", "gate.reopen_at", 4),
        ("close_at = 10.1", "gate.close_at", 3),
        ("dwell_seconds = 3600.5", "gate.dwell_seconds", 3),
        ("settled_per_second = -1", "gate.settled_per_second", 3),
        ("pay_p99_seconds = 86401", "gate.pay_p99_seconds", 3),
        ("address = \"127.0.0.1:7405\"", "gate.address", 3),
    ] {
        let found = problem(&format!("version = 1\n[gate]\n{section}\n"));
        assert_eq!((key, line), (found.key.as_str(), found.line), "{found}");
    }
}

#[test]
fn a_document_past_its_size_is_refused_unread() {
    let text = format!("version = 1\n# {}", "x".repeat(DOCUMENT_BYTES_MAX));
    assert!(problem(&text).message.contains("bytes"));
}

#[test]
fn only_what_differs_is_a_change() {
    let before = read("version = 1\n[skus.a]\nrate_per_second = 1\nburst = 1").unwrap();
    let after = read("version = 1\n[lanes.read]\nrate_per_second = 0.5\nburst = 7").unwrap();
    assert!(changes(&before, &before).is_empty());

    let rows: Vec<_> = changes(&before, &after)
        .into_iter()
        .map(|it| {
            (
                it.key,
                it.before.unwrap_or_default(),
                it.after.unwrap_or_default(),
            )
        })
        .collect();
    let row = |key: &str, before: &str, after: &str| (key.into(), before.into(), after.into());
    let expected = vec![
        row("lanes.read.burst", "5000", "7"),
        row("lanes.read.rate_per_second", "50000", "0.5"),
        row("skus.a.burst", "1", ""),
        row("skus.a.rate_per_second", "1", ""),
    ];
    assert_eq!(expected, rows);
}
