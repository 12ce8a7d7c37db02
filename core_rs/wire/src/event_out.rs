//! Owns the way of an event's body from the engine's form to the contract's.
//!
//! Must leave nothing out: `other_body` names every event, so that a new one does not compile until
//! it has a form. Next: `event_in.rs`, the way back.

use lastunit_engine::{
    Event, EventBody, Line, PaymentBegun, PaymentSettled, PoolDefined, Reserved, Returned,
    SaleDefined, SalePolicy, Taken, Text,
};

use crate::contract::{self, event::Body};
use crate::reply::{number, taken_to_proto};
use crate::view::{labels_to_proto, line_to_proto};
use crate::{enums, time, writer};

/// Writes an event as prost would write its message.
///
/// Events of a rush are written straight away; the others, which are few, by way of the message.
pub(crate) fn write_event(out: &mut Vec<u8>, event: &Event) {
    writer::number(out, 1, event.sequence);
    writer::instant(out, 2, event.time);
    writer::text(out, 3, &event.request_id);
    writer::text(out, 4, &event.caller);
    writer::text(out, 5, &event.sale_id);
    writer::text(out, 6, &event.reservation_id);
    writer::text(out, 7, &event.actor);
    writer::text(out, 8, &event.reason);
    match &event.body {
        EventBody::Reserved(body) => {
            writer::message(out, 28, |out| write_reserved(out, body));
        }
        EventBody::Confirmed => writer::message(out, 32, |_| {}),
        body => {
            if let Some(body) = body_to_proto(body) {
                body.encode(out);
            }
        }
    }
}

fn write_reserved(out: &mut Vec<u8>, body: &Reserved) {
    writer::text(out, 1, &body.person_id);
    for line in &body.lines {
        writer::message(out, 2, |out| write_line(out, line));
    }
    for taken in &body.taken {
        writer::message(out, 3, |out| write_taken(out, taken));
    }
    if let Some(ttl) = body.ttl {
        writer::span(out, 4, ttl);
    }
    if let Some(not_after) = body.not_after {
        writer::instant(out, 5, not_after);
    }
    writer::instant(out, 6, body.expires_at);
    writer::instant(out, 7, body.max_life_at);
}

fn write_line(out: &mut Vec<u8>, line: &Line) {
    writer::text(out, 1, &line.sku);
    writer::text(out, 2, line.pool.as_deref().unwrap_or_default());
    writer::number(out, 3, line.units);
}

/// Writes units taken, for replies too.
pub(crate) fn write_taken(out: &mut Vec<u8>, taken: &Taken) {
    writer::number(out, 1, number(taken.line_index).into());
    writer::text(out, 2, &taken.sku);
    writer::text(out, 3, &taken.pool);
    writer::number(out, 4, taken.units);
    writer::truth(out, 6, taken.is_from_buffer);
}

/// Makes the contract's form of what happened.
pub(crate) fn body_to_proto(body: &EventBody) -> Option<Body> {
    stock_body(body)
        .or_else(|| reservation_body(body))
        .or_else(|| payment_body(body))
        .or_else(|| other_body(body))
}

/// Events of sales and stock.
fn stock_body(body: &EventBody) -> Option<Body> {
    Some(match body {
        EventBody::SaleDefined(body) => Body::SaleDefined(sale_defined(body)),
        EventBody::SaleStateChanged {
            state_from,
            state_to,
        } => Body::SaleStateChanged(contract::SaleStateChanged {
            sale_state_from: enums::sale_state_number(*state_from),
            sale_state_to: enums::sale_state_number(*state_to),
        }),
        EventBody::PoolDefined(body) => Body::PoolDefined(pool_defined(body)),
        EventBody::StockSupplied(body) => Body::StockSupplied(contract::StockSupplied {
            sku: body.sku.to_string(),
            pool: body.pool.to_string(),
            units: body.units,
            is_buffer: body.is_buffer,
        }),
        EventBody::StockWithdrawn(body) => Body::StockWithdrawn(contract::StockWithdrawn {
            sku: body.sku.to_string(),
            pool: body.pool.to_string(),
            units: body.units,
            is_buffer: body.is_buffer,
        }),
        EventBody::StockAdjusted {
            sku,
            pool,
            expected_available,
            available,
        } => Body::StockAdjusted(contract::StockAdjusted {
            sku: sku.to_string(),
            pool: pool.to_string(),
            expected_available: *expected_available,
            available: *available,
        }),
        EventBody::StockMoved {
            sku,
            source_pool,
            target_pool,
            units,
        } => Body::StockMoved(contract::StockMoved {
            sku: sku.to_string(),
            source_pool: source_pool.to_string(),
            target_pool: target_pool.to_string(),
            units: *units,
        }),
        EventBody::BufferPoured { sku, pool, units } => {
            Body::BufferPoured(contract::BufferPoured {
                sku: sku.to_string(),
                pool: pool.to_string(),
                units: *units,
            })
        }
        _ => return None,
    })
}

/// Events in the life of a reservation that no payment causes.
fn reservation_body(body: &EventBody) -> Option<Body> {
    Some(match body {
        EventBody::Reserved(body) => Body::Reserved(reserved(body)),
        EventBody::Confirmed => Body::Confirmed(contract::Confirmed {}),
        EventBody::Released { release_reason } => Body::Released(contract::Released {
            release_reason: enums::release_reason_number(*release_reason),
        }),
        EventBody::Extended {
            extension,
            expires_at,
        } => Body::Extended(contract::Extended {
            extension: Some(time::span(*extension)),
            expire_time: Some(time::instant(*expires_at)),
        }),
        EventBody::ReleaseRequested { release_reason } => {
            Body::ReleaseRequested(contract::ReleaseRequested {
                release_reason: enums::release_reason_number(*release_reason),
            })
        }
        EventBody::Returned(body) => Body::Returned(returned(body)),
        _ => return None,
    })
}

/// Events of attempts to pay.
fn payment_body(body: &EventBody) -> Option<Body> {
    Some(match body {
        EventBody::PaymentBegun(body) => Body::PaymentBegun(payment_begun(body)),
        EventBody::PaymentSettled(body) => Body::PaymentSettled(payment_settled(body)),
        EventBody::PaymentNewsIgnored {
            attempt_id,
            payment_result,
            occurred_at,
            evidence,
            attempt_state,
        } => Body::PaymentNewsIgnored(contract::PaymentNewsIgnored {
            attempt_id: attempt_id.to_string(),
            payment_result: enums::payment_result_number(*payment_result),
            occurred_time: occurred_at.map(time::instant),
            evidence: evidence.to_string(),
            attempt_state: enums::attempt_state_number(*attempt_state),
        }),
        EventBody::BecameOverdue => Body::BecameOverdue(contract::BecameOverdue {}),
        EventBody::CancelAtProviderRequested { attempt_id } => {
            Body::CancelAtProviderRequested(contract::CancelAtProviderRequested {
                attempt_id: attempt_id.to_string(),
            })
        }
        EventBody::AskProviderRequested { attempt_id } => {
            Body::AskProviderRequested(contract::AskProviderRequested {
                attempt_id: attempt_id.to_string(),
            })
        }
        EventBody::RefundBecameDue { attempt_id } => {
            Body::RefundBecameDue(contract::RefundBecameDue {
                attempt_id: attempt_id.to_string(),
            })
        }
        EventBody::RefundRecorded {
            attempt_id,
            evidence,
            state,
        } => Body::RefundRecorded(contract::RefundRecorded {
            attempt_id: attempt_id.to_string(),
            state: enums::state_number(*state),
            evidence: evidence.to_string(),
        }),
        _ => return None,
    })
}

/// Events of persons and the node; every other is named, so that none is forgotten.
fn other_body(body: &EventBody) -> Option<Body> {
    Some(match body {
        EventBody::PersonsMerged {
            source_person_id,
            target_person_id,
        } => Body::PersonsMerged(contract::PersonsMerged {
            source_person_id: source_person_id.to_string(),
            target_person_id: target_person_id.to_string(),
        }),
        EventBody::PersonsSplit { person_ids } => Body::PersonsSplit(contract::PersonsSplit {
            person_ids: person_ids.iter().map(Text::to_string).collect(),
        }),
        EventBody::ExpiryBrakeSet { is_on, until } => {
            Body::ExpiryBrakeSet(contract::ExpiryBrakeSet {
                is_on: *is_on,
                until_time: until.map(time::instant),
            })
        }
        EventBody::OutageCredited { outage } => Body::OutageCredited(contract::OutageCredited {
            credit: Some(time::span(*outage)),
        }),
        EventBody::HistoryForgotten {
            reservation_ids,
            request_ids,
        } => {
            let strings = |ids: &[Text]| ids.iter().map(Text::to_string).collect();
            Body::HistoryForgotten(contract::HistoryForgotten {
                reservation_ids: strings(reservation_ids),
                request_ids: strings(request_ids),
            })
        }
        EventBody::NodeOpened { epoch } => Body::NodeOpened(contract::NodeOpened { epoch: *epoch }),
        EventBody::SaleDefined(_)
        | EventBody::SaleStateChanged { .. }
        | EventBody::PoolDefined(_)
        | EventBody::StockSupplied(_)
        | EventBody::StockWithdrawn(_)
        | EventBody::StockAdjusted { .. }
        | EventBody::StockMoved { .. }
        | EventBody::BufferPoured { .. }
        | EventBody::Reserved(_)
        | EventBody::PaymentBegun(_)
        | EventBody::PaymentSettled(_)
        | EventBody::PaymentNewsIgnored { .. }
        | EventBody::Confirmed
        | EventBody::Released { .. }
        | EventBody::Extended { .. }
        | EventBody::BecameOverdue
        | EventBody::ReleaseRequested { .. }
        | EventBody::CancelAtProviderRequested { .. }
        | EventBody::AskProviderRequested { .. }
        | EventBody::RefundBecameDue { .. }
        | EventBody::RefundRecorded { .. }
        | EventBody::Returned(_) => return None,
    })
}

fn text(text: Option<&Text>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn all_taken(taken: &[Taken]) -> Vec<contract::Taken> {
    taken.iter().map(taken_to_proto).collect()
}

fn sale_defined(body: &SaleDefined) -> contract::SaleDefined {
    contract::SaleDefined {
        opens_time: body.opens_at.map(time::instant),
        closes_time: body.closes_at.map(time::instant),
        policy: Some(policy_to_proto(&body.policy)),
        revision: body.revision,
        sale_state: enums::sale_state_number(body.state),
        expected_revision: body.expected_revision,
    }
}

fn policy_to_proto(policy: &SalePolicy) -> contract::SalePolicy {
    contract::SalePolicy {
        reservation_ttl: Some(time::span(policy.reservation_ttl)),
        settle_by: Some(time::span(policy.settle_by)),
        retry_grace: Some(time::span(policy.retry_grace)),
        max_life: Some(time::span(policy.max_life)),
        units_per_person_per_sku_max: policy.units_per_person_per_sku_max,
        units_per_person_max: policy.units_per_person_max,
        unpaid_reservations_per_person_max: Some(policy.unpaid_reservations_per_person_max.into()),
        attempts_per_reservation_max: Some(policy.attempts_per_reservation_max.into()),
        low_level_percent: Some(policy.low_level_percent.into()),
        is_unverified_release_allowed: policy.is_unverified_release_allowed,
        expiry_brake_lag: Some(time::span(policy.expiry_brake_lag)),
        does_return_give_limit_back: policy.does_return_give_limit_back,
        forget_after: Some(time::span(policy.forget_after)),
        does_forget_while_open: policy.does_forget_while_open,
    }
}

fn pool_defined(body: &PoolDefined) -> contract::PoolDefined {
    contract::PoolDefined {
        sku: body.sku.to_string(),
        pool: body.pool.to_string(),
        position: number(body.position),
        labels: labels_to_proto(&body.labels),
        is_offered: body.is_offered,
    }
}

fn reserved(body: &Reserved) -> contract::Reserved {
    contract::Reserved {
        person_id: body.person_id.to_string(),
        lines: body.lines.iter().map(line_to_proto).collect(),
        taken: all_taken(&body.taken),
        ttl: body.ttl.map(time::span),
        not_after_time: body.not_after.map(time::instant),
        expire_time: Some(time::instant(body.expires_at)),
        max_life_time: Some(time::instant(body.max_life_at)),
    }
}

fn payment_begun(body: &PaymentBegun) -> contract::PaymentBegun {
    contract::PaymentBegun {
        attempt_id: body.attempt_id.to_string(),
        provider: text(body.provider.as_ref()),
        amount_minor: body.amount_minor,
        currency: text(body.currency.as_ref()),
        settle_by_time: Some(time::instant(body.settle_by)),
        retaken: body.retaken,
        taken: all_taken(&body.taken),
        attempt_count: number(body.attempt_count),
    }
}

fn payment_settled(body: &PaymentSettled) -> contract::PaymentSettled {
    contract::PaymentSettled {
        attempt_id: body.attempt_id.to_string(),
        payment_result: enums::payment_result_number(body.payment_result),
        attempt_state: enums::attempt_state_number(body.attempt_state),
        state: enums::state_number(body.state),
        retaken: body.retaken,
        unregistered_attempt: body.unregistered_attempt,
        taken: all_taken(&body.taken),
        expire_time: body.expires_at.map(time::instant),
        occurred_time: body.occurred_at.map(time::instant),
        evidence: body.evidence.to_string(),
    }
}

fn returned(body: &Returned) -> contract::Returned {
    contract::Returned {
        sku: body.sku.to_string(),
        pool: text(body.pool.as_ref()),
        units: body.units,
        disposition: enums::disposition_number(body.disposition),
        give_limit_back: body.give_limit_back,
        is_limit_given_back: body.is_limit_given_back,
        taken: all_taken(&body.taken),
        state: enums::state_number(body.state),
    }
}
