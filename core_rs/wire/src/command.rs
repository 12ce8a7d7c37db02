//! Owns the turning of checked messages into the engine's commands.
//!
//! Must not check again what the contract's rules have checked, nor give a field a meaning of its
//! own. An empty text that the contract allows is "not given". Next: `enums.rs`, `time.rs`.

use lastunit_engine::{self as engine, Action, Command, Millis, SalePolicy, Text};
use prost_types::{Duration, Timestamp};

use crate::check::Violation;
use crate::decode::{IntoRequest, Request};
use crate::fault::Fault;
use crate::{contract, enums, time};

/// Who sent a command, by which id, and for whom.
struct Head<'a> {
    request_id: String,
    caller: &'a str,
    actor: String,
    reason: String,
}

impl Head<'_> {
    fn command(self, action: Action) -> Request {
        Request::Command(Command {
            request_id: self.request_id.into(),
            caller: self.caller.into(),
            actor: self.actor.into(),
            reason: self.reason.into(),
            action,
        })
    }
}

/// Makes a command that goes by the id of what it makes.
fn command_without_id(caller: &str, action: Action) -> Request {
    Request::Command(Command::from_caller("", caller, action))
}

fn command(request_id: &str, caller: &str, action: Action) -> Request {
    Request::Command(Command::from_caller(request_id, caller, action))
}

/// Empty is "not given".
pub(crate) fn optional_text(text: String) -> Option<Text> {
    (!text.is_empty()).then(|| text.into())
}

fn optional_instant(instant: Option<Timestamp>) -> Option<Millis> {
    instant.map(time::instant_millis)
}

/// Says that an enum has no value; the contract's rules have refused that already.
fn chosen<T>(value: Option<T>, field: &str) -> Result<T, Fault> {
    value.ok_or_else(|| {
        Fault::invalid(vec![Violation {
            field: field.to_owned(),
            rule: "enum.defined_only",
            description: "must be a value of the enum".to_owned(),
        }])
    })
}

/// A checked number fits; what does not is held at the bound instead of wrapping.
fn small(checked: i64) -> u32 {
    u32::try_from(checked.max(0)).unwrap_or(u32::MAX)
}

/// Makes a line of the engine.
pub(crate) fn line(line: contract::Line) -> engine::Line {
    engine::Line {
        sku: line.sku.into(),
        pool: optional_text(line.pool),
        units: line.units,
    }
}

/// Makes the rules of a sale; what is not set has the engine's default.
pub(crate) fn policy(policy: &contract::SalePolicy) -> SalePolicy {
    let default = SalePolicy::default();
    let span = |span: Option<Duration>, default| span.map_or(default, time::span_millis);
    let number = |number: Option<i64>, default| number.map_or(default, small);
    SalePolicy {
        reservation_ttl: span(policy.reservation_ttl, default.reservation_ttl),
        settle_by: span(policy.settle_by, default.settle_by),
        retry_grace: span(policy.retry_grace, default.retry_grace),
        max_life: span(policy.max_life, default.max_life),
        units_per_person_per_sku_max: policy.units_per_person_per_sku_max,
        units_per_person_max: policy.units_per_person_max,
        unpaid_reservations_per_person_max: number(
            policy.unpaid_reservations_per_person_max,
            default.unpaid_reservations_per_person_max,
        ),
        attempts_per_reservation_max: number(
            policy.attempts_per_reservation_max,
            default.attempts_per_reservation_max,
        ),
        low_level_percent: number(policy.low_level_percent, default.low_level_percent),
        is_unverified_release_allowed: policy.is_unverified_release_allowed,
        expiry_brake_lag: span(policy.expiry_brake_lag, default.expiry_brake_lag),
        does_return_give_limit_back: policy.does_return_give_limit_back,
        forget_after: span(policy.forget_after, default.forget_after),
        does_forget_while_open: policy.does_forget_while_open,
    }
}

impl IntoRequest for contract::ReserveRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let action = Action::Reserve(engine::Reserve {
            reservation_id: self.reservation_id.into(),
            sale_id: self.sale_id.into(),
            person_id: self.person_id.into(),
            lines: self.lines.into_iter().map(line).collect(),
            ttl: self.ttl.map(time::span_millis),
            not_after: optional_instant(self.not_after_time),
        });
        Ok(command_without_id(caller, action))
    }
}

impl IntoRequest for contract::BeginPaymentRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let action = Action::BeginPayment(engine::BeginPayment {
            reservation_id: self.reservation_id.into(),
            attempt_id: self.attempt_id.into(),
            provider: optional_text(self.provider),
            amount_minor: self.amount_minor,
            currency: optional_text(self.currency),
        });
        Ok(command_without_id(caller, action))
    }
}

impl IntoRequest for contract::SettlePaymentRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let result = enums::payment_result(self.payment_result);
        let action = Action::SettlePayment(engine::SettlePayment {
            reservation_id: self.reservation_id.into(),
            attempt_id: self.attempt_id.into(),
            payment_result: chosen(result, "payment_result")?,
            occurred_at: optional_instant(self.occurred_time),
            evidence: self.evidence.into(),
        });
        Ok(command(&self.request_id, caller, action))
    }
}

impl IntoRequest for contract::ConfirmRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let reservation_id = self.reservation_id.into();
        let action = Action::Confirm { reservation_id };
        Ok(command(&self.request_id, caller, action))
    }
}

impl IntoRequest for contract::ReleaseRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let reason = enums::release_reason(self.release_reason);
        let action = Action::Release {
            reservation_id: self.reservation_id.into(),
            release_reason: chosen(reason, "release_reason")?,
        };
        Ok(command(&self.request_id, caller, action))
    }
}

impl IntoRequest for contract::ExtendRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let action = Action::Extend {
            reservation_id: self.reservation_id.into(),
            extension: self.extension.map_or(0, time::span_millis),
        };
        Ok(command(&self.request_id, caller, action))
    }
}

impl IntoRequest for contract::ReturnRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let action = Action::Return(engine::Return {
            reservation_id: self.reservation_id.into(),
            sku: self.sku.into(),
            pool: optional_text(self.pool),
            units: self.units,
            disposition: chosen(enums::disposition(self.disposition), "disposition")?,
            give_limit_back: self.give_limit_back,
        });
        Ok(command(&self.request_id, caller, action))
    }
}

impl IntoRequest for contract::RecordRefundRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault> {
        let action = Action::RecordRefund {
            reservation_id: self.reservation_id.into(),
            attempt_id: self.attempt_id.into(),
            evidence: self.evidence.into(),
        };
        Ok(command(&self.request_id, caller, action))
    }
}

/// Implements the way of an operator's command: head fields, then the action.
macro_rules! operator_command {
    ($message:ident, $self:ident => $action:expr) => {
        impl IntoRequest for contract::$message {
            fn into_request($self, caller: &str) -> Result<Request, Fault> {
                let action = $action;
                let head = Head {
                    request_id: $self.request_id,
                    caller,
                    actor: $self.actor,
                    reason: $self.reason,
                };
                Ok(head.command(action))
            }
        }
    };
}

operator_command!(PutSaleRequest, self => Action::PutSale(engine::PutSale {
    sale_id: self.sale_id.into(),
    opens_at: optional_instant(self.opens_time),
    closes_at: optional_instant(self.closes_time),
    policy: policy(&self.policy.unwrap_or_default()),
    expected_revision: self.expected_revision,
}));
operator_command!(SetSaleStateRequest, self => Action::SetSaleState {
    sale_id: self.sale_id.into(),
    state: chosen(enums::sale_state(self.state), "state")?,
});
operator_command!(PutPoolRequest, self => Action::PutPool(engine::PutPool {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    pool: self.pool.into(),
    position: self.position.unsigned_abs(),
    labels: labels(self.labels),
    is_offered: self.is_offered,
}));
operator_command!(SupplyStockRequest, self => Action::SupplyStock(engine::StockChange {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    pool: self.pool.into(),
    units: self.units,
    is_buffer: self.is_buffer,
}));
operator_command!(WithdrawStockRequest, self => Action::WithdrawStock(engine::StockChange {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    pool: self.pool.into(),
    units: self.units,
    is_buffer: self.is_buffer,
}));
operator_command!(AdjustStockRequest, self => Action::AdjustStock {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    pool: self.pool.into(),
    expected_available: self.expected_available,
    available: self.available,
});
operator_command!(MoveStockRequest, self => Action::MoveStock {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    source_pool: self.source_pool.into(),
    target_pool: self.target_pool.into(),
    units: self.units,
});
operator_command!(PourBufferRequest, self => Action::PourBuffer {
    sale_id: self.sale_id.into(),
    sku: self.sku.into(),
    pool: self.pool.into(),
    units: self.units,
});
operator_command!(ReleaseUnverifiedRequest, self => Action::ReleaseUnverified {
    reservation_id: self.reservation_id.into(),
});
operator_command!(MergePersonsRequest, self => Action::MergePersons {
    source_person_id: self.source_person_id.into(),
    target_person_id: self.target_person_id.into(),
});
operator_command!(SplitPersonsRequest, self => Action::SplitPersons {
    person_ids: self.person_ids.into_iter().map(Into::into).collect(),
});
operator_command!(SetExpiryBrakeRequest, self => Action::SetExpiryBrake {
    is_on: self.is_on,
    until: optional_instant(self.until_time),
});

/// The map is ordered by key, and so is the engine's list.
pub(crate) fn labels(map: std::collections::BTreeMap<String, String>) -> Vec<(Text, Text)> {
    let pairs = map.into_iter();
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}
