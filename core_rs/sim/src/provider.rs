//! The payment provider and the payment service before it: what money really did.
//!
//! Owns: the truth about each attempt, and the news of it. Must not: know the ledger but by its
//! event stream. Where next: `actors.rs`, which sends the news.

use std::collections::BTreeMap;

use lastunit_engine::{Millis, PaymentResult, Text};

/// What the provider knows of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Money {
    pub(crate) reservation_id: Text,
    pub(crate) truth: Option<PaymentResult>,
    pub(crate) decided_at: Millis,
    pub(crate) is_refunded: bool,
    /// News sent so far, to give each an id of its own.
    pub(crate) news_count: u32,
    /// Whether the ledger took the last word on it.
    pub(crate) is_told: bool,
    /// The ledger never knew the reservation: the money goes back without it.
    pub(crate) is_orphan: bool,
}

/// The provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    pub(crate) attempts: BTreeMap<Text, Money>,
    /// The payment service has seen every event up to this one.
    pub(crate) cursor: i64,
}

impl Provider {
    /// Opens a payment; a second call with the same id changes nothing.
    pub(crate) fn create(&mut self, attempt_id: &Text, reservation_id: &Text) {
        self.attempts
            .entry(attempt_id.clone())
            .or_insert_with(|| Money {
                reservation_id: reservation_id.clone(),
                truth: None,
                decided_at: 0,
                is_refunded: false,
                news_count: 0,
                is_told: false,
                is_orphan: false,
            });
    }

    /// Ends a payment. Money that came stays; money may still come after a failure.
    pub(crate) fn decide(&mut self, attempt_id: &Text, result: PaymentResult, now: Millis) {
        let Some(money) = self.attempts.get_mut(attempt_id) else {
            return;
        };
        let is_final = money.truth == Some(PaymentResult::Succeeded);
        let is_better = money.truth.is_none() || result == PaymentResult::Succeeded;
        if !is_final && is_better {
            money.truth = Some(result);
            money.decided_at = now;
            money.is_told = false;
        }
    }

    /// Whether the buyer's money is with the seller or was, by attempt.
    pub(crate) fn paid(&self) -> impl Iterator<Item = (&Text, &Money)> {
        let paid = Some(PaymentResult::Succeeded);
        self.attempts
            .iter()
            .filter(move |(_, money)| money.truth == paid)
    }
}
