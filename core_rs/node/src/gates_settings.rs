//! What the gates are judged by if the admission policy does not say: read from JSON and checked.
//!
//! Owns: names, defaults and ranges. Must not: judge. Where next: `gates.rs`.

use lastunit_admission::{GATE_SPAN_MAX, GatePolicy, GateRules, Nanos};
use serde::Deserialize;

use crate::settings::SettingsError;

const MILLISECOND: Nanos = 1_000_000;
/// The longest span that can be set.
const SPAN_MS_MAX: u64 = GATE_SPAN_MAX / MILLISECOND;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Text {
    queue_at: u32,
    close_at: u32,
    reopen_at: u32,
    dwell_ms: u64,
    settled_per_second_milli: u64,
    pay_p99_ms: u64,
    margin_ms: u64,
}

impl Default for Text {
    fn default() -> Self {
        let policy = GatePolicy::default();
        Self {
            queue_at: policy.queue_at,
            close_at: policy.close_at,
            reopen_at: policy.reopen_at,
            dwell_ms: policy.dwell / MILLISECOND,
            settled_per_second_milli: 0,
            pay_p99_ms: 0,
            margin_ms: 0,
        }
    }
}

/// Reads the server's settings; an unknown key is an error, a missing one has its default.
pub(crate) fn from_json(text: &str) -> Result<GateRules, SettingsError> {
    let text: Text = serde_json::from_str(text)
        .map_err(|error| SettingsError::new("gate", error.to_string()))?;
    let span = |name: &str, millis: u64| {
        if millis <= SPAN_MS_MAX {
            return Ok(millis * MILLISECOND);
        }
        let expected = format!("is {millis}, must be up to {SPAN_MS_MAX} ms");
        Err(SettingsError::new(&format!("gate.{name}"), expected))
    };
    let rules = GateRules {
        policy: GatePolicy {
            queue_at: text.queue_at,
            close_at: text.close_at,
            reopen_at: text.reopen_at,
            dwell: span("dwell_ms", text.dwell_ms)?,
        },
        settled_rate: text.settled_per_second_milli,
        pay_p99: span("pay_p99_ms", text.pay_p99_ms)?,
        margin: span("margin_ms", text.margin_ms)?,
    };
    rules
        .check()
        .map_err(|error| SettingsError::new("gate", error.to_string()))?;
    Ok(rules)
}
