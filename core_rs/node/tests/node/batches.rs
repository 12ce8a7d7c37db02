//! Exchange: operations in their order, each answered by itself, and settlement in between.

use std::sync::Arc;

use lastunit_admission::{BucketPolicy, Lane, TOKEN};
use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{Listener, Node};
use lastunit_wire::{Method, contract};

use crate::support::*;

type Response = contract::reply::Response;

fn exchange(node: &Node, caller: Caller, operations: Vec<contract::Operation>) -> Vec<Response> {
    let count = operations.len();
    let request = contract::ExchangeRequest {
        exchange_id: 7,
        operations,
    };
    let answer = caller.call(node, Method::Exchange, &request);
    let response: contract::ExchangeResponse = decode(&answer);
    assert_eq!(7, response.exchange_id);
    assert_eq!(count, response.replies.len());
    response
        .replies
        .into_iter()
        .map(|it| it.response.unwrap())
        .collect()
}

fn operation(request: contract::operation::Request) -> contract::Operation {
    contract::Operation {
        request: Some(request),
    }
}

fn reserved(response: &Response) -> &contract::ReserveResponse {
    match response {
        Response::Reserve(reserved) => reserved,
        other => panic!("not a ReserveResponse: {other:?}"),
    }
}

fn fault(response: &Response) -> &contract::Fault {
    match response {
        Response::Fault(fault) => fault,
        other => panic!("not a fault: {other:?}"),
    }
}

#[test]
fn four_thousand_operations_are_answered_in_their_order() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 1_000);
    let operations = (0..4_096)
        .map(|index| reserve_operation(&format!("r{index}")))
        .collect();
    let replies = exchange(&node, TESTER, operations);

    let mut last_number = 0;
    for (index, reply) in replies.iter().enumerate() {
        let reply = reserved(reply);
        let expected = if index < 1_000 {
            contract::Outcome::Ok
        } else {
            contract::Outcome::SoldOut
        };
        assert_eq!(expected, outcome(reply.result.as_ref()), "{index}");
        let place = reply.place.unwrap();
        assert!(place.op_number > last_number);
        assert!(place.durable_sequence >= place.as_of_sequence);
        last_number = place.op_number;
    }
    assert_eq!(0, available(&node));
    audit(&node);
}

#[test]
fn one_bad_operation_hinders_no_other() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    let get = contract::operation::Request::GetReservation(contract::GetReservationRequest {
        reservation_id: "a".into(),
    });
    let replies = exchange(
        &node,
        TESTER,
        vec![
            reserve_operation("a"),
            reserve_operation("not an id"),
            contract::Operation { request: None },
            operation(get),
            reserve_operation("a"),
        ],
    );

    assert_eq!(
        contract::Outcome::Ok,
        outcome(reserved(&replies[0]).result.as_ref())
    );
    assert_eq!("INVALID_FIELD", fault(&replies[1]).reason);
    assert_eq!("reservation_id", fault(&replies[1]).violations[0].field);
    assert_eq!(3, fault(&replies[2]).code);
    assert!(matches!(&replies[3], Response::GetReservation(it) if it.reservation.is_some()));
    assert!(reserved(&replies[4]).result.as_ref().unwrap().replayed);
}

#[test]
fn each_operation_is_let_in_by_itself() {
    let mut settings = settings(std::path::Path::new(""));
    settings.admission.limits.lane_mut(Lane::Reservation).bucket = Some(BucketPolicy {
        rate: 1,
        burst: 2 * TOKEN,
    });
    let node = Node::open_on(settings, Arc::new(MemoryStorage::new())).unwrap();
    put_sale(&node, 5);
    let operations = vec![
        reserve_operation("a"),
        reserve_operation("b"),
        operation(contract::operation::Request::BeginPayment(begin_payment(
            "a",
        ))),
    ];
    let replies = exchange(&node, TESTER, operations);

    // The lane starts with one token.
    assert_eq!(
        contract::Outcome::Ok,
        outcome(reserved(&replies[0]).result.as_ref())
    );
    assert_eq!("RATE_LANE", fault(&replies[1]).reason);
    assert!(fault(&replies[1]).retry_after.is_some());
    assert!(matches!(replies[2], Response::BeginPayment(_)));
}

#[test]
fn on_the_settlement_listener_only_reservations_are_refused() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    reserve_now(&node, "a");
    let mut caller = TESTER;
    caller.listener = Listener::Settlement;
    let operations = vec![
        reserve_operation("b"),
        operation(contract::operation::Request::BeginPayment(begin_payment(
            "a",
        ))),
        operation(contract::operation::Request::SettlePayment(settle("a"))),
    ];
    let replies = exchange(&node, caller, operations);

    assert_eq!("WRONG_LISTENER", fault(&replies[0]).reason);
    assert!(matches!(replies[2], Response::SettlePayment(_)));
    assert_eq!(contract::State::Confirmed, state_of(&node, "a"));
}

#[test]
fn messages_of_one_listener_are_decided_in_the_order_in_which_they_came() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 10_000);
    let answers = Answers::new();
    for ticket in 0..40_u64 {
        // Large and small ones by turns: a small one must not overtake.
        let count = if ticket % 2 == 0 { 200 } else { 1 };
        let ids = (0..count).map(|index| format!("t{ticket}.{index}"));
        let operations = ids.map(|id| reserve_operation(&id)).collect();
        let request = contract::ExchangeRequest {
            exchange_id: 0,
            operations,
        };
        TESTER.submit(&node, Method::Exchange, &request, &answers, ticket);
    }
    let mut answers = answers.take(40);
    answers.sort_by_key(|it| it.0);
    let mut last = 0;
    for (ticket, answer) in &answers {
        let response: contract::ExchangeResponse = decode(answer);
        for reply in response.replies {
            let number = reserved(&reply.response.unwrap()).place.unwrap().op_number;
            assert!(number > last, "message {ticket}");
            last = number;
        }
    }
}

#[test]
fn a_message_without_or_with_too_many_operations_is_refused_whole() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    for count in [0, 4_097] {
        let operations = (0..count)
            .map(|index| reserve_operation(&format!("r{index}")))
            .collect();
        let request = contract::ExchangeRequest {
            exchange_id: 1,
            operations,
        };
        let answer = TESTER.call(&node, Method::Exchange, &request);
        assert_eq!(
            (3, "INVALID_FIELD".to_owned()),
            (answer.code, reason(&answer))
        );
    }
    assert_eq!(5, available(&node));
}

#[test]
fn settlement_passes_between_the_chunks_of_large_batches() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 100_000);
    reserve_now(&node, "paid");
    let answers = Answers::new();
    for ticket in 0..4_u64 {
        let ids = (0..4_096).map(|index| format!("t{ticket}.{index}"));
        let operations = ids.map(|id| reserve_operation(&id)).collect();
        let request = contract::ExchangeRequest {
            exchange_id: 0,
            operations,
        };
        TESTER.submit(&node, Method::Exchange, &request, &answers, ticket);
    }
    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("paid"));
    let settled: contract::SettlePaymentResponse =
        ask(&node, Method::SettlePayment, &settle("paid"));
    let last = answers.take(4).pop().unwrap();
    let last: contract::ExchangeResponse = decode(&last.1);
    let last = reserved(&last.replies[4_095].response.clone().unwrap())
        .place
        .unwrap();

    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
    assert!(settled.place.unwrap().op_number < last.op_number);
}
