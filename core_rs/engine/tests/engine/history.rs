//! Random histories: after each step the audit holds and the ledger agrees with the plain books of
//! `model.rs`; at the end the state is the fold of its events, and no money is lost.
//!
//! `LASTUNIT_SEED=7 cargo test -p lastunit-engine histories` runs one seed alone, and
//! `LASTUNIT_SEED=1-5000` those from 1 to 5,000.

use std::collections::BTreeSet;

use lastunit_engine::{AttemptState, Event, EventBody, Frozen, Ledger, Outcome};

use crate::model::Model;
use crate::script;
use crate::world::World;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=12;
const STEPS: usize = 420;

/// xorshift64*: enough for a test, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // The multiplication keeps neighbouring seeds apart; zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn preamble(random: &mut Random) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for sale in ["S", "T", "G"] {
        lines.push(sale_line(random, sale));
        for sku in ["A", "B"] {
            for (position, pool) in ["x", "y", "z"].into_iter().enumerate() {
                let offered = pool != "z";
                lines.push(format!(
                    "pool {sale}/{sku}/{pool} position={position} offered={offered}"
                ));
                lines.push(format!(
                    "supply {sale}/{sku}/{pool} {}",
                    1 + random.below(6)
                ));
            }
            lines.push(format!(
                "supply {sale}/{sku}/x {} buffer",
                1 + random.below(3)
            ));
        }
    }
    lines
}

fn sale_line(random: &mut Random, sale: &str) -> String {
    let gives = random.below(2) == 0;
    let (per_sku, per_person) = (random.below(5), random.below(7));
    // T forgets soon after it ended, and G, which never ends, while it is open.
    let forget = match sale {
        "G" => " rolling=true forget=3000",
        "T" => " forget=1500",
        _ => "",
    };
    format!(
        "sale {sale}{forget} ttl=600 settle_by=900 grace=120 max_life=1800 lag=500 unverified=true \
         per_sku={per_sku} per_person={per_person} unpaid={} attempts={} gives={gives}",
        random.below(4),
        1 + random.below(4),
    )
}

/// The attempts that the ledger knows, as `reservation attempt`, and those whose money is owed.
#[derive(Default)]
struct Attempts {
    known: Vec<String>,
    due: Vec<String>,
}

impl Attempts {
    fn note(&mut self, event: &Event) {
        let id = &event.reservation_id;
        match &event.body {
            EventBody::PaymentBegun(begun) => self.known.push(format!("{id} {}", begun.attempt_id)),
            EventBody::RefundBecameDue { attempt_id } => {
                self.due.push(format!("{id} {attempt_id}"));
            }
            _ => {}
        }
    }
}

/// A random line of a script; ids come from small sets, so that commands meet.
fn line(random: &mut Random, now: i64, attempts: &Attempts) -> String {
    let reservation = format!("r{}", random.below(40));
    let person = format!("p{}", random.below(6));
    // Most attempts are of their own reservation, some are of another.
    let owner = match random.below(20) {
        0 => random.below(40).to_string(),
        _ => reservation[1..].into(),
    };
    let attempt = format!("{reservation} a{owner}-{}", random.below(4));
    let one_of = |random: &mut Random, some: &[String]| match random.below(3) {
        0 => attempt.clone(),
        _ if some.is_empty() => attempt.clone(),
        _ => some[usize::try_from(random.below(some.len() as u64)).unwrap()].clone(),
    };
    let paying = one_of(random, &attempts.known);
    let paying = paying.split_whitespace().next().unwrap();
    let (known, due) = (
        one_of(random, &attempts.known),
        one_of(random, &attempts.due),
    );
    let sale = random.pick(&["S", "S", "S", "T", "T", "G", "G"]);
    let (sku, pool) = (random.pick(&["A", "B"]), random.pick(&["x", "y", "z"]));
    let units = 1 + random.below(3);
    let result = random.pick(&["SUCCEEDED", "SUCCEEDED", "FAILED", "CANCELLED"]);
    let occurred = now - i64::try_from(random.below(700)).unwrap();
    match random.below(100) {
        0..=24 => reserve_line(random, &reservation, &person, sale, now),
        25..=42 => format!("begin {attempt}"),
        43..=59 => format!("settle {known} {result} occurred={}", occurred.max(0)),
        60..=63 => format!("confirm {reservation}"),
        64..=68 => format!("release {paying}"),
        69..=71 => format!("extend {reservation} {}", 1 + random.below(1_500)),
        72..=75 => {
            let disposition = random.pick(&["RESELL", "QUARANTINE", "WRITE_OFF"]);
            let pool = random.pick(&["", "", " pool=x", " pool=w"]);
            format!("return {reservation} {sku} {units} {disposition}{pool}")
        }
        76..=80 => format!("refund {due}"),
        81..=82 => format!("unverified {paying}"),
        83..=92 => stock_line(random, sale, sku, pool, units),
        93 => match random.below(4) {
            0 => format!("split {person}"),
            1 => format!("split {person}+p{}", random.below(6)),
            _ => format!("merge {person} p{}", random.below(6)),
        },
        94 => format!("brake {} until={}", random.pick(&["on", "off"]), now + 300),
        95 => format!("outage {}", 1 + random.below(50)),
        96 => format!("opened {}", 1 + random.below(50)),
        97 => format!("expire {reservation}"),
        98 => format!("overdue {reservation}"),
        _ => "run".into(),
    }
}

fn stock_line(random: &mut Random, sale: &str, sku: &str, pool: &str, units: u64) -> String {
    let path = format!("{sale}/{sku}/{pool}");
    match random.below(10) {
        0..=1 => format!("supply {path} {units}"),
        2..=3 => format!("withdraw {path} {units}"),
        4 => format!("adjust {path} {} {}", random.below(4), random.below(4)),
        5 => format!("move {path} {} {units}", random.pick(&["x", "y", "z"])),
        6 => format!("pour {path} {units}"),
        7 => format!("pool {path} offered={}", random.below(2) == 0),
        8 => sale_line(random, sale),
        _ => {
            let states = [
                "OPEN",
                "OPEN",
                "OPEN",
                "PAUSED",
                "CLOSED",
                "CANCELLED",
                "ARCHIVED",
            ];
            // S and G stay open for long; T may end early.
            let state = if sale == "T" {
                random.pick(&states)
            } else {
                random.pick(&states[..4])
            };
            format!("state {sale} {state}")
        }
    }
}

fn reserve_line(
    random: &mut Random,
    reservation: &str,
    person: &str,
    sale: &str,
    now: i64,
) -> String {
    let lines: Vec<String> = (0..=random.below(3))
        .map(|_| {
            let pool = random.pick(&["", "", "", "@x", "@y"]);
            format!("{}{pool}*{}", random.pick(&["A", "B"]), 1 + random.below(2))
        })
        .collect();
    // Coarse, so that a retry has the same one, as the contract asks.
    let not_after = match sale {
        "G" => format!(" not_after={}", (now / 1_000 + 2) * 1_000),
        _ => String::new(),
    };
    format!(
        "reserve {reservation} {person} {} sale={sale}{not_after}",
        lines.join(",")
    )
}

/// Runs one history, and returns the names of its events and its outcomes.
fn run(seed: u64) -> (BTreeSet<&'static str>, BTreeSet<Outcome>) {
    let mut random = Random::new(seed);
    let (mut world, mut model) = (World::new(), Model::default());
    let (mut outcomes, mut paid) = (BTreeSet::new(), BTreeSet::new());
    // A source of its own: when a copy is taken must not change the history.
    let (mut whims, mut frozen) = (Random::new(seed ^ 0xf0), Vec::new());
    let (mut booked, mut attempts) = (0, Attempts::default());
    world.is_thorough = false;
    for line in preamble(&mut random) {
        script::step(&mut world, &line);
    }
    for _ in 0..STEPS {
        world.now += random.pick(&[0, 1, 20, 100, 250]);
        let line = line(&mut random, world.now, &attempts);
        if line == "run" {
            world.run_due();
        } else {
            let mut command = script::parse_command(&mut world, &line);
            // Now and then an id comes again, with the same content or with other.
            if !command.request_id.is_empty() && random.below(8) == 0 {
                command.request_id = format!("again-{}", random.below(12)).into();
            }
            for _ in 0..=u64::from(random.below(10) == 0) {
                let decision = world.run(&command);
                outcomes.insert(decision.reply.outcome);
                if let (Outcome::Ok, Some(attempt)) = (decision.reply.outcome, money(&line)) {
                    paid.insert(attempt);
                }
            }
        }
        for event in &world.events[booked..] {
            model.book(event);
            attempts.note(event);
        }
        booked = world.events.len();
        model.check(&world.ledger);
        if whims.below(20) == 0 {
            frozen.push((world.ledger.to_snapshot(), world.ledger.freeze()));
        }
        if whims.below(20) == 0 {
            frozen.drain(..).for_each(check_frozen);
        }
        if random.below(50) == 0 {
            // A restart in between makes no difference.
            world.ledger = Ledger::from_snapshot(&world.ledger.to_snapshot()).unwrap();
        }
    }
    frozen.drain(..).for_each(check_frozen);
    world.check_fold();
    for attempt in &paid {
        let state = model.attempt_state(attempt);
        let kept = [
            AttemptState::Applied,
            AttemptState::RefundDue,
            AttemptState::Refunded,
        ];
        assert!(
            state.is_some_and(|state| kept.contains(&state)),
            "{attempt} is lost: {state:?}"
        );
    }
    let names = world
        .events
        .iter()
        .map(|event| EventBody::name(&event.body))
        .collect();
    (names, outcomes)
}

/// What was frozen is what a stop of the world would have written, whatever happened since.
fn check_frozen((expected, frozen): (Vec<u8>, Frozen)) {
    let mut bytes = Vec::new();
    let written: Result<(), ()> = frozen.write_snapshot(|piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.unwrap();

    assert!(expected == bytes, "the frozen state changed");
    let audit = frozen.audit();
    assert!(audit.holds(), "{:?}", audit.findings);
    assert_eq!(frozen.sequence(), audit.as_of_sequence);
}

/// The attempt of a line that brings money.
fn money(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[0] == "settle" && words[3] == "SUCCEEDED").then(|| words[2].into())
}

#[test]
fn histories_keep_every_invariant() {
    let chosen = std::env::var("LASTUNIT_SEED").ok();
    let seeds = chosen.as_deref().map_or(SEEDS, |seeds| {
        let (first, last) = seeds.split_once('-').unwrap_or((seeds, seeds));
        first.parse().unwrap()..=last.parse().unwrap()
    });
    let (mut names, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
    for seed in seeds {
        println!("LASTUNIT_SEED={seed}");
        let reached = run(seed);
        names.extend(reached.0);
        outcomes.extend(reached.1);
    }
    if chosen.is_some() {
        return;
    }
    // A history that never gets anywhere would keep every invariant too.
    assert_eq!(27, names.len(), "{names:?}");
    let never = [Outcome::UnknownSale, Outcome::UnknownSku];
    let missing: Vec<&Outcome> = Outcome::ALL
        .iter()
        .filter(|outcome| !outcomes.contains(outcome) && !never.contains(outcome))
        .collect();
    assert!(missing.is_empty(), "{missing:?} never happened");
}
