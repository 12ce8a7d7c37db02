//! Owns what each person has: the numbers that limits are compared with.
//!
//! Most persons have a reservation or two, and to count those anew is cheaper than to keep a number
//! for each. Only of a person with more than [`CHAIN_SCAN_MAX`] reservations the numbers are kept,
//! as long as that is so. Must not decide; a limit is `reserve.rs`'s. Next: `person.rs`.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::arena::Slot;
use crate::book::{book, is_counted, is_unpaid};
use crate::ids::Units;
use crate::state::{Ledger, Scope, Usage, UsageKey};
use crate::table::HASHER;

/// Reservations that are counted anew for each decision: about the cost of keeping a number.
pub(crate) const CHAIN_SCAN_MAX: u32 = 8;

/// Parts of the table, so that one that grows stops nobody.
const SHARD_COUNT: usize = 64;

/// Numbers by person and scope; never iterated but for an audit, which sorts.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsageTable {
    shards: Vec<HashMap<UsageKey, Usage, FixedState>>,
}

impl UsageTable {
    fn get(&self, key: UsageKey) -> Usage {
        let shard = self.shards.get(shard_of(key));
        let usage = shard.and_then(|shard| shard.get(&key));
        usage.copied().unwrap_or_default()
    }

    /// Changes a number; one that has nothing left is not kept.
    fn edit(&mut self, key: UsageKey, edit: impl FnOnce(&mut Usage)) {
        if self.shards.is_empty() {
            let empty = || HashMap::with_hasher(HASHER);
            self.shards.resize_with(SHARD_COUNT, empty);
        }
        let shard = &mut self.shards[shard_of(key)];
        let usage = shard.entry(key).or_default();
        edit(usage);
        if *usage == Usage::default() {
            shard.remove(&key);
        }
    }

    fn remove(&mut self, key: UsageKey) {
        if let Some(shard) = self.shards.get_mut(shard_of(key)) {
            shard.remove(&key);
        }
    }

    /// All numbers, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (UsageKey, Usage)> {
        let pairs = self.shards.iter().flatten();
        pairs.map(|(key, usage)| (*key, *usage))
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let capacity: usize = self.shards.iter().map(HashMap::capacity).sum();
        capacity * (size_of::<(UsageKey, Usage)>() + 1)
    }
}

fn shard_of(key: UsageKey) -> usize {
    usize::try_from(HASHER.hash_one(key.person()) % SHARD_COUNT as u64).expect("small")
}

impl Ledger {
    /// What a person has in a sale, or of a sku in it.
    pub(crate) fn usage(&self, root: Slot, scope: Scope) -> Usage {
        if self.is_kept(root) {
            return self.usages.get(UsageKey::new(root, scope));
        }
        let mut usage = Usage::default();
        for slot in self.chain(root) {
            let reservation = &self.reservations[slot];
            if is_counted(reservation.state) {
                let pieces = reservation.pieces.as_slice().iter();
                let within = pieces.filter(|piece| match scope {
                    Scope::Sale(sale) => sale == reservation.sale,
                    Scope::Rack(rack) => rack == self.pool_at(piece.pool).rack,
                });
                usage.units += within.map(crate::state::Piece::counted).sum::<Units>();
            }
            let is_of_sale = scope == Scope::Sale(reservation.sale);
            usage.unpaid_count += u32::from(is_of_sale && is_unpaid(reservation.state));
        }
        usage
    }

    /// Says whether a person's numbers are kept.
    pub(crate) fn is_kept(&self, root: Slot) -> bool {
        self.persons[root].chain_length > CHAIN_SCAN_MAX
    }

    /// Adds to (or takes from) what the reservation's person has, `sign` being 1 or -1.
    pub(crate) fn count_units(&mut self, slot: Slot, sign: Units) {
        let reservation = &self.reservations[slot];
        let (sale, root) = (reservation.sale, self.root_of(reservation.person));
        if !self.is_kept(root) {
            return;
        }
        for place in 0..self.reservations[slot].pieces.as_slice().len() {
            let piece = self.reservations[slot].pieces.as_slice()[place];
            let rack = self.pool_at(piece.pool).rack;
            self.count(root, sale, rack, sign * piece.counted());
        }
    }

    /// Adds units to a person's numbers of a sku and of its sale.
    pub(crate) fn count(&mut self, root: Slot, sale: Slot, rack: Slot, units: Units) {
        if !self.is_kept(root) {
            return;
        }
        for scope in [Scope::Rack(rack), Scope::Sale(sale)] {
            let key = UsageKey::new(root, scope);
            self.usages.edit(key, |usage| book(&mut usage.units, units));
        }
    }

    /// Counts a reservation among its person's unpaid ones, or no longer.
    pub(crate) fn count_unpaid(&mut self, slot: Slot, is_unpaid: bool) {
        let reservation = &self.reservations[slot];
        let root = self.root_of(reservation.person);
        if !self.is_kept(root) {
            return;
        }
        let key = UsageKey::new(root, Scope::Sale(reservation.sale));
        self.usages.edit(key, |usage| {
            let count = usage.unpaid_count;
            usage.unpaid_count = if is_unpaid { count + 1 } else { count - 1 };
        });
    }

    /// Begins to keep a person's numbers, if it has that many reservations now.
    pub(crate) fn keep_usages(&mut self, root: Slot) {
        for slot in self.chain_of(root) {
            self.count_reservation(slot);
        }
    }

    /// Counts a reservation among its person's, as its state says.
    pub(crate) fn count_reservation(&mut self, slot: Slot) {
        let state = self.reservations[slot].state;
        if is_counted(state) {
            self.count_units(slot, 1);
        }
        if is_unpaid(state) {
            self.count_unpaid(slot, true);
        }
    }

    /// Ends to keep a person's numbers.
    pub(crate) fn drop_usages(&mut self, root: Slot) {
        for slot in self.chain_of(root) {
            let reservation = &self.reservations[slot];
            self.usages
                .remove(UsageKey::new(root, Scope::Sale(reservation.sale)));
            for piece in reservation.pieces.as_slice() {
                let rack = self.pools[piece.pool as usize].rack;
                self.usages.remove(UsageKey::new(root, Scope::Rack(rack)));
            }
        }
    }
}
