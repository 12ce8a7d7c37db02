//! The whole decision: all or none over every bucket, hopeless calls for nothing, and ten thousand
//! changes of policy against books in exact fractions.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::bucket::{BucketPolicy, BucketStart, TOKEN};

const SECOND: Nanos = 1_000_000_000;
const ROOMY: BucketPolicy = BucketPolicy {
    rate: 1_000_000_000,
    burst: 1_000_000 * TOKEN,
};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Every size of number is as likely as any other.
    fn log(&mut self, most: u64) -> u64 {
        let bits = self.below(64 - u64::from(most.leading_zeros())) + 1;
        let number = self.below(1 << bits.min(31)) << bits.saturating_sub(31);
        number.clamp(1, most)
    }
}

fn ask<'a>(skus: &'a [&'a str]) -> Ask<'a> {
    Ask {
        call: Call {
            operation: Operation::Reserve,
            line_count: 0,
            caller: "shop",
        },
        sale: "s",
        skus,
        chance: Chance::Possible,
    }
}

fn tokens(count: i64) -> BucketPolicy {
    BucketPolicy {
        rate: 1_000,
        burst: count * TOKEN,
    }
}

fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_by_any_bucket_charges_none_of_the_others() {
    let mut policy = DoorPolicy::default();
    policy.sales.each = Some(tokens(10));
    policy.skus.each = Some(tokens(10));
    policy.skus.named.insert("hot".into(), Some(tokens(1)));
    let mut door = Door::new(policy, 1, 0);
    assert_eq!(Answer::Admitted, door.decide(&ask(&["cold", "hot"]), 0));

    let refusal = refused(door.decide(&ask(&["cold", "hot"]), 0));

    assert_eq!(Limit::SkuRate, refusal.first.limit);
    assert_eq!(Some(SECOND), refusal.retry_after);
    assert_eq!(
        [Some(9 * TOKEN), Some(9 * TOKEN)],
        door.tokens("s", "cold", 0)
    );
    assert_eq!([Some(9 * TOKEN), Some(0)], door.tokens("s", "hot", 0));
    let lanes = door.stats(0, 0).lanes;
    assert_eq!(1, lanes[Lane::Reservation.index()].1.refused_sku_rate_count);
}

#[test]
fn a_hopeless_call_costs_nothing_and_is_not_refused() {
    let mut policy = DoorPolicy::default();
    policy.limits.lane_mut(Lane::Reservation).bucket = Some(tokens(1));
    policy.skus.each = Some(tokens(1));
    let mut door = Door::new(policy, 1, 0);
    let gone = Ask {
        chance: Chance::Gone,
        ..ask(&["shoe"])
    };
    for _ in 0..1_000 {
        assert_eq!(Answer::Hopeless, door.decide(&gone, 0));
    }

    assert_eq!(Answer::Admitted, door.decide(&ask(&["shoe"]), 0));
    assert_eq!(Answer::Hopeless, door.decide(&gone, 0));
    assert_eq!(1_001, door.hopeless_count());
}

#[test]
fn settlement_passes_an_empty_sale_and_a_full_window() {
    let mut policy = DoorPolicy::default();
    policy.sales.each = Some(tokens(1));
    let mut door = Door::new(policy, 1, 0);
    assert_eq!(Answer::Admitted, door.decide(&ask(&["shoe"]), 0));
    let mut settle = ask(&["shoe"]);
    settle.call.operation = Operation::SettlePayment;

    assert_eq!(
        Limit::SaleRate,
        refused(door.decide(&ask(&["shoe"]), 0)).first.limit
    );
    assert_eq!(Answer::Admitted, door.decide(&settle, 0));
}

#[test]
fn what_can_never_fit_is_told_so_even_beside_what_may_fit_later() {
    let mut policy = DoorPolicy::default();
    policy.limits.costs.per_line = 3 * TOKEN;
    policy.sales.each = Some(tokens(100));
    policy.skus.each = Some(tokens(2));
    let mut door = Door::new(policy, 1, 0);
    let mut large = ask(&["shoe"]);
    large.call.line_count = 1;

    let refusal = refused(door.decide(&large, 0));

    assert_eq!(Limit::SkuRate, refusal.first.limit);
    assert_eq!(None, refusal.retry_after);
}

#[test]
fn tables_of_names_stay_in_their_bound_and_give_no_second_burst() {
    let mut policy = DoorPolicy::default();
    policy.skus.each = Some(tokens(2));
    policy.skus.names_max = 16;
    let mut door = Door::new(policy, 7, 0);
    let names: Vec<String> = (0..200).map(|number| format!("sku-{number}")).collect();
    let mut admitted = 0;
    for _ in 0..3 {
        for name in &names {
            let skus = [name.as_str()];
            admitted += u32::from(door.decide(&ask(&skus), 0) == Answer::Admitted);
        }
    }

    assert_eq!([0, 16], door.name_counts());
    // Sixteen buckets of their own and the one that all others share, two tokens each.
    assert_eq!(17 * 2, admitted);
    // Once they are full again they are forgotten for others, which find full ones.
    assert_eq!(Answer::Admitted, door.decide(&ask(&["new"]), 3 * SECOND));
    assert_eq!([0, 16], door.name_counts());
}

#[test]
fn admitted_rate_is_within_one_percent_for_random_rates_and_arrivals() {
    let mut random = Random(41);
    for case in 0..40 {
        // 10 to 100,000 a second, in milli-tokens.
        let rate = random.log(99_990_000) + 10_000;
        // Ten milliseconds of the rate, never less than a few arrivals: a smaller bucket is full
        // whenever arrivals leave a gap, and what comes in then is lost.
        let burst = (i64::try_from(rate).expect("fits") * 10).max(5 * TOKEN);
        let mut policy = DoorPolicy::default();
        policy.skus.each = Some(BucketPolicy { rate, burst });
        let mut door = Door::new(policy, 1, 0);
        // Offered at 2 to 4 times the rate, at random distances.
        let gap = 1_000 * SECOND / rate * 10 / (20 + random.below(20));
        let (mut now, mut admitted) = (0, 0_u64);
        while now < 11 * SECOND {
            now += random.below(2 * gap) + 1;
            let is_in = door.decide(&ask(&["shoe"]), now) == Answer::Admitted;
            door.finish(Lane::Reservation, u32::from(is_in));
            admitted += u64::from(is_in && (SECOND..11 * SECOND).contains(&now));
        }

        let expected = rate / 100;
        let error = admitted.abs_diff(expected);
        assert!(
            error <= (expected / 100).max(1),
            "case {case}: {admitted} of {expected} at {rate} milli-tokens a second"
        );
    }
}

/// Micro-tokens times a million: nothing is ever rounded.
struct Exact {
    policy: BucketPolicy,
    parts: i128,
    last: Nanos,
}

impl Exact {
    fn new(policy: BucketPolicy) -> Self {
        let parts = i128::from(policy.burst) * 1_000_000;
        Self {
            policy,
            parts,
            last: 0,
        }
    }

    fn refill(&mut self, now: Nanos) {
        let most = i128::from(self.policy.burst) * 1_000_000;
        let gain = i128::from(now - self.last) * i128::from(self.policy.rate);
        self.parts = (self.parts + gain).min(most);
        self.last = now;
    }

    /// The documented rule: what came in stays, a lower burst clamps, a higher one gives nothing.
    fn set_policy(&mut self, policy: BucketPolicy) {
        self.policy = policy;
        self.parts = self.parts.min(i128::from(policy.burst) * 1_000_000);
    }

    fn tokens(&self) -> Micros {
        Micros::try_from(self.parts.div_euclid(1_000_000)).expect("fits")
    }
}

fn any_bucket(random: &mut Random) -> BucketPolicy {
    let burst = random.log(10_000_000).max(1);
    BucketPolicy {
        rate: random.log(1_000_000_000),
        burst: Micros::try_from(burst).expect("fits") * TOKEN,
    }
}

#[test]
fn ten_thousand_policy_changes_create_no_token_and_lose_none() {
    let mut random = Random(43);
    let mut policy = DoorPolicy::default();
    policy.sales.each = Some(ROOMY);
    policy.skus.each = Some(ROOMY);
    let mut door = Door::new(policy.clone(), 1, 0);
    assert_eq!(Answer::Admitted, door.decide(&ask(&["shoe"]), 0));
    door.finish(Lane::Reservation, 1);
    let mut books = [Exact::new(ROOMY), Exact::new(ROOMY)];
    for book in &mut books {
        book.parts -= i128::from(TOKEN) * 1_000_000;
    }
    let mut now = 0;
    for change in 0..10_000 {
        for _ in 0..random.below(12) {
            now += random.log(SECOND);
            for book in &mut books {
                book.refill(now);
            }
            let is_paid = books.iter().all(|book| book.tokens() >= TOKEN);
            let is_in = door.decide(&ask(&["shoe"]), now) == Answer::Admitted;
            assert_eq!(is_paid, is_in, "before change {change}");
            if is_in {
                door.finish(Lane::Reservation, 1);
                for book in &mut books {
                    book.parts -= i128::from(TOKEN) * 1_000_000;
                }
            }
        }
        now += random.log(SECOND);
        policy.sales.each = Some(any_bucket(&mut random));
        policy.skus.each = Some(any_bucket(&mut random));
        assert_eq!(Ok(()), policy.check());
        door.set_policy(policy.clone(), now);
        for (book, bucket) in books.iter_mut().zip([policy.sales.each, policy.skus.each]) {
            book.refill(now);
            book.set_policy(bucket.expect("set above"));
        }
        let expected = [Some(books[0].tokens()), Some(books[1].tokens())];
        assert_eq!(
            expected,
            door.tokens("s", "shoe", now),
            "after change {change}"
        );
    }
}

#[test]
fn a_bucket_that_comes_by_a_change_starts_short() {
    let mut door = Door::new(DoorPolicy::default(), 1, 0);
    assert_eq!(Answer::Admitted, door.decide(&ask(&["shoe"]), 0));
    let mut policy = DoorPolicy::default();
    policy.skus.each = Some(tokens(5));
    door.set_policy(policy.clone(), 0);
    assert_eq!(Answer::Admitted, door.decide(&ask(&["shoe"]), 0));
    let before = door.tokens("s", "shoe", 0);

    // Gone and back again: what was spent is not given back.
    policy.skus.each = None;
    door.set_policy(policy.clone(), 0);
    policy.skus.each = Some(tokens(5));
    door.set_policy(policy, 0);

    assert_eq!(
        Some(4 * TOKEN),
        before[1],
        "a name that was never seen is new"
    );
    let short = Bucket::new(tokens(5), BucketStart::Short, 0).tokens();
    assert_eq!(Some(short), door.tokens("s", "shoe", 0)[1]);
}

#[test]
fn policies_out_of_range_are_refused_by_name() {
    let mut policy = DoorPolicy::default();
    policy.skus.each = Some(tokens(0));
    let error = policy.check().expect_err("no burst");
    assert_eq!("skus.default", &*error.setting);

    policy.skus.each = None;
    policy.sales.names_max = 0;
    let error = policy.check().expect_err("no room");
    assert_eq!("sales.names_max", &*error.setting);
}
