//! A recording is read back as it was written, survives damage block by block, and decided again it
//! gives what a live door gave, or would have given.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lastunit_admission::{
    Ask, BucketPolicy, Call, Chance, Door, DoorPolicy, Lane, Limit, Nanos, Operation, QueuePolicy,
    Report, TOKEN, WindowPolicy,
};

use super::*;

const MILLISECOND: Nanos = 1_000_000;
const ORIGIN: Origin = Origin {
    run: 7,
    start_micros: 1_000,
    dropped_count: 3,
};
const CALLERS: [&str; 4] = ["order-1", "order-2", "desk", "app"];

/// xorshift: the same run for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let count = all.len() as u64;
        all[usize::try_from(self.below(count)).unwrap()]
    }
}

fn seed() -> u64 {
    let text = std::env::var("LASTUNIT_SEED").unwrap_or_default();
    let seed = text.parse().unwrap_or(20_261_122);
    println!("LASTUNIT_SEED={seed}");
    seed
}

fn bucket(rate: u64, burst: i64) -> BucketPolicy {
    BucketPolicy {
        rate: rate * 1_000,
        burst: burst * TOKEN,
    }
}

fn policy(rate: u64, in_flight: u32) -> DoorPolicy {
    let mut policy = DoorPolicy::default();
    let lane = policy.limits.lane_mut(Lane::Reservation);
    lane.bucket = Some(bucket(rate, 50.max(i64::try_from(rate / 100).unwrap())));
    lane.calls_in_flight_max = in_flight;
    policy.limits.lane_mut(Lane::Read).bucket = Some(bucket(20, 5));
    policy.limits.caller = Some(bucket(rate / 5, 40));
    policy.skus.each = Some(bucket(rate / 6, 30));
    policy.check().unwrap();
    policy
}

struct Planned {
    at: Nanos,
    operation: Operation,
    caller: &'static str,
    sku: &'static str,
    service: Nanos,
    is_gone: bool,
}

/// Ten seconds of calls, about two thousand a second.
fn plan(random: &mut Random) -> Vec<Planned> {
    let mut at = 5 * MILLISECOND;
    let mut each = |_| {
        // Who is decided in the same nanosecond has no order.
        at += 1 + random.below(1_000_000);
        let operation = match random.below(10) {
            0 => Operation::BeginPayment,
            1 => Operation::GetAvailability,
            _ => Operation::Reserve,
        };
        Planned {
            at,
            operation,
            caller: random.pick(&CALLERS),
            sku: random.pick(&["sku-1", "sku-2", "sku-3", "sku-4", "sku-5"]),
            // A recording keeps whole microseconds.
            service: random.below(40_000) * 1_000,
            is_gone: operation == Operation::Reserve && random.below(20) == 0,
        }
    };
    (0..20_000).map(&mut each).collect()
}

/// What a live server does with a plan: decides, answers, and records.
struct Live {
    door: Door,
    ends: BinaryHeap<Reverse<(Nanos, usize, bool)>>,
    encoder: Encoder,
    bytes: Vec<u8>,
    tallies: [Tally; 4],
}

impl Live {
    fn run(policy: &DoorPolicy, plan: &[Planned]) -> Self {
        let mut live = Self {
            door: Door::new(policy.clone(), 1, 0),
            ends: BinaryHeap::new(),
            encoder: Encoder::default(),
            bytes: Vec::new(),
            tallies: Default::default(),
        };
        let mut answered = Vec::new();
        for planned in plan {
            let draft = live.decide(planned);
            let is_refused = draft.rows[0].outcome.is_refused();
            let service = if is_refused { 0 } else { planned.service };
            answered.push((planned.at + service, draft));
        }
        // A recording has calls in the order of their answers.
        answered.sort_by_key(|(end, _)| *end);
        for (end, draft) in &answered {
            live.encoder.add(draft, 0, *end);
            if live.encoder.len() > 4_096 {
                live.bytes.extend(live.encoder.finish(&ORIGIN));
            }
        }
        live.bytes.extend(live.encoder.finish(&ORIGIN));
        live
    }

    fn decide(&mut self, planned: &Planned) -> Draft {
        while let Some(Reverse((at, lane, is_hopeless))) = self.ends.peek().copied() {
            if at > planned.at {
                break;
            }
            self.ends.pop();
            if is_hopeless {
                self.door.finish_hopeless(1);
            } else {
                self.door.finish(Lane::ALL[lane], 1);
            }
        }
        let skus = [planned.sku];
        let ask = Ask {
            call: Call {
                operation: planned.operation,
                line_count: u32::from(planned.operation == Operation::Reserve),
                caller: planned.caller,
            },
            sale: "summer",
            skus: &skus,
            chance: if planned.is_gone {
                Chance::Gone
            } else {
                Chance::Possible
            },
        };
        let answer = self.door.decide(&ask, planned.at);
        let outcome = match Outcome::of(&ask, &answer) {
            Outcome::NoEffect => Outcome::Granted,
            outcome => outcome,
        };
        let lane = planned.operation.lane().index();
        if !outcome.is_refused() {
            let is_hopeless = outcome == Outcome::Hopeless;
            let end = (planned.at + planned.service, lane, is_hopeless);
            self.ends.push(Reverse(end));
        }
        self.tallies[lane].count(outcome, 0);
        let mut draft = Draft::new(planned.caller);
        draft.add(&ask, outcome, planned.at, 0);
        draft
    }
}

fn simulated(bytes: &[u8], policy: DoorPolicy, options: Options) -> Forecast {
    let mut simulation = Simulation::new(policy, options);
    simulation.feed(bytes);
    simulation.finish(100)
}

#[test]
fn the_recorded_policy_decides_every_arrival_again_as_it_did() {
    let mut random = Random(seed());
    let policy = policy(900, 20);
    let live = Live::run(&policy, &plan(&mut random));
    let forecast = simulated(&live.bytes, policy, Options::default());

    for (row, tally) in forecast.lanes.iter().zip(live.tallies) {
        assert_eq!(tally, row.live);
        assert_eq!(tally, row.forecast);
        assert_eq!((0, 0), (row.newly_refused, row.newly_served));
    }
    let refused = forecast.lanes[Lane::Reservation.index()].live.refused;
    for limit in [Limit::LaneInFlight, Limit::CallerRate, Limit::SkuRate] {
        assert!(refused[limit as usize] > 0, "{limit:?} refused nobody");
    }
}

#[test]
fn the_forecast_of_another_rate_is_what_a_door_with_it_decides() {
    let mut random = Random(seed());
    let plan = plan(&mut random);
    let recorded = Live::run(&policy(300, 10_000), &plan);
    for rate in [150, 900, 5_000] {
        let other = policy(rate, 10_000);
        let real = Live::run(&other, &plan);
        let forecast = simulated(&recorded.bytes, other, Options::default());
        for (row, tally) in forecast.lanes.iter().zip(real.tallies) {
            assert_eq!(tally, row.forecast, "{rate} a second");
        }
        let callers: u64 = forecast.callers.iter().map(|it| it.forecast.served).sum();
        let lanes: u64 = real.tallies.iter().map(|it| it.served).sum();
        assert_eq!(lanes, callers);
    }
}

#[test]
fn calls_in_flight_are_bounded_by_service_times_that_were_recorded_or_given() {
    let mut random = Random(seed());
    let plan = plan(&mut random);
    let mut wide = DoorPolicy::default();
    let recorded = Live::run(&wide, &plan);
    wide.limits.lane_mut(Lane::Reservation).calls_in_flight_max = 5;
    let real = Live::run(&wide, &plan);
    let forecast = simulated(&recorded.bytes, wide.clone(), Options::default());
    let row = forecast.lanes[Lane::Reservation.index()];
    assert_eq!(real.tallies[2], row.forecast);
    assert_eq!(5, row.in_flight_peak);

    let mut given = Options::default();
    given.service[Lane::Reservation.index()] = Some(0);
    let forecast = simulated(&recorded.bytes, wide, given);
    assert_eq!(
        0, forecast.lanes[2].newly_refused,
        "nothing is ever in flight"
    );
}

#[test]
fn a_window_lets_in_what_the_order_database_persists() {
    let mut random = Random(seed());
    let recorded = Live::run(&DoorPolicy::default(), &plan(&mut random));
    let policy = DoorPolicy {
        window: Some(WindowPolicy {
            least: 16,
            most: 1_000,
            target_delay: 50 * MILLISECOND,
            report_interval: 100 * MILLISECOND,
            stale_after: 3,
            credit_life: 60_000 * MILLISECOND,
            floor: bucket(10, 5),
        }),
        ..DoorPolicy::default()
    };
    let options = Options {
        persisted_per_second: Some(400_000),
        ..Options::default()
    };
    let forecast = simulated(&recorded.bytes, policy.clone(), options);
    let served = forecast.lanes[2].forecast.served;
    let expected = 400 * forecast.span / (1_000 * MILLISECOND);
    assert!(served.abs_diff(expected) * 10 < expected, "{served}");

    // Nobody reports: only the floor is granted.
    let silent = simulated(&recorded.bytes, policy, Options::default());
    let floor = 10 * silent.span / (1_000 * MILLISECOND) + 5;
    assert!(silent.lanes[2].forecast.served <= floor);
}

#[test]
fn an_arrival_of_a_flash_sale_takes_less_than_24_bytes() {
    let mut random = Random(seed());
    let plan = plan(&mut random);
    let live = Live::run(&policy(900, 20), &plan);
    let each = live.bytes.len() / plan.len();
    println!("{each} bytes an arrival");

    assert!(each < 24);
}

fn three_blocks() -> (Vec<u8>, [usize; 2]) {
    let mut random = Random(seed());
    let plan = plan(&mut random);
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for part in plan.chunks(10).take(3) {
        bytes.extend(Live::run(&DoorPolicy::default(), part).bytes);
        ends.push(bytes.len());
    }
    (bytes, [ends[0], ends[1]])
}

#[test]
fn what_is_read_is_what_was_written() {
    let report = ReportNote {
        at: 5,
        report: Report {
            generation: 9,
            persisted_count: 1 << 40,
            oldest_wait: 3 * MILLISECOND,
        },
    };
    let ask = |skus| Ask {
        call: Call {
            operation: Operation::Reserve,
            line_count: 2,
            caller: "c",
        },
        sale: "s",
        skus,
        chance: Chance::Possible,
    };
    let mut draft = Draft::new("c");
    draft.add(&ask(&["a", "b"]), Outcome::Hopeless, 10, 0);
    draft.add(&ask(&["b"]), Outcome::NoEffect, 10, 7_000);
    draft.decide_after_all(&ask(&["a", "b"]), Outcome::NoEffect, 12);
    draft.grant();
    let mut encoder = Encoder::default();
    encoder.add(&draft, 0, 5_012);
    encoder.add(&draft, 1, 5_012);
    encoder.add_report(&report);
    let bytes = encoder.finish(&ORIGIN);
    let block = Blocks::new(&bytes).next().unwrap().unwrap();

    assert_eq!(ORIGIN, block.origin);
    let Row::Arrival(first) = &block.rows[0] else {
        panic!()
    };
    assert_eq!(
        (12, Outcome::Granted, 5_000),
        (first.at, first.outcome, first.service)
    );
    let names: Vec<_> = block.skus.iter().map(|it| block.names[*it]).collect();
    assert_eq!(vec!["a", "b", "b"], names);
    assert_eq!(("c", 2), (block.names[first.caller], first.line_count));
    let Row::Arrival(second) = &block.rows[1] else {
        panic!()
    };
    assert_eq!((10, Outcome::NoEffect), (second.at, second.outcome));
    assert_eq!((0, 7_000), (first.waited, second.waited));
    assert_eq!(Row::Report(report), block.rows[2]);
}

#[test]
fn any_flipped_bit_costs_its_block_and_no_other() {
    let (bytes, _) = three_blocks();
    let whole: Vec<_> = Blocks::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(3, whole.len());
    for at in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[at / 8] ^= 1 << (at % 8);
        let read: Vec<_> = Blocks::new(&broken).collect();
        let kept: Vec<_> = read.iter().filter_map(|it| it.as_ref().ok()).collect();
        assert_eq!(2, kept.len(), "bit {at}");
        assert!(kept.iter().all(|it| whole.contains(it)), "bit {at}");
    }
}

#[test]
fn a_recording_that_is_being_written_is_read_as_far_as_it_is_whole() {
    let (bytes, [first, second]) = three_blocks();
    for end in 0..bytes.len() {
        let read: Vec<_> = Blocks::new(&bytes[..end]).collect();
        let whole = usize::from(end >= first) + usize::from(end >= second);
        assert_eq!(whole, read.iter().filter(|it| it.is_ok()).count(), "{end}");
        let rest = end - [0, first, second][whole];
        let damage = read.iter().find_map(|it| it.as_ref().err());
        assert_eq!(rest, damage.map_or(0, |it| it.bytes), "{end}");
        assert!(damage.is_none_or(|it| it.is_unfinished), "{end}");
    }
}

#[test]
fn a_restart_begins_with_a_new_door_and_drops_are_told() {
    let mut random = Random(seed());
    let policy = policy(300, 20);
    let mut live = Live::run(&policy, &plan(&mut random));
    let first = live.tallies[2];
    let mut again = Live::run(&policy, &plan(&mut random));
    again.encoder.add(&Draft::new("nobody"), 0, 0);
    // The same bytes under the name of another run.
    let bytes = again.bytes.clone();
    for block in Blocks::new(&bytes) {
        let block = block.unwrap();
        let mut encoder = Encoder::default();
        for row in &block.rows {
            let Row::Arrival(row) = row else { continue };
            let skus: Vec<_> = block.skus[row.skus.clone()]
                .iter()
                .map(|it| block.names[*it])
                .collect();
            let mut draft = Draft::new(block.names[row.caller]);
            let ask = Ask {
                call: Call {
                    operation: row.operation,
                    line_count: row.line_count,
                    caller: block.names[row.caller],
                },
                sale: row.sale.map_or("", |it| block.names[it]),
                skus: &skus,
                chance: Chance::Possible,
            };
            draft.add(&ask, row.outcome, row.at, row.waited);
            encoder.add(&draft, 0, row.at + row.service);
        }
        let origin = Origin { run: 8, ..ORIGIN };
        live.bytes.extend(encoder.finish(&origin));
    }
    let forecast = simulated(&live.bytes, policy, Options::default());

    assert_eq!((2, 6), (forecast.run_count, forecast.dropped_count));
    let both = first.served + again.tallies[2].served;
    assert_eq!(both, forecast.lanes[2].forecast.served);
}

/// Ten reservations at once, recorded by a door that let everybody in.
fn ten_at_once() -> Vec<u8> {
    let each = |number: u64| Planned {
        at: 5 * MILLISECOND + number,
        operation: Operation::Reserve,
        caller: "app",
        sku: "sku-1",
        service: 1_000,
        is_gone: number == 9,
    };
    let plan: Vec<_> = (0..10).map(each).collect();
    Live::run(&DoorPolicy::default(), &plan).bytes
}

/// A hundred a second, one at a time; who comes too soon may wait.
fn waiting_policy(queue: QueuePolicy) -> DoorPolicy {
    let mut policy = DoorPolicy::default();
    let lane = policy.limits.lane_mut(Lane::Reservation);
    lane.bucket = Some(bucket(100, 1));
    lane.queue = Some(queue);
    policy.check().unwrap();
    policy
}

#[test]
fn who_finds_no_room_waits_where_the_other_policy_lets_it() {
    let patient = QueuePolicy {
        target: 500 * MILLISECOND,
        interval: 500 * MILLISECOND,
        ..QueuePolicy::default()
    };
    let forecast = simulated(&ten_at_once(), waiting_policy(patient), Options::default());
    let row = forecast.lanes[Lane::Reservation.index()];

    // One is let in at once, the last of the others after 80 ms; what is gone is told at once.
    assert_eq!(
        (9, 1, 0),
        (
            row.forecast.served,
            row.forecast.hopeless,
            row.newly_refused
        )
    );
    assert_eq!(8, row.forecast.waited);
    assert!(row.forecast.wait_max.abs_diff(80 * MILLISECOND) < 3 * MILLISECOND);
    assert!(row.forecast.wait_total.abs_diff(360 * MILLISECOND) < 20 * MILLISECOND);
    assert_eq!((0, 0), (row.live.waited, row.live.wait_max));
}

#[test]
fn who_waits_too_long_or_finds_no_place_is_refused() {
    let short = QueuePolicy {
        length_max: 5,
        wait_max: 35 * MILLISECOND,
        ..QueuePolicy::default()
    };
    let forecast = simulated(&ten_at_once(), waiting_policy(short), Options::default());
    let row = forecast.lanes[Lane::Reservation.index()];

    // Of nine one is let in at once and five wait, three of them for not too long.
    assert_eq!(
        (4, 5),
        (
            row.forecast.served,
            row.forecast.refused[Limit::LaneRate as usize]
        )
    );
    assert_eq!((5, 5), (row.forecast.waited, row.newly_refused));
    assert!(row.forecast.wait_max.abs_diff(35 * MILLISECOND) < 3 * MILLISECOND);
}

#[test]
fn who_waited_live_comes_when_it_came_and_is_told_of() {
    let mut draft = Draft::new("app");
    let skus = ["sku-1"];
    let ask = Ask {
        call: Call {
            operation: Operation::Reserve,
            line_count: 1,
            caller: "app",
        },
        sale: "summer",
        skus: &skus,
        chance: Chance::Possible,
    };
    // Both came in the first microseconds; the second one's turn was 10 ms later.
    draft.add(&ask, Outcome::Granted, 1_000, 0);
    draft.add(&ask, Outcome::Granted, 10 * MILLISECOND, 9_998_000);
    let mut encoder = Encoder::default();
    for index in [0, 1] {
        encoder.add(&draft, index, 11 * MILLISECOND);
    }
    let bytes = encoder.finish(&ORIGIN);
    let free = simulated(&bytes, DoorPolicy::default(), Options::default());
    let row = free.lanes[Lane::Reservation.index()];
    assert_eq!((1, 9_998_000), (row.live.waited, row.live.wait_max));
    assert_eq!((2, 0), (row.forecast.served, row.forecast.waited));
    assert_eq!(1_000, free.span);

    let mut strict = waiting_policy(QueuePolicy::default());
    strict.limits.lane_mut(Lane::Reservation).queue = None;
    let strict = simulated(&bytes, strict, Options::default());
    assert_eq!(1, strict.lanes[Lane::Reservation.index()].newly_refused);
}

/// One reservation as version 1 wrote it: nothing is said of a wait.
fn version_1(version: u16) -> Vec<u8> {
    let mut body = vec![3];
    for name in ["app", "summer", "sku-1"] {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(name.as_bytes());
    }
    // Reserve and granted, at the block's first time, 5 us in flight; then its names.
    body.extend([0, 0, 5, 0, 1, 1, 1, 2]);
    let mut block = b"LUarriv\n".to_vec();
    block.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    block.extend([0; 4]);
    block.extend(version.to_le_bytes());
    block.extend([0; 2]);
    block.extend(1_u32.to_le_bytes());
    block.extend(ORIGIN.run.to_le_bytes());
    block.extend(ORIGIN.start_micros.to_le_bytes());
    block.extend(1_000_u64.to_le_bytes());
    block.extend(ORIGIN.dropped_count.to_le_bytes());
    block.extend(body);
    let sum = crc32c::crc32c(&block[16..]);
    block[12..16].copy_from_slice(&sum.to_le_bytes());
    block
}

#[test]
fn what_version_1_wrote_is_read_and_what_comes_after_this_one_is_not() {
    let bytes = version_1(1);
    let block = Blocks::new(&bytes).next().unwrap().unwrap();
    let Row::Arrival(row) = &block.rows[0] else {
        panic!()
    };
    assert_eq!(
        (1_000, 0, 5_000, Outcome::Granted),
        (row.at, row.waited, row.service, row.outcome)
    );
    assert_eq!("sku-1", block.names[block.skus[0]]);

    for version in [0, VERSION + 1] {
        let bytes = version_1(version);
        let damage = Blocks::new(&bytes).next().unwrap().unwrap_err();
        assert_eq!(Some(version), damage.version);
    }
}
