//! One decision of the node against what the rules say.
//!
//! Owns: which parts of an answer are compared, and with what. Must not: remember anything; the
//! book does. Where next: `book/mod.rs`.

use lastunit_engine::{Action, Answer, Command, Level, Millis, Outcome, Reply, SaleState, Text};
use lastunit_node::stepped::Tapped;

use crate::book::{Book, Judged, calls_of, reservation_of};

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Stable name of the oracle that noticed.
    pub oracle: &'static str,
    /// What was expected and what was found.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(oracle: &'static str, detail: impl Into<String>) -> Self {
        Self {
            oracle,
            detail: detail.into(),
        }
    }
}

/// Fails with an oracle's name.
pub(crate) fn by(oracle: &'static str) -> impl Fn(String) -> Violation {
    move |detail| Violation::new(oracle, detail)
}

/// Judges one decision and makes it so in the book.
pub(crate) fn judge(book: &mut Book, tapped: &Tapped) -> Result<(), Violation> {
    let (command, now) = (&tapped.command, tapped.now);
    let is_own = command.caller.is_empty() && command.request_id.is_empty();
    let is_opening = matches!(
        command.action,
        Action::NoteNodeOpened { .. } | Action::CreditOutage { .. }
    );
    let has_effect = !tapped.events.is_empty();
    if is_own && !is_opening && has_effect && !book.is_due(command, now.max(book.time)) {
        return Err(Violation::new(
            "timers",
            format!("{command:?} at {now} is not due"),
        ));
    }
    book.check_events(now, command, &tapped.events)
        .map_err(by("events"))?;
    // What buyers are told of a sku is told of the state before the command.
    check_told(book, tapped).map_err(by("level"))?;
    let count = u32::try_from(tapped.events.len()).unwrap_or(u32::MAX);
    let verdict = book.decide(command, now, count);
    let found = &tapped.reply;
    compare(
        &verdict.reply,
        found,
        command,
        sale_state_of(book, command, now),
    )
    .map_err(|problem| explain(&problem, command, now, &verdict.reply, found))
    .map_err(by("reply"))?;
    let calls = calls_of(&tapped.events);
    if has_effect && calls != verdict.calls {
        let detail = format!("{command:?} calls for {calls:?}, not {:?}", verdict.calls);
        return Err(Violation::new("calls to act", detail));
    }
    if tapped.as_of != book.sequence {
        let detail = format!(
            "the answer shows {}, the book {}",
            tapped.as_of, book.sequence
        );
        return Err(Violation::new("place", detail));
    }
    Ok(())
}

fn explain(
    problem: &str,
    command: &Command,
    now: Millis,
    expected: &Reply,
    found: &Reply,
) -> String {
    format!("{problem} of {command:?} at {now}: found {found:?}, expected {expected:?}")
}

/// Compares what the rules determine.
fn compare(
    expected: &Reply,
    found: &Reply,
    command: &Command,
    sale_state: Option<SaleState>,
) -> Judged<()> {
    if expected.outcome != found.outcome {
        return Err("the outcome".to_owned());
    }
    if (expected.replayed, expected.sequence) != (found.replayed, found.sequence) {
        return Err("the place".to_owned());
    }
    // A conflict may be told without a look at the reservation.
    if found.outcome != Outcome::Conflict && expected.state != found.state {
        return Err("the state".to_owned());
    }
    let is_named = match found.outcome {
        Outcome::Conflict => found.conflict_field.is_some(),
        Outcome::LimitReached | Outcome::NotAllowed => found.limit.is_some(),
        Outcome::SoldOut => found.sku.is_some() && found.level.is_some(),
        _ => true,
    };
    if !is_named {
        return Err("the missing name".to_owned());
    }
    let is_same = match (&expected.answer, &found.answer) {
        (Answer::Sale(expected), Answer::Sale(found)) => {
            let is_put = matches!(command.action, Action::PutSale(_));
            let is_revision = !is_put || expected.revision == found.revision;
            (&expected.sale_id, expected.state) == (&found.sale_id, found.state) && is_revision
        }
        (Answer::None, Answer::SaleRefused { state }) => sale_state == Some(*state),
        (expected, found) => expected == found,
    };
    if !is_same {
        return Err("the answer".to_owned());
    }
    Ok(())
}

/// The state in which a sale's own command finds it.
fn sale_state_of(book: &Book, command: &Command, now: Millis) -> Option<SaleState> {
    let sale_id = match &command.action {
        Action::PutSale(put) => &put.sale_id,
        Action::SetSaleState { sale_id, .. } => sale_id,
        _ => return None,
    };
    book.sales
        .get(sale_id)
        .map(|it| it.state_at(now.max(book.time)))
}

/// Checks the level, its epoch and the time to come back that a refusal tells.
fn check_told(book: &Book, tapped: &Tapped) -> Judged<()> {
    let reply = &tapped.reply;
    let (Some(sku), Some(level)) = (&reply.sku, reply.level) else {
        return Ok(());
    };
    let Some(sale_id) = sale_of(book, &tapped.command.action) else {
        return Ok(());
    };
    let is_known = book
        .sales
        .get(sale_id)
        .is_some_and(|sale| sale.skus.contains_key(sku));
    if !is_known {
        return Err(format!(
            "sku {sku} of sale {sale_id} is told of and not known"
        ));
    }
    let expected: (Level, i64) = book.level(sale_id, sku);
    if (level, reply.level_epoch) != expected {
        let told = (level, reply.level_epoch);
        return Err(format!(
            "{:?} tells {told:?} of {sku}, not {expected:?}",
            reply.outcome
        ));
    }
    if reply.outcome == Outcome::SoldOut {
        let now = tapped.now.max(book.time);
        let expected = book.first_end(sale_id, sku).map(|end| end.max(now));
        if reply.come_back_at != expected {
            return Err(format!(
                "come back at {:?}, not {expected:?}",
                reply.come_back_at
            ));
        }
    }
    Ok(())
}

/// The sale that a command is about.
fn sale_of<'a>(book: &'a Book, action: &'a Action) -> Option<&'a Text> {
    match action {
        Action::Reserve(it) => Some(&it.sale_id),
        Action::PutPool(it) => Some(&it.sale_id),
        Action::SupplyStock(it) | Action::WithdrawStock(it) => Some(&it.sale_id),
        Action::AdjustStock { sale_id, .. }
        | Action::MoveStock { sale_id, .. }
        | Action::PourBuffer { sale_id, .. } => Some(sale_id),
        action => {
            let id = reservation_of(action)?;
            book.reservations.get(id).map(|it| &it.sale_id)
        }
    }
}

/// The sale that a command may have changed.
pub(crate) fn touched<'a>(book: &'a Book, action: &'a Action) -> Option<&'a Text> {
    sale_of(book, action)
}
