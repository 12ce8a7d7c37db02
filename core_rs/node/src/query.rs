//! Questions about the present state: looked up under the lock, encoded without it.
//!
//! Owns: what each question copies out of the ledger. Must not: borrow from it past the lock. Where
//! next: `explain.rs` for the one question that reads the journal.

use std::time::Instant;

use lastunit_engine::{
    Audit, AuditCursor, AvailabilityView, Frozen, Ledger, Outcome, ReservationPage,
    ReservationView, Text,
};
use lastunit_wire::{Fault, Method, Place, Query};

use crate::lane_lock::Urgency;
use crate::permissions::Access;
use crate::serve::{Context, Ready, check_start, operation_of, urgency};
use crate::shared::Shared;

/// Entries of the live tables that an audit looks at under one lock hold: well under a millisecond.
const AUDIT_SLOT_COUNT: usize = 1_000;

/// Copies of the state that answer one question.
#[derive(Debug)]
pub(crate) enum Shown {
    Reservation(Option<Box<ReservationView>>),
    Reservations(Option<ReservationPage>),
    Availabilities(Availabilities),
    Audit(Box<Audit>),
}

/// What there is, or what is not known of it.
#[derive(Debug)]
pub(crate) struct Availabilities {
    pub(crate) outcome: Outcome,
    /// The sku that is not known, else empty.
    pub(crate) sku: Text,
    pub(crate) list: Vec<AvailabilityView>,
}

impl Shown {
    pub(crate) fn encode(&self, place: &Place) -> Vec<u8> {
        match self {
            Self::Reservation(found) => lastunit_wire::encode_reservation(found.as_deref(), place),
            Self::Reservations(found) => lastunit_wire::encode_reservations(found.as_ref(), place),
            Self::Availabilities(found) => found.encode(place),
            Self::Audit(audit) => lastunit_wire::encode_audit(audit, place),
        }
    }

    /// The outcome, to be counted as that of a command is.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Reservation(None) => Outcome::UnknownReservation,
            Self::Reservations(None) => Outcome::UnknownSale,
            Self::Availabilities(found) => found.outcome,
            Self::Reservation(Some(_)) | Self::Reservations(Some(_)) | Self::Audit(_) => {
                Outcome::Ok
            }
        }
    }
}

impl Availabilities {
    pub(crate) fn encode(&self, place: &Place) -> Vec<u8> {
        lastunit_wire::encode_availabilities(self.outcome, &self.sku, &self.list, place)
    }
}

/// Answers a question about the present state.
pub(crate) fn serve(
    shared: &Shared,
    method: Method,
    query: &Query,
    access: &Access<'_>,
    context: Context,
) -> Result<Ready, Fault> {
    let mut core = shared.lock(urgency(operation_of(method)))?;
    shared.meters.count_wait(context);
    check_start(shared, &core, context)?;
    access.reach_query(&core.ledger, method, query)?;
    let order = core.order();
    let (shown, frozen) = match query {
        // An audit walks over everything: over a frozen copy, so that nobody waits for it.
        Query::Audit => (None, Some(core.ledger.freeze())),
        query => (look(&core.ledger, query), None),
    };
    drop(core);
    let shown = match (shown, frozen) {
        (Some(shown), _) => shown,
        (None, Some(frozen)) => audit(shared, &frozen)?,
        (None, None) => return Err(crate::faults::wrong_call("the query")),
    };
    shared.meters.count_outcome(shown.outcome(), false);
    Ok(Ready {
        body: shown.encode(&shared.place(order)),
        as_of: order.as_of,
    })
}

/// Checks a frozen ledger, then the tables of the live one, which the frozen one has not: a few
/// entries a lock hold, and each hold after whoever is in line.
fn audit(shared: &Shared, frozen: &Frozen) -> Result<Shown, Fault> {
    let start = Instant::now();
    let mut audit = frozen.audit();
    let mut next = Some(AuditCursor::default());
    while let Some(cursor) = next {
        let core = shared.lock(Urgency::Background)?;
        let slice = core.ledger.audit_slice(cursor, AUDIT_SLOT_COUNT);
        drop(core);
        audit.findings.extend(slice.findings);
        next = slice.next;
    }
    audit.findings.truncate(Audit::FINDING_COUNT_MAX);
    shared
        .meters
        .count_audit(start.elapsed(), audit.findings.len());
    Ok(Shown::Audit(Box::new(audit)))
}

/// Looks a question up; None if it is not one about the present state alone.
pub(crate) fn look(ledger: &Ledger, query: &Query) -> Option<Shown> {
    match query {
        Query::GetReservation { reservation_id } => Some(Shown::Reservation(
            ledger.reservation(reservation_id).map(Box::new),
        )),
        Query::ListReservations {
            filter,
            after,
            page_size,
        } => Some(Shown::Reservations(
            ledger.reservations(filter, *after, *page_size),
        )),
        Query::GetAvailability { sale_id, skus } => {
            Some(Shown::Availabilities(availabilities(ledger, sale_id, skus)))
        }
        Query::WatchAvailability { .. }
        | Query::Audit
        | Query::ExplainReservation { .. }
        | Query::ReadEvents { .. } => None,
    }
}

fn availabilities(ledger: &Ledger, sale_id: &str, skus: &[Text]) -> Availabilities {
    let Some(known) = ledger.skus(sale_id) else {
        return Availabilities {
            outcome: Outcome::UnknownSale,
            sku: Text::default(),
            list: Vec::new(),
        };
    };
    let asked = if skus.is_empty() { &known } else { skus };
    let mut list = Vec::with_capacity(asked.len());
    for sku in asked {
        match ledger.availability(sale_id, sku) {
            Some(view) => list.push(view),
            None => {
                return Availabilities {
                    outcome: Outcome::UnknownSku,
                    sku: sku.clone(),
                    list: Vec::new(),
                };
            }
        }
    }
    Availabilities {
        outcome: Outcome::Ok,
        sku: Text::default(),
        list,
    }
}
