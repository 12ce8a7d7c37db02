//! Commands as the bytes that a client sends.
//!
//! Owns: the turning of engine commands into messages of the contract, which the node then decodes:
//! what it decides must be the very command that was meant. Must not: judge. Where next:
//! `world.rs`.

use lastunit_engine::{
    Action, Command, Disposition, Line, Millis, PaymentResult, ReleaseReason, SalePolicy,
    SaleState, Text,
};
use lastunit_wire::{Method, contract};
use prost::Message;
use prost_types::{Duration, Timestamp};

fn instant(millis: Millis) -> Timestamp {
    Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: nanos(millis.rem_euclid(1_000)),
    }
}

fn span(millis: Millis) -> Duration {
    Duration {
        seconds: millis / 1_000,
        nanos: nanos(millis % 1_000),
    }
}

fn nanos(millis: Millis) -> i32 {
    i32::try_from(millis * 1_000_000).expect("less than a second")
}

fn optional(text: Option<&Text>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn line(line: &Line) -> contract::Line {
    contract::Line {
        sku: line.sku.to_string(),
        pool: optional(line.pool.as_ref()),
        units: line.units,
    }
}

fn result(result: PaymentResult) -> i32 {
    match result {
        PaymentResult::Succeeded => contract::PaymentResult::Succeeded.into(),
        PaymentResult::Failed => contract::PaymentResult::Failed.into(),
        PaymentResult::Cancelled => contract::PaymentResult::Cancelled.into(),
    }
}

fn reason(reason: ReleaseReason) -> i32 {
    match reason {
        ReleaseReason::Operator => contract::ReleaseReason::Operator.into(),
        _ => contract::ReleaseReason::Client.into(),
    }
}

fn disposition(disposition: Disposition) -> i32 {
    match disposition {
        Disposition::Resell => contract::Disposition::Resell.into(),
        Disposition::Quarantine => contract::Disposition::Quarantine.into(),
        Disposition::WriteOff => contract::Disposition::WriteOff.into(),
    }
}

fn sale_state(state: SaleState) -> i32 {
    match state {
        SaleState::Scheduled => contract::SaleState::Scheduled.into(),
        SaleState::Open => contract::SaleState::Open.into(),
        SaleState::Paused => contract::SaleState::Paused.into(),
        SaleState::Closed => contract::SaleState::Closed.into(),
        SaleState::Cancelled => contract::SaleState::Cancelled.into(),
        SaleState::Archived => contract::SaleState::Archived.into(),
    }
}

fn policy(policy: &SalePolicy) -> contract::SalePolicy {
    contract::SalePolicy {
        reservation_ttl: Some(span(policy.reservation_ttl)),
        settle_by: Some(span(policy.settle_by)),
        retry_grace: Some(span(policy.retry_grace)),
        max_life: Some(span(policy.max_life)),
        units_per_person_per_sku_max: policy.units_per_person_per_sku_max,
        units_per_person_max: policy.units_per_person_max,
        unpaid_reservations_per_person_max: Some(policy.unpaid_reservations_per_person_max.into()),
        attempts_per_reservation_max: Some(policy.attempts_per_reservation_max.into()),
        low_level_percent: Some(policy.low_level_percent.into()),
        is_unverified_release_allowed: policy.is_unverified_release_allowed,
        expiry_brake_lag: Some(span(policy.expiry_brake_lag)),
        does_return_give_limit_back: policy.does_return_give_limit_back,
        ..Default::default()
    }
}

/// An operation of a batch; none if the command cannot be one.
pub(crate) fn operation(command: &Command) -> Option<contract::Operation> {
    use contract::operation::Request;
    let request = match to_call(command)? {
        Call::Reserve(call) => Request::Reserve(call),
        Call::BeginPayment(call) => Request::BeginPayment(call),
        Call::SettlePayment(call) => Request::SettlePayment(call),
        Call::Confirm(call) => Request::Confirm(call),
        Call::Release(call) => Request::Release(call),
        Call::Extend(call) => Request::Extend(call),
        Call::Return(call) => Request::ReturnUnits(call),
        Call::RecordRefund(call) => Request::RecordRefund(call),
    };
    Some(contract::Operation {
        request: Some(request),
    })
}

enum Call {
    Reserve(contract::ReserveRequest),
    BeginPayment(contract::BeginPaymentRequest),
    SettlePayment(contract::SettlePaymentRequest),
    Confirm(contract::ConfirmRequest),
    Release(contract::ReleaseRequest),
    Extend(contract::ExtendRequest),
    Return(contract::ReturnRequest),
    RecordRefund(contract::RecordRefundRequest),
}

fn to_call(command: &Command) -> Option<Call> {
    let request_id = command.request_id.to_string();
    Some(match &command.action {
        Action::Reserve(reserve) => Call::Reserve(contract::ReserveRequest {
            reservation_id: reserve.reservation_id.to_string(),
            sale_id: reserve.sale_id.to_string(),
            person_id: reserve.person_id.to_string(),
            lines: reserve.lines.iter().map(line).collect(),
            ttl: reserve.ttl.map(span),
            not_after_time: reserve.not_after.map(instant),
        }),
        Action::BeginPayment(begin) => Call::BeginPayment(contract::BeginPaymentRequest {
            reservation_id: begin.reservation_id.to_string(),
            attempt_id: begin.attempt_id.to_string(),
            provider: optional(begin.provider.as_ref()),
            amount_minor: begin.amount_minor,
            currency: optional(begin.currency.as_ref()),
        }),
        Action::SettlePayment(settle) => Call::SettlePayment(contract::SettlePaymentRequest {
            request_id,
            reservation_id: settle.reservation_id.to_string(),
            attempt_id: settle.attempt_id.to_string(),
            payment_result: result(settle.payment_result),
            occurred_time: settle.occurred_at.map(instant),
            evidence: settle.evidence.to_string(),
        }),
        Action::Confirm { reservation_id } => Call::Confirm(contract::ConfirmRequest {
            request_id,
            reservation_id: reservation_id.to_string(),
        }),
        Action::Release {
            reservation_id,
            release_reason,
        } => Call::Release(contract::ReleaseRequest {
            request_id,
            reservation_id: reservation_id.to_string(),
            release_reason: reason(*release_reason),
        }),
        Action::Extend {
            reservation_id,
            extension,
        } => Call::Extend(contract::ExtendRequest {
            request_id,
            reservation_id: reservation_id.to_string(),
            extension: Some(span(*extension)),
        }),
        Action::Return(asked) => Call::Return(contract::ReturnRequest {
            request_id,
            reservation_id: asked.reservation_id.to_string(),
            sku: asked.sku.to_string(),
            pool: optional(asked.pool.as_ref()),
            units: asked.units,
            disposition: disposition(asked.disposition),
            give_limit_back: asked.give_limit_back,
        }),
        Action::RecordRefund {
            reservation_id,
            attempt_id,
            evidence,
        } => Call::RecordRefund(contract::RecordRefundRequest {
            request_id,
            reservation_id: reservation_id.to_string(),
            attempt_id: attempt_id.to_string(),
            evidence: evidence.to_string(),
        }),
        _ => return None,
    })
}

/// The method and the bytes of a command that a client can send.
///
/// # Panics
/// For a timer, which no client sends.
pub(crate) fn encode(command: &Command) -> (Method, Vec<u8>) {
    match to_call(command) {
        Some(Call::Reserve(call)) => (Method::Reserve, call.encode_to_vec()),
        Some(Call::BeginPayment(call)) => (Method::BeginPayment, call.encode_to_vec()),
        Some(Call::SettlePayment(call)) => (Method::SettlePayment, call.encode_to_vec()),
        Some(Call::Confirm(call)) => (Method::Confirm, call.encode_to_vec()),
        Some(Call::Release(call)) => (Method::Release, call.encode_to_vec()),
        Some(Call::Extend(call)) => (Method::Extend, call.encode_to_vec()),
        Some(Call::Return(call)) => (Method::Return, call.encode_to_vec()),
        Some(Call::RecordRefund(call)) => (Method::RecordRefund, call.encode_to_vec()),
        None => encode_admin(command),
    }
}

macro_rules! admin {
    ($command:expr, $method:ident, $message:ident { $($field:ident: $value:expr),* $(,)? }) => {
        (Method::$method, contract::$message {
            request_id: $command.request_id.to_string(),
            actor: $command.actor.to_string(),
            reason: $command.reason.to_string(),
            $($field: $value,)*
        }.encode_to_vec())
    };
}

fn encode_admin(command: &Command) -> (Method, Vec<u8>) {
    match &command.action {
        Action::PutSale(put) => admin!(
            command,
            PutSale,
            PutSaleRequest {
                sale_id: put.sale_id.to_string(),
                opens_time: put.opens_at.map(instant),
                closes_time: put.closes_at.map(instant),
                policy: Some(policy(&put.policy)),
                expected_revision: put.expected_revision,
            }
        ),
        Action::SetSaleState { sale_id, state } => {
            admin!(
                command,
                SetSaleState,
                SetSaleStateRequest {
                    sale_id: sale_id.to_string(),
                    state: sale_state(*state),
                }
            )
        }
        Action::PutPool(put) => admin!(
            command,
            PutPool,
            PutPoolRequest {
                sale_id: put.sale_id.to_string(),
                sku: put.sku.to_string(),
                pool: put.pool.to_string(),
                position: i32::try_from(put.position).expect("small"),
                is_offered: put.is_offered,
                labels: std::collections::BTreeMap::new(),
            }
        ),
        Action::ReleaseUnverified { reservation_id } => {
            admin!(
                command,
                ReleaseUnverified,
                ReleaseUnverifiedRequest {
                    reservation_id: reservation_id.to_string(),
                }
            )
        }
        Action::SetExpiryBrake { is_on, until } => {
            admin!(
                command,
                SetExpiryBrake,
                SetExpiryBrakeRequest {
                    is_on: *is_on,
                    until_time: until.map(instant),
                }
            )
        }
        _ => encode_persons(command),
    }
}

fn encode_persons(command: &Command) -> (Method, Vec<u8>) {
    match &command.action {
        Action::MergePersons {
            source_person_id,
            target_person_id,
        } => {
            admin!(
                command,
                MergePersons,
                MergePersonsRequest {
                    source_person_id: source_person_id.to_string(),
                    target_person_id: target_person_id.to_string(),
                }
            )
        }
        Action::SplitPersons { person_ids } => {
            admin!(
                command,
                SplitPersons,
                SplitPersonsRequest {
                    person_ids: person_ids.iter().map(ToString::to_string).collect(),
                }
            )
        }
        _ => encode_stock(command),
    }
}

fn encode_stock(command: &Command) -> (Method, Vec<u8>) {
    match &command.action {
        Action::SupplyStock(change) => admin!(
            command,
            SupplyStock,
            SupplyStockRequest {
                sale_id: change.sale_id.to_string(),
                sku: change.sku.to_string(),
                pool: change.pool.to_string(),
                units: change.units,
                is_buffer: change.is_buffer,
            }
        ),
        Action::WithdrawStock(change) => admin!(
            command,
            WithdrawStock,
            WithdrawStockRequest {
                sale_id: change.sale_id.to_string(),
                sku: change.sku.to_string(),
                pool: change.pool.to_string(),
                units: change.units,
                is_buffer: change.is_buffer,
            }
        ),
        Action::AdjustStock {
            sale_id,
            sku,
            pool,
            expected_available,
            available,
        } => {
            admin!(
                command,
                AdjustStock,
                AdjustStockRequest {
                    sale_id: sale_id.to_string(),
                    sku: sku.to_string(),
                    pool: pool.to_string(),
                    expected_available: *expected_available,
                    available: *available,
                }
            )
        }
        _ => encode_move(command),
    }
}

fn encode_move(command: &Command) -> (Method, Vec<u8>) {
    match &command.action {
        Action::MoveStock {
            sale_id,
            sku,
            source_pool,
            target_pool,
            units,
        } => {
            admin!(
                command,
                MoveStock,
                MoveStockRequest {
                    sale_id: sale_id.to_string(),
                    sku: sku.to_string(),
                    source_pool: source_pool.to_string(),
                    target_pool: target_pool.to_string(),
                    units: *units,
                }
            )
        }
        Action::PourBuffer {
            sale_id,
            sku,
            pool,
            units,
        } => {
            admin!(
                command,
                PourBuffer,
                PourBufferRequest {
                    sale_id: sale_id.to_string(),
                    sku: sku.to_string(),
                    pool: pool.to_string(),
                    units: *units,
                }
            )
        }
        _ => unreachable!("only the node makes this command"),
    }
}

/// The bytes of a question about one reservation.
pub(crate) fn get_reservation(reservation_id: &str) -> (Method, Vec<u8>) {
    let request = contract::GetReservationRequest {
        reservation_id: reservation_id.to_owned(),
    };
    (Method::GetReservation, request.encode_to_vec())
}

/// The bytes of a question about all skus of a sale.
pub(crate) fn get_availability(sale_id: &str) -> (Method, Vec<u8>) {
    let request = contract::GetAvailabilityRequest {
        sale_id: sale_id.to_owned(),
        skus: Vec::new(),
    };
    (Method::GetAvailability, request.encode_to_vec())
}
