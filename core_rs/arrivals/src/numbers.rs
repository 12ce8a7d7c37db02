//! Whole numbers in as few bytes as they need: seven bits a byte, the lowest first.
//!
//! Owns: writing and reading of them. Must not: read past the end. Where next: `block.rs`.

/// Bytes of the largest number.
const BYTES_MAX: usize = 10;

pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_byte(number));
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// A number with a sign: small ones of either sign are short.
pub(crate) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// What is left to read.
pub(crate) struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(*first)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.left.split_at_checked(count)?;
        self.left = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for at in 0..BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * u32::try_from(at).ok()?;
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_went_in_and_small_ones_are_short() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            put_signed(&mut bytes, number.cast_signed());
            put_signed(&mut bytes, number.cast_signed().wrapping_neg());
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(Some(number), cursor.number());
            assert_eq!(Some(number.cast_signed()), cursor.signed());
            assert_eq!(Some(number.cast_signed().wrapping_neg()), cursor.signed());
            assert!(cursor.is_empty());
        }
        let mut short = Vec::new();
        put_signed(&mut short, -64);
        assert_eq!(1, short.len());
    }

    #[test]
    fn a_number_without_end_or_above_sixty_four_bits_is_none() {
        assert_eq!(None, Cursor::new(&[0x80; 4]).number());
        assert_eq!(None, Cursor::new(&[0xff; 12]).number());
        let mut above = vec![0xff; 9];
        above.push(2);
        assert_eq!(None, Cursor::new(&above).number());
    }
}
