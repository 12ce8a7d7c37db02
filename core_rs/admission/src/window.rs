//! The credit window: reservations that were granted and that the order service has not persisted
//! yet, at most W of them.
//!
//! Owns: the count, W, and how W follows the reports. A bucket in front of a slow database goes on
//! granting until the queue behind it is longer than anybody waits; a window cannot. Must not: let
//! W pass the operator's number. Where next: `door.rs`.

use crate::bucket::{Bucket, BucketPolicy, BucketStart, Denial, Nanos};
use crate::policy::{PolicyError, check_bucket, require};

/// Highest window: a million grants are more than any order database persists within seconds.
const WINDOW_MAX: u32 = 1_000_000;
/// Longest a refused call is told to stay away: what is known now says nothing of later.
const RETRY_MAX: Nanos = 30_000_000_000;
/// Shortest time over which a rate is measured: less is the noise of two messages.
const MEASURE_NANOS_MIN: Nanos = 10_000_000;
/// Grants are kept in so many ages, so that one that is never heard of again ends its count.
const AGE_COUNT: usize = 64;
/// A measured rate counts for a quarter: four reports make a change believed.
const SMOOTHING: u64 = 4;
/// A window that is full while nothing waits grows by one part in so many with each report.
const PROBE_PARTS: u64 = 100;
const SECOND: u128 = 1_000_000_000;

/// What an operator sets for the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowPolicy {
    /// Smallest W, 1 to `most`: twice the connections of the order database.
    pub least: u32,
    /// Largest W, 1 to 1,000,000: the operator's number, which nothing passes.
    pub most: u32,
    /// How long a granted reservation may wait before it is persisted, 1 ms to 10 s.
    pub target_delay: Nanos,
    /// How often the order service reports, 10 ms to 500 ms. At 500 ms and slower the window
    /// collapses (simulated): it fills long before it hears that it may not.
    pub report_interval: Nanos,
    /// Reports that may fail to come before only `floor` is granted, 1 to 100.
    pub stale_after: u32,
    /// After this a grant that nobody persisted no longer counts, 1 s to 1 h: its client is gone.
    pub credit_life: Nanos,
    /// What is granted while no report comes.
    pub floor: BucketPolicy,
}

impl WindowPolicy {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let name = |part: &'static str| move || alloc::format!("window.{part}");
        let within = |value: Nanos, least: Nanos, most: Nanos| (least..=most).contains(&value);
        let is_most_ok = (1..=WINDOW_MAX).contains(&self.most);
        require(is_most_ok, "must be 1 to 1,000,000", name("most"))?;
        let is_least_ok = (1..=self.most).contains(&self.least);
        require(is_least_ok, "must be 1 to window.most", name("least"))?;
        require(
            within(self.target_delay, 1_000_000, 10_000_000_000),
            "must be 1 ms to 10 s",
            name("target_delay"),
        )?;
        require(
            within(self.report_interval, 10_000_000, 500_000_000),
            "must be 10 ms to 500 ms",
            name("report_interval"),
        )?;
        let is_stale_ok = (1..=100).contains(&self.stale_after);
        require(is_stale_ok, "must be 1 to 100", name("stale_after"))?;
        require(
            within(self.credit_life, 1_000_000_000, 3_600_000_000_000),
            "must be 1 s to 1 h",
            name("credit_life"),
        )?;
        check_bucket(Some(self.floor), name("floor"))
    }
}

/// What the order service says, every report interval or faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Rises with each start of the order service: its counter then begins anew.
    pub generation: u64,
    /// Reservations persisted since then; never falls.
    pub persisted_count: u64,
    /// How long the oldest granted reservation waits for the database now.
    pub oldest_wait: Nanos,
}

/// Why a report was not taken; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportError {
    /// It is of an order service that was started before the one we heard last.
    OldGeneration,
    /// Its counter is lower than before.
    WentBack,
}

/// Where the window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowStats {
    /// W: how many may be out.
    pub limit: u64,
    /// How many are out.
    pub outstanding: u64,
    /// What the order service persists, in thousandths a second, as far as it was ever busy.
    pub drain: u64,
    /// Grants that nobody persisted within their life.
    pub written_off: u64,
    /// Whether reports fail to come, so that only the floor is granted.
    pub is_stale: bool,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    generation: u64,
    persisted_count: u64,
    at: Nanos,
}

/// The window.
#[derive(Clone, Debug)]
pub struct Window {
    policy: WindowPolicy,
    /// Grants that are out, by age; the newest at `age % AGE_COUNT`.
    ages: [u64; AGE_COUNT],
    age: u64,
    /// When the next age begins: until then nothing grows older, and nobody has to divide.
    age_end: Nanos,
    /// No grant that is out is older than this age.
    oldest: u64,
    outstanding: u64,
    written_off: u64,
    heard: Option<Heard>,
    drain: u64,
    probe: u64,
    limit: u64,
    was_full: bool,
    /// Whether work waited for the database when it was heard last.
    is_busy: bool,
    /// Calls refused since the last report: each is told to come later than the one before it, at
    /// the pace at which places become free.
    refused_count: u64,
    floor: Bucket,
}

impl Window {
    /// An empty window of the smallest size, which has heard nothing yet.
    #[must_use]
    pub fn new(policy: WindowPolicy, now: Nanos) -> Self {
        Self {
            ages: [0; AGE_COUNT],
            age: age_of(&policy, now),
            age_end: age_end(&policy, now),
            oldest: age_of(&policy, now),
            outstanding: 0,
            written_off: 0,
            heard: None,
            drain: 0,
            probe: 0,
            limit: u64::from(policy.least),
            was_full: false,
            is_busy: false,
            refused_count: 0,
            floor: Bucket::new(policy.floor, BucketStart::Short, now),
            policy,
        }
    }

    /// Whether one more may be granted.
    ///
    /// # Errors
    /// [`Denial::NotNow`] with the time until the order service will have made room.
    pub fn check(&mut self, now: Nanos) -> Result<(), Denial> {
        self.grow_old(now);
        if self.outstanding >= self.limit {
            self.was_full = true;
            return Err(self.denial(now));
        }
        if self.is_stale(now) {
            self.floor.refill(now);
            return self.floor.check(crate::TOKEN);
        }
        Ok(())
    }

    /// Counts a grant; [`Window::check`] allowed it.
    pub fn grant(&mut self, now: Nanos) {
        self.grow_old(now);
        if self.is_stale(now) {
            self.floor.overdraw(crate::TOKEN);
        }
        self.outstanding += 1;
        self.ages[index(self.age)] += 1;
    }

    /// Takes a report.
    ///
    /// # Errors
    /// What is wrong with it; nothing changed.
    pub fn report(&mut self, report: &Report, now: Nanos) -> Result<(), ReportError> {
        self.grow_old(now);
        let before = match self.heard {
            Some(heard) if report.generation < heard.generation => {
                return Err(ReportError::OldGeneration);
            }
            Some(heard) if report.generation == heard.generation => Some(heard),
            Some(_) => {
                // It has nothing in its queue yet, and who had what is out is dead.
                self.written_off += self.outstanding;
                self.settle(self.outstanding);
                None
            }
            None => None,
        };
        let Some(before) = before else {
            // The first word: what it has persisted so far was granted by others.
            self.hear(report, now);
            return Ok(());
        };
        let persisted = report.persisted_count.checked_sub(before.persisted_count);
        let persisted = persisted.ok_or(ReportError::WentBack)?;
        let elapsed = now.saturating_sub(before.at);
        if elapsed < MEASURE_NANOS_MIN {
            // Too soon to tell a rate; the next report covers this one.
            return Ok(());
        }
        self.settle(persisted);
        self.learn(persisted, elapsed, report.oldest_wait);
        self.hear(report, now);
        Ok(())
    }

    /// Ends the count of `count` grants that will never be persisted.
    pub fn give_back(&mut self, count: u64) {
        self.settle(count);
    }

    /// Sets another policy; what is out stays out, what was learned stays known.
    pub fn set_policy(&mut self, policy: WindowPolicy, now: Nanos) {
        self.grow_old(now);
        self.floor.set_policy(policy.floor, now);
        if policy.credit_life != self.policy.credit_life {
            // The ages have another length now: everything that is out starts its life again.
            self.ages = [0; AGE_COUNT];
            self.age = age_of(&policy, now);
            self.age_end = age_end(&policy, now);
            self.oldest = self.age;
            self.ages[index(self.age)] = self.outstanding;
        }
        self.policy = policy;
        self.set_limit();
    }

    /// Where it stands.
    #[must_use]
    pub fn stats(&self, now: Nanos) -> WindowStats {
        WindowStats {
            limit: self.limit,
            outstanding: self.outstanding,
            drain: self.drain,
            written_off: self.written_off,
            is_stale: self.is_stale(now),
        }
    }

    /// Whether reports fail to come.
    #[must_use]
    pub fn is_stale(&self, now: Nanos) -> bool {
        let patience = self.policy.report_interval * u64::from(self.policy.stale_after);
        self.heard
            .is_none_or(|heard| now.saturating_sub(heard.at) > patience)
    }

    fn hear(&mut self, report: &Report, now: Nanos) {
        self.heard = Some(Heard {
            generation: report.generation,
            persisted_count: report.persisted_count,
            at: now,
        });
        self.was_full = false;
        self.refused_count = 0;
    }

    /// What the order service persists is what it can do only if work waited for it. If none did,
    /// it says what was asked of it, and taking that for its best would shrink the window for ever.
    fn learn(&mut self, persisted: u64, elapsed: Nanos, oldest_wait: Nanos) {
        let measured = u128::from(persisted) * 1_000 * SECOND / u128::from(elapsed);
        let measured = u64::try_from(measured).unwrap_or(u64::MAX);
        let smooth = self.drain - self.drain / SMOOTHING + measured / SMOOTHING;
        let is_busy = oldest_wait >= self.policy.target_delay;
        self.is_busy = is_busy;
        self.drain = if is_busy {
            smooth
        } else {
            smooth.max(self.drain)
        };
        self.probe = match (is_busy, self.was_full) {
            (true, _) => 0,
            (false, true) => (self.probe + self.limit / PROBE_PARTS + 1).min(self.limit),
            (false, false) => self.probe,
        };
        self.set_limit();
    }

    /// How long a grant may be out: until it is persisted, and until that is heard of.
    fn span(&self) -> Nanos {
        self.policy.target_delay + self.policy.report_interval
    }

    fn set_limit(&mut self) {
        let fits = u128::from(self.drain) * u128::from(self.span()) / (1_000 * SECOND);
        let fits = u64::try_from(fits).unwrap_or(u64::MAX);
        self.limit = fits
            .saturating_add(self.probe)
            .clamp(self.policy.least.into(), self.policy.most.into());
    }

    /// Ends the count of the oldest grants.
    fn settle(&mut self, count: u64) {
        let mut rest = count.min(self.outstanding);
        self.outstanding -= rest;
        while rest > 0 && self.oldest <= self.age {
            let out = &mut self.ages[index(self.oldest)];
            let taken = rest.min(*out);
            *out -= taken;
            rest -= taken;
            if rest > 0 {
                self.oldest += 1;
            }
        }
        debug_assert_eq!(rest, 0, "the ages add up to what is out");
    }

    /// Writes off what is older than a credit's life. Time that goes back adds no age.
    fn grow_old(&mut self, now: Nanos) {
        if now < self.age_end {
            return;
        }
        let age = age_of(&self.policy, now).max(self.age);
        // A long sleep ends every life once.
        for step in 1..=(age - self.age).min(AGE_COUNT as u64) {
            let out = core::mem::take(&mut self.ages[index(self.age + step)]);
            self.outstanding -= out;
            self.written_off += out;
        }
        self.age = age;
        self.age_end = age_end(&self.policy, now);
        self.oldest = self.oldest.max(age.saturating_sub(AGE_COUNT as u64 - 1));
    }

    fn denial(&mut self, now: Nanos) -> Denial {
        self.refused_count += 1;
        let heard = self.heard.map_or(now, |heard| heard.at);
        let next_report = heard.saturating_add(self.policy.report_interval);
        let until_report = next_report.saturating_sub(now);
        let places = u128::from(self.refused_count);
        // While nothing waits for the database, the whole window becomes free with each report. The
        // drain then says what was asked for, and callers who are sent away by it stay away from a
        // database that is idle.
        let pace = if self.is_busy && self.drain > 0 {
            places * 1_000 * SECOND / u128::from(self.drain)
        } else {
            places * u128::from(self.span()) / u128::from(self.limit)
        };
        let pace = Nanos::try_from(pace).unwrap_or(RETRY_MAX);
        Denial::NotNow {
            retry_after: until_report.saturating_add(pace).min(RETRY_MAX),
        }
    }
}

fn age_of(policy: &WindowPolicy, now: Nanos) -> u64 {
    now / (policy.credit_life / AGE_COUNT as u64)
}

fn age_end(policy: &WindowPolicy, now: Nanos) -> Nanos {
    let each = policy.credit_life / AGE_COUNT as u64;
    (now / each).saturating_add(1).saturating_mul(each)
}

fn index(age: u64) -> usize {
    usize::try_from(age % AGE_COUNT as u64).unwrap_or(0)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
