//! The order of waiting, its bound and its end.

use super::*;

const MILLI: Nanos = 1_000_000;

fn policy() -> QueuePolicy {
    QueuePolicy {
        length_max: 300,
        wait_max: 1_000 * MILLI,
        ..QueuePolicy::default()
    }
}

fn served(queue: &mut WaitQueue<u64>, now: Nanos) -> u64 {
    match queue.pop(now) {
        Some(Popped::Served(item, _)) => item,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calm_serves_the_oldest_first() {
    let mut queue = WaitQueue::new(policy());
    for item in 0..5 {
        queue.push(item, item * MILLI / 10).expect("room");
    }

    for item in 0..5 {
        assert_eq!(item, served(&mut queue, MILLI));
    }
    assert_eq!(None, queue.pop(MILLI));
}

#[test]
fn overload_serves_the_newest_first_and_calm_returns_when_the_oldest_is_in_time() {
    let mut queue = WaitQueue::new(policy());
    for item in 0..200 {
        queue.push(item, item * MILLI).expect("room");
    }
    // The oldest is late since 5 ms; a whole interval later that is overload.
    assert!(queue.is_overloaded(199 * MILLI));
    assert_eq!(199, served(&mut queue, 199 * MILLI));
    assert_eq!(198, served(&mut queue, 199 * MILLI));

    while !queue.is_empty() {
        queue.pop(200 * MILLI);
    }
    queue.push(1, 201 * MILLI).expect("room");
    queue.push(2, 201 * MILLI).expect("room");
    assert_eq!(1, served(&mut queue, 202 * MILLI));
}

#[test]
fn a_short_peak_is_no_overload() {
    let mut queue = WaitQueue::new(policy());
    queue.push(1, 0).expect("room");
    queue.push(2, 0).expect("room");
    queue.pop(50 * MILLI);
    queue.pop(50 * MILLI);
    queue.push(3, 60 * MILLI).expect("room");
    queue.push(4, 61 * MILLI).expect("room");

    assert_eq!(
        3,
        served(&mut queue, 150 * MILLI),
        "late again, but only since 65 ms"
    );
}

#[test]
fn what_waited_too_long_comes_out_first_and_is_not_served() {
    let mut queue = WaitQueue::new(policy());
    queue.push(1, 0).expect("room");
    queue.push(2, MILLI).expect("room");

    assert_eq!(Some(Popped::Expired(1, 0)), queue.pop(1_000 * MILLI));
    assert_eq!(Some(Popped::Served(2, MILLI)), queue.pop(1_000 * MILLI));
}

#[test]
fn the_queue_has_room_for_its_length_and_not_for_one_more() {
    let mut queue = WaitQueue::new(policy());
    for item in 0..300 {
        assert_eq!(Ok(()), queue.push(item, 0));
    }

    assert_eq!(Err(300), queue.push(300, 0));
    assert_eq!(300, queue.len());
}

#[test]
fn what_is_put_back_is_where_it_was() {
    let mut queue = WaitQueue::new(policy());
    for item in 0..3 {
        queue.push(item, item * MILLI).expect("room");
    }
    let Some(Popped::Served(oldest, since)) = queue.pop(2 * MILLI) else {
        panic!("three wait");
    };
    queue.put_back(oldest, since, 3 * MILLI);
    assert_eq!(Some(1_000 * MILLI), queue.next_expiry());
    assert_eq!(0, served(&mut queue, 3 * MILLI));

    // In overload the newest came out.
    let Some(Popped::Served(newest, since)) = queue.pop(500 * MILLI) else {
        panic!("two wait");
    };
    assert_eq!((2, 2 * MILLI), (newest, since));
    queue.put_back(newest, since, 500 * MILLI);
    assert_eq!(2, served(&mut queue, 500 * MILLI));
}

#[test]
fn time_that_goes_back_makes_nothing_late() {
    let mut queue = WaitQueue::new(policy());
    queue.push(1, 500 * MILLI).expect("room");
    queue.push(2, 100 * MILLI).expect("room");

    assert_eq!(0, queue.delay(100 * MILLI));
    assert_eq!(1, served(&mut queue, 100 * MILLI));
}

#[test]
fn in_overload_some_are_in_time_where_oldest_first_would_serve_none() {
    // Twice as many come as are served; in time is within 100 ms.
    let mut queue = WaitQueue::new(policy());
    let (mut in_time, mut all) = (0_u32, 0_u32);
    for tick in 0..10_000_u64 {
        let now = tick * MILLI;
        let _ = queue.push(now, now);
        if tick % 2 == 1 {
            continue;
        }
        while let Some(popped) = queue.pop(now) {
            if let Popped::Served(since, _) = popped {
                all += 1;
                in_time += u32::from(now - since <= 100 * MILLI);
                break;
            }
        }
    }

    assert!(in_time * 10 >= all * 9, "{in_time} of {all}");
}
