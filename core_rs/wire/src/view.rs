//! Owns the encoding of the answers to questions.
//!
//! Must not choose what is shown. Next: `reply.rs` for replies to commands.

use lastunit_engine::{
    Audit, AvailabilityView, Event, EventBody, Outcome, ReservationPage, ReservationView, Sequence,
    State, Text,
};
use prost::Message;

use crate::reply::{Place, counters_to_proto, number};
use crate::{contract, enums, query, time};

/// One move in the life of a reservation: the event that made it and the states around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The event that made it.
    pub event: Event,
    /// Where the reservation was; none before it was made.
    pub state_from: Option<State>,
    /// Where it was afterwards.
    pub state_to: Option<State>,
}

/// Encodes `GetReservationResponse`; none is the outcome UNKNOWN_RESERVATION.
#[must_use]
pub fn encode_reservation(found: Option<&ReservationView>, place: &Place) -> Vec<u8> {
    let mut result = result(match found {
        Some(_) => Outcome::Ok,
        None => Outcome::UnknownReservation,
    });
    result.state = found
        .map(|found| enums::state_number(found.state))
        .unwrap_or_default();
    contract::GetReservationResponse {
        place: Some(place.with_sequence(0)),
        result: Some(result),
        reservation: found.map(reservation_to_proto),
    }
    .encode_to_vec()
}

/// Encodes `ListReservationsResponse`; none is the outcome UNKNOWN_SALE.
#[must_use]
pub fn encode_reservations(found: Option<&ReservationPage>, place: &Place) -> Vec<u8> {
    let mut response = contract::ListReservationsResponse {
        place: Some(place.with_sequence(0)),
        result: Some(result(match found {
            Some(_) => Outcome::Ok,
            None => Outcome::UnknownSale,
        })),
        ..Default::default()
    };
    if let Some(page) = found {
        response.reservations = page.reservations.iter().map(reservation_to_proto).collect();
        response.next_page_token = page.next_after.map(query::page_token).unwrap_or_default();
    }
    response.encode_to_vec()
}

/// Encodes `GetAvailabilityResponse` or `WatchAvailabilityResponse`, which have the same fields.
///
/// `outcome` is OK, UNKNOWN_SALE or UNKNOWN_SKU; `sku` names the unknown one, otherwise empty.
#[must_use]
pub fn encode_availabilities(
    outcome: Outcome,
    sku: &str,
    availabilities: &[AvailabilityView],
    place: &Place,
) -> Vec<u8> {
    let mut result = result(outcome);
    sku.clone_into(&mut result.sku);
    contract::GetAvailabilityResponse {
        place: Some(place.with_sequence(0)),
        result: Some(result),
        availabilities: availabilities.iter().map(availability_to_proto).collect(),
    }
    .encode_to_vec()
}

/// Encodes `AuditResponse`.
#[must_use]
pub fn encode_audit(audit: &Audit, place: &Place) -> Vec<u8> {
    let findings = audit.findings.iter().map(|finding| contract::AuditFinding {
        invariant: finding.invariant.to_owned(),
        subject: finding.subject.to_string(),
        message: finding.detail.clone(),
    });
    let pools = audit.pools.iter().map(|pool| contract::AuditPool {
        sale_id: pool.sale_id.to_string(),
        sku: pool.sku.to_string(),
        pool: pool.pool.to_string(),
        counters: Some(counters_to_proto(&pool.counters)),
        forgotten_sold_units: pool.forgotten_sold_units,
        leaked_units: pool.leaked_units,
    });
    let oldest = audit.oldest.iter().map(|oldest| contract::AuditOldest {
        state: enums::state_number(oldest.state),
        reservation_id: oldest.reservation_id.to_string(),
        create_time: Some(time::instant(oldest.created_at)),
        due_time: oldest.due_at.map(time::instant),
    });
    let counts = audit
        .reservation_counts
        .iter()
        .filter(|(_, count)| *count > 0);
    let counts = counts.map(|(state, count)| contract::AuditCount {
        state: enums::state_number(*state),
        count: i64::try_from(*count).unwrap_or(i64::MAX),
    });
    contract::AuditResponse {
        place: Some(place.with_sequence(0)),
        result: Some(result(Outcome::Ok)),
        holds: audit.holds(),
        findings: findings.collect(),
        pools: pools.collect(),
        reservation_counts: counts.collect(),
        oldest: oldest.collect(),
        late_held_count: i64::try_from(audit.late_held_count).unwrap_or(i64::MAX),
    }
    .encode_to_vec()
}

/// What the journal still has of a reservation's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The oldest event that the journal has.
    pub first_sequence: Sequence,
    /// Whether the event that made the reservation is among them.
    pub is_complete: bool,
}

impl Reach {
    /// A journal of which nothing was removed.
    pub const WHOLE: Self = Self {
        first_sequence: 1,
        is_complete: true,
    };
}

/// Encodes `ExplainReservationResponse`; none is the outcome UNKNOWN_RESERVATION.
#[must_use]
pub fn encode_transitions(found: Option<&[Transition]>, place: &Place) -> Vec<u8> {
    encode_explanation(found, Reach::WHOLE, place)
}

/// As [`encode_transitions`], where the journal may reach back to a part of the life only.
#[must_use]
pub fn encode_explanation(found: Option<&[Transition]>, reach: Reach, place: &Place) -> Vec<u8> {
    contract::ExplainReservationResponse {
        place: Some(place.with_sequence(0)),
        result: Some(result(match found {
            Some(_) => Outcome::Ok,
            None => Outcome::UnknownReservation,
        })),
        transitions: found
            .unwrap_or_default()
            .iter()
            .map(transition_to_proto)
            .collect(),
        first_sequence: reach.first_sequence,
        is_complete: found.is_some() && reach.is_complete,
    }
    .encode_to_vec()
}

/// Encodes `SetClockResponse`; `sequence` is the last event that the timers wrote, 0 if none.
#[must_use]
pub fn encode_clock(sequence: Sequence, place: &Place) -> Vec<u8> {
    let place = Some(place.with_sequence(sequence));
    contract::SetClockResponse { place }.encode_to_vec()
}

fn result(outcome: Outcome) -> contract::Result {
    contract::Result {
        outcome: enums::outcome_number(outcome),
        ..Default::default()
    }
}

fn text(text: Option<&Text>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn reservation_to_proto(view: &ReservationView) -> contract::Reservation {
    contract::Reservation {
        reservation_id: view.reservation_id.to_string(),
        sale_id: view.sale_id.to_string(),
        person_id: view.person_id.to_string(),
        state: enums::state_number(view.state),
        release_reason: view
            .release_reason
            .map(enums::release_reason_number)
            .unwrap_or_default(),
        lines: view.lines.iter().map(line_to_proto).collect(),
        taken: view.taken.iter().map(taken_view_to_proto).collect(),
        create_time: Some(time::instant(view.created_at)),
        expire_time: Some(time::instant(view.expires_at)),
        max_life_time: Some(time::instant(view.max_life_at)),
        settle_by_time: view.settle_by.map(time::instant),
        release_requested: view.release_requested,
        retaken: view.retaken,
        attempts: view.attempts.iter().map(attempt_to_proto).collect(),
        merged_person_id: view.merged_person_id.to_string(),
        create_sequence: view.created_sequence,
    }
}

/// Makes the contract's form of a line.
pub(crate) fn line_to_proto(line: &lastunit_engine::Line) -> contract::Line {
    contract::Line {
        sku: line.sku.to_string(),
        pool: text(line.pool.as_ref()),
        units: line.units,
    }
}

fn taken_view_to_proto(taken: &lastunit_engine::TakenView) -> contract::Taken {
    contract::Taken {
        line_index: number(taken.line_index),
        sku: taken.sku.to_string(),
        pool: taken.pool.to_string(),
        units: taken.units,
        returned_units: taken.returned_units,
        is_from_buffer: false,
    }
}

fn attempt_to_proto(attempt: &lastunit_engine::AttemptView) -> contract::Attempt {
    contract::Attempt {
        attempt_id: attempt.attempt_id.to_string(),
        state: enums::attempt_state_number(attempt.state),
        provider: text(attempt.provider.as_ref()),
        amount_minor: attempt.amount_minor,
        currency: text(attempt.currency.as_ref()),
        is_unregistered: attempt.is_unregistered,
        begin_time: Some(time::instant(attempt.begun_at)),
    }
}

fn availability_to_proto(view: &AvailabilityView) -> contract::Availability {
    let pools = view.pools.iter().map(|pool| contract::PoolAvailability {
        pool: pool.pool.to_string(),
        labels: labels_to_proto(&pool.labels),
        offered: pool.is_offered,
        counters: Some(counters_to_proto(&pool.counters)),
        position: number(pool.position),
    });
    contract::Availability {
        sale_id: view.sale_id.to_string(),
        sku: view.sku.to_string(),
        level: enums::level_number(view.level),
        level_epoch: view.level_epoch,
        counters: Some(counters_to_proto(&view.counters)),
        pools: pools.collect(),
        earliest_expire_time: view.earliest_expire_at.map(time::instant),
        changed_sequence: view.changed_sequence,
    }
}

/// Makes the contract's form of labels.
pub(crate) fn labels_to_proto(
    labels: &[(Text, Text)],
) -> std::collections::BTreeMap<String, String> {
    let pairs = labels.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn transition_to_proto(transition: &Transition) -> contract::Transition {
    let event = &transition.event;
    let cause = match (event.request_id.as_str(), &event.body) {
        // Reserve and BeginPayment go by the id of what they make.
        ("", EventBody::Reserved(_)) => event.reservation_id.as_str(),
        ("", EventBody::PaymentBegun(begun)) => begun.attempt_id.as_str(),
        ("", _) => "timer",
        (request_id, _) => request_id,
    };
    let actor = if event.actor.is_empty() {
        &event.caller
    } else {
        &event.actor
    };
    contract::Transition {
        sequence: event.sequence,
        time: Some(time::instant(event.time)),
        event: event.body.name().to_owned(),
        state_from: transition
            .state_from
            .map(enums::state_number)
            .unwrap_or_default(),
        state_to: transition
            .state_to
            .map(enums::state_number)
            .unwrap_or_default(),
        cause: cause.to_owned(),
        actor: actor.to_string(),
        reason: event.reason.to_string(),
    }
}
