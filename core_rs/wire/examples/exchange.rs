//! Runs pairs of Reserve and Confirm through messages of an Exchange and measures nothing:
//! `bench/instructions.py` has valgrind count the instructions of a run with some and of one with
//! none; the difference is theirs.
//!
//! `exchange COUNT`, COUNT 0 to 4,096 pairs, in messages of 256 operations: decode, decide, encode
//! the journal's record, apply, encode the replies. Every run makes the same messages, whatever
//! COUNT is.

use lastunit_engine::{Action, Command, Ledger, PutPool, PutSale, SalePolicy, StockChange};
use lastunit_wire::{Durability, Method, Place, Replies, Request, contract, decode, write_record};
use prost::Message;

const COUNT_MAX: usize = 4_096;
const OPERATIONS: usize = 256;
const SALE: &str = "sale-2026-11";
const SKU: &str = "phone";

type Calls = Vec<contract::operation::Request>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).ok_or("exchange COUNT")?.parse()?;
    if count > COUNT_MAX {
        return Err(format!("COUNT is at most {COUNT_MAX}").into());
    }
    let messages: Vec<_> = (0..COUNT_MAX / OPERATIONS)
        .flat_map(|number| {
            let pairs = || number * OPERATIONS..(number + 1) * OPERATIONS;
            [
                message(pairs().map(reserve).collect()),
                message(pairs().map(confirm).collect()),
            ]
        })
        .collect();
    let mut ledger = sale();
    let mut bytes = 0;
    for message in &messages[..2 * count / OPERATIONS] {
        bytes += serve(&mut ledger, message);
    }
    // So that nothing of it can be left out.
    println!("{bytes}");
    Ok(())
}

fn message(calls: Calls) -> Vec<u8> {
    let operation = |call| contract::Operation {
        request: Some(call),
    };
    contract::ExchangeRequest {
        exchange_id: 7,
        operations: calls.into_iter().map(operation).collect(),
    }
    .encode_to_vec()
}

fn name(pair: usize) -> String {
    format!("{:08x}-{pair}", 0x018f_3c6e)
}

fn reserve(pair: usize) -> contract::operation::Request {
    contract::operation::Request::Reserve(contract::ReserveRequest {
        reservation_id: name(pair),
        sale_id: SALE.to_owned(),
        person_id: format!("b{}", pair * 7_919),
        lines: vec![contract::Line {
            sku: SKU.to_owned(),
            units: 1,
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn confirm(pair: usize) -> contract::operation::Request {
    contract::operation::Request::Confirm(contract::ConfirmRequest {
        request_id: format!("c-{}", name(pair)),
        reservation_id: name(pair),
    })
}

/// A sale of one SKU that does not run out.
fn sale() -> Ledger {
    let mut ledger = Ledger::new();
    let actions = [
        Action::PutSale(PutSale {
            sale_id: SALE.into(),
            opens_at: None,
            closes_at: None,
            policy: SalePolicy {
                units_per_person_per_sku_max: 5,
                ..SalePolicy::default()
            },
            expected_revision: None,
        }),
        Action::PutPool(PutPool {
            sale_id: SALE.into(),
            sku: SKU.into(),
            pool: "main".into(),
            position: 0,
            labels: Vec::new(),
            is_offered: true,
        }),
        Action::SupplyStock(StockChange {
            sale_id: SALE.into(),
            sku: SKU.into(),
            pool: "main".into(),
            units: 1_000_000,
            is_buffer: false,
        }),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let mut command = Command::from_caller(&format!("set-up-{number}"), "example", action);
        (command.actor, command.reason) = ("example".into(), "set-up".into());
        for event in ledger.decide(&command, 0).events {
            ledger.apply(&event);
        }
    }
    ledger
}

/// Serves one message as a node does, without its locks and its disk; returns the bytes it made.
fn serve(ledger: &mut Ledger, message: &[u8]) -> usize {
    let Ok(Request::Batch(batch)) = decode(Method::Exchange, message, "example") else {
        panic!("every message is well formed");
    };
    let mut bytes = 0;
    let mut replies = Replies::new(batch.exchange_id, batch.operations.len());
    let mut record = Vec::new();
    for operation in batch.operations {
        let operation = operation.expect("every operation is well formed");
        let Request::Command(command) = &operation.request else {
            panic!("every operation is a command");
        };
        let decision = ledger.decide(command, 1);
        record.clear();
        write_record(&mut record, &decision.events);
        bytes += record.len();
        for event in &decision.events {
            ledger.apply(event);
        }
        let place = Place {
            as_of_sequence: ledger.sequence(),
            durable_sequence: ledger.sequence(),
            op_number: ledger.sequence(),
            epoch: 1,
            durability: Durability::Flushed,
        };
        replies.add_reply(operation.method, &decision.reply, &place);
    }
    bytes + replies.into_bytes().len()
}
