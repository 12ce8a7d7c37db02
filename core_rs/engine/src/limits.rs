//! Owns every bound of the ledger as a named constant with its reason.
//!
//! The door enforces the same numbers from the contract; the engine checks again and refuses with
//! [`crate::Outcome::NotAllowed`] naming the field. Next: `check.rs`.

use crate::ids::{Millis, Units};

/// Bytes in an id. Room for a UUID with a prefix; keeps a reservation small.
pub const ID_BYTES_MAX: usize = 64;
/// Bytes in a reason or a piece of evidence. A sentence or a provider's number, not a document.
pub const REASON_BYTES_MAX: usize = 256;
/// Lines in one reservation. A basket, not a catalogue; bounds the work of one command.
pub const LINE_COUNT_MAX: usize = 32;
/// Units of one line, or of one return. Bounds the sum over lines far below `i64`.
pub const LINE_UNITS_MAX: Units = 1_000_000;
/// Units any one counter may reach. Sums of 10,000 pools stay far below `i64`.
pub const COUNTER_UNITS_MAX: Units = 1_000_000_000_000;
/// Labels of one pool. Place, channel, supplier, tier and some of the operator's own.
pub const LABEL_COUNT_MAX: usize = 16;
/// Bytes in a label's key or value; the same as an id.
pub const LABEL_BYTES_MAX: usize = 64;
/// Persons that one command takes out of those they were joined with. More accounts than a person
/// brings into a merge that turns out wrong.
pub const SPLIT_COUNT_MAX: usize = 64;
/// Pools of one sku in one sale. A line without a pool walks them in order under the lock.
pub const POOL_COUNT_MAX: usize = 64;
/// Skus of one sale. The answer to "all availabilities" fits one message.
pub const SKU_COUNT_MAX: usize = 1_000;
/// Sales in one ledger. Each is looked at when the next due timer is asked for.
pub const SALE_COUNT_MAX: usize = 10_000;
/// Longest span of a policy or an extension: 30 days.
pub const SPAN_MAX: Millis = 30 * 24 * 3_600_000;
/// Longest time for which what ended stays known: a year of returns and chargebacks, and a month.
pub const FORGET_SPAN_MAX: Millis = 400 * 24 * 3_600_000;
/// Reservations, and requests, that one event forgets. Bounds the work under the node's lock.
pub const FORGET_COUNT_MAX: usize = 128;
/// Portions of one sale that are due at once; others have their turn in between.
pub const FORGET_PORTION_COUNT_MAX: usize = 4;
/// Latest instant accepted: the year 9999, the end of a protobuf timestamp.
pub const INSTANT_MAX: Millis = 253_402_300_799_999;
/// Most attempts a policy may allow for one reservation. Each may keep units from others.
pub const ATTEMPT_COUNT_MAX: u32 = 16;
/// Reservations in one page of a listing.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Reservations looked at for one page, so that a rare filter can't hold the lock for long.
pub const PAGE_SCAN_MAX: usize = 65_536;
/// How long one late settlement holds expiry back: a minute without further news ends it.
pub const BRAKE_HOLD: Millis = 60_000;
/// Reservations one ledger keeps. Slots are 32 bits and the last is a mark for "none"; the node's
/// bound on memory refuses long before.
pub const RESERVATION_COUNT_MAX: usize = 1 << 31;
