//! What a caller says about itself and its call beside the message: metadata and deadline.
//!
//! Owns: the names and forms of our metadata keys. Must not: decide what follows from them. Where
//! next: `faults.rs`.

use std::time::{Duration, Instant};

use lastunit_wire::Fault;
use tonic::metadata::MetadataMap;

use crate::faults;

const CALLER_KEY: &str = "lastunit-caller";
const SEQUENCE_KEY: &str = "lastunit-seen-sequence";
const EPOCH_KEY: &str = "lastunit-seen-epoch";
const TIMEOUT_KEY: &str = "grpc-timeout";
const ANONYMOUS: &str = "anonymous";

/// Longest name of a caller, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Nobody waits a year for a unit; clients say "no deadline" as centuries.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who calls, what it has seen, and when it gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) seen_sequence: i64,
    pub(crate) seen_epoch: i64,
    pub(crate) deadline: Option<Instant>,
}

impl Caller {
    /// Reads a call's metadata.
    ///
    /// # Errors
    /// A key of ours that has not its form.
    pub(crate) fn from_metadata(metadata: &MetadataMap) -> Result<Self, Fault> {
        Ok(Self {
            name: name(metadata)?,
            seen_sequence: number(metadata, SEQUENCE_KEY)?,
            seen_epoch: number(metadata, EPOCH_KEY)?,
            deadline: deadline(metadata),
        })
    }
}

fn name(metadata: &MetadataMap) -> Result<String, Fault> {
    let Some(value) = metadata.get(CALLER_KEY) else {
        return Ok(ANONYMOUS.to_owned());
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    match value.to_str() {
        Ok(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_letter) => {
            Ok(name.to_owned())
        }
        _ => Err(faults::caller_invalid(CALLER_KEY)),
    }
}

fn number(metadata: &MetadataMap, key: &'static str) -> Result<i64, Fault> {
    let Some(value) = metadata.get(key) else {
        return Ok(0);
    };
    let digits = value.to_str().ok().filter(|text| {
        // A sign would parse too.
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    });
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| faults::number_invalid(key))
}

/// A timeout that does not read is none: the transport checks its form before.
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let text = metadata.get(TIMEOUT_KEY)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(amount.checked_mul(3600)?),
        "M" => Duration::from_secs(amount.checked_mul(60)?),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    let timeout = Some(timeout).filter(|timeout| *timeout <= TIMEOUT_MAX)?;
    Instant::now().checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.insert(*key, value.parse().expect("is a value of metadata"));
        }
        metadata
    }

    #[test]
    fn who_says_nothing_is_anonymous_and_has_seen_nothing() {
        let caller = Caller::from_metadata(&MetadataMap::new()).expect("nothing is wrong");

        assert_eq!(
            ("anonymous", 0, 0),
            (caller.name.as_str(), caller.seen_sequence, 0)
        );
        assert_eq!(None, caller.deadline);
    }

    #[test]
    fn names_and_numbers_outside_their_form_are_refused_by_key() {
        let long = "x".repeat(65);
        for (key, value) in [
            (CALLER_KEY, ""),
            (CALLER_KEY, "two words"),
            (CALLER_KEY, long.as_str()),
            (SEQUENCE_KEY, "-1"),
            (SEQUENCE_KEY, "+1"),
            (SEQUENCE_KEY, "9223372036854775808"),
            (EPOCH_KEY, "1.5"),
        ] {
            let fault = Caller::from_metadata(&metadata(&[(key, value)])).expect_err(value);

            assert_eq!(Some(key), fault.metadata.get("key").map(String::as_str));
        }
    }

    #[test]
    fn the_largest_sequence_and_longest_name_are_taken() {
        let long = "x".repeat(64);
        let pairs = [
            (CALLER_KEY, long.as_str()),
            (SEQUENCE_KEY, "9223372036854775807"),
        ];

        let caller = Caller::from_metadata(&metadata(&pairs)).expect("both are allowed");

        assert_eq!((long, i64::MAX), (caller.name, caller.seen_sequence));
    }

    #[test]
    fn a_timeout_of_centuries_is_none() {
        let of = |text| deadline(&metadata(&[(TIMEOUT_KEY, text)]));

        assert!(of("99999999H").is_none());
        assert!(of("5x").is_none());
        assert!(of("5S").is_some_and(|end| end > Instant::now()));
    }
}
