//! Redis by its own protocol: a connection a worker, all commands of a batch in one write.
//!
//! Owns: RESP, as far as this work needs it. The functions called are `bench/peers/stock.lua`.

use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::load::Worker;
use crate::names::Names;

const UNITS_PER_BUYER_MAX: &str = "5";
const RESERVATION_MILLIS: u128 = 600_000;
const REMEMBERED_SECONDS: &str = "86400";
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct Redis {
    stream: TcpStream,
    names: Names,
    out: Vec<u8>,
    input: Vec<u8>,
}

pub(crate) async fn connect(address: &str, workers: usize) -> Result<Vec<Redis>, Failure> {
    let names = Names::new();
    let mut connected = Vec::with_capacity(workers);
    for _ in 0..workers {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connected.push(Redis {
            stream,
            names: names.clone(),
            out: Vec::new(),
            input: Vec::with_capacity(READ_BYTES),
        });
    }
    Ok(connected)
}

impl Worker for Redis {
    async fn reserve(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let expiry = (now.as_millis() + RESERVATION_MILLIS).to_string();
        for pair in pairs.clone() {
            let (id, buyer) = (self.names.reservation(pair), self.names.buyer(pair));
            let hold = format!("hold:{id}");
            self.put(&[
                "FCALL",
                "reserve",
                "4",
                "stock:unit",
                &hold,
                "buyers:unit",
                "deadlines",
                &id,
                "unit",
                &buyer,
                "1",
                UNITS_PER_BUYER_MAX,
                &expiry,
            ]);
        }
        self.exchange(pairs).await
    }

    async fn confirm(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        for pair in pairs.clone() {
            let id = self.names.reservation(pair);
            let hold = format!("hold:{id}");
            self.put(&[
                "FCALL",
                "confirm",
                "3",
                "stock:unit",
                &hold,
                "deadlines",
                &id,
                REMEMBERED_SECONDS,
            ]);
        }
        self.exchange(pairs).await
    }
}

impl Redis {
    fn put(&mut self, parts: &[&str]) {
        self.out
            .extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
        for part in parts {
            self.out
                .extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            self.out.extend_from_slice(part.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was put and reads a reply for each pair; returns how many of them are OK.
    async fn exchange(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        let (mut ok, mut left, mut at) = (0, pairs.end - pairs.start, 0);
        self.input.clear();
        while left > 0 {
            if let Some((length, is_ok)) = reply(&self.input[at..])? {
                at += length;
                ok += u64::from(is_ok);
                left -= 1;
            } else if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err("Redis closed the connection".into());
            }
        }
        Ok(ok)
    }
}

/// Reads one reply: its length, and whether it says OK; none if it is not whole yet.
fn reply(bytes: &[u8]) -> Result<Option<(usize, bool)>, Failure> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end])?.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or("Redis sent an empty line")?;
    match kind {
        "+" | ":" => Ok(Some((end + 1, rest == "OK"))),
        "-" => Err(format!("Redis says: {rest}").into()),
        "$" => {
            let length = usize::try_from(rest.parse::<i64>()?).unwrap_or(0);
            let whole = end + 1 + length + 2;
            let text = bytes.get(end + 1..end + 1 + length);
            Ok((bytes.len() >= whole).then(|| (whole, text == Some(b"OK".as_slice()))))
        }
        "*" => {
            let (mut at, mut is_ok) = (end + 1, false);
            for index in 0..rest.parse::<usize>()? {
                let Some((length, is_item_ok)) = reply(&bytes[at..])? else {
                    return Ok(None);
                };
                at += length;
                is_ok |= index == 0 && is_item_ok;
            }
            Ok(Some((at, is_ok)))
        }
        _ => Err(format!("Redis sent {line:?}").into()),
    }
}
