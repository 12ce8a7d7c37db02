//! Owns the part of the audit that compares lists and look-ups with the entities: what is in a list
//! belongs there, in its order, and what belongs there is in it.
//!
//! Must not trust a list to end. Next: `audit_slice.rs`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::arena::NONE;
use crate::audit::Auditor;

impl Auditor<'_> {
    /// What has ended is listed to be forgotten, in the order in which it ended, and nothing else.
    pub(crate) fn check_ended(&mut self) {
        let ledger = self.ledger;
        let mut ended_count = 0;
        for (slot, reservation) in ledger.reservations.entries() {
            ended_count += usize::from(reservation.is_ended);
            if reservation.is_ended != ledger.has_ended(slot) {
                let subject = reservation.reservation_id.clone();
                let detail = format!("is_ended is {}", reservation.is_ended);
                self.find("history", subject, detail);
            }
        }
        let mut listed = 0;
        for (number, sale) in (0..).zip(&ledger.sales) {
            let (mut slot, mut last, mut time) = (sale.ended_first, NONE, 0);
            while slot != NONE && listed <= ended_count {
                let reservation = &ledger.reservations[slot];
                let holds = reservation.is_ended
                    && reservation.sale == number
                    && reservation.list_previous == last
                    && reservation.ended_at >= time;
                if !holds {
                    let subject = reservation.reservation_id.clone();
                    self.find("history", subject, String::from("is not in its place"));
                }
                (last, time) = (slot, reservation.ended_at);
                slot = reservation.list_next;
                listed += 1;
            }
            if sale.ended_last != last {
                let detail = format!("the list of ended ones ends at {last}");
                self.find("history", sale.sale_id.clone(), detail);
            }
        }
        if listed != ended_count {
            let detail = format!("{listed} are listed, {ended_count} have ended");
            self.find("history", "reservations", detail);
        }
    }

    pub(crate) fn check_racks(&mut self) {
        let ledger = self.ledger;
        let mut kept = BTreeMap::new();
        for (slot, rack) in (0..).zip(&ledger.racks) {
            kept.extend(
                rack.expiries
                    .iter()
                    .map(|(time, count)| ((slot, *time), *count)),
            );
            if rack.is_open != (ledger.offered_units(slot) > 0) {
                let detail = format!("is_open is {}", rack.is_open);
                self.find("agreement", rack.sku.clone(), detail);
            }
            if ledger.find_rack(rack.sale, &rack.sku) != Some(slot) {
                self.find(
                    "index",
                    rack.sku.clone(),
                    format!("slot {slot} is not found"),
                );
            }
        }
        if kept != self.expiries {
            let detail = format!(
                "{} ends are kept, {} counted",
                kept.len(),
                self.expiries.len()
            );
            self.find("timers", "skus", detail);
        }
    }

    pub(crate) fn check_persons(&mut self) {
        let ledger = self.ledger;
        let mut listed = 0;
        let bound = ledger.reservations.len() + 1;
        for (slot, person) in ledger.persons.entries() {
            let subject = &person.person_id;
            let is_found = ledger.find_person(subject) == Some(slot);
            let root = &ledger.persons[person.root];
            let is_flat = root.root == person.root;
            let is_ringed = ledger.persons[person.ring_next].root == person.root;
            let length = ledger.chain(slot).take(bound).count();
            let is_counted = person.chain_length as usize == length;
            if !(is_found && is_flat && is_ringed && is_counted) {
                let detail = format!(
                    "found {is_found}, flat {is_flat}, ringed {is_ringed}, counted {is_counted}"
                );
                self.find("persons", subject.clone(), detail);
            }
            let mut previous = NONE;
            for slot_of_list in ledger.chain(slot).take(bound) {
                listed += 1;
                let reservation = &ledger.reservations[slot_of_list];
                let is_theirs = ledger.root_of(reservation.person) == slot;
                if !is_theirs || reservation.person_previous != previous {
                    let detail = format!("lists slot {slot_of_list} wrongly");
                    self.find("persons", subject.clone(), detail);
                }
                previous = slot_of_list;
            }
        }
        if listed != ledger.reservations.len() {
            let detail = format!(
                "{listed} are listed, {} are kept",
                ledger.reservations.len()
            );
            self.find("persons", "reservations", detail);
        }
    }

    pub(crate) fn check_requests(&mut self) {
        let ledger = self.ledger;
        let mut whole_count = 0;
        for (slot, request) in ledger.requests.entries() {
            let is_found = ledger.find_request(&request.request_id) == Some(slot);
            if !is_found || request.sequence > ledger.sequence {
                let detail = format!("slot {slot}, sequence {}", request.sequence);
                self.find("index", request.request_id.clone(), detail);
            }
            whole_count += usize::from(request.reservation == NONE && request.sale == NONE);
        }
        let mut listed = 0;
        let of_reservations = ledger
            .reservations
            .entries()
            .map(|(slot, reservation)| (slot, NONE, reservation.first_request));
        let of_sales = (0..)
            .zip(&ledger.sales)
            .map(|(slot, sale)| (NONE, slot, sale.request_first));
        let bound = ledger.requests.len();
        for (reservation, sale, first) in of_reservations.chain(of_sales) {
            let mut slot = first;
            while slot != NONE && listed <= bound {
                let request = &ledger.requests[slot];
                if request.reservation != reservation || (sale != NONE && request.sale != sale) {
                    let detail = format!("slot {slot} is in another's list");
                    self.find("index", request.request_id.clone(), detail);
                }
                listed += 1;
                slot = request.next;
            }
        }
        if listed + whole_count != bound {
            let detail = format!("{listed} are listed of {bound}, {whole_count} are of no sale");
            self.find("index", "requests", detail);
        }
        let counts = [
            (ledger.reservation_index.len(), ledger.reservations.len()),
            (ledger.attempt_index.len(), ledger.attempts.len()),
            (ledger.person_index.len(), ledger.persons.len()),
            (ledger.request_index.len(), ledger.requests.len()),
        ];
        for (known, kept) in counts.into_iter().filter(|(known, kept)| known != kept) {
            self.find(
                "index",
                "ids",
                format!("{known} are known, {kept} are kept"),
            );
        }
    }
}
