//! What the node's lock protects, and the one step that changes it: decide, append, apply.
//!
//! Owns: the order of decisions. Must not: decode, encode replies, wait for the disk or deliver.
//! Where next: `serve.rs` before the step, `waiters.rs` after it.

use std::sync::Arc;

use lastunit_engine::limits::SPAN_MAX;
use lastunit_engine::{Action, Command, Decision, Ledger, Millis, Reply, Sequence};
use lastunit_journal::{Journal, RecordInput};
use lastunit_wire::Fault;

use crate::clock::LedgerClock;
use crate::epochs::Epochs;
use crate::faults;

/// Engine, ledger time, known epochs and the front of the journal.
///
/// They are behind one lock because their orders must be one order: the time of a decision, its
/// events' sequences and their place in the open batch. The lock is held for memory work only,
/// about a microsecond a command; disk, decoding, encoding and delivery are outside.
pub(crate) struct Core {
    pub(crate) ledger: Ledger,
    pub(crate) clock: LedgerClock,
    pub(crate) epochs: Epochs,
    journal: Arc<Journal>,
    /// The last record that was appended, kept for its room.
    record: Vec<u8>,
    /// Bytes that the ledger may hold before nothing new is reserved.
    ledger_bytes_max: u64,
    op_number: i64,
    /// Every decision in its order, for the simulator to judge.
    #[cfg(feature = "testing")]
    pub(crate) tap: Vec<crate::stepped::Tapped>,
}

/// Where in the order of decisions something was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The state that was shown.
    pub(crate) as_of: Sequence,
    /// Position among all decisions of this process.
    pub(crate) op_number: i64,
}

/// A command that was decided.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) reply: Reply,
    pub(crate) order: Order,
    /// Ledger time of the decision.
    pub(crate) now: Millis,
    /// Whether something now waits for the disk.
    pub(crate) is_appended: bool,
}

impl Core {
    pub(crate) fn new(
        ledger: Ledger,
        clock: LedgerClock,
        epochs: Epochs,
        journal: Arc<Journal>,
        ledger_bytes_max: u64,
    ) -> Self {
        Self {
            ledger,
            clock,
            epochs,
            journal,
            record: Vec::new(),
            ledger_bytes_max,
            op_number: 0,
            #[cfg(feature = "testing")]
            tap: Vec::new(),
        }
    }

    /// Numbers a decision that shows the present state.
    pub(crate) fn order(&mut self) -> Order {
        self.op_number += 1;
        Order {
            as_of: self.ledger.sequence(),
            op_number: self.op_number,
        }
    }

    pub(crate) fn op_number(&self) -> i64 {
        self.op_number
    }

    /// Decides a command now, appends its events and applies them; on a fault nothing has changed.
    pub(crate) fn execute(&mut self, command: &Command) -> Result<Decided, Fault> {
        let (now, is_credited) = self.now()?;
        let mut decided = self.execute_at(command, now)?;
        decided.is_appended |= is_credited;
        Ok(decided)
    }

    /// Ledger time now, and whether something was appended: time in which nobody was served is
    /// credited to those who hold units before anything is decided at it.
    pub(crate) fn now(&mut self) -> Result<(Millis, bool), Fault> {
        let now = self.clock.now();
        let outage = self.clock.owed().min(SPAN_MAX);
        if outage == 0 {
            return Ok((now, false));
        }
        let command = Command::internal(Action::CreditOutage { outage });
        self.execute_at(&command, now)?;
        self.clock.pay();
        Ok((now, true))
    }

    /// Answers a command that changes nothing: a refusal, or the repeat of one that was decided
    /// before. None, and nothing done, if it would change something.
    pub(crate) fn answer_without_effect(
        &mut self,
        command: &Command,
    ) -> Result<Option<Decided>, Fault> {
        let (now, is_credited) = self.now()?;
        let mut decided = self.answer_without_effect_at(command, now)?;
        if let Some(decided) = &mut decided {
            decided.is_appended |= is_credited;
        }
        Ok(decided)
    }

    /// Like `answer_without_effect`, at a ledger time that is not before the last one.
    pub(crate) fn answer_without_effect_at(
        &mut self,
        command: &Command,
        now: Millis,
    ) -> Result<Option<Decided>, Fault> {
        let decision = self.ledger.decide(command, now);
        if !decision.events.is_empty() {
            return Ok(None);
        }
        self.carry_out(command, decision, now).map(Some)
    }

    /// Like `execute`, at a ledger time that is not before the last one.
    pub(crate) fn execute_at(&mut self, command: &Command, now: Millis) -> Result<Decided, Fault> {
        let decision = self.ledger.decide(command, now);
        self.carry_out(command, decision, now)
    }

    fn carry_out(
        &mut self,
        command: &Command,
        decision: Decision,
        now: Millis,
    ) -> Result<Decided, Fault> {
        let is_appended = !decision.events.is_empty();
        if is_appended {
            // The id was looked up by now: the retry of a reservation that exists has no events,
            // and is answered however little room there is.
            let is_new_claim = matches!(command.action, Action::Reserve(_));
            if is_new_claim {
                self.check_room()?;
            }
            self.append(&decision.events, now)?;
            for event in &decision.events {
                self.ledger.apply(event);
            }
        }
        let order = self.order();
        #[cfg(feature = "testing")]
        crate::stepped::tap(&mut self.tap, || crate::stepped::Tapped {
            command: command.clone(),
            now,
            reply: decision.reply.clone(),
            events: decision.events.clone(),
            as_of: order.as_of,
            op_number: order.op_number,
        });
        Ok(Decided {
            reply: decision.reply,
            order,
            now,
            is_appended,
        })
    }

    /// Whether there is room for another reservation on the disk and in memory. What is there
    /// already is settled without asking.
    fn check_room(&self) -> Result<(), Fault> {
        if self.journal.is_space_low() {
            return Err(faults::journal_space(self.journal.free_bytes()));
        }
        let held = self.ledger.memory_bytes() as u64;
        if held >= self.ledger_bytes_max {
            return Err(faults::memory_limit(held, self.ledger_bytes_max));
        }
        Ok(())
    }

    /// Appends before anything is applied: an append that is refused leaves the state as it was.
    fn append(&mut self, events: &[lastunit_engine::Event], now: Millis) -> Result<(), Fault> {
        self.record.clear();
        lastunit_wire::write_record(&mut self.record, events);
        let input = RecordInput {
            first_sequence: self.ledger.sequence() + 1,
            event_count: u32::try_from(events.len()).unwrap_or(u32::MAX),
            time_ms: now,
            body: &self.record,
        };
        self.journal
            .append(input)
            .map_err(|error| faults::journal(&error))
    }
}
