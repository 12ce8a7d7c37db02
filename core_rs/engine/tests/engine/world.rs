//! A ledger under test: every command goes through here, and what must hold after any command is
//! checked after each.

use lastunit_engine::{Action, AuditCursor, Command, Decision, Event, Ledger, Millis, Outcome};

/// A ledger, its journal and its clock.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) events: Vec<Event>,
    pub(crate) now: Millis,
    request_count: u32,
    run_count: u32,
    /// Whether each command is checked against the bytes of the whole state; every eighth if not.
    pub(crate) is_thorough: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            events: Vec::new(),
            now: 0,
            request_count: 0,
            run_count: 0,
            is_thorough: true,
        }
    }

    /// Decides and applies a command, and checks what must hold after any.
    pub(crate) fn run(&mut self, command: &Command) -> Decision {
        self.run_count += 1;
        let is_thorough = self.is_thorough || self.run_count.is_multiple_of(8);
        let before = is_thorough.then(|| self.ledger.to_snapshot());
        let decision = self.ledger.decide(command, self.now);

        assert_eq!(
            decision,
            self.ledger.decide(command, self.now),
            "decide is a function"
        );
        let after = is_thorough.then(|| self.ledger.to_snapshot());
        assert!(before == after, "decide changes nothing");
        let is_done = decision.reply.outcome == Outcome::Ok && !decision.reply.replayed;
        assert_eq!(
            is_done,
            !decision.events.is_empty(),
            "only what is done leaves events"
        );
        self.apply(&decision.events);
        if is_done {
            self.check_repeat(command, &decision);
        }
        decision
    }

    /// What was done is answered alike when it comes again, but for `replayed`.
    fn check_repeat(&self, command: &Command, first: &Decision) {
        let is_entity = matches!(command.action, Action::Reserve(_) | Action::BeginPayment(_));
        if command.request_id.is_empty() && !is_entity {
            return;
        }
        let again = self.ledger.decide(command, self.now);
        let mut expected = first.reply.clone();
        expected.replayed = true;

        assert_eq!(expected, again.reply, "a repeat gets the first answer");
        assert!(again.events.is_empty(), "a repeat has no effect");
        assert_eq!(self.ledger.sequence(), again.reply.sequence);
    }

    fn apply(&mut self, events: &[Event]) {
        for event in events {
            assert_eq!(self.ledger.sequence() + 1, event.sequence);
            assert_eq!(self.now.max(self.ledger.time()), event.time);
            self.ledger.apply(event);
        }
        self.events.extend_from_slice(events);
        let mut cursor = Some(AuditCursor::default());
        while let Some(from) = cursor {
            let slice = self.ledger.audit_slice(from, 7);
            assert!(slice.findings.is_empty(), "{:#?}", slice.findings);
            cursor = slice.next;
        }
        let audit = self.ledger.audit();
        assert!(audit.holds(), "{:#?}", audit.findings);
    }

    /// Runs what is due, in order, until nothing is.
    pub(crate) fn run_due(&mut self) {
        for _ in 0..1_000 {
            let due = self.ledger.due(self.now, 7);
            if due.is_empty() {
                return;
            }
            for command in due {
                assert_eq!(Outcome::Ok, self.run(&command).reply.outcome, "{command:?}");
            }
        }
        panic!("what is due never ends");
    }

    /// The fold of the events is the state, and a snapshot of it reads back as the same.
    pub(crate) fn check_fold(&self) {
        let mut folded = Ledger::new();
        for event in &self.events {
            folded.apply(event);
        }
        let bytes = self.ledger.to_snapshot();

        assert!(
            bytes == folded.to_snapshot(),
            "the state is the fold of its events"
        );
        let restored = Ledger::from_snapshot(&bytes).expect("a snapshot reads back");
        assert!(
            bytes == restored.to_snapshot(),
            "a snapshot is the whole state"
        );
        assert_eq!(self.ledger.next_due(), restored.next_due());
        assert_eq!(
            self.ledger.due(self.now, 1_000),
            restored.due(self.now, 1_000)
        );
    }

    /// A command of a client, with a fresh request id.
    pub(crate) fn client(&mut self, action: Action) -> Command {
        self.request_count += 1;
        Command::from_caller(&format!("request-{}", self.request_count), "tester", action)
    }

    /// A command of an operator, with a fresh request id.
    pub(crate) fn operator(&mut self, action: Action) -> Command {
        let mut command = self.client(action);
        command.actor = "operator".into();
        command.reason = "because".into();
        command
    }
}
