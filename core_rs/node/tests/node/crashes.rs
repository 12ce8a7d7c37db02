//! A process that is killed, and a power cut at every change of the disk: what was acknowledged is
//! there, and every retried id has one effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use lastunit_journal::Storage;
use lastunit_journal::testing::{Fault, MemoryStorage, Random, seed_from_environment};
use lastunit_node::Node;
use lastunit_wire::{Method, contract};

use crate::support::*;

const UNITS: i64 = 6;

#[test]
fn dropped_without_a_close_everything_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(settings(directory.path())).unwrap();
    put_sale(&node, UNITS);
    for index in 0..4 {
        reserve_now(&node, &format!("r{index}"));
    }
    let begun: contract::BeginPaymentResponse =
        ask(&node, Method::BeginPayment, &begin_payment("r1"));
    assert_eq!(contract::Outcome::Ok, outcome(begun.result.as_ref()));
    let epoch = node.health().epoch;
    drop(node);
    let node = Node::open(settings(directory.path())).unwrap();

    assert!(node.health().epoch > epoch);
    assert_eq!(contract::State::Held, state_of(&node, "r0"));
    assert_eq!(contract::State::Paying, state_of(&node, "r1"));
    assert_eq!(UNITS - 4, available(&node));
    audit(&node);
}

/// What a client knows: which calls were answered, and how.
#[derive(Default)]
struct Memory {
    answered: BTreeMap<String, contract::State>,
}

/// Runs a small sale until it is done or the disk fails; gives whether it was done.
fn run_sale(node: &Node, memory: &mut Memory) -> bool {
    let call = |method: Method, request: &dyn Call| {
        let answer = request.send(node, method);
        (answer.code == 0).then_some(answer)
    };
    for index in 0..5 {
        let id = format!("r{index}");
        let Some(answer) = call(Method::Reserve, &reserve(&id)) else {
            return false;
        };
        let reserved: contract::ReserveResponse = decode(&answer);
        assert_eq!(contract::Outcome::Ok, outcome(reserved.result.as_ref()));
        memory.answered.insert(id.clone(), contract::State::Held);
        if index % 2 == 0 {
            let Some(_) = call(Method::BeginPayment, &begin_payment(&id)) else {
                return false;
            };
            memory.answered.insert(id.clone(), contract::State::Paying);
            let Some(_) = call(Method::SettlePayment, &settle(&id)) else {
                return false;
            };
            memory.answered.insert(id, contract::State::Confirmed);
        }
    }
    true
}

trait Call {
    fn send(&self, node: &Node, method: Method) -> lastunit_node::Answer;
}

impl<M: prost::Message> Call for M {
    fn send(&self, node: &Node, method: Method) -> lastunit_node::Answer {
        TESTER.call(node, method, self)
    }
}

fn rank(state: contract::State) -> i32 {
    match state {
        contract::State::Held => 1,
        contract::State::Paying => 2,
        contract::State::Confirmed => 3,
        _ => 0,
    }
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_acknowledged() {
    let seed = seed_from_environment("LASTUNIT_SEED", 41);
    let changes = {
        let storage = Arc::new(MemoryStorage::new());
        let node = open_on(storage.clone());
        put_sale(&node, UNITS);
        let before = storage.change_count();
        assert!(run_sale(&node, &mut Memory::default()));
        before..storage.change_count()
    };
    for change in changes {
        let mut random = Random::new(seed ^ change);
        let storage = Arc::new(MemoryStorage::new());
        let node = open_on(storage.clone());
        put_sale(&node, UNITS);
        storage.fail_at(change, Fault::PowerLoss);
        let mut memory = Memory::default();
        run_sale(&node, &mut memory);
        drop(node);
        storage.crash(&mut random);
        let node = open_on(storage as Arc<dyn Storage>);

        for (id, state) in &memory.answered {
            let found = state_of(&node, id);
            assert!(
                rank(found) >= rank(*state),
                "seed {seed}, change {change}, {id}: {found:?}"
            );
        }
        // The client sends everything again: one effect each.
        assert!(run_sale(&node, &mut Memory::default()));
        let counters = counters(&node);
        assert_eq!(
            (UNITS - 5, 2, 3),
            (counters.available, counters.held, counters.sold)
        );
        audit(&node);
    }
}
