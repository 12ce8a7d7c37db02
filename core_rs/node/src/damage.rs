//! The check of a directory for damage, and the copy that saves what can be saved, as JSON.
//!
//! Owns: the JSON. Must not: judge bytes, which the journal does, or events, which `lastunit-wire`
//! does. Where next: `docs/operating/verify.md`.

use std::path::Path;

use lastunit_journal::{
    FileStorage, JournalError, Salvage, VerifyReport, repair_copy, verify_with,
};
use serde_json::{Value, json};

use crate::revisions;

/// Checks every record, every event in it and every snapshot of a directory; writes nothing.
///
/// # Errors
/// The directory cannot be read. Damage is no error: the JSON lists it.
pub fn verify_directory(directory: &Path) -> Result<String, JournalError> {
    let storage = FileStorage::open_read_only(directory)?;
    let report = verify_with(&storage, &mut check_body)?;
    Ok(report_json(&report).to_string())
}

/// Writes what can be saved of `source` to `target`, a directory that is empty or not there, and
/// gives the checks of both. Revisions of the admission policy go along, but for damaged ones.
///
/// # Errors
/// Nothing can be saved, the target holds files, or a file cannot be read or written.
pub fn repair_directory(source: &Path, target: &Path) -> Result<String, JournalError> {
    let storage = FileStorage::open_read_only(source)?;
    let copy = FileStorage::open(target)?;
    let (report, _) = repair_copy(&storage, &copy)?;
    let policies = revisions::copy(&storage, &copy);
    let (policy_count, left_out) = policies.map_err(|source| JournalError::Storage {
        operation: "copy",
        file: "the revisions of the admission policy".to_owned(),
        source,
    })?;
    let copied = verify_with(&copy, &mut check_body)?;
    let left_out: Vec<Value> = left_out
        .iter()
        .map(|it| json!({"file": it.file, "message": it.problem}))
        .collect();
    let both = json!({
        "source": report_json(&report),
        "copy": report_json(&copied),
        "policies": {"copied_count": policy_count, "left_out": left_out},
    });
    Ok(both.to_string())
}

/// A record that is as it was written may still hold what the ledger never writes.
fn check_body(first_sequence: i64, body: &[u8]) -> Result<(), String> {
    let events = lastunit_wire::decode_record(body)
        .map_err(|error| format!("its events cannot be read: {error}"))?;
    for (event, expected) in events.iter().zip(first_sequence..) {
        if event.sequence != expected {
            return Err(format!(
                "an event in it claims sequence {}, its place is {expected}",
                event.sequence
            ));
        }
    }
    Ok(())
}

fn report_json(report: &VerifyReport) -> Value {
    let problems: Vec<Value> = report
        .problems
        .iter()
        .map(|it| json!({"file": it.file, "offset": it.offset, "message": it.text}))
        .collect();
    let runs: Vec<Value> = report
        .runs
        .iter()
        .map(|run| {
            json!({
                "position": run.start.to_string(),
                "first_sequence": run.first_sequence,
                "last_sequence": run.last_sequence,
                "record_count": run.record_count,
            })
        })
        .collect();
    json!({
        "is_whole": report.problems.is_empty(),
        "segment_count": report.segment_count,
        "record_count": report.record_count,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
        "highest_sequence": report.highest_sequence,
        "epoch": report.epoch,
        "snapshot_sequences": report.snapshot_sequences,
        "unfinished_tail": report.cut.map(|cut| {
            json!({"position": cut.position.to_string(), "bytes": cut.bytes})
        }),
        "runs": runs,
        "problems": problems,
        "is_ended_early": report.is_ended_early,
        "can_be_saved": report.salvage.as_ref().map(salvage_json),
    })
}

fn salvage_json(salvage: &Salvage) -> Value {
    json!({
        "snapshot_sequence": salvage.snapshot_sequence,
        "last_sequence": salvage.last_sequence,
        "lost_event_count": salvage.lost_event_count,
        "end": salvage.end.to_string(),
    })
}
