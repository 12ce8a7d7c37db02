//! Owns the size of the ledger: how many bytes of memory it holds, known at any moment.
//!
//! Tables and chunks tell what they allocated; what entities have elsewhere (long ids, events that
//! are remembered, reservations of many lines) is counted as they come and go. Must not walk the
//! state: the node asks before every new reservation. Next: `query.rs`.

use crate::event::EventBody;
use crate::ids::Text;
use crate::state::{Attempt, Ledger, Person, Piece, Remembered, Reservation};

/// An entry of an ordered set or map, with its part of a node that is half full.
const fn ordered_bytes<T>() -> usize {
    2 * size_of::<T>()
}

/// A block of memory beside its content, as allocators keep it.
const BLOCK_BYTES: usize = 16;

impl Ledger {
    /// The bytes of memory that the ledger holds; exact for what grows with reservations, persons
    /// and attempts, an estimate for timers. A frozen copy can double it while both live.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let arenas = self.reservations.bytes()
            + self.attempts.bytes()
            + self.persons.bytes()
            + self.requests.bytes();
        let tables = self.reservation_index.bytes()
            + self.attempt_index.bytes()
            + self.person_index.bytes()
            + self.request_index.bytes();
        let timers = self.live_count * ordered_bytes::<u64>();
        arenas + tables + self.usages.bytes() + timers
    }
}

/// What an entity has outside of its slot.
pub(crate) trait HeapBytes {
    fn heap_bytes(&self) -> usize;
}

impl HeapBytes for Text {
    fn heap_bytes(&self) -> usize {
        if self.is_heap_allocated() {
            // Two counts of its holders go before the text.
            BLOCK_BYTES + 2 * size_of::<usize>() + self.len()
        } else {
            0
        }
    }
}

impl HeapBytes for Reservation {
    fn heap_bytes(&self) -> usize {
        // The first pieces never change; those of a second taking are rare.
        let pieces = match self.pieces.first_taken() {
            [_] => 0,
            pieces => BLOCK_BYTES + size_of_val::<[Piece]>(pieces),
        };
        self.reservation_id.heap_bytes() + pieces
    }
}

impl HeapBytes for Attempt {
    fn heap_bytes(&self) -> usize {
        self.attempt_id.heap_bytes()
    }
}

impl HeapBytes for Person {
    fn heap_bytes(&self) -> usize {
        self.person_id.heap_bytes()
    }
}

impl HeapBytes for Remembered {
    fn heap_bytes(&self) -> usize {
        // Texts in the event share those of others or are short, but for evidence: a block more.
        let body = 2 * BLOCK_BYTES + size_of::<EventBody>() + 64;
        self.request_id.heap_bytes() + body
    }
}
