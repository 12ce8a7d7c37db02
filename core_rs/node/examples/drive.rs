//! Drives a node with many threads of Reserve on a real disk and prints what it cost.
//!
//! `cargo run --release -p lastunit-node --example drive [threads] [seconds] [batch] [directory]`
//!
//! Each thread sends one call (or one batch of `batch` operations, if above 1) and waits for its
//! durable answer before the next. One line of JSON is printed: operations a second, CPU per
//! operation of the whole process (callers included), waits, flushes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lastunit_node::{CallInput, Listener, Node, NodeSettings};
use lastunit_wire::{Method, contract};
use prost::Message;

type Error = Box<dyn std::error::Error>;

const SALE: &str = "sale";
const SKU: &str = "sku";

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        let text = arguments.next();
        text.map_or(Ok(default), |text| text.parse())
    };
    let (threads, seconds, batch) = (number(64)?, number(5)?, number(1)?);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next();
    let directory = directory.as_deref().map_or(temporary.path(), Path::new);
    let mut settings = NodeSettings::new(directory.to_owned());
    settings.snapshot_events = 100_000_000;
    let node = Node::open(settings)?;
    prepare(&node);
    let is_over = Arc::new(AtomicBool::new(false));
    let (start, cpu_start) = (Instant::now(), cpu());
    let drivers: Vec<_> = (0..threads)
        .map(|index| {
            let (node, is_over) = (Arc::clone(&node), Arc::clone(&is_over));
            thread::spawn(move || drive(&node, index, batch, &is_over))
        })
        .collect();
    thread::sleep(Duration::from_secs(seconds));
    is_over.store(true, Ordering::Relaxed);
    let mut waits = Vec::new();
    for driver in drivers {
        waits.extend(driver.join().map_err(|_| "a driver panicked")?);
    }
    report(&node, &mut waits, batch, start.elapsed(), cpu() - cpu_start);
    node.close()?;
    Ok(())
}

fn prepare(node: &Node) {
    let (request_id, actor, reason) = ("sale".to_owned(), "drive".to_owned(), "drive".to_owned());
    let put_sale = contract::PutSaleRequest {
        request_id,
        actor: actor.clone(),
        reason: reason.clone(),
        sale_id: SALE.into(),
        opens_time: Some(prost_types::Timestamp::default()),
        ..Default::default()
    };
    call(node, Method::PutSale, &put_sale);
    let put_pool = contract::PutPoolRequest {
        request_id: "pool".into(),
        actor: actor.clone(),
        reason: reason.clone(),
        sale_id: SALE.into(),
        sku: SKU.into(),
        pool: "pool".into(),
        is_offered: true,
        ..Default::default()
    };
    call(node, Method::PutPool, &put_pool);
    let supply = contract::SupplyStockRequest {
        request_id: "supply".into(),
        actor,
        reason,
        sale_id: SALE.into(),
        sku: SKU.into(),
        pool: "pool".into(),
        units: 1_000_000_000,
        ..Default::default()
    };
    call(node, Method::SupplyStock, &supply);
}

fn call(node: &Node, method: Method, request: &impl Message) {
    let answer = node.call(&CallInput {
        method: method.path(),
        request: &request.encode_to_vec(),
        caller: "drive",
        deadline: None,
        seen_sequence: 0,
        seen_epoch: 0,
        listener: Listener::Data,
    });
    assert_eq!(0, answer.code, "{}", String::from_utf8_lossy(&answer.body));
}

fn drive(node: &Node, thread: u64, batch: u64, is_over: &AtomicBool) -> Vec<Duration> {
    let mut waits = Vec::new();
    let mut count = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut next = || {
            count += 1;
            reserve(format!("t{thread}.{count}"))
        };
        if batch <= 1 {
            call(node, Method::Reserve, &next());
        } else {
            let operations = (0..batch).map(|_| contract::Operation {
                request: Some(contract::operation::Request::Reserve(next())),
            });
            let request = contract::ExchangeRequest {
                exchange_id: 0,
                operations: operations.collect(),
            };
            call(node, Method::Exchange, &request);
        }
        waits.push(start.elapsed());
    }
    waits
}

fn reserve(id: String) -> contract::ReserveRequest {
    contract::ReserveRequest {
        person_id: id.clone(),
        reservation_id: id,
        sale_id: SALE.into(),
        lines: vec![contract::Line {
            sku: SKU.into(),
            pool: String::new(),
            units: 1,
        }],
        ..Default::default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(node: &Node, waits: &mut [Duration], batch: u64, elapsed: Duration, cpu: f64) {
    waits.sort_unstable();
    let at = |part: usize| {
        let index = (waits.len() * part / 1_000).min(waits.len().saturating_sub(1));
        waits.get(index).map_or(0.0, |it| it.as_secs_f64() * 1e3)
    };
    let operations = waits.len() as u64 * batch.max(1);
    let metrics: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap_or_default();
    let line = serde_json::json!({
        "operations": operations,
        "operations_per_second": (operations as f64 / elapsed.as_secs_f64()).round(),
        "cpu_micros_per_operation": (cpu * 1e7 / operations as f64).round() / 10.0,
        "wait_ms": {"p50": at(500), "p99": at(990), "p999": at(999)},
        "flush_count": metrics["flush"]["count"],
        "events_per_flush": operations as f64 / metrics["flush"]["count"].as_f64().unwrap_or(1.0),
    });
    println!("{line}");
}

/// Seconds of CPU that this process has used; 0 where the system does not say.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok());
    // utime and stime, in hundredths of a second on Linux.
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}
