//! Runs the text tables: command, expected outcome, expected state and counters.

use std::collections::BTreeSet;

use lastunit_engine::Outcome;

use crate::script;

macro_rules! tables {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { script::run(stringify!($name), table(stringify!($name))); })+

        fn table(name: &str) -> &'static str {
            match name {
                $(stringify!($name) => {
                    include_str!(concat!("tables/", stringify!($name), ".txt"))
                })+
                _ => unreachable!(),
            }
        }

        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

tables![
    reserve,
    pools,
    limits,
    begin_payment,
    settle_payment,
    confirm,
    release,
    expire,
    extend,
    forget,
    returns,
    refund,
    sale,
    stock,
    levels,
    merge,
    split,
    brake,
    repeats,
    precedence,
    fields,
];

/// Each outcome is reached by some row.
#[test]
fn every_outcome_is_reached() {
    let mut reached = BTreeSet::new();
    for name in NAMES {
        reached.extend(script::run(name, table(name)));
    }

    assert_eq!(BTreeSet::from(Outcome::ALL), reached);
}

/// The order of declaration is the order of precedence, and only waiting can help where it says so.
#[test]
fn outcomes_are_ordered_and_say_whether_waiting_helps() {
    let mut sorted = Outcome::ALL;
    sorted.sort();
    assert_eq!(Outcome::ALL, sorted);

    let waiting: Vec<&str> = Outcome::ALL
        .into_iter()
        .filter(|outcome| outcome.retryable())
        .map(Outcome::name)
        .collect();
    assert_eq!(
        [
            "SALE_NOT_OPEN",
            "NOT_ENOUGH_UNITS",
            "LIMIT_REACHED",
            "SOLD_OUT"
        ],
        waiting[..]
    );
}
