//! Following a journal that somebody else is writing: only what is known durable, nothing written.
//!
//! Owns the rule of what may be shown of a journal in use: a record is known durable once a later
//! one says so, and a quiet journal is sealed. Must not judge what looks damaged at the end: it may
//! be half written; the owner's recovery judges. Where next: `reader.rs`.

use std::sync::Arc;

use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::HEADER_BYTES;
use crate::position::Position;
use crate::reader::Reader;
use crate::recovered::decide_in_use;
use crate::shared::Shared;
use crate::slot::Kind;
use crate::storage::Storage;
use crate::tail::Tail;
use crate::window::{Slot, Window};

/// A journal that is read while its owner, perhaps another process, writes it.
pub struct Follower {
    shared: Arc<Shared>,
    /// The end of what is known durable. What stands behind it may still be cut, so that each look
    /// begins here again.
    proven: Tail,
    epoch: u32,
}

impl Follower {
    /// Looks at the directory as recovery would, and shows what is known durable.
    ///
    /// # Errors
    /// As `inspect`.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, JournalError> {
        let decision = decide_in_use(&*storage, i64::MAX)?;
        let proven = decision.start;
        let (shared, _) = decision.into_recovered(storage, 0);
        let mut follower = Self {
            shared,
            proven,
            epoch: proven.epoch,
        };
        follower.publish();
        follower.refresh()?;
        Ok(follower)
    }

    /// Looks again; returns whether more is known durable than before.
    ///
    /// # Errors
    /// `Storage` if a file cannot be read, `Damaged` if the directory is not what its owner leaves.
    pub fn refresh(&mut self) -> Result<bool, JournalError> {
        let storage = Arc::clone(&self.shared.storage);
        let directory = Directory::read(&*storage)?;
        let Some(id) = directory.id else {
            return Ok(false);
        };
        if self.shared.id != id {
            // Its first segment has come since, or another journal has: begin anew.
            *self = Self::open(storage)?;
            return Ok(true);
        }
        self.shared.index_mut().keep_segments(&directory.segments);
        let before = self.proven;
        let mut tail = before;
        loop {
            let number = tail.position.segment;
            let segment_bytes = directory.segment_bytes(number);
            if segment_bytes == 0 {
                break;
            }
            let mut window = Window::new(&*storage, id, number, segment_bytes);
            if !self.walk(&mut window, &mut tail)? {
                break;
            }
        }
        self.publish();
        Ok(self.proven.next_sequence > before.next_sequence)
    }

    /// Follows one segment as far as it is written; returns whether the next one goes on.
    fn walk(&mut self, window: &mut Window<'_>, tail: &mut Tail) -> Result<bool, JournalError> {
        loop {
            let place = tail.position;
            // A slot that is no record, or one that does not come next, is not finished yet.
            let Slot::Record { header, crc } = window.slot(place.offset)? else {
                return Ok(false);
            };
            if tail.refuse(&header).is_some() {
                return Ok(false);
            }
            if header.durable_position == place {
                // The first record of its group: all before it was durable when it was written.
                self.proven = *tail;
                self.epoch = header.epoch;
            }
            *tail = Tail::after(place, &header, crc);
            if header.kind == Kind::End {
                tail.position = Position::new(place.segment + 1, HEADER_BYTES);
                return Ok(true);
            }
        }
    }

    /// Lets readers see what is known durable.
    fn publish(&mut self) {
        let mut index = self.shared.index_mut();
        index.durable_end = self.proven.position;
        index.durable_sequence = self.proven.last_sequence();
    }

    /// Returns a reader of what is known durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Returns the last opening of the journal, 0 if there was none.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        i64::from(self.epoch)
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Follower")
            .field("proven", &self.proven)
            .finish_non_exhaustive()
    }
}
