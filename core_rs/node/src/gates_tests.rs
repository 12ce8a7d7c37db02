use super::*;
use crate::gates_settings;

const SECOND: Nanos = 1_000_000_000;

fn sale(state: SaleState) -> Sale {
    Sale {
        state,
        opens_at: Some(10_000),
        closes_at: None,
        ttl: 600_000,
        queue: SaleQueue::default(),
    }
}

fn one(state: SaleState) -> BTreeMap<Text, Sale> {
    BTreeMap::from([("sale-1".into(), sale(state))])
}

fn at(now: Nanos) -> Measures {
    Measures {
        now,
        ledger_now: Millis::try_from(now / MILLISECOND).expect("fits"),
        ..Measures::default()
    }
}

fn settings(text: &str) -> State {
    State {
        settings: gates_settings::from_json(text).expect("is valid"),
        ..State::default()
    }
}

fn shown(state: &State) -> (GateState, &'static str) {
    let shown = &state.gates["sale-1"];
    (shown.view.state, shown.cause)
}

#[test]
fn a_sale_that_opens_has_an_open_gate_at_once() {
    let mut state = State::default();
    state.judge(at(9 * SECOND), 100, &one(SaleState::Scheduled));
    assert_eq!((GateState::Closed, "NOT_OPEN_YET"), shown(&state));
    let left = state.gates["sale-1"].view.come_back;
    assert_eq!(Some(SECOND), left);

    state.judge(at(10 * SECOND), 100, &one(SaleState::Open));

    assert_eq!((GateState::Open, "CALM"), shown(&state));
}

#[test]
fn a_full_queue_closes_the_gate_until_it_has_drained() {
    // 10 a second for 600 s: at most 6,000 may wait.
    let mut state = settings(r#"{"settled_per_second_milli": 10000}"#);
    let mut sales = one(SaleState::Open);
    state.judge(at(SECOND), 0, &sales);
    assert_eq!(6_000, state.gates["sale-1"].inputs.queue_count_max);
    let queue = |held, paying| SaleQueue {
        held_count: held,
        paying_count: paying,
        ..SaleQueue::default()
    };
    sales.get_mut("sale-1").expect("is there").queue = queue(4_000, 2_000);

    state.judge(at(2 * SECOND), 0, &sales);

    assert_eq!((GateState::Closed, "QUEUE_DEPTH"), shown(&state));
    // It reopens at half, 3,000 fewer, at 10 a second.
    assert_eq!(Some(300 * SECOND), state.gates["sale-1"].view.come_back);
    sales.get_mut("sale-1").expect("is there").queue = queue(0, 2_000);
    let steps: Vec<GateState> = (3..7)
        .map(|second| {
            state.judge(at(second * SECOND), 0, &sales);
            shown(&state).0
        })
        .collect();
    let (closed, queueing, open) = (GateState::Closed, GateState::Queueing, GateState::Open);
    assert_eq!(vec![closed, queueing, open, open], steps);
}

#[test]
fn the_measured_drain_goes_before_the_one_that_was_set() {
    let mut state = settings(r#"{"settled_per_second_milli": 10000}"#);
    let mut sales = one(SaleState::Open);
    for second in 1..100 {
        sales
            .get_mut("sale-1")
            .expect("is there")
            .queue
            .drained_count = second * 50;
        state.judge(at(second * SECOND), 0, &sales);
    }

    let drain = state.gates["sale-1"].inputs.drain;
    assert!((49_900..=50_000).contains(&drain), "{drain}");
}

#[test]
fn late_payment_news_close_the_gate_and_a_single_straggler_does_not() {
    let mut state = State::default();
    let sales = one(SaleState::Open);
    let mut look = |step: u64, lag: Millis| {
        let mut measures = at(step * SECOND / 10);
        measures.settlement_lag = Some((lag, i64::try_from(step).expect("fits")));
        state.judge(measures, 0, &sales);
        shown(&state)
    };
    for step in 0..20 {
        look(step, 100);
    }
    assert_eq!((GateState::Open, "CALM"), look(20, 3_600_000));
    for step in 21..60 {
        look(step, 300_000);
    }

    assert_eq!((GateState::Closed, "CALLBACK_LAG"), look(60, 300_000));
}

#[test]
fn news_of_before_the_start_are_not_counted() {
    let mut lags = Lags::default();
    for step in 0..50 {
        lags.note(Some((900_000, 1)), step * SECOND / 10);
    }

    assert_eq!(0, lags.median());
}

#[test]
fn the_hand_goes_before_everything_until_its_time() {
    let mut state = State::default();
    let hand = Hand {
        state: GateState::Closed,
        until: Some(5_000),
    };
    state.hands.insert("sale-1".into(), hand);
    let sales = one(SaleState::Open);
    state.judge(at(SECOND), 0, &sales);
    assert_eq!((GateState::Closed, "OPERATOR"), shown(&state));

    for second in 5..9 {
        state.judge(at(second * SECOND), 0, &sales);
    }

    assert_eq!((GateState::Open, "CALM"), shown(&state));
    assert!(state.hands.is_empty());
}

#[test]
fn a_sale_that_is_over_is_closed_for_good_whatever_the_hand() {
    let mut state = State::default();
    let hand = Hand {
        state: GateState::Open,
        until: None,
    };
    state.hands.insert("sale-1".into(), hand);

    state.judge(at(SECOND), 0, &one(SaleState::Closed));

    assert_eq!((GateState::Closed, "SALE_ENDED"), shown(&state));
    assert_eq!(None, state.gates["sale-1"].view.come_back);
}

#[test]
fn an_order_service_that_does_not_report_makes_buyers_wait() {
    let mut state = State::default();
    let sales = one(SaleState::Open);
    let silent = |seconds| Measures {
        is_report_stale: true,
        ..at(seconds * SECOND)
    };

    state.judge(silent(1), 0, &sales);
    assert_eq!((GateState::Queueing, "NO_REPORT"), shown(&state));
    assert!(state.gates["sale-1"].view.come_back.is_some());

    state.judge(at(2 * SECOND), 0, &sales);
    state.judge(at(3 * SECOND), 0, &sales);
    assert_eq!((GateState::Open, "CALM"), shown(&state));
}

#[test]
fn news_are_told_at_once_and_numbers_once_a_second() {
    let mut state = State::default();
    let mut sales = one(SaleState::Open);
    let told: Vec<bool> = [1_000, 1_100, 1_900, 2_000, 2_100]
        .into_iter()
        .map(|millis| state.judge(at(millis * MILLISECOND), 0, &sales))
        .collect();
    assert_eq!(vec![true, false, false, true, false], told);

    sales.get_mut("sale-1").expect("is there").queue.is_sold_out = true;
    assert!(state.judge(at(2_200 * MILLISECOND), 0, &sales));
}

#[test]
fn the_policys_rules_hold_from_the_next_look_on_and_the_settings_once_it_has_none() {
    let mut state = settings(r#"{"settled_per_second_milli": 10000}"#);
    let mut policy = DoorPolicy::default();
    let board = GateBoard::new(&policy);
    let mut bound = |policy: &DoorPolicy, now| {
        board.note_policy(policy);
        state.policy = board.state().policy;
        state.judge(at(now), 0, &one(SaleState::Open));
        state.gates["sale-1"].inputs.queue_count_max
    };

    assert_eq!(6_000, bound(&policy, 0));
    policy.gate = Some(GateRules {
        settled_rate: 1_000,
        ..GateRules::default()
    });
    assert_eq!(600, bound(&policy, SECOND));
    policy.gate = Some(GateRules::default());
    assert_eq!(0, bound(&policy, 2 * SECOND), "it says that there is none");
    policy.gate = None;
    assert_eq!(6_000, bound(&policy, 3 * SECOND));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (text, name) in [
        (r#"{"queue_at": 0}"#, "gate.queue_at"),
        (r#"{"reopen_at": 900}"#, "gate.reopen_at"),
        (r#"{"margin_ms": 86400001}"#, "gate.margin_ms"),
        (
            r#"{"settled_per_second_milli": 1000000001}"#,
            "gate.settled_per_second",
        ),
        (r#"{"surprise": 1}"#, "surprise"),
    ] {
        let error = gates_settings::from_json(text)
            .expect_err("is refused")
            .to_string();

        assert!(error.contains(name), "{error}");
    }
}
