//! Who wants what: buyers, the provider's news, operators, and somebody who tries everything.
//!
//! Owns: the behaviour of clients, good and bad. Must not: look into the node; they know what they
//! were told. Where next: `provider.rs` for the truth about money.

use lastunit_engine::{
    Action, AttemptState, BeginPayment, Command, Disposition, EventBody, Line, Millis, Outcome,
    PaymentResult, ReleaseReason, Reserve, Return, SettlePayment, State, Text,
};
use lastunit_node::ReadError;

use crate::judge::Violation;
use crate::recover::events_of;
use crate::server::{Asked, Told};
use crate::world::{Happening, Purpose, World};

/// Where a buyer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Reserve,
    Wait,
    Pay,
    Look,
    Done,
}

/// One buyer and the reservation it is about.
#[derive(Clone, Debug)]
pub(crate) struct Buyer {
    pub(crate) sale_id: Text,
    pub(crate) person_id: Text,
    pub(crate) reservation_id: Text,
    pub(crate) lines: Vec<Line>,
    pub(crate) step: Step,
    pub(crate) attempts: u32,
    pub(crate) looks: u32,
}

impl World {
    /// Any sku, mostly one that is there.
    pub(crate) fn any_sku(&mut self) -> Text {
        let known = self.plan.skus as u64;
        let width = if self.dice.permille(20) {
            known + 1
        } else {
            known
        };
        Text::from(format!("sku-{}", self.dice.below(width)))
    }

    pub(crate) fn any_pool(&mut self) -> Text {
        let known = self.plan.pools as u64;
        let width = if self.dice.permille(20) {
            known + 1
        } else {
            known
        };
        Text::from(format!("pool-{}", self.dice.below(width)))
    }

    pub(crate) fn any_sale(&mut self) -> Text {
        let known = self.plan.sales as u64;
        let width = if self.dice.permille(10) {
            known + 1
        } else {
            known
        };
        Text::from(format!("sale-{}", self.dice.below(width)))
    }

    fn any_person(&mut self) -> Text {
        Text::from(format!("person-{}", self.dice.below(self.plan.persons)))
    }

    fn any_lines(&mut self) -> Vec<Line> {
        let count = if self.dice.permille(700) {
            1
        } else {
            1 + self.dice.below(3)
        };
        (0..count)
            .map(|_| Line {
                sku: self.any_sku(),
                pool: self.dice.permille(300).then(|| self.any_pool()),
                units: if self.dice.permille(800) {
                    1
                } else {
                    self.dice.within(1, 4)
                },
            })
            .collect()
    }

    /// Lets a buyer come some time soon.
    pub(crate) fn add_buyer(&mut self, within_ms: Millis) {
        let buyer = Buyer {
            sale_id: self.any_sale(),
            person_id: self.any_person(),
            reservation_id: Text::from(format!("order-{}", self.fresh())),
            lines: self.any_lines(),
            step: Step::Reserve,
            attempts: 0,
            looks: 0,
        };
        self.buyers.push(buyer);
        let delay = self.dice.within(0, within_ms * 1_000);
        self.plan_in(delay, Happening::Wake(self.buyers.len() - 1));
    }

    pub(crate) fn wake(&mut self, index: usize) {
        let buyer = self.buyers[index].clone();
        let client = self.dice.index(2);
        match buyer.step {
            Step::Reserve => {
                let command = self.reserve_of(&buyer);
                self.buyers[index].step = Step::Wait;
                self.ask(index, client, command);
            }
            Step::Pay => self.pay(index, client),
            Step::Look => {
                let asked = Asked::Reservation(buyer.reservation_id);
                self.call(asked, client, Purpose::Buyer(index));
            }
            Step::Wait | Step::Done => {}
        }
    }

    fn reserve_of(&mut self, buyer: &Buyer) -> Command {
        let now = self.wall();
        let ttl = self.plan.policy.reservation_ttl;
        let reserve = Reserve {
            reservation_id: buyer.reservation_id.clone(),
            sale_id: buyer.sale_id.clone(),
            person_id: buyer.person_id.clone(),
            lines: buyer.lines.clone(),
            ttl: self
                .dice
                .permille(300)
                .then(|| self.dice.within(1, ttl * 2)),
            not_after: self
                .dice
                .permille(300)
                .then(|| now + self.dice.within(0, 3_000)),
        };
        Command::internal(Action::Reserve(reserve))
    }

    /// Sends a buyer's command, sometimes as part of a batch.
    fn ask(&mut self, index: usize, client: usize, command: Command) {
        let mut asked = Asked::One(command.clone());
        if self.dice.permille(self.plan.batch_permille) {
            let mut batch = vec![command];
            for _ in 0..self.dice.below(5) {
                let extra = self.any_command();
                if crate::request::operation(&extra).is_some() {
                    batch.push(extra);
                }
            }
            asked = Asked::Batch(batch);
        }
        self.call(asked, client, Purpose::Buyer(index));
    }

    fn pay(&mut self, index: usize, client: usize) {
        let buyer = &mut self.buyers[index];
        buyer.attempts += 1;
        buyer.step = Step::Wait;
        let begin = BeginPayment {
            reservation_id: buyer.reservation_id.clone(),
            attempt_id: Text::from(format!("{}:{}", buyer.reservation_id, buyer.attempts)),
            provider: Some("bank".into()),
            amount_minor: Some(i64::from(buyer.attempts)),
            currency: None,
        };
        self.ask(
            index,
            client,
            Command::internal(Action::BeginPayment(begin)),
        );
    }

    /// A client's command about a reservation, under an id of its own.
    pub(crate) fn command(&mut self, action: Action) -> Command {
        let id = self.fresh();
        Command::from_caller(&format!("req-{id}"), "", action)
    }

    pub(crate) fn tell_buyer(&mut self, index: usize, asked: &Asked, told: Told) {
        match told {
            Told::Replies(replies) => {
                let first = match asked {
                    Asked::One(command) => Some(command),
                    Asked::Batch(commands) => commands.first(),
                    _ => None,
                };
                let (Some(command), Some(Some(reply))) = (first, replies.first()) else {
                    return;
                };
                match &command.action {
                    Action::Reserve(_) if reply.outcome == Outcome::Ok => self.choose(index),
                    Action::BeginPayment(begin) if reply.outcome == Outcome::Ok => {
                        self.go_to_provider(index, &begin.attempt_id.clone());
                    }
                    _ => self.buyers[index].step = Step::Done,
                }
            }
            Told::Reservation(Some(view)) => self.look(index, view.state),
            _ => {}
        }
    }

    /// A buyer has a reservation and does something with it.
    fn choose(&mut self, index: usize) {
        let id = self.buyers[index].reservation_id.clone();
        let client = self.dice.index(2);
        let think = self.dice.within(1_000, 2_000_000);
        let late = (self.plan.policy.reservation_ttl + self.dice.within(-50, 3_000)) * 1_000;
        let (step, span) = match self.dice.below(100) {
            0..=52 => (Step::Pay, think),
            53..=67 => (Step::Pay, late),
            68..=72 => (Step::Look, late),
            73..=82 => {
                self.cover.hit("buyer never pays");
                (Step::Done, 0)
            }
            choice => {
                let action = match choice {
                    83..=88 => Action::Confirm { reservation_id: id },
                    89..=93 => Action::Release {
                        reservation_id: id,
                        release_reason: ReleaseReason::Client,
                    },
                    _ => Action::Extend {
                        reservation_id: id,
                        extension: self.dice.within(1, self.plan.policy.max_life),
                    },
                };
                let command = self.command(action);
                self.call(Asked::One(command), client, Purpose::Nobody);
                (Step::Look, think)
            }
        };
        self.buyers[index].step = step;
        self.plan_in(span, Happening::Wake(index));
    }

    fn go_to_provider(&mut self, index: usize, attempt_id: &Text) {
        let reservation_id = self.buyers[index].reservation_id.clone();
        self.provider.create(attempt_id, &reservation_id);
        let result = match self.dice.below(10) {
            0..=6 => PaymentResult::Succeeded,
            7..=8 => PaymentResult::Failed,
            _ => PaymentResult::Cancelled,
        };
        let is_late = self.dice.permille(self.plan.late_permille);
        let span = if is_late {
            self.cover.hit("news late");
            let settle_by = self.plan.policy.settle_by;
            (settle_by + self.dice.within(0, 15_000)) * 1_000
        } else {
            self.dice.within(5_000, 2_000_000)
        };
        self.plan_in(span, Happening::Decide(attempt_id.clone(), result));
        if result != PaymentResult::Succeeded && self.dice.permille(150) {
            self.cover.hit("news contradicts");
            let later = span + self.dice.within(1_000, 8_000_000);
            self.plan_in(
                later,
                Happening::Decide(attempt_id.clone(), PaymentResult::Succeeded),
            );
        }
        let buyer = &mut self.buyers[index];
        let is_impatient = buyer.attempts < 4 && self.dice.permille(200);
        buyer.step = if is_impatient { Step::Pay } else { Step::Look };
        let span = self.dice.within(50_000, 6_000_000);
        self.plan_in(span, Happening::Wake(index));
        if self.dice.permille(120) {
            let release = Action::Release {
                reservation_id,
                release_reason: ReleaseReason::Client,
            };
            let command = self.command(release);
            self.call(Asked::One(command), 1, Purpose::Nobody);
        }
    }

    /// A buyer looked at its reservation.
    fn look(&mut self, index: usize, state: State) {
        let buyer = &mut self.buyers[index];
        buyer.looks += 1;
        let (looks, attempts) = (buyer.looks, buyer.attempts);
        let step = match state {
            _ if looks > 5 => Step::Done,
            State::Held if attempts < 6 => Step::Pay,
            State::Released if attempts < 6 && self.dice.permille(500) => Step::Pay,
            State::Paying | State::Overdue => Step::Look,
            State::Confirmed => {
                if self.dice.permille(400) {
                    self.return_some(index);
                }
                Step::Look
            }
            _ => Step::Done,
        };
        self.buyers[index].step = step;
        let span = self.dice.within(100_000, 5_000_000);
        self.plan_in(span, Happening::Wake(index));
    }

    fn return_some(&mut self, index: usize) {
        let reservation_id = self.buyers[index].reservation_id.clone();
        let lines = self.buyers[index].lines.clone();
        let line = self.dice.pick(&lines).clone();
        let asked = Return {
            reservation_id,
            sku: line.sku,
            pool: line.pool,
            units: self.dice.within(1, line.units),
            disposition: *self.dice.pick(Disposition::ALL),
            give_limit_back: *self.dice.pick(&[None, Some(false), Some(true)]),
        };
        let command = self.command(Action::Return(asked));
        self.call(Asked::One(command), 1, Purpose::Nobody);
    }

    /// The provider ends a payment.
    pub(crate) fn decide_payment(&mut self, attempt: &Text, result: PaymentResult) {
        let now = self.wall();
        self.provider.decide(attempt, result, now);
        if !self.is_calm && self.dice.permille(self.plan.news_loss_permille) {
            self.cover.hit("news lost");
            return;
        }
        self.plan_in(0, Happening::News(attempt.clone()));
        if !self.is_calm && self.dice.permille(self.plan.double_permille) {
            self.cover.hit("news doubled");
            let span = self.dice.within(0, 3_000_000);
            self.plan_in(span, Happening::News(attempt.clone()));
        }
    }

    /// The payment service tells the ledger what the provider says now.
    pub(crate) fn send_news(&mut self, attempt: &Text) {
        let Some(money) = self.provider.attempts.get_mut(attempt) else {
            return;
        };
        let Some(result) = money.truth else { return };
        money.news_count += 1;
        let settle = SettlePayment {
            reservation_id: money.reservation_id.clone(),
            attempt_id: attempt.clone(),
            payment_result: result,
            occurred_at: Some(money.decided_at),
            evidence: "bank".into(),
        };
        let id = format!("news-{attempt}-{}", money.news_count);
        let command = Command::from_caller(&id, "", Action::SettlePayment(settle));
        self.call(
            Asked::One(command),
            2,
            Purpose::News(attempt.clone(), result),
        );
    }

    /// The payment service reads the event stream and does what it calls for.
    pub(crate) fn follow(&mut self) -> Result<(), Violation> {
        let interval = self.dice.within(100_000, 1_500_000);
        self.plan_in(interval, Happening::Follow);
        let after = self.provider.cursor;
        let Some(node) = &self.server.node else {
            return Ok(());
        };
        if self.server.disk.is_off() || self.server.has_failed() {
            return Ok(());
        }
        let (bytes, last) = match node.read_events(after, 64) {
            Ok(read) => read,
            Err(ReadError::Removed { first_sequence, .. }) => {
                self.provider.cursor = first_sequence - 1;
                self.reconcile();
                return Ok(());
            }
            // A bit flipped where only readers look: the operator restores that segment.
            Err(_) if self.server.disk.flip_count() > 0 => {
                self.server.disk.unflip();
                self.cover.hit("events damaged before they were read");
                return Ok(());
            }
            // What a lying disk lost behind a snapshot is lost: the service looks at what is.
            Err(ReadError::Journal(_)) if self.server.disk.has_lied() => {
                self.provider.cursor = self.server.shown.max(after);
                self.reconcile();
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        for (sequence, found) in (after + 1..).zip(events_of(&bytes)?) {
            let place = usize::try_from(sequence - 1).unwrap_or(usize::MAX);
            let expected = self.server.history.get(place);
            if found.sequence != sequence || expected != Some(&found) {
                let detail = format!("{found:?} was read, not {expected:?}");
                return Err(Violation::new("events", detail));
            }
            self.act_on(&found.reservation_id, &found.body);
        }
        if last > after {
            self.cover.hit("events read");
            self.provider.cursor = last;
            self.server.shown = self.server.shown.max(last);
        }
        Ok(())
    }

    /// Events were removed before they were read: the payment service looks at what is there.
    fn reconcile(&mut self) {
        self.cover.hit("events removed before they were read");
        let book = &self.server.book;
        let mut open = Vec::new();
        let mut due = Vec::new();
        for (id, attempt) in &book.attempts {
            let found = &book.reservations[&attempt.reservation_id];
            let is_wanted = found.state != State::Paying || found.is_release_requested;
            match attempt.state {
                AttemptState::Open if is_wanted => open.push((id.clone(), found.asked.clone())),
                AttemptState::RefundDue => due.push(id.clone()),
                _ => {}
            }
        }
        for (attempt_id, asked) in open {
            let ask = EventBody::CancelAtProviderRequested { attempt_id };
            self.act_on(&asked.reservation_id, &ask);
        }
        for attempt_id in due {
            self.refund(&attempt_id);
        }
    }

    fn act_on(&mut self, reservation_id: &Text, body: &EventBody) {
        if let EventBody::CancelAtProviderRequested { attempt_id }
        | EventBody::AskProviderRequested { attempt_id } = body
        {
            // An attempt that the provider never heard of is closed before anybody can use it.
            self.provider.create(attempt_id, reservation_id);
        }
        match body {
            EventBody::CancelAtProviderRequested { attempt_id } => {
                let delay = self.dice.within(1_000, 800_000);
                let cancel = PaymentResult::Cancelled;
                self.plan_in(delay, Happening::Decide(attempt_id.clone(), cancel));
            }
            EventBody::AskProviderRequested { attempt_id } => {
                let is_slow = !self.is_calm && self.dice.permille(500);
                if is_slow {
                    self.send_news(attempt_id);
                } else {
                    let cancel = PaymentResult::Cancelled;
                    self.plan_in(1_000, Happening::Decide(attempt_id.clone(), cancel));
                }
            }
            EventBody::RefundBecameDue { attempt_id } => self.refund(attempt_id),
            _ => {}
        }
    }

    fn refund(&mut self, attempt: &Text) {
        let Some(money) = self.provider.attempts.get_mut(attempt) else {
            return;
        };
        money.is_refunded = true;
        let action = Action::RecordRefund {
            reservation_id: money.reservation_id.clone(),
            attempt_id: attempt.clone(),
            evidence: "bank".into(),
        };
        let command = Command::from_caller(&format!("refund-{attempt}"), "", action);
        self.cover.hit("refund recorded");
        self.call(Asked::One(command), 2, Purpose::Refund(attempt.clone()));
    }

    /// The answer to a refund: if somebody else used up its id, it is recorded under another.
    pub(crate) fn tell_refund(&mut self, asked: Asked, attempt: Text, told: &Told) {
        let (Asked::One(mut command), Told::Replies(replies)) = (asked, told) else {
            return;
        };
        let outcome = replies.first().and_then(|it| Some(it.as_ref()?.outcome));
        if outcome == Some(Outcome::Conflict) {
            command.request_id = format!("{}-{}", command.request_id, self.now).into();
            self.call(Asked::One(command), 2, Purpose::Refund(attempt));
        }
    }
}
