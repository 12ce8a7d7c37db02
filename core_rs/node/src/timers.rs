//! Due timers, as ordinary journaled commands: expiry, overdue payments, sales that open and close.
//!
//! Owns: when the engine is asked what is due. Must not: decide what a timer does. Where next:
//! `core.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lastunit_engine::{Millis, Sequence};
use lastunit_wire::Fault;

use crate::core::Order;
use crate::faults;
use crate::lane_lock::Urgency;
use crate::shared::Shared;

/// Runs until `is_stopping`, looking at the clock once an interval.
pub(crate) fn run(shared: &Shared, is_stopping: &AtomicBool) {
    let interval = Duration::from_millis(shared.settings.timer_interval_ms);
    // Relaxed: the flag orders nothing, and whoever sets it unparks this thread.
    while !is_stopping.load(Ordering::Relaxed) {
        // A fault here is the journal's: it has told everybody by itself, or there is room again
        // when the next interval ends.
        let _ = run_due(shared);
        let _ = apply_policy(shared);
        thread::park_timeout(interval);
    }
}

/// Runs everything that is due now, a bounded number of commands under each lock hold.
pub(crate) fn run_due(shared: &Shared) -> Result<(), Fault> {
    loop {
        let limit = shared.settings.timer_step_limit;
        let mut core = shared.lock(Urgency::Background)?;
        let (now, is_credited) = core.now()?;
        if is_credited {
            shared.flush_signal.wake();
        }
        if core.ledger.next_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let commands = core.ledger.due(now, limit);
        let mut appended = 0;
        for command in &commands {
            appended += usize::from(core.execute_at(command, now)?.is_appended);
        }
        drop(core);
        shared.note_timers(appended);
        if commands.len() < limit || appended == 0 {
            return Ok(());
        }
    }
}

/// Lets a policy whose time has come take effect.
fn apply_policy(shared: &Shared) -> Result<(), Fault> {
    if shared.policies.next_effect() < Millis::MAX {
        let now = shared.lock(Urgency::Background)?.clock.now();
        shared.policies.apply_due(now, shared);
    }
    Ok(())
}

/// What moving a manual clock left behind.
pub(crate) struct Moved {
    /// The last event of a timer, 0 if none was due.
    pub(crate) sequence: Sequence,
    pub(crate) order: Order,
}

/// Moves a manual clock to `target`, each timer at its own instant, in order.
///
/// # Errors
/// A target before the present time; or the journal refuses, and the clock stands where it got to.
pub(crate) fn set_clock(shared: &Shared, target: Millis) -> Result<Moved, Fault> {
    let mut last = 0;
    // What is due first waits for more than time, such as the brake: look at the target instead.
    let mut is_held_up = false;
    loop {
        let mut core = shared.lock(Urgency::Ordinary)?;
        let now = core.clock.now();
        if target < now {
            return Err(faults::clock_behind(target, now));
        }
        let due = core
            .ledger
            .next_due()
            .filter(|due| *due <= target && !is_held_up);
        let step = due.map_or(target, |due| due.max(now));
        core.clock.advance(step);
        let commands = core.ledger.due(step, shared.settings.timer_step_limit);
        let mut appended = 0;
        for command in &commands {
            let decided = core.execute_at(command, step)?;
            if decided.is_appended {
                last = core.ledger.sequence();
                appended += 1;
            }
        }
        let is_done = appended == 0 && step == target;
        is_held_up = appended == 0;
        let order = is_done.then(|| core.order());
        drop(core);
        shared.note_timers(appended);
        if let Some(order) = order {
            shared.policies.apply_due(target, shared);
            return Ok(Moved {
                sequence: last,
                order,
            });
        }
    }
}
