//! What was seen to be sold out for good: a hint, so that who asks for it is answered at once.
//!
//! Owns: a bounded set of SKUs that the ledger called GONE. Must not: decide; the ledger does, and
//! a hint that it does not bear out is dropped. So nobody has to tell this set that units came
//! back. Where next: `serve.rs`, `batch.rs`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use lastunit_engine::{Command, Level, Outcome, Reply, Reserve, Text};

use crate::permit::reserve_of_command;

/// Most SKUs that are known to be gone; each costs about a hundred bytes. Without room the next one
/// is asked for as if it were there: it pays tokens and hears the same.
const GONE_MAX: usize = 10_000;

/// A sale and a SKU of it.
type Key = (Text, Text);

/// The set.
#[derive(Default)]
pub(crate) struct Gone {
    keys: RwLock<HashSet<Key>>,
    /// Size of the set, so that a sale in which nothing is gone takes no lock. Relaxed: it is a
    /// hint about a hint.
    count: AtomicUsize,
}

impl Gone {
    /// Whether something that this reservation needs was gone when last asked for.
    pub(crate) fn has_any(&self, reserve: &Reserve) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut skus = reserve.lines.iter().map(|line| &line.sku);
        skus.any(|sku| keys.contains(&(reserve.sale_id.clone(), sku.clone())))
    }

    /// Learns from the ledger's answer to a reservation.
    pub(crate) fn note(&self, reserve: &Reserve, reply: &Reply) {
        let is_gone = reply.outcome == Outcome::SoldOut && reply.level == Some(Level::Gone);
        let Some(sku) = reply.sku.as_ref().filter(|_| is_gone) else {
            return;
        };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < GONE_MAX {
            keys.insert((reserve.sale_id.clone(), sku.clone()));
        }
        self.count.store(keys.len(), Ordering::Relaxed);
    }

    /// Drops what a command proved wrong.
    pub(crate) fn forget_command(&self, command: &Command) {
        let Some(reserve) = reserve_of_command(command) else {
            return;
        };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for line in &reserve.lines {
            keys.remove(&(reserve.sale_id.clone(), line.sku.clone()));
        }
        self.count.store(keys.len(), Ordering::Relaxed);
    }
}
