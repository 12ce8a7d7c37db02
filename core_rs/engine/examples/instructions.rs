//! Runs a fixed number of operations and measures nothing: `bench/instructions.py` has valgrind
//! count the instructions of a run with some and of one with none; the difference is theirs.
//!
//! `instructions KIND COUNT`, COUNT 0 to 4,000. Every run sets up the same ledger and the same
//! commands, whatever COUNT is.

#![expect(
    dead_code,
    reason = "the commands are shared with the other example, which runs more of them"
)]

mod commands;

use lastunit_engine::{Command, Ledger, Outcome, Units};

use commands::{begin, confirm, reserve, sale, settle};

/// Reservations that are live before the first counted operation.
const LIVE: u32 = 8_000;
const COUNT_MAX: u32 = 4_000;
const PREFIX: &str = "018f3c6e-7b1a-7c55-9d0e-b62f-";
/// When every hold of the set-up has lapsed.
const AFTER: i64 = 10_000_000;

/// A ledger, what is run on it and what each must give.
struct Work {
    ledger: Ledger,
    commands: Vec<Command>,
    now: i64,
    expected: Outcome,
}

fn run(ledger: &mut Ledger, command: &Command, now: i64, expected: Outcome) {
    let decision = ledger.decide(command, now);
    assert_eq!(expected, decision.reply.outcome);
    for event in &decision.events {
        ledger.apply(event);
    }
}

fn work(kind: &str) -> Work {
    let is_sold_out = kind == "reserve_sold_out";
    let units = if is_sold_out { LIVE } else { LIVE + COUNT_MAX };
    let mut ledger = sale(Units::from(units));
    for number in 0..LIVE {
        run(&mut ledger, &reserve(PREFIX, number), 1, Outcome::Ok);
    }
    let old = || 0..COUNT_MAX;
    let new = LIVE..LIVE + COUNT_MAX;
    if kind == "settle_payment" {
        for number in old() {
            run(&mut ledger, &begin(PREFIX, number), 1, Outcome::Ok);
        }
    }
    let of = |numbers: std::ops::Range<u32>, make: fn(&str, u32) -> Command| {
        numbers.map(|number| make(PREFIX, number)).collect()
    };
    let commands: Vec<Command> = match kind {
        "reserve" | "reserve_sold_out" => of(new, reserve),
        "reserve_repeated" => of(old(), reserve),
        "begin_payment" => of(old(), begin),
        "settle_payment" => of(old(), settle),
        "confirm" => of(old(), confirm),
        "expire" => ledger.due(AFTER, COUNT_MAX as usize),
        _ => panic!("there is no kind {kind}"),
    };
    assert_eq!(COUNT_MAX as usize, commands.len());
    Work {
        ledger,
        commands,
        now: if kind == "expire" { AFTER } else { 1 },
        expected: if is_sold_out {
            Outcome::SoldOut
        } else {
            Outcome::Ok
        },
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count] = &arguments[..] else {
        panic!("say a kind and a count");
    };
    let count: usize = count.parse().expect("a number of operations");
    let mut work = work(kind);
    assert!(count <= work.commands.len(), "at most {COUNT_MAX}");
    for command in &work.commands[..count] {
        run(&mut work.ledger, command, work.now, work.expected);
    }
}
