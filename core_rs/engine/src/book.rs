//! Owns the bookkeeping under `apply`: counters, timers, usage and lists follow a reservation's
//! state.
//!
//! Must not decide and must not fail: what can't be booked is a bug, and an assertion stops the
//! process before a wrong number is told. Next: `apply.rs`.

use crate::arena::{NONE, Slot};
use crate::event::Taken;
use crate::ids::{Millis, Units};
use crate::outcome::State;
use crate::state::{Ledger, Piece, Reservation, Sale};
use crate::view::Counters;

/// Adds to a counter that must never be negative.
pub(crate) fn book(counter: &mut Units, change: Units) {
    *counter += change;
    assert!(*counter >= 0, "a counter fell to {counter} by {change}");
}

/// The counter in which the units of a reservation in `state` stand.
pub(crate) fn place_of(counters: &mut Counters, state: State) -> Option<&mut Units> {
    match state {
        State::Held => Some(&mut counters.held),
        State::Paying => Some(&mut counters.paying),
        State::Overdue => Some(&mut counters.overdue),
        State::Confirmed => Some(&mut counters.sold),
        State::Released | State::RefundDue | State::Refunded | State::Returned => None,
    }
}

/// Says whether units in `state` count against the person's limits.
///
/// A released unit gives its quota back at once; a returned one only what the return gave back.
pub(crate) fn is_counted(state: State) -> bool {
    match state {
        State::Held | State::Paying | State::Overdue | State::Confirmed | State::Returned => true,
        State::Released | State::RefundDue | State::Refunded => false,
    }
}

/// Says whether a reservation in `state` has units and is not paid.
pub(crate) fn is_unpaid(state: State) -> bool {
    matches!(state, State::Held | State::Paying | State::Overdue)
}

/// Says whether a cancelled sale has yet to ask for the reservation's units.
pub(crate) fn is_open(reservation: &Reservation) -> bool {
    is_unpaid(reservation.state) && !reservation.is_release_requested
}

impl Ledger {
    /// Brings a reservation to `to`, with `edit` made in between and everything that follows.
    pub(crate) fn rewrite(&mut self, slot: Slot, to: State, edit: impl FnOnce(&mut Reservation)) {
        self.unlist_ended(slot);
        let from = self.reservations[slot].state;
        let was_open = is_open(&self.reservations[slot]);
        self.unstand(slot);
        if is_counted(from) && !is_counted(to) {
            self.count_units(slot, -1);
        }
        let reservation = &mut self.reservations[slot];
        edit(reservation);
        reservation.state = to;
        let is_open = is_open(reservation);
        self.stand(slot);
        if !is_counted(from) && is_counted(to) {
            self.count_units(slot, 1);
        }
        match (is_unpaid(from), is_unpaid(to)) {
            (true, false) => {
                self.count_unpaid(slot, false);
                self.live_count -= 1;
                let sale = self.reservations[slot].sale;
                self.sales[sale as usize].drained_count += 1;
            }
            (false, true) => {
                self.count_unpaid(slot, true);
                self.live_count += 1;
            }
            (true, true) | (false, false) => {}
        }
        match (was_open, is_open) {
            (true, false) => self.unlink_open(slot),
            (false, true) => self.link_open(slot),
            (true, true) | (false, false) => {}
        }
        self.touch_reservation(slot);
    }

    /// Books a reservation that was just pushed.
    pub(crate) fn enter(&mut self, slot: Slot) {
        self.stand(slot);
        self.count_reservation(slot);
        self.live_count += 1;
        self.link_open(slot);
        self.touch_reservation(slot);
    }

    /// Takes units out of available or buffer; the caller puts them where the state says.
    pub(crate) fn draw(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let counters = &mut self.pools[piece.pool as usize].counters;
            let source = if piece.is_from_buffer {
                &mut counters.buffer
            } else {
                &mut counters.available
            };
            book(source, -Units::from(piece.units));
        }
    }

    /// Makes the units of a reservation that just left its state available again.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        for place in 0..self.reservations[slot].pieces.as_slice().len() {
            let piece = self.reservations[slot].pieces.as_slice()[place];
            let counters = &mut self.pools[piece.pool as usize].counters;
            book(&mut counters.available, piece.standing());
        }
        self.touch_reservation(slot);
    }

    /// The pieces that an event names. Their pools exist, because the event was decided on them.
    pub(crate) fn pieces_of(
        &self,
        sale: Slot,
        taken: &[Taken],
        is_named: impl Fn(u32) -> bool,
    ) -> alloc::vec::Vec<Piece> {
        let piece = |taken: &Taken| {
            let rack = self
                .find_rack(sale, &taken.sku)
                .expect("an event names a known sku");
            Piece {
                pool: self
                    .find_pool(rack, &taken.pool)
                    .expect("an event names a known pool"),
                units: u32::try_from(taken.units).expect("a line has at most a million units"),
                returned: 0,
                given_back: 0,
                line_index: u8::try_from(taken.line_index).expect("at most 32 lines"),
                is_named: is_named(taken.line_index),
                is_from_buffer: taken.is_from_buffer,
            }
        };
        taken.iter().map(piece).collect()
    }

    /// Notes that a rack changed, and whether it opened again.
    pub(crate) fn touch(&mut self, rack: Slot) {
        let is_open = self.offered_units(rack) > 0;
        let next = self.sequence + 1;
        let rack = &mut self.racks[rack as usize];
        if is_open && !rack.is_open {
            rack.level_epoch += 1;
        }
        rack.is_open = is_open;
        rack.changed_sequence = next;
        self.sales[rack.sale as usize].changed_sequence = next;
    }

    /// Counts the reservation's units, and sets its timer, as its state says.
    fn stand(&mut self, slot: Slot) {
        self.book_standing(slot, 1);
        self.set_timers(slot);
    }

    /// Sets the reservation's timer, as its state says.
    pub(crate) fn set_timers(&mut self, slot: Slot) {
        let reservation = &self.reservations[slot];
        let sale = &mut self.sales[reservation.sale as usize];
        match reservation.state {
            State::Held => {
                let is_new = sale.expiries.insert(reservation.expires_at, slot);
                assert!(is_new, "one expiry timer a reservation");
                self.note_expiry(slot);
            }
            State::Paying => {
                let is_new = sale.settlings.insert(reservation.settle_by, slot);
                assert!(is_new, "one settle timer a reservation");
            }
            State::Overdue => {
                let is_new = sale.overdues.insert(reservation.settle_by, slot);
                assert!(is_new, "listed once as overdue");
            }
            _ => {}
        }
    }

    fn unstand(&mut self, slot: Slot) {
        self.book_standing(slot, -1);
        let reservation = &self.reservations[slot];
        let sale = &mut self.sales[reservation.sale as usize];
        match reservation.state {
            State::Held => {
                let was_there = sale.expiries.remove(reservation.expires_at, slot);
                assert!(was_there, "each held reservation has its timer");
                self.forget_expiry(slot);
            }
            State::Paying => {
                let was_there = sale.settlings.remove(reservation.settle_by, slot);
                assert!(was_there, "each paying reservation has its timer");
            }
            State::Overdue => {
                let was_there = sale.overdues.remove(reservation.settle_by, slot);
                assert!(was_there, "each overdue reservation is listed");
            }
            _ => {}
        }
    }

    fn book_standing(&mut self, slot: Slot, sign: Units) {
        let reservation = &self.reservations[slot];
        for piece in reservation.pieces.as_slice() {
            let counters = &mut self.pools[piece.pool as usize].counters;
            if let Some(counter) = place_of(counters, reservation.state) {
                book(counter, sign * piece.standing());
            }
        }
    }

    fn note_expiry(&mut self, slot: Slot) {
        let reservation = &self.reservations[slot];
        for piece in reservation.pieces.as_slice() {
            let rack = self.pools[piece.pool as usize].rack;
            let expiries = &mut self.racks[rack as usize].expiries;
            *expiries.entry(reservation.expires_at).or_insert(0) += 1;
        }
    }

    fn forget_expiry(&mut self, slot: Slot) {
        let reservation = &self.reservations[slot];
        for piece in reservation.pieces.as_slice() {
            let rack = self.pools[piece.pool as usize].rack;
            let expiries = &mut self.racks[rack as usize].expiries;
            let count = expiries
                .get_mut(&reservation.expires_at)
                .expect("noted when it was held");
            *count -= 1;
            if *count == 0 {
                expiries.remove(&reservation.expires_at);
            }
        }
    }

    fn touch_reservation(&mut self, slot: Slot) {
        for place in 0..self.reservations[slot].pieces.as_slice().len() {
            let piece = self.reservations[slot].pieces.as_slice()[place];
            self.touch(self.pool_at(piece.pool).rack);
        }
    }

    fn link_open(&mut self, slot: Slot) {
        self.link(slot, |sale| (&mut sale.open_first, &mut sale.open_last));
    }

    fn unlink_open(&mut self, slot: Slot) {
        self.unlink(slot, |sale| (&mut sale.open_first, &mut sale.open_last));
    }

    /// Puts a reservation at the end of one of its sale's lists, whose ends `ends` tells.
    pub(crate) fn link(&mut self, slot: Slot, ends: impl Fn(&mut Sale) -> (&mut Slot, &mut Slot)) {
        let (first, last) = ends(&mut self.sales[self.reservations[slot].sale as usize]);
        let previous = core::mem::replace(last, slot);
        if previous == NONE {
            *first = slot;
        } else {
            self.reservations[previous].list_next = slot;
        }
        let reservation = &mut self.reservations[slot];
        (reservation.list_previous, reservation.list_next) = (previous, NONE);
    }

    /// Takes a reservation out of one of its sale's lists, whose ends `ends` tells.
    pub(crate) fn unlink(
        &mut self,
        slot: Slot,
        ends: impl Fn(&mut Sale) -> (&mut Slot, &mut Slot),
    ) {
        let reservation = &mut self.reservations[slot];
        let (previous, next) = (reservation.list_previous, reservation.list_next);
        (reservation.list_previous, reservation.list_next) = (NONE, NONE);
        let (first, last) = ends(&mut self.sales[reservation.sale as usize]);
        if previous == NONE {
            *first = next;
        }
        if next == NONE {
            *last = previous;
        }
        if previous != NONE {
            self.reservations[previous].list_next = next;
        }
        if next != NONE {
            self.reservations[next].list_previous = previous;
        }
    }

    /// Adds an outage to every held reservation.
    pub(crate) fn credit_outage(&mut self, outage: Millis) {
        for sale in 0..self.sales.len() {
            let held: alloc::vec::Vec<Slot> = self.sales[sale]
                .expiries
                .iter()
                .map(|(_, slot)| slot)
                .collect();
            for slot in held {
                self.rewrite(slot, State::Held, |reservation| {
                    reservation.expires_at += outage;
                    reservation.max_life_at += outage;
                });
            }
        }
    }
}
