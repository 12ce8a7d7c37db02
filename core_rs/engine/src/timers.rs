//! Owns what is due: the commands that ledger time asks for, in an order that follows from the
//! state.
//!
//! Must not have an effect: each command goes through `decide` and the journal like any other, so a
//! timer that fires late, twice or never changes no promise. Next: `apply.rs`.

use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::command::{Action, Command};
use crate::ids::Millis;
use crate::outcome::{ReleaseReason, SaleState};
use crate::state::{Ledger, Sale};

/// What is due of one sale, by time, then by kind, then by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: Millis,
    kind: Kind,
    slot: Slot,
}

/// In the order in which they run at the same instant: a payment's timer keeps units, so it goes
/// before the one that gives them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    OpenSale,
    CloseSale,
    BecomeOverdue,
    Cancel,
    Expire,
    Forget,
}

impl Ledger {
    /// The first instant at which [`Ledger::due`] has something; none if nothing is ever due.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        (0..)
            .zip(&self.sales)
            .filter_map(|(slot, sale)| self.next_due_of(slot, sale))
            .min()
    }

    /// The commands that are due at `now`, at most `limit`, in the order in which to run them.
    ///
    /// Running them makes others due (a cancelled sale is released in portions), so call until it
    /// is empty.
    #[must_use]
    pub fn due(&self, now: Millis, limit: usize) -> Vec<Command> {
        let now = now.max(self.time);
        let mut dues = Vec::new();
        for (slot, sale) in (0..).zip(&self.sales) {
            self.collect_due(slot, sale, now, limit, &mut dues);
        }
        dues.sort_unstable();
        dues.truncate(limit);
        dues.into_iter()
            .map(|due| Command::internal(self.action_of(due)))
            .collect()
    }

    fn next_due_of(&self, slot: Slot, sale: &Sale) -> Option<Millis> {
        let is_cancelled = sale.state == SaleState::Cancelled;
        let cancel = (is_cancelled && sale.open_first != NONE).then_some(self.time);
        let settling = sale.settlings.first();
        let expiry = match sale.expiries.first() {
            Some(expires_at) if !is_cancelled => Some(self.brake_end(slot).max(expires_at)),
            _ => None,
        };
        let expiry = expiry.filter(|time| *time < Millis::MAX);
        let forget = self.next_forget(sale);
        [sale.next_turn(), cancel, settling, expiry, forget]
            .into_iter()
            .flatten()
            .min()
    }

    fn collect_due(&self, slot: Slot, sale: &Sale, now: Millis, limit: usize, dues: &mut Vec<Due>) {
        if let Some(time) = sale.next_turn().filter(|time| *time <= now) {
            let is_opening = sale.state_at(now) == SaleState::Open;
            let kind = if is_opening {
                Kind::OpenSale
            } else {
                Kind::CloseSale
            };
            dues.push(Due { time, kind, slot });
        }
        let settlings = sale.settlings.iter().take_while(|(time, _)| *time <= now);
        dues.extend(settlings.take(limit).map(|(time, slot)| Due {
            time,
            kind: Kind::BecomeOverdue,
            slot,
        }));
        let forget = core::iter::repeat_n(Kind::Forget, self.due_portions(sale, now));
        dues.extend(forget.take(limit).map(|kind| Due {
            // What lives goes before what ended long ago.
            time: now,
            kind,
            slot,
        }));
        if sale.state == SaleState::Cancelled {
            let open = self.open_of(sale).take(limit);
            dues.extend(open.map(|slot| Due {
                time: self.time,
                kind: Kind::Cancel,
                slot,
            }));
        } else if self.brake_end(slot) <= now {
            let expiries = sale.expiries.iter().take_while(|(time, _)| *time <= now);
            dues.extend(expiries.take(limit).map(|(time, slot)| Due {
                time,
                kind: Kind::Expire,
                slot,
            }));
        }
    }

    /// The reservations whose units a cancelled sale has yet to ask back, oldest first.
    pub(crate) fn open_of(&self, sale: &Sale) -> impl Iterator<Item = Slot> {
        let slot_of = |slot: Slot| (slot != NONE).then_some(slot);
        core::iter::successors(slot_of(sale.open_first), move |slot| {
            slot_of(self.reservations[*slot].list_next)
        })
    }

    fn action_of(&self, due: Due) -> Action {
        let sale_id = || self.sale_at(due.slot).sale_id.clone();
        let reservation_id = || self.reservations[due.slot].reservation_id.clone();
        match due.kind {
            Kind::OpenSale => Action::OpenSale { sale_id: sale_id() },
            Kind::CloseSale => Action::CloseSale { sale_id: sale_id() },
            Kind::Forget => Action::Forget { sale_id: sale_id() },
            Kind::Cancel => Action::Release {
                reservation_id: reservation_id(),
                release_reason: ReleaseReason::SaleCancelled,
            },
            Kind::BecomeOverdue => Action::BecomeOverdue {
                reservation_id: reservation_id(),
            },
            Kind::Expire => Action::Expire {
                reservation_id: reservation_id(),
            },
        }
    }
}

impl Sale {
    /// When ledger time brings the sale to another state.
    fn next_turn(&self) -> Option<Millis> {
        match self.state {
            // A scheduled sale without an opening time does not exist: it opens when it is put.
            SaleState::Scheduled => self.opens_at.into_iter().chain(self.closes_at).min(),
            SaleState::Open | SaleState::Paused => self.closes_at,
            SaleState::Closed | SaleState::Cancelled | SaleState::Archived => None,
        }
    }
}
