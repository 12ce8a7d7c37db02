//! The node's counters and gauges as one JSON object.
//!
//! Owns: the names. Must not: count. Where next: `meters.rs`, and the server, which turns them into
//! metrics.

use lastunit_admission::{CallerStats, ShadowCounts, Stats, TOKEN, WindowStats};
use serde_json::{Map, Value, json};

use crate::shared::Shared;

/// Callers that are listed by name; the rest are in the sums.
const CALLER_COUNT_MAX: usize = 200;

/// Collects everything; takes each lock for a moment, one after the other.
pub(crate) fn json(shared: &Shared) -> String {
    let mut all = match shared.meters.to_json() {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    let journal = &shared.journal;
    let phase = shared.life.phase();
    all.insert("phase".into(), json!(format!("{phase:?}")));
    all.insert("reason".into(), json!(phase.reason()));
    all.insert("cause".into(), json!(shared.life.cause()));
    all.insert("epoch".into(), json!(journal.epoch()));
    all.insert("sequence".into(), json!(journal.appended_sequence()));
    all.insert("durable_sequence".into(), json!(shared.waiters.durable()));
    all.insert("waiting_answer_count".into(), json!(shared.waiters.len()));
    all.insert(
        "open_call_count".into(),
        json!(shared.turnstile.open_count()),
    );
    all.insert("watch_count".into(), json!(shared.watches.len()));
    all.insert("journal_free_bytes".into(), json!(journal.free_bytes()));
    all.insert("journal".into(), history(shared));
    all.insert("is_space_low".into(), json!(journal.is_space_low()));
    let snapshot = shared.keeper_signal.snapshot_sequence();
    all.insert("snapshot_sequence".into(), json!(snapshot));
    all.insert("admission".into(), admission(shared));
    all.insert("waiting".into(), shared.waiting.json());
    let recorder = shared.turnstile.recorder();
    let arrivals = recorder.map(crate::recorder::Recorder::json);
    all.insert("arrivals".into(), json!(arrivals));
    all.insert("ledger".into(), ledger(shared));
    Value::Object(all).to_string()
}

/// How much history there is, and who still needs it.
fn history(shared: &Shared) -> Value {
    let journal = &shared.journal;
    let durable = shared.waiters.durable();
    let mut readers = Map::new();
    for (name, reader) in shared.readers.all() {
        let row = json!({
            "sequence": reader.sequence,
            "behind_count": (durable - reader.sequence).max(0),
            "seen_ms": reader.seen_at,
        });
        readers.insert(name, row);
    }
    json!({
        "segment_count": journal.segment_count(),
        "bytes": journal.total_bytes(),
        "bytes_max": shared.settings.history_bytes_max,
        "first_sequence": journal.reader().first_sequence().ok(),
        "readers": readers,
    })
}

fn ledger(shared: &Shared) -> Value {
    let Ok(mut core) = shared.lock(crate::lane_lock::Urgency::Background) else {
        return Value::Null;
    };
    let sizes = core.ledger.sizes();
    let memory_bytes = core.ledger.memory_bytes();
    let (time, op_number) = (core.clock.now(), core.op_number());
    let (oldest_overdue, brake) = (core.ledger.oldest_overdue(), core.ledger.brake(time));
    let sales = core.ledger.units_by_sale();
    drop(core);
    let age_of = |(lag, noted_at): (i64, i64)| json!({"millis": lag, "time_ms": noted_at});
    let units = sales.iter().map(|sale| {
        let counters = &sale.counters;
        let row = json!({
            "available": counters.available,
            "buffer": counters.buffer,
            "held": counters.held,
            "paying": counters.paying,
            "overdue": counters.overdue,
            "sold": counters.sold,
            "quarantine": counters.quarantine,
        });
        (sale.sale_id.to_string(), row)
    });
    json!({
        "oldest_overdue_time_ms": oldest_overdue,
        "brake": {
            "is_on_by_operator": brake.is_on_by_operator,
            "is_on_by_lag": brake.is_on_by_lag,
            "last_lag": brake.last_lag.map(age_of),
        },
        "units": units.collect::<Map<String, Value>>(),
        "time_ms": time,
        "op_number": op_number,
        "memory_bytes": memory_bytes,
        "memory_bytes_max": shared.settings.ledger_bytes_max,
        "sale_count": sizes.sale_count,
        "pool_count": sizes.pool_count,
        "reservation_count": sizes.reservation_count,
        "live_reservation_count": sizes.live_reservation_count,
        "person_count": sizes.person_count,
        "attempt_count": sizes.attempt_count,
        "request_count": sizes.request_count,
    })
}

fn admission(shared: &Shared) -> Value {
    let stats = shared.turnstile.stats(CALLER_COUNT_MAX);
    let shadow = shared.turnstile.shadow_counts();
    admission_json(&stats, &json!(shadow.map(shadow_json)))
}

fn shadow_json(counts: ShadowCounts) -> Value {
    json!({
        "both_admitted_count": counts.both_admitted,
        "only_live_admitted_count": counts.only_live_admitted,
        "only_shadow_admitted_count": counts.only_shadow_admitted,
        "both_refused_count": counts.both_refused,
    })
}

fn admission_json(stats: &Stats, shadow: &Value) -> Value {
    let mut lanes = Map::new();
    for (lane, stats) in &stats.lanes {
        let lane_json = json!({
            "admitted_count": stats.admitted_count,
            "overdrawn_count": stats.overdrawn_count,
            "refused_in_flight_count": stats.refused_in_flight_count,
            "refused_lane_rate_count": stats.refused_lane_rate_count,
            "refused_caller_rate_count": stats.refused_caller_rate_count,
            "refused_sale_rate_count": stats.refused_sale_rate_count,
            "refused_sku_rate_count": stats.refused_sku_rate_count,
            "refused_window_count": stats.refused_window_count,
            "refused_never_count": stats.refused_never_count,
            "charged_tokens": tokens(i64::try_from(stats.charged).unwrap_or(i64::MAX)),
            "in_flight": stats.in_flight,
            "in_flight_peak": stats.in_flight_peak,
            "tokens": stats.tokens.map(tokens),
        });
        lanes.insert(lane.name().to_owned(), lane_json);
    }
    let mut callers = Map::new();
    for (name, stats) in &stats.callers {
        callers.insert(name.to_string(), caller(stats));
    }
    json!({
        "lanes": lanes,
        "callers": callers,
        "caller_count": stats.caller_count,
        "sale_count": stats.sale_count,
        "sku_count": stats.sku_count,
        "hopeless_count": stats.hopeless_count,
        "hopeless_in_flight": stats.hopeless_in_flight,
        "window": stats.window.map(window),
        "shadow": shadow,
        "overflow": caller(&stats.overflow),
        "forgotten": caller(&stats.forgotten),
    })
}

fn window(stats: WindowStats) -> Value {
    json!({
        "limit": stats.limit,
        "outstanding": stats.outstanding,
        "drain_per_second": stats.drain / 1_000,
        "written_off_count": stats.written_off,
        "is_report_stale": stats.is_stale,
    })
}

fn caller(stats: &CallerStats) -> Value {
    json!({"admitted_count": stats.admitted_count, "refused_count": stats.refused_count})
}

/// Tokens for people to read; the ledger of tokens itself stays in whole numbers.
#[expect(clippy::cast_precision_loss, reason = "shown, never reckoned with")]
fn tokens(micros: i64) -> f64 {
    micros as f64 / TOKEN as f64
}
