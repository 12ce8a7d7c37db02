//! The admission part of the settings: decimals become whole numbers here, and nowhere later.
//!
//! Owns: the JSON form of a policy. Must not: decide. Where next: `lastunit-admission`.

use std::collections::BTreeMap;

use lastunit_admission::{BucketPolicy, DoorPolicy, Lane, LanePolicy, Operation, Policy};
use serde::Deserialize;

use crate::settings::SettingsError;

/// Version of the form that this program reads.
const VERSION: u64 = 1;

/// Name among the callers for all that are not named.
const CALLER_DEFAULT: &str = "default";

/// Name among the costs for what each line of a Reserve adds.
const COST_PER_LINE: &str = "per_line";

/// Milli-tokens, micro-tokens: how fine rates and amounts are kept.
const RATE_PARTS: f64 = 1_000.0;
const TOKEN_PARTS: f64 = 1_000_000.0;

/// Above this a decimal in JSON no longer means one whole number.
const DECIMAL_MAX: f64 = 1e15;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdmissionSettings {
    version: Option<u64>,
    lanes: BTreeMap<String, LaneText>,
    callers: BTreeMap<String, BucketText>,
    callers_max: Option<u32>,
    costs: BTreeMap<String, f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LaneText {
    rate_per_second: Option<f64>,
    burst: Option<f64>,
    calls_in_flight_max: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BucketText {
    rate_per_second: Option<f64>,
    burst: Option<f64>,
}

impl AdmissionSettings {
    pub(crate) fn into_policy(self) -> Result<DoorPolicy, SettingsError> {
        self.into_limits().map(|limits| DoorPolicy {
            limits,
            ..DoorPolicy::default()
        })
    }

    fn into_limits(self) -> Result<Policy, SettingsError> {
        if self.version.is_some_and(|version| version != VERSION) {
            let expected = format!("this program reads version {VERSION}");
            return Err(SettingsError::new("admission.version", expected));
        }
        let mut policy = Policy::default();
        for (name, text) in &self.lanes {
            let setting = format!("admission.lanes.{name}");
            let lane = Lane::ALL.into_iter().find(|lane| lane.name() == name);
            let expected = "unknown lane: control, settlement, reservation or read";
            let lane = lane.ok_or_else(|| SettingsError::new(&setting, expected))?;
            let bucket = bucket(&setting, text.rate_per_second, text.burst)?;
            let calls_in_flight_max = policy.lane(lane).calls_in_flight_max;
            *policy.lane_mut(lane) = LanePolicy {
                bucket,
                calls_in_flight_max: text.calls_in_flight_max.unwrap_or(calls_in_flight_max),
                queue: None,
            };
        }
        for (name, text) in self.callers {
            let setting = format!("admission.callers.{name}");
            let bucket = bucket(&setting, text.rate_per_second, text.burst)?;
            if name == CALLER_DEFAULT {
                policy.caller = bucket;
            } else {
                policy.callers.insert(name.into_boxed_str(), bucket);
            }
        }
        policy.callers_max = self.callers_max.unwrap_or(policy.callers_max);
        for (name, cost) in self.costs {
            set_cost(&mut policy, &name, cost)?;
        }
        policy
            .check()
            .map_err(|error| SettingsError::new("admission", error.to_string()))?;
        Ok(policy)
    }
}

fn set_cost(policy: &mut Policy, name: &str, cost: f64) -> Result<(), SettingsError> {
    let setting = format!("admission.costs.{name}");
    let cost = parts(&setting, cost, TOKEN_PARTS)?;
    if name == COST_PER_LINE {
        policy.costs.per_line = cost;
        return Ok(());
    }
    let operation = Operation::ALL.iter().find(|it| it.name() == name);
    let expected = "unknown operation: a method of StockService, Admin or per_line";
    let operation = operation.ok_or_else(|| SettingsError::new(&setting, expected))?;
    policy.costs.operations.insert(*operation, cost);
    Ok(())
}

fn bucket(
    setting: &str,
    rate: Option<f64>,
    burst: Option<f64>,
) -> Result<Option<BucketPolicy>, SettingsError> {
    match (rate, burst) {
        (None, None) => Ok(None),
        (Some(rate), Some(burst)) => Ok(Some(BucketPolicy {
            rate: parts(setting, rate, RATE_PARTS)?.unsigned_abs(),
            burst: parts(setting, burst, TOKEN_PARTS)?,
        })),
        _ => Err(SettingsError::new(
            setting,
            "rate_per_second and burst are set together or not at all",
        )),
    }
}

fn parts(setting: &str, value: f64, parts: f64) -> Result<i64, SettingsError> {
    let value = (value * parts).round();
    if !(0.0..=DECIMAL_MAX).contains(&value) {
        return Err(SettingsError::new(setting, "must be a number of 0 or more"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and below 2^53, checked in the line above"
    )]
    Ok(value as i64)
}
