//! One token bucket in whole numbers: what it holds, how it refills, when it says no.
//!
//! Owns: the arithmetic. Must not: know lanes or callers. Where next: `admission.rs`.

/// Nanoseconds on a clock that only the caller reads; any starting point will do.
pub type Nanos = u64;

/// Millionths of a token.
pub type Micros = i64;

/// One token.
pub const TOKEN: Micros = 1_000_000;

/// Divides `nanoseconds × milli-tokens per second` into micro-tokens.
const REFILL_DIVISOR: u64 = 1_000_000;

/// How much of the rate a bucket holds when it starts [`BucketStart::Short`]: ten milliseconds.
/// A restart in the middle of a sale must not hand out a second full burst.
const SHORT_START_NANOS: u128 = 10_000_000;

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
        /// Time until the refill covers the cost; [`Nanos::MAX`] stands for anything longer.
        retry_after: Nanos,
    },
    /// Never: the cost is more than the bucket can ever hold.
    Never,
}

/// One token bucket.
///
/// Tokens are settled lazily, and the part of a division that is left over is carried, so that a
/// thousand small steps add up to exactly what one large step gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    policy: BucketPolicy,
    tokens: Micros,
    last: Nanos,
    /// Left over from the last division, in micro-tokens / [`REFILL_DIVISOR`]; 0 when full.
    remainder: u64,
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
            policy,
            tokens,
            last: now,
            remainder: 0,
        }
    }

    /// What was set for it.
    #[must_use]
    pub fn policy(&self) -> BucketPolicy {
        self.policy
    }

    /// Adds what came in since the last look. A time before that adds nothing and changes nothing.
    pub fn refill(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        let missing = self.policy.burst - self.tokens;
        let (whole, remainder) = self.gain(elapsed);
        if whole < missing {
            self.tokens += whole;
            self.remainder = remainder;
        } else {
            // Full, whatever the rest of the sum would have been.
            self.tokens = self.policy.burst;
            self.remainder = 0;
        }
    }

    /// What comes in during a time: whole micro-tokens, and the rest of the division.
    fn gain(&self, elapsed: Nanos) -> (Micros, u64) {
        let narrow = elapsed
            .checked_mul(self.policy.rate)
            .and_then(|gain| gain.checked_add(self.remainder));
        // A product of 64 bits covers 18 seconds at the highest rate: a busy bucket's every look.
        // Dividing it is a multiplication; dividing 128 bits is a call of some thirty nanoseconds.
        if let Some(gain) = narrow {
            let whole = Micros::try_from(gain / REFILL_DIVISOR).unwrap_or(Micros::MAX);
            return (whole, gain % REFILL_DIVISOR);
        }
        let divisor = u128::from(REFILL_DIVISOR);
        let gain = u128::from(elapsed) * u128::from(self.policy.rate) + u128::from(self.remainder);
        let whole = Micros::try_from(gain / divisor).unwrap_or(Micros::MAX);
        (whole, u64::try_from(gain % divisor).unwrap_or(0))
    }

    /// What it holds after the last [`Bucket::refill`]; below zero when overdrawn.
    #[must_use]
    pub fn tokens(&self) -> Micros {
        self.tokens
    }

    /// Whether it holds all it can, and so equals a new one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tokens == self.policy.burst
    }

    /// Whether `cost` can be charged now; refill first.
    ///
    /// # Errors
    /// [`Denial::Never`] if the cost is above the burst, else [`Denial::NotNow`].
    pub fn check(&self, cost: Micros) -> Result<(), Denial> {
        // What costs nothing passes an overdrawn bucket too.
        if cost <= self.tokens.max(0) {
            return Ok(());
        }
        if cost > self.policy.burst {
            return Err(Denial::Never);
        }
        Err(Denial::NotNow {
            retry_after: self.time_until(cost),
        })
    }

    /// Takes `cost` whatever is there ([`Bucket::check`] says whether it is), down to one burst
    /// below zero, so that work which may not be refused still slows the work which may, and not
    /// for longer than twice the burst.
    pub fn overdraw(&mut self, cost: Micros) {
        self.tokens = self.tokens.saturating_sub(cost);
        self.clamp();
    }

    /// Gives back what was charged for nothing, up to the burst.
    pub fn give_back(&mut self, cost: Micros) {
        self.tokens = self.tokens.saturating_add(cost);
        self.clamp();
    }

    /// Keeps the balance in its bounds; at a bound there is no fraction beside it.
    fn clamp(&mut self) {
        let burst = self.policy.burst;
        if self.tokens >= burst || self.tokens < -burst {
            self.tokens = self.tokens.clamp(-burst, burst);
            self.remainder = 0;
        }
    }

    /// Sets another policy: what came in until now comes in at the old rate, to the last fraction
    /// of a micro-token; a lower burst clamps; a higher one gives nothing.
    pub fn set_policy(&mut self, policy: BucketPolicy, now: Nanos) {
        self.refill(now);
        self.policy = policy;
        self.clamp();
    }

    /// Time until the bucket holds `cost`, rounded up to the nanosecond.
    fn time_until(&self, cost: Micros) -> Nanos {
        let missing = cost.saturating_sub(self.tokens).unsigned_abs();
        // 64 bits cover eighteen million tokens; see `gain`.
        if let Some(parts) = missing.checked_mul(REFILL_DIVISOR) {
            let parts = parts.saturating_sub(self.remainder);
            return parts.div_ceil(self.policy.rate);
        }
        let parts = u128::from(missing) * u128::from(REFILL_DIVISOR);
        let parts = parts.saturating_sub(u128::from(self.remainder));
        Nanos::try_from(parts.div_ceil(u128::from(self.policy.rate))).unwrap_or(Nanos::MAX)
    }
}

fn short_start(policy: BucketPolicy) -> Micros {
    let earned = u128::from(policy.rate) * SHORT_START_NANOS / u128::from(REFILL_DIVISOR);
    Micros::try_from(earned)
        .unwrap_or(Micros::MAX)
        .clamp(TOKEN, policy.burst.max(TOKEN))
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
