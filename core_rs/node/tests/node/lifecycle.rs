//! Draining and closing: what was let in is answered, nothing new comes in.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lastunit_journal::testing::MemoryStorage;
use lastunit_node::{AnswerPort, Completion, Node, Phase};
use lastunit_wire::{Method, contract};
use prost::Message;

use crate::storages::HeldStorage;
use crate::support::*;

#[test]
fn a_drain_answers_what_was_let_in_and_refuses_what_comes() {
    let storage = HeldStorage::new();
    let node = open_on(storage.clone());
    put_sale(&node, 10);
    let answers = Answers::new();
    storage.hold();
    for ticket in 0..5 {
        let request = reserve(&format!("r{ticket}"));
        TESTER.submit(&node, Method::Reserve, &request, &answers, ticket);
    }
    assert!(!node.drain(Duration::from_millis(20)));
    let late = TESTER.call(&node, Method::Reserve, &reserve("late"));
    assert_eq!((14, "DRAINING".to_owned()), (late.code, reason(&late)));
    assert_eq!(Phase::Draining, node.health().phase);

    storage.let_go();
    assert!(node.drain(PATIENCE));
    assert!(answers.take(5).iter().all(|it| it.1.code == 0));
    node.close().unwrap();
    assert_eq!(Phase::Closed, node.health().phase);
}

#[test]
fn streams_end_with_the_drain() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 10);
    let answers = Answers::new();
    let port = || Arc::clone(&answers) as Arc<dyn AnswerPort>;
    node.notify_after(node.health().sequence, Completion::Port(port(), 1));
    let request = contract::WatchAvailabilityRequest {
        sale_id: SALE.into(),
        ..Default::default()
    };
    let watch = node.watch(&request.encode_to_vec()).ok().unwrap();
    watch.next(Completion::Port(port(), 2)).unwrap();
    answers.take(1);
    watch.next(Completion::Port(port(), 3)).unwrap();
    assert!(node.drain(PATIENCE));

    let ended = answers.take(2);
    assert!(ended.iter().all(|it| reason(&it.1) == "DRAINING"));
    watch.next(Completion::Port(port(), 4)).unwrap();
    assert_eq!("DRAINING", reason(&answers.take(1)[0].1));
}

#[test]
fn closing_while_many_call_loses_no_answer_and_no_unit() {
    const THREADS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, 100_000);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let node = Arc::clone(&node);
            thread::spawn(move || {
                let mut count = 0;
                loop {
                    let request = reserve(&format!("t{thread}.{count}"));
                    let answer = TESTER.call(&node, Method::Reserve, &request);
                    if answer.code != 0 {
                        assert!(["DRAINING", "CLOSED"].contains(&reason(&answer).as_str()));
                        return count;
                    }
                    count += 1;
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    node.close().unwrap();
    node.close().expect("a second time is the same");
    let acknowledged: i64 = threads.into_iter().map(|it| it.join().unwrap()).sum();
    let node = Node::open(settings(directory.path())).unwrap();

    assert!(acknowledged > 0);
    assert_eq!(acknowledged, counters(&node).held);
    audit(&node);
}

#[test]
fn a_bug_on_a_thread_of_the_node_stops_it_with_a_reason() {
    let node = open_on(Arc::new(MemoryStorage::new()));
    put_sale(&node, 10);
    let sequence = node.health().sequence;
    let bug = Completion::Call(Box::new(|_| panic!("on purpose")));
    node.notify_after(sequence, bug);
    TESTER.call(&node, Method::Reserve, &reserve("a"));
    wait_until("the node stopped", || {
        node.health().phase == Phase::Poisoned
    });
    let answer = TESTER.call(&node, Method::Reserve, &reserve("b"));

    assert_eq!(
        (14, "NODE_POISONED".to_owned()),
        (answer.code, reason(&answer))
    );
    assert_eq!("on purpose", node.health().cause);
    assert_eq!("NODE_POISONED", node.close().unwrap_err().reason());
}
