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

#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) bucket: Option<Bucket>,
    pub(crate) stats: CallerStats,
    is_named: bool,
}

/// A sorted map, not a hash map: callers choose their names, and a map without a secret seed would
/// let them choose collisions.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    by_name: BTreeMap<Box<str>, Caller>,
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
        let mut callers = BTreeMap::new();
        for (name, bucket) in &policy.callers {
            callers.insert(name.clone(), Caller::new(*bucket, true, now));
        }
        let overflow = Caller::new(policy.caller, true, now);
        Self {
            by_name: callers,
            overflow,
            forgotten: CallerStats::default(),
            hand: "".into(),
        }
    }

    pub(crate) fn find(&mut self, name: &str, policy: &Policy, now: Nanos) -> Whose<'_> {
        if !self.by_name.contains_key(name) {
            let has_room = self.by_name.len() < policy.callers_max as usize || self.forget_one(now);
            if !has_room {
                return Whose::Shared(&mut self.overflow);
            }
            self.by_name
                .insert(name.into(), Caller::new(policy.caller, false, now));
        }
        match self.by_name.get_mut(name) {
            Some(caller) => Whose::Own(caller),
            None => Whose::Shared(&mut self.overflow),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: &Policy, now: Nanos) {
        for (name, caller) in &mut self.by_name {
            let named = policy.callers.get(name);
            caller.is_named = named.is_some();
            caller.set_policy(named.copied().unwrap_or(policy.caller), now);
        }
        for (name, bucket) in &policy.callers {
            let caller = || Caller::new(*bucket, true, now);
            self.by_name.entry(name.clone()).or_insert_with(caller);
        }
        self.overflow.set_policy(policy.caller, now);
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.by_name.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn stats(&self, limit: usize) -> Vec<(Box<str>, CallerStats)> {
        self.by_name
            .iter()
            .take(limit)
            .map(|(name, it)| (name.clone(), it.stats))
            .collect()
    }

    /// Gives up one caller whose bucket is full again: a new one would be no different.
    fn forget_one(&mut self, now: Nanos) -> bool {
        for _ in 0..EVICTION_LOOKS_MAX {
            let after = (Bound::Excluded(self.hand.clone()), Bound::Unbounded);
            let Some((name, caller)) = self.by_name.range_mut::<str, _>(borrow(&after)).next()
            else {
                self.hand = "".into();
                continue;
            };
            self.hand = name.clone();
            if caller.can_be_forgotten(now) {
                let stats = caller.stats;
                self.forgotten.admitted_count += stats.admitted_count;
                self.forgotten.refused_count += stats.refused_count;
                let name = self.hand.clone();
                self.by_name.remove(&name);
                return true;
            }
        }
        false
    }
}

fn borrow(range: &(Bound<Box<str>>, Bound<Box<str>>)) -> (Bound<&str>, Bound<&str>) {
    (
        range.0.as_ref().map(AsRef::as_ref),
        range.1.as_ref().map(AsRef::as_ref),
    )
}

impl Caller {
    fn new(policy: Option<BucketPolicy>, is_named: bool, now: Nanos) -> Self {
        let bucket = policy.map(|policy| Bucket::new(policy, BucketStart::Full, now));
        Self {
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
