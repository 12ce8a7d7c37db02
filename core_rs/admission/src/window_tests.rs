//! The window by itself, and in front of a database that becomes three times slower.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::*;
use crate::bucket::TOKEN;

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000_000_000;

fn policy() -> WindowPolicy {
    WindowPolicy {
        least: 40,
        most: 10_000,
        target_delay: 50 * MILLI,
        report_interval: 100 * MILLI,
        stale_after: 3,
        credit_life: 30 * SECOND,
        floor: BucketPolicy {
            rate: 10_000,
            burst: TOKEN,
        },
    }
}

fn report(persisted_count: u64) -> Report {
    Report {
        generation: 1,
        persisted_count,
        oldest_wait: 0,
    }
}

fn fill(window: &mut Window, now: Nanos) -> u64 {
    let mut count = 0;
    while window.check(now).is_ok() {
        window.grant(now);
        count += 1;
    }
    count
}

fn heard() -> Window {
    let mut window = Window::new(policy(), 0);
    window.report(&report(0), 0).expect("the first word");
    window
}

#[test]
fn no_more_are_out_than_the_window_is_wide() {
    let mut window = heard();

    assert_eq!(40, fill(&mut window, 0));
    assert_eq!(40, window.stats(0).outstanding);
    window.give_back(3);
    assert_eq!(3, fill(&mut window, 0));
}

#[test]
fn refused_calls_are_told_to_come_at_the_pace_of_the_drain() {
    let mut window = heard();
    fill(&mut window, 0);
    let busy = Report {
        oldest_wait: 50 * MILLI,
        ..report(40)
    };
    window.report(&busy, 100 * MILLI).expect("taken");
    fill(&mut window, 100 * MILLI);
    let drain = window.stats(0).drain;

    let waits: Vec<_> = (0..50).map(|_| window.check(100 * MILLI)).collect();

    let pace = |place: u64| 1_000 * SECOND * place / drain;
    for (place, wait) in (2..).zip(waits) {
        let retry_after = 100 * MILLI + pace(place);
        assert_eq!(Err(Denial::NotNow { retry_after }), wait);
    }
}

#[test]
fn without_reports_only_the_floor_is_granted() {
    let mut silent = Window::new(policy(), 0);
    assert_eq!(1, fill(&mut silent, 0), "never heard of");
    assert_eq!(1, fill(&mut silent, 100 * MILLI), "ten a second");

    let mut window = heard();
    assert!(!window.stats(300 * MILLI).is_stale);
    assert!(window.stats(300 * MILLI + 1).is_stale);
    assert_eq!(1, fill(&mut window, 400 * MILLI));
    window.report(&report(1), 400 * MILLI).expect("taken");
    assert_eq!(40, fill(&mut window, 400 * MILLI));
}

#[test]
fn reports_that_go_back_are_refused_and_change_nothing() {
    let mut window = heard();
    fill(&mut window, 0);
    window.report(&report(10), 100 * MILLI).expect("taken");
    let before = window.stats(0);

    let back = window.report(&report(9), 200 * MILLI);
    let old = Report {
        generation: 0,
        ..report(99)
    };
    let old = window.report(&old, 200 * MILLI);

    assert_eq!(Err(ReportError::WentBack), back);
    assert_eq!(Err(ReportError::OldGeneration), old);
    assert_eq!(before, window.stats(0));
}

#[test]
fn a_new_order_service_counts_from_its_own_beginning() {
    let mut window = heard();
    fill(&mut window, 0);
    let reborn = Report {
        generation: 2,
        ..report(7)
    };
    window.report(&reborn, 100 * MILLI).expect("taken");
    assert_eq!(0, window.stats(0).outstanding, "who had them is dead");
    assert_eq!(40, window.stats(0).written_off);

    assert_eq!(40, fill(&mut window, 100 * MILLI));
    let next = Report {
        persisted_count: 17,
        ..reborn
    };
    window.report(&next, 200 * MILLI).expect("taken");
    assert_eq!(30, window.stats(0).outstanding);
}

#[test]
fn nobody_is_sent_away_for_long_from_a_database_that_is_idle() {
    let mut window = heard();
    // Two a second were asked for, so two a second were persisted: that is not what it can do.
    for second in 1..=10 {
        let report = report(2 * second);
        window.report(&report, second * SECOND).expect("taken");
    }
    fill(&mut window, 10 * SECOND);

    let width = window.stats(0).limit;
    for place in 2..=100 {
        let retry_after = 100 * MILLI + place * 150 * MILLI / width;
        let wait = window.check(10 * SECOND);
        assert_eq!(Err(Denial::NotNow { retry_after }), wait);
    }
}

#[test]
fn grants_that_nobody_persists_end_their_count_after_their_life() {
    let mut window = heard();
    assert_eq!(40, fill(&mut window, 0));
    let life = policy().credit_life;
    assert!(window.check(life - life / 64 - 1).is_err());

    assert_eq!(
        1,
        fill(&mut window, life),
        "the floor: no report came for long"
    );
    assert_eq!(40, window.stats(0).written_off);
    assert_eq!(1, window.stats(0).outstanding);
    window.grow_old(100 * life);
    assert_eq!(
        0,
        window.stats(0).outstanding,
        "a long sleep ends every life"
    );
}

#[test]
fn the_window_never_passes_the_operators_number() {
    let mut window = heard();
    let mut persisted = 0;
    for tick in 1..200 {
        persisted += fill(&mut window, tick * 100 * MILLI);
        let soon = tick * 100 * MILLI + 99 * MILLI;
        window.report(&report(persisted), soon).expect("taken");
        assert!(window.stats(0).limit <= u64::from(policy().most));
    }
    assert_eq!(
        u64::from(policy().most),
        window.stats(0).limit,
        "a fast store gets all"
    );
}

#[test]
fn a_change_of_policy_keeps_what_is_out() {
    let mut window = heard();
    fill(&mut window, 0);
    let narrow = WindowPolicy {
        least: 10,
        most: 20,
        credit_life: 60 * SECOND,
        ..policy()
    };
    window.set_policy(narrow, 0);

    assert_eq!(
        (10, 40),
        (window.stats(0).limit, window.stats(0).outstanding)
    );
    assert!(window.check(0).is_err());
    window.give_back(31);
    assert_eq!(1, fill(&mut window, 0));
}

/// Who says whether a reservation may be granted.
enum Valve {
    Window(Box<Window>),
    Bucket(Bucket),
}

impl Valve {
    fn lets_in(&mut self, now: Nanos) -> bool {
        match self {
            Self::Window(window) => {
                let is_in = window.check(now).is_ok();
                if is_in {
                    window.grant(now);
                }
                is_in
            }
            Self::Bucket(bucket) => {
                bucket.refill(now);
                let is_in = bucket.check(TOKEN).is_ok();
                if is_in {
                    bucket.overdraw(TOKEN);
                }
                is_in
            }
        }
    }
}

/// A database that persists 2,000 a second, a third of it from second 20 to 40, with 20,000 offered
/// a second. Gives what was done within a second of its grant, in thousandths of what could be, for
/// each second.
fn goodput(valve: &mut Valve) -> Vec<u64> {
    let mut queue: VecDeque<Nanos> = VecDeque::new();
    let (mut budget, mut persisted) = (0, 0);
    let mut seconds = Vec::new();
    for second in 0..60 {
        let each_milli = if (20..40).contains(&second) {
            667
        } else {
            2_000
        };
        let mut useful = 0;
        for milli in 0..1_000 {
            let now = (second * 1_000 + milli) * MILLI;
            for offer in 0..20 {
                let at = now + offer * 50_000;
                if valve.lets_in(at) {
                    queue.push_back(at);
                }
            }
            budget = (budget + each_milli).min(20_000);
            while budget >= 1_000 {
                let Some(granted) = queue.pop_front() else {
                    break;
                };
                budget -= 1_000;
                persisted += 1;
                useful += u64::from((now + MILLI).saturating_sub(granted) <= SECOND);
            }
            if let Valve::Window(window) = valve
                && milli % 100 == 99
            {
                let oldest_wait = queue.front().map_or(0, |it| now.saturating_sub(*it));
                let report = Report {
                    generation: 1,
                    persisted_count: persisted,
                    oldest_wait,
                };
                window.report(&report, now + MILLI).expect("taken");
            }
        }
        seconds.push(useful * 1_000 / each_milli);
    }
    seconds
}

fn mean(seconds: &[u64]) -> u64 {
    seconds.iter().sum::<u64>() / seconds.len() as u64
}

#[test]
fn a_database_three_times_slower_keeps_its_goodput_behind_a_window() {
    let seconds = goodput(&mut Valve::Window(Box::new(Window::new(policy(), 0))));

    assert!(mean(&seconds[2..20]) >= 980, "before: {seconds:?}");
    assert!(mean(&seconds[20..40]) >= 980, "slow: {seconds:?}");
    assert!(
        mean(&seconds[42..]) >= 980,
        "after two seconds: {seconds:?}"
    );
}

#[test]
fn a_bucket_alone_in_front_of_the_same_database_collapses() {
    let policy = BucketPolicy {
        rate: 1_900_000,
        burst: 19 * TOKEN,
    };
    let seconds = goodput(&mut Valve::Bucket(Bucket::new(
        policy,
        BucketStart::Short,
        0,
    )));

    assert!(mean(&seconds[2..20]) >= 940, "before: {seconds:?}");
    assert!(mean(&seconds[20..40]) <= 200, "slow: {seconds:?}");
    assert!(mean(&seconds[42..]) <= 50, "and after it: {seconds:?}");
}
