//! Owns the conversions between milliseconds and the contract's instants and spans.
//!
//! Must not round up: an instant is cut to the millisecond it lies in. Nothing overflows, whatever
//! the parts. Next: `decode.rs`.

use lastunit_engine::Millis;
use prost_types::{Duration, Timestamp};

/// Makes an instant of milliseconds since the epoch.
pub(crate) fn instant(millis: Millis) -> Timestamp {
    Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: nanos(millis.rem_euclid(1_000)),
    }
}

/// Makes a span of milliseconds.
pub(crate) fn span(millis: Millis) -> Duration {
    Duration {
        seconds: millis / 1_000,
        nanos: nanos(millis % 1_000),
    }
}

/// Milliseconds since the epoch of an instant.
pub(crate) fn instant_millis(instant: Timestamp) -> Millis {
    millis(instant.seconds, instant.nanos)
}

/// Milliseconds of a span.
pub(crate) fn span_millis(span: Duration) -> Millis {
    millis(span.seconds, span.nanos)
}

fn millis(seconds: i64, nanos: i32) -> Millis {
    let whole = seconds.saturating_mul(1_000);
    whole.saturating_add(i64::from(nanos / 1_000_000))
}

fn nanos(millis: i64) -> i32 {
    i32::try_from(millis * 1_000_000).expect("less than a second is less than 2^31 nanoseconds")
}
