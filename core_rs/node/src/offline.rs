//! A journal that is looked at without a node: audits, questions, events, damage.
//!
//! Owns: the JSON of an audit and of a check. Must not: own the directory or write to it; a node
//! may have it open, and what was durable at that moment is shown. Where next: `open.rs`, whose
//! recovery is used here.

use std::path::Path;
use std::sync::Arc;

use lastunit_engine::{Audit, Counters, Sequence};
use lastunit_journal::{
    FileStorage, Follower, JournalError, Reader, Recovered, Storage, inspect, inspect_as_of,
};
use lastunit_wire::{Durability, Fault, Method, Place, Query, Request};
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::events::{READ_LIMIT_MAX, ReadError};
use crate::explain::{self, Life};
use crate::faults;
use crate::open::{OpenError, Rebuilt, rebuild};
use crate::query;

/// Rebuilds the ledger of a directory and checks every invariant.
///
/// # Errors
/// The directory cannot be read, or its journal cannot be recovered or replayed.
pub fn audit_directory(directory: &Path) -> Result<String, OpenError> {
    Ok(DirectoryView::open(directory, None)?.audit_json())
}

/// The state of a directory's ledger as of some sequence, rebuilt once and asked often.
pub struct DirectoryView {
    rebuilt: Rebuilt,
    reader: Reader,
    epoch: i64,
    notes: Vec<String>,
    cut: Option<Value>,
}

impl DirectoryView {
    /// Rebuilds the state at the end of the journal, or as of the last command that ends at or
    /// before `as_of`.
    ///
    /// # Errors
    /// The directory cannot be read, its journal cannot be recovered or replayed, or `as_of` lies
    /// before what is kept or behind the end.
    pub fn open(directory: &Path, as_of: Option<Sequence>) -> Result<Self, OpenError> {
        let storage = look(directory)?;
        let recovered = inspect_as_of(storage, as_of.unwrap_or(Sequence::MAX))?;
        if let Some(as_of) = as_of.filter(|as_of| *as_of > recovered.reader().durable_sequence()) {
            return Err(OpenError::NotReached {
                as_of,
                last_sequence: recovered.last_sequence,
            });
        }
        Self::of(recovered)
    }

    fn of(recovered: Recovered) -> Result<Self, OpenError> {
        let reader = recovered.reader();
        let epoch = recovered.epoch;
        let notes = recovered.notes.clone();
        let cut = recovered
            .cut
            .as_ref()
            .map(|cut| json!({"position": cut.position.to_string(), "bytes": cut.bytes}));
        Ok(Self {
            rebuilt: rebuild(recovered)?,
            reader,
            epoch,
            notes,
            cut,
        })
    }

    /// The last event that the state contains.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.rebuilt.ledger.sequence()
    }

    /// Checks every invariant; the JSON is drawn in the binding's stub.
    #[must_use]
    pub fn audit_json(&self) -> String {
        let ledger = &self.rebuilt.ledger;
        let time = self.rebuilt.last_time.unwrap_or(0).max(ledger.time());
        let mut all = audit_json(&ledger.audit());
        all.insert("epoch".into(), json!(self.epoch));
        all.insert("time_ms".into(), json!(time));
        all.insert("notes".into(), json!(self.notes));
        all.insert("unfinished_tail".into(), json!(self.cut));
        Value::Object(all).to_string()
    }

    /// Answers one of GetReservation, ListReservations, GetAvailability, Audit and
    /// ExplainReservation as a node would have then.
    #[must_use]
    pub fn ask(&self, method: &str, request: &[u8]) -> Answer {
        match self.serve(method, request) {
            Ok(body) => Answer::ok(body),
            Err(fault) => Answer::fault(&fault),
        }
    }

    fn serve(&self, method: &str, request: &[u8]) -> Result<Vec<u8>, Fault> {
        let unknown = || faults::unknown_method(method);
        let method = Method::from_path(method).ok_or_else(unknown)?;
        let Request::Query(query) = lastunit_wire::decode(method, request, "offline")? else {
            return Err(faults::not_offline(method.name()));
        };
        let place = self.place();
        match &query {
            Query::Audit => {
                let audit = self.rebuilt.ledger.audit();
                Ok(lastunit_wire::encode_audit(&audit, &place))
            }
            Query::ExplainReservation { reservation_id } => {
                let life = self.life(reservation_id)?;
                let found = life.transitions.as_deref();
                Ok(lastunit_wire::encode_explanation(found, life.reach, &place))
            }
            query => {
                let shown = query::look(&self.rebuilt.ledger, query);
                let shown = shown.ok_or_else(|| faults::not_offline(method.name()))?;
                Ok(shown.encode(&place))
            }
        }
    }

    fn life(&self, reservation_id: &str) -> Result<Life, Fault> {
        let Some(view) = self.rebuilt.ledger.reservation(reservation_id) else {
            return Ok(Life::default());
        };
        let range = (view.created_sequence, self.sequence());
        let life = explain::read(&self.reader, reservation_id, range, &mut || Ok(()));
        life.map_err(|error| faults::journal_corrupt(&error))
    }

    fn place(&self) -> Place {
        Place {
            as_of_sequence: self.sequence(),
            durable_sequence: self.sequence(),
            op_number: 0,
            epoch: self.epoch,
            durability: Durability::Flushed,
        }
    }
}

/// Reads events of a directory; arguments and result as [`crate::Node::read_events`].
///
/// # Errors
/// As [`crate::Node::read_events`], and a directory that cannot be recovered.
pub fn read_directory_events(
    directory: &Path,
    after: Sequence,
    limit: i64,
) -> Result<(Vec<u8>, Sequence), ReadError> {
    if !(1..=READ_LIMIT_MAX).contains(&limit) {
        return Err(ReadError::Limit { limit });
    }
    let recovered = inspect(look(directory)?)?;
    crate::events::read(&recovered.reader(), recovered.epoch, after, limit)
}

/// The events of a directory, looked at once or followed while a node writes them.
pub struct DirectoryEvents {
    source: Source,
}

enum Source {
    /// As recovery finds it, to its end.
    Still { reader: Reader, epoch: i64 },
    /// Only what is known durable, again and again.
    Live(Box<Follower>),
}

impl DirectoryEvents {
    /// Looks at a directory. One that is followed shows an event once a later record or a seal
    /// proves it durable: at most some 200 ms after a quiet node wrote it.
    ///
    /// # Errors
    /// The directory cannot be read or its journal cannot be recovered.
    pub fn open(directory: &Path, is_following: bool) -> Result<Self, JournalError> {
        let storage = look(directory)?;
        let source = if is_following {
            Source::Live(Box::new(Follower::open(storage)?))
        } else {
            let recovered = inspect(storage)?;
            Source::Still {
                reader: recovered.reader(),
                epoch: recovered.epoch,
            }
        };
        Ok(Self { source })
    }

    /// Looks for new events; returns whether there are some. Never, if it is not followed.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn refresh(&mut self) -> Result<bool, JournalError> {
        match &mut self.source {
            Source::Still { .. } => Ok(false),
            Source::Live(follower) => follower.refresh(),
        }
    }

    /// Reads events; arguments and result as [`crate::Node::read_events`].
    ///
    /// # Errors
    /// As [`crate::Node::read_events`].
    pub fn read(&self, after: Sequence, limit: i64) -> Result<(Vec<u8>, Sequence), ReadError> {
        let (reader, epoch) = match &self.source {
            Source::Still { reader, epoch } => (reader.clone(), *epoch),
            Source::Live(follower) => (follower.reader(), follower.epoch()),
        };
        crate::events::read(&reader, epoch, after, limit)
    }

    /// The first event that is there, 1 until events are removed.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn first_sequence(&self) -> Result<Sequence, JournalError> {
        match &self.source {
            Source::Still { reader, .. } => reader.first_sequence(),
            Source::Live(follower) => follower.reader().first_sequence(),
        }
    }
}

pub(crate) fn look(directory: &Path) -> Result<Arc<dyn Storage>, JournalError> {
    Ok(Arc::new(FileStorage::open_read_only(directory)?))
}

fn audit_json(audit: &Audit) -> Map<String, Value> {
    let findings: Vec<Value> = audit
        .findings
        .iter()
        .map(|finding| {
            json!({
                "invariant": finding.invariant,
                "subject": finding.subject.as_str(),
                "message": finding.detail,
            })
        })
        .collect();
    let pools: Vec<Value> = audit
        .pools
        .iter()
        .map(|pool| {
            let mut all = counters_json(&pool.counters);
            all.insert("sale_id".into(), json!(pool.sale_id.as_str()));
            all.insert("sku".into(), json!(pool.sku.as_str()));
            all.insert("pool".into(), json!(pool.pool.as_str()));
            all.insert("leaked_units".into(), json!(pool.leaked_units));
            let forgotten = pool.forgotten_sold_units;
            all.insert("forgotten_sold_units".into(), json!(forgotten));
            Value::Object(all)
        })
        .collect();
    let reservations: Map<String, Value> = audit
        .reservation_counts
        .iter()
        .map(|(state, count)| (state.name().to_owned(), json!(count)))
        .collect();
    let oldest = audit.oldest.iter().map(|oldest| {
        json!({
            "state": oldest.state.name(),
            "reservation_id": oldest.reservation_id.as_str(),
            "create_time_ms": oldest.created_at,
            "due_time_ms": oldest.due_at,
        })
    });
    let mut all = Map::new();
    all.insert("holds".into(), json!(audit.holds()));
    all.insert("sequence".into(), json!(audit.as_of_sequence));
    all.insert("findings".into(), json!(findings));
    all.insert("pools".into(), json!(pools));
    all.insert("reservations".into(), Value::Object(reservations));
    all.insert("oldest".into(), oldest.collect());
    all.insert("late_held_count".into(), json!(audit.late_held_count));
    all
}

fn counters_json(counters: &Counters) -> Map<String, Value> {
    [
        ("supplied", counters.supplied),
        ("withdrawn", counters.withdrawn),
        ("written_off", counters.written_off),
        ("available", counters.available),
        ("buffer", counters.buffer),
        ("held", counters.held),
        ("paying", counters.paying),
        ("overdue", counters.overdue),
        ("sold", counters.sold),
        ("quarantine", counters.quarantine),
    ]
    .into_iter()
    .map(|(name, units)| (name.to_owned(), json!(units)))
    .collect()
}
