//! What a call holds from being let in until it is answered.
//!
//! Owns: the way back into admission's count of calls in flight. Must not: decide who comes in.
//! Where next: `door.rs`.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use lastunit_admission::{
    Answer, Ask, Call, Chance, Door, DoorPolicy, Lane, Nanos, Operation, Report, ReportError,
    Shadow, ShadowCounts, Stats, WindowStats,
};
use lastunit_arrivals::{Draft, Outcome, ReportNote};
use lastunit_engine::{Action, Command, Reserve};
use lastunit_wire::Request;

use crate::clock::instant_now;
use crate::gone::Gone;
use crate::recorder::Recorder;

/// A call as admission sees it.
pub(crate) struct Question<'a> {
    call: Call<'a>,
    sale: &'a str,
    skus: Skus<'a>,
    chance: Chance,
}

impl<'a> Question<'a> {
    pub(crate) fn new(
        operation: Operation,
        request: &'a Request,
        caller: &'a str,
        gone: &Gone,
    ) -> Self {
        let mut question = Self {
            call: Call {
                operation,
                line_count: 0,
                caller,
            },
            sale: "",
            skus: Skus::None,
            chance: Chance::Possible,
        };
        if let Some(reserve) = reserve_of(request) {
            question.call.line_count = u32::try_from(reserve.lines.len()).unwrap_or(u32::MAX);
            question.sale = &reserve.sale_id;
            question.skus = Skus::of(reserve);
            if gone.has_any(reserve) {
                question.chance = Chance::Gone;
            }
        }
        question
    }

    pub(crate) fn lane(&self) -> Lane {
        self.call.operation.lane()
    }

    /// Whether it asks for what is gone, as far as is known.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.chance == Chance::Gone
    }

    fn ask(&self, chance: Chance) -> Ask<'_> {
        Ask {
            call: self.call,
            sale: self.sale,
            skus: self.skus.as_slice(),
            chance,
        }
    }
}

/// The skus that a call asks for, each once; nearly always one, which takes no memory.
enum Skus<'a> {
    None,
    One([&'a str; 1]),
    Many(Vec<&'a str>),
}

impl<'a> Skus<'a> {
    fn of(reserve: &'a Reserve) -> Self {
        if let [line] = reserve.lines.as_slice() {
            return Self::One([&line.sku]);
        }
        let mut skus: Vec<&str> = Vec::new();
        for line in &reserve.lines {
            if !skus.contains(&line.sku.as_str()) {
                skus.push(&line.sku);
            }
        }
        Self::Many(skus)
    }

    fn as_slice(&self) -> &[&'a str] {
        match self {
            Self::None => &[],
            Self::One(sku) => sku,
            Self::Many(skus) => skus,
        }
    }
}

/// The reservation that a request asks for; none if it asks for something else.
pub(crate) fn reserve_of(request: &Request) -> Option<&Reserve> {
    match request {
        Request::Command(command) => reserve_of_command(command),
        _ => None,
    }
}

pub(crate) fn reserve_of_command(command: &Command) -> Option<&Reserve> {
    match &command.action {
        Action::Reserve(reserve) => Some(reserve),
        _ => None,
    }
}

/// The live policy, and one on trial beside it.
struct Booth {
    door: Door,
    shadow: Option<Shadow>,
    /// Drawn at random, so that nobody can choose names that collide; it shows in no answer.
    seed: u64,
}

impl Booth {
    fn decide(&mut self, ask: &Ask<'_>, now: Nanos) -> Answer {
        let answer = self.door.decide(ask, now);
        if let Some(shadow) = &mut self.shadow {
            shadow.observe(ask, &answer, now);
        }
        answer
    }

    fn finish(&mut self, lane: Lane, count: u32) {
        self.door.finish(lane, count);
        if let Some(shadow) = &mut self.shadow {
            shadow.finish(lane, count);
        }
    }
}

/// Admission with its clock.
///
/// One lock of its own, held for one decision (about 100 ns) and never together with the node's
/// lock: calls that are refused must not touch what calls that are let in wait for.
pub(crate) struct Turnstile {
    booth: Mutex<Booth>,
    start: Instant,
    /// Calls not answered yet, of every kind, so that a drain knows when it is done.
    open_count: AtomicU64,
    /// Keeps what comes, where an operator wants that.
    recorder: OnceLock<Recorder>,
}

impl Turnstile {
    pub(crate) fn new(policy: DoorPolicy) -> Arc<Self> {
        let seed = RandomState::new().hash_one(0);
        Arc::new(Self {
            booth: Mutex::new(Booth {
                door: Door::new(policy, seed, 0),
                shadow: None,
                seed,
            }),
            start: instant_now(),
            open_count: AtomicU64::new(0),
            recorder: OnceLock::new(),
        })
    }

    /// Keeps what comes from now on.
    pub(crate) fn record(&self, recorder: Recorder) {
        // There is one recorder in a node's life.
        let _ = self.recorder.set(recorder);
    }

    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.get()
    }

    /// Starts a call: from here on a drain waits for it.
    pub(crate) fn open(self: &Arc<Self>) -> Permit {
        // SeqCst pairs with the node's state: either a drain sees this call, or this call sees that
        // the node drains.
        self.open_count.fetch_add(1, Ordering::SeqCst);
        let mut permit = Permit::free();
        permit.turnstile = Some(Arc::clone(self));
        permit
    }

    /// Decides one call.
    pub(crate) fn admit(&self, permit: &mut Permit, question: &Question<'_>) -> Answer {
        let now = self.now();
        let answer = self.booth().decide(&question.ask(question.chance), now);
        self.note(permit, question, &answer, now);
        answer
    }

    /// Decides one call, if its lane has room for it.
    ///
    /// # Errors
    /// How long until it may have; nothing was counted or charged.
    pub(crate) fn admit_unless_full(
        &self,
        permit: &mut Permit,
        question: &Question<'_>,
    ) -> Result<Answer, Nanos> {
        let now = self.now();
        let ask = question.ask(question.chance);
        let mut booth = self.booth();
        if let Some(wait) = booth.door.wait_for_lane(&ask, now) {
            return Err(wait);
        }
        let answer = booth.decide(&ask, now);
        drop(booth);
        self.note(permit, question, &answer, now);
        Ok(answer)
    }

    /// Refuses a call that waited too long for its lane, or that found no place to wait.
    pub(crate) fn refuse_late(&self, permit: &mut Permit, question: &Question<'_>) -> Answer {
        let now = self.now();
        let ask = question.ask(question.chance);
        let answer = Answer::Refused(self.booth().door.refuse_late(&ask, now));
        self.note(permit, question, &answer, now);
        answer
    }

    fn note(&self, permit: &mut Permit, question: &Question<'_>, answer: &Answer, now: Nanos) {
        permit.note(question, answer);
        if self.recorder.get().is_some() {
            permit.draft(question, answer, now);
        }
    }

    /// Decides a row of calls in their order, under one lock hold.
    pub(crate) fn admit_row(&self, permit: &mut Permit, questions: &[Question<'_>]) -> Vec<Answer> {
        let now = self.now();
        let mut booth = self.booth();
        let decide = |question: &Question<'_>| {
            let answer = booth.decide(&question.ask(question.chance), now);
            permit.note(question, &answer);
            answer
        };
        let answers: Vec<_> = questions.iter().map(decide).collect();
        drop(booth);
        if self.recorder.get().is_some() {
            for (question, answer) in questions.iter().zip(&answers) {
                permit.draft(question, answer, now);
            }
        }
        answers
    }

    /// Decides a call again that was let through as hopeless and turned out to have a chance: it
    /// pays like everybody. Never gives [`Answer::Hopeless`].
    pub(crate) fn admit_after_all(&self, permit: &mut Permit, question: &Question<'_>) -> Answer {
        let now = self.now();
        let mut booth = self.booth();
        booth.door.finish_hopeless(1);
        permit.hopeless_count -= 1;
        let ask = question.ask(Chance::Possible);
        let answer = booth.decide(&ask, now);
        drop(booth);
        permit.note(question, &answer);
        if let Some(draft) = &mut permit.draft {
            draft.decide_after_all(&ask, Outcome::of(&ask, &answer), now);
        }
        answer
    }

    /// Calls not answered yet.
    pub(crate) fn open_count(&self) -> u64 {
        self.open_count.load(Ordering::SeqCst)
    }

    pub(crate) fn set_policy(&self, policy: DoorPolicy) {
        let now = self.now();
        self.booth().door.set_policy(policy, now);
    }

    /// Puts a policy on trial from now on, or ends the trial.
    pub(crate) fn set_shadow(&self, policy: Option<DoorPolicy>) {
        let now = self.now();
        let mut booth = self.booth();
        let seed = booth.seed;
        let in_flight = booth.door.in_flight();
        booth.shadow = policy.map(|policy| Shadow::new(policy, seed, in_flight, now));
    }

    /// What the policy on trial counted; None without one.
    pub(crate) fn shadow_counts(&self) -> Option<ShadowCounts> {
        self.booth().shadow.as_ref().map(Shadow::counts)
    }

    /// Takes a report of the order service; None without a window.
    pub(crate) fn report(&self, report: &Report) -> Option<Result<WindowStats, ReportError>> {
        let now = self.now();
        let mut booth = self.booth();
        booth.door.window(now)?;
        if let Some(shadow) = &mut booth.shadow {
            shadow.report(report, now);
        }
        let taken = booth.door.report(report, now);
        let stats = booth.door.window(now)?;
        drop(booth);
        if let (Some(recorder), Ok(())) = (self.recorder.get(), &taken) {
            recorder.keep_report(ReportNote {
                at: now,
                report: *report,
            });
        }
        Some(taken.map(|()| stats))
    }

    pub(crate) fn stats(&self, caller_limit: usize) -> Stats {
        let now = self.now();
        self.booth().door.stats(caller_limit, now)
    }

    /// Nanoseconds since the node was opened.
    pub(crate) fn now(&self) -> Nanos {
        let elapsed = instant_now().saturating_duration_since(self.start);
        Nanos::try_from(elapsed.as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// The door changes its counters last, so a panic leaves it usable; it only limits.
    fn booth(&self) -> MutexGuard<'_, Booth> {
        self.booth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped, so that no way out of a call can forget it.
pub(crate) struct Permit {
    turnstile: Option<Arc<Turnstile>>,
    /// Operations let in, by lane.
    counts: [u32; Lane::ALL.len()],
    /// Operations that are answered although they cannot win.
    hopeless_count: u32,
    /// Reservations let in that the credit window counts and the ledger has not granted.
    credit_count: u64,
    /// What is kept of the call; None if nobody records.
    draft: Option<Box<Draft>>,
    /// Since when the call waits for its lane; None if it never did.
    waits_since: Option<Nanos>,
}

impl Permit {
    /// Belongs to nothing: for the node's own waiting.
    pub(crate) fn free() -> Self {
        Self {
            turnstile: None,
            counts: [0; Lane::ALL.len()],
            hopeless_count: 0,
            credit_count: 0,
            draft: None,
            waits_since: None,
        }
    }

    /// Says that the call has to wait; the first time counts.
    pub(crate) fn note_wait(&mut self, now: Nanos) {
        self.waits_since.get_or_insert(now);
    }

    fn draft(&mut self, question: &Question<'_>, answer: &Answer, now: Nanos) {
        let ask = question.ask(question.chance);
        let new = || Box::new(Draft::new(question.call.caller));
        let draft = self.draft.get_or_insert_with(new);
        let waited = self.waits_since.map_or(0, |it| now.saturating_sub(it));
        draft.add(&ask, Outcome::of(&ask, answer), now, waited);
    }

    fn note(&mut self, question: &Question<'_>, answer: &Answer) {
        let operation = question.call.operation;
        match answer {
            Answer::Admitted => {
                self.counts[operation.lane().index()] += 1;
                self.credit_count += u64::from(operation == Operation::Reserve);
            }
            Answer::Hopeless => self.hopeless_count += 1,
            Answer::Refused(_) => {}
        }
    }

    /// Says that a reservation was granted: the order service will have to persist it. The credits
    /// of the others are given back with the permit.
    pub(crate) fn keep_credit(&mut self) {
        self.credit_count = self.credit_count.saturating_sub(1);
        if let Some(draft) = &mut self.draft {
            draft.grant();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(turnstile) = self.turnstile.take() else {
            return;
        };
        if self.hopeless_count > 0 || self.counts.iter().any(|count| *count > 0) {
            let mut booth = turnstile.booth();
            for (lane, count) in Lane::ALL.into_iter().zip(self.counts) {
                booth.finish(lane, count);
            }
            booth.door.finish_hopeless(self.hopeless_count);
            booth.door.give_back(self.credit_count);
        }
        if let (Some(draft), Some(recorder)) = (self.draft.take(), turnstile.recorder.get()) {
            recorder.keep(draft, turnstile.now());
        }
        turnstile.open_count.fetch_sub(1, Ordering::SeqCst);
    }
}
