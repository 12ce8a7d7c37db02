//! Choices drawn from the bytes of an input, so that a fuzzer can steer what a target does.
//!
//! Owns the reading. An input that ended gives zeros: every input is a whole one, and a shorter one
//! does less.

/// Numbers at the edges of what fields can hold; arithmetic goes wrong there first.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    63,
    64,
    999,
    1_000,
    1_000_000,
    1_000_001,
    (1 << 31) - 1,
    1 << 32,
    1_000_000_000_000,
    (1 << 53) + 1,
    i64::MAX.unsigned_abs(),
    1 << 63,
    u64::MAX,
];

/// The rest of an input.
pub(crate) struct Draw<'a> {
    rest: &'a [u8],
}

impl<'a> Draw<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number below `bound`, which is 1 to 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// As `below`, for a bound of 1 to 255.
    pub(crate) fn few(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    pub(crate) fn is_one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == bound - 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Any number: an edge, a small one, or eight bytes of the input.
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.pick(&EDGES),
            1 => u64::from(self.byte()),
            2 => u64::from(self.short()) * 1_000,
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}
