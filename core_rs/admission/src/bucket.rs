//! One token bucket in whole numbers: what it holds, how it refills, when it says no.
//!
//! Owns: the arithmetic. Must not: know lanes or callers. Where next: `admission.rs`.

/// Nanoseconds on a clock that only the caller reads; any starting point will do.
pub type Nanos = u64;

/// Millionths of a token.
pub type Micros = i64;

/// One token.
pub const TOKEN: Micros = 1_000_000;

/// Parts of a micro-token: what one milli-token a second brings in a nanosecond. Levels are counted
/// in parts, so that a refill is a product and a sum, and nothing is ever divided or rounded.
const PARTS: i128 = 1_000_000;

/// How much of the rate a bucket holds when it starts [`BucketStart::Short`]: ten milliseconds.
/// A restart in the middle of a sale must not hand out a second full burst.
const SHORT_START_NANOS: u64 = 10_000_000;

/// Longest that anybody is told to wait behind others: by then they may have left.
const LINE_MAX: Nanos = 10_000_000_000;

/// What an operator sets for one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketPolicy {
    /// Refill in milli-tokens a second, 1 to [`crate::RATE_MAX`].
    pub rate: u64,
    /// Most it holds, in micro-tokens, [`TOKEN`] to [`crate::BURST_MAX`].
    pub burst: Micros,
}

/// How full a new bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketStart {
    /// Like one that was never used; what a caller's first call finds.
    Full,
    /// Ten milliseconds of the rate, at least one token; what a lane holds after a restart.
    Short,
}

/// The two kinds of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Not now: the tokens are there after this time, if nobody else takes them.
    NotNow {
        /// Time until the refill covers the cost, and what those were promised who were refused
        /// before; [`Nanos::MAX`] stands for anything longer.
        retry_after: Nanos,
    },
    /// Never: the cost is more than the bucket can ever hold.
    Never,
}

/// One token bucket.
///
/// Tokens are settled lazily and to the last [`PARTS`]th of a micro-token, so that a thousand small
/// steps add up to exactly what one large step gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: u64,
    last: Nanos,
    /// Until when what comes in is promised to callers that were told to come back.
    line: Nanos,
    burst: Micros,
    /// What it holds, in parts.
    level: i128,
}

impl Bucket {
    /// Makes a bucket at a time.
    #[must_use]
    pub fn new(policy: BucketPolicy, start: BucketStart, now: Nanos) -> Self {
        let tokens = match start {
            BucketStart::Full => policy.burst,
            BucketStart::Short => short_start(policy),
        };
        Self {
            rate: policy.rate,
            last: now,
            line: 0,
            burst: policy.burst,
            level: parts(tokens),
        }
    }

    /// What was set for it.
    #[must_use]
    pub fn policy(&self) -> BucketPolicy {
        BucketPolicy {
            rate: self.rate,
            burst: self.burst,
        }
    }

    /// Adds what came in since the last look. A time before that adds nothing and changes nothing.
    #[inline]
    pub fn refill(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.level = (self.level + gain(elapsed, self.rate)).min(self.full());
    }

    /// What it holds after the last [`Bucket::refill`], whole micro-tokens; below zero when
    /// overdrawn.
    #[must_use]
    pub fn tokens(&self) -> Micros {
        whole(self.level)
    }

    /// Whether it holds all it can, and so equals a new one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.level == self.full()
    }

    /// Whether `cost` can be charged now; refill first.
    ///
    /// # Errors
    /// [`Denial::Never`] if the cost is above the burst, else [`Denial::NotNow`].
    #[inline]
    pub fn check(&self, cost: Micros) -> Result<(), Denial> {
        // What costs nothing passes an overdrawn bucket too.
        if parts(cost) <= self.level.max(0) {
            return Ok(());
        }
        Err(self.denial(cost))
    }

    fn denial(&self, cost: Micros) -> Denial {
        if parts(cost) > self.full() {
            return Denial::Never;
        }
        Denial::NotNow {
            retry_after: self.time_until(cost),
        }
    }

    /// Gives a call that is sent away its place in line: it is told to come back when those before
    /// it have had their tokens. Were all told when the next token is there, all would come for
    /// that one, again and again. Who comes anew and finds tokens gets them: nothing is kept for
    /// the line.
    #[must_use]
    pub fn line_up(&mut self, cost: Micros, denial: Denial) -> Denial {
        match denial {
            Denial::NotNow { retry_after } => Denial::NotNow {
                retry_after: self.place(cost, retry_after),
            },
            Denial::Never => Denial::Never,
        }
    }

    /// Gives a place not before the tokens are there, and no further than the longest line.
    fn place(&mut self, cost: Micros, until_tokens: Nanos) -> Nanos {
        let end = self.line.min(self.last.saturating_add(LINE_MAX));
        let place = end.max(self.last.saturating_add(until_tokens));
        let width = self.time_for(parts(cost).unsigned_abs());
        self.line = place.saturating_add(width);
        place - self.last
    }

    /// Takes `cost` whatever is there ([`Bucket::check`] says whether it is), down to one burst
    /// below zero, so that work which may not be refused still slows the work which may, and not
    /// for longer than twice the burst.
    #[inline]
    pub fn overdraw(&mut self, cost: Micros) {
        self.level = (self.level - parts(cost)).clamp(-self.full(), self.full());
    }

    /// Gives back what was charged for nothing, up to the burst.
    pub fn give_back(&mut self, cost: Micros) {
        self.level = (self.level + parts(cost)).clamp(-self.full(), self.full());
    }

    /// Sets another policy: what came in until now comes in at the old rate, to the last fraction
    /// of a micro-token; a lower burst clamps; a higher one gives nothing.
    pub fn set_policy(&mut self, policy: BucketPolicy, now: Nanos) {
        self.refill(now);
        self.rate = policy.rate;
        self.burst = policy.burst;
        self.level = self.level.clamp(-self.full(), self.full());
        // What was promised was reckoned with the old rate.
        self.line = 0;
    }

    #[inline]
    fn full(&self) -> i128 {
        parts(self.burst)
    }

    /// Time until the bucket holds `cost`, rounded up to the nanosecond.
    fn time_until(&self, cost: Micros) -> Nanos {
        self.time_for((parts(cost) - self.level).unsigned_abs())
    }

    /// Time in which so many parts come in, rounded up to the nanosecond.
    fn time_for(&self, missing: u128) -> Nanos {
        // 64 bits cover eighteen million tokens; dividing 128 bits is a call of thirty nanoseconds.
        if let Ok(missing) = u64::try_from(missing) {
            return missing.div_ceil(self.rate);
        }
        Nanos::try_from(missing.div_ceil(u128::from(self.rate))).unwrap_or(Nanos::MAX)
    }
}

/// What comes in during a time, in parts. No product of two numbers of 64 bits without a sign comes
/// near the end of 128 bits with one, as long as a rate is at most [`crate::RATE_MAX`].
#[inline]
fn gain(elapsed: Nanos, rate: u64) -> i128 {
    (u128::from(elapsed) * u128::from(rate)).cast_signed()
}

#[inline]
fn parts(micros: Micros) -> i128 {
    i128::from(micros) * PARTS
}

/// Whole micro-tokens, towards less.
fn whole(parts: i128) -> Micros {
    let micros = parts.div_euclid(PARTS);
    Micros::try_from(micros).unwrap_or(if micros < 0 { Micros::MIN } else { Micros::MAX })
}

fn short_start(policy: BucketPolicy) -> Micros {
    let earned = whole(gain(SHORT_START_NANOS, policy.rate));
    earned.clamp(TOKEN, policy.burst.max(TOKEN))
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
