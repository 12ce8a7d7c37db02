//! The node's answers in the transport's terms.
//!
//! Owns: status, details and the push-back that clients honour. Must not: decide whether something
//! is a fault. Where next: `unary.rs`.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use lastunit_node::Answer;
use lastunit_wire::read_status;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Tells a client how many milliseconds to wait before it tries again.
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

/// Turns an answer into a response or a status.
pub(crate) fn of(answer: Answer) -> Result<Bytes, Status> {
    match answer.code {
        0 => Ok(answer.body.into()),
        code => Err(fault(code, answer.body)),
    }
}

/// A status from a serialized `google.rpc.Status`, which goes along as its details.
fn fault(code: i32, body: Vec<u8>) -> Status {
    let (message, retry_ms) = read_status(&body);
    let mut metadata = MetadataMap::new();
    if let Some(retry_ms) = retry_ms {
        metadata.insert(PUSHBACK_KEY, MetadataValue::from(spread(retry_ms)));
    }
    Status::with_details_and_metadata(Code::from(code), message, body.into(), metadata)
}

/// Up to half as long again: clients add no jitter of their own to a push-back, and without a
/// spread they would all come back together.
fn spread(retry_ms: i64) -> i64 {
    // A fresh hasher's seed is as random as a spread needs.
    let draw = i64::try_from(RandomState::new().hash_one(retry_ms) % 501).unwrap_or(0);
    retry_ms.saturating_add(retry_ms / 1000 * draw + retry_ms % 1000 * draw / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_back_is_never_shorter_and_at_most_half_as_long_again() {
        for retry_ms in [0, 1, 999, 1_000, 86_400_000] {
            for _ in 0..100 {
                let told = spread(retry_ms);

                assert!((retry_ms..=retry_ms + retry_ms / 2).contains(&told));
            }
        }
    }
}
