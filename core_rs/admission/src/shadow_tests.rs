//! A shadow counts and changes nothing.

use super::*;
use crate::admission::Call;
use crate::bucket::{BucketPolicy, TOKEN};
use crate::door::Chance;
use crate::policy::Operation;

fn ask() -> Ask<'static> {
    Ask {
        call: Call {
            operation: Operation::Reserve,
            line_count: 0,
            caller: "shop",
        },
        sale: "s",
        skus: &["shoe"],
        chance: Chance::Possible,
    }
}

fn policy(tokens: i64) -> DoorPolicy {
    let mut policy = DoorPolicy::default();
    policy.skus.each = Some(BucketPolicy {
        rate: 1,
        burst: tokens * TOKEN,
    });
    policy
}

#[test]
fn a_stricter_shadow_counts_what_it_would_have_refused() {
    let mut live = Door::new(policy(10), 1, 0);
    let mut shadow = Shadow::new(policy(4), 2, [0; 4], 0);
    for _ in 0..15 {
        let answer = live.decide(&ask(), 0);
        shadow.observe(&ask(), &answer, 0);
    }
    live.finish(Lane::Reservation, 10);
    shadow.finish(Lane::Reservation, 10);

    let expected = ShadowCounts {
        both_admitted: 4,
        only_live_admitted: 6,
        only_shadow_admitted: 0,
        both_refused: 5,
    };
    assert_eq!(expected, shadow.counts());
}

#[test]
fn a_looser_shadow_counts_what_it_would_have_let_in_and_keeps_nothing_in_flight() {
    let mut live = Door::new(policy(4), 1, 0);
    let mut loose = policy(10);
    loose.limits.lane_mut(Lane::Reservation).calls_in_flight_max = 5;
    let mut shadow = Shadow::new(loose, 2, [0; 4], 0);
    for _ in 0..15 {
        let answer = live.decide(&ask(), 0);
        shadow.observe(&ask(), &answer, 0);
    }

    let expected = ShadowCounts {
        both_admitted: 4,
        only_live_admitted: 0,
        only_shadow_admitted: 6,
        both_refused: 5,
    };
    assert_eq!(expected, shadow.counts());
}

#[test]
fn calls_from_before_the_trial_may_end_in_it() {
    let mut live = Door::new(policy(10), 1, 0);
    for _ in 0..3 {
        live.decide(&ask(), 0);
    }
    let mut shadow = Shadow::new(policy(10), 2, live.in_flight(), 0);
    let answer = live.decide(&ask(), 0);
    shadow.observe(&ask(), &answer, 0);
    shadow.finish(Lane::Reservation, 3);
    shadow.finish(Lane::Reservation, 1);

    assert_eq!(1, shadow.counts().both_admitted);
}

#[test]
fn the_live_door_answers_the_same_with_a_shadow_and_without() {
    let mut alone = Door::new(policy(4), 1, 0);
    let mut live = Door::new(policy(4), 1, 0);
    let mut shadow = Shadow::new(policy(2), 2, [0; 4], 0);
    for now in 0..200 {
        let now = now * 77_000_000;
        let answer = live.decide(&ask(), now);
        shadow.observe(&ask(), &answer, now);
        assert_eq!(alone.decide(&ask(), now), answer);
    }
}
