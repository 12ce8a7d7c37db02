//! The load of the comparison with peers (`python -m bench.peers`): reserve-and-confirm pairs, on
//! lastunit's native or grpcio front, or on Redis.
//!
//! Owns: the arguments. One thread sends, whatever the peer, so that all of them are asked by the
//! same means and at most one processor is taken from the server. Prints its figures as a line of
//! JSON. Must not: be more patient with one peer than with another. Where next: `load.rs`.

#[path = "../shared/bytes_codec.rs"]
mod bytes_codec;
mod exchange;
mod load;
mod names;
mod redis;
mod unary;

use std::error::Error;
use std::time::Duration;

use load::{Plan, run};

/// Why a load can't go on.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: pairs redis|unary|exchange ADDRESS[,SETTLEMENT_ADDRESS] WORKERS BATCH \
    CONNECTIONS SECONDS [PAIRS_PER_SECOND]\n  \
    WORKERS are in flight at once, each with BATCH operations; unary takes batches of 1 only";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, addresses, numbers @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let numbers: Vec<f64> = numbers
        .iter()
        .map(|it| it.parse())
        .collect::<Result<_, _>>()?;
    let (&[workers, batch, connections, seconds], rate) = match numbers.split_first_chunk::<4>() {
        Some((first, rest)) => (first, rest.first().copied()),
        None => return Err(USAGE.into()),
    };
    let plan = Plan {
        workers: whole(workers)?,
        batch: whole(batch)?,
        duration: Duration::try_from_secs_f64(seconds)?,
        rate: rate.map(|pairs_per_second| pairs_per_second / batch),
    };
    let connections = whole(connections)?;
    let (data, settlement) = addresses.split_once(',').unwrap_or((addresses, addresses));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(async {
        match peer.as_str() {
            "redis" => run(&plan, redis::connect(data, plan.workers).await?).await,
            "unary" if plan.batch == 1 => {
                let workers = unary::connect(data, settlement, plan.workers, connections).await?;
                run(&plan, workers).await
            }
            "exchange" => {
                let workers = exchange::connect(data, plan.workers, connections).await?;
                run(&plan, workers).await
            }
            _ => Err(USAGE.into()),
        }
    })?;
    println!("{figures}");
    Ok(())
}

/// Reads a count of 1 or more.
fn whole(number: f64) -> Result<usize, Failure> {
    if number < 1.0 || number.fract() != 0.0 || number > 1e6 {
        return Err(format!("{number} is no count from 1 to 1,000,000; {USAGE}").into());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above"
    )]
    Ok(number as usize)
}
