//! The bounded table of callers.
//!
//! Owns: one bucket and two counters for each caller, and the shared bucket for those without room.
//! Must not: grow past `callers_max`, or forget a bucket that is not full: that would give a caller
//! a new burst. Where next: `admission.rs`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::bucket::{Bucket, BucketPolicy, BucketStart, Nanos};
use crate::policy::Policy;
use crate::stats::CallerStats;

/// How many callers are looked at to find one that can be forgotten; bounds the cost of a call.
const EVICTION_LOOKS_MAX: usize = 8;

/// Callers that are found without a search: few call most. A power of two.
const ASIDE: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Caller {
    name: Box<str>,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) stats: CallerStats,
    is_named: bool,
}

/// A sorted map, not a hash map: callers choose their names, and a map without a secret seed would
/// let them choose collisions.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    by_name: BTreeMap<Box<str>, u32>,
    slots: Vec<Caller>,
    /// Where a name like this was found last; the name there tells whether it is this one.
    aside: [u32; ASIDE],
    pub(crate) overflow: Caller,
    pub(crate) forgotten: CallerStats,
    /// Where the search for a caller to forget goes on.
    hand: Box<str>,
}

/// Whose bucket a call is charged to.
pub(crate) enum Whose<'a> {
    Own(&'a mut Caller),
    Shared(&'a mut Caller),
}

impl Callers {
    pub(crate) fn new(policy: &Policy, now: Nanos) -> Self {
        let mut callers = Self {
            by_name: BTreeMap::new(),
            slots: Vec::new(),
            aside: [u32::MAX; ASIDE],
            overflow: Caller::new("", policy.caller, true, now),
            forgotten: CallerStats::default(),
            hand: "".into(),
        };
        callers.add_named(policy, now);
        callers
    }

    pub(crate) fn find(&mut self, name: &str, policy: &Policy, now: Nanos) -> Whose<'_> {
        let aside = aside(name);
        let slot = self.aside[aside];
        let held = self.slots.get(slot as usize);
        if held.is_some_and(|caller| *caller.name == *name) {
            return Whose::Own(&mut self.slots[slot as usize]);
        }
        self.search(name, aside, policy, now)
    }

    fn search(&mut self, name: &str, aside: usize, policy: &Policy, now: Nanos) -> Whose<'_> {
        if let Some(slot) = self.by_name.get(name) {
            self.aside[aside] = *slot;
            return Whose::Own(&mut self.slots[*slot as usize]);
        }
        let caller = Caller::new(name, policy.caller, false, now);
        let slot = if self.by_name.len() < policy.callers_max as usize {
            self.add(caller)
        } else if let Some(slot) = self.forget_one(now) {
            self.slots[slot as usize] = caller;
            slot
        } else {
            return Whose::Shared(&mut self.overflow);
        };
        self.by_name.insert(name.into(), slot);
        Whose::Own(&mut self.slots[slot as usize])
    }

    fn add(&mut self, caller: Caller) -> u32 {
        self.slots.push(caller);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn set_policy(&mut self, policy: &Policy, now: Nanos) {
        for (name, slot) in &self.by_name {
            let caller = &mut self.slots[*slot as usize];
            let named = policy.callers.get(name);
            caller.is_named = named.is_some();
            caller.set_policy(named.copied().unwrap_or(policy.caller), now);
        }
        self.add_named(policy, now);
        self.overflow.set_policy(policy.caller, now);
    }

    fn add_named(&mut self, policy: &Policy, now: Nanos) {
        for (name, bucket) in &policy.callers {
            if !self.by_name.contains_key(name) {
                let slot = self.add(Caller::new(name, *bucket, true, now));
                self.by_name.insert(name.clone(), slot);
            }
        }
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.by_name.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn stats(&self, limit: usize) -> Vec<(Box<str>, CallerStats)> {
        self.by_name
            .iter()
            .take(limit)
            .map(|(name, slot)| (name.clone(), self.slots[*slot as usize].stats))
            .collect()
    }

    /// Gives up one caller whose bucket is full again: a new one would be no different. Gives its
    /// slot.
    fn forget_one(&mut self, now: Nanos) -> Option<u32> {
        for _ in 0..EVICTION_LOOKS_MAX {
            let after = (Bound::Excluded(self.hand.clone()), Bound::Unbounded);
            let Some((name, slot)) = self.by_name.range::<str, _>(borrow(&after)).next() else {
                self.hand = "".into();
                continue;
            };
            let slot = *slot;
            let caller = &mut self.slots[slot as usize];
            self.hand = name.clone();
            if caller.can_be_forgotten(now) {
                let stats = caller.stats;
                self.forgotten.admitted_count += stats.admitted_count;
                self.forgotten.refused_count += stats.refused_count;
                let name = self.hand.clone();
                self.by_name.remove(&name);
                return Some(slot);
            }
        }
        None
    }
}

/// A place for a name. Who chooses names that share one makes a search of each, and no more.
fn aside(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let (length, last) = (bytes.len(), bytes.len().wrapping_sub(1));
    let mixed = usize::from(byte(last) ^ byte(length / 2).rotate_left(3)) ^ length;
    mixed % ASIDE
}

fn borrow(range: &(Bound<Box<str>>, Bound<Box<str>>)) -> (Bound<&str>, Bound<&str>) {
    (
        range.0.as_ref().map(AsRef::as_ref),
        range.1.as_ref().map(AsRef::as_ref),
    )
}

impl Caller {
    fn new(name: &str, policy: Option<BucketPolicy>, is_named: bool, now: Nanos) -> Self {
        let bucket = policy.map(|policy| Bucket::new(policy, BucketStart::Full, now));
        Self {
            name: name.into(),
            bucket,
            stats: CallerStats::default(),
            is_named,
        }
    }

    fn set_policy(&mut self, policy: Option<BucketPolicy>, now: Nanos) {
        match (&mut self.bucket, policy) {
            (Some(bucket), Some(policy)) => bucket.set_policy(policy, now),
            (bucket, policy) => {
                *bucket = policy.map(|policy| Bucket::new(policy, BucketStart::Short, now));
            }
        }
    }

    fn can_be_forgotten(&mut self, now: Nanos) -> bool {
        if self.is_named {
            return false;
        }
        let Some(bucket) = &mut self.bucket else {
            return true;
        };
        bucket.refill(now);
        bucket.is_full()
    }
}
