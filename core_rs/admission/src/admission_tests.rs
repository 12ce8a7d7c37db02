//! One decision over all limits: all are charged or none, and settlement is never refused by one.
#![expect(
    clippy::field_reassign_with_default,
    reason = "a test changes one setting of a policy; the literal would hide which"
)]

use alloc::format;

use super::*;
use crate::bucket::{BucketPolicy, TOKEN};
use crate::policy::{CALLERS_MAX, CALLS_IN_FLIGHT_MAX, COST_MAX, RATE_MAX};
use crate::stats::CallerStats;
use crate::verdict::{Refusal, Violation};

const SECOND: Nanos = 1_000_000_000;

fn reserve(caller: &str) -> Call<'_> {
    Call {
        operation: Operation::Reserve,
        line_count: 1,
        caller,
    }
}

fn settle(caller: &str) -> Call<'_> {
    Call {
        operation: Operation::SettlePayment,
        line_count: 0,
        caller,
    }
}

fn per_second(rate: u64, burst: Micros) -> BucketPolicy {
    BucketPolicy {
        rate: rate * 1_000,
        burst: burst * TOKEN,
    }
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Admitted => panic!("must be refused"),
    }
}

fn lane_stats(admission: &mut Admission, lane: Lane) -> LaneStats {
    admission.stats(0, 0).lanes[lane.index()].1
}

#[test]
fn refusal_of_one_bucket_charges_none() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Reservation).bucket = Some(per_second(1_000, 100));
    policy.caller = Some(per_second(1, 2));
    let mut admission = Admission::new(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
    let before = lane_stats(&mut admission, Lane::Reservation);

    let refused = refusal(admission.admit(&reserve("a"), 0));

    let after = lane_stats(&mut admission, Lane::Reservation);
    assert_eq!(Limit::CallerRate, refused.first.limit);
    assert_eq!(Some(SECOND), refused.retry_after);
    assert_eq!(before.tokens, after.tokens);
    assert_eq!(before.charged, after.charged);
    assert_eq!(before.in_flight, after.in_flight);
}

#[test]
fn refusal_by_the_lane_leaves_the_caller_uncharged() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Reservation).bucket = Some(per_second(1, 1));
    policy.caller = Some(per_second(1, 1));
    let mut admission = Admission::new(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
    assert_eq!(
        Limit::LaneRate,
        refusal(admission.admit(&reserve("b"), 0)).first.limit
    );

    assert_eq!(Verdict::Admitted, admission.admit(&reserve("b"), SECOND));
}

#[test]
fn first_violation_is_reported_with_the_longest_wait() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Reservation).bucket = Some(per_second(10, 1));
    policy.lane_mut(Lane::Reservation).calls_in_flight_max = 1;
    policy.caller = Some(per_second(1, 1));
    let mut admission = Admission::new(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));

    let refused = refusal(admission.admit(&reserve("a"), 0));

    assert_eq!(Limit::LaneInFlight, refused.first.limit);
    assert_eq!(3, refused.violation_count);
    assert_eq!(Some(SECOND), refused.retry_after);
}

#[test]
fn never_outranks_not_now_and_gives_no_time() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Reservation).calls_in_flight_max = 1;
    policy.caller = Some(per_second(100, 2));
    policy.costs.per_line = TOKEN;
    let mut admission = Admission::new(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
    let big = Call {
        operation: Operation::Reserve,
        line_count: 2,
        caller: "b",
    };

    let refused = refusal(admission.admit(&big, 0));

    let expected = Violation {
        limit: Limit::CallerRate,
        denial: Denial::Never,
    };
    assert_eq!(expected, refused.first);
    assert_eq!(None, refused.retry_after);
    assert_eq!(
        1,
        lane_stats(&mut admission, Lane::Reservation).refused_never_count
    );
}

#[test]
fn settlement_overdraws_and_slows_the_same_callers_reservations() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 2));
    policy
        .costs
        .operations
        .insert(Operation::SettlePayment, TOKEN);
    let mut admission = Admission::new(policy, 0);
    for _ in 0..50 {
        assert_eq!(Verdict::Admitted, admission.admit(&settle("a"), 0));
    }

    let refused = refusal(admission.admit(&reserve("a"), 0));

    assert_eq!(Some(3 * SECOND), refused.retry_after);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("b"), 0));
    assert_eq!(
        48,
        lane_stats(&mut admission, Lane::Settlement).overdrawn_count
    );
}

#[test]
fn free_settlement_passes_an_overdrawn_bucket_without_counting_as_overdraft() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 1));
    let mut admission = Admission::new(policy, 0);
    admission.admit(&reserve("a"), 0);

    assert_eq!(Verdict::Admitted, admission.admit(&settle("a"), 0));
    assert_eq!(
        0,
        lane_stats(&mut admission, Lane::Settlement).overdrawn_count
    );
}

#[test]
fn calls_in_flight_are_bounded_at_the_limit_and_freed_by_finish() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Settlement).calls_in_flight_max = 3;
    let mut admission = Admission::new(policy, 0);
    for _ in 0..3 {
        assert_eq!(Verdict::Admitted, admission.admit(&settle("a"), 0));
    }
    assert_eq!(
        Limit::LaneInFlight,
        refusal(admission.admit(&settle("a"), 0)).first.limit
    );
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));

    admission.finish(Lane::Settlement, 1);

    assert_eq!(Verdict::Admitted, admission.admit(&settle("a"), 0));
    assert_eq!(
        3,
        lane_stats(&mut admission, Lane::Settlement).in_flight_peak
    );
}

#[test]
fn lane_starts_short_and_caller_starts_full() {
    let mut policy = Policy::default();
    policy.lane_mut(Lane::Reservation).bucket = Some(per_second(1_000, 1_000));
    policy.caller = Some(per_second(1_000, 1_000));
    let mut admission = Admission::new(policy, 0);

    let admitted = (0..1_000)
        .filter(|_| admission.admit(&reserve("a"), 0) == Verdict::Admitted)
        .count();

    assert_eq!(10, admitted);
}

#[test]
fn callers_past_the_bound_share_one_bucket() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 1));
    policy.callers_max = 2;
    let mut admission = Admission::new(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("b"), 0));
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("c"), 0));

    let refused = refusal(admission.admit(&reserve("d"), 0));

    assert_eq!(Limit::OverflowRate, refused.first.limit);
    let stats = admission.stats(10, 0);
    assert_eq!(2, stats.caller_count);
    assert_eq!(
        CallerStats {
            admitted_count: 1,
            refused_count: 1
        },
        stats.overflow
    );
}

#[test]
fn only_a_full_bucket_is_forgotten() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 2));
    policy.callers_max = 2;
    let mut admission = Admission::new(policy, 0);
    for caller in ["a", "b", "b"] {
        assert_eq!(Verdict::Admitted, admission.admit(&reserve(caller), 0));
    }

    // After a second `a` is full again and `b` is not.
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("c"), SECOND));

    let stats = admission.stats(10, SECOND);
    let names: alloc::vec::Vec<_> = stats.callers.iter().map(|it| &*it.0).collect();
    assert_eq!(["b", "c"], names[..]);
    assert_eq!(1, stats.forgotten.admitted_count);
}

#[test]
fn a_flood_of_names_never_grows_the_table() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 1));
    policy.callers_max = 50;
    policy
        .callers
        .insert("order-service".into(), Some(per_second(1_000, 1_000)));
    let mut admission = Admission::new(policy, 0);
    for index in 0..5_000_u64 {
        let name = format!("caller-{}", index * 7_919 % 5_000);
        admission.admit(&reserve(&name), index * 1_000_000);
    }
    let stats = admission.stats(100, 5 * SECOND);

    assert_eq!(50, stats.caller_count);
    assert!(stats.callers.iter().any(|it| &*it.0 == "order-service"));
    let sums = |pick: fn(&CallerStats) -> u64| {
        stats.callers.iter().map(|it| pick(&it.1)).sum::<u64>()
            + pick(&stats.overflow)
            + pick(&stats.forgotten)
    };
    assert_eq!(
        5_000,
        sums(|it| it.admitted_count) + sums(|it| it.refused_count)
    );
}

#[test]
fn named_caller_has_its_own_policy() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 1));
    policy
        .callers
        .insert("order-service".into(), Some(per_second(10, 10)));
    let mut admission = Admission::new(policy, 0);
    let mut count = |name: &str| {
        (0..20)
            .filter(|_| admission.admit(&reserve(name), 0) == Verdict::Admitted)
            .count()
    };

    assert_eq!(10, count("order-service"));
    assert_eq!(1, count("someone"));
}

#[test]
fn policy_change_keeps_balances() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 5));
    let mut admission = Admission::new(policy.clone(), 0);
    for _ in 0..5 {
        admission.admit(&reserve("a"), 0);
    }
    policy.caller = Some(per_second(1, 100));
    admission.set_policy(policy.clone(), 0);
    assert_eq!(
        Some(SECOND),
        refusal(admission.admit(&reserve("a"), 0)).retry_after
    );

    policy.caller = None;
    admission.set_policy(policy, 0);
    assert_eq!(Verdict::Admitted, admission.admit(&reserve("a"), 0));
}

#[test]
fn every_range_is_checked_at_its_limit_and_one_past_it() {
    type Change = fn(&mut Policy, i64);
    let table: [(&str, i64, i64, Change); 6] = [
        ("callers_max", 1, i64::from(CALLERS_MAX), |it, value| {
            it.callers_max = u32::try_from(value).unwrap_or(u32::MAX);
        }),
        ("costs.per_line", 0, COST_MAX, |it, value| {
            it.costs.per_line = value;
        }),
        ("costs.Reserve", 0, COST_MAX, |it, value| {
            it.costs.operations.insert(Operation::Reserve, value);
        }),
        (
            "callers.default",
            1,
            i64::try_from(RATE_MAX).expect("fits"),
            |it, value| {
                let rate = u64::try_from(value).unwrap_or(0);
                it.caller = Some(BucketPolicy { rate, burst: TOKEN });
            },
        ),
        ("lanes.read", TOKEN, crate::BURST_MAX, |it, value| {
            it.lane_mut(Lane::Read).bucket = Some(BucketPolicy {
                rate: 1,
                burst: value,
            });
        }),
        (
            "lanes.control",
            1,
            i64::from(CALLS_IN_FLIGHT_MAX),
            |it, value| {
                let value = u32::try_from(value).unwrap_or(0);
                it.lane_mut(Lane::Control).calls_in_flight_max = value;
            },
        ),
    ];
    for (setting, low, high, change) in table {
        for (value, is_ok) in [
            (low, true),
            (high, true),
            (low - 1, false),
            (high + 1, false),
        ] {
            let mut policy = Policy::default();
            change(&mut policy, value);
            let refused = policy.check().err().map(|it| it.setting);

            assert_eq!(is_ok, refused.is_none(), "{setting} = {value}");
            assert!(
                refused.is_none_or(|it| &*it == setting),
                "{setting} = {value}"
            );
        }
    }
}

#[test]
fn operations_have_the_lane_that_the_design_gives_them() {
    for operation in Operation::ALL {
        let expected = match operation {
            Operation::Reserve => Lane::Reservation,
            Operation::GetReservation
            | Operation::ListReservations
            | Operation::GetAvailability
            | Operation::WatchAvailability => Lane::Read,
            Operation::Admin => Lane::Control,
            _ => Lane::Settlement,
        };

        assert_eq!(expected, operation.lane(), "{}", operation.name());
    }
}

#[test]
fn settlement_that_overdraws_takes_no_place_in_line() {
    let mut policy = Policy::default();
    policy.caller = Some(per_second(1, 1));
    policy
        .costs
        .operations
        .insert(Operation::SettlePayment, TOKEN);
    let mut admission = Admission::new(policy, 0);
    for _ in 0..10 {
        assert_eq!(Verdict::Admitted, admission.admit(&settle("a"), 0));
    }

    // One burst below zero is as far as it goes: two seconds, and not one for each of the ten.
    let waits: [_; 2] =
        core::array::from_fn(|_| refusal(admission.admit(&reserve("a"), 0)).retry_after);

    assert_eq!([Some(2 * SECOND), Some(3 * SECOND)], waits);
}
