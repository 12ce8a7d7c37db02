//! Owns the small vocabulary types that every other module speaks in.
//!
//! Must not hold behaviour beyond checking a form. Next: `limits.rs`.

/// An owned text: an id, a reason or evidence. Up to 23 bytes live inline; a clone copies no more.
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
        // Without a way out in between, which costs more than the rest of a short text.
        && text
            .bytes()
            .fold(true, |is_id, byte| is_id & IS_ID_BYTE[usize::from(byte)])
}

/// By byte, whether an id may have it. Every command has several ids, so this is a look-up.
const IS_ID_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn an_id_has_1_to_64_bytes_of_its_alphabet() {
        for text in [
            "a",
            "Z",
            "0",
            "9",
            ".",
            "_",
            ":",
            "-",
            "order-1:2",
            &"x".repeat(64),
        ] {
            assert!(is_id(text), "{text}");
        }
        for text in [
            "",
            " ",
            "a b",
            "/",
            "é",
            "@",
            "[",
            "`",
            "{",
            "\0",
            &"x".repeat(65),
        ] {
            assert!(!is_id(text), "{text}");
        }
        let accepted: String = (0..=127)
            .map(char::from)
            .filter(|c| is_id(c.encode_utf8(&mut [0; 4])))
            .collect();
        assert_eq!(26 + 26 + 10 + 4, accepted.len());
    }
}
