//! One arrival: what came, and what became of it.
//!
//! Owns: the outcomes, and what a call gathers of its operations until it is answered. Must not:
//! know bytes. Where next: `block.rs`.

use lastunit_admission::{Answer, Ask, Chance, Limit, Nanos, Operation, Report};

/// What became of an arrival at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let in; a reservation was granted too, so that the order service had to persist it.
    Granted,
    /// A reservation that was let in and that the ledger did not grant, or had granted before.
    NoEffect,
    /// A reservation of what is gone: told at once, charged nothing.
    Hopeless,
    /// Not let in.
    Refused(Limit),
    /// A reservation of what is gone that was not even told so: too many like it were waiting.
    HopelessRefused,
}

/// Code of the first refusal.
const REFUSED: usize = 3;
const HOPELESS_REFUSED: usize = REFUSED + Limit::ALL.len();

impl Outcome {
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Self::Granted => 0,
            Self::NoEffect => 1,
            Self::Hopeless => 2,
            Self::Refused(limit) => REFUSED + limit as usize,
            Self::HopelessRefused => HOPELESS_REFUSED,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match usize::from(code) {
            0 => Some(Self::Granted),
            1 => Some(Self::NoEffect),
            2 => Some(Self::Hopeless),
            HOPELESS_REFUSED => Some(Self::HopelessRefused),
            code => Limit::ALL
                .get(code - REFUSED)
                .map(|limit| Self::Refused(*limit)),
        }
    }

    /// What a door answered, as it stands before the ledger has decided.
    #[must_use]
    pub fn of(ask: &Ask<'_>, answer: &Answer) -> Self {
        match answer {
            Answer::Admitted if ask.call.operation == Operation::Reserve => Self::NoEffect,
            Answer::Admitted => Self::Granted,
            Answer::Hopeless => Self::Hopeless,
            Answer::Refused(_) if ask.chance == Chance::Gone => Self::HopelessRefused,
            Answer::Refused(refusal) => Self::Refused(refusal.first.limit),
        }
    }

    /// Whether it was refused, hopeless or not.
    #[must_use]
    pub fn is_refused(self) -> bool {
        matches!(self, Self::Refused(_) | Self::HopelessRefused)
    }

    /// Whether it was let in.
    #[must_use]
    pub fn is_admitted(self) -> bool {
        matches!(self, Self::Granted | Self::NoEffect)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DraftRow {
    pub(crate) at: Nanos,
    pub(crate) waited: Nanos,
    pub(crate) operation: Operation,
    pub(crate) line_count: u32,
    pub(crate) outcome: Outcome,
    /// Where its names begin in the text.
    pub(crate) start: usize,
    pub(crate) sku_count: usize,
}

/// The operations of one call, gathered while it is served. Names are copied once, as bytes.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub(crate) rows: Vec<DraftRow>,
    /// Names in rows of a length and its bytes: the caller first, then sale and SKUs of each row.
    pub(crate) text: Vec<u8>,
}

impl Draft {
    /// Starts the gathering for a caller.
    #[must_use]
    pub fn new(caller: &str) -> Self {
        let mut draft = Self::default();
        put_name(&mut draft.text, caller);
        draft
    }

    /// Adds an operation that was decided at a time, after it had waited so long for its lane.
    pub fn add(&mut self, ask: &Ask<'_>, outcome: Outcome, at: Nanos, waited: Nanos) {
        let start = self.text.len();
        let is_reserve = ask.call.operation == Operation::Reserve;
        let skus = if is_reserve { ask.skus } else { &[] };
        if is_reserve {
            put_name(&mut self.text, ask.sale);
            for sku in skus {
                put_name(&mut self.text, sku);
            }
        }
        self.rows.push(DraftRow {
            at,
            waited,
            operation: ask.call.operation,
            line_count: ask.call.line_count,
            outcome,
            start,
            sku_count: skus.len(),
        });
    }

    /// Says that a reservation was granted: the first of those let in that was not yet.
    pub fn grant(&mut self) {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| row.outcome == Outcome::NoEffect) {
            row.outcome = Outcome::Granted;
        }
    }

    /// Says that a reservation which was called hopeless was decided after all.
    pub fn decide_after_all(&mut self, ask: &Ask<'_>, outcome: Outcome, at: Nanos) {
        let same = |draft: &Self, row: &DraftRow| {
            let mut names = draft.names(row);
            row.outcome == Outcome::Hopeless
                && names.next() == Some(ask.sale.as_bytes())
                && names.eq(ask.skus.iter().map(|sku| sku.as_bytes()))
        };
        if let Some(index) = self.rows.iter().position(|row| same(self, row)) {
            (self.rows[index].outcome, self.rows[index].at) = (outcome, at);
        }
    }

    /// How many operations were gathered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About what it takes in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.len() * size_of::<DraftRow>() + self.text.len()
    }

    pub(crate) fn caller(&self) -> &[u8] {
        names(&self.text).next().unwrap_or_default()
    }

    /// The sale and the SKUs of a row; none of one that is no reservation.
    pub(crate) fn names(&self, row: &DraftRow) -> impl Iterator<Item = &[u8]> {
        let is_reserve = row.operation == Operation::Reserve;
        let count = usize::from(is_reserve) + row.sku_count;
        names(&self.text[row.start..]).take(count)
    }
}

/// A name is 64 bytes at most by the contract; one that were longer would be cut.
fn put_name(text: &mut Vec<u8>, name: &str) {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    text.push(length);
    text.extend_from_slice(&name.as_bytes()[..usize::from(length)]);
}

fn names(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = text.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        text = rest;
        Some(name)
    })
}

/// A report of the order service, beside the arrivals: what the credit window heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportNote {
    /// When it came.
    pub at: Nanos,
    /// What it said.
    pub report: Report,
}
