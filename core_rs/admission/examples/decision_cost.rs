//! What a decision costs, beside the `governor` crate: all buckets of one call, in nanoseconds.
//!
//! `cargo run --release -p lastunit-admission --example decision_cost` prints the median and the
//! spread of several runs, with one thread and with two. With `--instructions` it decides a fixed
//! number of calls and measures nothing, for `valgrind --tool=callgrind`:
//! the difference between `--instructions door 100000` and `--instructions door 0` is the cost
//! (`bench/instructions.py` does this); of `door` most are refused, of `door_admitted` none.
//!
//! Both sides get the time as an argument or from a clock that only counts, because reading a clock
//! costs more than deciding and is done once for a whole batch of calls.

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use lastunit_admission::{
    Answer, Ask, BucketPolicy, Call, Chance, Door, DoorPolicy, Lane, Operation, Report, TOKEN,
    WindowPolicy,
};

const CALLS: u64 = 2_000_000;
const RUNS: usize = 9;
const CALLERS: [&str; 8] = [
    "order-1", "order-2", "order-3", "order-4", "desk", "app", "web", "x",
];
/// As many SKUs as a flash sale has, and more than fit the first cache.
const SKU_COUNT: usize = 1_000;

type Direct = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

fn sku_names() -> Vec<String> {
    (0..SKU_COUNT)
        .map(|number| format!("sku-{number:05}"))
        .collect()
}

fn door(rate: u64) -> Door {
    let bucket = BucketPolicy {
        rate,
        burst: 1_000 * TOKEN,
    };
    let mut policy = DoorPolicy::default();
    policy.limits.lane_mut(Lane::Reservation).bucket = Some(bucket);
    policy.limits.caller = Some(bucket);
    policy.sales.each = Some(bucket);
    policy.skus.each = Some(bucket);
    policy.window = Some(WindowPolicy {
        least: 1_000_000,
        most: 1_000_000,
        target_delay: 50_000_000,
        report_interval: 100_000_000,
        stale_after: 100,
        credit_life: 30_000_000_000,
        floor: bucket,
    });
    policy.check().expect("in range");
    let mut door = Door::new(policy, 0x5eed, 0);
    let report = Report {
        generation: 1,
        persisted_count: 0,
        oldest_wait: 0,
    };
    door.report(&report, 0).expect("the first word");
    door
}

/// One decision of ours: lane, caller, sale and SKU bucket, calls in flight, credit window.
fn decide(door: &mut Door, skus: &[String], number: u64) -> bool {
    let at = usize::try_from(number.wrapping_mul(0x9e37_79b9) >> 8).unwrap_or(0);
    let skus = [skus[at % SKU_COUNT].as_str()];
    let ask = Ask {
        call: Call {
            operation: Operation::Reserve,
            line_count: 1,
            caller: CALLERS[at % CALLERS.len()],
        },
        sale: "summer",
        skus: &skus,
        chance: Chance::Possible,
    };
    let is_in = door.decide(&ask, number * 1_000) == Answer::Admitted;
    if is_in {
        door.finish(Lane::Reservation, 1);
        door.give_back(1);
    }
    is_in
}

/// Four limiters of the peer for one call: lane and sale by hand, caller and SKU by name.
struct Peer {
    clock: FakeRelativeClock,
    lane: Direct,
    sale: Direct,
    callers: HashMap<String, Direct>,
    skus: HashMap<String, Direct>,
}

impl Peer {
    fn new(per_second: u32, skus: &[String]) -> Self {
        let clock = FakeRelativeClock::default();
        let per_second = NonZeroU32::new(per_second).expect("above 0");
        let burst = NonZeroU32::new(1_000).expect("above 0");
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = || RateLimiter::direct_with_clock(quota, clock.clone());
        Self {
            lane: limiter(),
            sale: limiter(),
            callers: CALLERS
                .iter()
                .map(|name| ((*name).to_owned(), limiter()))
                .collect(),
            skus: skus.iter().map(|name| (name.clone(), limiter())).collect(),
            clock,
        }
    }

    /// Charges one after the other: what the first ones gave is lost if a later one refuses, which
    /// is less than what a door promises.
    fn decide(&self, skus: &[String], number: u64) -> bool {
        let at = usize::try_from(number.wrapping_mul(0x9e37_79b9) >> 8).unwrap_or(0);
        self.clock.advance(Duration::from_micros(1));
        self.lane.check().is_ok()
            && self.callers[CALLERS[at % CALLERS.len()]].check().is_ok()
            && self.sale.check().is_ok()
            && self.skus[skus[at % SKU_COUNT].as_str()].check().is_ok()
    }
}

fn nanoseconds(mut run: impl FnMut() -> Duration) -> String {
    let calls = f64::from(u32::try_from(CALLS).expect("fits"));
    let mut all: Vec<f64> = (0..RUNS)
        .map(|_| run().as_secs_f64() * 1e9 / calls)
        .collect();
    all.sort_by(f64::total_cmp);
    format!(
        "{:6.1} ({:.1} to {:.1})",
        all[RUNS / 2],
        all[0],
        all[RUNS - 1]
    )
}

fn timed(mut each: impl FnMut(u64) -> bool) -> Duration {
    let start = Instant::now();
    let mut admitted = 0_u64;
    for number in 0..CALLS {
        admitted += u64::from(each(black_box(number)));
    }
    black_box(admitted);
    start.elapsed()
}

/// Two threads that decide half of the calls each; the time of the slower one, for all calls.
fn timed_by_two(each: impl Fn(u64) -> bool + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let each = &each;
            scope.spawn(move || {
                for number in 0..CALLS / 2 {
                    black_box(each(black_box(number * 2 + half)));
                }
            });
        }
    });
    start.elapsed()
}

fn measure() {
    let skus = sku_names();
    // A million calls a second are offered: the first rate admits all, the second one in ten.
    for (name, per_second) in [
        ("all admitted", 1_000_000),
        ("nine of ten refused", 100_000),
    ] {
        let rate = u64::from(per_second) * 1_000;
        println!("{name}: nanoseconds a call, median of {RUNS} runs (least to most)");
        let ours = nanoseconds(|| {
            let mut door = door(rate);
            timed(|number| decide(&mut door, &skus, number))
        });
        println!("  lastunit, 1 thread                   {ours}");
        let peer = nanoseconds(|| {
            let peer = Peer::new(per_second, &skus);
            timed(|number| peer.decide(&skus, number))
        });
        println!("  governor, 1 thread                   {peer}");
        let ours = nanoseconds(|| {
            let door = Mutex::new(door(rate));
            timed_by_two(|number| {
                let mut door = door.lock().expect("no thread panics");
                decide(&mut door, &skus, number)
            })
        });
        println!("  lastunit, 2 threads, one lock a call {ours}");
        for batch in [32, 256] {
            let ours = nanoseconds(|| {
                let door = Mutex::new(door(rate));
                timed_by_two(|number| {
                    // The node decides the calls of a batch under one lock hold.
                    if number % (batch * 2) < 2 {
                        let mut door = door.lock().expect("no thread panics");
                        for step in 0..batch {
                            decide(&mut door, &skus, number + step * 2);
                        }
                    }
                    true
                })
            });
            println!("  lastunit, 2 threads, batches of {batch:<4} {ours}");
        }
        // What this machine's two processors can do at all: nothing is shared.
        let ours = nanoseconds(|| {
            let doors = [(); 2].map(|()| Mutex::new(door(rate / 2)));
            timed_by_two(|number| {
                let own = usize::from(number % 2 == 1);
                let mut door = doors[own].lock().expect("no thread panics");
                decide(&mut door, &skus, number)
            })
        });
        println!("  lastunit, 2 threads, a door each     {ours}");
        let peer = nanoseconds(|| {
            let peer = Peer::new(per_second, &skus);
            timed_by_two(|number| peer.decide(&skus, number))
        });
        println!("  governor, 2 threads                  {peer}");
    }
}

fn count(kind: &str, calls: u64) {
    let skus = sku_names();
    let rate = if kind == "door_admitted" {
        1_000_000_000
    } else {
        100_000_000
    };
    let (mut door, peer) = (door(rate), Peer::new(100_000, &skus));
    for sku in 0..SKU_COUNT as u64 * 4 {
        // Every name is met before the counting starts.
        decide(&mut door, &skus, sku << 8);
    }
    let admitted = (0..calls).filter(|number| match kind {
        // Later than the names were met: in the past no bucket fills.
        "door" | "door_admitted" => decide(&mut door, &skus, 2_000_000 + number),
        "governor" => peer.decide(&skus, *number),
        _ => panic!("say door, door_admitted or governor"),
    });
    println!("{kind}: {} of {calls} admitted", admitted.count());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => measure(),
        ["--instructions", kind, calls] => count(kind, calls.parse().expect("a number of calls")),
        _ => panic!("say nothing, or: --instructions door|door_admitted|governor CALLS"),
    }
}
