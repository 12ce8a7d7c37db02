//! What the directory holds: segments without a gap, snapshots, and files that do not count.
//!
//! Reads names and segment headers only. Refuses a set of segments that no run of this journal
//! leaves.

use std::collections::BTreeMap;

use crate::error::JournalError;
use crate::limits::{
    HEADER_BYTES, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SLOT_BYTES,
};
use crate::names;
use crate::segment::{damaged, read_header};
use crate::slot::JournalId;
use crate::storage::Storage;
use crate::verify::{Problem, problem_of};

/// How a segment of a number and a length is taken in.
type AddSegment<'a> =
    dyn FnMut(&mut Directory, &dyn Storage, u32, u64) -> Result<(), JournalError> + 'a;

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
    /// What is wrong with it, where it was read although something is.
    pub(crate) problems: Vec<Problem>,
    /// Length that a segment should have, where its file is shorter or its header is damaged.
    whole_bytes: BTreeMap<u32, u32>,
}

impl Directory {
    /// Reads the directory of a journal that recovery would take.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, JournalError> {
        let mut directory = Self::default();
        directory.add_files(storage, &mut Self::add_segment)?;
        directory.check_orphans()?;
        Ok(directory)
    }

    /// Reads a directory whatever is wrong with it; what is, is in `problems`.
    pub(crate) fn read_damaged(storage: &dyn Storage) -> Result<Self, JournalError> {
        let mut directory = Self::default();
        directory.add_files(storage, &mut Self::add_damaged_segment)?;
        if let Err(error) = directory.check_orphans() {
            directory.problems.push(problem_of(error)?);
        }
        Ok(directory)
    }

    fn add_files(
        &mut self,
        storage: &dyn Storage,
        add_segment: &mut AddSegment<'_>,
    ) -> Result<(), JournalError> {
        let mut files = storage
            .list()
            .map_err(|source| JournalError::storage("list", "the journal directory", source))?;
        files.sort_by(|one, other| one.name.cmp(&other.name));
        for file in files {
            if let Some(number) = names::parse_segment(&file.name) {
                add_segment(self, storage, number, file.bytes)?;
            } else if let Some(sequence) = names::parse_snapshot(&file.name) {
                self.snapshots.insert(sequence, file.bytes);
            } else if file.name.ends_with(names::TEMPORARY) {
                self.temporaries.push(file.name);
            } else if !file.name.starts_with(names::NEIGHBOUR) {
                self.strangers.push(file.name);
            }
        }
        Ok(())
    }

    /// As `add_segment`, but takes a segment for what its length says if its header does not.
    fn add_damaged_segment(
        &mut self,
        storage: &dyn Storage,
        number: u32,
        file_bytes: u64,
    ) -> Result<(), JournalError> {
        let slots = file_bytes.min(u64::from(SEGMENT_BYTES_MAX)) / u64::from(SLOT_BYTES);
        let there = u32::try_from(slots).expect("clamped") * SLOT_BYTES;
        if there <= HEADER_BYTES {
            let problem = "the file holds no more than a segment header";
            let error = damaged(&names::segment(number), file_bytes, problem);
            self.problems.push(problem_of(error)?);
            return Ok(());
        }
        match read_header(storage, number, u64::MAX) {
            Ok(header) if *self.id.get_or_insert(header.id) != header.id => {
                let problem = "the segment belongs to another journal than those before it";
                let error = damaged(&names::segment(number), 0, problem);
                self.problems.push(problem_of(error)?);
            }
            Ok(header) => {
                if file_bytes < u64::from(header.segment_bytes) {
                    let problem = format!(
                        "the file was cut: it should have {} bytes",
                        header.segment_bytes
                    );
                    let error = damaged(&names::segment(number), file_bytes, &problem);
                    self.problems.push(problem_of(error)?);
                }
                self.whole_bytes.insert(number, header.segment_bytes);
                let bytes = header.segment_bytes.min(there);
                self.segments.insert(number, bytes);
            }
            Err(error) => {
                self.problems.push(problem_of(error)?);
                self.whole_bytes
                    .insert(number, there.max(SEGMENT_BYTES_MIN));
                self.segments.insert(number, there);
            }
        }
        Ok(())
    }

    /// Length that a segment has when nothing of it is missing.
    pub(crate) fn whole_bytes(&self, number: u32) -> u32 {
        let usual = || self.whole_bytes.values().next_back();
        let known = self.whole_bytes.get(&number).or_else(usual);
        known.copied().unwrap_or(SEGMENT_BYTES_DEFAULT)
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
