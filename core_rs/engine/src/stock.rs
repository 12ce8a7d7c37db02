//! Owns the commands on pools: PutPool, SupplyStock, WithdrawStock, AdjustStock, MoveStock and
//! PourBuffer.
//!
//! Must not touch units that a reservation has: they only move available and buffered ones, and
//! each booking keeps `supplied - withdrawn - written_off` equal to what is there. Next: `sale.rs`.

use alloc::collections::BTreeMap;

use crate::arena::Slot;
use crate::book::book;
use crate::command::{Command, PutPool, StockChange};
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody, PoolDefined, StockBooked};
use crate::ids::{Millis, Text, Units};
use crate::limits::{COUNTER_UNITS_MAX, POOL_COUNT_MAX, SKU_COUNT_MAX};
use crate::outcome::{Outcome, SaleState};
use crate::reply::Answer;
use crate::state::{Ledger, Pool, Rack};
use crate::view::Counters;

/// The names of a pool, as commands and events carry them.
#[derive(Clone, Copy)]
pub(crate) struct PoolNames<'a> {
    pub(crate) sale_id: &'a Text,
    pub(crate) sku: &'a Text,
    pub(crate) pool: &'a Text,
}

impl Ledger {
    pub(crate) fn decide_put_pool(&self, command: &Command, put: &PutPool, now: Millis) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let sale = self.sale_named(&put.sale_id)?;
        self.check_not_archived(sale)?;
        match self.find_rack(sale, &put.sku) {
            None if self.sale_at(sale).racks.len() >= SKU_COUNT_MAX => {
                return Err(Refusal::not_allowed("sku_count"));
            }
            Some(rack)
                if self.find_pool(rack, &put.pool).is_none()
                    && self.rack_at(rack).pools.len() >= POOL_COUNT_MAX =>
            {
                return Err(Refusal::not_allowed("pool_count").on_rack(rack));
            }
            _ => {}
        }
        let mut labels = put.labels.clone();
        labels.sort();
        let body = EventBody::PoolDefined(PoolDefined {
            sku: put.sku.clone(),
            pool: put.pool.clone(),
            position: put.position,
            labels,
            is_offered: put.is_offered,
        });
        let draft = Draft::new(self, command, now).in_sale(&put.sale_id);
        Ok(draft.accept_one(body, None, Answer::None))
    }

    pub(crate) fn decide_supply_stock(
        &self,
        command: &Command,
        change: &StockChange,
        now: Millis,
    ) -> Verdict {
        self.decide_stock(command, change.names(), now, |counters| {
            check_room(counters, change.units)?;
            Ok(EventBody::StockSupplied(change.booked()))
        })
    }

    pub(crate) fn decide_withdraw_stock(
        &self,
        command: &Command,
        change: &StockChange,
        now: Millis,
    ) -> Verdict {
        self.decide_stock(command, change.names(), now, |counters| {
            let source = if change.is_buffer {
                counters.buffer
            } else {
                counters.available
            };
            check_enough(source, change.units)?;
            Ok(EventBody::StockWithdrawn(change.booked()))
        })
    }

    pub(crate) fn decide_adjust_stock(
        &self,
        command: &Command,
        names: PoolNames<'_>,
        expected_available: Units,
        available: Units,
        now: Millis,
    ) -> Verdict {
        self.decide_stock(command, names, now, |counters| {
            check_room(counters, available - expected_available)?;
            if counters.available != expected_available {
                return Err(Refusal::of(Outcome::CounterMismatch));
            }
            let (sku, pool) = (names.sku.clone(), names.pool.clone());
            Ok(EventBody::StockAdjusted {
                sku,
                pool,
                expected_available,
                available,
            })
        })
    }

    pub(crate) fn decide_pour_buffer(
        &self,
        command: &Command,
        names: PoolNames<'_>,
        units: Units,
        now: Millis,
    ) -> Verdict {
        self.decide_stock(command, names, now, |counters| {
            check_enough(counters.buffer, units)?;
            let (sku, pool) = (names.sku.clone(), names.pool.clone());
            Ok(EventBody::BufferPoured { sku, pool, units })
        })
    }

    /// Books a withdrawal at the source and a supply at the target.
    pub(crate) fn decide_move_stock(
        &self,
        command: &Command,
        source: PoolNames<'_>,
        target_pool: &Text,
        units: Units,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let sale = self.sale_named(source.sale_id)?;
        let rack = self.rack_named(sale, source.sku)?;
        let source_slot = self.pool_named(rack, source.pool)?;
        let target_slot = self.pool_named(rack, target_pool)?;
        let check = || {
            self.check_not_archived(sale)?;
            if source_slot == target_slot {
                return Err(Refusal::not_allowed("target_pool"));
            }
            check_room(&self.pool_at(target_slot).counters, units)?;
            check_enough(self.pool_at(source_slot).counters.available, units)
        };
        check().map_err(|refusal| refusal.on_rack(rack))?;
        let body = EventBody::StockMoved {
            sku: source.sku.clone(),
            source_pool: source.pool.clone(),
            target_pool: target_pool.clone(),
            units,
        };
        let draft = Draft::new(self, command, now).in_sale(source.sale_id);
        Ok(draft.accept_one(body, None, Answer::None))
    }

    /// What the commands on one pool share: the repeat, the names, the archive.
    fn decide_stock(
        &self,
        command: &Command,
        names: PoolNames<'_>,
        now: Millis,
        decide: impl FnOnce(&Counters) -> Result<EventBody, Refusal>,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let sale = self.sale_named(names.sale_id)?;
        let rack = self.rack_named(sale, names.sku)?;
        let pool = self.pool_named(rack, names.pool)?;
        let on_rack = |refusal: Refusal| refusal.on_rack(rack);
        self.check_not_archived(sale).map_err(on_rack)?;
        let body = decide(&self.pool_at(pool).counters).map_err(on_rack)?;
        let draft = Draft::new(self, command, now).in_sale(names.sale_id);
        Ok(draft.accept_one(body, None, Answer::None))
    }

    /// An archived sale's books are closed.
    fn check_not_archived(&self, sale: Slot) -> Result<(), Refusal> {
        match self.sale_at(sale).state {
            SaleState::Archived => Err(Refusal::of(Outcome::SaleClosed)),
            _ => Ok(()),
        }
    }

    pub(crate) fn apply_pool_defined(&mut self, event: &Event, defined: &PoolDefined) {
        let sale = self
            .find_sale(&event.sale_id)
            .expect("an event names a known sale");
        let rack = self.intern_rack(sale, &defined.sku);
        let slot = match self.find_pool(rack, &defined.pool) {
            Some(slot) => slot,
            None => self.push_pool(rack, &defined.pool),
        };
        let pool = &mut self.pools[slot as usize];
        pool.position = defined.position;
        pool.labels.clone_from(&defined.labels);
        pool.is_offered = defined.is_offered;
        let pools = &self.pools;
        let order = |slot: &Slot| {
            let pool = &pools[*slot as usize];
            (pool.position, pool.pool.clone())
        };
        self.racks[rack as usize].pools.sort_by_key(order);
        self.touch(rack);
    }

    fn push_pool(&mut self, rack: Slot, pool: &Text) -> Slot {
        let slot = Slot::try_from(self.pools.len()).expect("limits keep pools far below 2^32");
        self.pools.push(Pool {
            rack,
            pool: pool.clone(),
            position: 0,
            labels: alloc::vec::Vec::new(),
            is_offered: false,
            counters: Counters::default(),
            forgotten_sold: 0,
        });
        self.racks[rack as usize].pools.push(slot);
        slot
    }

    fn intern_rack(&mut self, sale: Slot, sku: &Text) -> Slot {
        if let Some(rack) = self.find_rack(sale, sku) {
            return rack;
        }
        let slot = Slot::try_from(self.racks.len()).expect("limits keep skus far below 2^32");
        self.racks.push(Rack {
            sale,
            sku: sku.clone(),
            pools: alloc::vec::Vec::new(),
            level_epoch: 0,
            is_open: false,
            changed_sequence: 0,
            expiries: BTreeMap::new(),
        });
        self.sales[sale as usize].racks.insert(sku.clone(), slot);
        slot
    }

    pub(crate) fn apply_stock_supplied(&mut self, event: &Event, booked: &StockBooked) {
        self.change_pool(event, &booked.sku, &booked.pool, |counters| {
            book(&mut counters.supplied, booked.units);
            book(booked.place(counters), booked.units);
        });
    }

    pub(crate) fn apply_stock_withdrawn(&mut self, event: &Event, booked: &StockBooked) {
        self.change_pool(event, &booked.sku, &booked.pool, |counters| {
            book(&mut counters.withdrawn, booked.units);
            book(booked.place(counters), -booked.units);
        });
    }

    pub(crate) fn apply_stock_adjusted(
        &mut self,
        event: &Event,
        (sku, pool): (&str, &str),
        expected_available: Units,
        available: Units,
    ) {
        self.change_pool(event, sku, pool, |counters| {
            assert_eq!(
                expected_available, counters.available,
                "decided on this very count"
            );
            let more = available - expected_available;
            if more >= 0 {
                book(&mut counters.supplied, more);
            } else {
                book(&mut counters.written_off, -more);
            }
            book(&mut counters.available, more);
        });
    }

    pub(crate) fn apply_stock_moved(
        &mut self,
        event: &Event,
        sku: &str,
        (source_pool, target_pool): (&str, &str),
        units: Units,
    ) {
        // In first: a sku whose last units move was never sold out.
        self.change_pool(event, sku, target_pool, |counters| {
            book(&mut counters.supplied, units);
            book(&mut counters.available, units);
        });
        self.change_pool(event, sku, source_pool, |counters| {
            book(&mut counters.withdrawn, units);
            book(&mut counters.available, -units);
        });
    }

    pub(crate) fn apply_buffer_poured(
        &mut self,
        event: &Event,
        (sku, pool): (&str, &str),
        units: Units,
    ) {
        self.change_pool(event, sku, pool, |counters| {
            book(&mut counters.buffer, -units);
            book(&mut counters.available, units);
        });
    }

    fn change_pool(
        &mut self,
        event: &Event,
        sku: &str,
        pool: &str,
        change: impl FnOnce(&mut Counters),
    ) {
        let sale = self
            .find_sale(&event.sale_id)
            .expect("an event names a known sale");
        let rack = self
            .find_rack(sale, sku)
            .expect("an event names a known sku");
        let pool = self
            .find_pool(rack, pool)
            .expect("an event names a known pool");
        change(&mut self.pools[pool as usize].counters);
        self.touch(rack);
    }
}

impl StockChange {
    fn names(&self) -> PoolNames<'_> {
        PoolNames {
            sale_id: &self.sale_id,
            sku: &self.sku,
            pool: &self.pool,
        }
    }

    fn booked(&self) -> StockBooked {
        StockBooked {
            sku: self.sku.clone(),
            pool: self.pool.clone(),
            units: self.units,
            is_buffer: self.is_buffer,
        }
    }
}

impl StockBooked {
    fn place<'a>(&self, counters: &'a mut Counters) -> &'a mut Units {
        if self.is_buffer {
            &mut counters.buffer
        } else {
            &mut counters.available
        }
    }
}

fn check_room(counters: &Counters, units: Units) -> Result<(), Refusal> {
    if counters.supplied + units.max(0) > COUNTER_UNITS_MAX {
        return Err(Refusal::not_allowed("counter_units"));
    }
    Ok(())
}

fn check_enough(there: Units, units: Units) -> Result<(), Refusal> {
    if there < units {
        return Err(Refusal::of(Outcome::NotEnoughUnits));
    }
    Ok(())
}
