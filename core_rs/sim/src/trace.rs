//! What a run did, as a number and on demand as text.
//!
//! Owns: the digest by which two runs of one seed are compared, and the printed trace. Must not:
//! change what happens. Where next: `world.rs`.

/// A running FNV-1a digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
        self.mix(bytes.len() as u64);
    }

    pub(crate) fn add_number(&mut self, number: i64) {
        self.mix(number.cast_unsigned());
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(23);
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

/// The trace of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) digest: Digest,
    is_printed: bool,
}

impl Trace {
    pub(crate) fn new(is_printed: bool) -> Self {
        Self {
            digest: Digest::default(),
            is_printed,
        }
    }

    /// Notes a line; its text is made only if somebody reads it.
    pub(crate) fn note(&mut self, time: i64, text: impl FnOnce() -> String) {
        self.digest.add_number(time);
        if self.is_printed {
            eprintln!("{time:>9} {}", text());
        }
    }
}
