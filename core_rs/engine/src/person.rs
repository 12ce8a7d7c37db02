//! Owns persons: their ids, and MergePersons and SplitPersons, by which limits count several as one
//! and apart again.
//!
//! A merged person points at its root directly (chains have length one), so a look-up costs one
//! step. A reservation stays with the person that made it, so a split takes along what is theirs.
//! Must not refuse a person that is past a limit after a merge: that only blocks new
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

    pub(crate) fn decide_split_persons(
        &self,
        command: &Command,
        person_ids: &[Text],
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        // One alone, known or not, is apart already; of several, each must be with the others.
        let root_of = |person_id: &Text| self.find_person(person_id).map(|it| self.root_of(it));
        let first = root_of(&person_ids[0]);
        let is_with_first = |person_id| first.is_some() && root_of(person_id) == first;
        if !person_ids[1..].iter().all(is_with_first) {
            return Err(Refusal::not_allowed("person_ids"));
        }
        let person_ids = person_ids.to_vec();
        let body = EventBody::PersonsSplit { person_ids };
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

    /// Those who go count as the first of them. Those who stay count as whom they did, or, if that
    /// one goes, as the one whose id is the smallest.
    pub(crate) fn apply_persons_split(&mut self, person_ids: &[Text]) {
        let known = person_ids.iter().filter_map(|it| self.find_person(it));
        let going: Vec<Slot> = known.collect();
        let Some(&first) = going.first() else {
            return;
        };
        let root = self.root_of(first);
        let staying: Vec<Slot> = self
            .ring_of(root)
            .filter(|it| !going.contains(it))
            .collect();
        let id_of = |slot: &Slot| &self.persons[*slot].person_id;
        let Some(&smallest) = staying.iter().min_by_key(|slot| id_of(slot)) else {
            return;
        };
        let other_root = if going.contains(&root) {
            smallest
        } else {
            root
        };

        if self.is_kept(root) {
            self.drop_usages(root);
        }
        let chain = self.chain_of(root);
        self.link_ring(&going, first);
        self.link_ring(&staying, other_root);
        let (gone, stayed): (Vec<Slot>, Vec<Slot>) = chain
            .into_iter()
            .partition(|slot| self.root_of(self.reservations[*slot].person) == first);
        self.link_chain(first, &gone);
        self.link_chain(other_root, &stayed);
        self.forget_if_empty(first);
        self.forget_if_empty(other_root);
    }

    /// The persons that count together, the root first.
    fn ring_of(&self, root: Slot) -> impl Iterator<Item = Slot> {
        core::iter::successors(Some(root), move |member| {
            let next = self.persons[*member].ring_next;
            (next != root).then_some(next)
        })
    }

    /// Makes persons count together; what they have is not linked yet.
    fn link_ring(&mut self, members: &[Slot], root: Slot) {
        for (place, &member) in members.iter().enumerate() {
            let person = &mut self.persons[member];
            person.root = root;
            person.ring_next = members[(place + 1) % members.len()];
            person.first_reservation = NONE;
            person.chain_length = 0;
        }
    }

    /// Makes these the reservations of a root, in this order.
    fn link_chain(&mut self, root: Slot, chain: &[Slot]) {
        for (place, &slot) in chain.iter().enumerate() {
            let previous = place.checked_sub(1).map_or(NONE, |before| chain[before]);
            let reservation = &mut self.reservations[slot];
            reservation.person_previous = previous;
            reservation.person_next = chain.get(place + 1).copied().unwrap_or(NONE);
        }
        let person = &mut self.persons[root];
        person.first_reservation = chain.first().copied().unwrap_or(NONE);
        person.chain_length = u32::try_from(chain.len()).expect("slots are 32 bits");
        if self.is_kept(root) {
            self.keep_usages(root);
        }
    }

    /// Forgets a person that has nothing left, unless it is merged with another: nobody else knows
    /// that.
    fn forget_if_empty(&mut self, root: Slot) {
        let person = &self.persons[root];
        let is_alone = person.ring_next == root;
        if is_alone && person.chain_length == 0 {
            let forgotten = self.persons.remove(root);
            self.person_index.remove(&forgotten.person_id, root);
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

    /// Takes a reservation out of its person's list.
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
        self.persons[root].chain_length -= 1;
        self.forget_if_empty(root);
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
