//! A bounded table of buckets by name: one for each sale, or for each SKU.
//!
//! Owns: look-up, the shared bucket for names without room, and which name is forgotten. Must not:
//! grow past its bound, or forget a bucket that is not full: that would give a new burst. Names
//! come with the calls, so the hash has a seed that the caller draws. Where next: `door.rs`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::bucket::{Bucket, BucketPolicy, BucketStart, Nanos};
use crate::policy::{CALLERS_MAX, PolicyError, check_bucket, require};

/// How many names are looked at to find one that can be forgotten; bounds the cost of a call.
const EVICTION_LOOKS_MAX: usize = 8;

/// What is set for names of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedPolicy {
    /// For each name that is not named below; None: they have no bucket.
    pub each: Option<BucketPolicy>,
    /// For names of their own; None: that one has no bucket.
    pub named: BTreeMap<Box<str>, Option<BucketPolicy>>,
    /// Most names that are kept apart, 1 to [`crate::CALLERS_MAX`]; the rest share one bucket.
    pub names_max: u32,
}

impl Default for KeyedPolicy {
    /// No buckets.
    fn default() -> Self {
        Self {
            each: None,
            named: BTreeMap::new(),
            names_max: 10_000,
        }
    }
}

impl KeyedPolicy {
    /// Checks every range; `kind` names the setting, as in `skus`.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self, kind: &str) -> Result<(), PolicyError> {
        check_bucket(self.each, || alloc::format!("{kind}.default"))?;
        for (name, bucket) in &self.named {
            check_bucket(*bucket, || alloc::format!("{kind}.{name}"))?;
        }
        let is_bounded = (1..=CALLERS_MAX).contains(&self.names_max)
            && self.named.len() <= self.names_max as usize;
        require(
            is_bounded,
            "must be 1 to 1,000,000 and at least the number of named ones",
            || alloc::format!("{kind}.names_max"),
        )
    }

    fn of(&self, name: &str) -> Option<BucketPolicy> {
        self.named.get(name).copied().unwrap_or(self.each)
    }

    /// Whether any name has a bucket; without one there is nothing to look up.
    fn has_buckets(&self) -> bool {
        self.each.is_some() || !self.named.is_empty()
    }
}

#[derive(Clone, Debug)]
struct Entry {
    name: Box<str>,
    bucket: Option<Bucket>,
}

/// Buckets by name.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    policy: KeyedPolicy,
    slots: HashMap<Box<str>, u32, FixedState>,
    entries: Vec<Entry>,
    overflow: Option<Bucket>,
    /// Where the name that came last is: of a sale there is mostly one.
    last: u32,
    /// Where the search for a name to forget goes on.
    hand: usize,
}

/// Where a name's bucket is; found once for a decision, used to look and to charge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// No bucket: nothing to pay.
    Free,
    Own(u32),
    Shared,
}

impl Keyed {
    pub(crate) fn new(policy: KeyedPolicy, seed: u64, now: Nanos) -> Self {
        let overflow = policy
            .each
            .map(|it| Bucket::new(it, BucketStart::Full, now));
        let mut keyed = Self {
            slots: HashMap::with_hasher(FixedState::with_seed(seed)),
            entries: Vec::new(),
            overflow,
            last: u32::MAX,
            hand: 0,
            policy,
        };
        keyed.add_named(now);
        keyed
    }

    /// Names of the policy have a place from the start, so that others cannot fill the table first.
    fn add_named(&mut self, now: Nanos) {
        for (name, policy) in &self.policy.named {
            let Some(policy) = policy else { continue };
            if !self.slots.contains_key(name) {
                let slot = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push(Entry {
                    name: name.clone(),
                    bucket: Some(Bucket::new(*policy, BucketStart::Full, now)),
                });
                self.slots.insert(name.clone(), slot);
            }
        }
    }

    /// Finds a name's bucket, makes one, or says that it shares one.
    pub(crate) fn find(&mut self, name: &str, now: Nanos) -> Place {
        if !self.policy.has_buckets() {
            return Place::Free;
        }
        let held = self.entries.get(self.last as usize);
        if held.is_some_and(|entry| *entry.name == *name) {
            return Place::Own(self.last);
        }
        if let Some(slot) = self.slots.get(name) {
            self.last = *slot;
            return Place::Own(*slot);
        }
        let Some(policy) = self.policy.of(name) else {
            return Place::Free;
        };
        let entry = Entry {
            name: name.into(),
            bucket: Some(Bucket::new(policy, BucketStart::Full, now)),
        };
        let slot = if self.entries.len() < self.policy.names_max as usize {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let Some(slot) = self.forget_one(now) else {
                return Place::Shared;
            };
            self.entries[slot] = entry;
            slot
        };
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.slots.insert(name.into(), slot);
        Place::Own(slot)
    }

    pub(crate) fn bucket(&mut self, place: Place) -> Option<&mut Bucket> {
        match place {
            Place::Free => None,
            Place::Shared => self.overflow.as_mut(),
            Place::Own(slot) => self.entries[slot as usize].bucket.as_mut(),
        }
    }

    /// Frees the slot of one name whose bucket is full again: a new one would be no different.
    fn forget_one(&mut self, now: Nanos) -> Option<usize> {
        for _ in 0..EVICTION_LOOKS_MAX {
            let slot = self.hand % self.entries.len();
            self.hand = slot + 1;
            let entry = &mut self.entries[slot];
            let is_named = self.policy.named.contains_key(&entry.name);
            let is_new = entry.bucket.as_mut().is_none_or(|bucket| {
                bucket.refill(now);
                bucket.is_full()
            });
            if is_new && !is_named {
                self.slots.remove(&entry.name);
                return Some(slot);
            }
        }
        None
    }

    /// Sets another policy; balances stay, as [`Bucket::set_policy`] says. A bucket that did not
    /// exist starts short. Names past a lower bound stay until they are forgotten.
    pub(crate) fn set_policy(&mut self, policy: KeyedPolicy, now: Nanos) {
        for entry in &mut self.entries {
            change(&mut entry.bucket, policy.of(&entry.name), now);
        }
        change(&mut self.overflow, policy.each, now);
        self.policy = policy;
        self.add_named(now);
    }

    /// What a name's bucket holds; None without one.
    pub(crate) fn tokens(&mut self, name: &str, now: Nanos) -> Option<i64> {
        let slot = *self.slots.get(name)?;
        let bucket = self.entries[slot as usize].bucket.as_mut()?;
        bucket.refill(now);
        Some(bucket.tokens())
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

pub(crate) fn change(bucket: &mut Option<Bucket>, policy: Option<BucketPolicy>, now: Nanos) {
    match (&mut *bucket, policy) {
        (Some(bucket), Some(policy)) => bucket.set_policy(policy, now),
        (_, policy) => *bucket = policy.map(|it| Bucket::new(it, BucketStart::Short, now)),
    }
}
