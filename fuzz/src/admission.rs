//! Token buckets and admission under any clock, any policy and any change of policy.
//!
//! What must hold for a bucket, beside a model in exact fractions: it never holds more than its
//! burst, never gives more than what was there and what came in since, loses nothing but what is
//! above the burst, and is right about when to come back. For admission: what is counted adds up.

use lastunit_admission::{
    Admission, BURST_MAX, Bucket, BucketPolicy, BucketStart, Call, Denial, Lane, Operation, Policy,
    RATE_MAX, TOKEN, Verdict,
};

use crate::draw::Draw;

const STEPS_MAX: usize = 300;

/// The bucket of the books: micro-tokens times a million, so that nothing is ever rounded.
struct Exact {
    policy: BucketPolicy,
    parts: i128,
    last: u64,
}

impl Exact {
    fn refill(&mut self, now: u64) {
        let elapsed = i128::from(now.saturating_sub(self.last));
        self.last = self.last.max(now);
        let most = i128::from(self.policy.burst) * 1_000_000;
        self.parts = (self.parts + elapsed * i128::from(self.policy.rate)).min(most);
    }

    fn take(&mut self, cost: i64) {
        let least = -i128::from(self.policy.burst) * 1_000_000;
        let after = self.parts - i128::from(cost) * 1_000_000;
        self.parts = after.max(least);
    }
}

fn policy(draw: &mut Draw<'_>) -> BucketPolicy {
    BucketPolicy {
        rate: draw.number() % RATE_MAX + 1,
        burst: TOKEN
            + (draw.number() % BURST_MAX.unsigned_abs()).cast_signed() % (BURST_MAX - TOKEN + 1),
    }
}

pub(crate) fn run_bucket(data: &[u8]) {
    let mut draw = Draw::new(data);
    let first = policy(&mut draw);
    let mut now = draw.number() >> 1;
    let mut bucket = Bucket::new(first, BucketStart::Full, now);
    let mut exact = Exact {
        policy: first,
        parts: i128::from(first.burst) * 1_000_000,
        last: now,
    };
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        match draw.below(8) {
            0 => now = draw.number(),
            1..=3 => now = now.saturating_add(draw.number() >> 24),
            4 => {
                let next = policy(&mut draw);
                exact.refill(now);
                bucket.set_policy(next, now);
                // A lower burst clamps; a higher one gives nothing.
                let most = i128::from(next.burst) * 1_000_000;
                exact.parts = exact.parts.clamp(-most, most);
                exact.policy = next;
            }
            _ => spend(&mut draw, &mut bucket, &mut exact, now),
        }
        bucket.refill(now);
        exact.refill(now);
        let expected = exact.parts.div_euclid(1_000_000);
        assert_eq!(
            expected,
            i128::from(bucket.tokens()),
            "no token from nowhere, none lost"
        );
        assert!(bucket.tokens() <= bucket.policy().burst);
        assert!(bucket.tokens() >= -bucket.policy().burst);
    }
}

fn spend(draw: &mut Draw<'_>, bucket: &mut Bucket, exact: &mut Exact, now: u64) {
    let cost = (draw.number() % (2 * BURST_MAX.unsigned_abs())).cast_signed();
    bucket.refill(now);
    exact.refill(now);
    match bucket.check(cost) {
        Ok(()) => {
            bucket.overdraw(cost);
            exact.take(cost);
        }
        Err(Denial::Never) => assert!(cost > bucket.policy().burst),
        Err(Denial::NotNow { retry_after }) => {
            let mut later = bucket.clone();
            // The most that a wait can say is 584 years; a slow and deep bucket may take longer.
            let then = bucket_time(now, exact.last).checked_add(retry_after);
            if let Some(then) = then.filter(|_| retry_after < u64::MAX) {
                later.refill(then - 1);
                assert!(later.check(cost).is_err(), "not a nanosecond sooner");
                later.refill(then);
                assert_eq!(Ok(()), later.check(cost), "come back then, and it is there");
            }
            if draw.is_one_in(4) {
                bucket.overdraw(cost);
                exact.take(cost);
            }
        }
    }
}

/// A bucket's time never goes back.
fn bucket_time(now: u64, last: u64) -> u64 {
    now.max(last)
}

pub(crate) fn run_admission(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut admission = Admission::new(whole_policy(&mut draw), 0);
    let mut now = 0_u64;
    let mut open = [0_u32; Lane::ALL.len()];
    let mut counted = [0_u64; 2];
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        match draw.below(8) {
            0 => now = draw.number(),
            1 => now = now.saturating_add(draw.number() >> 24),
            2 => {
                let lane = draw.pick(&Lane::ALL);
                let count = open[lane.index()].min(u32::from(draw.byte()));
                open[lane.index()] -= count;
                admission.finish(lane, count);
            }
            3 if draw.is_one_in(4) => admission.set_policy(whole_policy(&mut draw), now),
            _ => {
                let call = Call {
                    operation: draw.pick(Operation::ALL),
                    line_count: u32::from(draw.byte()),
                    caller: draw.pick(&["a", "b", "c", "d", "e"]),
                };
                let lane = call.operation.lane();
                match admission.admit(&call, now) {
                    Verdict::Admitted => {
                        open[lane.index()] += 1;
                        counted[0] += 1;
                    }
                    Verdict::Refused(refusal) => {
                        assert_eq!(lane, refusal.lane);
                        assert!((1..=3).contains(&refusal.violation_count));
                        counted[1] += 1;
                    }
                }
            }
        }
    }
    let stats = admission.stats(100, now);
    let admitted: u64 = stats
        .lanes
        .iter()
        .map(|(_, lane)| lane.admitted_count)
        .sum();
    let in_flight = stats.lanes.iter().map(|(_, lane)| lane.in_flight);
    assert_eq!(counted[0], admitted);
    assert!(
        in_flight.eq(open),
        "what was let in and not finished is in flight"
    );
    let of_callers = stats.callers.iter().map(|(_, caller)| *caller);
    let of_callers = of_callers.chain([stats.overflow, stats.forgotten]);
    let refused: u64 = of_callers.map(|caller| caller.refused_count).sum();
    assert_eq!(counted[1], refused);
}

fn whole_policy(draw: &mut Draw<'_>) -> Policy {
    let mut whole = Policy::default();
    for lane in Lane::ALL {
        let set = whole.lane_mut(lane);
        set.calls_in_flight_max = u32::from(draw.byte()) + 1;
        set.bucket = draw.is_one_in(2).then(|| policy(draw));
    }
    whole.caller = draw.is_one_in(2).then(|| policy(draw));
    if draw.is_one_in(2) {
        whole.callers.insert("a".into(), Some(policy(draw)));
    }
    whole.callers_max = u32::from(draw.few(4)) + 1;
    assert_eq!(Ok(()), whole.check());
    whole
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |number: u64| (format!("noise-{number}"), crate::ledger::noise(number, 200));
    (11..=13).map(seed).collect()
}
