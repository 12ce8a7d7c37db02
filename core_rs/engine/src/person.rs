//! Owns persons: their ids, and MergePersons, by which limits count two as one.
//!
//! A merged person points at its root directly (chains have length one), so a look-up costs one
//! step. Must not refuse a person that is past a limit after a merge: that only blocks new
//! reservations. Next: `brake.rs`.

use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::command::Command;
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::EventBody;
use crate::ids::{Millis, Text};
use crate::reply::Answer;
use crate::state::{Ledger, Person};
use crate::usage::CHAIN_SCAN_MAX;

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
            chain_length: 0,
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
        for root in [source, target] {
            if self.is_kept(root) {
                self.drop_usages(root);
            }
        }
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

        self.persons[source].first_reservation = NONE;
        if let (Some(&first), Some(&last)) = (moved.first(), moved.last()) {
            let second = core::mem::replace(&mut self.persons[target].first_reservation, first);
            self.reservations[last].person_next = second;
            if second != NONE {
                self.reservations[second].person_previous = last;
            }
        }
        let length = core::mem::take(&mut self.persons[source].chain_length);
        self.persons[target].chain_length += length;
        if self.is_kept(target) {
            self.keep_usages(target);
        }
    }

    /// Puts a reservation at the front of its person's list.
    pub(crate) fn link_person(&mut self, slot: Slot) {
        let root = self.root_of(self.reservations[slot].person);
        self.persons[root].chain_length += 1;
        if self.persons[root].chain_length == CHAIN_SCAN_MAX + 1 {
            self.keep_usages(root);
        }
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
        let root = self.root_of(reservation.person);
        let (previous, next) = (reservation.person_previous, reservation.person_next);
        if previous == NONE {
            self.persons[root].first_reservation = next;
        } else {
            self.reservations[previous].person_next = next;
        }
        if next != NONE {
            self.reservations[next].person_previous = previous;
        }
        if self.persons[root].chain_length == CHAIN_SCAN_MAX + 1 {
            self.drop_usages(root);
        }
        let person = &mut self.persons[root];
        person.chain_length -= 1;
        let is_alone = person.ring_next == root;
        if is_alone && person.chain_length == 0 {
            let forgotten = self.persons.remove(root);
            self.person_index.remove(&forgotten.person_id, root);
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
}
