//! Measures recovery, memory and pauses of a node with many live reservations, one step a process.
//!
//! `cargo run --release -p lastunit-node --example recovery -- STEP DIRECTORY COUNT …`; the steps
//! are put together by `bench/recovery.py`. Each prints one line of JSON.
//!
//! - `build DIRECTORY COUNT`: writes a journal of COUNT live reservations, without a snapshot.
//! - `close DIRECTORY COUNT`: opens, and closes cleanly, which leaves a snapshot.
//! - `open DIRECTORY COUNT`: opens and asks for one reservation.
//! - `steady DIRECTORY COUNT DURABILITY RATE WHAT [EXPIRING]`: three callers, RATE calls a second
//!   each on its own schedule, while WHAT happens: `snapshot`, `audit`, or `expiry` of EXPIRING
//!   reservations that end in the same second. DURABILITY is `written` or `flushed`.
//!
//! All but `close` end as a killed process does, so that the next step finds what they found.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use lastunit_node::{CallInput, ClockKind, DurabilityKind, Listener, Node, NodeSettings};
use lastunit_wire::{Method, contract};
use prost::Message;
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

const SALE: &str = "sale";
const SKU: &str = "sku";
/// Operations of one message; the most that the contract takes.
const BATCH: u64 = 4_096;
/// The longest that a sale may hold a reservation: none ends by itself in a measurement.
const HOLD_SECONDS: i64 = 30 * 86_400;
/// How long callers run before anything happens, for comparison.
const BEFORE: Duration = Duration::from_secs(3);
/// How many reservations are made in a second at the very least.
const RESERVED_PER_SECOND: u64 = 20_000;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [step, directory, count, rest @ ..] = arguments.as_slice() else {
        return Err("pass STEP DIRECTORY COUNT; the first lines of this example say more".into());
    };
    let (directory, count) = (Path::new(directory), count.parse()?);
    let line = match (*step, rest) {
        ("build", []) => build(directory, count)?,
        ("close", []) => close(directory)?,
        ("open", []) => open(directory, count)?,
        ("steady", [durability, rate, what @ ..]) => {
            let settings = settings(directory, durability)?;
            steady(settings, count, rate.parse()?, &What::parse(what)?)?
        }
        _ => return Err(format!("no such step: {arguments:?}").into()),
    };
    println!("{line}");
    Ok(())
}

fn settings(directory: &Path, durability: &str) -> Result<NodeSettings, Error> {
    let mut settings = NodeSettings::new(directory.to_owned());
    settings.durability = match durability {
        "flushed" => DurabilityKind::Flushed,
        "written" => DurabilityKind::Written,
        other => return Err(format!("{other} is neither flushed nor written").into()),
    };
    settings.segment_bytes = 64 << 20;
    settings.kept_back_bytes = 64 << 20;
    // Snapshots are taken when the measurement says so.
    settings.snapshot_events = 100_000_000;
    settings.ledger_bytes_max = 1 << 40;
    Ok(settings)
}

fn build(directory: &Path, count: u64) -> Result<Value, Error> {
    let start = Instant::now();
    let mut settings = settings(directory, "written")?;
    settings.clock = ClockKind::Manual;
    settings.manual_start = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
    let node = Node::open(settings)?;
    prepare(&node);
    reserve_all(&node, "r", count, None);
    let metrics = metrics(&node)?;
    let line = json!({
        "step": "build",
        "seconds": seconds(start.elapsed()),
        "sequence": metrics["sequence"],
        "journal_bytes": metrics["journal"]["bytes"],
    });
    // Not closed: a close writes a snapshot.
    std::mem::forget(node);
    Ok(line)
}

fn close(directory: &Path) -> Result<Value, Error> {
    let node = Node::open(settings(directory, "flushed")?)?;
    let start = Instant::now();
    node.close()?;
    let snapshot = &metrics(&node)?["snapshot"];
    Ok(json!({
        "step": "close",
        "seconds": seconds(start.elapsed()),
        "snapshot_bytes": snapshot["bytes_last"],
    }))
}

fn open(directory: &Path, count: u64) -> Result<Value, Error> {
    let before = memory("VmRSS")?;
    let start = Instant::now();
    let node = Node::open(settings(directory, "flushed")?)?;
    let opened = start.elapsed();
    let found: contract::GetReservationResponse = ask(
        &node,
        Method::GetReservation,
        Listener::Data,
        &contract::GetReservationRequest {
            reservation_id: id("r", count / 2),
        },
    );
    let answered = start.elapsed();
    if found.reservation.is_none() {
        return Err("a reservation that was made is not there".into());
    }
    let held = memory("VmRSS")? - before;
    let metrics = metrics(&node)?;
    let line = json!({
        "step": "open",
        "open_seconds": seconds(opened),
        "first_answer_seconds": seconds(answered),
        "replayed_event_count": metrics["recovery"]["event_count"],
        "snapshot_sequence": metrics["snapshot_sequence"],
        "rss_bytes": held,
        "rss_peak_bytes": memory("VmHWM")? - before,
        "rss_bytes_per_reservation": held / count.max(1),
        "ledger_bytes": metrics["ledger"]["memory_bytes"],
    });
    std::mem::forget(node);
    Ok(line)
}

/// What happens while the callers go on.
enum What {
    Snapshot,
    Audit,
    Expiry(u64),
}

impl What {
    fn parse(words: &[&str]) -> Result<Self, Error> {
        match words {
            ["snapshot"] => Ok(Self::Snapshot),
            ["audit"] => Ok(Self::Audit),
            ["expiry", count] => Ok(Self::Expiry(count.parse()?)),
            _ => Err(format!("{words:?} is none of snapshot, audit, expiry COUNT").into()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Audit => "audit",
            Self::Expiry(_) => "expiry",
        }
    }
}

fn steady(settings: NodeSettings, count: u64, rate: u64, what: &What) -> Result<Value, Error> {
    let durability = format!("{:?}", settings.durability).to_lowercase();
    let node = Node::open(settings)?;
    let expires_at = match what {
        What::Expiry(expiring) => Some(reserve_expiring(&node, *expiring)?),
        _ => None,
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = [Caller::Read, Caller::Reserve, Caller::Confirm]
        .into_iter()
        .map(|caller| caller.start(&node, count, rate, &is_over))
        .collect();
    thread::sleep(BEFORE);
    if let Some(at) = expires_at {
        thread::sleep(at.saturating_duration_since(Instant::now()));
    }
    let start = Instant::now();
    happen(&node, what)?;
    let elapsed = start.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let (mut before, mut during) = (json!({}), json!({}));
    for caller in callers {
        let (name, waits) = caller.join().map_err(|_| "a caller panicked")?;
        let (early, late): (Vec<_>, Vec<_>) = waits.into_iter().partition(|it| it.0 < start);
        before[name] = spread(early);
        during[name] = spread(late);
    }
    let metrics = metrics(&node)?;
    let line = json!({
        "step": "steady",
        "what": what.name(),
        "durability": durability,
        "rate_per_caller": rate,
        "seconds": seconds(elapsed),
        "wait_ms_before": before,
        "wait_ms_during": during,
        "freeze_micros": metrics["snapshot"]["freeze_micros_max"],
        "snapshot": metrics["snapshot"],
        "audit": metrics["audit"],
        "timer_count": metrics["timer_count"],
        "rss_peak_bytes": memory("VmHWM")?,
    });
    std::mem::forget(node);
    Ok(line)
}

/// Makes it happen and waits until it is over.
fn happen(node: &Node, what: &What) -> Result<(), Error> {
    match what {
        What::Snapshot => {
            node.request_snapshot();
            wait(|| Ok(metrics(node)?["snapshot"]["count"].as_u64() >= Some(1)))
        }
        What::Audit => {
            let listener = Listener::Settlement;
            let request = contract::AuditRequest {};
            let audit: contract::AuditResponse = ask(node, Method::Audit, listener, &request);
            if audit.holds {
                return Ok(());
            }
            Err(format!("an invariant does not hold: {:?}", audit.findings).into())
        }
        What::Expiry(count) => wait(|| Ok(metrics(node)?["timer_count"].as_u64() >= Some(*count))),
    }
}

fn wait(mut is_over: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    while !is_over()? {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Makes reservations that all end in the same second; gives when.
fn reserve_expiring(node: &Node, count: u64) -> Result<Instant, Error> {
    let left = Duration::from_secs(10 + count / RESERVED_PER_SECOND);
    let at = SystemTime::now() + left;
    let end = Instant::now() + left;
    let prefix = format!("e{}.", std::process::id());
    reserve_all(node, &prefix, count, Some(at));
    if Instant::now() >= end {
        return Err("the machine is too slow: reservations ended before all were made".into());
    }
    Ok(end)
}

/// One kind of call, made on a schedule whatever the answers do.
#[derive(Clone, Copy)]
enum Caller {
    Read,
    Reserve,
    Confirm,
}

/// When each call should have left, and how long its answer took from then.
type Waits = (&'static str, Vec<(Instant, Duration)>);

impl Caller {
    fn start(
        self,
        node: &Arc<Node>,
        count: u64,
        rate: u64,
        is_over: &Arc<AtomicBool>,
    ) -> JoinHandle<Waits> {
        let (node, is_over) = (Arc::clone(node), Arc::clone(is_over));
        thread::spawn(move || {
            let interval = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1_000);
            let mut due = Instant::now();
            let mut waits = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                self.call(&node, number, count);
                waits.push((due, due.elapsed()));
                due += interval;
            }
            (self.name(), waits)
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "GetReservation",
            Self::Reserve => "Reserve",
            Self::Confirm => "Confirm",
        }
    }

    fn call(self, node: &Node, number: u64, count: u64) {
        // All over the ledger, so that what is touched is seldom in a cache or copied already; and
        // not what an earlier step has touched, as a Confirm of it would find nothing to write.
        let place = number + u64::from(std::process::id()) * 1_000;
        let reservation_id = id("r", place.wrapping_mul(7_919_777) % count);
        let result = match self {
            Self::Read => {
                let request = contract::GetReservationRequest { reservation_id };
                let method = Method::GetReservation;
                ask::<contract::GetReservationResponse>(node, method, Listener::Data, &request)
                    .result
            }
            Self::Reserve => {
                let request = reserve(&format!("n{}.{number}", std::process::id()), None);
                ask::<contract::ReserveResponse>(node, Method::Reserve, Listener::Data, &request)
                    .result
            }
            Self::Confirm => {
                let request = contract::ConfirmRequest {
                    request_id: format!("c{}.{number}", std::process::id()),
                    reservation_id,
                };
                let listener = Listener::Settlement;
                ask::<contract::ConfirmResponse>(node, Method::Confirm, listener, &request).result
            }
        };
        let outcome = result.map(|it| it.outcome());
        // Two calls of Confirm may meet the same reservation.
        let is_expected = matches!(
            outcome,
            Some(contract::Outcome::Ok | contract::Outcome::WrongState)
        );
        assert!(is_expected, "{outcome:?}");
    }
}

fn prepare(node: &Node) {
    let (actor, reason) = ("bench".to_owned(), "bench".to_owned());
    let span = |seconds| {
        Some(prost_types::Duration {
            seconds,
            ..Default::default()
        })
    };
    let sale = contract::PutSaleRequest {
        request_id: "sale".into(),
        actor: actor.clone(),
        reason: reason.clone(),
        sale_id: SALE.into(),
        opens_time: Some(prost_types::Timestamp::default()),
        policy: Some(contract::SalePolicy {
            reservation_ttl: span(HOLD_SECONDS),
            max_life: span(HOLD_SECONDS),
            ..Default::default()
        }),
        ..Default::default()
    };
    let listener = Listener::Settlement;
    let _: contract::PutSaleResponse = ask(node, Method::PutSale, listener, &sale);
    let pool = contract::PutPoolRequest {
        request_id: "pool".into(),
        actor: actor.clone(),
        reason: reason.clone(),
        sale_id: SALE.into(),
        sku: SKU.into(),
        pool: "pool".into(),
        is_offered: true,
        ..Default::default()
    };
    let _: contract::PutPoolResponse = ask(node, Method::PutPool, listener, &pool);
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
    let _: contract::SupplyStockResponse = ask(node, Method::SupplyStock, listener, &supply);
}

/// Reserves one unit for each of `count` persons, in large messages.
fn reserve_all(node: &Node, prefix: &str, count: u64, expires_at: Option<SystemTime>) {
    let mut first = 0;
    while first < count {
        let last = count.min(first + BATCH);
        let operations = (first..last).map(|number| contract::Operation {
            request: Some(contract::operation::Request::Reserve(reserve(
                &id(prefix, number),
                expires_at,
            ))),
        });
        let request = contract::ExchangeRequest {
            exchange_id: 0,
            operations: operations.collect(),
        };
        let response: contract::ExchangeResponse =
            ask(node, Method::Exchange, Listener::Data, &request);
        for reply in response.replies {
            let Some(contract::reply::Response::Reserve(reserved)) = reply.response else {
                panic!("refused: {reply:?}");
            };
            let outcome = reserved.result.map(|it| it.outcome());
            assert_eq!(Some(contract::Outcome::Ok), outcome);
        }
        first = last;
    }
}

fn reserve(reservation_id: &str, expires_at: Option<SystemTime>) -> contract::ReserveRequest {
    let left = |at: SystemTime| {
        let left = at.duration_since(SystemTime::now()).unwrap_or_default();
        prost_types::Duration {
            seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(left.subsec_nanos()).unwrap_or(0),
        }
    };
    contract::ReserveRequest {
        reservation_id: reservation_id.to_owned(),
        sale_id: SALE.into(),
        person_id: format!("p{reservation_id}"),
        lines: vec![contract::Line {
            sku: SKU.into(),
            pool: String::new(),
            units: 1,
        }],
        ttl: expires_at.map(left),
        ..Default::default()
    }
}

/// As long as the ids of real services: a time and a random part.
fn id(prefix: &str, number: u64) -> String {
    format!("{prefix}01jd7x0000{number:012}")
}

fn ask<R: Message + Default>(
    node: &Node,
    method: Method,
    listener: Listener,
    request: &impl Message,
) -> R {
    let answer = node.call(&CallInput {
        method: method.path(),
        request: &request.encode_to_vec(),
        caller: "bench",
        deadline: None,
        seen_sequence: 0,
        seen_epoch: 0,
        listener,
    });
    assert_eq!(0, answer.code, "{}", String::from_utf8_lossy(&answer.body));
    R::decode(answer.body.as_slice()).expect("the node answers in the contract's words")
}

fn metrics(node: &Node) -> Result<Value, Error> {
    Ok(serde_json::from_str(&node.metrics_json())?)
}

fn spread(waits: Vec<(Instant, Duration)>) -> Value {
    let mut waits: Vec<Duration> = waits.into_iter().map(|it| it.1).collect();
    waits.sort_unstable();
    let at = |part: usize| {
        let index = (waits.len() * part / 1_000).min(waits.len().saturating_sub(1));
        waits.get(index).map_or(0.0, |it| seconds(*it) * 1e3)
    };
    json!({
        "count": waits.len(),
        "p50": at(500),
        "p99": at(990),
        "p999": at(999),
        "max": at(1_000),
    })
}

fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e6).round() / 1e6
}

/// A figure of /proc/self/status, in bytes.
fn memory(name: &str) -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    let kibibytes: u64 = words.ok_or("the system does not say")?.parse()?;
    Ok(kibibytes * 1_024)
}
