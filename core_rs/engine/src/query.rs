//! Owns the queries: what of the state leaves the ledger as a copy.
//!
//! Must not change anything, nor look at more than a bound of entities for one answer.
//! Next: `audit.rs`.

use alloc::vec;
use alloc::vec::Vec;

use crate::arena::Slot;
use crate::ids::{Millis, Text, Units};
use crate::limits::{PAGE_SCAN_MAX, PAGE_SIZE_MAX};
use crate::outcome::Level;
use crate::reply::SaleView;
use crate::state::{Attempt, Ledger, Piece};
use crate::view::{
    AttemptView, AvailabilityView, Counters, PoolView, ReservationFilter, ReservationPage,
    ReservationView, SaleQueue, SaleUnits, Sizes, TakenView,
};

impl Ledger {
    /// A reservation; none if there is no such.
    #[must_use]
    pub fn reservation(&self, reservation_id: &str) -> Option<ReservationView> {
        self.find_reservation(reservation_id)
            .map(|slot| self.reservation_view(slot))
    }

    /// A page of a sale's reservations, in the order in which they were made unless some were
    /// forgotten before (then a new one takes the place of an old one); none if there is no such
    /// sale. `after` is 0 for the first page, and `next_after` of the page before for others.
    ///
    /// At most [`PAGE_SIZE_MAX`] are given and [`PAGE_SCAN_MAX`] looked at, so a page may be short.
    #[must_use]
    pub fn reservations(
        &self,
        filter: &ReservationFilter,
        after: u64,
        limit: usize,
    ) -> Option<ReservationPage> {
        let sale = self.find_sale(&filter.sale_id)?;
        let person = match &filter.person_id {
            None => None,
            Some(person_id) => match self.find_person(person_id) {
                Some(person) => Some(self.root_of(person)),
                None => return Some(ReservationPage::default()),
            },
        };
        let limit = limit.clamp(1, PAGE_SIZE_MAX);
        let is_wanted = |slot: Slot| {
            let Some(reservation) = self.reservations.get(slot) else {
                return false;
            };
            reservation.sale == sale
                && person.is_none_or(|person| self.root_of(reservation.person) == person)
                && filter.state.is_none_or(|state| reservation.state == state)
        };
        let first = Slot::try_from(after).unwrap_or(Slot::MAX);
        let last = self.reservations.end();
        let page = match person.and_then(|person| self.short_chain(person)) {
            Some(mut chain) => {
                chain.sort_unstable();
                self.page(
                    chain.into_iter().filter(|slot| *slot >= first),
                    is_wanted,
                    limit,
                )
            }
            None => self.page(first..last, is_wanted, limit),
        };
        Some(page)
    }

    /// The reservations of a person, unless there are so many that a scan is as good.
    fn short_chain(&self, root: Slot) -> Option<Vec<Slot>> {
        let chain: Vec<Slot> = self.chain(root).take(PAGE_SCAN_MAX).collect();
        (chain.len() < PAGE_SCAN_MAX).then_some(chain)
    }

    fn page(
        &self,
        slots: impl Iterator<Item = Slot>,
        is_wanted: impl Fn(Slot) -> bool,
        limit: usize,
    ) -> ReservationPage {
        let mut page = ReservationPage::default();
        for (scanned, slot) in slots.enumerate() {
            if page.reservations.len() == limit || scanned == PAGE_SCAN_MAX {
                page.next_after = Some(u64::from(slot));
                break;
            }
            if is_wanted(slot) {
                page.reservations.push(self.reservation_view(slot));
            }
        }
        page
    }

    /// A sku of a sale; none if there is no such.
    #[must_use]
    pub fn availability(&self, sale_id: &str, sku: &str) -> Option<AvailabilityView> {
        let slot = self.find_rack(self.find_sale(sale_id)?, sku)?;
        let rack = self.rack_at(slot);
        let pool_view = |pool: &Slot| {
            let pool = self.pool_at(*pool);
            PoolView {
                pool: pool.pool.clone(),
                position: pool.position,
                labels: pool.labels.clone(),
                is_offered: pool.is_offered,
                counters: pool.counters,
            }
        };
        Some(AvailabilityView {
            sale_id: sale_id.into(),
            sku: sku.into(),
            level: self.level_of(slot),
            level_epoch: rack.level_epoch,
            counters: self.sum_of(slot, |_| true),
            pools: rack.pools.iter().map(pool_view).collect(),
            earliest_expire_at: self.earliest_expiry(slot),
            changed_sequence: rack.changed_sequence,
        })
    }

    /// The names of a sale's skus, in order; none if there is no such sale.
    #[must_use]
    pub fn skus(&self, sale_id: &str) -> Option<Vec<Text>> {
        let sale = self.sale_at(self.find_sale(sale_id)?);
        Some(sale.racks.keys().cloned().collect())
    }

    /// The last event that changed a sku of a sale; none if there is no such. Cheaper than
    /// [`Ledger::availability`] for a watch that has nothing to tell.
    #[must_use]
    pub fn changed_sequence(&self, sale_id: &str, sku: &str) -> Option<i64> {
        let rack = self.find_rack(self.find_sale(sale_id)?, sku)?;
        Some(self.rack_at(rack).changed_sequence)
    }

    /// The last event that changed any sku of a sale; none if there is no such sale.
    #[must_use]
    pub fn sale_changed_sequence(&self, sale_id: &str) -> Option<i64> {
        self.find_sale(sale_id)
            .map(|sale| self.sale_at(sale).changed_sequence)
    }

    /// The names of all sales, in order.
    #[must_use]
    pub fn sale_ids(&self) -> Vec<Text> {
        self.sale_index.keys().cloned().collect()
    }

    /// A sale, its state judged at `now`; none if there is no such.
    #[must_use]
    pub fn sale(&self, sale_id: &str, now: Millis) -> Option<SaleView> {
        let sale = self.sale_at(self.find_sale(sale_id)?);
        Some(sale.view(now.max(self.time)))
    }

    /// What waits to be paid in a sale; none if there is no such. Costs no walk over reservations.
    #[must_use]
    pub fn sale_queue(&self, sale_id: &str) -> Option<SaleQueue> {
        let sale = self.sale_at(self.find_sale(sale_id)?);
        let is_gone = |rack: &Slot| self.level_of(*rack) == Level::Gone;
        // What was never brought in was not sold.
        let is_supplied = |rack: &Slot| self.sum_of(*rack, |_| true).supplied > 0;
        let mut racks = sale.racks.values();
        Some(SaleQueue {
            held_count: sale.expiries.len() as u64,
            paying_count: sale.settlings.len() as u64,
            drained_count: sale.drained_count,
            is_sold_out: racks.clone().all(is_gone) && racks.any(is_supplied),
        })
    }

    /// How much the ledger keeps.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            sale_count: self.sales.len(),
            pool_count: self.pools.len(),
            reservation_count: self.reservations.len(),
            live_reservation_count: self.live_count,
            person_count: self.persons.len(),
            attempt_count: self.attempts.len(),
            request_count: self.requests.len(),
        }
    }

    /// Where the units of each sale stand, by `sale_id`, over all pools. Looks at every pool once.
    #[must_use]
    pub fn units_by_sale(&self) -> Vec<SaleUnits> {
        let mut sums = vec![Counters::default(); self.sales.len()];
        for pool in &self.pools {
            sums[self.rack_at(pool.rack).sale as usize].add(&pool.counters);
        }
        let row = |(sale_id, slot): (&Text, &Slot)| SaleUnits {
            sale_id: sale_id.clone(),
            counters: sums[*slot as usize],
        };
        self.sale_index.iter().map(row).collect()
    }

    /// When the reservation that is OVERDUE the longest should have been settled; none if none is.
    #[must_use]
    pub fn oldest_overdue(&self) -> Option<Millis> {
        let firsts = self.sales.iter().filter_map(|sale| sale.overdues.first());
        firsts.min()
    }

    fn reservation_view(&self, slot: Slot) -> ReservationView {
        let reservation = &self.reservations[slot];
        let root = self.root_of(reservation.person);
        let pieces = reservation.pieces.as_slice();
        ReservationView {
            reservation_id: reservation.reservation_id.clone(),
            sale_id: self.sale_at(reservation.sale).sale_id.clone(),
            person_id: self.persons[reservation.person].person_id.clone(),
            merged_person_id: self.persons[root].person_id.clone(),
            state: reservation.state,
            release_reason: reservation.release_reason,
            lines: self.lines_of(slot),
            taken: pieces.iter().map(|piece| self.taken_view(piece)).collect(),
            attempts: self.attempts_of(slot).map(attempt_view).collect(),
            created_at: reservation.created_at,
            expires_at: reservation.expires_at,
            settle_by: (reservation.settle_by > 0).then_some(reservation.settle_by),
            max_life_at: reservation.max_life_at,
            release_requested: reservation.is_release_requested,
            retaken: reservation.is_retaken,
            created_sequence: reservation.created_sequence,
        }
    }

    fn taken_view(&self, piece: &Piece) -> TakenView {
        let pool = self.pool_at(piece.pool);
        TakenView {
            line_index: u32::from(piece.line_index),
            sku: self.rack_at(pool.rack).sku.clone(),
            pool: pool.pool.clone(),
            units: Units::from(piece.units),
            returned_units: Units::from(piece.returned),
        }
    }
}

fn attempt_view(attempt: &Attempt) -> AttemptView {
    AttemptView {
        attempt_id: attempt.attempt_id.clone(),
        provider: attempt.provider.clone(),
        amount_minor: attempt.amount_minor,
        currency: attempt.currency.clone(),
        state: attempt.state,
        is_unregistered: attempt.is_unregistered,
        begun_at: attempt.begun_at,
    }
}
