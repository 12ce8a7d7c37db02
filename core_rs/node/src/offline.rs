//! A journal that is looked at without a node: audit and events, nothing is written.
//!
//! Owns: the JSON of an audit. Must not: own the directory; a node may have it open, and what was
//! durable at that moment is shown. Where next: `open.rs`, whose recovery is used here.

use std::path::Path;
use std::sync::Arc;

use lastunit_engine::{Audit, Counters, Sequence};
use lastunit_journal::{FileStorage, JournalError, Recovered, inspect};
use serde_json::{Map, Value, json};

use crate::events::{READ_LIMIT_MAX, ReadError};
use crate::open::{OpenError, rebuild};

/// Rebuilds the ledger of a directory and checks every invariant.
///
/// # Errors
/// The directory cannot be read, or its journal cannot be recovered or replayed.
pub fn audit_directory(directory: &Path) -> Result<String, OpenError> {
    let recovered = look(directory)?;
    let epoch = recovered.epoch;
    let notes = recovered.notes.clone();
    let cut = recovered
        .cut
        .as_ref()
        .map(|cut| json!({"position": cut.position.to_string(), "bytes": cut.bytes}));
    let rebuilt = rebuild(recovered)?;
    let audit = rebuilt.ledger.audit();
    let time = rebuilt.last_time.unwrap_or(0);
    let mut all = audit_json(&audit);
    all.insert("epoch".into(), json!(epoch));
    all.insert("time_ms".into(), json!(time.max(rebuilt.ledger.time())));
    all.insert("notes".into(), json!(notes));
    all.insert("unfinished_tail".into(), json!(cut));
    Ok(Value::Object(all).to_string())
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
    let recovered = look(directory)?;
    crate::events::read(&recovered.reader(), recovered.epoch, after, limit)
}

fn look(directory: &Path) -> Result<Recovered, JournalError> {
    inspect(Arc::new(FileStorage::open_read_only(directory)?))
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
            Value::Object(all)
        })
        .collect();
    let reservations: Map<String, Value> = audit
        .reservation_counts
        .iter()
        .map(|(state, count)| (state.name().to_owned(), json!(count)))
        .collect();
    let mut all = Map::new();
    all.insert("holds".into(), json!(audit.holds()));
    all.insert("sequence".into(), json!(audit.as_of_sequence));
    all.insert("findings".into(), json!(findings));
    all.insert("pools".into(), json!(pools));
    all.insert("reservations".into(), Value::Object(reservations));
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
