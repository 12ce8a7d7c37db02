//! Opening the node on what a crash left, and the oracles of a recovery.
//!
//! Owns: what must be there afterwards: everything that anybody was shown, a whole prefix of the
//! rest, and nothing else; each id once; a higher epoch; credit for the time it was down. Must not:
//! choose when. Where next: `server.rs`.

use std::sync::Arc;

use lastunit_engine::{Action, Command, Event, EventBody, Ledger, Millis, Outcome, Sequence};
use lastunit_journal::Storage;
use lastunit_node::stepped::{SteppedNode, Tapped};
use lastunit_node::{OpenError, ReadError};
use lastunit_wire::contract;
use prost::Message as _;

use crate::book::Book;
use crate::cover::Cover;
use crate::judge::{Violation, by, judge};
use crate::server::{Logged, Server};

/// How an opening ended.
#[derive(Debug)]
pub(crate) enum Opening {
    /// It serves, and everything is as it must be.
    Up,
    /// It refused, and said why.
    Refused(String),
    /// What somebody was shown is gone: callers must notice.
    RolledBack(Sequence),
}

impl Server {
    /// Opens the node and compares what it recovered.
    pub(crate) fn open(
        &mut self,
        wall: Millis,
        epoch_step: u16,
        cover: &mut Cover,
    ) -> Result<Opening, Violation> {
        self.forget_calls();
        let storage = Arc::clone(&self.disk) as Arc<dyn Storage>;
        let (settings, id) = (self.settings.clone(), self.journal_id);
        let node = match SteppedNode::open(settings, storage, id, epoch_step) {
            Ok(node) => node,
            Err(error) => return Ok(Opening::Refused(text(&error))),
        };
        let decided = node.take_decided();
        let made: usize = decided.iter().map(|it| it.events.len()).sum();
        let head = node.look(Ledger::sequence) - Sequence::try_from(made).unwrap_or(0);
        let epoch = node.health().epoch;
        self.node = Some(node);
        let before = self.book.sequence;
        let shown = self.shown;
        let common = if head < shown {
            head
        } else {
            self.compare_events(head)?
        };
        if common < shown {
            return self.rolled_back(common);
        }
        self.rebuild(head)?;
        // Where an opening itself was lost to a flip or a lie, the next one only has to differ.
        if epoch == self.epoch || epoch < self.epoch && self.is_strict {
            let detail = format!("epoch {epoch} follows {}", self.epoch);
            return Err(Violation::new("epoch", detail));
        }
        self.epoch = epoch;
        cover.add(
            "recovered unacknowledged events",
            u64::from(head > self.shown),
        );
        cover.add("lost unacknowledged events", u64::from(head < before));
        // The opening's own events are the last group: one flipped bit may still take them back.
        self.base = self.book.clone();
        self.log.clear();
        self.check_opening(&decided, wall, cover)?;
        self.check_all()?;
        self.check_repeats()?;
        self.proven = head;
        Ok(Opening::Up)
    }

    /// Somebody was shown more than there is.
    fn rolled_back(&self, head: Sequence) -> Result<Opening, Violation> {
        if self.is_strict {
            let detail = format!("the journal ends at {head}, {} was shown", self.shown);
            return Err(Violation::new("durable before told", detail));
        }
        // One flipped bit may look like a torn tail only in the last group.
        if !self.disk.has_lied() && head < self.proven {
            let detail = format!("the journal ends at {head}, {} was proven", self.proven);
            return Err(Violation::new("damage taken for a torn tail", detail));
        }
        Ok(Opening::RolledBack(head))
    }

    /// Compares the recovered events with those that were made. Where they part, the rest was lost,
    /// and openings that were cut short may have left their own events there: nobody else wrote.
    /// Gives the last sequence of the common part.
    fn compare_events(&mut self, head: Sequence) -> Result<Sequence, Violation> {
        let mut after = self.base.sequence;
        let mut parted = None;
        while after < head {
            let Some(node) = &self.node else { break };
            let (bytes, last) = match node.read_events(after, (head - after).min(1_000)) {
                Ok(read) => read,
                // What a snapshot holds may be gone.
                Err(ReadError::Removed { first_sequence, .. }) if first_sequence - 1 > after => {
                    after = first_sequence - 1;
                    continue;
                }
                // A bit flipped where only readers look: the operator restores that segment.
                Err(_) if self.disk.flip_count() > 0 => {
                    self.disk.unflip();
                    continue;
                }
                // What a lying disk lost behind a snapshot can't be read; the state is compared.
                Err(_) if self.disk.has_lied() => break,
                Err(error) => return Err(Violation::new("events", error.to_string())),
            };
            for event in events_of(&bytes)? {
                let place = usize::try_from(event.sequence - 1).unwrap_or(usize::MAX);
                if parted.is_none() && self.history.get(place) == Some(&event) {
                    continue;
                }
                let start = *parted.get_or_insert(event.sequence - 1);
                self.note_cut_opening(start, event)?;
            }
            if last <= after {
                break;
            }
            after = last;
        }
        Ok(parted.unwrap_or(head))
    }

    fn note_cut_opening(&mut self, start: Sequence, event: Event) -> Result<(), Violation> {
        let action = match event.body {
            EventBody::NodeOpened { epoch } => Action::NoteNodeOpened { epoch },
            EventBody::OutageCredited { outage } => Action::CreditOutage { outage },
            _ => {
                let detail = format!("{event:?} comes from nowhere");
                return Err(Violation::new("all or nothing", detail));
            }
        };
        if event.sequence == start + 1 {
            let kept = self.log.iter().take_while(|it| it.last <= start).count();
            let end = self.log[..kept]
                .last()
                .map_or(self.base.sequence, |it| it.last);
            if end != start {
                let detail = format!("a part of the command after {end} is there, up to {start}");
                return Err(Violation::new("all or nothing", detail));
            }
            self.log.truncate(kept);
        }
        self.log.push(Logged {
            command: Command::internal(action),
            now: event.time,
            events: 1,
            last: event.sequence,
        });
        self.history
            .truncate(usize::try_from(event.sequence - 1).unwrap_or(0));
        self.history.push(event);
        Ok(())
    }

    /// Brings the book to where the journal ends, which must be between two commands.
    fn rebuild(&mut self, head: Sequence) -> Result<(), Violation> {
        let kept = self.log.iter().take_while(|it| it.last <= head).count();
        let end = self.log[..kept]
            .last()
            .map_or(self.base.sequence, |it| it.last);
        if end != head {
            let detail = format!("the journal ends at {head}, the command before at {end}");
            return Err(Violation::new("all or nothing", detail));
        }
        self.log.truncate(kept);
        self.history.truncate(usize::try_from(head).unwrap_or(0));
        let mut book = std::mem::take(&mut self.base);
        for it in &self.log {
            book.decide(&it.command, it.now, it.events);
        }
        book.rows.clear();
        self.book = book;
        Ok(())
    }

    /// The node's own two commands: the opening, and the credit for the time it was down.
    fn check_opening(
        &mut self,
        decided: &[Tapped],
        wall: Millis,
        cover: &mut Cover,
    ) -> Result<(), Violation> {
        let last_time = self.book.time;
        let is_first = self.history.is_empty();
        let mut credited = 0;
        for tapped in decided {
            match tapped.command.action {
                Action::NoteNodeOpened { epoch } if epoch == self.epoch => {}
                Action::CreditOutage { outage } => credited = outage,
                ref other => {
                    let detail = format!("{other:?} at an opening");
                    return Err(Violation::new("epoch", detail));
                }
            }
            judge(&mut self.book, tapped)?;
            self.book.rows.clear();
            self.log.push(Logged {
                command: tapped.command.clone(),
                now: tapped.now,
                events: u32::try_from(tapped.events.len()).unwrap_or(u32::MAX),
                last: self.book.sequence,
            });
            self.history.extend(tapped.events.iter().cloned());
        }
        // Between what the last event proves and what the last sign of life would: a seal or a
        // snapshot may have shown later that the node was up.
        let slack = self.clock_slack;
        let most = (wall - last_time).max(0) + slack;
        let least = (wall - self.alive_at.max(last_time) - slack).max(0);
        if !is_first && !(least..=most).contains(&credited) {
            let detail = format!("{credited} ms were credited, not {least} to {most}");
            return Err(Violation::new("outage credit", detail));
        }
        cover.add("outage credited", u64::from(credited > 0));
        Ok(())
    }

    /// Compares everything, and asks the ledger's own audit.
    pub(crate) fn check_all(&self) -> Result<(), Violation> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        node.look(|ledger| {
            let audit = ledger.audit();
            if let Some(first) = audit.findings.first() {
                return Err(Violation::new("audit", format!("{first:?}")));
            }
            self.book.compare(ledger).map_err(by("state"))
        })
    }

    /// Whatever was done under an id is still known: asked again it gives the first answer.
    pub(crate) fn check_repeats(&self) -> Result<(), Violation> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let commands = commands_of(&self.book, 24);
        node.look(|ledger| {
            for (command, first) in commands {
                let again = ledger.decide(&command, self.book.time);
                let reply = &again.reply;
                let is_first = reply.outcome == Outcome::Ok
                    && reply.replayed
                    && reply.sequence == first
                    && again.events.is_empty();
                if !is_first {
                    let detail = format!("{command:?} again gives {reply:?}");
                    return Err(Violation::new("first answer again", detail));
                }
            }
            Ok(())
        })
    }
}

/// Some of the commands that had an effect under an id of their own, with what they were told.
fn commands_of(book: &Book, count: usize) -> Vec<(Command, Sequence)> {
    let step = |length: usize| length / count + 1;
    let reserved = book
        .reservations
        .values()
        .step_by(step(book.reservations.len()))
        .map(|it| {
            let command = Command::internal(Action::Reserve(it.asked.clone()));
            (command, it.first.sequence)
        });
    let begun = book.attempts.values().step_by(step(book.attempts.len()));
    let begun = begun.filter_map(|it| Some((it.begun.clone()?, it.first.sequence)));
    let done = book.requests.values().step_by(step(book.requests.len()));
    let done = done.map(|it| (it.command.clone(), it.first.sequence));
    reserved.chain(begun).chain(done).collect()
}

/// The events of a response of the event stream.
pub(crate) fn events_of(bytes: &[u8]) -> Result<Vec<Event>, Violation> {
    let response = contract::ReadEventsResponse::decode(bytes);
    let response = response.map_err(|error| Violation::new("events", error.to_string()))?;
    let read = response
        .events
        .into_iter()
        .map(lastunit_wire::event_from_proto);
    read.collect::<Result<_, _>>()
        .map_err(|error| Violation::new("events", error.to_string()))
}

fn text(error: &OpenError) -> String {
    format!("{}: {error}", error.reason())
}
