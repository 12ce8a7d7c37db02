//! Owns the small vocabulary types that every other module speaks in.
//!
//! Must not hold behaviour beyond checking a form. Next: `limits.rs`.

/// An owned text: an id, a reason or evidence. Up to 23 bytes live inline, a clone never copies more.
pub type Text = smol_str::SmolStr;

/// Ledger time in milliseconds since the Unix epoch, or a span in milliseconds.
pub type Millis = i64;

/// The position of an event in the journal; the first event has 1, and 0 means "none yet".
pub type Sequence = i64;

/// Whole units counted; never negative at rest.
pub type Units = i64;

/// Says whether `text` is an id: 1 to 64 bytes of `[A-Za-z0-9._:-]`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=crate::limits::ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}
