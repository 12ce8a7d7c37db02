//! Measures the engine alone: nanoseconds per decision, bytes per live reservation, and what a
//! snapshot, an audit, a mass expiry and forgetting cost.
//!
//! `cargo run --release -p lastunit-engine --example throughput -- [reservations]`, by default
//! 200,000, each of a person of its own. One thread, commands built beforehand, no journal. Bytes
//! are resident memory before and after; ids of more than 23 bytes are shared with the commands and
//! so not in them, but in the ledger's own account. Time per command is the processor's, so that
//! other work on the machine does not count (Linux); a longest or a whole step is by the wall.

#![expect(clippy::print_stdout, reason = "the figures are the purpose")]

mod commands;

use std::time::{Duration, Instant};

use lastunit_engine::{Action, AuditCursor, Command, Ledger, Outcome, SaleState, Units};

use commands::{begin, confirm, extend, reserve, sale, settle};

fn main() {
    let argument = std::env::args().nth(1);
    let count = argument.map_or(200_000, |count| {
        count.parse().expect("a number of reservations")
    });
    println!("{count} reservations, one line of one unit, a person each, ids of 13 and 36 bytes");
    for prefix in ["order-", "018f3c6e-7b1a-7c55-9d0e-b62f-"] {
        measure(prefix, count);
    }
}

fn measure(prefix: &str, count: u32) {
    let mut ledger = sale(Units::from(count));
    let reserves: Vec<Command> = (0..count).map(|number| reserve(prefix, number)).collect();
    let refused: Vec<Command> = (count..2 * count)
        .map(|number| reserve(prefix, number))
        .collect();
    let begins: Vec<Command> = (0..count / 2).map(|number| begin(prefix, number)).collect();
    let settles: Vec<Command> = (0..count / 2)
        .map(|number| settle(prefix, number))
        .collect();
    let confirms: Vec<Command> = (count / 2..count)
        .map(|number| confirm(prefix, number))
        .collect();

    let before = resident_bytes();
    println!("\nids like {}", reserves[0].id());
    timed("reserve", &mut ledger, &reserves, Outcome::Ok);
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "  {:<24}{:>8} bytes, {} by its own account",
        "live reservation + person",
        grown / u64::from(count),
        ledger.memory_bytes() / count as usize
    );
    measure_frozen(&mut ledger, prefix, count);
    timed("reserve, sold out", &mut ledger, &refused, Outcome::SoldOut);
    timed("reserve, repeated", &mut ledger, &reserves, Outcome::Ok);
    timed("begin payment", &mut ledger, &begins, Outcome::Ok);
    timed("settle payment", &mut ledger, &settles, Outcome::Ok);
    timed("confirm", &mut ledger, &confirms, Outcome::Ok);

    drop(ledger);
    measure_end(prefix, count);
}

/// A frozen copy while all are held: how long it stops the ledger, the longest command while it
/// lives (the first change of a chunk copies it), and the work beside the ledger.
fn measure_frozen(ledger: &mut Ledger, prefix: &str, count: u32) {
    let extends: Vec<Command> = (0..count)
        .step_by(256)
        .map(|number| extend(prefix, number))
        .collect();
    let start = Instant::now();
    let frozen = ledger.freeze();
    said("freeze: the ledger stops", start);
    let mut longest = Duration::ZERO;
    for command in &extends {
        let start = Instant::now();
        run(ledger, command, 1_000);
        longest = longest.max(start.elapsed());
    }
    println!("  {:<28}{longest:>12.1?}", "longest command meanwhile");

    let start = Instant::now();
    let mut bytes = Vec::new();
    let written: Result<(), ()> = frozen.write_snapshot(|piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.expect("memory takes every piece");
    said("write the snapshot", start);
    println!("  {:<28}{:>12} bytes", "snapshot", bytes.len());
    let start = Instant::now();
    assert!(frozen.audit().holds(), "the frozen copy is sound");
    said("audit the frozen copy", start);
    drop(frozen);
    let start = Instant::now();
    let slice = ledger.audit_slice(AuditCursor::default(), 10_000);
    assert!(slice.findings.is_empty(), "the tables are sound");
    said("audit 10,000 slots alive", start);
    let start = Instant::now();
    let read = Ledger::from_snapshot_unaudited(&bytes).expect("was just written");
    said("read the snapshot", start);
    drop(read);
}

/// Every reservation ends in the same instant, and a week after the sale all are forgotten.
fn measure_end(prefix: &str, count: u32) {
    let mut ledger = sale(Units::from(count));
    for number in 0..count {
        run(&mut ledger, &reserve(prefix, number), 0);
    }
    let full = ledger.memory_bytes();
    let expired = drain(&mut ledger, "expire, all at once", 600_000);
    assert_eq!(count as usize, expired);
    let action = Action::SetSaleState {
        sale_id: "sale-2026".into(),
        state: SaleState::Closed,
    };
    let mut close = Command::from_caller("close", "throughput", action);
    (close.actor, close.reason) = ("throughput".into(), "the end".into());
    run(&mut ledger, &close, 600_001);
    let day = 24 * 3_600_000;
    drain(&mut ledger, "forget (128 a command)", 600_001 + 7 * day);
    assert_eq!(0, ledger.sizes().reservation_count);
    println!(
        "  {:<28}{:>12} of {full}",
        "bytes left of all",
        ledger.memory_bytes()
    );
}

/// Runs all that is due, and prints the longest step under what would be one hold of a lock.
fn drain(ledger: &mut Ledger, name: &str, now: i64) -> usize {
    let (mut commands, mut longest) = (0, Duration::ZERO);
    let start = processor_nanoseconds();
    loop {
        let step = Instant::now();
        let due = ledger.due(now, 64);
        for command in &due {
            run(ledger, command, now);
        }
        longest = longest.max(step.elapsed());
        commands += due.len();
        if due.is_empty() {
            break;
        }
    }
    let each = (processor_nanoseconds() - start) / commands as u64;
    println!("  {name:<28}{each:>9} ns each, longest step of 64: {longest:.1?}");
    commands
}

fn run(ledger: &mut Ledger, command: &Command, now: i64) {
    let decision = ledger.decide(command, now);
    assert_eq!(Outcome::Ok, decision.reply.outcome);
    for event in &decision.events {
        ledger.apply(event);
    }
}

fn said(name: &str, start: Instant) {
    println!("  {name:<28}{:>12.1?}", start.elapsed());
}

/// Decides and applies every command, and prints the mean.
fn timed(name: &str, ledger: &mut Ledger, commands: &[Command], expected: Outcome) {
    let start = processor_nanoseconds();
    for (now, command) in (1_i64..).zip(commands) {
        let decision = ledger.decide(command, now / 1_000);
        assert_eq!(expected, decision.reply.outcome);
        for event in &decision.events {
            ledger.apply(event);
        }
    }
    let nanoseconds = (processor_nanoseconds() - start) / commands.len() as u64;
    println!("  {name:<24}{nanoseconds:>8} ns");
}

/// Time this thread has had on a processor.
fn processor_nanoseconds() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells the time");
    let first = times
        .split_whitespace()
        .next()
        .expect("the first field is time on a processor");
    first.parse().expect("a number")
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let pages =
        std::fs::read_to_string("/proc/self/statm").expect("Linux tells a process its size");
    let resident = pages
        .split_whitespace()
        .nth(1)
        .expect("the second field is resident pages");
    resident.parse::<u64>().expect("a number") * 4_096
}

/// The id that the first command is known by.
trait Id {
    fn id(&self) -> &str;
}

impl Id for Command {
    fn id(&self) -> &str {
        match &self.action {
            Action::Reserve(reserve) => &reserve.reservation_id,
            _ => &self.request_id,
        }
    }
}
