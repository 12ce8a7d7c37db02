//! Owns the shape of the state: what the ledger remembers, and nothing of how it changes.
//!
//! Fields marked `serde(skip)` follow from the others and are built again from a snapshot.
//! Next: `book.rs` for how it changes, `draft.rs` for how decisions are made.

#![expect(
    clippy::struct_field_names,
    reason = "an id is called by its kind here as everywhere"
)]

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::arena::{Arena, Slot};
use crate::command::SalePolicy;
use crate::due_list::DueList;
use crate::event::EventBody;
use crate::ids::{Millis, Sequence, Text, Units};
use crate::outcome::{AttemptState, ReleaseReason, SaleState, State};
use crate::table::IdTable;
use crate::usage::UsageTable;
use crate::view::Counters;

/// The stock ledger: `decide` says what would happen, `apply` makes it so.
///
/// A clone is a copy of everything; it lets an audit or a snapshot run beside the live ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub(crate) sequence: Sequence,
    pub(crate) time: Millis,
    pub(crate) epoch: i64,
    pub(crate) brake: Brake,
    pub(crate) sales: Vec<Sale>,
    pub(crate) racks: Vec<Rack>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) reservations: Arena<Reservation>,
    pub(crate) attempts: Arena<Attempt>,
    pub(crate) persons: Arena<Person>,
    pub(crate) requests: Arena<Remembered>,
    #[serde(skip)]
    pub(crate) sale_index: BTreeMap<Text, Slot>,
    #[serde(skip)]
    pub(crate) reservation_index: IdTable,
    #[serde(skip)]
    pub(crate) attempt_index: IdTable,
    #[serde(skip)]
    pub(crate) person_index: IdTable,
    #[serde(skip)]
    pub(crate) request_index: IdTable,
    /// What persons with many reservations have.
    #[serde(skip)]
    pub(crate) usages: UsageTable,
    #[serde(skip)]
    pub(crate) live_count: usize,
}

/// What holds expiry back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Brake {
    pub(crate) is_on: bool,
    pub(crate) until: Option<Millis>,
    /// How late the last settlement was, and when it was taken.
    pub(crate) last_lag: Millis,
    pub(crate) last_lag_at: Option<Millis>,
}

/// A sale and its timers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sale {
    pub(crate) sale_id: Text,
    pub(crate) opens_at: Option<Millis>,
    pub(crate) closes_at: Option<Millis>,
    pub(crate) policy: SalePolicy,
    pub(crate) revision: i64,
    /// As last journaled; ledger time may have it elsewhere, see `state_at`.
    pub(crate) state: SaleState,
    /// The list of reservations whose units a cancelled sale has yet to ask back.
    pub(crate) open_first: Slot,
    pub(crate) open_last: Slot,
    /// The list of reservations that may be forgotten in time, those that ended first before.
    pub(crate) ended_first: Slot,
    pub(crate) ended_last: Slot,
    /// The list of requests that named no reservation, oldest first.
    pub(crate) request_first: Slot,
    pub(crate) request_last: Slot,
    /// When it was closed, cancelled or archived, whichever came first.
    pub(crate) ended_at: Option<Millis>,
    /// Whether ids of it are forgotten, so that it must not take reservations ever again.
    pub(crate) is_final: bool,
    /// The last event that changed a rack of it.
    pub(crate) changed_sequence: Sequence,
    #[serde(skip)]
    pub(crate) racks: BTreeMap<Text, Slot>,
    /// When HELD reservations end.
    #[serde(skip)]
    pub(crate) expiries: DueList,
    /// When PAYING reservations become OVERDUE.
    #[serde(skip)]
    pub(crate) settlings: DueList,
    /// When OVERDUE reservations should have been settled.
    #[serde(skip)]
    pub(crate) overdues: DueList,
    /// Reservations that stopped holding units since this process applies events.
    #[serde(skip)]
    pub(crate) drained_count: u64,
}

impl Sale {
    /// A copy of what is written in a snapshot.
    pub(crate) fn written(&self) -> Self {
        Self {
            sale_id: self.sale_id.clone(),
            policy: self.policy.clone(),
            racks: BTreeMap::new(),
            expiries: DueList::default(),
            settlings: DueList::default(),
            overdues: DueList::default(),
            ..*self
        }
    }
}

/// A sku in a sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rack {
    pub(crate) sale: Slot,
    pub(crate) sku: Text,
    /// In the order in which lines draw on them.
    pub(crate) pools: Vec<Slot>,
    pub(crate) level_epoch: i64,
    pub(crate) is_open: bool,
    pub(crate) changed_sequence: Sequence,
    /// How many held pieces end when.
    #[serde(skip)]
    pub(crate) expiries: BTreeMap<Millis, u32>,
}

impl Rack {
    /// A copy of what is written in a snapshot.
    pub(crate) fn written(&self) -> Self {
        Self {
            sku: self.sku.clone(),
            pools: self.pools.clone(),
            expiries: BTreeMap::new(),
            ..*self
        }
    }
}

/// A share of a rack's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) rack: Slot,
    pub(crate) pool: Text,
    pub(crate) position: u32,
    pub(crate) labels: Vec<(Text, Text)>,
    pub(crate) is_offered: bool,
    pub(crate) counters: Counters,
    /// Sold units whose reservations are forgotten; a part of `counters.sold`.
    pub(crate) forgotten_sold: Units,
}

/// A claim of one person. Kept small: a busy sale has millions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) reservation_id: Text,
    pub(crate) created_sequence: Sequence,
    pub(crate) created_at: Millis,
    pub(crate) expires_at: Millis,
    pub(crate) max_life_at: Millis,
    /// 0 before the first attempt.
    pub(crate) settle_by: Millis,
    /// The last event of one that has ended; 0 of others.
    pub(crate) ended_at: Millis,
    pub(crate) pieces: Pieces,
    pub(crate) sale: Slot,
    pub(crate) person: Slot,
    /// The ttl that was asked for; 0 is none.
    pub(crate) ttl: u32,
    /// The first `expires_at`, after `created_at`: the first answer is given again.
    pub(crate) first_hold: u32,
    /// `not_after` after `created_at`; 0 is none, the most is "far away".
    pub(crate) not_after_span: u32,
    pub(crate) first_attempt: Slot,
    pub(crate) first_request: Slot,
    /// The neighbours in the sale's list of open ones, or of ended ones.
    pub(crate) list_previous: Slot,
    pub(crate) list_next: Slot,
    pub(crate) person_previous: Slot,
    pub(crate) person_next: Slot,
    pub(crate) state: State,
    pub(crate) release_reason: Option<ReleaseReason>,
    /// Whether it is in its sale's list of ended ones.
    pub(crate) is_ended: bool,
    pub(crate) is_release_requested: bool,
    pub(crate) is_retaken: bool,
}

/// What a reservation took; nearly always one piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Pieces {
    One(Piece),
    Many(Box<[Piece]>),
    Retaken(Box<Retaken>),
}

/// The pieces of a reservation that lost its own and took others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Retaken {
    /// As the first answer told them.
    first: Vec<Piece>,
    now: Vec<Piece>,
}

impl Pieces {
    pub(crate) fn from_vec(pieces: Vec<Piece>) -> Self {
        match <[Piece; 1]>::try_from(pieces) {
            Ok([piece]) => Self::One(piece),
            Err(pieces) => Self::Many(pieces.into_boxed_slice()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[Piece] {
        match self {
            Self::One(piece) => core::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
            Self::Retaken(pieces) => &pieces.now,
        }
    }

    /// What the first answer told.
    pub(crate) fn first_taken(&self) -> &[Piece] {
        match self {
            Self::Retaken(pieces) => &pieces.first,
            Self::One(_) | Self::Many(_) => self.as_slice(),
        }
    }

    /// Takes other pieces; a repeat of the first request still tells the first ones.
    pub(crate) fn retake(&mut self, now: Vec<Piece>) {
        let first = self.first_taken().to_vec();
        *self = Self::Retaken(Box::new(Retaken { first, now }));
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Piece] {
        match self {
            Self::One(piece) => core::slice::from_mut(piece),
            Self::Many(pieces) => pieces,
            Self::Retaken(pieces) => &mut pieces.now,
        }
    }
}

/// Units of one line from one pool. `u32` holds them: a line has at most a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) pool: Slot,
    pub(crate) units: u32,
    /// How many of them came back.
    pub(crate) returned: u32,
    /// How many of those no longer count against the person's limits.
    pub(crate) given_back: u32,
    pub(crate) line_index: u8,
    /// Whether the line named its pool.
    pub(crate) is_named: bool,
    /// Whether they were drawn from the buffer.
    pub(crate) is_from_buffer: bool,
}

impl Piece {
    /// Units that stand where the reservation's state says.
    pub(crate) fn standing(&self) -> Units {
        Units::from(self.units) - Units::from(self.returned)
    }

    /// Units that count against the person's limits while the reservation counts.
    pub(crate) fn counted(&self) -> Units {
        Units::from(self.units) - Units::from(self.given_back)
    }
}

/// One try to pay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) attempt_id: Text,
    pub(crate) provider: Option<Text>,
    pub(crate) amount_minor: Option<i64>,
    pub(crate) currency: Option<Text>,
    pub(crate) sequence: Sequence,
    pub(crate) begun_at: Millis,
    /// What the first answer said.
    pub(crate) settle_by: Millis,
    pub(crate) attempt_count: u32,
    pub(crate) is_retaken: bool,
    pub(crate) is_unregistered: bool,
    pub(crate) state: AttemptState,
    pub(crate) reservation: Slot,
    pub(crate) next: Slot,
}

/// A person; merged persons are a ring, and each knows its root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) person_id: Text,
    pub(crate) root: Slot,
    pub(crate) ring_next: Slot,
    /// Of a root: the newest of the ring's reservations. Of others: none.
    pub(crate) first_reservation: Slot,
    /// Of a root: how many they are.
    pub(crate) chain_length: u32,
}

/// A request that was done, so that its repeat gets the first answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) request_id: Text,
    pub(crate) sequence: Sequence,
    pub(crate) time: Millis,
    pub(crate) sale: Slot,
    pub(crate) reservation: Slot,
    /// The next request of the same reservation, or else of the same sale.
    pub(crate) next: Slot,
    pub(crate) body: Box<EventBody>,
}

/// Whose usage, of what: the person above, the scope below. One word is hashed in one step, and
/// keeps the table small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UsageKey(u64);

impl UsageKey {
    pub(crate) fn new(person: Slot, scope: Scope) -> Self {
        // Sales and racks are far fewer than 2^31, so a slot leaves room for its kind.
        let scope = match scope {
            Scope::Sale(sale) => sale << 1,
            Scope::Rack(rack) => rack << 1 | 1,
        };
        Self(u64::from(person) << 32 | u64::from(scope))
    }

    pub(crate) fn person(self) -> Slot {
        Slot::try_from(self.0 >> 32).expect("the upper half is a slot")
    }
}

/// What a limit is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Sale(Slot),
    Rack(Slot),
}

/// What a person has; the limits are compared with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) units: Units,
    /// Reservations not paid yet; only counted over a sale.
    pub(crate) unpaid_count: u32,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last event applied; 0 if none.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The time of the last event applied; 0 if none.
    #[must_use]
    pub fn time(&self) -> Millis {
        self.time
    }

    /// The highest epoch of the journal that was noted; 0 if none.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(crate) fn sale_at(&self, slot: Slot) -> &Sale {
        &self.sales[slot as usize]
    }

    pub(crate) fn rack_at(&self, slot: Slot) -> &Rack {
        &self.racks[slot as usize]
    }

    pub(crate) fn pool_at(&self, slot: Slot) -> &Pool {
        &self.pools[slot as usize]
    }

    pub(crate) fn find_sale(&self, sale_id: &str) -> Option<Slot> {
        self.sale_index.get(sale_id).copied()
    }

    pub(crate) fn find_rack(&self, sale: Slot, sku: &str) -> Option<Slot> {
        self.sale_at(sale).racks.get(sku).copied()
    }

    pub(crate) fn find_pool(&self, rack: Slot, pool: &str) -> Option<Slot> {
        let pools = &self.rack_at(rack).pools;
        pools
            .iter()
            .copied()
            .find(|slot| self.pool_at(*slot).pool == pool)
    }

    pub(crate) fn find_reservation(&self, reservation_id: &str) -> Option<Slot> {
        let id_of = |slot| self.reservations[slot].reservation_id.as_str();
        self.reservation_index.find(reservation_id, id_of)
    }

    pub(crate) fn find_attempt(&self, attempt_id: &str) -> Option<Slot> {
        let id_of = |slot| self.attempts[slot].attempt_id.as_str();
        self.attempt_index.find(attempt_id, id_of)
    }

    pub(crate) fn find_person(&self, person_id: &str) -> Option<Slot> {
        let id_of = |slot| self.persons[slot].person_id.as_str();
        self.person_index.find(person_id, id_of)
    }

    pub(crate) fn find_request(&self, request_id: &str) -> Option<Slot> {
        let id_of = |slot| self.requests[slot].request_id.as_str();
        self.request_index.find(request_id, id_of)
    }

    pub(crate) fn root_of(&self, person: Slot) -> Slot {
        self.persons[person].root
    }

    /// The attempts of a reservation, oldest first.
    pub(crate) fn attempts_of(&self, reservation: Slot) -> impl Iterator<Item = &Attempt> {
        let slot_of = |slot: Slot| (slot != crate::arena::NONE).then_some(slot);
        let first = slot_of(self.reservations[reservation].first_attempt);
        core::iter::successors(first, move |slot| slot_of(self.attempts[*slot].next))
            .map(|slot| &self.attempts[slot])
    }
}
