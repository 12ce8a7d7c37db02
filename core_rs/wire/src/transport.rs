//! Owns what a transport needs to read of our bytes: a fault's text and wait, whether a watch has
//! ended, and the contract itself for reflection.
//!
//! Must not be used on the way of a call that succeeds. Next: `fault.rs`.

use prost::Message;

use crate::{contract, status};

/// The contract and that of admission with their imports, as a serialized
/// `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reflection.bin"));

/// The message of a serialized `google.rpc.Status`, and how many milliseconds to wait if waiting
/// helps. Bytes that are no status give an empty message.
#[must_use]
pub fn read_status(bytes: &[u8]) -> (String, Option<i64>) {
    let status = status::Status::decode(bytes).unwrap_or_default();
    let wait = status.details.iter().find_map(|detail| {
        detail
            .type_url
            .ends_with("google.rpc.RetryInfo")
            .then_some(())?;
        let delay = status::RetryInfo::decode(detail.value.as_slice())
            .ok()?
            .retry_delay?;
        Some(delay.seconds.saturating_mul(1_000) + i64::from(delay.nanos / 1_000_000))
    });
    (status.message, wait)
}

/// Whether a serialized WatchAvailabilityResponse is followed by others: its outcome is OK.
#[must_use]
pub fn is_watch_going_on(bytes: &[u8]) -> bool {
    let response = contract::WatchAvailabilityResponse::decode(bytes);
    let result = response.ok().and_then(|response| response.result);
    result.is_some_and(|result| result.outcome() == contract::Outcome::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Fault};

    #[test]
    fn message_and_wait_of_a_fault_are_read_again() {
        let fault = Fault::new(Code::ResourceExhausted, "SHED", "come back later");

        assert_eq!(
            ("come back later".to_owned(), None),
            read_status(&fault.to_status())
        );
        let status = fault.with_retry_after(1_234).to_status();
        assert_eq!(
            ("come back later".to_owned(), Some(1_234)),
            read_status(&status)
        );
    }

    #[test]
    fn bytes_that_are_no_status_are_harmless() {
        assert_eq!((String::new(), None), read_status(&[0xff; 9]));
        assert!(!is_watch_going_on(&[0xff; 9]));
    }
}
