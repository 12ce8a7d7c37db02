//! Callers who send on whatever they are told: so many reservations a second, each in a call of its
//! own, at its own time, with a second of patience.
//!
//! Owns: the hostile load of `python -m bench.tenfold`. Open loop: a server that stands still slows
//! nobody down, and who is late is not made up for. Prints what became of the calls as a line of
//! JSON. One thread sends. Must not: wait as long as it is told to, or try again.

#[path = "shared/bytes_codec.rs"]
mod bytes_codec;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use bytes_codec::BytesCodec;
use http::uri::PathAndQuery;
use lastunit_wire::contract;
use prost::Message;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// Why a load can't go on.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: flood ADDRESS RATE SECONDS CONNECTIONS SALE SKU, for example\n  \
    flood 127.0.0.1:7402 1500 600 4 flash-sale headphones";
const RESERVE: &str = "/lastunit.stock.v1.StockService/Reserve";
/// Who has no answer after that has gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// How late a Reserve may reach the ledger, which forgets it soon after.
const NOT_AFTER: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(5);
/// Calls without an answer: those beyond are not sent, and counted.
const OPEN_MAX: usize = 20_000;

/// What is asked again and again.
struct Flood {
    channels: Vec<Channel>,
    sale: String,
    sku: String,
}

impl Flood {
    fn request(&self, number: u64) -> Bytes {
        let name = format!("flood-{}-{number}", std::process::id());
        let until = SystemTime::now() + NOT_AFTER;
        let request = contract::ReserveRequest {
            reservation_id: name.clone(),
            person_id: name,
            sale_id: self.sale.clone(),
            lines: vec![contract::Line {
                sku: self.sku.clone(),
                units: 1,
                ..Default::default()
            }],
            not_after_time: Some(until.into()),
            ..Default::default()
        };
        Bytes::from(request.encode_to_vec())
    }

    /// Presses for so long; returns how many were sent and what became of them.
    async fn run(&self, rate: f64, span: Duration) -> (u64, BTreeMap<String, u64>) {
        let (begin, mut sent) = (Instant::now(), 0_u64);
        let mut words = BTreeMap::new();
        let mut open = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while begin.elapsed() < span {
            tick.tick().await;
            let due = due(rate, begin.elapsed().min(span));
            while sent < due {
                sent += 1;
                if open.len() >= OPEN_MAX {
                    note(&mut words, "not sent".to_owned());
                    continue;
                }
                let place = usize::try_from(sent).unwrap_or(0) % self.channels.len();
                open.spawn(press(self.channels[place].clone(), self.request(sent)));
            }
            while let Some(done) = open.try_join_next() {
                note(&mut words, word(done));
            }
        }
        while let Some(done) = open.join_next().await {
            note(&mut words, word(done));
        }
        (sent, words)
    }
}

fn due(rate: f64, elapsed: Duration) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of calls"
    )]
    let due = (rate * elapsed.as_secs_f64()) as u64;
    due
}

fn note(words: &mut BTreeMap<String, u64>, word: String) {
    *words.entry(word).or_default() += 1;
}

fn word(done: Result<String, tokio::task::JoinError>) -> String {
    done.unwrap_or_else(|error| error.to_string())
}

/// Calls once and puts the answer in a word: the outcome, or the status that came instead.
async fn press(channel: Channel, message: Bytes) -> String {
    let mut client = Grpc::new(channel);
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    let call = async {
        client.ready().await.map_err(|_| Code::Unavailable)?;
        let path = PathAndQuery::from_static(RESERVE);
        let response = client.unary(request, path, BytesCodec).await;
        response.map_err(|status| status.code())
    };
    match tokio::time::timeout(PATIENCE, call).await {
        Err(_) => format!("{:?}", Code::DeadlineExceeded),
        Ok(Err(code)) => format!("{code:?}"),
        Ok(Ok(response)) => {
            let response: Bytes = response.into_inner();
            outcome(response).unwrap_or_else(|| "no outcome".to_owned())
        }
    }
}

fn outcome(response: Bytes) -> Option<String> {
    let response = contract::ReserveResponse::decode(response).ok()?;
    let outcome = contract::Outcome::try_from(response.result?.outcome).ok()?;
    Some(outcome.as_str_name().replace("OUTCOME_", ""))
}

/// Sums up as the other callers of the bench do.
fn told(sent: u64, mut words: BTreeMap<String, u64>) -> String {
    let mut take = |word: &str| words.remove(word).unwrap_or(0);
    let (in_time, refused) = (take("OK"), take("ResourceExhausted"));
    serde_json::json!({
        "sent": sent,
        "in_time": in_time,
        "late": 0,
        "refused_tries": refused,
        "gave_up": 0,
        "others": words,
    })
    .to_string()
}

async fn flood(arguments: [&String; 6]) -> Result<String, Failure> {
    let [address, rate, seconds, connections, sale, sku] = arguments;
    let (rate, connections): (f64, usize) = (rate.parse()?, connections.parse()?);
    let span = Duration::try_from_secs_f64(seconds.parse()?)?;
    if !(rate > 0.0 && connections > 0) {
        return Err(format!("rate and connections are above 0; {USAGE}").into());
    }
    let mut channels = Vec::with_capacity(connections);
    for _ in 0..connections {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        channels.push(endpoint.connect().await?);
    }
    let flood = Flood {
        channels,
        sale: sale.to_owned(),
        sku: sku.to_owned(),
    };
    let (sent, words) = flood.run(rate, span).await;
    Ok(told(sent, words))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, rate, seconds, connections, sale, sku] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let arguments = [address, rate, seconds, connections, sale, sku];
    println!("{}", runtime.block_on(flood(arguments))?);
    Ok(())
}
