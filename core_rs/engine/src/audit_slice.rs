//! Owns the audit of what the live ledger derives: look-ups, timers and lists, a slice at a time.
//!
//! A frozen copy is audited whole on another thread, but it has no look-ups and timers of its own;
//! those of the live ledger are walked here, some thousand entities under each hold of the node's
//! lock. What is checked of an entity holds at any instant, so the ledger may change in between.
//! Next: `audit.rs`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::ids::Text;
use crate::outcome::State;
use crate::state::{Ledger, Reservation};
use crate::view::Finding;

/// Where a walk over the ledger's tables goes on; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCursor {
    table: Table,
    slot: Slot,
}

/// The tables in the order of the walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Table {
    #[default]
    Reservations,
    Attempts,
    Persons,
    Requests,
}

/// What one slice of the walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSlice {
    /// What does not hold in this slice; empty if all does.
    pub findings: Vec<Finding>,
    /// Where to go on; none at the end of the walk.
    pub next: Option<AuditCursor>,
}

impl Ledger {
    /// Checks the derived tables for at most `budget` slots from `cursor` on; 10,000 take some
    /// milliseconds. A walk from the default cursor to the end has looked at every entity that was
    /// there all the time.
    #[must_use]
    pub fn audit_slice(&self, cursor: AuditCursor, budget: usize) -> AuditSlice {
        let mut findings = Vec::new();
        if cursor == AuditCursor::default() {
            self.check_table_sizes(&mut findings);
        }
        let end = match cursor.table {
            Table::Reservations => self.reservations.end(),
            Table::Attempts => self.attempts.end(),
            Table::Persons => self.persons.end(),
            Table::Requests => self.requests.end(),
        };
        let count = Slot::try_from(budget).unwrap_or(Slot::MAX).max(1);
        let last = end.min(cursor.slot.saturating_add(count));
        for slot in cursor.slot..last {
            self.check_slot(cursor.table, slot, &mut findings);
        }
        let next = if last < end {
            Some(AuditCursor {
                slot: last,
                ..cursor
            })
        } else {
            cursor
                .table
                .next()
                .map(|table| AuditCursor { table, slot: 0 })
        };
        AuditSlice { findings, next }
    }

    /// Nothing is known that is not kept.
    fn check_table_sizes(&self, findings: &mut Vec<Finding>) {
        let tables = [
            (
                "reservations",
                self.reservation_index.len(),
                self.reservations.len(),
            ),
            ("attempts", self.attempt_index.len(), self.attempts.len()),
            ("persons", self.person_index.len(), self.persons.len()),
            ("requests", self.request_index.len(), self.requests.len()),
        ];
        for (name, known, kept) in tables {
            if known != kept {
                let detail = format!("{known} are known, {kept} are kept");
                findings.push(finding("index", name.into(), detail));
            }
        }
        let timers = self.sales.iter();
        let timers: usize = timers
            .map(|sale| sale.expiries.len() + sale.settlings.len() + sale.overdues.len())
            .sum();
        if timers > self.live_count {
            let detail = format!("{timers} timers, {} live", self.live_count);
            findings.push(finding("timers", "reservations".into(), detail));
        }
    }

    fn check_slot(&self, table: Table, slot: Slot, findings: &mut Vec<Finding>) {
        let found = match table {
            Table::Reservations => self.reservations.get(slot).map(|kept| {
                self.check_live(slot, kept, findings);
                let id = &kept.reservation_id;
                (id, self.find_reservation(id))
            }),
            Table::Attempts => self.attempts.get(slot).map(|kept| {
                let id = &kept.attempt_id;
                (id, self.find_attempt(id))
            }),
            Table::Persons => self.persons.get(slot).map(|kept| {
                let id = &kept.person_id;
                (id, self.find_person(id))
            }),
            Table::Requests => self.requests.get(slot).map(|kept| {
                let id = &kept.request_id;
                (id, self.find_request(id))
            }),
        };
        if let Some((id, place)) = found
            && place != Some(slot)
        {
            let detail = format!("slot {slot} is not found by its id");
            findings.push(finding("index", id.clone(), detail));
        }
    }

    /// A reservation has the timer of its state, and its neighbours know it.
    fn check_live(&self, slot: Slot, kept: &Reservation, findings: &mut Vec<Finding>) {
        let sale = self.sale_at(kept.sale);
        let has_timer = match kept.state {
            State::Held => sale.expiries.contains(kept.expires_at, slot),
            State::Paying => sale.settlings.contains(kept.settle_by, slot),
            State::Overdue => sale.overdues.contains(kept.settle_by, slot),
            _ => true,
        };
        let knows = |neighbour: Slot, link: fn(&Reservation) -> Slot| {
            neighbour == NONE || self.reservations.get(neighbour).map(link) == Some(slot)
        };
        let is_linked = knows(kept.list_previous, |other| other.list_next)
            && knows(kept.list_next, |other| other.list_previous)
            && knows(kept.person_previous, |other| other.person_next)
            && knows(kept.person_next, |other| other.person_previous);
        if !has_timer || !is_linked || kept.is_ended != self.has_ended(slot) {
            let detail = format!(
                "timer {has_timer}, linked {is_linked}, is_ended {}",
                kept.is_ended
            );
            findings.push(finding("timers", kept.reservation_id.clone(), detail));
        }
    }
}

impl Table {
    fn next(self) -> Option<Self> {
        match self {
            Self::Reservations => Some(Self::Attempts),
            Self::Attempts => Some(Self::Persons),
            Self::Persons => Some(Self::Requests),
            Self::Requests => None,
        }
    }
}

fn finding(invariant: &'static str, subject: Text, detail: String) -> Finding {
    Finding {
        invariant,
        subject,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Command, Line, PutPool, PutSale, Reserve, SalePolicy, StockChange};

    /// Three held reservations of three persons.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new();
        let (sale_id, sku, pool): (Text, Text, Text) = ("S".into(), "A".into(), "main".into());
        let put_sale = Action::PutSale(PutSale {
            sale_id: sale_id.clone(),
            opens_at: None,
            closes_at: None,
            policy: SalePolicy::default(),
            expected_revision: None,
        });
        let put_pool = Action::PutPool(PutPool {
            sale_id: sale_id.clone(),
            sku: sku.clone(),
            pool: pool.clone(),
            position: 0,
            labels: Vec::new(),
            is_offered: true,
        });
        let supply = Action::SupplyStock(StockChange {
            sale_id: sale_id.clone(),
            sku: sku.clone(),
            pool,
            units: 9,
            is_buffer: false,
        });
        let reserve = |number: u32| {
            Action::Reserve(Reserve {
                reservation_id: format!("r{number}").into(),
                sale_id: sale_id.clone(),
                person_id: format!("p{number}").into(),
                lines: alloc::vec![Line {
                    sku: sku.clone(),
                    pool: None,
                    units: 1,
                }],
                ttl: None,
                not_after: None,
            })
        };
        let actions = [
            put_sale,
            put_pool,
            supply,
            reserve(1),
            reserve(2),
            reserve(3),
        ];
        for (number, action) in actions.into_iter().enumerate() {
            let is_reserve = matches!(action, Action::Reserve(_));
            let mut command = Command::from_caller("", "test", action);
            if !is_reserve {
                command.request_id = format!("q{number}").into();
                (command.actor, command.reason) = ("a".into(), "b".into());
            }
            for event in ledger.decide(&command, 0).events {
                ledger.apply(&event);
            }
        }
        ledger
    }

    fn walk(ledger: &Ledger, budget: usize) -> (Vec<Finding>, usize) {
        let (mut findings, mut count) = (Vec::new(), 0);
        let mut cursor = Some(AuditCursor::default());
        while let Some(from) = cursor {
            let slice = ledger.audit_slice(from, budget);
            findings.extend(slice.findings);
            cursor = slice.next;
            count += 1;
        }
        (findings, count)
    }

    #[test]
    fn a_walk_in_small_slices_ends_and_finds_nothing_in_a_sound_ledger() {
        let ledger = ledger();

        assert_eq!((Vec::new(), 4), walk(&ledger, 1_000));
        let (findings, count) = walk(&ledger, 1);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(3 + 1 + 3 + 3, count);
    }

    #[test]
    fn a_lost_timer_a_lost_id_and_a_torn_list_are_found() {
        let breakages: [fn(&mut Ledger); 4] = [
            |ledger| {
                let expires_at = ledger.reservations[1].expires_at;
                assert!(ledger.sales[0].expiries.remove(expires_at, 1));
            },
            |ledger| ledger.reservation_index.remove("r2", 1),
            |ledger| ledger.person_index.remove("p3", 2),
            |ledger| ledger.reservations[0].list_next = 2,
        ];
        for (number, breakage) in breakages.into_iter().enumerate() {
            let mut ledger = ledger();
            breakage(&mut ledger);
            let (findings, _) = walk(&ledger, 2);

            assert!(!findings.is_empty(), "breakage {number} was not found");
        }
    }
}
