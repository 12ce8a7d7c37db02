//! Owns the writing of fields straight into a buffer, byte for byte as prost would write them.
//!
//! For messages that are written for each operation: the generated types want every text as a
//! string of its own and measure each message before they write it. Must not know a message, and
//! must leave out what prost leaves out: texts that are empty, numbers that are 0. Next:
//! `reply.rs`, `event_out.rs`.

use lastunit_engine::Millis;

use crate::time;

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;
/// A varint has 7 bits of its number in each byte; the highest says that there is another.
const MORE: u8 = 0x80;

/// Writes a number as a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        out.push(low_bits(number) | MORE);
        number >>= 7;
    }
    out.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

fn key(out: &mut Vec<u8>, field: u32, kind: u32) {
    varint(out, u64::from((field << 3) | kind));
}

/// Writes a text, unless it is empty.
pub(crate) fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

/// Writes bytes, which may be an encoded message.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    key(out, field, LENGTH_DELIMITED);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a number, unless it is 0.
pub(crate) fn number(out: &mut Vec<u8>, field: u32, number: i64) {
    if number != 0 {
        key(out, field, VARINT);
        // Numbers below 0 go by their two's complement.
        varint(out, number.cast_unsigned());
    }
}

/// Writes a truth value, unless it is false.
pub(crate) fn truth(out: &mut Vec<u8>, field: u32, is_true: bool) {
    number(out, field, i64::from(is_true));
}

/// Writes a message, which may be empty.
pub(crate) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, LENGTH_DELIMITED);
    delimited(out, write);
}

/// Writes what `write` writes with its length before it.
pub(crate) fn delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < usize::from(MORE) {
        out[start] = low_bits(length as u64);
        return;
    }
    // The length needs more than the one byte that was left for it.
    let end = out.len();
    varint(out, length as u64);
    let more = out.len() - end - 1;
    out.truncate(end);
    out.resize(end + more, 0);
    out.copy_within(start + 1..end, start + 1 + more);
    let mut rest = length as u64;
    for byte in &mut out[start..=start + more] {
        *byte = low_bits(rest) | MORE;
        rest >>= 7;
    }
    out[start + more] &= !MORE;
}

/// Writes an instant.
pub(crate) fn instant(out: &mut Vec<u8>, field: u32, millis: Millis) {
    let instant = time::instant(millis);
    parts(out, field, instant.seconds, instant.nanos);
}

/// Writes a span.
pub(crate) fn span(out: &mut Vec<u8>, field: u32, millis: Millis) {
    let span = time::span(millis);
    parts(out, field, span.seconds, span.nanos);
}

fn parts(out: &mut Vec<u8>, field: u32, seconds: i64, nanos: i32) {
    message(out, field, |out| {
        number(out, 1, seconds);
        number(out, 2, nanos.into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_any_size_stands_before_what_it_measures() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let content = vec![7; length];
            let mut found = vec![9];
            delimited(&mut found, |out| out.extend_from_slice(&content));

            let mut expected = vec![9];
            prost::encode_length_delimiter(length, &mut expected).expect("a vector grows");
            expected.extend_from_slice(&content);
            assert!(expected == found, "{length}");
        }
    }

    #[test]
    fn numbers_are_written_as_prost_writes_them() {
        for value in [0, 1, -1, 127, 128, i64::MAX, i64::MIN] {
            let mut found = Vec::new();
            number(&mut found, 46, value);

            let mut expected = Vec::new();
            if value != 0 {
                prost::encoding::int64::encode(46, &value, &mut expected);
            }
            assert_eq!(expected, found, "{value}");
        }
    }
}
