//! A policy as rows of text, and what differs between two.
//!
//! Owns: the names of the rows, which are those of the document. Must not: decide what a change
//! means. Where next: `document.rs`.

use std::collections::BTreeMap;

use lastunit_admission::{
    BucketPolicy, DoorPolicy, GateRules, KeyedPolicy, Lane, Operation, QueuePolicy, TOKEN,
    WindowPolicy,
};

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting, as in `lanes.reservation.burst`.
    pub key: String,
    /// What held; None if it did not exist.
    pub before: Option<String>,
    /// What is to hold; None if it ends.
    pub after: Option<String>,
}

/// What differs between two policies, in the order of the names.
#[must_use]
pub fn changes(before: &DoorPolicy, after: &DoorPolicy) -> Vec<Change> {
    let (mut old, new) = (settings(before), settings(after));
    let mut found: Vec<Change> = Vec::new();
    for (key, value) in new {
        let held = old.remove(&key);
        if held.as_ref() != Some(&value) {
            found.push(Change {
                key,
                before: held,
                after: Some(value),
            });
        }
    }
    found.extend(old.into_iter().map(|(key, value)| Change {
        key,
        before: Some(value),
        after: None,
    }));
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

/// Every setting of a policy with its value, defaults included.
#[must_use]
pub fn settings(policy: &DoorPolicy) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let limits = &policy.limits;
    for lane in Lane::ALL {
        let name = format!("lanes.{}", lane.name());
        let held = limits.lane(lane);
        bucket(&mut rows, &name, held.bucket);
        let key = format!("{name}.calls_in_flight_max");
        rows.insert(key, held.calls_in_flight_max.to_string());
        queue(&mut rows, &name, held.queue);
    }
    bucket(&mut rows, "callers.default", limits.caller);
    for (name, held) in &limits.callers {
        bucket(&mut rows, &format!("callers.{name}"), *held);
    }
    rows.insert("callers_max".into(), limits.callers_max.to_string());
    keyed(&mut rows, "sales", &policy.sales);
    keyed(&mut rows, "skus", &policy.skus);
    for operation in Operation::ALL {
        let cost = limits.costs.cost(*operation, 0);
        rows.insert(format!("costs.{}", operation.name()), tokens(cost));
    }
    rows.insert("costs.per_line".into(), tokens(limits.costs.per_line));
    if let Some(held) = &policy.window {
        window(&mut rows, held);
    }
    if let Some(held) = &policy.gate {
        gate(&mut rows, held);
    }
    rows
}

type Rows = BTreeMap<String, String>;

fn keyed(rows: &mut Rows, kind: &str, policy: &KeyedPolicy) {
    bucket(rows, &format!("{kind}.default"), policy.each);
    for (name, held) in &policy.named {
        bucket(rows, &format!("{kind}.{name}"), *held);
    }
    rows.insert(format!("{kind}_max"), policy.names_max.to_string());
}

fn bucket(rows: &mut Rows, name: &str, bucket: Option<BucketPolicy>) {
    let Some(bucket) = bucket else { return };
    let rate = decimal(u128::from(bucket.rate), 1_000);
    rows.insert(format!("{name}.rate_per_second"), rate);
    rows.insert(format!("{name}.burst"), tokens(bucket.burst));
}

fn queue(rows: &mut Rows, lane: &str, held: Option<QueuePolicy>) {
    let Some(held) = held else { return };
    let mut row = |name: &str, value: String| rows.insert(format!("{lane}.{name}"), value);
    let millis = |nanos: u64| (nanos / 1_000_000).to_string();
    row("waiting_max", held.length_max.to_string());
    row("wait_max_ms", millis(held.wait_max));
    row("wait_target_ms", millis(held.target));
    row("wait_interval_ms", millis(held.interval));
}

fn window(rows: &mut Rows, held: &WindowPolicy) {
    let mut row = |name: &str, value: String| rows.insert(format!("window.{name}"), value);
    row("credits_max", held.most.to_string());
    row("credits_min", held.least.to_string());
    row(
        "target_delay_ms",
        (held.target_delay / 1_000_000).to_string(),
    );
    row(
        "report_interval_ms",
        (held.report_interval / 1_000_000).to_string(),
    );
    row("reports_missed_max", held.stale_after.to_string());
    row(
        "credit_life_seconds",
        (held.credit_life / 1_000_000_000).to_string(),
    );
    row(
        "floor_rate_per_second",
        decimal(u128::from(held.floor.rate), 1_000),
    );
    row("floor_burst", tokens(held.floor.burst));
}

fn gate(rows: &mut Rows, held: &GateRules) {
    let mut row = |name: &str, value: u64, parts: u128| {
        let value = decimal(u128::from(value), parts);
        rows.insert(format!("gate.{name}"), value)
    };
    row("queue_at", held.policy.queue_at.into(), 1_000);
    row("close_at", held.policy.close_at.into(), 1_000);
    row("reopen_at", held.policy.reopen_at.into(), 1_000);
    row("dwell_seconds", held.policy.dwell, 1_000_000_000);
    row("settled_per_second", held.settled_rate, 1_000);
    row("pay_p99_seconds", held.pay_p99, 1_000_000_000);
    row("margin_seconds", held.margin, 1_000_000_000);
}

fn tokens(micros: i64) -> String {
    decimal(
        u128::from(micros.unsigned_abs()),
        u128::from(TOKEN.unsigned_abs()),
    )
}

/// A number of parts as a decimal without superfluous zeros.
fn decimal(value: u128, parts: u128) -> String {
    let (whole, rest) = (value / parts, value % parts);
    if rest == 0 {
        return whole.to_string();
    }
    let width = parts.ilog10() as usize;
    let rest = format!("{rest:0width$}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}
