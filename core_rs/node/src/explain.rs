//! The life of one reservation, read from the journal.
//!
//! Owns: the scan from the event that made it to the present. Must not: hold the lock while it
//! reads. Where next: `query.rs`.

use lastunit_engine::{Event, Outcome, Sequence, State};
use lastunit_wire::{Code, Fault, Method, Transition};

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
    let transitions = match found {
        None => None,
        Some(view) => {
            // The journal shows only what is durable.
            let failed = |_| faults::not_serving(shared.life.phase(), &shared.life.cause());
            shared.wait_durable(order.as_of).map_err(failed)?;
            let range = (view.created_sequence, order.as_of);
            Some(scan(shared, reservation_id, range, context)?)
        }
    };
    let outcome = match transitions {
        Some(_) => Outcome::Ok,
        None => Outcome::UnknownReservation,
    };
    shared.meters.count_outcome(outcome, false);
    let place = shared.place(order);
    Ok(Ready {
        body: lastunit_wire::encode_transitions(transitions.as_deref(), &place),
        as_of: order.as_of,
    })
}

fn scan(
    shared: &Shared,
    reservation_id: &str,
    (first, last): (Sequence, Sequence),
    context: Context,
) -> Result<Vec<Transition>, Fault> {
    let reader = shared.journal.reader();
    let mut transitions = Vec::new();
    let mut state = None;
    let mut after = first - 1;
    while after < last {
        check_deadline(context.deadline)?;
        let records = reader.read_after(after, STEP_RECORDS);
        let records = records.map_err(|error| unreadable(shared, &error))?;
        for record in &records {
            let events = lastunit_wire::decode_record(&record.body);
            let events = events.map_err(|error| unreadable(shared, &error))?;
            for event in events {
                let is_wanted = event.reservation_id == reservation_id
                    && (first..=last).contains(&event.sequence);
                if is_wanted {
                    transitions.push(transition(event, &mut state));
                }
            }
        }
        match records.last() {
            Some(record) => after = record.last_sequence(),
            None => break,
        }
    }
    Ok(transitions)
}

fn transition(event: Event, state: &mut Option<State>) -> Transition {
    let state_from = *state;
    *state = event.body.state_after().or(state_from);
    Transition {
        event,
        state_from,
        state_to: *state,
    }
}

fn unreadable(shared: &Shared, error: &dyn std::error::Error) -> Fault {
    if shared.life.phase() > Phase::Draining {
        return faults::not_serving(shared.life.phase(), &shared.life.cause());
    }
    let message = format!("the journal cannot be read ({error}); verify it and restore a copy");
    Fault::new(Code::DataLoss, "JOURNAL_CORRUPT", message)
}
