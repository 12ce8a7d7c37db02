//! Owns the way of an event's body from the contract's form to the engine's.
//!
//! Must refuse what it cannot read whole: a state rebuilt from half an event would be wrong without
//! anybody noticing. Next: `event_out.rs`, the way there.

use lastunit_engine::{
    EventBody, Millis, PaymentBegun, PaymentSettled, PoolDefined, Reserved, Returned, SaleDefined,
    StockBooked, Taken, Text,
};
use prost_types::{Duration, Timestamp};

use crate::command::{labels, line, optional_text, policy};
use crate::contract::{self, event::Body};
use crate::{enums, time};

/// The name of the field that is missing or has a value that is not known.
pub(crate) type Lack = &'static str;

/// Reads an instant that must be there.
pub(crate) fn instant(instant: Option<Timestamp>, field: Lack) -> Result<Millis, Lack> {
    instant.map(time::instant_millis).ok_or(field)
}

fn span(span: Option<Duration>, field: Lack) -> Result<Millis, Lack> {
    span.map(time::span_millis).ok_or(field)
}

fn count(number: i32, field: Lack) -> Result<u32, Lack> {
    u32::try_from(number).map_err(|_| field)
}

fn texts(strings: Vec<String>) -> Vec<Text> {
    strings.into_iter().map(Text::from).collect()
}

/// Makes the engine's form of what happened.
pub(crate) fn body_from_proto(body: Body) -> Result<EventBody, Lack> {
    match body {
        Body::SaleDefined(body) => sale_defined(&body).map(EventBody::SaleDefined),
        Body::SaleStateChanged(body) => sale_state_changed(body),
        Body::PoolDefined(body) => pool_defined(body).map(EventBody::PoolDefined),
        Body::StockSupplied(body) => Ok(EventBody::StockSupplied(StockBooked {
            sku: body.sku.into(),
            pool: body.pool.into(),
            units: body.units,
            is_buffer: body.is_buffer,
        })),
        Body::StockWithdrawn(body) => Ok(EventBody::StockWithdrawn(StockBooked {
            sku: body.sku.into(),
            pool: body.pool.into(),
            units: body.units,
            is_buffer: body.is_buffer,
        })),
        Body::StockAdjusted(body) => Ok(adjusted(body)),
        Body::StockMoved(body) => Ok(moved(body)),
        Body::BufferPoured(body) => Ok(poured(body)),
        Body::Reserved(body) => reserved(body).map(EventBody::Reserved),
        Body::PaymentBegun(body) => payment_begun(body).map(EventBody::PaymentBegun),
        Body::PaymentSettled(body) => payment_settled(body).map(EventBody::PaymentSettled),
        Body::PaymentNewsIgnored(body) => news_ignored(body),
        Body::Confirmed(contract::Confirmed {}) => Ok(EventBody::Confirmed),
        Body::Released(body) => released(body),
        Body::Extended(body) => extended(body),
        Body::BecameOverdue(contract::BecameOverdue {}) => Ok(EventBody::BecameOverdue),
        Body::ReleaseRequested(body) => release_requested(body),
        Body::CancelAtProviderRequested(body) => Ok(EventBody::CancelAtProviderRequested {
            attempt_id: body.attempt_id.into(),
        }),
        Body::AskProviderRequested(body) => Ok(EventBody::AskProviderRequested {
            attempt_id: body.attempt_id.into(),
        }),
        Body::RefundBecameDue(body) => Ok(EventBody::RefundBecameDue {
            attempt_id: body.attempt_id.into(),
        }),
        Body::RefundRecorded(body) => refund_recorded(body),
        Body::Returned(body) => returned(body).map(EventBody::Returned),
        Body::PersonsMerged(body) => Ok(persons_merged(body)),
        Body::PersonsSplit(body) => Ok(persons_split(body)),
        Body::ExpiryBrakeSet(body) => Ok(brake_set(&body)),
        Body::OutageCredited(body) => outage_credited(&body),
        Body::HistoryForgotten(body) => Ok(EventBody::HistoryForgotten {
            reservation_ids: texts(body.reservation_ids),
            request_ids: texts(body.request_ids),
        }),
        Body::NodeOpened(body) => Ok(EventBody::NodeOpened { epoch: body.epoch }),
    }
}

fn sale_defined(body: &contract::SaleDefined) -> Result<SaleDefined, Lack> {
    Ok(SaleDefined {
        opens_at: body.opens_time.map(time::instant_millis),
        closes_at: body.closes_time.map(time::instant_millis),
        policy: policy(body.policy.as_ref().ok_or("sale_defined.policy")?),
        expected_revision: body.expected_revision,
        revision: body.revision,
        state: enums::sale_state(body.sale_state).ok_or("sale_defined.sale_state")?,
    })
}

fn sale_state_changed(body: contract::SaleStateChanged) -> Result<EventBody, Lack> {
    let state = |number| enums::sale_state(number).ok_or("sale_state_changed.sale_state");
    Ok(EventBody::SaleStateChanged {
        state_from: state(body.sale_state_from)?,
        state_to: state(body.sale_state_to)?,
    })
}

fn pool_defined(body: contract::PoolDefined) -> Result<PoolDefined, Lack> {
    Ok(PoolDefined {
        sku: body.sku.into(),
        pool: body.pool.into(),
        position: count(body.position, "pool_defined.position")?,
        labels: labels(body.labels),
        is_offered: body.is_offered,
    })
}

fn adjusted(body: contract::StockAdjusted) -> EventBody {
    EventBody::StockAdjusted {
        sku: body.sku.into(),
        pool: body.pool.into(),
        expected_available: body.expected_available,
        available: body.available,
    }
}

fn moved(body: contract::StockMoved) -> EventBody {
    EventBody::StockMoved {
        sku: body.sku.into(),
        source_pool: body.source_pool.into(),
        target_pool: body.target_pool.into(),
        units: body.units,
    }
}

fn poured(body: contract::BufferPoured) -> EventBody {
    EventBody::BufferPoured {
        sku: body.sku.into(),
        pool: body.pool.into(),
        units: body.units,
    }
}

fn taken(list: Vec<contract::Taken>) -> Result<Vec<Taken>, Lack> {
    let one = |taken: contract::Taken| {
        Ok(Taken {
            line_index: count(taken.line_index, "taken.line_index")?,
            sku: taken.sku.into(),
            pool: taken.pool.into(),
            units: taken.units,
            is_from_buffer: taken.is_from_buffer,
        })
    };
    list.into_iter().map(one).collect()
}

fn reserved(body: contract::Reserved) -> Result<Reserved, Lack> {
    Ok(Reserved {
        person_id: body.person_id.into(),
        lines: body.lines.into_iter().map(line).collect(),
        ttl: body.ttl.map(time::span_millis),
        not_after: body.not_after_time.map(time::instant_millis),
        expires_at: instant(body.expire_time, "reserved.expire_time")?,
        max_life_at: instant(body.max_life_time, "reserved.max_life_time")?,
        taken: taken(body.taken)?,
    })
}

fn payment_begun(body: contract::PaymentBegun) -> Result<PaymentBegun, Lack> {
    Ok(PaymentBegun {
        attempt_id: body.attempt_id.into(),
        provider: optional_text(body.provider),
        amount_minor: body.amount_minor,
        currency: optional_text(body.currency),
        settle_by: instant(body.settle_by_time, "payment_begun.settle_by_time")?,
        attempt_count: count(body.attempt_count, "payment_begun.attempt_count")?,
        retaken: body.retaken,
        taken: taken(body.taken)?,
    })
}

fn payment_settled(body: contract::PaymentSettled) -> Result<PaymentSettled, Lack> {
    let result = enums::payment_result(body.payment_result);
    let attempt_state = enums::attempt_state(body.attempt_state);
    Ok(PaymentSettled {
        attempt_id: body.attempt_id.into(),
        payment_result: result.ok_or("payment_settled.payment_result")?,
        occurred_at: body.occurred_time.map(time::instant_millis),
        evidence: body.evidence.into(),
        attempt_state: attempt_state.ok_or("payment_settled.attempt_state")?,
        state: enums::state(body.state).ok_or("payment_settled.state")?,
        expires_at: body.expire_time.map(time::instant_millis),
        unregistered_attempt: body.unregistered_attempt,
        retaken: body.retaken,
        taken: taken(body.taken)?,
    })
}

fn news_ignored(body: contract::PaymentNewsIgnored) -> Result<EventBody, Lack> {
    let result = enums::payment_result(body.payment_result);
    let attempt_state = enums::attempt_state(body.attempt_state);
    Ok(EventBody::PaymentNewsIgnored {
        attempt_id: body.attempt_id.into(),
        payment_result: result.ok_or("payment_news_ignored.payment_result")?,
        occurred_at: body.occurred_time.map(time::instant_millis),
        evidence: body.evidence.into(),
        attempt_state: attempt_state.ok_or("payment_news_ignored.attempt_state")?,
    })
}

fn released(body: contract::Released) -> Result<EventBody, Lack> {
    let reason = enums::release_reason(body.release_reason);
    let release_reason = reason.ok_or("released.release_reason")?;
    Ok(EventBody::Released { release_reason })
}

fn extended(body: contract::Extended) -> Result<EventBody, Lack> {
    Ok(EventBody::Extended {
        extension: span(body.extension, "extended.extension")?,
        expires_at: instant(body.expire_time, "extended.expire_time")?,
    })
}

fn release_requested(body: contract::ReleaseRequested) -> Result<EventBody, Lack> {
    let reason = enums::release_reason(body.release_reason);
    let release_reason = reason.ok_or("release_requested.release_reason")?;
    Ok(EventBody::ReleaseRequested { release_reason })
}

fn refund_recorded(body: contract::RefundRecorded) -> Result<EventBody, Lack> {
    Ok(EventBody::RefundRecorded {
        attempt_id: body.attempt_id.into(),
        evidence: body.evidence.into(),
        state: enums::state(body.state).ok_or("refund_recorded.state")?,
    })
}

fn returned(body: contract::Returned) -> Result<Returned, Lack> {
    Ok(Returned {
        sku: body.sku.into(),
        pool: optional_text(body.pool),
        units: body.units,
        disposition: enums::disposition(body.disposition).ok_or("returned.disposition")?,
        give_limit_back: body.give_limit_back,
        is_limit_given_back: body.is_limit_given_back,
        taken: taken(body.taken)?,
        state: enums::state(body.state).ok_or("returned.state")?,
    })
}

fn persons_merged(body: contract::PersonsMerged) -> EventBody {
    EventBody::PersonsMerged {
        source_person_id: body.source_person_id.into(),
        target_person_id: body.target_person_id.into(),
    }
}

fn persons_split(body: contract::PersonsSplit) -> EventBody {
    EventBody::PersonsSplit {
        person_ids: body.person_ids.into_iter().map(Into::into).collect(),
    }
}

fn brake_set(body: &contract::ExpiryBrakeSet) -> EventBody {
    EventBody::ExpiryBrakeSet {
        is_on: body.is_on,
        until: body.until_time.map(time::instant_millis),
    }
}

fn outage_credited(body: &contract::OutageCredited) -> Result<EventBody, Lack> {
    let outage = span(body.credit, "outage_credited.credit")?;
    Ok(EventBody::OutageCredited { outage })
}
