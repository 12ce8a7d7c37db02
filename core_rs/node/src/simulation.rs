//! A recording replayed against another policy, for whoever has only text and bytes.
//!
//! Owns: the JSON form of the options and of the result. Must not: decide, or read a file. Where
//! next: `simulation.rs` of `lastunit-arrivals`.

use lastunit_admission::{Lane, Limit};
use lastunit_arrivals::{CallerRow, Forecast, LaneRow, Options, Simulation, Tally};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Callers that are listed by name.
const CALLER_COUNT_MAX: usize = 1_000;
/// Longest service time that may be given, in milliseconds: an hour.
const SERVICE_MAX: f64 = 3_600_000.0;
/// Highest pace of the order database that may be given: the highest rate of a bucket.
const PACE_MAX: f64 = 1_000_000.0;

/// A replay that cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The policy is wrong; every mistake with its line.
    #[error("the policy is wrong: {}", .0.join("; "))]
    Policy(Vec<String>),
    /// An option is wrong.
    #[error("{0}")]
    Options(String),
}

/// What a caller may set; everything else is as recorded.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Text {
    service_ms: Option<f64>,
    persisted_per_second: Option<f64>,
}

/// One replay.
pub struct ArrivalReplay {
    simulation: Simulation,
}

impl ArrivalReplay {
    /// Starts with a policy document and options as JSON: `service_ms` (of every lane) and
    /// `persisted_per_second`, both optional.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn new(document: &str, options: &str) -> Result<Self, ReplayError> {
        let policy = lastunit_policy::read(document).map_err(|problems| {
            ReplayError::Policy(problems.iter().map(ToString::to_string).collect())
        })?;
        let text: Text = serde_json::from_str(options)
            .map_err(|error| ReplayError::Options(format!("the options are wrong: {error}")))?;
        let service = text
            .service_ms
            .map(|it| whole("service_ms", it, 0.0..=SERVICE_MAX, 1e6));
        let pace = text
            .persisted_per_second
            .map(|it| whole("persisted_per_second", it, 0.001..=PACE_MAX, 1e3));
        let options = Options {
            service: [service.transpose()?; Lane::ALL.len()],
            persisted_per_second: pace.transpose()?,
        };
        Ok(Self {
            simulation: Simulation::new(policy, options),
        })
    }

    /// Takes the bytes of the next file, oldest first.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.simulation.feed(bytes);
    }

    /// Ends the replay; gives JSON, drawn in the README of `lastunit-arrivals`.
    #[must_use]
    pub fn finish(self) -> String {
        to_json(&self.simulation.finish(CALLER_COUNT_MAX)).to_string()
    }
}

fn whole(
    name: &str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    parts: f64,
) -> Result<u64, ReplayError> {
    if !range.contains(&value) {
        let (low, high) = range.into_inner();
        let message = format!("{name} is {value}, must be {low} to {high}");
        return Err(ReplayError::Options(message));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 or more and below 2^53, checked in the lines above"
    )]
    Ok((value * parts).round() as u64)
}

fn to_json(forecast: &Forecast) -> Value {
    let lanes = forecast.lanes.iter();
    let lanes: Map<_, _> = lanes
        .map(|row| (row.lane.name().to_owned(), lane(row)))
        .collect();
    json!({
        "lanes": lanes,
        "callers": forecast.callers.iter().map(caller).collect::<Vec<_>>(),
        "caller_count": forecast.caller_count,
        "run_count": forecast.run_count,
        "span_seconds": std::time::Duration::from_nanos(forecast.span).as_secs_f64(),
        "first_time_us": forecast.first_micros,
        "block_count": forecast.block_count,
        "report_count": forecast.report_count,
        "dropped_count": forecast.dropped_count,
        "damaged_bytes": forecast.damaged_bytes,
        "unfinished_bytes": forecast.unfinished_bytes,
        "unknown_version": forecast.unknown_version,
    })
}

fn lane(row: &LaneRow) -> Value {
    json!({
        "live": tally(&row.live),
        "forecast": tally(&row.forecast),
        "in_flight_peak": row.in_flight_peak,
        "newly_refused_count": row.newly_refused,
        "newly_served_count": row.newly_served,
    })
}

fn caller(row: &CallerRow) -> Value {
    json!({
        "caller": row.name,
        "live": tally(&row.live),
        "forecast": tally(&row.forecast),
    })
}

fn tally(tally: &Tally) -> Value {
    let limits = Limit::ALL.iter().zip(tally.refused);
    let refused = limits.filter(|(_, count)| *count > 0);
    let refused: Map<_, _> = refused
        .map(|(limit, count)| (limit.reason().to_owned(), json!(count)))
        .collect();
    json!({
        "offered_count": tally.offered(),
        "served_count": tally.served,
        "granted_count": tally.granted,
        "hopeless_count": tally.hopeless,
        "refused_count": tally.refused_count(),
        "refused": refused,
        "waited_count": tally.waited,
        "wait_ms_mean": mean_ms(tally),
        "wait_ms_max": std::time::Duration::from_nanos(tally.wait_max).as_secs_f64() * 1e3,
    })
}

/// How long those who waited did so on average; 0 if nobody did.
fn mean_ms(tally: &Tally) -> f64 {
    let mean = tally.wait_total.checked_div(tally.waited).unwrap_or(0);
    std::time::Duration::from_nanos(mean).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str, options: &str) -> String {
        let replay = ArrivalReplay::new(document, options);
        replay.err().map_or(String::new(), |it| it.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_policy_or_an_option_is_told() {
        assert!(refused("version = 1\n[lanes.fast]", "{}").contains("line 2: lanes.fast"));
        for (options, words) in [
            ("{\"speed\":1}", "unknown field"),
            ("{\"service_ms\":-1}", "service_ms is -1, must be 0 to"),
            ("{\"persisted_per_second\":0}", "must be 0.001 to"),
        ] {
            let told = refused("version = 1", options);
            assert!(told.contains(words), "{told}");
        }
        assert_eq!("", refused("version = 1", "{\"service_ms\":0.5}"));
    }
}
