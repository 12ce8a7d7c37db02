//! Measures the engine alone: nanoseconds per decision and bytes per live reservation.
//!
//! `cargo run --release -p lastunit-engine --example throughput -- [reservations]`, by default
//! 200,000, each of a person of its own. One thread, commands built beforehand, no journal. Bytes
//! are resident memory before and after. Time is the processor's, so that other work on the machine
//! does not count (Linux).

#![expect(clippy::print_stdout, reason = "the figures are the purpose")]

use lastunit_engine::{
    Action, BeginPayment, Command, Ledger, Line, Outcome, PaymentResult, PutPool, PutSale, Reserve,
    SalePolicy, SettlePayment, StockChange, Units,
};

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
        "  {:<24}{:>8} bytes",
        "live reservation + person",
        grown / u64::from(count)
    );
    timed("reserve, sold out", &mut ledger, &refused, Outcome::SoldOut);
    timed("reserve, repeated", &mut ledger, &reserves, Outcome::Ok);
    timed("begin payment", &mut ledger, &begins, Outcome::Ok);
    timed("settle payment", &mut ledger, &settles, Outcome::Ok);
    timed("confirm", &mut ledger, &confirms, Outcome::Ok);

    let start = processor_nanoseconds();
    let bytes = ledger.to_snapshot().len();
    let written = processor_nanoseconds() - start;
    let start = processor_nanoseconds();
    let holds = ledger.audit().holds();
    println!(
        "  snapshot {} bytes in {} ms, audit (holds: {holds}) in {} ms",
        bytes,
        written / 1_000_000,
        (processor_nanoseconds() - start) / 1_000_000
    );
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

fn sale(units: Units) -> Ledger {
    let mut ledger = Ledger::new();
    let (sale_id, sku, pool) = ("sale-2026", "phone-black-128", "main");
    let policy = SalePolicy {
        unpaid_reservations_per_person_max: 1,
        ..SalePolicy::default()
    };
    let actions = [
        Action::PutSale(PutSale {
            sale_id: sale_id.into(),
            opens_at: None,
            closes_at: None,
            policy,
            expected_revision: None,
        }),
        Action::PutPool(PutPool {
            sale_id: sale_id.into(),
            sku: sku.into(),
            pool: pool.into(),
            position: 0,
            labels: Vec::new(),
            is_offered: true,
        }),
        Action::SupplyStock(StockChange {
            sale_id: sale_id.into(),
            sku: sku.into(),
            pool: pool.into(),
            units,
            is_buffer: false,
        }),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let mut command = Command::from_caller(&format!("set-up-{number}"), "throughput", action);
        (command.actor, command.reason) = ("throughput".into(), "set-up".into());
        for event in ledger.decide(&command, 0).events {
            ledger.apply(&event);
        }
    }
    ledger
}

fn reserve(prefix: &str, number: u32) -> Command {
    let line = Line {
        sku: "phone-black-128".into(),
        pool: None,
        units: 1,
    };
    let action = Action::Reserve(Reserve {
        reservation_id: format!("{prefix}{number:07}").into(),
        sale_id: "sale-2026".into(),
        person_id: format!("person-{number:07}").into(),
        lines: vec![line],
        ttl: None,
        not_after: None,
    });
    Command::from_caller("", "order-service", action)
}

fn begin(prefix: &str, number: u32) -> Command {
    let action = Action::BeginPayment(BeginPayment {
        reservation_id: format!("{prefix}{number:07}").into(),
        attempt_id: format!("{prefix}{number:07}:1").into(),
        provider: Some("sandbox".into()),
        amount_minor: Some(84_000),
        currency: Some("EUR".into()),
    });
    Command::from_caller("", "order-service", action)
}

fn settle(prefix: &str, number: u32) -> Command {
    let action = Action::SettlePayment(SettlePayment {
        reservation_id: format!("{prefix}{number:07}").into(),
        attempt_id: format!("{prefix}{number:07}:1").into(),
        payment_result: PaymentResult::Succeeded,
        occurred_at: Some(1),
        evidence: "4200001234202611221234567890".into(),
    });
    Command::from_caller(
        &format!("{prefix}{number:07}:1:ok"),
        "payment-service",
        action,
    )
}

fn confirm(prefix: &str, number: u32) -> Command {
    let action = Action::Confirm {
        reservation_id: format!("{prefix}{number:07}").into(),
    };
    Command::from_caller(&format!("{prefix}{number:07}:c"), "order-service", action)
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
