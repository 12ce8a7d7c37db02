//! What leaves the ledger as a copy.

use lastunit_engine::{Ledger, ReservationFilter, SaleState, State};

use crate::script::step;
use crate::world::World;

fn world(lines: &[&str]) -> World {
    let mut world = World::new();
    for line in lines {
        step(&mut world, line);
    }
    world
}

fn busy() -> World {
    let mut world = world(&[
        "sale S",
        "sale T",
        "pool A/main",
        "supply A/main 50",
        "pool T/A/main",
    ]);
    step(&mut world, "supply T/A/main 50");
    for number in 0..10 {
        let (person, sale) = (number % 3, ["S", "T"][usize::from(number == 4)]);
        step(
            &mut world,
            &format!("reserve r{number} p{person} A sale={sale}"),
        );
    }
    step(&mut world, "confirm r3");
    step(&mut world, "merge p2 p1");
    world
}

fn ids(ledger: &Ledger, filter: &ReservationFilter, limit: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut after = 0;
    loop {
        let page = ledger.reservations(filter, after, limit).expect("a sale");
        let ids = page
            .reservations
            .iter()
            .map(|view| view.reservation_id.to_string());
        pages.push(ids.collect());
        match page.next_after {
            Some(next) => after = next,
            None => return pages,
        }
    }
}

/// Pages together hold each reservation of the sale once, in the order in which they were made.
#[test]
fn pages_have_no_gap_and_no_repeat() {
    let world = busy();
    let filter = ReservationFilter {
        sale_id: "S".into(),
        ..ReservationFilter::default()
    };
    let expected: Vec<String> = [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|n| format!("r{n}")).into();
    for limit in [1, 2, 3, 9, 10, 1_000] {
        let pages = ids(&world.ledger, &filter, limit);
        assert!(pages.iter().all(|page| page.len() <= limit));
        assert_eq!(expected, pages.concat(), "{limit}");
    }
}

/// A person's list has the reservations of everybody merged into the same.
#[test]
fn a_person_lists_all_that_was_merged() {
    let world = busy();
    for person in ["p1", "p2"] {
        let filter = ReservationFilter {
            sale_id: "S".into(),
            person_id: Some(person.into()),
            state: Some(State::Held),
        };
        assert_eq!(
            ["r1", "r2", "r5", "r7", "r8"],
            ids(&world.ledger, &filter, 2).concat()[..]
        );
    }
    let nobody = ReservationFilter {
        sale_id: "S".into(),
        person_id: Some("p9".into()),
        ..ReservationFilter::default()
    };
    assert_eq!(vec![Vec::<String>::new()], ids(&world.ledger, &nobody, 2));
}

/// Unknown names are none, not empty.
#[test]
fn unknown_names_are_none() {
    let world = busy();
    let filter = ReservationFilter {
        sale_id: "U".into(),
        ..ReservationFilter::default()
    };
    assert_eq!(None, world.ledger.reservations(&filter, 0, 10));
    assert_eq!(None, world.ledger.reservation("r99"));
    assert_eq!(None, world.ledger.availability("U", "A"));
    assert_eq!(None, world.ledger.availability("S", "B"));
    assert_eq!(None, world.ledger.skus("U"));
    assert_eq!(None, world.ledger.sale("U", 0));
    assert_eq!(None, world.ledger.changed_sequence("S", "B"));
    assert_eq!(None, world.ledger.sale_changed_sequence("U"));
}

/// A watch sees by one number whether a sku changed, and only then.
#[test]
fn the_changed_sequence_rises_with_what_changed() {
    let mut world = world(&["sale S", "pool A/main", "pool B/main", "supply A/main 5"]);
    let changed = |world: &World, sku| world.ledger.changed_sequence("S", sku).unwrap();
    assert_eq!((4, 3), (changed(&world, "A"), changed(&world, "B")));
    step(&mut world, "reserve r p A");
    assert_eq!((5, 3), (changed(&world, "A"), changed(&world, "B")));
    assert_eq!(Some(5), world.ledger.sale_changed_sequence("S"));
    step(&mut world, "merge p q");
    assert_eq!((5, 3), (changed(&world, "A"), changed(&world, "B")));
    step(&mut world, "begin r a");
    assert_eq!((7, 3), (changed(&world, "A"), changed(&world, "B")));
    assert_eq!(
        7,
        world
            .ledger
            .availability("S", "A")
            .unwrap()
            .changed_sequence
    );
    step(&mut world, "sale S low=50");
    assert_eq!(
        (8, 8),
        (changed(&world, "A"), changed(&world, "B")),
        "LOW may be another now"
    );
}

/// A view tells what was asked for and what was taken.
#[test]
fn a_reservation_shows_its_lines_and_its_pools() {
    let world = world(&[
        "sale S",
        "pool A/east position=1 labels=place:berlin",
        "pool A/west position=2",
        "supply A/east 1",
        "supply A/west 5",
        "at 7",
        "reserve r p A*3,A@west",
        "begin r a provider=bank amount=840 currency=EUR",
    ]);
    let view = world.ledger.reservation("r").unwrap();
    assert_eq!(
        (3, None),
        (view.lines[0].units, view.lines[0].pool.as_deref())
    );
    assert_eq!(
        (1, Some("west")),
        (view.lines[1].units, view.lines[1].pool.as_deref())
    );
    let taken: Vec<_> = view
        .taken
        .iter()
        .map(|t| (t.line_index, t.pool.as_str(), t.units))
        .collect();
    assert_eq!(vec![(0, "east", 1), (0, "west", 2), (1, "west", 1)], taken);
    assert_eq!((7, Some(900_007)), (view.created_at, view.settle_by));
    assert_eq!(6, view.created_sequence);
    let attempt = &view.attempts[0];
    assert_eq!(
        (Some("bank"), Some(840)),
        (attempt.provider.as_deref(), attempt.amount_minor)
    );

    let availability = world.ledger.availability("S", "A").unwrap();
    let pools: Vec<&str> = availability
        .pools
        .iter()
        .map(|pool| pool.pool.as_str())
        .collect();
    assert_eq!(["east", "west"], pools[..]);
    assert_eq!(
        ("place".into(), "berlin".into()),
        availability.pools[0].labels[0]
    );
    assert_eq!(
        (6, 4),
        (availability.counters.supplied, availability.counters.paying)
    );
}

/// Names come in order, and a sale's state is judged by the time that is asked about.
#[test]
fn names_are_in_order_and_states_by_time() {
    let world = world(&[
        "sale T opens=50",
        "sale S",
        "pool B/main",
        "pool A/main",
        "pool A/other",
    ]);
    assert_eq!(["S", "T"], world.ledger.sale_ids()[..]);
    assert_eq!(["A", "B"], world.ledger.skus("S").unwrap()[..]);
    assert_eq!(
        SaleState::Scheduled,
        world.ledger.sale("T", 49).unwrap().state
    );
    assert_eq!(SaleState::Open, world.ledger.sale("T", 50).unwrap().state);
}

/// The sizes count what is kept.
#[test]
fn sizes_count_what_is_kept() {
    let world = busy();
    let sizes = world.ledger.sizes();
    assert_eq!(
        (2, 2, 10, 9),
        (
            sizes.sale_count,
            sizes.pool_count,
            sizes.reservation_count,
            sizes.live_reservation_count
        )
    );
    assert_eq!((3, 0), (sizes.person_count, sizes.attempt_count));
}

/// Whom a split leaves alone with nothing is forgotten, as after a release; the others are kept.
#[test]
fn a_split_forgets_who_is_alone_with_nothing() {
    let mut world = world(&["sale S", "pool A/main", "supply A/main 9"]);
    let count_after = |world: &mut World, line: &str| {
        step(world, line);
        world.ledger.sizes().person_count
    };
    let steps = [
        ("merge p2 p1", 2),
        ("merge p3 p1", 3),
        ("split p3 => OK -", 2),
        ("reserve r1 p2 A", 2),
        ("split p2 => OK -", 1),
        ("is r1 HELD person=p2", 1),
        ("merge p4 p5", 3),
        ("split p4", 1),
        ("split nobody => OK -", 1),
    ];
    for (line, count) in steps {
        assert_eq!(count, count_after(&mut world, line), "{line}");
    }
}

/// The bytes grow with what is kept, long ids and lines included, and fall when it is forgotten.
#[test]
fn memory_is_stated_and_falls_with_forgetting() {
    let mut world = world(&[
        "sale S forget=10 closes=1000",
        "pool A/main",
        "supply A/main 90000",
    ]);
    world.is_thorough = false;
    let empty = world.ledger.memory_bytes();
    let reserve = |world: &mut World, number: u32| {
        step(world, &format!("reserve {number:0>64} {number:0>63} A,A,A"));
        step(world, &format!("release {number:0>64}"));
    };
    for number in 0..700 {
        reserve(&mut world, number);
    }
    let full = world.ledger.memory_bytes();
    // Two long ids, three pieces and a remembered request each.
    assert!(full - empty > 700 * 800, "{empty} and then {full}");
    assert!(full - empty < 700 * 3_000, "{empty} and then {full}");

    world.now = 5_000;
    world.run_due();
    world.now = 6_000;
    world.run_due();
    let sizes = world.ledger.sizes();
    assert_eq!((0, 0), (sizes.reservation_count, sizes.person_count));
    let fallen = world.ledger.memory_bytes();
    assert!(
        fallen - empty < (full - empty) / 4,
        "{full} fell to {fallen}"
    );
}

/// The oldest overdue one is told by when it should have been settled, until it is settled.
#[test]
fn the_oldest_overdue_reservation_is_known_without_a_search() {
    let mut world = world(&["sale S settle_by=900", "pool A/main", "supply A/main 5"]);
    assert_eq!(None, world.ledger.oldest_overdue());
    for (time, id) in [(0, "r1"), (50, "r2")] {
        world.now = time;
        step(&mut world, &format!("reserve {id} p-{id} A"));
        step(&mut world, &format!("begin {id} a-{id}"));
    }
    world.now = 900;
    world.run_due();
    assert_eq!(Some(900), world.ledger.oldest_overdue());
    world.now = 2_000;
    world.run_due();
    assert_eq!(Some(900), world.ledger.oldest_overdue());
    step(&mut world, "settle r1 a-r1 SUCCEEDED");
    assert_eq!(Some(950), world.ledger.oldest_overdue());
    step(&mut world, "settle r2 a-r2 SUCCEEDED");

    assert_eq!(None, world.ledger.oldest_overdue());
    assert!(world.ledger.audit().holds());
}

/// Each sale's units stand in its own row, and the rows have every unit there is.
#[test]
fn units_are_summed_by_sale() {
    let ledger = busy().ledger;

    let rows = ledger.units_by_sale();
    let [first, second] = rows.as_slice() else {
        panic!("two sales, not {rows:?}");
    };
    assert_eq!(("S", "T"), (&*first.sale_id, &*second.sale_id));
    assert_eq!(
        (50, 50),
        (first.counters.placed(), second.counters.placed())
    );
    assert_eq!((8, 1), (first.counters.held, first.counters.sold));
    assert_eq!((1, 0), (second.counters.held, second.counters.sold));
}

/// The brake tells who holds it, for as long as it is held.
#[test]
fn the_brake_says_whether_an_operator_or_late_news_holds_it() {
    let mut world = world(&["sale S lag=60000", "pool A/main", "supply A/main 5"]);
    let is_on = |world: &World| {
        let brake = world.ledger.brake(world.now);
        (brake.is_on_by_operator, brake.is_on_by_lag)
    };
    assert_eq!((false, false), is_on(&world));
    step(&mut world, "brake on until=1000");
    assert_eq!((true, false), is_on(&world));
    world.now = 1_000;
    assert_eq!((false, false), is_on(&world));
    for id in ["r1", "r2"] {
        step(&mut world, &format!("reserve {id} p-{id} A"));
        step(&mut world, &format!("begin {id} a-{id}"));
    }
    world.now = 61_000;
    step(&mut world, "settle r1 a-r1 SUCCEEDED occurred=1000");
    assert_eq!((false, false), is_on(&world));
    world.now = 61_001;
    step(&mut world, "settle r2 a-r2 SUCCEEDED occurred=1000");
    assert_eq!((false, true), is_on(&world));
    assert_eq!(Some((60_001, 61_001)), world.ledger.brake(61_001).last_lag);
    world.now = 121_001;

    assert_eq!((false, false), is_on(&world));
}
