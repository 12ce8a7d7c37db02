//! What admission knows of sales, SKUs and the order service: each bucket says its name, who cannot
//! win pays nothing, and a repeated id keeps its first answer.

use std::sync::Arc;

use lastunit_admission::{BucketPolicy, DoorPolicy, Lane, TOKEN, WindowPolicy};
use lastunit_journal::testing::MemoryStorage;
use lastunit_node::Node;
use lastunit_wire::{Method, contract};

use crate::support::*;

type Request = contract::operation::Request;
type Response = contract::reply::Response;

/// So many tokens, and the next one in a thousand seconds.
fn tokens(count: i64) -> BucketPolicy {
    BucketPolicy {
        rate: 1,
        burst: count * TOKEN,
    }
}

fn open(units: i64, change: impl FnOnce(&mut DoorPolicy)) -> Arc<Node> {
    let mut settings = settings(std::path::Path::new(""));
    change(&mut settings.admission);
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, units);
    node
}

/// Sells the one unit there is to `sold`, and lets admission see that nothing is left.
fn open_sold_out() -> Arc<Node> {
    let node = open(1, |it| it.skus.each = Some(tokens(3)));
    reserve_now(&node, "sold");
    let _: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("sold"));
    let _: contract::SettlePaymentResponse = ask(&node, Method::SettlePayment, &settle("sold"));
    assert_eq!(contract::Outcome::SoldOut, try_reserve(&node, "seen"));
    node
}

fn try_reserve(node: &Node, reservation_id: &str) -> contract::Outcome {
    let reply: contract::ReserveResponse = ask(node, Method::Reserve, &reserve(reservation_id));
    outcome(reply.result.as_ref())
}

fn refusal(node: &Node, reservation_id: &str) -> String {
    reason(&TESTER.call(node, Method::Reserve, &reserve(reservation_id)))
}

fn admission(node: &Node) -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(&node.metrics_json()).unwrap();
    all["admission"].clone()
}

fn give_back(units: i64) -> contract::ReturnRequest {
    contract::ReturnRequest {
        request_id: "back".into(),
        reservation_id: "sold".into(),
        sku: SKU.into(),
        units,
        disposition: contract::Disposition::Resell.into(),
        ..Default::default()
    }
}

#[test]
fn the_bucket_of_a_sku_and_of_a_sale_refuse_by_their_names() {
    let one = Some(tokens(1));
    for (expected, sale, sku) in [("RATE_SKU", None, one), ("RATE_SALE", one, None)] {
        let node = open(10, |it| {
            it.sales.each = sale;
            it.skus.each = sku;
        });
        assert_eq!(contract::Outcome::Ok, try_reserve(&node, "a"));
        assert_eq!(expected, refusal(&node, "b"));

        let begun: contract::BeginPaymentResponse =
            ask(&node, Method::BeginPayment, &begin_payment("a"));
        assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
        assert_eq!(9, available(&node));
    }
}

#[test]
fn whoever_asks_for_what_is_gone_hears_so_at_once_and_pays_nothing() {
    let node = open_sold_out();
    for index in 0..100 {
        assert_eq!(
            contract::Outcome::SoldOut,
            try_reserve(&node, &format!("late{index}"))
        );
    }
    let counted = admission(&node);

    assert_eq!(100, counted["hopeless_count"]);
    assert_eq!(2, counted["lanes"]["reservation"]["admitted_count"]);
    assert_eq!(0, counted["lanes"]["reservation"]["refused_sku_rate_count"]);
    wait_until("all are answered", || {
        admission(&node)["hopeless_in_flight"] == 0
    });
}

#[test]
fn a_repeated_id_of_what_is_gone_keeps_its_first_answer() {
    let node = open_sold_out();

    let again = reserve_now(&node, "sold");
    assert!(again.result.as_ref().unwrap().replayed);
    assert_eq!(contract::Outcome::Ok, outcome(again.result.as_ref()));
    let mut other = reserve("sold");
    other.lines[0].units = 2;
    let conflict: contract::ReserveResponse = ask(&node, Method::Reserve, &other);
    assert_eq!(
        contract::Outcome::Conflict,
        outcome(conflict.result.as_ref())
    );
}

#[test]
fn units_that_come_back_are_won_by_who_pays_for_the_call() {
    let node = open_sold_out();
    supply(&node, "more", 2);

    assert_eq!(contract::Outcome::Ok, try_reserve(&node, "first"));
    // Three tokens: for what was sold, for the look at the empty shelf, for this one.
    assert_eq!("RATE_SKU", refusal(&node, "second"));
    assert_eq!(1, available(&node));
    assert_eq!(0, admission(&node)["hopeless_in_flight"]);
}

#[test]
fn a_batch_in_which_units_come_back_is_decided_in_its_order() {
    let node = open_sold_out();
    let reserve_of = |id: &str| contract::Operation {
        request: Some(Request::Reserve(reserve(id))),
    };
    let operations = vec![
        reserve_of("before"),
        contract::Operation {
            request: Some(Request::ReturnUnits(give_back(1))),
        },
        reserve_of("winner"),
        reserve_of("after"),
        contract::Operation {
            request: Some(Request::BeginPayment(begin_payment("winner"))),
        },
    ];
    let request = contract::ExchangeRequest {
        exchange_id: 1,
        operations,
    };
    let response: contract::ExchangeResponse = ask(&node, Method::Exchange, &request);
    let outcomes: Vec<_> = response
        .replies
        .iter()
        .map(|reply| match reply.response.as_ref().unwrap() {
            Response::Reserve(it) => outcome(it.result.as_ref()),
            Response::ReturnUnits(it) => outcome(it.result.as_ref()),
            Response::BeginPayment(it) => outcome(it.result.as_ref()),
            other => panic!("{other:?}"),
        })
        .collect();

    let (won, gone) = (contract::Outcome::Ok, contract::Outcome::SoldOut);
    assert_eq!(vec![gone, won, won, gone, won], outcomes);
    // The winner paid, the others did not: nothing is left of the three tokens.
    supply(&node, "more", 5);
    assert_eq!("RATE_SKU", refusal(&node, "next"));
}

#[test]
fn only_granted_reservations_stay_in_the_credit_window() {
    let node = open(10, |it| {
        it.window = Some(WindowPolicy {
            least: 2,
            most: 2,
            target_delay: 50_000_000,
            report_interval: 100_000_000,
            stale_after: 3,
            credit_life: 3_600_000_000_000,
            floor: BucketPolicy {
                rate: 1_000_000_000,
                burst: 10_000_000 * TOKEN,
            },
        });
    });
    for _ in 0..5 {
        let mut unknown = reserve("unknown");
        unknown.lines[0].sku = "no-such".into();
        let reply: contract::ReserveResponse = ask(&node, Method::Reserve, &unknown);
        assert_eq!(
            contract::Outcome::UnknownSku,
            outcome(reply.result.as_ref())
        );
        wait_until("the credit came back", || {
            admission(&node)["window"]["outstanding"] == 0
        });
    }
    assert_eq!(contract::Outcome::Ok, try_reserve(&node, "a"));
    // A repeat is answered without a credit of its own.
    assert_eq!(contract::Outcome::Ok, try_reserve(&node, "a"));
    wait_until("the credit came back", || {
        admission(&node)["window"]["outstanding"] == 1
    });
    assert_eq!(contract::Outcome::Ok, try_reserve(&node, "b"));

    assert_eq!("WINDOW_FULL", refusal(&node, "c"));
    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("a"));
    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
}

#[test]
fn hopeless_calls_wait_for_their_answer_in_bounded_number() {
    let storage = crate::storages::HeldStorage::new();
    let mut settings = settings(std::path::Path::new(""));
    let lane = settings.admission.limits.lane_mut(Lane::Reservation);
    lane.calls_in_flight_max = 2;
    let node = Node::open_on(settings, storage.clone()).unwrap();
    put_sale(&node, 1);
    reserve_now(&node, "sold");
    let _: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("sold"));
    let _: contract::SettlePaymentResponse = ask(&node, Method::SettlePayment, &settle("sold"));
    assert_eq!(contract::Outcome::SoldOut, try_reserve(&node, "seen"));
    let (inside, outside) = (Answers::new(), Answers::new());
    storage.hold();
    // An event that is not durable: whoever is answered after it waits for it.
    TESTER.submit(&node, Method::Return, &give_back_nothing(), &inside, 0);
    for ticket in 1..=2 {
        let hopeless = reserve(&format!("late{ticket}"));
        TESTER.submit(&node, Method::Reserve, &hopeless, &inside, ticket);
    }
    TESTER.submit(&node, Method::Reserve, &reserve("late3"), &outside, 3);

    assert_eq!("LANE_FULL", reason(&outside.take(1)[0].1));
    storage.let_go();
    inside.take(3);
    wait_until("the places are free", || refusal(&node, "late3").is_empty());
}

/// Puts a unit where nobody can buy it: an event, and the SKU stays gone.
fn give_back_nothing() -> contract::ReturnRequest {
    contract::ReturnRequest {
        disposition: contract::Disposition::WriteOff.into(),
        ..give_back(1)
    }
}
