//! The promises about time: to the millisecond, and never against money.

use lastunit_engine::{Action, EventBody, Outcome, ReleaseReason, State};

use crate::script::step;
use crate::world::World;

fn sale(lines: &[&str]) -> World {
    let mut world = World::new();
    for line in ["sale S unpaid=0", "pool A/main", "supply A/main 3"]
        .iter()
        .chain(lines)
    {
        step(&mut world, line);
    }
    world
}

fn state(world: &World, reservation_id: &str) -> State {
    world.ledger.reservation(reservation_id).unwrap().state
}

/// With the default policy a reservation lives through 599.999 s and ends at 600.000 s.
#[test]
fn a_reservation_ends_at_600_000_and_not_at_599_999() {
    let mut world = sale(&["reserve r p A"]);
    assert_eq!(Some(600_000), world.ledger.next_due());
    world.now = 599_999;
    world.run_due();
    assert_eq!(State::Held, state(&world, "r"));

    world.now = 600_000;
    world.run_due();
    assert_eq!(State::Released, state(&world, "r"));
    assert_eq!(
        Some(ReleaseReason::Expired),
        world.ledger.reservation("r").unwrap().release_reason
    );
}

/// A payment that begins in the last millisecond keeps its unit, whatever the clock does.
#[test]
fn a_payment_begun_in_the_last_millisecond_keeps_its_unit() {
    let mut world = sale(&["reserve r p A", "at 599999", "begin r a"]);
    world.now = 600_000;
    world.run_due();

    assert_eq!(State::Paying, state(&world, "r"));
}

/// No timer releases PAYING or OVERDUE, not in a hundred years, not when the sale is cancelled.
#[test]
fn no_clock_ends_a_reservation_with_money_under_way() {
    let mut world = sale(&[
        "reserve r1 p1 A",
        "begin r1 a1",
        "reserve r2 p2 A",
        "begin r2 a2",
        "at 900000",
        "overdue r2",
        "state S CANCELLED",
    ]);
    for now in [900_000, 1_800_000, 86_400_000, 3_155_760_000_000] {
        world.now = now;
        world.run_due();
        for (reservation_id, attempt_id) in [("r1", "a1"), ("r2", "a2")] {
            assert_eq!(State::Overdue, state(&world, reservation_id));
            step(
                &mut world,
                &format!("expire {reservation_id} => WRONG_STATE OVERDUE"),
            );
            let attempts = world.ledger.reservation(reservation_id).unwrap().attempts;
            assert_eq!(attempt_id, attempts[0].attempt_id);
        }
    }
    assert_eq!(
        2,
        world
            .ledger
            .availability("S", "A")
            .unwrap()
            .counters
            .overdue
    );
}

/// The timers of a jump run as at their own instants if the clock is stepped through them.
#[test]
fn next_due_leads_through_every_timer() {
    let mut world = sale(&["reserve r1 p1 A", "reserve r2 p2 A ttl=1000", "begin r1 a1"]);
    let mut instants = Vec::new();
    while let Some(next) = world.ledger.next_due() {
        world.now = next;
        instants.push(next);
        world.run_due();
    }

    assert_eq!(vec![1_000, 900_000], instants);
}

/// An earlier `now` than the last event's is taken as that event's.
#[test]
fn ledger_time_never_goes_back() {
    let mut world = sale(&["at 5000", "reserve r p A"]);
    world.now = 10;
    step(
        &mut world,
        "begin r a => OK PAYING settle_by=905000 count=1",
    );

    assert_eq!(5_000, world.ledger.time());
    assert!(world.ledger.due(10, 10).is_empty());
}

/// A timer command that comes twice, or late, has one effect.
#[test]
fn a_stale_timer_changes_nothing() {
    let mut world = sale(&["reserve r p A", "at 600000"]);
    let due = world.ledger.due(600_000, 10);
    step(&mut world, "extend r 1000");
    let decision = world.run(&due[0]);

    assert_eq!(Outcome::WrongState, decision.reply.outcome);
    assert!(matches!(due[0].action, Action::Expire { .. }));
    assert_eq!(State::Held, state(&world, "r"));
}

/// A refund that falls due is in the same decision as the news, so in the same journal record.
#[test]
fn owed_money_is_in_the_record_of_the_news() {
    let mut world = sale(&[
        "reserve r p A",
        "release r",
        "withdraw A/main 3",
        "settle r a SUCCEEDED",
    ]);
    let last: Vec<&str> = world
        .events
        .iter()
        .rev()
        .take(2)
        .map(|e| e.body.name())
        .collect();
    assert_eq!(["RefundBecameDue", "PaymentSettled"], last[..]);
    let (news, due) = (world.events.pop().unwrap(), world.events.pop().unwrap());
    assert_eq!(news.request_id, due.request_id);
    assert!(matches!(news.body, EventBody::RefundBecameDue { .. }));
}
