//! What the gates are judged by, read from JSON and checked.
//!
//! Owns: names, defaults and ranges. Must not: judge. Where next: `gates.rs`.

use lastunit_admission::{GatePolicy, Nanos, queue_count_max};
use serde::Deserialize;

use crate::settings::SettingsError;

const MILLISECOND: Nanos = 1_000_000;
/// The longest span that can be set, a day.
const SPAN_MS_MAX: u64 = 86_400_000;
/// The highest rate that can be set: a million a second, in thousandths.
const RATE_MAX: u64 = 1_000_000_000;

/// Settings of all gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GateSettings {
    pub(crate) policy: GatePolicy,
    /// Reservations that can be paid in a second, in thousandths; 0 leaves the queue without a
    /// bound.
    settled_rate: u64,
    /// How long a payment takes from its begin to its news, of all but one in a hundred.
    pay_p99: Nanos,
    /// What is left over at the end of a reservation's life.
    margin: Nanos,
}

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

impl GateSettings {
    /// Reads settings; an unknown key is an error, a missing one has its default.
    pub(crate) fn from_json(text: &str) -> Result<Self, SettingsError> {
        let text: Text = serde_json::from_str(text)
            .map_err(|error| SettingsError::new("gate", error.to_string()))?;
        let span = |name: &str, millis: u64| {
            if millis <= SPAN_MS_MAX {
                return Ok(millis * MILLISECOND);
            }
            let expected = format!("is {millis}, must be up to {SPAN_MS_MAX} ms");
            Err(SettingsError::new(&format!("gate.{name}"), expected))
        };
        let policy = GatePolicy {
            queue_at: text.queue_at,
            close_at: text.close_at,
            reopen_at: text.reopen_at,
            dwell: span("dwell_ms", text.dwell_ms)?,
        };
        policy
            .check()
            .map_err(|error| SettingsError::new("gate", error.to_string()))?;
        if text.settled_per_second_milli > RATE_MAX {
            let expected = format!("must be up to {RATE_MAX} thousandths a second");
            return Err(SettingsError::new(
                "gate.settled_per_second_milli",
                expected,
            ));
        }
        Ok(Self {
            policy,
            settled_rate: text.settled_per_second_milli,
            pay_p99: span("pay_p99_ms", text.pay_p99_ms)?,
            margin: span("margin_ms", text.margin_ms)?,
        })
    }

    /// Most reservations that may wait to be paid, 0 for no bound. At least one, so that a life too
    /// short for any payment closes the gate instead of opening it for good.
    pub(crate) fn queue_count_max(&self, ttl: Nanos) -> u64 {
        match self.settled_rate {
            0 => 0,
            rate => queue_count_max(rate, ttl, self.pay_p99, self.margin).max(1),
        }
    }

    /// The rate at which the queue is known to drain before it was measured, in thousandths.
    pub(crate) fn settled_rate(&self) -> u64 {
        self.settled_rate
    }
}
