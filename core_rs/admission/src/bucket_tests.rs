//! The arithmetic of one bucket, exact to the micro-token and the nanosecond.

use super::*;

const SECOND: Nanos = 1_000_000_000;

fn bucket(rate: u64, burst: Micros) -> Bucket {
    Bucket::new(BucketPolicy { rate, burst }, BucketStart::Full, 0)
}

/// A small generator with a seed, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn burst_is_exact_to_the_token() {
    let mut bucket = bucket(1, 5 * TOKEN);

    for _ in 0..5 {
        assert_eq!(bucket.check(TOKEN), Ok(()));
        bucket.overdraw(TOKEN);
    }

    assert_eq!(bucket.tokens(), 0);
    assert_eq!(
        bucket.check(1),
        Err(Denial::NotNow {
            retry_after: 1_000_000
        })
    );
}

#[test]
fn small_steps_add_up_to_one_large_step() {
    // 333.333 tokens a second never divides a nanosecond evenly.
    let policy = BucketPolicy {
        rate: 333_333,
        burst: 1_000_000 * TOKEN,
    };
    let mut stepped = Bucket::new(policy, BucketStart::Short, 0);
    let mut leaped = stepped.clone();
    let mut now = 0;
    let mut random = Random(7);
    for _ in 0..100_000 {
        now += random.below(20_000) + 1;
        stepped.refill(now);
    }
    leaped.refill(now);

    assert_eq!(leaped, stepped);
}

#[test]
fn one_milli_token_a_second_gives_one_token_after_a_thousand_seconds() {
    let mut bucket = bucket(1, TOKEN);
    bucket.overdraw(TOKEN);

    bucket.refill(1_000 * SECOND - 1);
    assert_eq!(bucket.check(TOKEN), Err(Denial::NotNow { retry_after: 1 }));

    bucket.refill(1_000 * SECOND);
    assert_eq!(bucket.check(TOKEN), Ok(()));
}

#[test]
fn retry_after_is_the_first_nanosecond_that_works() {
    let mut random = Random(11);
    for _ in 0..2_000 {
        let rate = random.below(5_000_000) + 1;
        let mut bucket = bucket(rate, 10 * TOKEN);
        bucket.overdraw(Micros::try_from(random.below(20_000_000)).expect("fits"));
        bucket.refill(random.below(1_000_000));
        let cost = Micros::try_from(random.below(10_000_000) + 1).expect("fits");
        let Err(Denial::NotNow { retry_after }) = bucket.check(cost) else {
            continue;
        };
        let at = bucket.last + retry_after;
        let mut early = bucket.clone();
        early.refill(at - 1);
        bucket.refill(at);

        assert!(early.check(cost).is_err(), "rate {rate}, cost {cost}");
        assert_eq!(bucket.check(cost), Ok(()), "rate {rate}, cost {cost}");
    }
}

#[test]
fn cost_above_the_burst_is_refused_for_ever() {
    let bucket = bucket(1_000, 2 * TOKEN);

    assert_eq!(bucket.check(2 * TOKEN), Ok(()));
    assert_eq!(bucket.check(2 * TOKEN + 1), Err(Denial::Never));
}

#[test]
fn time_going_back_gives_nothing_and_takes_nothing() {
    let mut bucket = bucket(1_000_000, 100 * TOKEN);
    bucket.refill(5 * SECOND);
    bucket.overdraw(100 * TOKEN);
    bucket.refill(SECOND);
    assert_eq!(bucket.tokens(), 0);

    bucket.refill(5 * SECOND);
    assert_eq!(bucket.tokens(), 0);

    bucket.refill(5 * SECOND + 1_000_000);
    assert_eq!(bucket.tokens(), TOKEN);
}

#[test]
fn idle_time_beyond_the_burst_is_not_kept() {
    let mut bucket = bucket(1_000_000, 3 * TOKEN);
    bucket.refill(u64::MAX);
    bucket.overdraw(3 * TOKEN);

    bucket.refill(u64::MAX);
    assert_eq!(bucket.tokens(), 0);
}

#[test]
fn overdraft_stops_at_one_burst_below_zero() {
    let mut bucket = bucket(1_000, 4 * TOKEN);
    for _ in 0..100 {
        bucket.overdraw(TOKEN);
    }
    assert_eq!(bucket.tokens(), -4 * TOKEN);

    assert_eq!(
        bucket.check(TOKEN),
        Err(Denial::NotNow {
            retry_after: 5 * SECOND
        })
    );
    assert_eq!(bucket.check(0), Ok(()));
}

#[test]
fn raising_the_burst_gives_no_tokens_and_lowering_it_clamps() {
    let mut bucket = bucket(1_000, 4 * TOKEN);
    bucket.set_policy(
        BucketPolicy {
            rate: 1_000,
            burst: 10 * TOKEN,
        },
        0,
    );
    assert_eq!(bucket.tokens(), 4 * TOKEN);

    bucket.set_policy(
        BucketPolicy {
            rate: 1_000,
            burst: 2 * TOKEN,
        },
        0,
    );
    assert_eq!(bucket.tokens(), 2 * TOKEN);
}

#[test]
fn rate_change_settles_the_old_rate_first() {
    let mut bucket = bucket(1_000, 100 * TOKEN);
    bucket.overdraw(100 * TOKEN);
    bucket.set_policy(
        BucketPolicy {
            rate: 10_000,
            burst: 100 * TOKEN,
        },
        10 * SECOND,
    );
    assert_eq!(bucket.tokens(), 10 * TOKEN);

    bucket.refill(11 * SECOND);
    assert_eq!(bucket.tokens(), 20 * TOKEN);
}

#[test]
fn short_start_is_ten_milliseconds_of_the_rate_and_at_least_a_token() {
    let start =
        |rate, burst| Bucket::new(BucketPolicy { rate, burst }, BucketStart::Short, 0).tokens();

    assert_eq!(start(5_000_000, 500 * TOKEN), 50 * TOKEN);
    assert_eq!(start(1_000, 500 * TOKEN), TOKEN);
    assert_eq!(start(1_000_000_000, 2 * TOKEN), 2 * TOKEN);
}

#[test]
fn extreme_values_do_not_overflow() {
    let mut bucket = bucket(crate::RATE_MAX, crate::BURST_MAX);
    bucket.overdraw(Micros::MAX);
    bucket.refill(u64::MAX);
    assert!(bucket.is_full());

    let mut slow = Bucket::new(
        BucketPolicy {
            rate: 1,
            burst: crate::BURST_MAX,
        },
        BucketStart::Full,
        0,
    );
    slow.overdraw(Micros::MAX);
    assert_eq!(
        slow.check(crate::BURST_MAX),
        Err(Denial::NotNow {
            retry_after: Nanos::MAX
        })
    );
}

/// The oracle: a bucket is the virtual time at which it is full, kept in exact fractions.
#[test]
fn agrees_with_an_exact_model_over_random_calls() {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let rate = random.below(1_000_000) + 1;
        let burst = Micros::try_from(random.below(50) + 1).expect("fits") * TOKEN;
        let mut bucket = bucket(rate, burst);
        // In units of micro-token / REFILL_DIVISOR.
        let full = i128::from(burst) * 1_000_000;
        let (mut model, mut last, mut now) = (full, 0_u64, 0_u64);
        for _ in 0..2_000 {
            now += random.below(100_000_000);
            model = full.min(model + i128::from(now - last) * i128::from(rate));
            last = now;
            let cost = Micros::try_from(random.below(3_000_000)).expect("fits");
            bucket.refill(now);
            let is_allowed = model.div_euclid(1_000_000) >= i128::from(cost).max(0);
            assert_eq!(
                is_allowed || cost == 0,
                bucket.check(cost).is_ok(),
                "seed {seed}"
            );
            if is_allowed {
                bucket.overdraw(cost);
                model -= i128::from(cost) * 1_000_000;
            }
        }
    }
}

fn wait_in_line(bucket: &mut Bucket) -> Nanos {
    let denial = bucket.check(TOKEN).expect_err("must be sent away");
    match bucket.line_up(TOKEN, denial) {
        Denial::NotNow { retry_after } => retry_after,
        Denial::Never => panic!("it fits into the bucket"),
    }
}

#[test]
fn who_is_sent_away_comes_back_one_after_the_other() {
    let mut bucket = bucket(2_000, TOKEN);
    bucket.overdraw(TOKEN);

    let waits: [Nanos; 3] = core::array::from_fn(|_| wait_in_line(&mut bucket));
    bucket.refill(SECOND / 4);
    let later = wait_in_line(&mut bucket);

    assert_eq!([SECOND / 2, SECOND, 3 * SECOND / 2], waits);
    assert_eq!(2 * SECOND - SECOND / 4, later, "behind those before it");
}

#[test]
fn everybody_in_line_who_comes_when_told_gets_in() {
    let mut bucket = bucket(3_333, 2 * TOKEN);
    bucket.overdraw(2 * TOKEN);
    let told: [Nanos; 30] = core::array::from_fn(|_| wait_in_line(&mut bucket));

    for at in told {
        bucket.refill(at);
        assert_eq!(Ok(()), bucket.check(TOKEN), "told to come at {at}");
        bucket.overdraw(TOKEN);
    }
}

#[test]
fn nobody_is_sent_away_for_longer_than_the_longest_line_or_its_own_tokens() {
    let mut quick = bucket(1_000_000, TOKEN);
    quick.overdraw(TOKEN);
    let longest = (0..100_000).map(|_| wait_in_line(&mut quick)).max();
    let mut slow = bucket(1, TOKEN);
    slow.overdraw(TOKEN);

    assert_eq!(Some(LINE_MAX), longest);
    assert_eq!(1_000 * SECOND, wait_in_line(&mut slow));
}

#[test]
fn nothing_is_kept_for_the_line_and_a_new_rate_ends_it() {
    let mut bucket = bucket(1_000, TOKEN);
    bucket.overdraw(TOKEN);
    for _ in 0..5 {
        wait_in_line(&mut bucket);
    }
    let policy = BucketPolicy {
        rate: 10_000,
        burst: TOKEN,
    };

    bucket.set_policy(policy, 0);
    assert_eq!(SECOND / 10, wait_in_line(&mut bucket));
    bucket.refill(SECOND);
    assert_eq!(Ok(()), bucket.check(TOKEN));
}
