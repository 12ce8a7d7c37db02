//! The node under test, with everything that is known of what it did and told.
//!
//! Owns: the life of the node on its disk (opened, driven, killed, recovered) and the oracles that
//! hold at each step of it. Must not: choose what happens; `world.rs` does. Where next: `judge.rs`
//! for one decision, `recover.rs` for an opening.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastunit_engine::{
    Action, AvailabilityView, Command, Event, Millis, Reply, ReservationView, Sequence, Text,
};
use lastunit_node::stepped::{self, Line, SteppedNode, Tapped};
use lastunit_node::{Answer, CallInput, Completion, Listener, NodeSettings, Phase};
use lastunit_wire::{Method, contract};
use prost::Message as _;

use crate::answers::{Body, check_body, place_of, reason_of, told_of};
use crate::book::Book;
use crate::cover::Cover;
use crate::disk::SimDisk;
use crate::judge::{Violation, by, judge, touched};
use crate::request;

/// What one call asks.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most calls are of the large kind"
)]
pub(crate) enum Asked {
    One(Command),
    Batch(Vec<Command>),
    Reservation(Text),
    Availability(Text),
    Audit,
    Explain(Text),
}

/// One call as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) ticket: u64,
    pub(crate) asked: Asked,
    pub(crate) caller: &'static str,
    pub(crate) seen: (Sequence, i64),
    pub(crate) deadline: Option<Duration>,
    pub(crate) listener: Listener,
}

/// What the client is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The reply to each command, in order; none for one that was a fault by itself.
    Replies(Vec<Option<Reply>>),
    Reservation(Option<Box<ReservationView>>),
    Nothing,
    Fault(String),
}

/// An answer that left the node, with the place it shows.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) ticket: u64,
    pub(crate) told: Told,
    pub(crate) seen: (Sequence, i64),
}

struct Expect {
    ticket: u64,
    body: Body,
    as_of: Sequence,
    op_number: i64,
}

/// A decision that had an effect.
pub(crate) struct Logged {
    pub(crate) command: Command,
    pub(crate) now: Millis,
    pub(crate) events: u32,
    pub(crate) last: Sequence,
}

/// How much of a step of the clock may pass for time: two that are each too small to be one, and
/// the time until a timer looks.
const STEP_SLACK: Millis = 5_000;

/// Answers by ticket, each with what had failed on the disk when the node gave it.
type Inbox = Arc<Mutex<Vec<(u64, Answer, Option<String>)>>>;

pub(crate) struct Server {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) node: Option<SteppedNode>,
    pub(crate) settings: NodeSettings,
    pub(crate) journal_id: u128,
    pub(crate) book: Book,
    /// The book as of the last opening, and every effect since.
    pub(crate) base: Book,
    pub(crate) log: Vec<Logged>,
    /// Every event, by its sequence from 1.
    pub(crate) history: Vec<Event>,
    /// The highest state that anybody was shown.
    pub(crate) shown: Sequence,
    pub(crate) epoch: i64,
    /// The last ledger time at which the node was seen alive.
    pub(crate) alive_at: Millis,
    /// How far ledger time and the machine's clock may be apart.
    pub(crate) clock_slack: Millis,
    /// How long the node was up, in ms, and what it promised when to whoever holds units.
    pub(crate) served_ms: Millis,
    promised: std::collections::BTreeMap<Text, (Millis, Millis)>,
    /// The journal was durable up to here when its last group was written.
    pub(crate) proven: Sequence,
    /// False once the disk lied or bits were flipped: then a loss must be noticed, not avoided.
    pub(crate) is_strict: bool,
    inbox: Inbox,
    expects: Vec<Expect>,
    /// Batches and slow calls in line, by line.
    lines: [std::collections::VecDeque<Call>; 3],
    last_op_number: i64,
}

impl Server {
    pub(crate) fn new(settings: NodeSettings, journal_id: u128) -> Self {
        Self {
            disk: Arc::default(),
            node: None,
            settings,
            journal_id,
            book: Book::default(),
            base: Book::default(),
            log: Vec::new(),
            history: Vec::new(),
            shown: 0,
            epoch: 0,
            alive_at: Millis::MIN,
            clock_slack: 0,
            served_ms: 0,
            proven: 0,
            promised: std::collections::BTreeMap::new(),
            is_strict: true,
            inbox: Inbox::default(),
            expects: Vec::new(),
            lines: Default::default(),
            last_op_number: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Whether the node stopped acknowledging.
    pub(crate) fn has_failed(&self) -> bool {
        let phase = self.node.as_ref().map(|node| node.health().phase);
        phase.is_some_and(|phase| phase != Phase::Serving)
    }

    /// Ends the process, whatever it was doing.
    pub(crate) fn kill(&mut self) {
        self.node = None;
        self.forget_calls();
    }

    pub(crate) fn forget_calls(&mut self) {
        self.expects.clear();
        self.lines = Default::default();
        self.inbox.lock().expect("one thread").clear();
        self.last_op_number = 0;
    }

    /// Hands a call to the node and judges what it decided.
    pub(crate) fn submit(&mut self, call: &Call, cover: &mut Cover) -> Result<(), Violation> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let (method, bytes) = encode(&call.asked);
        let input = CallInput {
            method: method.path(),
            request: &bytes,
            caller: call.caller,
            deadline: call.deadline.map(stepped::instant_at),
            seen_sequence: call.seen.0,
            seen_epoch: call.seen.1,
            listener: call.listener,
        };
        let (_, is_low) = node.space();
        let (inbox, ticket) = (Arc::clone(&self.inbox), call.ticket);
        let disk = Arc::clone(&self.disk);
        let completion = Completion::Call(Box::new(move |answer| {
            inbox
                .lock()
                .expect("one thread")
                .push((ticket, answer, disk.broken_by()));
        }));
        let answer = node.submit(&input, completion);
        let decided = node.take_decided();
        let line = line_of(&call.asked, call.listener);
        if let Some(line) = line {
            if answer.is_none() && line == Line::Slow {
                self.expects.push(Expect {
                    ticket,
                    body: Body::Free,
                    as_of: 0,
                    op_number: 0,
                });
            } else if answer.is_none() {
                self.lines[line as usize].push_back(call.clone());
            }
        } else {
            let is_fault = answer.as_ref().is_some_and(|it| it.code != 0);
            self.judge_call(call, method, &decided, is_fault, is_low, cover)?;
        }
        if let Some(answer) = answer {
            self.inbox
                .lock()
                .expect("one thread")
                .push((ticket, answer, self.disk.broken_by()));
        }
        Ok(())
    }

    fn judge_call(
        &mut self,
        call: &Call,
        method: Method,
        decided: &[Tapped],
        is_fault: bool,
        is_low: bool,
        cover: &mut Cover,
    ) -> Result<(), Violation> {
        // A leap of ledger time is credited before anything is decided at it.
        let is_credit = |it: &Tapped| matches!(it.command.action, Action::CreditOutage { .. });
        let credits = decided.iter().take_while(|it| is_credit(it)).count();
        self.note_decided(&decided[..credits], cover)?;
        let decided = &decided[credits..];
        let body = match (&call.asked, decided) {
            (Asked::One(_) | Asked::Reservation(_) | Asked::Availability(_), []) if is_fault => {
                return Ok(());
            }
            (Asked::One(command), [tapped]) if !is_fault => {
                judge_own(command, call.caller, tapped, is_low)?;
                Body::Command(method, Box::new(tapped.reply.clone()))
            }
            (Asked::Reservation(id), []) => {
                Body::Reservation(self.book.reservation(id).map(Box::new))
            }
            (Asked::Availability(sale_id), []) => Body::Availability(self.availabilities(sale_id)),
            (_, decided) => {
                let detail = format!(
                    "{:?} made {} decisions, fault {is_fault}",
                    call.asked,
                    decided.len()
                );
                return Err(Violation::new("one effect", detail));
            }
        };
        self.note_decided(decided, cover)?;
        self.expect(call.ticket, body)
    }

    fn availabilities(&self, sale_id: &Text) -> Option<Vec<AvailabilityView>> {
        let sale = self.book.sales.get(sale_id)?;
        let changed = |sku: &Text| {
            let node = self.node.as_ref()?;
            node.look(|ledger| ledger.changed_sequence(sale_id, sku))
        };
        let view = |sku| AvailabilityView {
            changed_sequence: changed(sku).unwrap_or(0),
            ..self.book.availability(sale_id, sku)
        };
        Some(sale.skus.keys().map(view).collect())
    }

    /// Expects an answer that shows the state of now.
    fn expect(&mut self, ticket: u64, body: Body) -> Result<(), Violation> {
        let op_number = self.node.as_ref().map_or(0, SteppedNode::op_number);
        if op_number <= self.last_op_number {
            let detail = format!("decision {op_number} follows {}", self.last_op_number);
            return Err(Violation::new("place", detail));
        }
        self.last_op_number = op_number;
        self.expects.push(Expect {
            ticket,
            body,
            as_of: self.book.sequence,
            op_number,
        });
        Ok(())
    }

    /// Judges decisions in their order, keeps their effects, and compares what they touched.
    pub(crate) fn note_decided(
        &mut self,
        decided: &[Tapped],
        cover: &mut Cover,
    ) -> Result<(), Violation> {
        for tapped in decided {
            self.check_time(tapped)?;
            judge(&mut self.book, tapped)?;
            if !tapped.events.is_empty() {
                self.log.push(Logged {
                    command: tapped.command.clone(),
                    now: tapped.now,
                    events: u32::try_from(tapped.events.len()).unwrap_or(u32::MAX),
                    last: self.book.sequence,
                });
                self.history.extend(tapped.events.iter().cloned());
            }
            self.alive_at = self.alive_at.max(tapped.now);
            cover.hit(outcome_name(tapped.reply.outcome));
            for row in self.book.rows.drain(..) {
                cover.hit(row);
            }
        }
        let Some(node) = &self.node else {
            return Ok(());
        };
        for tapped in decided {
            let action = &tapped.command.action;
            node.look(|ledger| {
                if let Some(sale_id) = touched(&self.book, action)
                    && self.book.sales.contains_key(sale_id)
                {
                    self.book.compare_sale(ledger, sale_id)?;
                }
                match crate::book::reservation_of(action) {
                    Some(id) => self.book.compare_reservation(ledger, id),
                    None => Ok(()),
                }
            })
            .map_err(by("state"))?;
        }
        Ok(())
    }

    /// The clock may be set, and the node may be down: a buyer still gets the time it was promised.
    fn check_time(&mut self, tapped: &Tapped) -> Result<(), Violation> {
        if tapped.events.is_empty() {
            return Ok(());
        }
        let action = &tapped.command.action;
        if let Action::CreditOutage { outage } = action {
            if self.clock_slack == 0 {
                let detail = format!("{outage} ms are credited, and no clock was set");
                return Err(Violation::new("outage credit", detail));
            }
            return Ok(());
        }
        let Some(id) = crate::book::reservation_of(action) else {
            return Ok(());
        };
        if let Action::Reserve(_) = action {
            let lastunit_engine::Answer::Reserved { expires_at, .. } = tapped.reply.answer else {
                return Ok(());
            };
            self.promised
                .insert(id.clone(), (self.served_ms, expires_at - tapped.now));
            return Ok(());
        }
        let promised = self.promised.remove(id);
        if let (Action::Expire { .. }, Some((start, span))) = (action, promised) {
            let had = self.served_ms - start;
            if had + STEP_SLACK < span {
                let detail = format!("{id} was promised {span} ms and had {had}");
                return Err(Violation::new("promised time", detail));
            }
        }
        Ok(())
    }

    /// Whether a batch waits in a line.
    pub(crate) fn has_work(&self, line: Line) -> bool {
        self.is_up() && !self.lines[line as usize].is_empty()
    }

    /// Serves the next call of a line.
    pub(crate) fn work(&mut self, line: Line, cover: &mut Cover) -> Result<(), Violation> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        if line == Line::Slow {
            // These wait for the disk, and nobody else flushes while they do.
            node.settle();
        }
        node.work(line);
        let decided = node.take_decided();
        let Some(call) = self.lines[line as usize].pop_front() else {
            return Ok(());
        };
        let Asked::Batch(commands) = &call.asked else {
            return Ok(());
        };
        let is_credit = |it: &&Tapped| matches!(it.command.action, Action::CreditOutage { .. });
        let mut rest = decided.iter().filter(|it| !is_credit(it)).peekable();
        let mut replies = Vec::new();
        for command in commands {
            let meant = Command {
                caller: call.caller.into(),
                ..command.clone()
            };
            let own = rest.next_if(|tapped| tapped.command == meant);
            let method = request::encode(command).0;
            replies.push(own.map(|it| (method, it.reply.clone(), it.as_of, it.op_number)));
        }
        if rest.next().is_some() {
            let detail = format!("{commands:?} made {decided:?}");
            return Err(Violation::new("one effect", detail));
        }
        let is_refused = decided.is_empty();
        self.note_decided(&decided, cover)?;
        cover.hit("batch served");
        if is_refused {
            // Nothing was decided, so nothing need be numbered.
            self.expects.push(Expect {
                ticket: call.ticket,
                body: Body::Batch(replies),
                as_of: self.book.sequence,
                op_number: 0,
            });
            return Ok(());
        }
        self.expect(call.ticket, Body::Batch(replies))
    }

    /// Asks outside of the order of things; gives the reason of the fault, if it is one.
    pub(crate) fn probe(&self, call: &Call) -> Option<String> {
        let node = self.node.as_ref()?;
        let (method, bytes) = encode(&call.asked);
        let input = CallInput {
            method: method.path(),
            request: &bytes,
            caller: call.caller,
            deadline: None,
            seen_sequence: call.seen.0,
            seen_epoch: call.seen.1,
            listener: call.listener,
        };
        let answer = node.submit(&input, Completion::Call(Box::new(drop)))?;
        Some(reason_of(&answer))
    }

    /// Takes what the node answered and checks it against what it should say.
    pub(crate) fn take_answers(&mut self) -> Result<Vec<Delivered>, Violation> {
        let answers = std::mem::take(&mut *self.inbox.lock().expect("one thread"));
        if self.disk.is_off() {
            // The process died with the power: nobody heard this.
            return Ok(Vec::new());
        }
        let mut delivered = Vec::with_capacity(answers.len());
        for (ticket, answer, broken_by) in answers {
            let place = self.expects.iter().position(|it| it.ticket == ticket);
            let expect = place.map(|place| self.expects.swap_remove(place));
            let is_new = expect.as_ref().is_none_or(|it| it.body.is_new());
            if let Some(broken_by) = broken_by.filter(|_| answer.code == 0 && is_new) {
                let detail = format!("the {broken_by} failed, then call {ticket} was answered OK");
                return Err(Violation::new("OK after a storage error", detail));
            }
            delivered.push(self.check_answer(ticket, &answer, expect)?);
        }
        Ok(delivered)
    }

    fn check_answer(
        &mut self,
        ticket: u64,
        answer: &Answer,
        expect: Option<Expect>,
    ) -> Result<Delivered, Violation> {
        if answer.code != 0 {
            let reason = reason_of(answer);
            return Ok(Delivered {
                ticket,
                told: Told::Fault(reason),
                seen: (0, 0),
            });
        }
        let Some(expect) = expect else {
            let detail = format!("call {ticket} was answered and never decided");
            return Err(Violation::new("one effect", detail));
        };
        let mut as_of = expect.as_of;
        let told = match expect.body {
            Body::Free => {
                as_of = place_of(answer).map_or(as_of, |it| it.as_of_sequence);
                Told::Nothing
            }
            Body::Batch(replies) => self.check_batch(answer, replies)?,
            ref body => {
                let place = self.check_place(answer, expect.as_of, expect.op_number)?;
                check_body(answer, body, &place)?;
                told_of(expect.body)
            }
        };
        self.shown = self.shown.max(as_of);
        Ok(Delivered {
            ticket,
            told,
            seen: (as_of, self.epoch),
        })
    }
}

/// A decision for a client: the very command that was sent, by the one who sent it.
fn judge_own(
    command: &Command,
    caller: &str,
    tapped: &Tapped,
    is_low: bool,
) -> Result<(), Violation> {
    let meant = Command {
        caller: caller.into(),
        ..command.clone()
    };
    if tapped.command != meant {
        let detail = format!("{meant:?} was sent, {:?} was decided", tapped.command);
        return Err(Violation::new("one effect", detail));
    }
    let is_claim = matches!(command.action, Action::Reserve(_)) && !tapped.events.is_empty();
    if is_claim && is_low {
        let detail = format!("{meant:?} was taken into the space of settlement");
        return Err(Violation::new("space", detail));
    }
    Ok(())
}

fn encode(asked: &Asked) -> (Method, Vec<u8>) {
    match asked {
        Asked::One(command) => request::encode(command),
        Asked::Batch(commands) => {
            let operations = commands.iter().filter_map(request::operation).collect();
            let request = contract::ExchangeRequest {
                exchange_id: 7,
                operations,
            };
            (Method::Exchange, request.encode_to_vec())
        }
        Asked::Reservation(id) => request::get_reservation(id),
        Asked::Availability(sale_id) => request::get_availability(sale_id),
        Asked::Audit => (
            Method::Audit,
            contract::AuditRequest::default().encode_to_vec(),
        ),
        Asked::Explain(id) => {
            let request = contract::ExplainReservationRequest {
                reservation_id: id.to_string(),
            };
            (Method::ExplainReservation, request.encode_to_vec())
        }
    }
}

fn line_of(asked: &Asked, listener: Listener) -> Option<Line> {
    match (asked, listener) {
        (Asked::Batch(_), Listener::Data) => Some(Line::Data),
        (Asked::Batch(_), Listener::Settlement) => Some(Line::Settlement),
        (Asked::Audit | Asked::Explain(_), _) => Some(Line::Slow),
        _ => None,
    }
}

fn outcome_name(outcome: lastunit_engine::Outcome) -> &'static str {
    use lastunit_engine::Outcome as O;
    match outcome {
        O::Ok => "outcome OK",
        O::Conflict => "outcome CONFLICT",
        O::UnknownSale => "outcome UNKNOWN_SALE",
        O::UnknownSku => "outcome UNKNOWN_SKU",
        O::UnknownPool => "outcome UNKNOWN_POOL",
        O::UnknownReservation => "outcome UNKNOWN_RESERVATION",
        O::UnknownAttempt => "outcome UNKNOWN_ATTEMPT",
        O::TooLate => "outcome TOO_LATE",
        O::SaleNotOpen => "outcome SALE_NOT_OPEN",
        O::SaleClosed => "outcome SALE_CLOSED",
        O::WrongState => "outcome WRONG_STATE",
        O::NotAllowed => "outcome NOT_ALLOWED",
        O::TooManyAttempts => "outcome TOO_MANY_ATTEMPTS",
        O::CounterMismatch => "outcome COUNTER_MISMATCH",
        O::NotEnoughUnits => "outcome NOT_ENOUGH_UNITS",
        O::LimitReached => "outcome LIMIT_REACHED",
        O::SoldOut => "outcome SOLD_OUT",
    }
}
