//! The commands that the examples measure: one sale of one SKU, one unit a person, ids of a length
//! that callers use.
//!
//! Owns: how such commands look. Must not: measure.

use lastunit_engine::{
    Action, BeginPayment, Command, Ledger, Line, PaymentResult, PutPool, PutSale, Reserve,
    SalePolicy, SettlePayment, StockChange, Units,
};

pub(crate) fn extend(prefix: &str, number: u32) -> Command {
    let action = Action::Extend {
        reservation_id: format!("{prefix}{number:07}").into(),
        extension: 1,
    };
    Command::from_caller(&format!("{prefix}{number:07}:e"), "order-service", action)
}

pub(crate) fn sale(units: Units) -> Ledger {
    let mut ledger = Ledger::new();
    let (sale_id, sku, pool) = ("sale-2026", "phone-black-128", "main");
    let policy = SalePolicy {
        unpaid_reservations_per_person_max: 1,
        ..SalePolicy::default()
    };
    let actions = [
        Action::PutSale(PutSale {
            sale_id: sale_id.into(),
            opens_at: None,
            closes_at: None,
            policy,
            expected_revision: None,
        }),
        Action::PutPool(PutPool {
            sale_id: sale_id.into(),
            sku: sku.into(),
            pool: pool.into(),
            position: 0,
            labels: Vec::new(),
            is_offered: true,
        }),
        Action::SupplyStock(StockChange {
            sale_id: sale_id.into(),
            sku: sku.into(),
            pool: pool.into(),
            units,
            is_buffer: false,
        }),
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let mut command = Command::from_caller(&format!("set-up-{number}"), "throughput", action);
        (command.actor, command.reason) = ("throughput".into(), "set-up".into());
        for event in ledger.decide(&command, 0).events {
            ledger.apply(&event);
        }
    }
    ledger
}

pub(crate) fn reserve(prefix: &str, number: u32) -> Command {
    let line = Line {
        sku: "phone-black-128".into(),
        pool: None,
        units: 1,
    };
    let action = Action::Reserve(Reserve {
        reservation_id: format!("{prefix}{number:07}").into(),
        sale_id: "sale-2026".into(),
        person_id: format!("person-{number:07}").into(),
        lines: vec![line],
        ttl: None,
        not_after: None,
    });
    Command::from_caller("", "order-service", action)
}

pub(crate) fn begin(prefix: &str, number: u32) -> Command {
    let action = Action::BeginPayment(BeginPayment {
        reservation_id: format!("{prefix}{number:07}").into(),
        attempt_id: format!("{prefix}{number:07}:1").into(),
        provider: Some("sandbox".into()),
        amount_minor: Some(84_000),
        currency: Some("EUR".into()),
    });
    Command::from_caller("", "order-service", action)
}

pub(crate) fn settle(prefix: &str, number: u32) -> Command {
    let action = Action::SettlePayment(SettlePayment {
        reservation_id: format!("{prefix}{number:07}").into(),
        attempt_id: format!("{prefix}{number:07}:1").into(),
        payment_result: PaymentResult::Succeeded,
        occurred_at: Some(1),
        evidence: "4200001234202611221234567890".into(),
    });
    Command::from_caller(
        &format!("{prefix}{number:07}:1:ok"),
        "payment-service",
        action,
    )
}

pub(crate) fn confirm(prefix: &str, number: u32) -> Command {
    let action = Action::Confirm {
        reservation_id: format!("{prefix}{number:07}").into(),
    };
    Command::from_caller(&format!("{prefix}{number:07}:c"), "order-service", action)
}
