//! Events and watches: gap-free, durable, and told when there is news.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{
    AnswerPort, Completion, Node, READ_LIMIT_MAX, WATCH_COUNT_MAX, Watch, WatchBusy,
};
use lastunit_wire::contract;
use prost::Message;

use crate::storages::HeldStorage;
use crate::support::*;

fn completion(answers: &Arc<Answers>, ticket: u64) -> Completion {
    Completion::Port(Arc::clone(answers) as Arc<dyn AnswerPort>, ticket)
}

fn read(node: &Node, after: i64, limit: i64) -> (contract::ReadEventsResponse, i64) {
    let (body, last) = node.read_events(after, limit).unwrap();
    (
        contract::ReadEventsResponse::decode(body.as_slice()).unwrap(),
        last,
    )
}

#[test]
fn events_are_read_in_order_without_a_gap_from_anywhere() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 100);
    for index in 0..30 {
        reserve_now(&node, &format!("r{index}"));
    }
    let (head, epoch) = (node.health().sequence, node.health().epoch);
    for start in [0, 1, 7, head - 1, head] {
        let mut after = start;
        let mut sequences = Vec::new();
        loop {
            let (response, last) = read(&node, after, 4);
            assert_eq!((head, epoch), (response.durable_sequence, response.epoch));
            if response.events.is_empty() {
                assert_eq!(after, last);
                break;
            }
            sequences.extend(response.events.iter().map(|it| it.sequence));
            assert_eq!(Some(&last), sequences.last());
            after = last;
        }
        assert_eq!((start + 1..=head).collect::<Vec<_>>(), sequences);
    }
}

#[test]
fn reads_out_of_range_say_which() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let head = node.health().sequence;
    for (after, limit, expected) in [
        (0, 0, "LIMIT_INVALID"),
        (0, READ_LIMIT_MAX + 1, "LIMIT_INVALID"),
        (-1, 1, "SEQUENCE_NOT_REACHED"),
        (head + 1, 1, "SEQUENCE_NOT_REACHED"),
    ] {
        assert_eq!(
            expected,
            node.read_events(after, limit).unwrap_err().reason()
        );
    }
    node.read_events(head, READ_LIMIT_MAX).unwrap();
}

#[test]
fn a_reader_never_sees_what_is_not_durable_and_is_told_when_it_is() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 5);
    let head = node.health().sequence;
    let (answers, notices) = (Answers::new(), Answers::new());
    node.notify_after(head - 1, completion(&notices, 1));
    assert_eq!(1, notices.take(1)[0].0);
    storage.hold();
    TESTER.submit(
        &node,
        lastunit_wire::Method::Reserve,
        &reserve("a"),
        &answers,
        1,
    );
    node.notify_after(head, completion(&notices, 2));
    thread::sleep(Duration::from_millis(40));
    assert_eq!(
        (0, 0),
        (notices.len(), read(&node, head, 10).0.events.len())
    );

    storage.let_go();
    assert_eq!((2, 0), (notices.take(1)[0].0, answers.take(1)[0].1.code));
    assert_eq!(1, read(&node, head, 10).0.events.len());
}

fn watch(node: &Node, skus: &[&str]) -> Result<Watch, lastunit_node::Answer> {
    let request = contract::WatchAvailabilityRequest {
        sale_id: SALE.into(),
        skus: skus.iter().map(ToString::to_string).collect(),
        after_sequence: 0,
    };
    node.watch(&request.encode_to_vec())
}

fn next(watch: &Watch, answers: &Arc<Answers>) -> contract::WatchAvailabilityResponse {
    watch.next(completion(answers, 0)).unwrap();
    decode(&answers.take(1)[0].1)
}

#[test]
fn a_watch_shows_the_present_first_and_then_only_changes() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 5);
    let answers = Answers::new();
    let watch = watch(&node, &[]).unwrap();
    let first = next(&watch, &answers);
    assert_eq!(5, first.availabilities[0].counters.unwrap().available);

    watch.next(completion(&answers, 1)).unwrap();
    assert_eq!(Err(WatchBusy), watch.next(completion(&answers, 2)));
    supply_elsewhere(&node);
    thread::sleep(Duration::from_millis(60));
    assert_eq!(0, answers.len());

    reserve_now(&node, "a");
    let second: contract::WatchAvailabilityResponse = decode(&answers.take(1)[0].1);
    assert_eq!(4, second.availabilities[0].counters.unwrap().available);
    assert!(second.place.unwrap().as_of_sequence > first.place.unwrap().as_of_sequence);
}

/// Something happens that changes no sku of the watched sale.
fn supply_elsewhere(node: &Node) {
    let mut other = put_sale_request(0);
    other.request_id = "put-other".into();
    other.sale_id = "other".into();
    let _: contract::PutSaleResponse = ask(node, lastunit_wire::Method::PutSale, &other);
}

#[test]
fn changes_between_two_messages_are_told_together() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 50);
    let answers = Answers::new();
    let watch = watch(&node, &[SKU]).unwrap();
    next(&watch, &answers);
    for index in 0..20 {
        reserve_now(&node, &format!("r{index}"));
    }
    let told = next(&watch, &answers);

    assert_eq!(30, told.availabilities[0].counters.unwrap().available);
}

#[test]
fn an_unknown_sale_or_sku_is_told_in_the_message() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let answers = Answers::new();
    let told = next(&watch(&node, &[]).unwrap(), &answers);
    assert_eq!(
        contract::Outcome::UnknownSale,
        outcome(told.result.as_ref())
    );

    put_sale(&node, 5);
    let told = next(&watch(&node, &[SKU, "nothing"]).unwrap(), &answers);
    assert_eq!(contract::Outcome::UnknownSku, outcome(told.result.as_ref()));
    assert_eq!("nothing", told.result.unwrap().sku);
}

#[test]
fn watches_are_bounded_and_a_dropped_one_makes_room() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    let mut watches: Vec<Watch> = (0..WATCH_COUNT_MAX)
        .map(|_| watch(&node, &[]).ok().unwrap())
        .collect();
    let refused = watch(&node, &[]).err().unwrap();
    assert_eq!(
        (8, "WATCH_LIMIT".to_owned()),
        (refused.code, reason(&refused))
    );

    watches.pop();
    assert!(watch(&node, &[]).is_ok());
}
