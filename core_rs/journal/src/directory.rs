//! What the directory holds: segments without a gap, snapshots, and files that do not count.
//!
//! Reads names and segment headers only. Refuses a set of segments that no run of this journal
//! leaves.

use std::collections::BTreeMap;

use crate::error::JournalError;
use crate::names;
use crate::segment::{damaged, read_header};
use crate::slot::JournalId;
use crate::storage::Storage;

/// The files of a journal, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Identity, once there is a segment.
    pub(crate) id: Option<JournalId>,
    /// Length of each segment by its number, without a gap; from 1 unless older ones were removed.
    pub(crate) segments: BTreeMap<u32, u32>,
    /// Sequences and file lengths of the snapshots, in rising order.
    pub(crate) snapshots: BTreeMap<i64, u64>,
    /// Unfinished files, to be removed.
    pub(crate) temporaries: Vec<String>,
    /// Files that are none of ours, left alone.
    pub(crate) strangers: Vec<String>,
}

impl Directory {
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, JournalError> {
        let mut directory = Self::default();
        let mut files = storage
            .list()
            .map_err(|source| JournalError::storage("list", "the journal directory", source))?;
        files.sort_by(|one, other| one.name.cmp(&other.name));
        for file in files {
            if let Some(number) = names::parse_segment(&file.name) {
                directory.add_segment(storage, number, file.bytes)?;
            } else if let Some(sequence) = names::parse_snapshot(&file.name) {
                directory.snapshots.insert(sequence, file.bytes);
            } else if file.name.ends_with(names::TEMPORARY) {
                directory.temporaries.push(file.name);
            } else {
                directory.strangers.push(file.name);
            }
        }
        directory.check_orphans()?;
        Ok(directory)
    }

    fn add_segment(
        &mut self,
        storage: &dyn Storage,
        number: u32,
        file_bytes: u64,
    ) -> Result<(), JournalError> {
        let expected = self.last_number() + 1;
        // Older segments are removed from the lowest up, so that the first may have any number.
        if number != expected && !self.segments.is_empty() {
            let problem = format!("the segment is missing although segment {number} is there");
            return Err(damaged(&names::segment(expected), 0, &problem));
        }
        let header = read_header(storage, number, file_bytes)?;
        if *self.id.get_or_insert(header.id) != header.id {
            let problem = "the segment belongs to another journal than those before it";
            return Err(damaged(&names::segment(number), 0, problem));
        }
        self.segments.insert(number, header.segment_bytes);
        Ok(())
    }

    /// Refuses if segments were removed and no snapshot holds what they said.
    pub(crate) fn check_start(&self, has_snapshot: bool) -> Result<(), JournalError> {
        let first = self.first_number();
        if first <= 1 || has_snapshot {
            return Ok(());
        }
        let problem = format!(
            "the segment is missing although segment {first} is there, and no snapshot that can \
             be read holds what it said"
        );
        Err(damaged(&names::segment(first - 1), 0, &problem))
    }

    fn check_orphans(&self) -> Result<(), JournalError> {
        match self.snapshots.last_key_value() {
            Some((sequence, _)) if self.segments.is_empty() => {
                let problem =
                    format!("every segment is missing although snapshot {sequence} is there");
                Err(damaged(&names::segment(1), 0, &problem))
            }
            _ => Ok(()),
        }
    }

    /// Length of a segment, 0 if it is not there.
    pub(crate) fn segment_bytes(&self, number: u32) -> u32 {
        self.segments.get(&number).copied().unwrap_or_default()
    }

    /// Number of the first segment, 0 if there is none.
    pub(crate) fn first_number(&self) -> u32 {
        self.segments
            .first_key_value()
            .map_or(0, |(number, _)| *number)
    }

    /// Number of the last segment, 0 if there is none.
    pub(crate) fn last_number(&self) -> u32 {
        self.segments
            .last_key_value()
            .map_or(0, |(number, _)| *number)
    }

    /// Segments after `number`, which are prepared and unused if the journal ends in `number`.
    pub(crate) fn after(&self, number: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let range = self.segments.range(number + 1..);
        range.map(|(number, bytes)| (*number, *bytes))
    }
}
