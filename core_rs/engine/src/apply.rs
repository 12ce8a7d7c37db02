//! Owns the two doors of the ledger: `decide`, which says what would happen, and `apply`, which
//! makes it so.
//!
//! `decide` reads: check fields, look up the id, look up the state, decide; it changes nothing.
//! `apply` decides nothing: an event has every fact, and one that does not fit stops the process.
//! Next: `check.rs`, then the module of the command.

use crate::arena::NONE;
use crate::command::{Action, Command};
use crate::draft::{Refusal, Verdict};
use crate::event::{Event, EventBody};
use crate::ids::Millis;
use crate::reply::Decision;
use crate::state::{Ledger, Reservation};
use crate::stock::PoolNames;

impl Ledger {
    /// Says what `command` would do at `now`, and changes nothing.
    ///
    /// Time never goes back: an earlier `now` is taken as [`Ledger::time`].
    #[must_use]
    pub fn decide(&self, command: &Command, now: Millis) -> Decision {
        let now = now.max(self.time);
        let verdict = match crate::check::fields(command) {
            Ok(()) => self.decide_action(command, now),
            Err(field) => Err(Refusal::not_allowed(field)),
        };
        verdict.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    fn decide_action(&self, command: &Command, now: Millis) -> Verdict {
        match &command.action {
            Action::Reserve(reserve) => self.decide_reserve(command, reserve, now),
            Action::BeginPayment(begin) => self.decide_begin_payment(command, begin, now),
            Action::SettlePayment(settle) => self.decide_settle_payment(command, settle, now),
            Action::Confirm { reservation_id } => self.decide_confirm(command, reservation_id, now),
            Action::Release {
                reservation_id,
                release_reason,
            } => self.decide_release(command, reservation_id, *release_reason, now),
            Action::Extend {
                reservation_id,
                extension,
            } => self.decide_extend(command, reservation_id, *extension, now),
            Action::Return(asked) => self.decide_return(command, asked, now),
            Action::RecordRefund {
                reservation_id,
                attempt_id,
                evidence,
            } => self.decide_record_refund(command, reservation_id, attempt_id, evidence, now),
            Action::ReleaseUnverified { reservation_id } => {
                self.decide_release_unverified(command, reservation_id, now)
            }
            Action::Expire { reservation_id } => self.decide_expire(command, reservation_id, now),
            Action::BecomeOverdue { reservation_id } => {
                self.decide_become_overdue(command, reservation_id, now)
            }
            _ => self.decide_admin(command, now),
        }
    }

    fn decide_admin(&self, command: &Command, now: Millis) -> Verdict {
        match &command.action {
            Action::PutSale(put) => self.decide_put_sale(command, put, now),
            Action::SetSaleState { sale_id, state } => {
                self.decide_set_sale_state(command, sale_id, *state, now)
            }
            Action::PutPool(put) => self.decide_put_pool(command, put, now),
            Action::SupplyStock(change) => self.decide_supply_stock(command, change, now),
            Action::WithdrawStock(change) => self.decide_withdraw_stock(command, change, now),
            Action::AdjustStock {
                sale_id,
                sku,
                pool,
                expected_available,
                available,
            } => {
                let names = PoolNames { sale_id, sku, pool };
                self.decide_adjust_stock(command, names, *expected_available, *available, now)
            }
            Action::MoveStock {
                sale_id,
                sku,
                source_pool,
                target_pool,
                units,
            } => {
                let source = PoolNames {
                    sale_id,
                    sku,
                    pool: source_pool,
                };
                self.decide_move_stock(command, source, target_pool, *units, now)
            }
            Action::PourBuffer {
                sale_id,
                sku,
                pool,
                units,
            } => self.decide_pour_buffer(command, PoolNames { sale_id, sku, pool }, *units, now),
            Action::MergePersons {
                source_person_id,
                target_person_id,
            } => self.decide_merge_persons(command, source_person_id, target_person_id, now),
            Action::SplitPersons { person_ids } => {
                self.decide_split_persons(command, person_ids, now)
            }
            Action::SetExpiryBrake { is_on, until } => {
                self.decide_set_expiry_brake(command, *is_on, *until, now)
            }
            Action::OpenSale { sale_id } => self.decide_open_sale(command, sale_id, now),
            Action::CloseSale { sale_id } => self.decide_close_sale(command, sale_id, now),
            Action::Forget { sale_id } => self.decide_forget(command, sale_id, now),
            Action::CreditOutage { outage } => Ok(self.decide_credit_outage(command, *outage, now)),
            Action::NoteNodeOpened { epoch } => self.decide_note_node_opened(command, *epoch, now),
            Action::Reserve(_)
            | Action::BeginPayment(_)
            | Action::SettlePayment(_)
            | Action::Confirm { .. }
            | Action::Release { .. }
            | Action::Extend { .. }
            | Action::Return(_)
            | Action::RecordRefund { .. }
            | Action::ReleaseUnverified { .. }
            | Action::Expire { .. }
            | Action::BecomeOverdue { .. } => unreachable!("decide_action took these"),
        }
    }

    /// Makes an event so. Events come in order of sequence, the whole of a command's or none.
    ///
    /// # Panics
    /// If the event is not the next one, or does not fit the state: then the journal is not of this
    /// ledger, or there is a bug, and going on would tell wrong numbers.
    pub fn apply(&mut self, event: &Event) {
        assert_eq!(self.sequence + 1, event.sequence, "sequences have no gap");
        assert!(self.time <= event.time, "ledger time never goes back");
        match &event.body {
            EventBody::Reserved(reserved) => self.apply_reserved(event, reserved),
            EventBody::PaymentBegun(begun) => self.apply_payment_begun(event, begun),
            EventBody::PaymentSettled(settled) => self.apply_payment_settled(event, settled),
            EventBody::Confirmed => self.apply_confirmed(event),
            EventBody::Released { release_reason } => self.apply_released(event, *release_reason),
            EventBody::Extended { expires_at, .. } => self.apply_extended(event, *expires_at),
            EventBody::BecameOverdue => self.apply_became_overdue(event),
            EventBody::ReleaseRequested { .. } => self.apply_release_requested(event),
            EventBody::RefundRecorded {
                attempt_id, state, ..
            } => {
                self.apply_refund_recorded(event, attempt_id, *state);
            }
            EventBody::Returned(returned) => self.apply_returned(event, returned),
            _ => self.apply_admin(event),
        }
        // These two are known by what they make, and what they make has not ended.
        if !matches!(
            event.body,
            EventBody::Reserved(_) | EventBody::PaymentBegun(_)
        ) {
            self.follow_up(event);
        }
        self.sequence = event.sequence;
        self.time = event.time;
    }

    /// Remembers the request, and whether its reservation may be forgotten in time.
    fn follow_up(&mut self, event: &Event) {
        if event.reservation_id.is_empty() {
            self.remember(event, NONE);
            return;
        }
        let reservation = self.reservation_of(event);
        self.remember(event, reservation);
        self.renew_end(reservation, event.time);
    }

    fn apply_admin(&mut self, event: &Event) {
        match &event.body {
            EventBody::SaleDefined(defined) => self.apply_sale_defined(event, defined),
            EventBody::SaleStateChanged { state_to, .. } => {
                self.apply_sale_state_changed(event, *state_to);
            }
            EventBody::PoolDefined(defined) => self.apply_pool_defined(event, defined),
            EventBody::StockSupplied(booked) => self.apply_stock_supplied(event, booked),
            EventBody::StockWithdrawn(booked) => self.apply_stock_withdrawn(event, booked),
            EventBody::StockAdjusted {
                sku,
                pool,
                expected_available,
                available,
            } => {
                self.apply_stock_adjusted(event, (sku, pool), *expected_available, *available);
            }
            EventBody::StockMoved {
                sku,
                source_pool,
                target_pool,
                units,
            } => {
                self.apply_stock_moved(event, sku, (source_pool, target_pool), *units);
            }
            EventBody::BufferPoured { sku, pool, units } => {
                self.apply_buffer_poured(event, (sku, pool), *units);
            }
            EventBody::PersonsMerged {
                source_person_id,
                target_person_id,
            } => {
                self.apply_persons_merged(source_person_id, target_person_id);
            }
            EventBody::PersonsSplit { person_ids } => self.apply_persons_split(person_ids),
            EventBody::ExpiryBrakeSet { is_on, until } => {
                (self.brake.is_on, self.brake.until) = (*is_on, *until);
            }
            EventBody::OutageCredited { outage } => self.credit_outage(*outage),
            EventBody::NodeOpened { epoch } => self.epoch = *epoch,
            EventBody::HistoryForgotten {
                reservation_ids,
                request_ids,
            } => self.apply_history_forgotten(event, reservation_ids, request_ids),
            EventBody::PaymentNewsIgnored { .. }
            | EventBody::CancelAtProviderRequested { .. }
            | EventBody::AskProviderRequested { .. }
            | EventBody::RefundBecameDue { .. } => {}
            EventBody::Reserved(_)
            | EventBody::PaymentBegun(_)
            | EventBody::PaymentSettled(_)
            | EventBody::Confirmed
            | EventBody::Released { .. }
            | EventBody::Extended { .. }
            | EventBody::BecameOverdue
            | EventBody::ReleaseRequested { .. }
            | EventBody::RefundRecorded { .. }
            | EventBody::Returned(_) => unreachable!("apply took these"),
        }
    }
}

// A reservation is the entity that a busy sale has most of; growth here is a decision.
const _: () = assert!(
    size_of::<Reservation>() <= 152,
    "a reservation is to stay small"
);
