//! Where each opening of the journal began, to notice that an older copy has been put in its place.
//!
//! Owns: the answer to "does this journal have what the caller has seen?". A copy that is restored
//! and opened writes events of its own, so the number alone is not enough: sequence 5 of epoch 1 is
//! not sequence 5 of epoch 2, and epochs rise by random steps, so no two openings share one. Must
//! not: decide what to do about it. Where next: `serve.rs`.

use std::collections::VecDeque;

use lastunit_engine::Sequence;

/// Openings remembered; what a caller saw in an older one is held against the oldest of these.
const EPOCH_COUNT_MAX: usize = 256;

/// Bytes of one opening in a snapshot.
const ENTRY_BYTES: usize = 16;

/// Openings and the first sequence that each wrote, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    starts: VecDeque<(i64, Sequence)>,
}

impl Epochs {
    /// Notes an opening; one that is not newer than the last is left out.
    pub(crate) fn note(&mut self, epoch: i64, first: Sequence) {
        if self.starts.back().is_some_and(|last| last.0 >= epoch) {
            return;
        }
        if self.starts.len() == EPOCH_COUNT_MAX {
            self.starts.pop_front();
        }
        self.starts.push_back((epoch, first));
    }

    /// Whether a journal that ends at `head` has the event that a caller saw in an epoch. A caller
    /// that names no epoch (0) is only asked whether its sequence exists.
    pub(crate) fn has(&self, seen: Sequence, seen_epoch: i64, head: Sequence) -> bool {
        if seen > head {
            return false;
        }
        let newer = self.starts.partition_point(|start| start.0 <= seen_epoch);
        // Callers only see epochs that wrote an event, so one that is not here was lost.
        let is_known = newer > 0 && self.starts[newer - 1].0 == seen_epoch;
        let is_forgotten = newer == 0 && self.starts.len() == EPOCH_COUNT_MAX;
        match self.starts.get(newer) {
            _ if seen_epoch <= 0 => true,
            _ if !is_known && !is_forgotten => false,
            Some((_, first)) => seen < *first,
            None => true,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.starts.iter().flat_map(|start| [start.0, start.1]);
        numbers.flat_map(i64::to_le_bytes).collect()
    }

    /// Reads what `to_bytes` wrote; None if it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let mut epochs = Self::default();
        for entry in bytes.chunks_exact(ENTRY_BYTES) {
            let (epoch, first) = entry.split_at(8);
            let epoch = i64::from_le_bytes(epoch.try_into().ok()?);
            epochs.note(epoch, i64::from_le_bytes(first.try_into().ok()?));
        }
        Some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_belongs_to_the_epoch_it_was_seen_in() {
        let mut epochs = Epochs::default();
        epochs.note(1, 1);
        epochs.note(2, 10);
        epochs.note(4, 20);
        // Seen sequence, seen epoch, head, expected. Epoch 3 was lost with what it wrote.
        let table = [
            (9, 1, 30, true),
            (10, 1, 30, false),
            (19, 2, 30, true),
            (20, 2, 30, false),
            (20, 3, 30, false),
            (12, 3, 30, false),
            (30, 4, 30, true),
            (31, 4, 30, false),
            (5, 5, 30, false),
            (30, 0, 30, true),
            (31, 0, 30, false),
            (0, 0, 30, true),
        ];
        for (seen, epoch, head, expected) in table {
            assert_eq!(expected, epochs.has(seen, epoch, head), "{seen} of {epoch}");
        }
    }

    #[test]
    fn bytes_give_back_what_was_written_and_the_oldest_go_first() {
        let mut epochs = Epochs::default();
        for epoch in 1..=300 {
            epochs.note(epoch, epoch * 10);
        }
        let read = Epochs::from_bytes(&epochs.to_bytes());

        assert_eq!(Some(epochs.clone()), read);
        assert_eq!(EPOCH_COUNT_MAX, epochs.starts.len());
        assert_eq!(Some(&(45, 450)), epochs.starts.front());
        assert_eq!(None, Epochs::from_bytes(&[0; 17]));
    }
}
