//! Everybody at once: so many callers press buy in the same moment, each once, each for one unit.
//!
//! Owns: the load of `python -m bench.rush`. All connections are open before the first call is
//! sent; then all calls are in flight together. Prints what each was answered, and when the last
//! answer came, as a line of JSON. One thread sends. Must not: come back for a second try.

#[path = "shared/bytes_codec.rs"]
mod bytes_codec;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytes_codec::BytesCodec;
use http::uri::PathAndQuery;
use lastunit_wire::contract;
use prost::Message;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// Why a load can't go on.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: rush ADDRESS CALLERS CONNECTIONS SALE SKU, for example\n  \
    rush 127.0.0.1:7402 20000 20000 flash-sale headphones";
/// How many connections are opened at once: as many wait for the listener's accept.
const CONNECTING_MAX: usize = 128;
/// Who has no answer after that has none.
const PATIENCE: Duration = Duration::from_secs(60);
const RESERVE: &str = "/lastunit.stock.v1.StockService/Reserve";

/// What one caller was told, and how long after the start of the rush.
struct Answer {
    word: String,
    after: Duration,
}

async fn connect(address: &str, count: usize) -> Result<Vec<Channel>, Failure> {
    let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let gate = Arc::clone(&gate);
        opening.spawn(async move {
            let _place = gate.acquire_owned().await.expect("it is never closed");
            endpoint.connect().await
        });
    }
    let mut channels = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        channels.push(opened??);
    }
    Ok(channels)
}

/// Calls once and puts the answer in a word: the outcome, or the status that came instead.
async fn press(channel: Channel, request: Bytes) -> String {
    let mut client = Grpc::new(channel);
    if client.ready().await.is_err() {
        return "connection lost".to_owned();
    }
    let call = client.unary(
        Request::new(request),
        PathAndQuery::from_static(RESERVE),
        BytesCodec,
    );
    match tokio::time::timeout(PATIENCE, call).await {
        Err(_) => "no answer".to_owned(),
        Ok(Err(status)) => format!("{:?}", status.code()),
        Ok(Ok(response)) => outcome(&response.into_inner())
            .unwrap_or_else(|| format!("{:?}: no outcome", Code::DataLoss)),
    }
}

fn outcome(response: &Bytes) -> Option<String> {
    let response = contract::ReserveResponse::decode(response.clone()).ok()?;
    let outcome = contract::Outcome::try_from(response.result?.outcome).ok()?;
    Some(outcome.as_str_name().replace("OUTCOME_", ""))
}

async fn rush(
    address: &str,
    callers: usize,
    connections: usize,
    sale: &str,
    sku: &str,
) -> Result<String, Failure> {
    let begin = Instant::now();
    let channels = connect(address, connections).await?;
    let connect_seconds = begin.elapsed().as_secs_f64();
    // Everybody is ready, and the one who starts the clock.
    let ready = Arc::new(Barrier::new(callers + 1));
    let mut pressing = JoinSet::new();
    let run = std::process::id();
    for caller in 0..callers {
        let request = contract::ReserveRequest {
            reservation_id: format!("rush-{run}-{caller}"),
            person_id: format!("buyer-{run}-{caller}"),
            sale_id: sale.to_owned(),
            lines: vec![contract::Line {
                sku: sku.to_owned(),
                units: 1,
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = Bytes::from(request.encode_to_vec());
        let (channel, ready) = (
            channels[caller % channels.len()].clone(),
            Arc::clone(&ready),
        );
        pressing.spawn(async move {
            ready.wait().await;
            let word = press(channel, request).await;
            (word, Instant::now())
        });
    }
    ready.wait().await;
    let start = Instant::now();
    let mut answers = Vec::with_capacity(callers);
    while let Some(done) = pressing.join_next().await {
        let (word, at) = done?;
        let after = at.saturating_duration_since(start);
        answers.push(Answer { word, after });
    }
    Ok(told(connect_seconds, answers))
}

/// Sums up as a line of JSON.
fn told(connect_seconds: f64, mut answers: Vec<Answer>) -> String {
    answers.sort_by_key(|answer| answer.after);
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list of at most a million"
        )]
        let place = (answers.len() as f64 * share) as usize;
        let place = place.min(answers.len().saturating_sub(1));
        answers
            .get(place)
            .map_or(0.0, |answer| answer.after.as_secs_f64() * 1e3)
    };
    let mut words: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in &answers {
        *words.entry(&answer.word).or_default() += 1;
    }
    serde_json::json!({
        "connect_seconds": connect_seconds,
        "answers": words,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "last_ms": at(1.0),
    })
    .to_string()
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, callers, connections, sale, sku] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let (callers, connections) = (callers.parse()?, connections.parse()?);
    if callers == 0 || connections == 0 || connections > callers {
        return Err(format!("connections are 1 to the number of callers; {USAGE}").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let line = runtime.block_on(rush(address, callers, connections, sale, sku))?;
    println!("{line}");
    Ok(())
}
