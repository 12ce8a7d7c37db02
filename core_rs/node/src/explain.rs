//! The life of one reservation, read from the journal.
//!
//! Owns: the scan from the event that made it to the present, and what to say when its beginning
//! was removed. Must not: hold the lock while it reads. Where next: `query.rs`.

use lastunit_engine::{Event, Outcome, Sequence, State};
use lastunit_journal::{JournalError, Reader};
use lastunit_wire::{EventError, Fault, Method, Reach, Transition};

use crate::faults;
use crate::lane_lock::Urgency;
use crate::life::Phase;
use crate::permissions::Access;
use crate::serve::{Context, Ready, check_deadline, check_start};
use crate::shared::Shared;

/// Records that one step of the scan asks for; the journal bounds the bytes besides.
const STEP_RECORDS: usize = 4_096;

/// Explains a reservation up to the present state.
pub(crate) fn serve(
    shared: &Shared,
    reservation_id: &str,
    access: &Access<'_>,
    context: Context,
) -> Result<Ready, Fault> {
    let mut core = shared.lock(Urgency::Ordinary)?;
    check_start(shared, &core, context)?;
    access.reach(&core.ledger, Method::ExplainReservation, reservation_id)?;
    let found = core.ledger.reservation(reservation_id);
    let order = core.order();
    drop(core);
    let life = match found {
        None => Life::default(),
        Some(view) => {
            // The journal shows only what is durable.
            let failed = |_| faults::not_serving(shared.life.phase(), &shared.life.cause());
            shared.wait_durable(order.as_of).map_err(failed)?;
            let range = (view.created_sequence, order.as_of);
            let mut may_go_on = || check_deadline(context.deadline);
            read(
                &shared.journal.reader(),
                reservation_id,
                range,
                &mut may_go_on,
            )
            .map_err(|error| error.into_fault(shared))?
        }
    };
    let outcome = match life.transitions {
        Some(_) => Outcome::Ok,
        None => Outcome::UnknownReservation,
    };
    shared.meters.count_outcome(outcome, false);
    let place = shared.place(order);
    Ok(Ready {
        body: lastunit_wire::encode_explanation(life.transitions.as_deref(), life.reach, &place),
        as_of: order.as_of,
    })
}

/// What the journal has of a reservation's life.
pub(crate) struct Life {
    /// None if the reservation is not known.
    pub(crate) transitions: Option<Vec<Transition>>,
    pub(crate) reach: Reach,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            transitions: None,
            reach: Reach::WHOLE,
        }
    }
}

/// Why a life cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Events(#[from] EventError),
    /// Whoever asked gives up.
    #[error("{}", .0.message)]
    Ended(Box<Fault>),
}

impl ScanError {
    fn into_fault(self, shared: &Shared) -> Fault {
        match self {
            Self::Ended(fault) => *fault,
            _ if shared.life.phase() > Phase::Draining => {
                faults::not_serving(shared.life.phase(), &shared.life.cause())
            }
            error => faults::journal_corrupt(&error),
        }
    }
}

/// Reads what happened to a reservation from `first` to `last`, as far as the journal reaches back.
pub(crate) fn read(
    reader: &Reader,
    reservation_id: &str,
    (first, last): (Sequence, Sequence),
    may_go_on: &mut dyn FnMut() -> Result<(), Fault>,
) -> Result<Life, ScanError> {
    let first_sequence = reader.first_sequence()?;
    let mut scan = Scan {
        reservation_id,
        range: (first, last),
        transitions: Vec::new(),
        state: None,
    };
    let mut after = first.max(first_sequence) - 1;
    while after < last {
        may_go_on().map_err(|fault| ScanError::Ended(Box::new(fault)))?;
        let records = match reader.read_after(after, STEP_RECORDS) {
            // Removed while it was read: what is left is told.
            Err(JournalError::Removed { first_sequence, .. }) if first_sequence > after + 1 => {
                scan.transitions.clear();
                scan.state = None;
                after = first_sequence - 1;
                continue;
            }
            records => records?,
        };
        for record in &records {
            scan.look(&record.body)?;
        }
        match records.last() {
            Some(record) => after = record.last_sequence(),
            None => break,
        }
    }
    // Asked again: events may have been removed meanwhile.
    let first_sequence = reader.first_sequence()?;
    let begins = scan.transitions.first().map(|it| it.event.sequence);
    Ok(Life {
        transitions: Some(scan.transitions),
        reach: Reach {
            first_sequence,
            is_complete: begins == Some(first),
        },
    })
}

/// One way along the journal for one reservation.
struct Scan<'a> {
    reservation_id: &'a str,
    range: (Sequence, Sequence),
    transitions: Vec<Transition>,
    /// Where it is; none before the first event that says so.
    state: Option<State>,
}

impl Scan<'_> {
    fn look(&mut self, body: &[u8]) -> Result<(), EventError> {
        // Nearly every record is of others: taking it apart costs ten times as much as this.
        let id = self.reservation_id.as_bytes();
        if !body.windows(id.len().max(1)).any(|part| part == id) {
            return Ok(());
        }
        let (first, last) = self.range;
        for event in lastunit_wire::decode_record(body)? {
            let is_inside = (first..=last).contains(&event.sequence);
            if is_inside && event.reservation_id == self.reservation_id {
                let transition = self.transition(event);
                self.transitions.push(transition);
            }
        }
        Ok(())
    }

    fn transition(&mut self, event: Event) -> Transition {
        let state_from = self.state;
        self.state = event.body.state_after().or(state_from);
        Transition {
            event,
            state_from,
            state_to: self.state,
        }
    }
}
