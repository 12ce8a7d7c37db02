//! The simulated world: one clock, one queue of what happens next, and everybody in it.
//!
//! Owns: time, the network between clients and node, and the order of events. Must not: know rules
//! of stock. Where next: `actors.rs` for who wants what, `faults.rs` for what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use lastunit_engine::{Action, Millis, Outcome, PaymentResult, Sequence, Text};
use lastunit_node::Listener;
use lastunit_node::stepped::{self, Line, SteppedNode};

use crate::actors::Buyer;
use crate::cover::Cover;
use crate::dice::Dice;
use crate::judge::Violation;
use crate::plan::Plan;
use crate::provider::Provider;
use crate::server::{Asked, Call, Delivered, Server, Told};
use crate::trace::Trace;

/// Microseconds since the world began.
pub(crate) type Micros = i64;

/// Ledger time at which every world begins.
const EPOCH_MS: Millis = 1_800_000_000_000;

/// Why a call is made, and so who is told of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Buyer(usize),
    News(Text, PaymentResult),
    Refund(Text),
    Nobody,
}

/// A call that was made and not answered yet.
pub(crate) struct Open {
    asked: Asked,
    client: usize,
    purpose: Purpose,
    listener: Listener,
    has_deadline: bool,
    tries: u32,
    tries_max: u32,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Wake(usize),
    Send(u64),
    Arrive(Box<Call>),
    Reply(u64, Box<Told>),
    Decide(Text, PaymentResult),
    News(Text),
    Follow,
    BeginFlush,
    EndFlush,
    Work(Line),
    Timers,
    Keep,
    Operate,
    Meddle,
    Disturb,
    Restart,
}

struct Entry(Micros, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A process that calls the node, and the newest state it has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) seen: (Sequence, i64),
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and none excludes another"
)]
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) plan: Plan,
    pub(crate) server: Server,
    pub(crate) cover: Cover,
    pub(crate) trace: Trace,
    pub(crate) now: Micros,
    /// How far the machine's clock is from the world's, in ms.
    pub(crate) skew: Millis,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) calls: BTreeMap<u64, Open>,
    /// The call that each ticket was sent for.
    tickets: BTreeMap<u64, u64>,
    next_id: u64,
    pub(crate) buyers: Vec<Buyer>,
    pub(crate) provider: Provider,
    is_flush_planned: bool,
    /// A bit was flipped since the last opening.
    pub(crate) is_flipped: bool,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    /// The seed ended early: a betrayal was noticed.
    pub(crate) is_over: bool,
    pub(crate) operations: u64,
    pub(crate) crashes: u64,
}

impl World {
    pub(crate) fn new(seed: u64, is_traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let names = ["orders-1", "orders-2", "payments", "console"];
        let mut server = Server::new(plan.settings.clone(), u128::from(seed) + 1);
        server.clock_slack = if plan.has_clock_steps { 40_000 } else { 0 };
        Self {
            dice,
            plan,
            server,
            cover: Cover::default(),
            trace: Trace::new(is_traced),
            now: 0,
            skew: 0,
            queue: BinaryHeap::new(),
            order: 0,
            clients: names.map(|name| Client { name, seen: (0, 0) }).to_vec(),
            calls: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_id: 0,
            buyers: Vec::new(),
            provider: Provider::default(),
            is_flush_planned: false,
            is_flipped: false,
            is_calm: false,
            is_over: false,
            operations: 0,
            crashes: 0,
        }
    }

    /// Lives through the seed.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.begin()?;
        let end = self.plan.duration * 1_000;
        while self.now < end && !self.is_over {
            self.step()?;
        }
        if !self.is_over {
            self.settle()?;
        }
        self.trace
            .digest
            .add_number(self.server.disk.digest().cast_signed());
        Ok(())
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let Some(Reverse(Entry(time, _, happening))) = self.queue.pop() else {
            return Err(Violation::new("simulator", "nothing happens any more"));
        };
        let before = self.now / 1_000;
        self.now = self.now.max(time);
        if self.server.is_up() {
            self.server.served_ms += self.now / 1_000 - before;
        }
        self.set_clock();
        self.happen(happening)?;
        self.after_step()
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Wake(buyer) => self.wake(buyer),
            Happening::Send(id) => self.send(id),
            Happening::Arrive(call) => self.arrive(&call)?,
            Happening::Reply(id, told) => self.hear(id, *told),
            Happening::Decide(attempt, result) => self.decide_payment(&attempt, result),
            Happening::News(attempt) => self.send_news(&attempt),
            Happening::Follow => self.follow()?,
            Happening::BeginFlush => self.begin_flush(),
            Happening::EndFlush => self.end_flush(),
            Happening::Work(line) => self.server.work(line, &mut self.cover)?,
            Happening::Timers => self.run_timers()?,
            Happening::Keep => self.keep(),
            Happening::Operate => self.operate(),
            Happening::Meddle => self.meddle(),
            Happening::Disturb => self.disturb()?,
            Happening::Restart => self.restart()?,
        }
        Ok(())
    }

    /// What follows every step: answers go out, a power loss ends the process.
    fn after_step(&mut self) -> Result<(), Violation> {
        let answers = self.server.take_answers()?;
        for delivered in answers {
            self.reply(delivered);
        }
        if self.server.disk.is_off() && self.server.is_up() {
            self.cover.hit("crash power cut in a write or sync");
            self.crash(true);
        }
        Ok(())
    }

    pub(crate) fn set_clock(&self) {
        stepped::set_clock(self.wall(), self.monotonic());
    }

    /// The machine's clock.
    pub(crate) fn wall(&self) -> Millis {
        EPOCH_MS + self.now / 1_000 + self.skew
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.now.unsigned_abs())
    }

    pub(crate) fn plan_in(&mut self, span: Micros, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry(
            self.now + span.max(0),
            self.order,
            happening,
        )));
    }

    /// An id that nobody had before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes a call and repeats it, with the same bytes, until it is answered or given up.
    pub(crate) fn call(&mut self, asked: Asked, client: usize, purpose: Purpose) {
        let id = self.fresh();
        let is_needed = !matches!(purpose, Purpose::Nobody | Purpose::Buyer(_));
        let is_claim = matches!(&asked, Asked::One(it) if matches!(it.action, Action::Reserve(_)));
        let may_settle = !is_claim && !matches!(asked, Asked::Batch(_));
        let listener = if may_settle && client == 2 {
            Listener::Settlement
        } else {
            Listener::Data
        };
        let open = Open {
            asked,
            client,
            purpose,
            listener,
            has_deadline: !is_needed && self.dice.permille(50),
            tries: 0,
            tries_max: if is_needed { u32::MAX } else { 8 },
        };
        self.calls.insert(id, open);
        self.send(id);
    }

    fn send(&mut self, id: u64) {
        let ticket = self.fresh();
        let deadline_in = self.dice.within(0, 3_000);
        let monotonic = self.monotonic();
        let Some(open) = self.calls.get_mut(&id) else {
            return;
        };
        open.tries += 1;
        if open.tries > open.tries_max {
            self.calls.remove(&id);
            return;
        }
        let client = self.clients[open.client];
        let deadline = Duration::from_micros(deadline_in.unsigned_abs());
        let call = Call {
            ticket,
            asked: open.asked.clone(),
            caller: client.name,
            seen: client.seen,
            deadline: open.has_deadline.then(|| monotonic + deadline),
            listener: open.listener,
        };
        self.tickets.insert(ticket, id);
        let patience = self.dice.within(400_000, 2_500_000);
        self.plan_in(patience, Happening::Send(id));
        if !self.is_calm && self.dice.permille(self.plan.loss_permille) {
            self.cover.hit("net request lost");
        } else {
            let delay = self.delay();
            self.plan_in(delay, Happening::Arrive(Box::new(call.clone())));
        }
        if !self.is_calm && self.dice.permille(self.plan.double_permille) {
            self.cover.hit("net request doubled");
            let twin = self.fresh();
            self.tickets.insert(twin, id);
            let delay = self.delay();
            self.plan_in(
                delay,
                Happening::Arrive(Box::new(Call {
                    ticket: twin,
                    ..call
                })),
            );
        }
    }

    fn delay(&mut self) -> Micros {
        if !self.is_calm && self.dice.permille(self.plan.delay_permille) {
            self.cover.hit("net message delayed");
            return self.dice.within(5_000, 6_000_000);
        }
        self.dice.within(100, 4_000)
    }

    fn arrive(&mut self, call: &Call) -> Result<(), Violation> {
        self.operations += 1;
        let now = self.now;
        self.trace.note(now, || {
            format!(
                "arrives {} from {}: {:?}",
                call.ticket, call.caller, call.asked
            )
        });
        if !self.server.is_up() {
            return Ok(());
        }
        self.server.submit(call, &mut self.cover)?;
        match (&call.asked, call.listener) {
            (Asked::Batch(_), Listener::Data) => self.plan_work(Line::Data),
            (Asked::Batch(_), Listener::Settlement) => self.plan_work(Line::Settlement),
            (Asked::Audit | Asked::Explain(_), _) => self.plan_work(Line::Slow),
            _ => {}
        }
        self.plan_flush();
        Ok(())
    }

    fn plan_work(&mut self, line: Line) {
        let delay = self.dice.within(0, 2_000);
        self.plan_in(delay, Happening::Work(line));
    }

    pub(crate) fn plan_flush(&mut self) {
        if !self.is_flush_planned && self.server.is_up() {
            self.is_flush_planned = true;
            let delay = self.dice.within(0, 500);
            self.plan_in(delay, Happening::BeginFlush);
        }
    }

    pub(crate) fn forget_flush(&mut self) {
        self.is_flush_planned = false;
    }

    fn begin_flush(&mut self) {
        let is_begun = self
            .server
            .node
            .as_mut()
            .is_some_and(SteppedNode::begin_flush);
        if is_begun {
            let latency = self.dice.within(100, 6_000);
            self.plan_in(latency, Happening::EndFlush);
        } else {
            self.is_flush_planned = false;
        }
    }

    fn end_flush(&mut self) {
        self.is_flush_planned = false;
        if let Some(node) = &mut self.server.node {
            let durable = node.health().durable_sequence;
            if node.end_flush() {
                self.server.proven = durable;
                self.plan_flush();
            }
        }
    }

    /// Sends an answer over the network.
    fn reply(&mut self, delivered: Delivered) {
        let Delivered { ticket, told, seen } = delivered;
        let now = self.now;
        self.trace
            .note(now, || format!("answers {ticket}: {told:?}"));
        let Some(id) = self.tickets.get(&ticket).copied() else {
            return;
        };
        if let Told::Fault(reason) = &told {
            self.note_fault(reason);
        }
        if !self.is_calm && self.dice.permille(self.plan.loss_permille) {
            self.cover.hit("net reply lost");
            return;
        }
        if let Some(open) = self.calls.get(&id) {
            let client = &mut self.clients[open.client];
            client.seen.0 = client.seen.0.max(seen.0);
            client.seen.1 = client.seen.1.max(seen.1);
        }
        let delay = self.delay();
        self.plan_in(delay, Happening::Reply(id, Box::new(told)));
    }

    fn note_fault(&mut self, reason: &str) {
        let name = match reason {
            "DEADLINE_PASSED" => "deadline passed",
            "JOURNAL_SPACE" | "NO_ROOM" => "space refused",
            "JOURNAL_FAILED" | "DRAINING" | "CLOSED" => "fault of a stopped node",
            _ => "fault of another kind",
        };
        self.cover.hit(name);
    }

    /// A client hears an answer; a fault is tried again.
    fn hear(&mut self, id: u64, told: Told) {
        let is_fault = matches!(told, Told::Fault(_));
        if is_fault {
            return;
        }
        let Some(open) = self.calls.remove(&id) else {
            return;
        };
        match open.purpose {
            Purpose::Buyer(buyer) => self.tell_buyer(buyer, &open.asked, told),
            Purpose::News(attempt, result) => {
                let Told::Replies(replies) = told else { return };
                let outcome = replies.first().and_then(|it| Some(it.as_ref()?.outcome));
                if let Some(money) = self.provider.attempts.get_mut(&attempt) {
                    money.is_told |= money.truth == Some(result);
                    money.is_orphan = outcome == Some(Outcome::UnknownReservation);
                }
            }
            Purpose::Refund(attempt) => self.tell_refund(open.asked, attempt, &told),
            Purpose::Nobody => {}
        }
    }
}
