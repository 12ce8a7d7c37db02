//! The same command many times has one effect and one answer.

use std::sync::{Arc, Barrier};
use std::thread;

use lastunit_wire::{Method, contract};

use crate::support::*;

#[test]
fn a_thousand_concurrent_duplicates_have_one_effect_and_equal_answers() {
    const THREADS: usize = 20;
    const CALLS: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let node = lastunit_node::Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 10);
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (node, start) = (Arc::clone(&node), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let one = |_| reserve_now(&node, "same");
                (0..CALLS).map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let answers: Vec<_> = threads
        .into_iter()
        .flat_map(|it| it.join().unwrap())
        .collect();

    assert_eq!(THREADS * CALLS, answers.len());
    let first_sequence = answers[0].place.unwrap().sequence;
    let replayed = answers
        .iter()
        .filter(|it| it.result.as_ref().unwrap().replayed);
    assert_eq!(answers.len() - 1, replayed.count());
    for answer in &answers {
        assert_eq!(contract::Outcome::Ok, outcome(answer.result.as_ref()));
        assert_eq!(first_sequence, answer.place.unwrap().sequence);
        assert_eq!(answers[0].taken, answer.taken);
        assert_eq!(answers[0].expire_time, answer.expire_time);
    }
    assert_eq!(9, available(&node));
    node.close().unwrap();
}

#[test]
fn the_retry_of_the_call_that_took_the_last_unit_gets_its_unit() {
    let node = open_on(storage());
    put_sale(&node, 1);
    let first = reserve_now(&node, "winner");
    let other = reserve_now(&node, "loser");
    let retry = reserve_now(&node, "winner");

    assert_eq!(contract::Outcome::SoldOut, outcome(other.result.as_ref()));
    assert_eq!(contract::Outcome::Ok, outcome(retry.result.as_ref()));
    assert!(retry.result.unwrap().replayed);
    assert_eq!(first.taken, retry.taken);
}

#[test]
fn the_same_id_with_other_content_is_a_conflict_that_names_the_field() {
    let node = open_on(storage());
    put_sale(&node, 5);
    reserve_now(&node, "one");
    let mut other = reserve("one");
    other.lines[0].units = 2;
    let answer: contract::ReserveResponse = ask(&node, Method::Reserve, &other);

    let result = answer.result.unwrap();
    assert_eq!(contract::Outcome::Conflict, result.outcome());
    assert_eq!("lines[0].units", result.conflict_field);
    assert_eq!(4, available(&node));
}

fn storage() -> Arc<lastunit_journal::testing::MemoryStorage> {
    Arc::new(lastunit_journal::testing::MemoryStorage::new())
}
