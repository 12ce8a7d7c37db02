//! Owns the bounds of every field, checked before anything else.
//!
//! The door has checked them from the contract already; a value that gets past it must not break an
//! invariant of the ledger all the same. Must not look at the state. Next: `memory.rs`.

use crate::command::{Action, Command, Line, PutPool, PutSale, Reserve, SalePolicy, StockChange};
use crate::ids::{Millis, Text, Units, is_id};
use crate::limits::{
    ATTEMPT_COUNT_MAX, COUNTER_UNITS_MAX, FORGET_SPAN_MAX, ID_BYTES_MAX, INSTANT_MAX,
    LABEL_BYTES_MAX, LABEL_COUNT_MAX, LINE_COUNT_MAX, LINE_UNITS_MAX, REASON_BYTES_MAX, SPAN_MAX,
    SPLIT_COUNT_MAX,
};
use crate::outcome::ReleaseReason;

/// Nothing, or the name of the field that is out of bounds.
type Check = Result<(), &'static str>;

/// Who makes a command, and thus which of its own fields it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// A service, with an id of the command.
    Client,
    /// A service, whose command is known by the id of what it makes.
    Entity,
    /// A person, with an id, an actor and a reason.
    Operator,
    /// The node.
    Node,
}

/// Checks a command.
///
/// # Errors
/// The first field that is out of bounds, named as in the contract.
pub(crate) fn fields(command: &Command) -> Check {
    let maker = maker_of(&command.action);
    let has_id = matches!(maker, Maker::Client | Maker::Operator);
    let is_signed = maker == Maker::Operator;
    ensure(has_id == is_id(&command.request_id), "request_id")?;
    ensure(has_id || command.request_id.is_empty(), "request_id")?;
    ensure(command.caller.len() <= REASON_BYTES_MAX, "caller")?;
    ensure(is_signed != command.actor.is_empty(), "actor")?;
    ensure(command.actor.len() <= ID_BYTES_MAX, "actor")?;
    ensure(is_signed != command.reason.is_empty(), "reason")?;
    ensure(command.reason.len() <= REASON_BYTES_MAX, "reason")?;
    action(&command.action)
}

fn maker_of(action: &Action) -> Maker {
    match action {
        Action::Reserve(_) | Action::BeginPayment(_) => Maker::Entity,
        Action::Release {
            release_reason: ReleaseReason::SaleCancelled,
            ..
        }
        | Action::Expire { .. }
        | Action::BecomeOverdue { .. }
        | Action::OpenSale { .. }
        | Action::CloseSale { .. }
        | Action::Forget { .. }
        | Action::CreditOutage { .. }
        | Action::NoteNodeOpened { .. } => Maker::Node,
        Action::SettlePayment(_)
        | Action::Confirm { .. }
        | Action::Release { .. }
        | Action::Extend { .. }
        | Action::Return(_)
        | Action::RecordRefund { .. } => Maker::Client,
        Action::PutSale(_)
        | Action::SetSaleState { .. }
        | Action::PutPool(_)
        | Action::SupplyStock(_)
        | Action::WithdrawStock(_)
        | Action::AdjustStock { .. }
        | Action::MoveStock { .. }
        | Action::PourBuffer { .. }
        | Action::ReleaseUnverified { .. }
        | Action::MergePersons { .. }
        | Action::SplitPersons { .. }
        | Action::SetExpiryBrake { .. } => Maker::Operator,
    }
}

fn action(action: &Action) -> Check {
    match action {
        Action::Reserve(reserve) => self::reserve(reserve),
        Action::BeginPayment(begin) => {
            id(&begin.reservation_id, "reservation_id")?;
            id(&begin.attempt_id, "attempt_id")?;
            optional_id(begin.provider.as_ref(), "provider")?;
            optional_id(begin.currency.as_ref(), "currency")?;
            ensure(
                begin.amount_minor.is_none_or(|amount| amount >= 0),
                "amount_minor",
            )
        }
        Action::SettlePayment(settle) => {
            id(&settle.reservation_id, "reservation_id")?;
            id(&settle.attempt_id, "attempt_id")?;
            optional_instant(settle.occurred_at, "occurred_time")?;
            ensure(settle.evidence.len() <= REASON_BYTES_MAX, "evidence")
        }
        Action::Confirm { reservation_id }
        | Action::Release { reservation_id, .. }
        | Action::ReleaseUnverified { reservation_id }
        | Action::Expire { reservation_id }
        | Action::BecomeOverdue { reservation_id } => id(reservation_id, "reservation_id"),
        Action::Extend {
            reservation_id,
            extension,
        } => {
            id(reservation_id, "reservation_id")?;
            span(*extension, 1, "extension")
        }
        Action::Return(asked) => {
            id(&asked.reservation_id, "reservation_id")?;
            id(&asked.sku, "sku")?;
            optional_id(asked.pool.as_ref(), "pool")?;
            units(asked.units, LINE_UNITS_MAX)
        }
        Action::RecordRefund {
            reservation_id,
            attempt_id,
            evidence,
        } => {
            id(reservation_id, "reservation_id")?;
            id(attempt_id, "attempt_id")?;
            ensure(evidence.len() <= REASON_BYTES_MAX, "evidence")
        }
        _ => admin(action),
    }
}

fn admin(action: &Action) -> Check {
    match action {
        Action::PutSale(put) => put_sale(put),
        Action::SetSaleState { sale_id, .. }
        | Action::OpenSale { sale_id }
        | Action::CloseSale { sale_id }
        | Action::Forget { sale_id } => id(sale_id, "sale_id"),
        Action::PutPool(put) => put_pool(put),
        Action::SupplyStock(change) | Action::WithdrawStock(change) => {
            let StockChange {
                sale_id,
                sku,
                pool,
                units,
                ..
            } = change;
            names(sale_id, sku, pool)?;
            self::units(*units, COUNTER_UNITS_MAX)
        }
        Action::AdjustStock {
            sale_id,
            sku,
            pool,
            expected_available,
            available,
        } => {
            names(sale_id, sku, pool)?;
            let range = 0..=COUNTER_UNITS_MAX;
            ensure(range.contains(expected_available), "expected_available")?;
            ensure(range.contains(available), "available")
        }
        Action::MoveStock {
            sale_id,
            sku,
            source_pool,
            target_pool,
            units,
        } => {
            names(sale_id, sku, source_pool)?;
            id(target_pool, "target_pool")?;
            self::units(*units, COUNTER_UNITS_MAX)
        }
        Action::PourBuffer {
            sale_id,
            sku,
            pool,
            units,
        } => {
            names(sale_id, sku, pool)?;
            self::units(*units, COUNTER_UNITS_MAX)
        }
        Action::MergePersons {
            source_person_id,
            target_person_id,
        } => {
            id(source_person_id, "source_person_id")?;
            id(target_person_id, "target_person_id")
        }
        Action::SplitPersons { person_ids } => split_persons(person_ids),
        Action::SetExpiryBrake { until, .. } => optional_instant(*until, "until_time"),
        Action::CreditOutage { outage } => span(*outage, 1, "outage"),
        Action::NoteNodeOpened { epoch } => ensure(*epoch > 0, "epoch"),
        _ => Ok(()),
    }
}

fn reserve(reserve: &Reserve) -> Check {
    id(&reserve.reservation_id, "reservation_id")?;
    id(&reserve.sale_id, "sale_id")?;
    id(&reserve.person_id, "person_id")?;
    ensure((1..=LINE_COUNT_MAX).contains(&reserve.lines.len()), "lines")?;
    for Line { sku, pool, units } in &reserve.lines {
        id(sku, "lines.sku")?;
        optional_id(pool.as_ref(), "lines.pool")?;
        ensure((1..=LINE_UNITS_MAX).contains(units), "lines.units")?;
    }
    if let Some(ttl) = reserve.ttl {
        span(ttl, 1, "ttl")?;
    }
    optional_instant(reserve.not_after, "not_after_time")
}

fn put_sale(put: &PutSale) -> Check {
    id(&put.sale_id, "sale_id")?;
    optional_instant(put.opens_at, "opens_time")?;
    optional_instant(put.closes_at, "closes_time")?;
    ensure(
        put.expected_revision.is_none_or(|revision| revision >= 0),
        "expected_revision",
    )?;
    policy(&put.policy)
}

fn policy(policy: &SalePolicy) -> Check {
    span(policy.reservation_ttl, 1, "policy.reservation_ttl")?;
    span(policy.settle_by, 1, "policy.settle_by")?;
    span(policy.retry_grace, 0, "policy.retry_grace")?;
    span(policy.max_life, 1, "policy.max_life")?;
    span(policy.expiry_brake_lag, 0, "policy.expiry_brake_lag")?;
    ensure(
        (1..=FORGET_SPAN_MAX).contains(&policy.forget_after),
        "policy.forget_after",
    )?;
    let limits = 0..=COUNTER_UNITS_MAX;
    let per_sku = policy.units_per_person_per_sku_max;
    ensure(
        limits.contains(&per_sku),
        "policy.units_per_person_per_sku_max",
    )?;
    ensure(
        limits.contains(&policy.units_per_person_max),
        "policy.units_per_person_max",
    )?;
    let attempts = 1..=ATTEMPT_COUNT_MAX;
    let attempts_max = policy.attempts_per_reservation_max;
    ensure(
        attempts.contains(&attempts_max),
        "policy.attempts_per_reservation_max",
    )?;
    ensure(policy.low_level_percent <= 100, "policy.low_level_percent")
}

fn put_pool(put: &PutPool) -> Check {
    names(&put.sale_id, &put.sku, &put.pool)?;
    ensure(put.labels.len() <= LABEL_COUNT_MAX, "labels")?;
    for (place, (key, value)) in put.labels.iter().enumerate() {
        ensure((1..=LABEL_BYTES_MAX).contains(&key.len()), "labels")?;
        ensure(value.len() <= LABEL_BYTES_MAX, "labels")?;
        ensure(
            put.labels[..place].iter().all(|(other, _)| other != key),
            "labels",
        )?;
    }
    Ok(())
}

fn split_persons(person_ids: &[Text]) -> Check {
    let count = 1..=SPLIT_COUNT_MAX;
    ensure(count.contains(&person_ids.len()), "person_ids")?;
    for (place, person_id) in person_ids.iter().enumerate() {
        id(person_id, "person_ids")?;
        ensure(!person_ids[..place].contains(person_id), "person_ids")?;
    }
    Ok(())
}

fn ensure(holds: bool, field: &'static str) -> Check {
    if holds { Ok(()) } else { Err(field) }
}

fn id(text: &Text, field: &'static str) -> Check {
    ensure(is_id(text), field)
}

fn optional_id(text: Option<&Text>, field: &'static str) -> Check {
    ensure(text.is_none_or(|text| is_id(text)), field)
}

fn names(sale_id: &Text, sku: &Text, pool: &Text) -> Check {
    id(sale_id, "sale_id")?;
    id(sku, "sku")?;
    id(pool, "pool")
}

fn units(units: Units, bound: Units) -> Check {
    ensure((1..=bound).contains(&units), "units")
}

fn span(span: Millis, shortest: Millis, field: &'static str) -> Check {
    ensure((shortest..=SPAN_MAX).contains(&span), field)
}

fn optional_instant(instant: Option<Millis>, field: &'static str) -> Check {
    ensure(
        instant.is_none_or(|instant| (0..=INSTANT_MAX).contains(&instant)),
        field,
    )
}
