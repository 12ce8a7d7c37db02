//! Damage to a journal of 200 records, and every change of the disk failing: through the node's own
//! opening, with a caller who has seen the end.
//!
//! A damaged journal is refused with a file and what to do; or the ledger is exactly what it was;
//! or exactly what it was some commands ago, and the caller is refused by its token. Nothing else.
//! The everyday tests take samples; the ignored ones try everything, run by `make crash-disk`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lastunit_journal::Storage;
use lastunit_journal::testing::{Fault, Image, MemoryStorage};
use lastunit_node::{Node, NodeSettings};
use lastunit_wire::{Method, contract};

use crate::support::*;

const RECORDS: i64 = 200;
const UNITS: i64 = 400;
/// Where zeros begin that no command has touched: some are tried all the same.
const MARGIN: usize = 1024;

/// What an outsider sees of a ledger: every counter, and how many reservations are in each state.
type Shown = String;

/// A journal, and what the ledger showed after each of its events.
struct History {
    image: Image,
    shown: BTreeMap<i64, Shown>,
    last: i64,
    epoch: i64,
}

fn small_settings() -> NodeSettings {
    let mut settings = settings(std::path::Path::new(""));
    settings.segment_bytes = 64 * 1024;
    settings
}

fn open(storage: Arc<dyn Storage>) -> Result<Arc<Node>, lastunit_node::OpenError> {
    Node::open_on(small_settings(), storage)
}

fn shown(node: &Node) -> (i64, Shown) {
    let audit = audit(node);
    let text = format!("{:?} {:?}", audit.pools, audit.reservation_counts);
    (audit.place.unwrap().as_of_sequence, text)
}

/// One step of the sale: every third reservation is paid for, others are sold, released or wait.
fn step(node: &Node, index: i64) -> Option<lastunit_node::Answer> {
    let id = format!("r{}", index / 3);
    let sold = contract::ConfirmRequest {
        request_id: format!("confirm-{id}"),
        reservation_id: id.clone(),
    };
    let released = contract::ReleaseRequest {
        request_id: format!("release-{id}"),
        reservation_id: id.clone(),
        release_reason: contract::ReleaseReason::Client.into(),
    };
    let answer = match (index % 3, index / 3 % 3) {
        (0, _) => TESTER.call(node, Method::Reserve, &reserve(&id)),
        (1, 0) => TESTER.call(node, Method::BeginPayment, &begin_payment(&id)),
        (2, 0) => TESTER.call(node, Method::SettlePayment, &settle(&id)),
        (1, 1) => TESTER.call(node, Method::Confirm, &sold),
        (1, 2) => TESTER.call(node, Method::Release, &released),
        _ => TESTER.call(node, Method::GetReservation, &get(&id)),
    };
    (answer.code == 0).then_some(answer)
}

fn get(id: &str) -> contract::GetReservationRequest {
    contract::GetReservationRequest {
        reservation_id: id.to_owned(),
    }
}

/// Runs until the journal has so many events; killed or closed at the end.
fn history(is_closed: bool) -> History {
    let storage = Arc::new(MemoryStorage::new());
    let node = open(storage.clone()).unwrap();
    // Cut before its first record, a journal is as good as none, and starts anew.
    let (first, empty) = shown(&node);
    let mut table = BTreeMap::from([(first - 1, empty.clone()), (first, empty)]);
    let _: contract::PutSaleResponse = ask(&node, Method::PutSale, &put_sale_request(0));
    table.extend([shown(&node)]);
    put_pool(&node);
    table.extend([shown(&node)]);
    supply(&node, "supply", UNITS);
    table.extend([shown(&node)]);
    for index in 0.. {
        step(&node, index).expect("the disk works");
        table.extend([shown(&node)]);
        if table.keys().next_back() >= Some(&RECORDS) {
            break;
        }
    }
    let epoch = node.health().epoch;
    if is_closed {
        node.close().expect("the disk works");
    }
    drop(node);
    let last = *table.keys().next_back().unwrap();
    History {
        image: storage.image(),
        shown: table,
        last,
        epoch,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Not opened; the text names the file and says what to do.
    Refused,
    /// Opened without the last commands; who has seen them is refused as JOURNAL_ROLLED_BACK.
    RolledBack,
    /// Opened, and nothing is missing.
    Whole,
}

fn judge(history: &History, image: &Image, context: &str) -> Verdict {
    let storage = Arc::new(MemoryStorage::from_image(image));
    let node = match open(storage) {
        Ok(node) => node,
        Err(error) => {
            let text = error.to_string();
            let is_clear = ["segment-", "snapshot-", "sequence"]
                .iter()
                .any(|word| text.contains(word));
            assert!(is_clear && text.contains("restore"), "{context}: {text}");
            return Verdict::Refused;
        }
    };
    // The opening itself is the event after those that were found.
    let (as_of, found) = shown(&node);
    assert_eq!(
        history.shown.get(&(as_of - 1)),
        Some(&found),
        "{context}: a wrong state at {as_of}"
    );
    let seen = Caller {
        seen_sequence: history.last,
        seen_epoch: history.epoch,
        ..TESTER
    };
    let answer = seen.call(&node, Method::GetReservation, &get("r0"));
    if as_of > history.last {
        assert_eq!("", reason(&answer), "{context}");
        return Verdict::Whole;
    }
    assert_eq!("JOURNAL_ROLLED_BACK", reason(&answer), "{context}");
    Verdict::RolledBack
}

/// Judges many damaged copies on all cores; `damage` makes one from its number.
fn judge_all(
    history: &History,
    name: &str,
    numbers: &[usize],
    damage: impl Fn(usize) -> Image + Sync,
) -> BTreeMap<Verdict, usize> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counts = BTreeMap::new();
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let context = format!("{name} {number}");
            let verdict = judge(history, &damage(*number), &context);
            *counts.entry(verdict).or_insert(0) += 1;
        }
        counts
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut total = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            for (verdict, count) in worker.join().expect("no worker panics") {
                *total.entry(verdict).or_insert(0) += count;
            }
        }
    });
    report(name, numbers.len(), &total);
    total
}

/// One line of JSON, for the record that `make crash` keeps.
fn report(name: &str, count: usize, verdicts: &BTreeMap<Verdict, usize>) {
    let of = |verdict| verdicts.get(&verdict).copied().unwrap_or(0);
    println!(
        "{{\"damage\": \"{name}\", \"tried\": {count}, \"refused\": {}, \"rolled_back\": {}, \
         \"whole\": {}, \"wrong\": 0}}",
        of(Verdict::Refused),
        of(Verdict::RolledBack),
        of(Verdict::Whole)
    );
}

/// Bytes of a file up to some way behind the last one that is not zero.
fn used_bytes(image: &Image, file: &str) -> usize {
    let bytes = &image[file];
    let last = bytes.iter().rposition(|byte| *byte != 0);
    bytes.len().min(last.map_or(0, |it| it + 1) + MARGIN)
}

fn flip_all(history: &History, label: &str, step: usize) -> BTreeMap<Verdict, usize> {
    let mut total = BTreeMap::new();
    for file in history.image.keys() {
        let end = used_bytes(&history.image, file) * 8;
        let numbers: Vec<usize> = (0..end).step_by(step).collect();
        let flip = |bit: usize| {
            let mut image = history.image.clone();
            image.get_mut(file).expect("is there")[bit / 8] ^= 1 << (bit % 8);
            image
        };
        for (verdict, count) in judge_all(history, &format!("{label} {file}"), &numbers, flip) {
            *total.entry(verdict).or_insert(0) += count;
        }
    }
    total
}

fn flips(step: usize) {
    let killed = flip_all(&history(false), "flip, killed,", step);
    let closed = flip_all(&history(true), "flip, closed,", step);

    assert!(killed[&Verdict::Refused] > 10 * killed[&Verdict::Whole]);
    // A seal and a snapshot stand behind everything, so nothing can be lost unnoticed at the start.
    assert_eq!(None, closed.get(&Verdict::RolledBack));
}

fn cuts(step: usize) {
    let history = history(false);
    let (file, _) = history.image.first_key_value().expect("is there");
    let end = used_bytes(&history.image, file);
    let numbers: Vec<usize> = (0..end).step_by(step).collect();
    let shorter = |length: usize| {
        let mut image = history.image.clone();
        image.get_mut(file).expect("is there").truncate(length);
        image
    };
    let cut = judge_all(&history, "file cut at", &numbers, shorter);
    assert_eq!(
        Some(&numbers.len()),
        cut.get(&Verdict::Refused),
        "no crash shortens a segment"
    );

    let zeroed = |start: usize| {
        let mut image = history.image.clone();
        image.get_mut(file).expect("is there")[start..].fill(0);
        image
    };
    let zeros = judge_all(&history, "zeros from", &numbers, zeroed);
    assert!(zeros[&Verdict::RolledBack] > zeros[&Verdict::Whole]);
}

#[test]
fn bits_of_200_records_are_refused_noticed_or_harmless() {
    flips(1_499);
}

#[test]
fn cuts_of_200_records_are_refused_or_noticed() {
    cuts(997);
}

#[test]
#[ignore = "minutes; make crash-disk"]
fn every_bit_of_200_records_is_refused_noticed_or_harmless() {
    flips(1);
}

#[test]
#[ignore = "minutes; make crash-disk"]
fn every_cut_of_200_records_is_refused_or_noticed() {
    cuts(1);
}

#[test]
fn lost_event_is_noticed_although_the_opening_writes_in_its_place() {
    let storage = Arc::new(MemoryStorage::new());
    let mut settings = small_settings();
    settings.clock = lastunit_node::ClockKind::System;
    let node = Node::open_on(settings.clone(), storage.clone()).unwrap();
    put_sale(&node, UNITS);
    reserve_now(&node, "r0");
    reserve_now(&node, "r1");
    let (seen_sequence, seen_epoch) = (shown(&node).0, node.health().epoch);
    drop(node);
    let (file, bytes) = storage.image().pop_first().unwrap();
    let is_record = |at: &usize| bytes[*at..].starts_with(b"LUR1");
    let last = (0..bytes.len()).step_by(64).rfind(is_record).unwrap();
    storage.corrupt(&file, |bytes| bytes[last..].fill(0));
    // Some of the outage before the opening is credited, by an event of its own.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let node = Node::open_on(settings, storage).unwrap();

    assert!(shown(&node).0 > seen_sequence);
    let seen = Caller {
        seen_sequence,
        seen_epoch,
        ..TESTER
    };
    let answer = seen.call(&node, Method::GetReservation, &get("r1"));
    assert_eq!("JOURNAL_ROLLED_BACK", reason(&answer));
}

/// What one run on a failing disk came to.
#[derive(Default)]
struct Run {
    /// Index of the first step that was not answered; all steps before it were.
    failed_at: Option<i64>,
}

const STEPS: i64 = 200;

fn run_steps(node: &Node) -> Run {
    for index in 0..STEPS {
        if step(node, index).is_none() {
            return Run {
                failed_at: Some(index),
            };
        }
    }
    Run::default()
}

/// Tries a fault at one change; gives what it came to.
fn try_fault(change: u64, fault: Fault, whole: &Shown) -> &'static str {
    let context = format!("change {change}, {fault:?}");
    let storage = Arc::new(MemoryStorage::new());
    let node = open(storage.clone()).unwrap();
    put_sale(&node, UNITS);
    storage.fail_at(change, fault);
    let run = run_steps(&node);
    if run.failed_at.is_some() {
        for _ in 0..3 {
            let answer = TESTER.call(&node, Method::Reserve, &reserve("later"));
            assert_eq!(14, answer.code, "{context}: an OK after the first error");
        }
        assert_ne!(
            lastunit_node::Phase::Serving,
            node.health().phase,
            "{context}"
        );
    }
    drop(node);
    if fault == Fault::PowerLoss {
        let mut fate = |_| lastunit_journal::testing::Fate::Lost;
        storage.crash_with(usize::MAX, &mut fate);
    }
    let node = open(storage).expect("the disk works again");
    // Everything again, as clients do: what was answered has its effect once, the rest gets it.
    assert_eq!(None, run_steps(&node).failed_at, "{context}");
    assert_eq!(*whole, shown(&node).1, "{context}");
    match run.failed_at {
        Some(_) => "stopped",
        None => "went on",
    }
}

/// Tries a fault at one change of an opening that has something to recover.
fn try_fault_in_opening(history: &History, change: u64, fault: Fault) -> &'static str {
    let context = format!("change {change} of the opening, {fault:?}");
    let storage = Arc::new(MemoryStorage::from_image(&history.image));
    storage.fail_at(change, fault);
    let result = match open(storage.clone()) {
        Ok(_) => "went on",
        Err(error) => {
            assert_eq!("JOURNAL_FAILED", error.reason(), "{context}: {error}");
            "refused"
        }
    };
    if fault == Fault::PowerLoss {
        let mut fate = |_| lastunit_journal::testing::Fate::Lost;
        storage.crash_with(usize::MAX, &mut fate);
    }
    // This opening may have made fewer changes.
    storage.fail_at(u64::MAX, fault);
    let node = open(storage).expect("the disk works again");
    assert_eq!(history.shown[&history.last], shown(&node).1, "{context}");
    result
}

const FAULTS: [(&str, Fault); 4] = [
    ("device", Fault::Device),
    ("full", Fault::Full),
    ("short", Fault::Short),
    ("power", Fault::PowerLoss),
];

fn faults(step: usize) {
    let (opening, run, whole) = {
        let storage = Arc::new(MemoryStorage::new());
        let node = open(storage.clone()).unwrap();
        let opening = storage.change_count();
        put_sale(&node, UNITS);
        let before = storage.change_count();
        run_steps(&node);
        (opening, before..storage.change_count(), shown(&node).1)
    };
    let history = history(false);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, fault) in FAULTS {
        for change in 0..opening {
            let result = try_fault_in_opening(&history, change, fault);
            *counts.entry((name, result)).or_insert(0) += 1;
        }
        for change in run.clone().step_by(step) {
            let result = try_fault(change, fault, &whole);
            *counts.entry((name, result)).or_insert(0) += 1;
        }
    }
    for ((fault, result), count) in &counts {
        println!("{{\"fault\": \"{fault}\", \"result\": \"{result}\", \"tried\": {count}}}");
    }
    let names: BTreeSet<_> = counts.keys().map(|(name, _)| *name).collect();
    assert_eq!(4, names.len());
}

#[test]
fn failed_changes_of_the_disk_stop_the_node_and_lose_nothing() {
    faults(29);
}

#[test]
#[ignore = "minutes; make crash-disk"]
fn every_failed_change_of_the_disk_stops_the_node_and_loses_nothing() {
    faults(1);
}
