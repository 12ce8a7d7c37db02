//! Which admission policy holds: the revisions, the one in force, the one on trial.
//!
//! Owns: the order of revisions, when one takes effect, and that the door has it. Must not: decide
//! who comes in. Its lock may be held while the door's is taken, never the other way, and never
//! with the node's. Where next: `revisions.rs` for the disk, `permit.rs` for the door,
//! `lastunit-policy` for the document.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastunit_admission::DoorPolicy;
use lastunit_engine::{Millis, Sequence, is_id};
use lastunit_journal::Storage;
use lastunit_wire::Fault;
use serde_json::{Value, json};

use crate::faults;
use crate::lane_lock::Urgency;
use crate::open::OpenError;
use crate::revisions::{self, PolicyOrigin, Revision};
use crate::settings::{PolicyText, SettingsError};
use crate::shared::Shared;

/// Revisions and bytes of documents that are kept; past either the oldest go.
const REVISIONS_MAX: usize = 20_000;
const REVISION_BYTES_MAX: usize = 64 << 20;

/// Longest reason, in bytes; as everywhere in the contract.
const REASON_BYTES_MAX: usize = 256;

/// Most revisions that one page shows.
const PAGE_MAX: usize = 1_000;

/// When nothing waits for its time.
const NEVER: Millis = Millis::MAX;

/// A policy that is to be put.
#[derive(Clone, Copy, Debug)]
pub struct PolicyPut<'a> {
    /// The TOML text.
    pub document: &'a str,
    /// The last revision that the caller knows; None takes whatever it is.
    pub expected_revision: Option<u64>,
    /// Who wants it, 1 to 64 bytes of `[A-Za-z0-9._:-]`.
    pub actor: &'a str,
    /// Who calls.
    pub caller: &'a str,
    /// Why, 1 to 256 bytes.
    pub reason: &'a str,
    /// Where it comes from.
    pub origin: PolicyOrigin,
    /// Ledger time at which it takes effect; None or the past is now.
    pub effect_time: Option<Millis>,
    /// Whether to say what would change and change nothing.
    pub is_dry_run: bool,
}

/// The policies of a node.
pub(crate) struct Policies {
    storage: Arc<dyn Storage>,
    book: Mutex<Book>,
    /// When the next revision takes effect, to be looked at without the lock. Relaxed: a look that
    /// comes too early is repeated.
    next_effect: AtomicI64,
}

struct Book {
    /// What holds before any revision does.
    base: Revision,
    revisions: Vec<Arc<Revision>>,
    in_force: u64,
    policy: DoorPolicy,
    /// What tells of the policy on trial.
    shadow: Option<Value>,
}

impl Policies {
    /// Reads the revisions that were kept and takes in the one that the settings bring.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        base: &DoorPolicy,
        text: Option<&PolicyText>,
        now: Millis,
        sequence: Sequence,
    ) -> Result<Self, OpenError> {
        let kept = revisions::read_all(&*storage).map_err(|damaged| OpenError::Policy {
            file: damaged.file,
            problem: damaged.problem,
        })?;
        let mut book = Book {
            base: base_revision(text),
            revisions: kept,
            in_force: 0,
            policy: base.clone(),
            shadow: None,
        };
        if let Some(text) = text {
            book.take_in(&*storage, text, now, sequence)?;
        }
        let (number, policy) = book.due_policy(now, base)?;
        (book.in_force, book.policy) = (number, policy);
        let next_effect = AtomicI64::new(book.next_effect(now));
        Ok(Self {
            storage,
            book: Mutex::new(book),
            next_effect,
        })
    }

    /// What holds now.
    pub(crate) fn in_force(&self) -> DoorPolicy {
        self.book().policy.clone()
    }

    pub(crate) fn next_effect(&self) -> Millis {
        self.next_effect.load(Ordering::Relaxed)
    }

    /// Puts a revision; gives what changes, as JSON.
    pub(crate) fn put(&self, shared: &Shared, put: &PolicyPut<'_>) -> Result<Value, Fault> {
        check(put)?;
        let policy = lastunit_policy::read(put.document);
        let policy = policy.map_err(|problems| faults::policy_invalid(&problems))?;
        let (now, sequence) = ledger_now(shared)?;
        let mut book = self.book();
        let last = book.last();
        if let Some(expected) = put.expected_revision
            && expected != last
        {
            return book
                .repeated(put)
                .ok_or_else(|| faults::revision_mismatch(expected, last));
        }
        let effect_time_ms = put.effect_time.unwrap_or(now).max(now);
        let changes = lastunit_policy::changes(&book.policy, &policy);
        let mut answer = json!({
            "revision": last + u64::from(!put.is_dry_run),
            "in_force": book.in_force,
            "effect_time_ms": effect_time_ms,
            "changes": changes.iter().map(change).collect::<Vec<_>>(),
        });
        if put.is_dry_run {
            return Ok(answer);
        }
        let revision = Revision {
            number: last + 1,
            document: put.document.to_owned(),
            actor: put.actor.to_owned(),
            caller: put.caller.to_owned(),
            reason: put.reason.to_owned(),
            origin: put.origin,
            put_time_ms: now,
            effect_time_ms,
            sequence,
        };
        let written = revisions::write(&*self.storage, &revision);
        written.map_err(|error| faults::policy_not_kept(&error))?;
        book.revisions.push(Arc::new(revision));
        book.forget(&*self.storage);
        if effect_time_ms <= now {
            book.set(last + 1, policy, shared);
        }
        self.next_effect
            .store(book.next_effect(now), Ordering::Relaxed);
        answer["in_force"] = json!(book.in_force);
        Ok(answer)
    }

    /// Puts the document of an older revision again.
    pub(crate) fn roll_back(
        &self,
        shared: &Shared,
        revision: u64,
        put: &PolicyPut<'_>,
    ) -> Result<Value, Fault> {
        let found = self.book().find(revision);
        let found = found.ok_or_else(|| faults::unknown_revision(revision))?;
        let put = PolicyPut {
            document: &found.document,
            ..*put
        };
        self.put(shared, &put)
    }

    /// Lets what is due by `now` take effect. A revision holds from its time on until a later one
    /// does; one that is due after a later one held already never does.
    pub(crate) fn apply_due(&self, now: Millis, shared: &Shared) {
        if self.next_effect() > now {
            return;
        }
        let mut book = self.book();
        let number = book.due(now);
        if number != book.in_force
            && let Some(found) = book.find(number)
            && let Ok(policy) = lastunit_policy::read(&found.document)
        {
            book.set(number, policy, shared);
        }
        self.next_effect
            .store(book.next_effect(now), Ordering::Relaxed);
    }

    /// Puts a policy on trial beside the live one, or ends the trial.
    pub(crate) fn set_shadow(
        &self,
        shared: &Shared,
        document: Option<&str>,
        actor: &str,
        reason: &str,
    ) -> Result<(), Fault> {
        let policy = document.map(lastunit_policy::read).transpose();
        let policy = policy.map_err(|problems| faults::policy_invalid(&problems))?;
        let (now, _) = ledger_now(shared)?;
        let mut book = self.book();
        shared.turnstile.set_shadow(policy);
        book.shadow = document.map(|document| {
            json!({
                "document": document, "actor": actor, "reason": reason, "start_time_ms": now,
            })
        });
        Ok(())
    }

    /// The policy in force with every setting, and what waits for its time, as JSON.
    pub(crate) fn json(&self) -> Value {
        let book = self.book();
        let in_force = book.find(book.in_force);
        let next = book.revisions.iter().rev();
        let next = next
            .filter(|it| it.number > book.in_force && it.effect_time_ms == self.next_effect())
            .map(|it| json!(**it))
            .next();
        json!({
            "in_force": in_force.map(|it| json!(*it)),
            "last_revision": book.last(),
            "next": next,
            "settings": lastunit_policy::settings(&book.policy),
            "shadow": book.shadow,
        })
    }

    /// Revisions before a number, newest first, as JSON; 0 begins with the newest.
    pub(crate) fn page(&self, before: u64, limit: usize) -> Value {
        let book = self.book();
        let before = if before == 0 { u64::MAX } else { before };
        let rows = book.revisions.iter().rev();
        let rows = rows.filter(|it| it.number < before);
        let page: Vec<_> = rows
            .take(limit.clamp(1, PAGE_MAX))
            .map(|it| json!(**it))
            .collect();
        let oldest = book.revisions.first().map_or(0, |it| it.number);
        json!({"revisions": page, "oldest": oldest, "in_force": book.in_force})
    }

    /// A panic cannot leave the book half changed in a way that matters: it is only shown.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn last(&self) -> u64 {
        self.revisions.last().map_or(0, |it| it.number)
    }

    fn find(&self, revision: u64) -> Option<Arc<Revision>> {
        if revision == 0 && !self.base.document.is_empty() {
            return Some(Arc::new(self.base.clone()));
        }
        let found = self
            .revisions
            .binary_search_by_key(&revision, |it| it.number);
        found.ok().map(|at| Arc::clone(&self.revisions[at]))
    }

    /// The revision that holds at a time: the last whose time has come.
    fn due(&self, now: Millis) -> u64 {
        let due = self
            .revisions
            .iter()
            .rev()
            .find(|it| it.effect_time_ms <= now);
        due.map_or(0, |it| it.number)
    }

    fn due_policy(&self, now: Millis, base: &DoorPolicy) -> Result<(u64, DoorPolicy), OpenError> {
        let number = self.due(now);
        let Some(found) = self.find(number) else {
            return Ok((0, base.clone()));
        };
        let policy = lastunit_policy::read(&found.document);
        let policy = policy.map_err(|problems| OpenError::Policy {
            file: format!("revision {number}"),
            problem: problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        })?;
        Ok((number, policy))
    }

    fn next_effect(&self, now: Millis) -> Millis {
        let waiting = self.revisions.iter().rev();
        let waiting = waiting.take_while(|it| it.number > self.in_force);
        let times = waiting.map(|it| it.effect_time_ms);
        times.filter(|at| *at > now).min().unwrap_or(NEVER)
    }

    fn set(&mut self, revision: u64, policy: DoorPolicy, shared: &Shared) {
        shared.gates.note_policy(&policy);
        shared.turnstile.set_policy(policy.clone());
        shared.waiting.set_policy(&policy, shared.turnstile.now());
        (self.in_force, self.policy) = (revision, policy);
    }

    /// The file at the start counts as put unless it is what the file said last: whoever put
    /// something newer in between meant it.
    fn take_in(
        &mut self,
        storage: &dyn Storage,
        text: &PolicyText,
        now: Millis,
        sequence: Sequence,
    ) -> Result<(), OpenError> {
        let files = self.revisions.iter().rev();
        let said = files
            .filter(|it| it.origin == PolicyOrigin::File)
            .map(|it| &it.document)
            .next();
        if text.origin != PolicyOrigin::File || said == Some(&text.document) {
            return Ok(());
        }
        let settings = |expected| SettingsError::new("policy.document", expected);
        lastunit_policy::read(&text.document).map_err(|problems| {
            settings(
                problems
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            )
        })?;
        let revision = Revision {
            number: self.last() + 1,
            document: text.document.clone(),
            reason: "the policy file at the start".to_owned(),
            put_time_ms: now,
            effect_time_ms: now,
            sequence,
            ..base_revision(Some(text))
        };
        let written = revisions::write(storage, &revision);
        written.map_err(|error| settings(format!("the revision was not kept: {error}")))?;
        self.revisions.push(Arc::new(revision));
        Ok(())
    }

    /// The answer to a put that was sent again because its answer was lost.
    fn repeated(&self, put: &PolicyPut<'_>) -> Option<Value> {
        let made = self.find(put.expected_revision? + 1)?;
        let is_same = made.document == put.document
            && made.actor == put.actor
            && made.caller == put.caller
            && made.reason == put.reason
            && !put.is_dry_run;
        is_same.then(|| {
            json!({
                "revision": made.number,
                "in_force": self.in_force,
                "effect_time_ms": made.effect_time_ms,
                "changes": [],
            })
        })
    }

    /// Removes the oldest past the bounds. A file that cannot be removed stays until the next time.
    fn forget(&mut self, storage: &dyn Storage) {
        let mut bytes: usize = self.revisions.iter().map(|it| it.document.len()).sum();
        while self.revisions.len() > REVISIONS_MAX || bytes > REVISION_BYTES_MAX {
            let oldest = Arc::clone(&self.revisions[0]);
            if oldest.number == self.in_force || revisions::remove(storage, oldest.number).is_err()
            {
                return;
            }
            bytes -= oldest.document.len();
            self.revisions.remove(0);
        }
    }
}

fn base_revision(text: Option<&PolicyText>) -> Revision {
    let built_in = text.filter(|it| it.origin == PolicyOrigin::BuiltIn);
    Revision {
        number: 0,
        document: built_in.map(|it| it.document.clone()).unwrap_or_default(),
        actor: "lastunit".to_owned(),
        caller: "lastunit".to_owned(),
        reason: "the policy that the program brings along".to_owned(),
        origin: text.map_or(PolicyOrigin::BuiltIn, |it| it.origin),
        put_time_ms: 0,
        effect_time_ms: 0,
        sequence: 0,
    }
}

fn change(change: &lastunit_policy::Change) -> Value {
    json!({"key": change.key, "before": change.before, "after": change.after})
}

fn check(put: &PolicyPut<'_>) -> Result<(), Fault> {
    if !is_id(put.actor) {
        return Err(faults::policy_field(
            "actor",
            "1 to 64 bytes of [A-Za-z0-9._:-]",
        ));
    }
    if put.reason.trim().is_empty() || put.reason.len() > REASON_BYTES_MAX {
        return Err(faults::policy_field(
            "reason",
            "1 to 256 bytes that say why",
        ));
    }
    Ok(())
}

fn ledger_now(shared: &Shared) -> Result<(Millis, Sequence), Fault> {
    let mut core = shared.lock(Urgency::Urgent)?;
    Ok((core.clock.now(), core.ledger.sequence()))
}

/// Reads a policy document without a node; gives JSON: `settings` by name, or `problems`.
#[must_use]
pub fn check_policy(document: &str) -> String {
    let checked = match lastunit_policy::read(document) {
        Ok(policy) => json!({"settings": lastunit_policy::settings(&policy), "problems": []}),
        Err(problems) => {
            let row = |it: &lastunit_policy::Problem| {
                json!({
                    "line": it.line, "column": it.column, "key": it.key, "message": it.message,
                })
            };
            let rows: Vec<_> = problems.iter().map(row).collect();
            json!({"settings": null, "problems": rows})
        }
    };
    checked.to_string()
}

/// The document that holds until another one is put.
#[must_use]
pub fn default_policy() -> &'static str {
    lastunit_policy::DEFAULT_DOCUMENT
}
