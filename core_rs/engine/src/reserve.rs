//! Owns Reserve: rows 1 and 2, and the limits of a person.
//!
//! Must not be more generous to a repeat: the id is looked up before stock and limits.
//! Next: `payment.rs`.

use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::command::{Command, Line, Reserve};
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody, Reserved};
use crate::ids::{Millis, Text, Units};
use crate::limits::RESERVATION_COUNT_MAX;
use crate::outcome::{Outcome, State};
use crate::pools::{Need, Source};
use crate::reply::Answer;
use crate::state::{Ledger, Pieces, Reservation, Scope};

impl Ledger {
    pub(crate) fn decide_reserve(
        &self,
        command: &Command,
        reserve: &Reserve,
        now: Millis,
    ) -> Verdict {
        if let Some(slot) = self.find_reservation(&reserve.reservation_id) {
            return self.repeat_reserve(slot, reserve);
        }
        let sale = self.sale_named(&reserve.sale_id)?;
        let needs = self.needs_of_lines(sale, &reserve.lines)?;
        self.check_reserve(sale, reserve, &needs, now)?;
        let pieces = self
            .allocate(&needs, Source::ForSale)
            .map_err(|need| self.sold_out(&need, now))?;

        let policy = &self.sale_at(sale).policy;
        let ttl = reserve
            .ttl
            .unwrap_or(policy.reservation_ttl)
            .min(policy.reservation_ttl);
        let max_life_at = now + policy.max_life;
        let expires_at = max_life_at.min(now + ttl);
        let taken = self.taken_of(&pieces);
        let answer = Answer::Reserved {
            expires_at,
            taken: taken.clone(),
        };
        let body = EventBody::Reserved(Reserved {
            person_id: reserve.person_id.clone(),
            lines: reserve.lines.clone(),
            ttl: reserve.ttl,
            not_after: reserve.not_after,
            expires_at,
            max_life_at,
            taken,
        });
        let draft = Draft::new(self, command, now)
            .in_sale(&reserve.sale_id)
            .on_new(&reserve.reservation_id);
        Ok(draft.accept_one(body, Some(State::Held), answer))
    }

    fn check_reserve(
        &self,
        sale: Slot,
        reserve: &Reserve,
        needs: &[Need],
        now: Millis,
    ) -> Result<(), Refusal> {
        let rack = needs[0].rack;
        if reserve.not_after.is_some_and(|not_after| now > not_after) {
            return Err(Refusal::of(Outcome::TooLate).on_rack(rack));
        }
        self.check_open(sale, now)
            .map_err(|refusal| refusal.on_rack(rack))?;
        self.check_not_after(sale, reserve.not_after, now)
            .map_err(|refusal| refusal.on_rack(rack))?;
        self.check_offered(needs)?;
        if self.reservations.len() >= RESERVATION_COUNT_MAX {
            return Err(Refusal::not_allowed("reservation_count").on_rack(rack));
        }
        match self.find_person(&reserve.person_id) {
            Some(person) => self.check_limits(sale, Some(self.root_of(person)), needs),
            None => self.check_limits(sale, None, needs),
        }
    }

    /// Refuses what would bring a person past a limit of the sale; `None` has nothing yet.
    pub(crate) fn check_limits(
        &self,
        sale: Slot,
        person: Option<Slot>,
        needs: &[Need],
    ) -> Result<(), Refusal> {
        let policy = &self.sale_at(sale).policy;
        let usage_of = |scope| {
            person
                .map(|person| self.usage(person, scope))
                .unwrap_or_default()
        };
        let refuse = |limit, rack| {
            Err(Refusal::of(Outcome::LimitReached)
                .by_limit(limit)
                .on_rack(rack))
        };
        if policy.units_per_person_per_sku_max > 0 {
            for need in needs {
                let asked = needs.iter().filter(|other| other.rack == need.rack);
                let asked: Units = asked.map(|other| other.units).sum();
                let had = usage_of(Scope::Rack(need.rack)).units;
                if had + asked > policy.units_per_person_per_sku_max {
                    return refuse("units_per_person_per_sku_max", need.rack);
                }
            }
        }
        let usage = usage_of(Scope::Sale(sale));
        if policy.units_per_person_max > 0 {
            let asked: Units = needs.iter().map(|need| need.units).sum();
            if usage.units + asked > policy.units_per_person_max {
                return refuse("units_per_person_max", needs[0].rack);
            }
        }
        let unpaid_max = policy.unpaid_reservations_per_person_max;
        if unpaid_max > 0 && usage.unpaid_count >= unpaid_max {
            return refuse("unpaid_reservations_per_person_max", needs[0].rack);
        }
        Ok(())
    }

    fn repeat_reserve(&self, slot: Slot, reserve: &Reserve) -> Verdict {
        let reservation = &self.reservations[slot];
        if let Some(field) = self.reserve_difference(slot, reserve) {
            return Err(Refusal::conflict(field, Some(reservation.state)));
        }
        let answer = Answer::Reserved {
            expires_at: reservation.created_at + Millis::from(reservation.first_hold),
            taken: self.taken_of(reservation.pieces.first_taken()),
        };
        Ok(Self::repeat(
            reservation.created_sequence,
            Some(reservation.state),
            answer,
        ))
    }

    /// The first field in which `reserve` differs from the one that made the reservation.
    fn reserve_difference(&self, slot: Slot, reserve: &Reserve) -> Option<Text> {
        let reservation = &self.reservations[slot];
        if self.sale_at(reservation.sale).sale_id != reserve.sale_id {
            return Some(Text::new_static("sale_id"));
        }
        if self.persons[reservation.person].person_id != reserve.person_id {
            return Some(Text::new_static("person_id"));
        }
        let lines = self.lines_of(slot);
        if lines.len() != reserve.lines.len() {
            return Some(Text::new_static("lines"));
        }
        for (line_index, (line, asked)) in lines.iter().zip(&reserve.lines).enumerate() {
            let field = match () {
                () if line.sku != asked.sku => "sku",
                () if line.pool != asked.pool => "pool",
                () if line.units != asked.units => "units",
                () => continue,
            };
            return Some(alloc::format!("lines[{line_index}].{field}").into());
        }
        if Millis::from(reservation.ttl) != reserve.ttl.unwrap_or(0) {
            return Some(Text::new_static("ttl"));
        }
        self.is_not_after_other(slot, reserve.not_after)
            .then_some(Text::new_static("not_after_time"))
    }

    /// The lines that were asked for. Pieces keep them: each knows its line, and whether it named
    /// its pool.
    pub(crate) fn lines_of(&self, slot: Slot) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for piece in self.reservations[slot].pieces.as_slice() {
            let units = Units::from(piece.units);
            if usize::from(piece.line_index) < lines.len() {
                lines[usize::from(piece.line_index)].units += units;
                continue;
            }
            let pool = self.pool_at(piece.pool);
            let sku = self.rack_at(pool.rack).sku.clone();
            lines.push(Line {
                sku,
                pool: piece.is_named.then(|| pool.pool.clone()),
                units,
            });
        }
        lines
    }

    pub(crate) fn apply_reserved(&mut self, event: &Event, reserved: &Reserved) {
        assert!(
            self.find_reservation(&event.reservation_id).is_none(),
            "a reservation is made once"
        );
        let sale = self
            .find_sale(&event.sale_id)
            .expect("an event names a known sale");
        let is_named = |line_index: u32| reserved.lines[line_index as usize].pool.is_some();
        let pieces = self.pieces_of(sale, &reserved.taken, is_named);
        let person = self.intern_person(&reserved.person_id);
        self.draw(&pieces);
        let span = |span: Millis| u32::try_from(span).expect("a span is at most 30 days");
        let not_after_span = reserved.not_after.map_or(0, |not_after| {
            u32::try_from(not_after - event.time).unwrap_or(u32::MAX)
        });
        let slot = self.reservations.insert(Reservation {
            reservation_id: event.reservation_id.clone(),
            created_sequence: event.sequence,
            created_at: event.time,
            expires_at: reserved.expires_at,
            max_life_at: reserved.max_life_at,
            settle_by: 0,
            ended_at: 0,
            pieces: Pieces::from_vec(pieces),
            sale,
            person,
            ttl: span(reserved.ttl.unwrap_or(0)),
            first_hold: span(reserved.expires_at - event.time),
            not_after_span,
            first_attempt: NONE,
            first_request: NONE,
            list_previous: NONE,
            list_next: NONE,
            person_previous: NONE,
            person_next: NONE,
            state: State::Held,
            release_reason: None,
            is_ended: false,
            is_release_requested: false,
            is_retaken: false,
        });
        self.link_person(slot);
        self.reservation_index.insert(&event.reservation_id, slot);
        self.enter(slot);
    }
}
