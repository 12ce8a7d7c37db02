//! Opening: recover the journal, rebuild the ledger, check it, credit the outage, start the
//! threads.
//!
//! Owns: the order of these steps, and what stops them. Must not: serve a call. Where next:
//! `node.rs`.

use std::sync::Arc;
use std::time::Instant;

use lastunit_engine::limits::SPAN_MAX;
use lastunit_engine::{Action, Command, Ledger, Millis};
use lastunit_journal::{Journal, JournalError, JournalOptions, Recovered, Storage};

use crate::clock::{ClockKind, LedgerClock, system_now};
use crate::core::Core;
use crate::epochs::Epochs;
use crate::failpoints::{self, Failpoint};
use crate::policies::Policies;
use crate::readers::Readers;
use crate::settings::{NodeSettings, SettingsError};
use crate::snapshots::split_snapshot;

/// A node that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is not usable.
    #[error("{0}: correct the setting and start again")]
    Settings(#[from] SettingsError),
    /// The journal cannot be opened.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The journal is whole, but what it says is not a ledger.
    #[error(
        "the journal cannot be replayed at sequence {sequence}: {problem}; keep the directory as \
         it is and start the program that wrote it"
    )]
    Replay {
        /// Where the replay stopped.
        sequence: i64,
        /// What is wrong.
        problem: String,
    },
    /// The ledger was rebuilt and breaks an invariant.
    #[error(
        "the recovered ledger breaks {count} invariants, first {first}: keep the directory as it \
         is, run the audit on a copy and find the first event after which it fails"
    )]
    Audit {
        /// How many findings.
        count: usize,
        /// The first.
        first: String,
    },
    /// A state was asked for that the journal has not reached.
    #[error("sequence {as_of} lies behind the journal's end at {last_sequence}: ask for that one")]
    NotReached {
        /// What was asked for.
        as_of: i64,
        /// The last event.
        last_sequence: i64,
    },
    /// A kept revision of the admission policy cannot be used.
    #[error(
        "the policy's {file} cannot be read ({problem}): restore it from a copy, or move it away; \
         the revision is lost then, the ledger does not need it"
    )]
    Policy {
        /// Which file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The system refused a thread.
    #[error("cannot start a thread: {0}; free memory or raise the limit of processes")]
    Thread(std::io::Error),
}

impl OpenError {
    /// Stable name of the kind of failure.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings(_) => "SETTINGS_INVALID",
            Self::Journal(JournalError::Owned { .. }) => "DIRECTORY_IN_USE",
            Self::Journal(
                JournalError::Damaged { .. } | JournalError::UnsupportedVersion { .. },
            )
            | Self::Replay { .. } => "JOURNAL_CORRUPT",
            Self::Journal(JournalError::Removed { .. }) => "EVENTS_REMOVED",
            Self::NotReached { .. } => "SEQUENCE_NOT_REACHED",
            Self::Journal(_) => "JOURNAL_FAILED",
            Self::Policy { .. } => "POLICY_DAMAGED",
            Self::Audit { .. } => "AUDIT_FAILED",
            Self::Thread(_) => "SYSTEM_LIMIT",
        }
    }
}

/// A ledger as the journal tells it.
pub(crate) struct Rebuilt {
    pub(crate) ledger: Ledger,
    /// Where each opening began, as far as the journal knows.
    pub(crate) epochs: Epochs,
    /// The latest ledger time that anything in the journal knows; None if it is empty.
    pub(crate) last_time: Option<Millis>,
    /// Who reads its events, as of the snapshot.
    pub(crate) readers: Readers,
    /// Sequence of the snapshot it started from, 0 without one.
    pub(crate) snapshot_sequence: i64,
    /// Time of that snapshot, 0 without one.
    pub(crate) snapshot_time: Millis,
    pub(crate) replayed_events: u64,
}

/// What opening leaves for the node to start with.
pub(crate) struct Opened {
    pub(crate) core: Core,
    pub(crate) journal: Arc<Journal>,
    pub(crate) readers: Readers,
    pub(crate) policies: Policies,
    pub(crate) snapshot_sequence: i64,
    pub(crate) snapshot_time: Millis,
    pub(crate) replayed_events: u64,
    pub(crate) start: Instant,
}

/// What an opening draws at random unless it is given, so that a seed always gives the same bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Identity of the journal, if this opening creates it.
    pub(crate) journal_id: u128,
    /// How far the opening raises the epoch; 1 or more.
    pub(crate) epoch_step: u16,
}

/// Recovers, rebuilds, audits, and decides the first two commands of this opening.
pub(crate) fn open(
    settings: &NodeSettings,
    storage: Arc<dyn Storage>,
    identity: Option<Identity>,
) -> Result<Opened, OpenError> {
    let start = Instant::now();
    let options_time = start_time(settings);
    let options = JournalOptions {
        segment_bytes: settings.segment_bytes,
        reserve_bytes: settings.kept_back_bytes,
        time_ms: options_time,
        journal_id: identity.map(|it| it.journal_id),
        epoch_step: identity.map(|it| it.epoch_step),
    };
    let (journal, recovered) = Journal::open(Arc::clone(&storage), options)?;
    let journal = Arc::new(journal);
    let rebuilt = rebuild(recovered)?;
    check(&rebuilt.ledger)?;
    failpoints::visit(Failpoint::DuringOpening);
    // The opening itself is recorded with its time: nothing may be decided before that.
    let first = options_time.max(rebuilt.last_time.unwrap_or(options_time));
    let mut clock = LedgerClock::new(settings.clock, first, interval(settings));
    let outage = outage(settings.clock, rebuilt.last_time, clock.now());
    let mut core = Core::new(
        rebuilt.ledger,
        clock,
        rebuilt.epochs,
        Arc::clone(&journal),
        settings.ledger_bytes_max,
    );
    begin(&mut core, journal.epoch(), outage)?;
    let batch = journal.take_batch();
    if let Some(batch) = batch {
        journal.write_and_sync(batch)?;
    }
    let (text, now) = (settings.policy.as_ref(), core.clock.now());
    let sequence = core.ledger.sequence();
    let policies = Policies::open(storage, &settings.admission, text, now, sequence)?;
    Ok(Opened {
        policies,
        core,
        journal,
        readers: rebuilt.readers,
        snapshot_sequence: rebuilt.snapshot_sequence,
        snapshot_time: rebuilt.snapshot_time,
        replayed_events: rebuilt.replayed_events,
        start,
    })
}

fn start_time(settings: &NodeSettings) -> Millis {
    match settings.clock {
        ClockKind::System => system_now(),
        ClockKind::Manual => settings.manual_start,
    }
}

/// How long the timers leave the clock alone.
fn interval(settings: &NodeSettings) -> Millis {
    Millis::try_from(settings.timer_interval_ms).unwrap_or(Millis::MAX)
}

/// Time in which nobody could pay because the ledger was down: from the last sign of life in the
/// journal until now. A manual clock stands still while the ledger is down.
fn outage(kind: ClockKind, last: Option<Millis>, now: Millis) -> Millis {
    match (kind, last) {
        (ClockKind::System, Some(last)) => (now - last).clamp(0, SPAN_MAX),
        _ => 0,
    }
}

/// Credits the outage, then notes the opening. Both are journaled and durable before the first
/// call; in this order, because the opening is a sign of life: were it alone to survive a crash,
/// the outage before it would be forgotten. Both belong to this epoch.
fn begin(core: &mut Core, epoch: i64, outage: Millis) -> Result<(), OpenError> {
    core.epochs.note(epoch, core.ledger.sequence() + 1);
    if outage > 0 {
        note(core, Action::CreditOutage { outage })?;
    }
    note(core, Action::NoteNodeOpened { epoch })
}

fn note(core: &mut Core, action: Action) -> Result<(), OpenError> {
    let result = core.execute(&Command::internal(action));
    result.map(|_| ()).map_err(|fault| OpenError::Replay {
        sequence: core.ledger.sequence(),
        problem: fault.message,
    })
}

/// Rebuilds the ledger: the snapshot, then every record after it.
pub(crate) fn rebuild(recovered: Recovered) -> Result<Rebuilt, OpenError> {
    let mut last_time = (recovered.last_time_ms > i64::MIN).then_some(recovered.last_time_ms);
    let mut ledger = Ledger::new();
    let mut epochs = Epochs::default();
    let mut readers = Readers::default();
    let (mut snapshot_sequence, mut snapshot_time) = (0, 0);
    if let Some(snapshot) = recovered.snapshot {
        snapshot_sequence = snapshot.sequence;
        let replay = |problem: String| OpenError::Replay {
            sequence: snapshot.sequence,
            problem,
        };
        let parts = split_snapshot(&snapshot.bytes)
            .ok_or_else(|| replay("the snapshot has another form".to_owned()))?;
        epochs = parts.epochs;
        readers = parts.readers;
        // Audited once, when everything is replayed.
        ledger = Ledger::from_snapshot_unaudited(parts.state)
            .map_err(|error| replay(format!("the snapshot cannot be read ({error:?})")))?;
        last_time = last_time.max(Some(parts.time));
        snapshot_time = parts.time;
    }
    let first = ledger.sequence();
    for record in recovered.records {
        let record = record?;
        epochs.note(record.epoch, record.first_sequence);
        apply_record(&mut ledger, &record.body)?;
    }
    let replayed_events = (ledger.sequence() - first).unsigned_abs();
    if ledger.sequence() != recovered.last_sequence {
        return Err(OpenError::Replay {
            sequence: ledger.sequence(),
            problem: format!("the journal ends at {}", recovered.last_sequence),
        });
    }
    Ok(Rebuilt {
        ledger,
        epochs,
        last_time,
        readers,
        snapshot_sequence,
        snapshot_time,
        replayed_events,
    })
}

fn apply_record(ledger: &mut Ledger, body: &[u8]) -> Result<(), OpenError> {
    let replay = |sequence, problem| OpenError::Replay { sequence, problem };
    let events = lastunit_wire::decode_record(body)
        .map_err(|error| replay(ledger.sequence() + 1, error.to_string()))?;
    for event in events {
        // The first record after a snapshot may begin before it.
        if event.sequence <= ledger.sequence() {
            continue;
        }
        if event.sequence != ledger.sequence() + 1 {
            let problem = format!("an event claims sequence {}", event.sequence);
            return Err(replay(ledger.sequence() + 1, problem));
        }
        ledger.apply(&event);
    }
    Ok(())
}

/// A ledger that breaks an invariant is not served: it would sell wrong.
pub(crate) fn check(ledger: &Ledger) -> Result<(), OpenError> {
    let audit = ledger.audit();
    match audit.findings.first() {
        None => Ok(()),
        Some(first) => Err(OpenError::Audit {
            count: audit.findings.len(),
            first: format!("{} of {}: {}", first.invariant, first.subject, first.detail),
        }),
    }
}
