//! Owns persons: their ids, and MergePersons, by which limits count two as one.
//!
//! A merged person points at its root directly (chains have length one), so a look-up costs one
//! step. Must not refuse a person that is past a limit after a merge: that only blocks new
//! reservations. Next: `brake.rs`.

use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::book::{is_counted, is_unpaid};
use crate::command::Command;
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::EventBody;
use crate::ids::{Millis, Text};
use crate::reply::Answer;
use crate::state::{Ledger, Person};

impl Ledger {
    pub(crate) fn decide_merge_persons(
        &self,
        command: &Command,
        source_person_id: &Text,
        target_person_id: &Text,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        if source_person_id == target_person_id {
            return Err(Refusal::not_allowed("target_person_id"));
        }
        let body = EventBody::PersonsMerged {
            source_person_id: source_person_id.clone(),
            target_person_id: target_person_id.clone(),
        };
        Ok(Draft::new(self, command, now).accept_one(body, None, Answer::None))
    }

    /// The slot of a person, made if it is new: a person may be merged before its first purchase.
    pub(crate) fn intern_person(&mut self, person_id: &Text) -> Slot {
        if let Some(slot) = self.find_person(person_id) {
            return slot;
        }
        let slot = self.persons.next_slot();
        self.persons.insert(Person {
            person_id: person_id.clone(),
            root: slot,
            ring_next: slot,
            first_reservation: NONE,
            reservation_count: 0,
        });
        self.person_index.insert(person_id, slot);
        slot
    }

    pub(crate) fn apply_persons_merged(&mut self, source_id: &Text, target_id: &Text) {
        let source = self.intern_person(source_id);
        let target = self.intern_person(target_id);
        let (source, target) = (self.root_of(source), self.root_of(target));
        if source == target {
            return;
        }
        let moved = self.chain_of(source);
        self.count_all(&moved, -1);
        let mut member = source;
        loop {
            self.persons[member].root = target;
            member = self.persons[member].ring_next;
            if member == source {
                break;
            }
        }
        let (after_source, after_target) = (
            self.persons[source].ring_next,
            self.persons[target].ring_next,
        );
        self.persons[source].ring_next = after_target;
        self.persons[target].ring_next = after_source;
        self.count_all(&moved, 1);

        self.persons[source].first_reservation = NONE;
        if let (Some(&first), Some(&last)) = (moved.first(), moved.last()) {
            let second = core::mem::replace(&mut self.persons[target].first_reservation, first);
            self.reservations[last].person_next = second;
            if second != NONE {
                self.reservations[second].person_previous = last;
            }
        }
    }

    /// Puts a reservation at the front of its person's list.
    pub(crate) fn link_person(&mut self, slot: Slot) {
        let person = self.reservations[slot].person;
        self.persons[person].reservation_count += 1;
        let root = self.root_of(person);
        let next = core::mem::replace(&mut self.persons[root].first_reservation, slot);
        self.reservations[slot].person_next = next;
        if next != NONE {
            self.reservations[next].person_previous = slot;
        }
    }

    /// Takes a reservation out of its person's list; a person with nothing left is forgotten,
    /// unless it is merged with another: nobody else knows that.
    pub(crate) fn unlink_person(&mut self, slot: Slot) {
        let reservation = &self.reservations[slot];
        let person = reservation.person;
        let (previous, next) = (reservation.person_previous, reservation.person_next);
        if previous == NONE {
            let root = self.root_of(person);
            self.persons[root].first_reservation = next;
        } else {
            self.reservations[previous].person_next = next;
        }
        if next != NONE {
            self.reservations[next].person_previous = previous;
        }
        self.persons[person].reservation_count -= 1;
        let is_alone = self.persons[person].ring_next == person;
        if is_alone && self.persons[person].reservation_count == 0 {
            let forgotten = self.persons.remove(person);
            self.person_index.remove(&forgotten.person_id, person);
        }
    }

    /// The reservations of a root, in the order of its list.
    pub(crate) fn chain_of(&self, root: Slot) -> Vec<Slot> {
        self.chain(root).collect()
    }

    /// As `chain_of`, one by one.
    pub(crate) fn chain(&self, root: Slot) -> impl Iterator<Item = Slot> {
        let slot_of = |slot: Slot| (slot != NONE).then_some(slot);
        let first = slot_of(self.persons[root].first_reservation);
        core::iter::successors(first, move |slot| {
            slot_of(self.reservations[*slot].person_next)
        })
    }

    /// Takes reservations out of their person's usage, or adds them, `sign` being -1 or 1.
    fn count_all(&mut self, slots: &[Slot], sign: i64) {
        for &slot in slots {
            let state = self.reservations[slot].state;
            if is_counted(state) {
                self.count_units(slot, sign);
            }
            if is_unpaid(state) {
                self.count_unpaid(slot, sign > 0);
            }
        }
    }
}
