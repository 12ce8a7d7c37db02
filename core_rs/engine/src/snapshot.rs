//! Owns the bytes of a snapshot: a version, then the state as postcard writes it.
//!
//! Equal states have equal bytes, so that two machines can compare them. What follows from other
//! fields is not written but built again, and then everything is audited. Must not check damage of
//! the bytes themselves; the journal's checksum does. Next: `audit.rs`.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;

use postcard::ser_flavors::Flavor;

use crate::arena::Slot;
use crate::book::is_unpaid;
use crate::frozen::Frozen;
use crate::state::Ledger;

/// Rises with every change of the layout.
const VERSION: u32 = 2;

/// Says whose bytes these are; four letters and the version begin every snapshot.
const MARK: [u8; 4] = *b"LUSN";

/// Why bytes are not a snapshot of this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are not a snapshot, or are cut short.
    Malformed,
    /// Another version of the software wrote it.
    Version {
        /// The version found.
        found: u32,
    },
    /// It reads, but an invariant does not hold in it.
    Inconsistent {
        /// The first finding of the audit.
        finding: alloc::string::String,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Malformed => formatter.write_str(
                "the snapshot is malformed; move it away and start again from the journal",
            ),
            Self::Version { found } => write!(
                formatter,
                "the snapshot has version {found} and this software reads version {VERSION}; start \
                 with the software that wrote it, or move it away and start from the journal"
            ),
            Self::Inconsistent { finding } => write!(
                formatter,
                "the snapshot breaks an invariant ({finding}); move it away and start again from \
                 the journal"
            ),
        }
    }
}

impl core::error::Error for SnapshotError {}

/// Writes mark, version and state to `sink`.
pub(crate) fn write<E>(ledger: &Ledger, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut failure = None;
    let mut pieces = Pieces {
        sink,
        piece: Vec::with_capacity(Frozen::PIECE_BYTES_MAX),
        failure: &mut failure,
    };
    pieces.piece.extend_from_slice(&MARK);
    pieces.piece.extend_from_slice(&VERSION.to_le_bytes());
    match (postcard::serialize_with_flavor(ledger, pieces), failure) {
        (Ok(()), None) => Ok(()),
        (_, Some(error)) => Err(error),
        (Err(_), None) => unreachable!("every field has a form in bytes"),
    }
}

/// Collects bytes until a piece is worth a call of the sink.
struct Pieces<'a, S, E> {
    sink: S,
    piece: Vec<u8>,
    failure: &'a mut Option<E>,
}

impl<S: FnMut(&[u8]) -> Result<(), E>, E> Pieces<'_, S, E> {
    fn pass_on(&mut self) -> postcard::Result<()> {
        let passed = (self.sink)(&self.piece);
        self.piece.clear();
        passed.map_err(|error| {
            *self.failure = Some(error);
            postcard::Error::SerializeBufferFull
        })
    }
}

impl<S: FnMut(&[u8]) -> Result<(), E>, E> Flavor for Pieces<'_, S, E> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.piece.len() == Frozen::PIECE_BYTES_MAX {
            self.pass_on()?;
        }
        self.piece.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        for part in bytes.chunks(Frozen::PIECE_BYTES_MAX) {
            if self.piece.len() + part.len() > Frozen::PIECE_BYTES_MAX {
                self.pass_on()?;
            }
            self.piece.extend_from_slice(part);
        }
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<()> {
        self.pass_on()
    }
}

impl Ledger {
    /// The state as bytes; equal states give equal bytes.
    ///
    /// # Panics
    /// Never: every field has a form in bytes and memory is the only bound.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.reservations.len() * 128 + 4_096);
        let written: Result<(), Infallible> = write(self, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        written.expect("memory takes every piece");
        bytes
    }

    /// The state from bytes, audited.
    ///
    /// # Errors
    /// If the bytes are not a snapshot, have another version, or break an invariant.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let ledger = Self::from_snapshot_unaudited(bytes)?;
        match ledger.audit().findings.first() {
            None => Ok(ledger),
            Some(finding) => Err(SnapshotError::Inconsistent {
                finding: alloc::format!(
                    "{} of {}: {}",
                    finding.invariant,
                    finding.subject,
                    finding.detail
                ),
            }),
        }
    }

    /// The state from bytes, for a caller that audits later: a recovery audits once, at its end.
    ///
    /// # Errors
    /// If the bytes are not a snapshot or have another version.
    pub fn from_snapshot_unaudited(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = bytes.strip_prefix(&MARK).ok_or(SnapshotError::Malformed)?;
        let (version, body) = body.split_first_chunk().ok_or(SnapshotError::Malformed)?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(SnapshotError::Version { found });
        }
        let (mut ledger, rest) =
            postcard::take_from_bytes::<Self>(body).map_err(|_| SnapshotError::Malformed)?;
        if !rest.is_empty() || !ledger.has_sound_slots() {
            return Err(SnapshotError::Malformed);
        }
        ledger.build_derived();
        Ok(ledger)
    }

    /// Builds what follows from the written fields.
    pub(crate) fn build_derived(&mut self) {
        for (slot, sale) in (0..).zip(&self.sales) {
            self.sale_index.insert(sale.sale_id.clone(), slot);
        }
        for slot in 0..self.racks.len() {
            let (sale, sku) = (self.racks[slot].sale, self.racks[slot].sku.clone());
            let slot = Slot::try_from(slot).expect("limits keep skus far below 2^32");
            self.sales[sale as usize].racks.insert(sku, slot);
        }
        self.reservation_index.reserve(self.reservations.len());
        self.attempt_index.reserve(self.attempts.len());
        self.person_index.reserve(self.persons.len());
        self.request_index.reserve(self.requests.len());
        for (slot, attempt) in self.attempts.entries() {
            self.attempt_index.insert(&attempt.attempt_id, slot);
        }
        for (slot, person) in self.persons.entries() {
            self.person_index.insert(&person.person_id, slot);
        }
        for (slot, request) in self.requests.entries() {
            self.request_index.insert(&request.request_id, slot);
        }
        for slot in 0..self.reservations.end() {
            let Some(reservation) = self.reservations.get(slot) else {
                continue;
            };
            self.reservation_index
                .insert(&reservation.reservation_id, slot);
            self.live_count += usize::from(is_unpaid(reservation.state));
            self.set_timers(slot);
            self.count_reservation(slot);
        }
    }
}
