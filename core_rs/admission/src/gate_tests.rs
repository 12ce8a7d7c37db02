//! The gate as a function: what closes it, what opens it, and what it tells.

use super::*;

const MILLI: Nanos = 1_000_000;
const WHOLE: Nanos = 1_000_000_000;

fn calm() -> GateInputs {
    GateInputs {
        in_flight_max: 1_000,
        queue_count_max: 10_000,
        reservation_ttl: 600 * WHOLE,
        drain: 500_000,
        ..GateInputs::default()
    }
}

fn look(gate: &mut Gate, inputs: &GateInputs, now: Nanos) -> GateView {
    let (next, view) = gate.next(inputs, &GatePolicy::default(), now);
    assert_eq!((next, view), gate.next(inputs, &GatePolicy::default(), now));
    *gate = next;
    view
}

#[test]
fn each_pressure_queues_and_closes_at_its_mark() {
    let with = |change: &dyn Fn(&mut GateInputs)| {
        let mut inputs = calm();
        change(&mut inputs);
        let view = look(&mut Gate::default(), &inputs, 0);
        (view.state, view.cause)
    };
    let (open, queueing, closed) = (GateState::Open, GateState::Queueing, GateState::Closed);

    assert_eq!((open, Cause::Calm), with(&|_| {}));
    assert_eq!((open, Cause::InFlight), with(&|it| it.in_flight = 799));
    assert_eq!((queueing, Cause::InFlight), with(&|it| it.in_flight = 800));
    assert_eq!((closed, Cause::InFlight), with(&|it| it.in_flight = 1_000));
    assert_eq!(
        (queueing, Cause::QueueDepth),
        with(&|it| it.queue_count = 8_000)
    );
    assert_eq!(
        (closed, Cause::QueueDepth),
        with(&|it| it.queue_count = 10_000)
    );
    // Half of a reservation's life is 300 s.
    assert_eq!(
        (queueing, Cause::CallbackLag),
        with(&|it| it.callback_lag = 240 * WHOLE)
    );
    assert_eq!(
        (closed, Cause::CallbackLag),
        with(&|it| it.callback_lag = 300 * WHOLE)
    );
    assert_eq!(
        (queueing, Cause::NoReport),
        with(&|it| it.is_report_stale = true)
    );
    assert_eq!(
        (closed, Cause::NotOpenYet),
        with(&|it| it.opens_in = Some(1))
    );
}

#[test]
fn it_gets_worse_at_once_and_better_one_step_after_each_dwell() {
    let mut gate = Gate::default();
    let mut hot = calm();
    hot.in_flight = 2_000;
    assert_eq!(GateState::Closed, look(&mut gate, &hot, 0).state);

    let states = [0, 999, 1_000, 1_999, 2_000].map(|at| look(&mut gate, &calm(), at * MILLI).state);

    let (closed, queueing) = (GateState::Closed, GateState::Queueing);
    assert_eq!(
        [closed, closed, queueing, queueing, GateState::Open],
        states
    );
}

#[test]
fn pressure_between_the_marks_changes_nothing() {
    let mut gate = Gate::default();
    let mut inputs = calm();
    inputs.in_flight = 800;
    look(&mut gate, &inputs, 0);
    inputs.in_flight = 501;
    for at in 0..100 {
        assert_eq!(
            GateState::Queueing,
            look(&mut gate, &inputs, at * WHOLE).state
        );
    }
    inputs.in_flight = 500;
    look(&mut gate, &inputs, 100 * WHOLE);
    assert_eq!(GateState::Open, look(&mut gate, &inputs, 101 * WHOLE).state);
}

#[test]
fn the_operators_hand_goes_before_everything_and_is_left_in_steps() {
    let mut gate = Gate::default();
    let mut inputs = calm();
    inputs.hand = Some(GateState::Closed);
    let view = look(&mut gate, &inputs, 0);
    assert_eq!(
        (GateState::Closed, Cause::Operator),
        (view.state, view.cause)
    );
    inputs.in_flight = 5_000;
    inputs.hand = Some(GateState::Open);
    assert_eq!(GateState::Open, look(&mut gate, &inputs, 0).state);

    inputs.hand = None;
    assert_eq!(GateState::Closed, look(&mut gate, &inputs, 0).state);
}

#[test]
fn come_back_follows_the_drain_of_the_queue() {
    let mut inputs = calm();
    inputs.queue_count = 12_000;
    // Closed until 5,000 are left, 500 a second.
    assert_eq!(
        Some(14 * WHOLE),
        look(&mut Gate::default(), &inputs, 0).come_back
    );
    inputs.queue_count = 9_000;
    // Queueing until 8,000 are left.
    assert_eq!(
        Some(2 * WHOLE),
        look(&mut Gate::default(), &inputs, 0).come_back
    );
    inputs.queue_count = 8_000;
    assert_eq!(
        Some(WHOLE),
        look(&mut Gate::default(), &inputs, 0).come_back,
        "a dwell"
    );
    inputs.queue_count = 0;
    assert_eq!(None, look(&mut Gate::default(), &inputs, 0).come_back);
    inputs.opens_in = Some(90 * WHOLE);
    assert_eq!(
        Some(90 * WHOLE),
        look(&mut Gate::default(), &inputs, 0).come_back
    );
}

#[test]
fn the_most_that_may_wait_is_what_is_paid_within_a_life() {
    // 33.3 a second, 600 s to live, 60 s to pay, 30 s in hand: 33.3 * 510.
    let most = queue_count_max(33_300, 600 * WHOLE, 60 * WHOLE, 30 * WHOLE);
    assert_eq!(16_983, most);
    assert_eq!(0, queue_count_max(33_300, 60 * WHOLE, 60 * WHOLE, WHOLE));
    assert_eq!(u64::MAX, queue_count_max(u64::MAX, u64::MAX, 0, 0));
}

#[test]
fn gate_policies_out_of_range_are_refused() {
    let good = GatePolicy::default();
    assert_eq!(Ok(()), good.check());
    let bad = [
        GatePolicy {
            queue_at: 1_001,
            ..good
        },
        GatePolicy {
            queue_at: 0,
            ..good
        },
        GatePolicy {
            close_at: 10_001,
            ..good
        },
        GatePolicy {
            reopen_at: 800,
            ..good
        },
        GatePolicy {
            dwell: 3_601 * WHOLE,
            ..good
        },
    ];
    for policy in bad {
        assert!(policy.check().is_err(), "{policy:?}");
    }
}
