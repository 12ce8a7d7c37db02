//! Owns the comparison of a request with what was done under its id: the first field that differs.
//!
//! Must not know what a command does. Fields are named as in the contract, and come in its order.
//! Next: `check.rs`.

use crate::command::{Action, Command, PutPool, PutSale, Return, SalePolicy, SettlePayment};
use crate::event::{EventBody, PoolDefined, Returned, SaleDefined, StockBooked};
use crate::outcome::ReleaseReason;

/// The first field that differs, if any.
pub(crate) type Difference = Option<&'static str>;

/// What was done under an id.
pub(crate) struct Done<'a> {
    pub(crate) sale_id: &'a str,
    pub(crate) reservation_id: &'a str,
    pub(crate) body: &'a EventBody,
}

/// The first field in which `command` differs from what was done.
pub(crate) fn difference(done: &Done<'_>, command: &Command) -> Difference {
    if !is_same_kind(done.body, &command.action) {
        return Some("command");
    }
    let name = match names_of(&command.action) {
        Names::Sale(asked) if asked != done.sale_id => Some("sale_id"),
        Names::Reservation(asked) if asked != done.reservation_id => Some("reservation_id"),
        _ => None,
    };
    name.or_else(|| content_difference(done.body, &command.action))
}

fn first_difference(fields: &[(&'static str, bool)]) -> Difference {
    fields
        .iter()
        .find(|(_, is_equal)| !is_equal)
        .map(|(name, _)| *name)
}

/// What a command is about, beside its other fields.
enum Names<'a> {
    Sale(&'a str),
    Reservation(&'a str),
    Ledger,
}

fn names_of(action: &Action) -> Names<'_> {
    match action {
        Action::PutSale(PutSale { sale_id, .. })
        | Action::SetSaleState { sale_id, .. }
        | Action::PutPool(PutPool { sale_id, .. })
        | Action::AdjustStock { sale_id, .. }
        | Action::MoveStock { sale_id, .. }
        | Action::PourBuffer { sale_id, .. } => Names::Sale(sale_id),
        Action::SupplyStock(change) | Action::WithdrawStock(change) => Names::Sale(&change.sale_id),
        Action::SettlePayment(SettlePayment { reservation_id, .. })
        | Action::Confirm { reservation_id }
        | Action::Release { reservation_id, .. }
        | Action::Extend { reservation_id, .. }
        | Action::Return(Return { reservation_id, .. })
        | Action::RecordRefund { reservation_id, .. }
        | Action::ReleaseUnverified { reservation_id } => Names::Reservation(reservation_id),
        // The others are of the whole ledger, or are never remembered by a request.
        _ => Names::Ledger,
    }
}

/// Says whether `body` is what a command such as `action` leaves.
fn is_same_kind(body: &EventBody, action: &Action) -> bool {
    match (body, action) {
        (EventBody::Released { release_reason }, Action::Release { .. }) => {
            *release_reason != ReleaseReason::Unverified
        }
        (EventBody::Released { release_reason }, Action::ReleaseUnverified { .. }) => {
            *release_reason == ReleaseReason::Unverified
        }
        (
            EventBody::PaymentSettled(_) | EventBody::PaymentNewsIgnored { .. },
            Action::SettlePayment(_),
        )
        | (EventBody::Confirmed, Action::Confirm { .. })
        | (EventBody::ReleaseRequested { .. }, Action::Release { .. })
        | (EventBody::Extended { .. }, Action::Extend { .. })
        | (EventBody::Returned(_), Action::Return(_))
        | (EventBody::RefundRecorded { .. }, Action::RecordRefund { .. })
        | (EventBody::SaleDefined(_), Action::PutSale(_))
        | (EventBody::SaleStateChanged { .. }, Action::SetSaleState { .. })
        | (EventBody::PoolDefined(_), Action::PutPool(_))
        | (EventBody::StockSupplied(_), Action::SupplyStock(_))
        | (EventBody::StockWithdrawn(_), Action::WithdrawStock(_))
        | (EventBody::StockAdjusted { .. }, Action::AdjustStock { .. })
        | (EventBody::StockMoved { .. }, Action::MoveStock { .. })
        | (EventBody::BufferPoured { .. }, Action::PourBuffer { .. })
        | (EventBody::PersonsMerged { .. }, Action::MergePersons { .. })
        | (EventBody::PersonsSplit { .. }, Action::SplitPersons { .. })
        | (EventBody::ExpiryBrakeSet { .. }, Action::SetExpiryBrake { .. }) => true,
        _ => false,
    }
}

fn content_difference(body: &EventBody, action: &Action) -> Difference {
    match action {
        Action::SettlePayment(asked) => settle_difference(body, asked),
        Action::AdjustStock { .. } | Action::MoveStock { .. } | Action::PourBuffer { .. } => {
            stock_difference(body, action)
        }
        _ => other_difference(body, action),
    }
}

fn other_difference(body: &EventBody, action: &Action) -> Difference {
    match (body, action) {
        (
            EventBody::Released {
                release_reason: done,
            }
            | EventBody::ReleaseRequested {
                release_reason: done,
            },
            Action::Release {
                release_reason: asked,
                ..
            },
        ) => first_difference(&[("release_reason", done == asked)]),
        (
            EventBody::Extended {
                extension: done, ..
            },
            Action::Extend {
                extension: asked, ..
            },
        ) => first_difference(&[("extension", done == asked)]),
        (EventBody::Returned(done), Action::Return(asked)) => return_difference(done, asked),
        (
            EventBody::RefundRecorded {
                attempt_id,
                evidence,
                ..
            },
            Action::RecordRefund {
                attempt_id: asked_id,
                evidence: asked_evidence,
                ..
            },
        ) => first_difference(&[
            ("attempt_id", attempt_id == asked_id),
            ("evidence", evidence == asked_evidence),
        ]),
        _ => admin_difference(body, action),
    }
}

fn admin_difference(body: &EventBody, action: &Action) -> Difference {
    match (body, action) {
        (EventBody::SaleDefined(done), Action::PutSale(asked)) => sale_difference(done, asked),
        (EventBody::SaleStateChanged { state_to, .. }, Action::SetSaleState { state, .. }) => {
            first_difference(&[("state", state_to == state)])
        }
        (EventBody::PoolDefined(done), Action::PutPool(asked)) => pool_difference(done, asked),
        (EventBody::StockSupplied(done), Action::SupplyStock(asked))
        | (EventBody::StockWithdrawn(done), Action::WithdrawStock(asked)) => {
            let StockBooked {
                sku,
                pool,
                units,
                is_buffer,
            } = done;
            first_difference(&[
                ("sku", *sku == asked.sku),
                ("pool", *pool == asked.pool),
                ("units", *units == asked.units),
                ("is_buffer", *is_buffer == asked.is_buffer),
            ])
        }
        (
            EventBody::PersonsMerged {
                source_person_id,
                target_person_id,
            },
            Action::MergePersons {
                source_person_id: s,
                target_person_id: t,
            },
        ) => first_difference(&[
            ("source_person_id", source_person_id == s),
            ("target_person_id", target_person_id == t),
        ]),
        (EventBody::PersonsSplit { person_ids }, Action::SplitPersons { person_ids: asked }) => {
            first_difference(&[("person_ids", person_ids == asked)])
        }
        (
            EventBody::ExpiryBrakeSet { is_on, until },
            Action::SetExpiryBrake {
                is_on: asked_on,
                until: asked_until,
            },
        ) => first_difference(&[
            ("is_on", is_on == asked_on),
            ("until_time", until == asked_until),
        ]),
        // Confirm and ReleaseUnverified have no content beside the reservation.
        _ => None,
    }
}

fn stock_difference(body: &EventBody, action: &Action) -> Difference {
    match (body, action) {
        (
            EventBody::StockAdjusted {
                sku,
                pool,
                expected_available,
                available,
            },
            Action::AdjustStock {
                sku: s,
                pool: p,
                expected_available: e,
                available: a,
                ..
            },
        ) => first_difference(&[
            ("sku", sku == s),
            ("pool", pool == p),
            ("expected_available", expected_available == e),
            ("available", available == a),
        ]),
        (
            EventBody::StockMoved {
                sku,
                source_pool,
                target_pool,
                units,
            },
            Action::MoveStock {
                sku: s,
                source_pool: from,
                target_pool: to,
                units: u,
                ..
            },
        ) => first_difference(&[
            ("sku", sku == s),
            ("source_pool", source_pool == from),
            ("target_pool", target_pool == to),
            ("units", units == u),
        ]),
        (
            EventBody::BufferPoured { sku, pool, units },
            Action::PourBuffer {
                sku: s,
                pool: p,
                units: u,
                ..
            },
        ) => first_difference(&[
            ("sku", sku == s),
            ("pool", pool == p),
            ("units", units == u),
        ]),
        _ => None,
    }
}

/// News that was taken and news that was ignored are compared alike.
fn settle_difference(body: &EventBody, asked: &SettlePayment) -> Difference {
    let (attempt_id, payment_result, occurred_at, evidence) = match body {
        EventBody::PaymentSettled(done) => (
            &done.attempt_id,
            done.payment_result,
            done.occurred_at,
            &done.evidence,
        ),
        EventBody::PaymentNewsIgnored {
            attempt_id,
            payment_result,
            occurred_at,
            evidence,
            ..
        } => (attempt_id, *payment_result, *occurred_at, evidence),
        _ => return None,
    };
    first_difference(&[
        ("attempt_id", *attempt_id == asked.attempt_id),
        ("payment_result", payment_result == asked.payment_result),
        ("occurred_time", occurred_at == asked.occurred_at),
        ("evidence", *evidence == asked.evidence),
    ])
}

fn return_difference(done: &Returned, asked: &Return) -> Difference {
    first_difference(&[
        ("sku", done.sku == asked.sku),
        ("pool", done.pool == asked.pool),
        ("units", done.units == asked.units),
        ("disposition", done.disposition == asked.disposition),
        (
            "give_limit_back",
            done.give_limit_back == asked.give_limit_back,
        ),
    ])
}

fn pool_difference(done: &PoolDefined, asked: &PutPool) -> Difference {
    let mut labels = asked.labels.clone();
    labels.sort();
    first_difference(&[
        ("sku", done.sku == asked.sku),
        ("pool", done.pool == asked.pool),
        ("position", done.position == asked.position),
        ("labels", done.labels == labels),
        ("is_offered", done.is_offered == asked.is_offered),
    ])
}

fn sale_difference(done: &SaleDefined, asked: &PutSale) -> Difference {
    first_difference(&[
        ("opens_time", done.opens_at == asked.opens_at),
        ("closes_time", done.closes_at == asked.closes_at),
    ])
    .or_else(|| policy_difference(&done.policy, &asked.policy))
    .or_else(|| {
        let is_equal = done.expected_revision == asked.expected_revision;
        first_difference(&[("expected_revision", is_equal)])
    })
}

fn policy_difference(done: &SalePolicy, asked: &SalePolicy) -> Difference {
    macro_rules! compare {
        ($($field:ident),+ $(,)?) => {
            first_difference(&[
                $((concat!("policy.", stringify!($field)), done.$field == asked.$field)),+
            ])
        };
    }
    compare!(
        reservation_ttl,
        settle_by,
        retry_grace,
        max_life,
        units_per_person_per_sku_max,
        units_per_person_max,
        unpaid_reservations_per_person_max,
        attempts_per_reservation_max,
        low_level_percent,
        is_unverified_release_allowed,
        expiry_brake_lag,
        does_return_give_limit_back,
        forget_after,
        does_forget_while_open,
    )
}
