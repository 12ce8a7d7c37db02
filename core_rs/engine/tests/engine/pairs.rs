//! Every state with every command: the outcome and the state that is left, as one matrix.
//!
//! A row is a reservation in a state, a column a command; a cell is `outcome>state`, or `=` for
//! WRONG_STATE with nothing changed (row 28 of the design). Nothing is left to a default: a cell
//! that is missing fails the test.

use std::collections::BTreeMap;
use std::fmt::Write;

use lastunit_engine::{Command, Outcome, ReleaseReason, State};

use crate::script;
use crate::world::World;

/// How a reservation `r` comes into each state, with `a` as its attempt where it has one.
const STATES: &[(&str, State, &str)] = &[
    ("held", State::Held, "reserve r p A"),
    ("held-past-end", State::Held, "reserve r p A\nat 600"),
    (
        "held-after-failure",
        State::Held,
        "reserve r p A\nbegin r a\nsettle r a FAILED",
    ),
    ("paying", State::Paying, "reserve r p A\nbegin r a"),
    (
        "paying-two",
        State::Paying,
        "reserve r p A\nbegin r a\nbegin r b",
    ),
    (
        "paying-asked",
        State::Paying,
        "reserve r p A\nbegin r a\nrelease r",
    ),
    (
        "paying-late",
        State::Paying,
        "reserve r p A\nbegin r a\nat 900",
    ),
    (
        "overdue",
        State::Overdue,
        "reserve r p A\nbegin r a\nat 900\noverdue r",
    ),
    (
        "confirmed",
        State::Confirmed,
        "reserve r p A\nbegin r a\nsettle r a SUCCEEDED",
    ),
    (
        "confirmed-open",
        State::Confirmed,
        "reserve r p A\nbegin r a\nbegin r b\nsettle r b SUCCEEDED",
    ),
    ("client", State::Released, "reserve r p A\nrelease r"),
    (
        "operator",
        State::Released,
        "reserve r p A\nrelease r OPERATOR",
    ),
    (
        "expired",
        State::Released,
        "reserve r p A\nat 600\nexpire r",
    ),
    (
        "failed",
        State::Released,
        "reserve r p A\nbegin r a\nrelease r\nsettle r a FAILED",
    ),
    (
        "cancelled",
        State::Released,
        "reserve r p A\nstate S CANCELLED\nrun",
    ),
    (
        "unverified",
        State::Released,
        "reserve r p A\nbegin r a\nat 900\noverdue r\nunverified r",
    ),
    (
        "expired-gone",
        State::Released,
        "reserve r p A\nat 600\nexpire r\nwithdraw A/main 2\nwithdraw A/main 1 buffer",
    ),
    (
        "refund-due",
        State::RefundDue,
        "reserve r p A\nrelease r\nwithdraw A/main 2\nwithdraw A/main 1 buffer\n\
         settle r a SUCCEEDED",
    ),
    (
        "refunded",
        State::Refunded,
        "reserve r p A\nrelease r\nwithdraw A/main 2\nwithdraw A/main 1 buffer\n\
         settle r a SUCCEEDED\nrefund r a",
    ),
    (
        "returned",
        State::Returned,
        "reserve r p A\nconfirm r\nreturn r A 1 RESELL",
    ),
];

/// The commands, as lines of a script.
const COMMANDS: &[(&str, &str)] = &[
    ("repeat", "reserve r p A"),
    ("reserve*", "reserve r p A*2"),
    ("begin", "begin r x"),
    ("ok:known", "settle r a SUCCEEDED"),
    ("ok:new", "settle r x SUCCEEDED"),
    ("fail:known", "settle r a FAILED"),
    ("cancel:known", "settle r a CANCELLED"),
    ("fail:new", "settle r x FAILED"),
    ("confirm", "confirm r"),
    ("release", "release r"),
    ("operator", "release r OPERATOR"),
    ("cancelled", "release r SALE_CANCELLED"),
    ("extend", "extend r 10"),
    ("expire", "expire r"),
    ("overdue", "overdue r"),
    ("unverified", "unverified r"),
    ("return", "return r A 1 RESELL"),
    ("refund", "refund r a"),
];

const PREAMBLE: &str = "sale S ttl=600 settle_by=900 max_life=1800 unverified=true\n\
                        pool A/main\nsupply A/main 2\nsupply A/main 1 buffer";

const MATRIX: &str = include_str!("tables/pairs.txt");

#[test]
fn every_state_answers_every_command_as_the_matrix_says() {
    let expected = read_matrix();
    let mut differences = Vec::new();
    let mut actual_table = String::new();
    for (state_name, state, lines) in STATES {
        write!(actual_table, "\n{state_name:<19}").unwrap();
        for (command_name, line) in COMMANDS {
            let actual = cell(*state, lines, line);
            write!(actual_table, "{actual:<13}").unwrap();
            let key = (*state_name, *command_name);
            let expected = expected
                .get(&key)
                .unwrap_or_else(|| panic!("{key:?} has no cell"));
            if *expected != actual {
                differences.push(format!("{key:?}: expected {expected}, is {actual}"));
            }
        }
    }

    assert_eq!(
        STATES.len() * COMMANDS.len(),
        expected.len(),
        "the matrix has other cells"
    );
    assert!(differences.is_empty(), "{differences:#?}\n{actual_table}");
}

/// Each state and each reason of the contract is a row of the matrix.
#[test]
fn the_matrix_has_every_state_and_every_reason() {
    let mut reasons = Vec::new();
    for (_, _, lines) in STATES {
        let world = prepared(lines);
        reasons.extend(world.ledger.reservation("r").unwrap().release_reason);
    }
    for state in State::ALL {
        assert!(STATES.iter().any(|(_, row, _)| row == state), "{state:?}");
    }
    for reason in ReleaseReason::ALL {
        assert!(reasons.contains(reason), "{reason:?}");
    }
}

fn prepared(lines: &str) -> World {
    let mut world = World::new();
    for line in PREAMBLE.lines().chain(lines.lines()) {
        script::step(&mut world, line.trim());
    }
    world
}

/// Runs one command in one state, and checks what must hold in every cell.
fn cell(state: State, lines: &str, line: &str) -> String {
    let mut world = prepared(lines);
    assert_eq!(
        state,
        world.ledger.reservation("r").unwrap().state,
        "{lines}"
    );
    let command: Command = script::parse_command(&mut world, line);
    let before = world.ledger.to_snapshot();
    let decision = world.run(&command);
    let outcome = decision.reply.outcome;
    let left = world.ledger.reservation("r").unwrap().state;
    if outcome != Outcome::Ok || decision.reply.replayed {
        assert!(
            before == world.ledger.to_snapshot(),
            "a refusal changes nothing: {line}"
        );
    }
    if outcome != Outcome::Conflict || command.request_id.is_empty() {
        assert_eq!(
            Some(left),
            decision.reply.state,
            "the reply tells the state: {line}"
        );
    }
    world.check_fold();
    match (outcome, decision.reply.replayed) {
        (Outcome::WrongState, _) => "=".into(),
        (Outcome::Ok, true) => "replayed".into(),
        (Outcome::Ok, false) => format!("ok>{}", short(left)),
        (outcome, _) => outcome.name().to_lowercase(),
    }
}

fn short(state: State) -> &'static str {
    match state {
        State::Held => "held",
        State::Paying => "paying",
        State::Overdue => "overdue",
        State::Confirmed => "sold",
        State::Released => "released",
        State::RefundDue => "due",
        State::Refunded => "refunded",
        State::Returned => "returned",
    }
}

fn read_matrix() -> BTreeMap<(&'static str, &'static str), &'static str> {
    let mut cells = BTreeMap::new();
    for block in MATRIX.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.starts_with('#'));
        let Some(head) = lines.next() else { continue };
        let columns: Vec<&str> = head.split_whitespace().skip(1).collect();
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(columns.len() + 1, words.len(), "a cell is missing: {line}");
            for (column, cell) in columns.iter().zip(&words[1..]) {
                assert!(
                    cells.insert((words[0], *column), *cell).is_none(),
                    "{line} is twice"
                );
            }
        }
    }
    cells
}
