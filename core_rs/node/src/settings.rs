//! What an operator sets for a node, read from JSON and checked.
//!
//! Owns: names, defaults and ranges of the settings. Must not: read a file or the environment; the
//! server does, and hands over one JSON text. Where next: `settings_admission.rs`, `open.rs`.

use std::path::PathBuf;

use lastunit_admission::DoorPolicy;
use lastunit_engine::Millis;
use lastunit_journal::limits::{
    RESERVE_BYTES_DEFAULT, RESERVE_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
};
use serde::Deserialize;

use crate::clock::ClockKind;
use crate::recorder::ArrivalSettings;
use crate::revisions::PolicyOrigin;
use crate::settings_admission::AdmissionSettings;

/// Smallest segment an operator may set: a thousand ordinary records.
pub const SEGMENT_BYTES_MIN: u32 = 256 * 1024;

/// How long events and silent readers are kept unless told otherwise: longer than any payment
/// provider repeats its news.
const WEEK_SECONDS: u64 = 604_800;
const HISTORY_SECONDS_DEFAULT: i64 = 604_800;

/// Longer than any ledger lives; keeps sums of milliseconds far from overflow.
const CENTURY_SECONDS: u64 = 3_153_600_000;

/// What a reply's durable sequence has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityKind {
    /// The disk has it: survives the loss of power.
    Flushed,
    /// The operating system has it: survives the end of the process.
    Written,
    /// Nothing has it but this process: for rehearsals and tests.
    Memory,
}

/// A policy that a node is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// The TOML text.
    pub document: String,
    /// A file is put as a revision where it is new; what the program brings along holds until then.
    pub origin: PolicyOrigin,
}

/// Settings of a node, in range.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// Where the journal is; not looked at with [`DurabilityKind::Memory`].
    pub data_directory: PathBuf,
    /// How far a reply waits for the disk.
    pub durability: DurabilityKind,
    /// Where ledger time comes from.
    pub clock: ClockKind,
    /// First ledger time of an empty journal with a manual clock.
    pub manual_start: Millis,
    /// Size of one journal segment, [`SEGMENT_BYTES_MIN`] to 1 GiB.
    pub segment_bytes: u32,
    /// Room on the disk that only settlement may use, 0 to 1 GiB.
    pub kept_back_bytes: u64,
    /// Events between two snapshots, 1,000 to 100,000,000.
    pub snapshot_events: i64,
    /// Seconds for which events are kept whatever else holds, 0 to 3,153,600,000.
    pub history_seconds_min: i64,
    /// Bytes of journal above which the oldest events go, whoever still wants to read them; 1 MiB
    /// to 1 PiB. What recovery needs stays.
    pub history_bytes_max: u64,
    /// Seconds after which a named reader that was not seen holds nothing back any more, 1 to
    /// 3,153,600,000.
    pub reader_seconds_max: i64,
    /// Bytes of memory that the ledger may hold; above it nothing new is reserved. 0 chooses
    /// two fifths of the machine's.
    pub ledger_bytes_max: u64,
    /// Due commands decided under one lock hold, 1 to 4,096.
    pub timer_step_limit: usize,
    /// How often the system clock is looked at, 5 to 10,000 ms.
    pub timer_interval_ms: u64,
    /// Operations of a batch decided under one lock hold, 1 to 4,096.
    pub batch_chunk_operations: usize,
    /// How long changes are gathered for a watch, 1 to 10,000 ms.
    pub watch_interval_ms: u64,
    /// Who may come in while no document says so.
    pub admission: DoorPolicy,
    /// The policy as a document.
    pub policy: Option<PolicyText>,
    /// Where arrivals are kept for a replay; None: they are not.
    pub arrivals: Option<ArrivalSettings>,
}

/// Settings that cannot be used: which one, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {expected}")]
pub struct SettingsError {
    /// Name, with dots between the levels; empty if the text is not JSON.
    pub setting: String,
    /// What must hold.
    pub expected: String,
}

impl SettingsError {
    pub(crate) fn new(setting: &str, expected: impl Into<String>) -> Self {
        Self {
            setting: setting.to_owned(),
            expected: expected.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    data_directory: PathBuf,
    #[serde(default = "durability_default")]
    durability: DurabilityKind,
    #[serde(default)]
    clock: ClockText,
    #[serde(default)]
    manual_start_ms: Millis,
    #[serde(default)]
    journal: JournalText,
    #[serde(default)]
    memory: MemoryText,
    #[serde(default = "timer_step_default")]
    timer_step_limit: u64,
    #[serde(default = "timer_interval_default")]
    timer_interval_ms: u64,
    #[serde(default = "batch_chunk_default")]
    batch_chunk_operations: u64,
    #[serde(default = "watch_interval_default")]
    watch_interval_ms: u64,
    #[serde(default)]
    admission: AdmissionSettings,
    policy: Option<PolicyText>,
    arrivals: Option<ArrivalSettings>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum ClockText {
    #[default]
    System,
    Manual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JournalText {
    segment_bytes: u64,
    kept_back_bytes: u64,
    snapshot_events: u64,
    history_seconds_min: u64,
    history_bytes_max: u64,
    reader_seconds_max: u64,
}

impl Default for JournalText {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT.into(),
            kept_back_bytes: RESERVE_BYTES_DEFAULT,
            snapshot_events: 200_000,
            history_seconds_min: WEEK_SECONDS,
            history_bytes_max: 16 << 30,
            reader_seconds_max: WEEK_SECONDS,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct MemoryText {
    ledger_bytes_max: u64,
}

fn durability_default() -> DurabilityKind {
    DurabilityKind::Flushed
}

/// Two fifths of the machine's memory. While a snapshot is written, each part that changes is kept
/// twice, so that the ledger may hold four fifths for that time at worst.
fn ledger_bytes_default() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(
        clippy::useless_conversion,
        reason = "the type differs between machines"
    )]
    let total = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit.max(1)));
    total / 5 * 2
}

fn timer_step_default() -> u64 {
    256
}

fn timer_interval_default() -> u64 {
    50
}

fn batch_chunk_default() -> u64 {
    64
}

fn watch_interval_default() -> u64 {
    20
}

impl NodeSettings {
    /// Settings with every default, for a directory.
    #[must_use]
    pub fn new(data_directory: PathBuf) -> Self {
        let journal = JournalText::default();
        Self {
            data_directory,
            durability: durability_default(),
            clock: ClockKind::System,
            manual_start: 0,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            kept_back_bytes: journal.kept_back_bytes,
            snapshot_events: 200_000,
            history_seconds_min: HISTORY_SECONDS_DEFAULT,
            history_bytes_max: journal.history_bytes_max,
            reader_seconds_max: HISTORY_SECONDS_DEFAULT,
            ledger_bytes_max: ledger_bytes_default(),
            timer_step_limit: 256,
            timer_interval_ms: timer_interval_default(),
            batch_chunk_operations: 64,
            watch_interval_ms: watch_interval_default(),
            admission: DoorPolicy::default(),
            policy: None,
            arrivals: None,
        }
    }

    /// Reads settings from JSON; an unknown key is an error, a missing one has its default.
    ///
    /// # Errors
    /// The first setting that is unknown, of another type or out of its range.
    pub fn from_json(text: &str) -> Result<Self, SettingsError> {
        let text: Text = serde_json::from_str(text)
            .map_err(|error| SettingsError::new("settings", error.to_string()))?;
        let clock = match text.clock {
            ClockText::System => ClockKind::System,
            ClockText::Manual => ClockKind::Manual,
        };
        if text.manual_start_ms < 0 {
            return Err(SettingsError::new("manual_start_ms", "must be 0 or more"));
        }
        let journal = &text.journal;
        Ok(Self {
            data_directory: text.data_directory,
            durability: text.durability,
            clock,
            manual_start: text.manual_start_ms,
            segment_bytes: within(
                "journal.segment_bytes",
                journal.segment_bytes,
                SEGMENT_BYTES_MIN.into(),
                SEGMENT_BYTES_MAX.into(),
            )?,
            kept_back_bytes: within(
                "journal.kept_back_bytes",
                journal.kept_back_bytes,
                0,
                RESERVE_BYTES_MAX,
            )?,
            snapshot_events: within(
                "journal.snapshot_events",
                journal.snapshot_events,
                1_000,
                100_000_000,
            )?,
            history_seconds_min: within(
                "journal.history_seconds_min",
                journal.history_seconds_min,
                0,
                CENTURY_SECONDS,
            )?,
            history_bytes_max: within(
                "journal.history_bytes_max",
                journal.history_bytes_max,
                1 << 20,
                1 << 50,
            )?,
            reader_seconds_max: within(
                "journal.reader_seconds_max",
                journal.reader_seconds_max,
                1,
                CENTURY_SECONDS,
            )?,
            ledger_bytes_max: match text.memory.ledger_bytes_max {
                0 => ledger_bytes_default(),
                bytes => within("memory.ledger_bytes_max", bytes, 1 << 20, 1 << 50)?,
            },
            timer_step_limit: within("timer_step_limit", text.timer_step_limit, 1, 4_096)?,
            timer_interval_ms: within("timer_interval_ms", text.timer_interval_ms, 5, 10_000)?,
            batch_chunk_operations: within(
                "batch_chunk_operations",
                text.batch_chunk_operations,
                1,
                4_096,
            )?,
            watch_interval_ms: within("watch_interval_ms", text.watch_interval_ms, 1, 10_000)?,
            admission: text.admission.into_policy()?,
            policy: text.policy,
            arrivals: text.arrivals.map(checked).transpose()?,
        })
    }
}

fn checked(arrivals: ArrivalSettings) -> Result<ArrivalSettings, SettingsError> {
    let bytes_max = arrivals.bytes_max;
    within::<u64>("arrivals.bytes_max", bytes_max, 1 << 20, 1 << 40)?;
    Ok(arrivals)
}

fn within<T: TryFrom<u64>>(
    setting: &str,
    value: u64,
    low: u64,
    high: u64,
) -> Result<T, SettingsError> {
    let error = || SettingsError::new(setting, format!("is {value}, must be {low} to {high}"));
    if !(low..=high).contains(&value) {
        return Err(error());
    }
    T::try_from(value).map_err(|_| error())
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
