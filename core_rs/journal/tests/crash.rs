//! Random runs with power cuts and device errors against a model of what was acknowledged.
//!
//! Set JOURNAL_SEED to repeat a run, JOURNAL_SEED_COUNT for more of them.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Fate, Fault, MemoryStorage, Random, seed_from_environment};
use lastunit_journal::{Journal, JournalError, RecordInput, Storage, inspect, verify};
use support::{small, try_open};

/// A journal, and what it must hold.
struct Model {
    storage: Arc<MemoryStorage>,
    random: Random,
    segment_bytes: u32,
    /// Body of each record by sequence - 1, every one different from all before it.
    bodies: Vec<Vec<u8>>,
    acked: usize,
    /// Sequence and state of the last snapshot that was finished.
    snapshot: i64,
    body_count: u64,
    crash_count: u64,
    epoch: i64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let segment_bytes = 1024 + 64 * u32::try_from(random.below(40)).expect("few");
        Self {
            storage: Arc::new(MemoryStorage::new()),
            random,
            segment_bytes,
            bodies: Vec::new(),
            acked: 0,
            snapshot: 0,
            body_count: 0,
            crash_count: 0,
            epoch: 0,
        }
    }

    /// Opens, works until something fails, cuts the power; again and again.
    fn run(&mut self, crashes: u64) {
        while self.crash_count < crashes {
            if let Some(journal) = self.reopen() {
                self.plan_a_fault();
                let _failed = self.work(&journal);
            }
            // A process that dies without a power cut leaves what the system has in memory.
            if self.random.is_one_in(4) {
                self.storage.crash_with(usize::MAX, &mut |_| Fate::Kept);
            } else {
                let mut random = Random::new(self.random.next_u64());
                self.storage.crash(&mut random);
            }
            self.crash_count += 1;
        }
    }

    fn plan_a_fault(&mut self) {
        let faults = [Fault::PowerLoss, Fault::Device, Fault::Short, Fault::Full];
        let fault = faults[usize::try_from(self.random.below(4)).expect("four")];
        let change = self.storage.change_count() + self.random.below(60);
        self.storage.fail_at(change, fault);
    }

    /// Opens (or fails at a planned fault) and checks what is there against the model.
    fn reopen(&mut self) -> Option<Journal> {
        if self.random.is_one_in(4) {
            self.plan_a_fault();
        }
        let found = inspect(Arc::clone(&self.storage) as Arc<dyn Storage>).expect("never refused");
        let opened = try_open(&self.storage, self.segment_bytes);
        let (journal, mut recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, JournalError::Storage { .. }), "{error}");
                return None;
            }
        };
        assert_eq!(found.last_sequence, recovered.last_sequence);
        assert!(recovered.epoch > self.epoch, "epochs rise");
        self.epoch = recovered.epoch;
        let last = usize::try_from(recovered.last_sequence).expect("not negative");
        assert!(
            (self.acked..=self.bodies.len()).contains(&last),
            "{last} of {}",
            self.acked
        );
        self.bodies.truncate(last);
        self.acked = last;
        let after = recovered
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.sequence);
        assert!(after >= self.snapshot, "a finished snapshot stays");
        self.check(
            after,
            recovered
                .records
                .by_ref()
                .map(|record| record.expect("whole")),
        );
        let all = journal
            .reader()
            .read_after(0, usize::MAX)
            .expect("readable");
        self.check(0, all.into_iter());
        Some(journal)
    }

    fn check(&self, after: i64, records: impl Iterator<Item = lastunit_journal::Record>) {
        let mut next = usize::try_from(after).expect("not negative");
        for record in records {
            assert_eq!(
                next + 1,
                usize::try_from(record.first_sequence).expect("positive")
            );
            assert_eq!(self.bodies[next], record.body, "sequence {}", next + 1);
            next += 1;
        }
        assert_eq!(self.bodies.len(), next);
    }

    fn work(&mut self, journal: &Journal) -> Result<(), JournalError> {
        // The planned fault may be one that the journal lives with, so the work ends by itself too.
        for _ in 0..40 {
            for _ in 0..self.random.below(5) {
                self.append(journal)?;
            }
            if let Some(batch) = journal.take_batch() {
                let durable = journal.write_and_sync(batch)?;
                self.acked = usize::try_from(durable).expect("not negative");
                assert_eq!(self.bodies.len(), self.acked);
            }
            if journal.is_preparation_due() {
                ignore_full(journal.prepare_segment())?;
            }
            if self.random.is_one_in(3) {
                journal.seal(0)?;
            }
            if self.acked > 0 && self.random.is_one_in(5) {
                let sequence = i64::try_from(self.acked).expect("few");
                if ignore_full(journal.write_snapshot(sequence, b"state"))? {
                    self.snapshot = sequence;
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, journal: &Journal) -> Result<(), JournalError> {
        self.body_count += 1;
        let length = 8 + usize::try_from(self.random.below(300)).expect("short");
        let body: Vec<u8> = self
            .body_count
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(length)
            .collect();
        let first_sequence = i64::try_from(self.bodies.len()).expect("few") + 1;
        let input = RecordInput {
            first_sequence,
            event_count: 1,
            time_ms: 0,
            body: &body,
        };
        match journal.append(input) {
            // Not prepared yet, or the disk was full: refused, and nothing changed.
            Err(JournalError::NoRoom { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.bodies.push(body);
                Ok(())
            }
        }
    }
}

/// Passes on every failure but a full disk, and says whether it worked.
fn ignore_full(result: Result<(), JournalError>) -> Result<bool, JournalError> {
    match result {
        Err(JournalError::Storage { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

#[test]
fn acknowledged_records_survive_whatever_fails() {
    let first = seed_from_environment("JOURNAL_SEED", 1);
    let count = seed_from_environment("JOURNAL_SEED_COUNT", 100);
    let (mut crashes, mut records) = (0, 0);
    for seed in first..first + count {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        model.run(20);
        crashes += model.crash_count;
        records += model.body_count;
        let report = verify(&*model.storage).expect("readable");
        assert!(
            report.problems.is_empty(),
            "seed {seed}: {:?}",
            report.problems
        );
    }
    println!("{crashes} crashes, {records} records");

    assert!(records > count * 100, "the runs do something: {records}");
}

#[test]
fn every_outcome_of_a_power_cut_in_one_small_flush_is_lawful() {
    // Two durable records, then a flush of three that is cut short: every combination of lost, kept
    // and torn over its sectors.
    let prepare = || {
        let storage = Arc::new(MemoryStorage::new());
        let (journal, _) = Journal::open(storage.clone(), small(4096)).expect("opens");
        append_sized(&journal, 1, 200);
        append_sized(&journal, 2, 200);
        support::write_all(&journal);
        for sequence in 3..=5 {
            append_sized(&journal, sequence, 700);
        }
        storage.fail_at(storage.change_count() + 1, Fault::PowerLoss);
        let batch = journal.take_batch().expect("three records wait");
        journal
            .write_and_sync(batch)
            .expect_err("the power goes during the sync");
        storage
    };
    let sectors = u32::try_from(prepare().dirty_sector_count()).expect("few");
    assert!((4..=7).contains(&sectors), "{sectors}");
    let fates = [Fate::Lost, Fate::Kept, Fate::Torn(100), Fate::Torn(390)];
    let mut seen = [0; 6];
    for mut choice in 0..4_usize.pow(sectors) {
        let storage = prepare();
        storage.crash_with(0, &mut |_| {
            let fate = fates[choice % 4];
            choice /= 4;
            fate
        });
        let (_, mut recovered) = try_open(&storage, 4096).expect("a crash is no damage");
        let lengths: Vec<_> = recovered
            .records
            .by_ref()
            .map(|record| record.expect("whole").body.len())
            .collect();

        assert!(lengths.len() >= 2);
        assert_eq!([200, 200, 700, 700, 700][..lengths.len()], lengths);
        seen[lengths.len()] += 1;
    }
    println!("outcomes by records kept: {seen:?}");
    assert!(seen[2..].iter().all(|count| *count > 0), "{seen:?}");
}

fn append_sized(journal: &Journal, sequence: i64, length: usize) {
    let body = vec![u8::try_from(sequence).expect("few"); length];
    let input = RecordInput {
        first_sequence: sequence,
        event_count: 1,
        time_ms: 0,
        body: &body,
    };
    journal.append(input).expect("there is room");
}
