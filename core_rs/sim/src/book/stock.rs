//! Sales, pools and the units that come in and go out, as the rules have them.
//!
//! Owns: the facts of each pool. Must not: touch what a reservation has.

use std::collections::BTreeMap;

use lastunit_engine::{
    Action, Answer, Command, Disposition, Millis, Outcome, PutPool, PutSale, Reply, Return,
    SaleState, SaleView, State, Text, Units,
};

use super::{Book, Pool, Sale, ok, refuse};

/// The most that a pool may ever be supplied with.
const COUNTER_UNITS_MAX: Units = 1_000_000_000_000;

impl Book {
    pub(super) fn stock(&mut self, command: &Command, now: Millis) -> Reply {
        match &command.action {
            Action::PutSale(put) => self.put_sale(put, now),
            Action::SetSaleState { sale_id, state } => self.set_sale_state(sale_id, *state, now),
            Action::PutPool(put) => self.put_pool(put),
            Action::SupplyStock(it) => self.change((&it.sale_id, &it.sku, &it.pool), |pool, _| {
                if pool.supplied + it.units > COUNTER_UNITS_MAX {
                    return Err(Outcome::NotAllowed);
                }
                pool.supplied += it.units;
                pool.buffer += if it.is_buffer { it.units } else { 0 };
                Ok(())
            }),
            Action::WithdrawStock(it) => {
                self.change((&it.sale_id, &it.sku, &it.pool), |pool, available| {
                    let there = if it.is_buffer { pool.buffer } else { available };
                    if there < it.units {
                        return Err(Outcome::NotEnoughUnits);
                    }
                    pool.withdrawn += it.units;
                    pool.buffer -= if it.is_buffer { it.units } else { 0 };
                    Ok(())
                })
            }
            Action::AdjustStock {
                sale_id,
                sku,
                pool,
                expected_available,
                available,
            } => self.change((sale_id, sku, pool), |pool, found| {
                if found != *expected_available {
                    return Err(Outcome::CounterMismatch);
                }
                pool.supplied += (available - found).max(0);
                pool.written_off += (found - available).max(0);
                Ok(())
            }),
            Action::PourBuffer {
                sale_id,
                sku,
                pool,
                units,
            } => self.change((sale_id, sku, pool), |pool, _| {
                if pool.buffer < *units {
                    return Err(Outcome::NotEnoughUnits);
                }
                pool.buffer -= units;
                Ok(())
            }),
            Action::MoveStock {
                sale_id,
                sku,
                source_pool,
                target_pool,
                units,
            } => self.move_stock((sale_id, sku, source_pool), target_pool, *units),
            other => unreachable!("{other:?} is judged elsewhere"),
        }
    }

    /// Looks the names up, then changes the pool, or not.
    fn change(
        &mut self,
        (sale_id, sku, pool): (&Text, &Text, &Text),
        change: impl FnOnce(&mut Pool, Units) -> Result<(), Outcome>,
    ) -> Reply {
        if let Err(outcome) = self.find_pool(sale_id, sku, pool) {
            return refuse(outcome);
        }
        let available = self.available(sale_id, sku, pool);
        match change(self.pool_mut(sale_id, sku, pool), available) {
            Ok(()) => ok(None, Answer::None),
            Err(outcome) => refuse(outcome),
        }
    }

    fn find_pool(&self, sale_id: &Text, sku: &Text, pool: &Text) -> Result<(), Outcome> {
        let sale = self.sales.get(sale_id).ok_or(Outcome::UnknownSale)?;
        let sku = sale.skus.get(sku).ok_or(Outcome::UnknownSku)?;
        sku.pools.get(pool).ok_or(Outcome::UnknownPool)?;
        if sale.state == SaleState::Archived {
            return Err(Outcome::SaleClosed);
        }
        Ok(())
    }

    fn pool_mut(&mut self, sale_id: &Text, sku: &Text, pool: &Text) -> &mut Pool {
        let sale = self.sales.get_mut(sale_id).expect("was looked up");
        let sku = sale.skus.get_mut(sku).expect("was looked up");
        sku.pools.get_mut(pool).expect("was looked up")
    }

    fn move_stock(
        &mut self,
        (sale_id, sku, source): (&Text, &Text, &Text),
        target: &Text,
        units: Units,
    ) -> Reply {
        // A name that is not known wins over an archived sale, whichever of the two it is.
        let known = [source, target].map(|pool| self.find_pool(sale_id, sku, pool).err());
        if let Some(outcome) = known.into_iter().flatten().min() {
            return refuse(outcome);
        }
        if source == target {
            return refuse(Outcome::NotAllowed);
        }
        if self.available(sale_id, sku, source) < units {
            return refuse(Outcome::NotEnoughUnits);
        }
        self.pool_mut(sale_id, sku, source).withdrawn += units;
        self.pool_mut(sale_id, sku, target).supplied += units;
        ok(None, Answer::None)
    }

    pub(super) fn book_returned(&mut self, sale_id: &Text, asked: &Return, back: &[(Text, Units)]) {
        for (pool, units) in back {
            let pool = self.pool_mut(sale_id, &asked.sku, pool);
            match asked.disposition {
                Disposition::Resell => {}
                Disposition::Quarantine => pool.quarantine += units,
                Disposition::WriteOff => pool.written_off += units,
            }
        }
    }

    fn put_sale(&mut self, put: &PutSale, now: Millis) -> Reply {
        let found = self.sales.get(&put.sale_id);
        let revision = found.map_or(0, |it| it.revision);
        let stored = found.map_or(SaleState::Scheduled, |it| it.state_at(now));
        if matches!(stored, SaleState::Cancelled | SaleState::Archived) {
            return refuse(Outcome::SaleClosed);
        }
        if put
            .closes_at
            .is_some_and(|closes_at| put.opens_at.is_some_and(|at| at >= closes_at))
        {
            return refuse(Outcome::NotAllowed);
        }
        if put
            .expected_revision
            .is_some_and(|expected| expected != revision)
        {
            return refuse(Outcome::CounterMismatch);
        }
        let skus = found.map_or_else(BTreeMap::new, |it| it.skus.clone());
        let mut sale = Sale {
            opens_at: put.opens_at,
            closes_at: put.closes_at,
            policy: put.policy.clone(),
            revision: revision + 1,
            state: stored,
            skus,
        };
        sale.state = sale.state_at(now);
        let answer = Answer::Sale(sale.view(&put.sale_id));
        self.sales.insert(put.sale_id.clone(), sale);
        ok(None, answer)
    }

    fn set_sale_state(&mut self, sale_id: &Text, to: SaleState, now: Millis) -> Reply {
        use SaleState::{Archived, Cancelled, Closed, Open, Paused, Scheduled};
        let Some(sale) = self.sales.get(sale_id) else {
            return refuse(Outcome::UnknownSale);
        };
        let from = sale.state_at(now);
        let is_way = match from {
            Scheduled | Paused => to != Archived,
            Open => matches!(to, Open | Paused | Closed | Cancelled),
            Closed => matches!(to, Open | Closed | Cancelled | Archived),
            Cancelled => matches!(to, Cancelled | Archived),
            Archived => false,
        };
        if !is_way {
            return refuse(Outcome::WrongState);
        }
        let moved = Sale {
            state: to,
            ..sale.clone()
        };
        let has_live = self.reservations.values().any(|it| {
            it.sale_id == *sale_id
                && matches!(it.state, State::Held | State::Paying | State::Overdue)
        });
        if moved.state_at(now) != to || (to == Archived && has_live) {
            return refuse(Outcome::NotAllowed);
        }
        let answer = Answer::Sale(moved.view(sale_id));
        self.sales.insert(sale_id.clone(), moved);
        ok(None, answer)
    }

    fn put_pool(&mut self, put: &PutPool) -> Reply {
        let Some(sale) = self.sales.get_mut(&put.sale_id) else {
            return refuse(Outcome::UnknownSale);
        };
        if sale.state == SaleState::Archived {
            return refuse(Outcome::SaleClosed);
        }
        let sku = sale.skus.entry(put.sku.clone()).or_default();
        let pool = sku.pools.entry(put.pool.clone()).or_default();
        (pool.position, pool.is_offered) = (put.position, put.is_offered);
        ok(None, Answer::None)
    }
}

impl Sale {
    pub(super) fn view(&self, sale_id: &Text) -> SaleView {
        SaleView {
            sale_id: sale_id.clone(),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            policy: self.policy.clone(),
            revision: self.revision,
            state: self.state,
        }
    }
}
