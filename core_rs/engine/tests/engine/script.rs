//! The language of the tables.
//!
//! A file is a preamble and cases. Each case starts with a new ledger, runs the preamble, then its
//! own lines. A line is a command and, after `=>`, what is expected: the outcome, the state, flags
//! and `key=value`. Flags, `field` and `limit` must be complete; other keys are compared if named.
//! Without `=>` a command is expected to be OK. Times are milliseconds.

use std::collections::BTreeSet;

use lastunit_engine::{
    Action, Answer, AttemptState, BeginPayment, Command, Decision, Disposition, Level, Line,
    Outcome, PaymentResult, PutPool, PutSale, ReleaseReason, Reply, Reserve, Return, SalePolicy,
    SaleState, SettlePayment, State, StockChange, Text, Units,
};

use crate::words::{Words, named, parse};
use crate::world::World;

/// Runs every case of a script, and returns the outcomes that were reached.
pub(crate) fn run(name: &str, script: &str) -> BTreeSet<Outcome> {
    let mut reached = BTreeSet::new();
    let lines: Vec<(usize, &str)> = (1..)
        .zip(script.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let starts: Vec<usize> = (0..lines.len())
        .filter(|place| lines[*place].1.starts_with("case "))
        .collect();
    assert!(!starts.is_empty(), "{name} has no case");
    let preamble = &lines[..starts[0]];
    for (place, start) in starts.iter().enumerate() {
        let end = starts.get(place + 1).copied().unwrap_or(lines.len());
        let mut world = World::new();
        for (number, line) in preamble.iter().chain(&lines[start + 1..end]) {
            let step = std::panic::AssertUnwindSafe(|| run_line(&mut world, line, &mut reached));
            if let Err(panic) = std::panic::catch_unwind(step) {
                eprintln!("{name}:{number}: in {}\n    {line}", lines[*start].1);
                std::panic::resume_unwind(panic);
            }
        }
        world.check_fold();
    }
    reached
}

fn run_line(world: &mut World, line: &str, reached: &mut BTreeSet<Outcome>) {
    let (asked, expected) = match line.split_once("=>") {
        Some((asked, expected)) => (asked, Some(expected)),
        None => (line, None),
    };
    let words = Words::new(asked);
    let verb = words.next();
    match verb {
        "at" => world.now = words.parse(),
        "run" => world.run_due(),
        "next" => {
            let next = world
                .ledger
                .next_due()
                .map_or("never".into(), |next| next.to_string());
            assert_eq!(words.next(), next);
        }
        "due" => {
            let due = world
                .ledger
                .due(world.now, words.number("limit").unwrap_or(1_000));
            let due: Vec<String> = due
                .iter()
                .map(|command| due_name(&command.action))
                .collect();
            assert_eq!(
                expected
                    .unwrap_or("")
                    .split_whitespace()
                    .collect::<Vec<_>>(),
                due
            );
        }
        "is" => check_reservation(world, &words),
        "counts" => check_counters(world, &words),
        "level" => check_level(world, &words),
        _ => {
            let command = command(world, verb, &words);
            let decision = world.run(&command);
            reached.insert(decision.reply.outcome);
            check_decision(&decision, &Words::new(expected.unwrap_or("OK * *")));
        }
    }
    words.end();
}

/// Runs one line outside of a table.
pub(crate) fn step(world: &mut World, line: &str) {
    run_line(world, line, &mut BTreeSet::new());
}

/// The command of a line outside of a table.
pub(crate) fn parse_command(world: &mut World, line: &str) -> Command {
    let words = Words::new(line);
    let verb = words.next();
    let command = command(world, verb, &words);
    words.end();
    command
}

/// The command of a line; `id=`, `actor=` and `reason=` replace what the world would give it.
fn command(world: &mut World, verb: &str, words: &Words<'_>) -> Command {
    let action = action(verb, words);
    let is_node = matches!(
        action,
        Action::Expire { .. }
            | Action::BecomeOverdue { .. }
            | Action::OpenSale { .. }
            | Action::CloseSale { .. }
            | Action::Forget { .. }
            | Action::CreditOutage { .. }
            | Action::NoteNodeOpened { .. }
            | Action::Release {
                release_reason: ReleaseReason::SaleCancelled,
                ..
            }
    );
    let is_entity = matches!(action, Action::Reserve(_) | Action::BeginPayment(_));
    let is_operator = ADMIN_VERBS.split(' ').any(|it| it == verb);
    let mut command = match () {
        () if is_node => Command::internal(action),
        () if is_entity => Command::from_caller("", "tester", action),
        () if is_operator => world.operator(action),
        () => world.client(action),
    };
    for (key, field) in [
        ("id", &mut command.request_id),
        ("actor", &mut command.actor),
        ("reason", &mut command.reason),
    ] {
        if let Some(value) = words.text(key) {
            *field = if value == "-" { Text::default() } else { value };
        }
    }
    command
}

const ADMIN_VERBS: &str =
    "sale state pool supply withdraw adjust move pour unverified merge split brake";

fn action(verb: &str, words: &Words<'_>) -> Action {
    let id = || Text::from(words.next());
    match verb {
        "reserve" => Action::Reserve(Reserve {
            reservation_id: id(),
            person_id: id(),
            lines: words.next().split(',').map(line).collect(),
            sale_id: words.text("sale").unwrap_or("S".into()),
            ttl: words.millis("ttl"),
            not_after: words.millis("not_after"),
        }),
        "begin" => Action::BeginPayment(BeginPayment {
            reservation_id: id(),
            attempt_id: id(),
            provider: words.text("provider"),
            amount_minor: words.number("amount"),
            currency: words.text("currency"),
        }),
        "settle" => Action::SettlePayment(SettlePayment {
            reservation_id: id(),
            attempt_id: id(),
            payment_result: named(PaymentResult::ALL, PaymentResult::name, words.next()),
            occurred_at: words.millis("occurred"),
            evidence: words.text("evidence").unwrap_or_default(),
        }),
        _ => action_after_payment(verb, words),
    }
}

fn action_after_payment(verb: &str, words: &Words<'_>) -> Action {
    let id = || Text::from(words.next());
    match verb {
        "confirm" => Action::Confirm {
            reservation_id: id(),
        },
        "release" => Action::Release {
            reservation_id: id(),
            release_reason: named(
                ReleaseReason::ALL,
                ReleaseReason::name,
                words.next_if_any().unwrap_or("CLIENT"),
            ),
        },
        "extend" => Action::Extend {
            reservation_id: id(),
            extension: words.parse(),
        },
        "return" => Action::Return(Return {
            reservation_id: id(),
            sku: id(),
            units: words.parse(),
            disposition: named(Disposition::ALL, Disposition::name, words.next()),
            pool: words.text("pool"),
            give_limit_back: words.number("limit"),
        }),
        "refund" => Action::RecordRefund {
            reservation_id: id(),
            attempt_id: id(),
            evidence: words.text("evidence").unwrap_or_default(),
        },
        "unverified" => Action::ReleaseUnverified {
            reservation_id: id(),
        },
        "expire" => Action::Expire {
            reservation_id: id(),
        },
        "overdue" => Action::BecomeOverdue {
            reservation_id: id(),
        },
        "open" => Action::OpenSale { sale_id: id() },
        "close" => Action::CloseSale { sale_id: id() },
        "forget" => Action::Forget { sale_id: id() },
        "outage" => Action::CreditOutage {
            outage: words.parse(),
        },
        "opened" => Action::NoteNodeOpened {
            epoch: words.parse(),
        },
        _ => admin_action(verb, words),
    }
}

fn admin_action(verb: &str, words: &Words<'_>) -> Action {
    let id = || Text::from(words.next());
    match verb {
        "sale" => Action::PutSale(PutSale {
            sale_id: id(),
            opens_at: words.millis("opens"),
            closes_at: words.millis("closes"),
            policy: policy(words),
            expected_revision: words.number("revision"),
        }),
        "state" => Action::SetSaleState {
            sale_id: id(),
            state: named(SaleState::ALL, SaleState::name, words.next()),
        },
        "merge" => Action::MergePersons {
            source_person_id: id(),
            target_person_id: id(),
        },
        "split" => Action::SplitPersons {
            person_ids: words.next().split('+').map(Text::from).collect(),
        },
        "brake" => Action::SetExpiryBrake {
            is_on: words.next() == "on",
            until: words.millis("until"),
        },
        "unverified" => Action::ReleaseUnverified {
            reservation_id: id(),
        },
        _ => stock_action(verb, words),
    }
}

fn stock_action(verb: &str, words: &Words<'_>) -> Action {
    let [sale_id, sku, pool] = path(words.next());
    match verb {
        "pool" => Action::PutPool(PutPool {
            sale_id,
            sku,
            pool,
            position: words.number("position").unwrap_or(0),
            labels: words.get("labels").map(labels).unwrap_or_default(),
            is_offered: words.number("offered").unwrap_or(true),
        }),
        "supply" => Action::SupplyStock(stock_change([sale_id, sku, pool], words)),
        "withdraw" => Action::WithdrawStock(stock_change([sale_id, sku, pool], words)),
        "adjust" => Action::AdjustStock {
            sale_id,
            sku,
            pool,
            expected_available: words.parse(),
            available: words.parse(),
        },
        "move" => Action::MoveStock {
            sale_id,
            sku,
            source_pool: pool,
            target_pool: words.next().into(),
            units: words.parse(),
        },
        "pour" => Action::PourBuffer {
            sale_id,
            sku,
            pool,
            units: words.parse(),
        },
        _ => panic!("nobody knows the verb {verb}"),
    }
}

fn policy(words: &Words<'_>) -> SalePolicy {
    let default = SalePolicy::default();
    SalePolicy {
        reservation_ttl: words.millis("ttl").unwrap_or(default.reservation_ttl),
        settle_by: words.millis("settle_by").unwrap_or(default.settle_by),
        retry_grace: words.millis("grace").unwrap_or(default.retry_grace),
        max_life: words.millis("max_life").unwrap_or(default.max_life),
        units_per_person_per_sku_max: words.number("per_sku").unwrap_or(0),
        units_per_person_max: words.number("per_person").unwrap_or(0),
        unpaid_reservations_per_person_max: words.number("unpaid").unwrap_or(0),
        attempts_per_reservation_max: words.number("attempts").unwrap_or(4),
        low_level_percent: words.number("low").unwrap_or(10),
        is_unverified_release_allowed: words.number("unverified").unwrap_or(false),
        expiry_brake_lag: words.millis("lag").unwrap_or(default.expiry_brake_lag),
        does_return_give_limit_back: words.number("gives").unwrap_or(false),
        forget_after: words.millis("forget").unwrap_or(default.forget_after),
        does_forget_while_open: words.number("rolling").unwrap_or(false),
    }
}

fn stock_change([sale_id, sku, pool]: [Text; 3], words: &Words<'_>) -> StockChange {
    let units = words.parse();
    let is_buffer = words.next_if_any() == Some("buffer");
    StockChange {
        sale_id,
        sku,
        pool,
        units,
        is_buffer,
    }
}

/// `sale/sku/pool`, or `sku/pool` of the sale S.
fn path(word: &str) -> [Text; 3] {
    let names: Vec<&str> = word.split('/').collect();
    match names[..] {
        [sku, pool] => ["S".into(), sku.into(), pool.into()],
        [sale_id, sku, pool] => [sale_id.into(), sku.into(), pool.into()],
        _ => panic!("{word} is not a path"),
    }
}

/// `sku*units`, or `sku@pool*units`.
fn line(word: &str) -> Line {
    let (what, units) = word.split_once('*').unwrap_or((word, "1"));
    let (sku, pool) = match what.split_once('@') {
        Some((sku, pool)) => (sku, Some(pool.into())),
        None => (what, None),
    };
    Line {
        sku: sku.into(),
        pool,
        units: parse(units),
    }
}

fn labels(word: &str) -> Vec<(Text, Text)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once(':').expect("key:value");
        (key.into(), value.into())
    };
    word.split(',').map(pair).collect()
}

fn due_name(action: &Action) -> String {
    match action {
        Action::OpenSale { sale_id } => format!("open:{sale_id}"),
        Action::CloseSale { sale_id } => format!("close:{sale_id}"),
        Action::Forget { sale_id } => format!("forget:{sale_id}"),
        Action::Expire { reservation_id } => format!("expire:{reservation_id}"),
        Action::BecomeOverdue { reservation_id } => format!("overdue:{reservation_id}"),
        Action::Release {
            reservation_id,
            release_reason: ReleaseReason::SaleCancelled,
        } => {
            format!("cancel:{reservation_id}")
        }
        _ => panic!("{action:?} is never due"),
    }
}

fn check_decision(decision: &Decision, expected: &Words<'_>) {
    let reply = &decision.reply;
    let outcome = expected.next();
    assert_eq!(outcome, reply.outcome.name(), "{reply:#?}");
    match expected.next_if_any() {
        Some("*") => {}
        state => assert_eq!(
            state.unwrap_or("-"),
            reply.state.map_or("-", State::name),
            "{reply:#?}"
        ),
    }
    let optional = |value: &Option<Text>| value.as_ref().map(Text::to_string);
    assert_eq!(
        expected.get("field").map(String::from),
        optional(&reply.conflict_field)
    );
    assert_eq!(
        expected.get("limit").map(String::from),
        optional(&reply.limit)
    );
    let flags: BTreeSet<&str> = expected.rest().into_iter().collect();
    if flags.contains("*") {
        return;
    }
    let actual: BTreeSet<&str> = flags_of(reply).into_iter().collect();
    assert_eq!(flags, actual, "{reply:#?}");

    let come_back = reply.come_back_at.map(|time| time.to_string());
    check(expected, "come_back", come_back.as_deref());
    check(expected, "sku", reply.sku.as_deref());
    check(expected, "level", reply.level.map(Level::name));
    check(expected, "epoch", Some(&reply.level_epoch.to_string()));
    let names: Vec<&str> = decision
        .events
        .iter()
        .map(|event| event.body.name())
        .collect();
    check(expected, "events", Some(&names.join(",")));
    check_answer(&reply.answer, expected);
    expected.end();
}

fn flags_of(reply: &Reply) -> Vec<&'static str> {
    let mut flags = Vec::new();
    let mut flag = |is_on: bool, name: &'static str| flags.extend(is_on.then_some(name));
    flag(reply.replayed, "replayed");
    match &reply.answer {
        Answer::PaymentBegun { retaken, .. } => flag(*retaken, "retaken"),
        Answer::PaymentSettled {
            ignored,
            retaken,
            refund_due,
            unregistered_attempt,
            ..
        } => {
            flag(*ignored, "ignored");
            flag(*retaken, "retaken");
            flag(*refund_due, "refund_due");
            flag(*unregistered_attempt, "unregistered");
        }
        Answer::Released { release_requested } => flag(*release_requested, "requested"),
        _ => {}
    }
    flags
}

fn check_answer(answer: &Answer, expected: &Words<'_>) {
    let optional = |time: Option<i64>| time.map(|time| time.to_string());
    let (mut expires, mut settle_by, mut attempt) = (None, None, None);
    let (mut count, mut taken_text, mut sale_state, mut revision) = (None, None, None, None);
    match answer {
        Answer::Reserved { expires_at, taken } => {
            expires = optional(Some(*expires_at));
            let texts = taken.iter().map(|taken| {
                format!(
                    "{}:{}@{}*{}",
                    taken.line_index, taken.sku, taken.pool, taken.units
                )
            });
            taken_text = Some(texts.collect::<Vec<_>>().join(","));
        }
        Answer::PaymentBegun {
            settle_by: time,
            attempt_count,
            ..
        } => {
            settle_by = optional(Some(*time));
            count = Some(attempt_count.to_string());
        }
        Answer::PaymentSettled {
            attempt_state,
            expires_at,
            ..
        } => {
            attempt = Some(attempt_state.name());
            expires = optional(*expires_at);
        }
        Answer::Extended { expires_at } => expires = optional(Some(*expires_at)),
        Answer::Returned { returned_units } => count = Some(returned_units.to_string()),
        Answer::Sale(view) => {
            sale_state = Some(view.state.name());
            revision = Some(view.revision.to_string());
        }
        Answer::SaleRefused { state } => sale_state = Some(state.name()),
        Answer::None | Answer::Released { .. } => {}
    }
    check(expected, "expires", expires.as_deref());
    check(expected, "settle_by", settle_by.as_deref());
    check(expected, "attempt", attempt);
    check(expected, "count", count.as_deref());
    check(expected, "taken", taken_text.as_deref());
    check(expected, "sale", sale_state);
    check(expected, "revision", revision.as_deref());
}

/// Compares a value if the line names it; `-` is none.
fn check<'a>(expected: &Words<'a>, key: &'a str, actual: Option<&str>) {
    if let Some(value) = expected.get(key) {
        assert_eq!(value, actual.unwrap_or("-"), "{key}");
    }
}

fn check_reservation(world: &World, words: &Words<'_>) {
    let view = world
        .ledger
        .reservation(words.next())
        .expect("a reservation that exists");
    assert_eq!(words.next(), view.state.name(), "{view:#?}");
    check(
        words,
        "reason",
        view.release_reason.map(ReleaseReason::name),
    );
    let attempts = view.attempts.iter().map(|attempt| {
        format!(
            "{}:{}",
            attempt.attempt_id,
            AttemptState::name(attempt.state)
        )
    });
    check(
        words,
        "attempts",
        Some(&attempts.collect::<Vec<_>>().join(",")),
    );
    check(words, "expires", Some(&view.expires_at.to_string()));
    check(words, "max_life_at", Some(&view.max_life_at.to_string()));
    check(
        words,
        "requested",
        Some(&view.release_requested.to_string()),
    );
    check(words, "retaken", Some(&view.retaken.to_string()));
    check(words, "person", Some(&view.merged_person_id));
    let taken = view.taken.iter().map(|taken| {
        let returned = taken.returned_units;
        format!("{}@{}*{}-{returned}", taken.sku, taken.pool, taken.units)
    });
    check(words, "taken", Some(&taken.collect::<Vec<_>>().join(",")));
}

/// Compares all counters of a pool; those that are not named are 0, but for `supplied`,
/// `withdrawn` and `written_off`, which are compared if named.
fn check_counters(world: &World, words: &Words<'_>) {
    let [sale_id, sku, pool] = path(words.next());
    let view = world
        .ledger
        .availability(&sale_id, &sku)
        .expect("a sku that exists");
    let counters = view
        .pools
        .iter()
        .find(|view| view.pool == pool)
        .expect("a pool")
        .counters;
    for (name, units) in [
        ("available", counters.available),
        ("buffer", counters.buffer),
        ("held", counters.held),
        ("paying", counters.paying),
        ("overdue", counters.overdue),
        ("sold", counters.sold),
        ("quarantine", counters.quarantine),
    ] {
        assert_eq!(
            words.number::<Units>(name).unwrap_or(0),
            units,
            "{name} of {counters:?}"
        );
    }
    for (name, units) in [
        ("supplied", counters.supplied),
        ("withdrawn", counters.withdrawn),
        ("written_off", counters.written_off),
    ] {
        check(words, name, Some(&units.to_string()));
    }
}

fn check_level(world: &World, words: &Words<'_>) {
    let (sale_id, sku) = words
        .next()
        .split_once('/')
        .expect("a level is of sale/sku");
    let view = world
        .ledger
        .availability(sale_id, sku)
        .expect("a sku that exists");
    assert_eq!(words.next(), view.level.name(), "{view:#?}");
    check(words, "epoch", Some(&view.level_epoch.to_string()));
    let earliest = view.earliest_expire_at.map(|time| time.to_string());
    check(words, "earliest", earliest.as_deref());
}
