//! The form of the document: names, units, ranges and defaults.
//!
//! Owns: schema version 1. Must not: know where the text came from. Where next: `table.rs` for how
//! values are taken, `changes.rs` for what differs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use lastunit_admission::{
    BucketPolicy, CALLERS_MAX, CALLS_IN_FLIGHT_MAX, Costs, DoorPolicy, GatePolicy, GateRules,
    KeyedPolicy, Lane, LanePolicy, Nanos, Operation, Policy, QUEUE_LENGTH_MAX, QUEUE_WAIT_MAX,
    QueuePolicy, WindowPolicy,
};
use toml::de::DeTable;

use crate::places::{Places, Problem};
use crate::table::Table;

/// Version of the form that this program reads.
pub const VERSION: u32 = 1;

/// Largest document: a thousand rows of a bucket each.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Name among callers, sales and SKUs for each that is not named.
const EACH: &str = "default";

/// Name among the costs for what each line of a Reserve adds.
const PER_LINE: &str = "per_line";

const RATE: RangeInclusive<f64> = 0.001..=1_000_000.0;
const BURST: RangeInclusive<f64> = 1.0..=10_000_000.0;
const COST: RangeInclusive<f64> = 0.0..=1_000.0;
const PRESSURE: RangeInclusive<f64> = 0.001..=10.0;
const CALM: RangeInclusive<f64> = 0.0..=10.0;
const DWELL_SECONDS: RangeInclusive<f64> = 0.0..=3_600.0;
const SETTLED_RATE: RangeInclusive<f64> = 0.0..=1_000_000.0;
const SPAN_SECONDS: RangeInclusive<f64> = 0.0..=86_400.0;

/// A bucket smaller than this share of its rate loses tokens to every pause of the scheduler.
const BURST_SECONDS_MIN: f64 = 0.01;

/// Longest name; as the contract says of ids.
const NAME_BYTES_MAX: usize = 64;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

#[expect(clippy::cast_possible_truncation, reason = "ten thousand")]
const WAIT_MS_MAX: u32 = (QUEUE_WAIT_MAX / MILLISECOND) as u32;

/// Reads a document.
///
/// # Errors
/// Every mistake that was found, with its line, in the order of the text.
pub fn read(text: &str) -> Result<DoorPolicy, Vec<Problem>> {
    let mut places = Places::new(text);
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!(
            "the document has {} bytes, at most {DOCUMENT_BYTES_MAX} are read; name fewer callers, \
             sales and SKUs",
            text.len()
        );
        places.wrong_at("", 0, message);
        return Err(places.problems);
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            places.wrong_at("", start, format!("this is not TOML: {message}"));
            return Err(places.problems);
        }
    };
    let policy = document(Table::root(table.get_ref()), &mut places);
    // Whatever slipped through the ranges above is caught before it can be applied.
    if places.problems.is_empty()
        && let Err(error) = policy.check()
    {
        places.wrong(&error.setting, error.expected);
    }
    if places.problems.is_empty() {
        return Ok(policy);
    }
    places.problems.sort_by_key(|it| (it.line, it.column));
    Err(places.problems)
}

fn document(mut root: Table<'_, '_>, places: &mut Places<'_>) -> DoorPolicy {
    let version = root.whole("version", 1..=VERSION, places);
    if version.is_none() && places.problems.is_empty() {
        let message = format!("is missing; write version = {VERSION} in the first line");
        places.wrong_at("version", 0, message);
    }
    let mut policy = DoorPolicy {
        limits: Policy {
            lanes: lanes(root.table("lanes", places), places),
            ..Policy::default()
        },
        ..DoorPolicy::default()
    };
    let limits = &mut policy.limits;
    (limits.caller, limits.callers) = buckets(&root.table("callers", places), places);
    if let Some(most) = root.whole("callers_max", 1..=CALLERS_MAX, places) {
        limits.callers_max = most;
    }
    limits.costs = costs(&root.table("costs", places), places);
    let (sales, skus) = (root.table("sales", places), root.table("skus", places));
    let sales_max = root.whole("sales_max", 1..=CALLERS_MAX, places);
    let skus_max = root.whole("skus_max", 1..=CALLERS_MAX, places);
    policy.sales = keyed(&sales, sales_max, places);
    policy.skus = keyed(&skus, skus_max, places);
    policy.window = window(root.table("window", places), places);
    policy.gate = gate(root.table("gate", places), places);
    for (name, count, most) in [
        (
            "callers_max",
            policy.limits.callers.len(),
            policy.limits.callers_max,
        ),
        (
            "sales_max",
            policy.sales.named.len(),
            policy.sales.names_max,
        ),
        ("skus_max", policy.skus.named.len(), policy.skus.names_max),
    ] {
        if count > most as usize {
            places.wrong(
                name,
                format!("is {most}, {count} are named; set {count} or more"),
            );
        }
    }
    root.end(places);
    policy
}

fn lanes(mut table: Table<'_, '_>, places: &mut Places<'_>) -> [LanePolicy; 4] {
    let defaults = Policy::default();
    let lanes = Lane::ALL.map(|lane| {
        let mut section = table.table(lane.name(), places);
        let calls_in_flight_max = section
            .whole("calls_in_flight_max", 1..=CALLS_IN_FLIGHT_MAX, places)
            .unwrap_or(defaults.lane(lane).calls_in_flight_max);
        let bucket = if lane.is_refusable() && section.is_there() {
            bucket(&mut section, false, places)
        } else {
            default_bucket(lane)
        };
        let queue = queue(&mut section, places);
        section.end(places);
        LanePolicy {
            bucket,
            calls_in_flight_max,
            queue,
        }
    });
    table.end(places);
    lanes
}

/// Where calls wait for their lane: only if the document says how many may.
fn queue(section: &mut Table<'_, '_>, places: &mut Places<'_>) -> Option<QueuePolicy> {
    let defaults = QueuePolicy::default();
    let before = places.problems.len();
    let length_max = section.whole("waiting_max", 0..=QUEUE_LENGTH_MAX, places);
    let wait_max = section.whole("wait_max_ms", 1..=WAIT_MS_MAX, places);
    let target = section.whole("wait_target_ms", 1..=WAIT_MS_MAX, places);
    let interval = section.whole("wait_interval_ms", 1..=WAIT_MS_MAX, places);
    if places.problems.len() > before {
        return None;
    }
    if length_max.is_none() && (wait_max, target, interval) != (None, None, None) {
        let message = "is missing; it says how many may wait, 0 is none";
        places.wrong(&section.key("waiting_max"), message);
    }
    let length_max = length_max.filter(|most| *most > 0)?;
    let nanos = |value: Option<u32>, default: Nanos| {
        value.map_or(default, |it| u64::from(it) * MILLISECOND)
    };
    let wait_max = nanos(wait_max, defaults.wait_max);
    let target = nanos(target, defaults.target.min(wait_max));
    let interval = nanos(interval, defaults.interval.max(target));
    for (name, is_right, expected) in [
        (
            "wait_target_ms",
            target <= wait_max,
            "must be at most wait_max_ms",
        ),
        (
            "wait_interval_ms",
            interval >= target,
            "must be at least wait_target_ms",
        ),
    ] {
        if !is_right {
            places.wrong(&section.key(name), expected);
        }
    }
    Some(QueuePolicy {
        length_max,
        wait_max,
        target,
        interval,
    })
}

/// A lane that the document does not name; one that it names without a rate has no bucket.
fn default_bucket(lane: Lane) -> Option<BucketPolicy> {
    lane.is_refusable().then(|| BucketPolicy {
        rate: milli(50_000.0),
        burst: micro(5_000.0),
    })
}

type Named = BTreeMap<Box<str>, Option<BucketPolicy>>;

/// Buckets by name: the one for each that is not named, and the named ones.
fn buckets(table: &Table<'_, '_>, places: &mut Places<'_>) -> (Option<BucketPolicy>, Named) {
    let (mut each, mut named) = (None, Named::new());
    for (name, mut section) in table.tables(places) {
        let found = bucket(&mut section, true, places);
        let key = section.path().to_owned();
        section.end(places);
        if name == EACH {
            each = found;
        } else if is_name(&name) {
            named.insert(name.into(), found);
        } else {
            places.wrong(&key, "is no name: 1 to 64 of [A-Za-z0-9._:-] in quotes");
        }
    }
    (each, named)
}

fn keyed(table: &Table<'_, '_>, names_max: Option<u32>, places: &mut Places<'_>) -> KeyedPolicy {
    let (each, named) = buckets(table, places);
    let names_max = names_max.unwrap_or(KeyedPolicy::default().names_max);
    KeyedPolicy {
        each,
        named,
        names_max,
    }
}

fn bucket(
    section: &mut Table<'_, '_>,
    is_needed: bool,
    places: &mut Places<'_>,
) -> Option<BucketPolicy> {
    let before = places.problems.len();
    let rate = section.number("rate_per_second", &RATE, places);
    let burst = section.number("burst", &BURST, places);
    if places.problems.len() > before {
        return None;
    }
    let (rate, burst) = match (rate, burst) {
        (Some(rate), Some(burst)) => (rate, burst),
        (None, None) if !is_needed => return None,
        (Some(_), None) => {
            places.wrong(
                &section.key("burst"),
                "is missing; it belongs to rate_per_second",
            );
            return None;
        }
        (None, _) => {
            let key = section.key("rate_per_second");
            places.wrong(&key, "is missing; a bucket has rate_per_second and burst");
            return None;
        }
    };
    let least = rate * BURST_SECONDS_MIN;
    if burst < least {
        let message = format!(
            "is {burst}, less than 10 ms of rate_per_second = {rate}, which loses tokens to \
             scheduling pauses; set {least} or more"
        );
        places.wrong(&section.key("burst"), message);
    }
    Some(BucketPolicy {
        rate: milli(rate),
        burst: micro(burst),
    })
}

fn costs(table: &Table<'_, '_>, places: &mut Places<'_>) -> Costs {
    let mut costs = Costs::default();
    for (name, tokens) in table.numbers(&COST, places) {
        if name == PER_LINE {
            costs.per_line = micro(tokens);
        } else if let Some(operation) = Operation::ALL.iter().find(|it| it.name() == name) {
            costs.operations.insert(*operation, micro(tokens));
        } else {
            let names: Vec<_> = Operation::ALL.iter().map(|it| it.name()).collect();
            let message = format!("names no method; use {PER_LINE} or {}", names.join(", "));
            places.wrong(&table.key(&name), message);
        }
    }
    costs
}

fn window(mut section: Table<'_, '_>, places: &mut Places<'_>) -> Option<WindowPolicy> {
    if !section.is_there() {
        return None;
    }
    let before = places.problems.len();
    let Some(most) = section.whole("credits_max", 1..=1_000_000, places) else {
        if places.problems.len() == before {
            let key = section.key("credits_max");
            places.wrong(
                &key,
                "is missing; the most that may wait for the order service",
            );
        }
        return None;
    };
    let mut number = |name, range, default| section.whole(name, range, places).unwrap_or(default);
    let least = number("credits_min", 1..=1_000_000, most.min(16));
    let target = number("target_delay_ms", 1..=10_000, 50);
    let interval = number("report_interval_ms", 10..=500, 100);
    let stale_after = number("reports_missed_max", 1..=100, 3);
    let life = number("credit_life_seconds", 1..=3_600, 60);
    let rate = section.number("floor_rate_per_second", &RATE, places);
    let burst = section.number("floor_burst", &BURST, places);
    if least > most {
        let message = format!("is {least}, more than credits_max = {most}; set less");
        places.wrong(&section.key("credits_min"), message);
    }
    section.end(places);
    Some(WindowPolicy {
        least,
        most,
        target_delay: u64::from(target) * MILLISECOND,
        report_interval: u64::from(interval) * MILLISECOND,
        stale_after,
        credit_life: u64::from(life) * SECOND,
        floor: BucketPolicy {
            rate: milli(rate.unwrap_or(10.0)),
            burst: micro(burst.unwrap_or(5.0)),
        },
    })
}

/// The whole of what gates are judged by: what a section leaves out has its default, whatever the
/// server's settings say, so that a document means the same everywhere.
fn gate(mut section: Table<'_, '_>, places: &mut Places<'_>) -> Option<GateRules> {
    if !section.is_there() {
        return None;
    }
    let defaults = GatePolicy::default();
    let mut number = |name, range, default| section.number(name, range, places).unwrap_or(default);
    let queue_at = number(
        "queue_at",
        &PRESSURE,
        f64::from(defaults.queue_at) / 1_000.0,
    );
    let close_at = number(
        "close_at",
        &PRESSURE,
        f64::from(defaults.close_at) / 1_000.0,
    );
    let reopen_at = number("reopen_at", &CALM, f64::from(defaults.reopen_at) / 1_000.0);
    let dwell = number("dwell_seconds", &DWELL_SECONDS, 1.0);
    let settled_rate = number("settled_per_second", &SETTLED_RATE, 0.0);
    let pay_p99 = number("pay_p99_seconds", &SPAN_SECONDS, 0.0);
    let margin = number("margin_seconds", &SPAN_SECONDS, 0.0);
    if queue_at > close_at {
        let message = format!("is {queue_at}, more than close_at = {close_at}; set less");
        places.wrong(&section.key("queue_at"), message);
    }
    if reopen_at >= queue_at {
        let message = format!("is {reopen_at}, must be below queue_at = {queue_at}");
        places.wrong(&section.key("reopen_at"), message);
    }
    section.end(places);
    let thousandths = |value: f64| u32::try_from(milli(value)).unwrap_or(u32::MAX);
    let nanos = |seconds: f64| milli(seconds) * MILLISECOND;
    Some(GateRules {
        policy: GatePolicy {
            queue_at: thousandths(queue_at),
            close_at: thousandths(close_at),
            reopen_at: thousandths(reopen_at),
            dwell: nanos(dwell),
        },
        settled_rate: milli(settled_rate),
        pay_p99: nanos(pay_p99),
        margin: nanos(margin),
    })
}

fn is_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_known)
}

/// Tokens a second in thousandths; the number is in its range.
fn milli(value: f64) -> u64 {
    parts(value, 1_000.0).unsigned_abs()
}

/// Tokens in millionths; the number is in its range.
fn micro(value: f64) -> i64 {
    parts(value, 1_000_000.0)
}

fn parts(value: f64, parts: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and far below 2^53 by the ranges above"
    )]
    let whole = (value * parts).round() as i64;
    whole
}
