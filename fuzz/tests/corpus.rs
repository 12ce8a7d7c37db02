//! Every kept input through its target, and some changes of each: what the everyday tests run.
//!
//! The changes come from a seed that is printed; `LASTUNIT_SEED=7 cargo test -p lastunit-fuzz`
//! takes another one, and `LASTUNIT_FUZZ_CHANGES=1000` makes more of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lastunit_fuzz::{TARGETS, Target};
use lastunit_journal::testing::{Random, seed_from_environment};

/// Changes of each kept input; together with the inputs a few seconds in an unoptimised build.
const CHANGES: u64 = 3;
/// A kept input is minimised first; what is larger than this slows every test run.
const INPUT_BYTES_MAX: u64 = 4_096;
const INPUTS_MAX: usize = 60;

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name)
}

fn kept(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).expect("each target has a folder of inputs");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert!(
        paths
            .iter()
            .all(|path| path.extension().is_some_and(|it| it == "bin"))
    );
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("readable");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

fn changed(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = usize::try_from(random.below(bytes.len() as u64 + 1)).expect("an index");
        match random.below(3) {
            0 => bytes.insert(at, random.next_u64().to_le_bytes()[0]),
            1 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = random.next_u64().to_le_bytes()[0],
            _ => {}
        }
    }
    bytes
}

fn run(target: &Target, path: &Path, bytes: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    assert!(
        outcome.is_ok(),
        "{} failed on {} as {bytes:?}; keep these bytes in corpus/{0} with the repair",
        target.name,
        path.display(),
    );
}

#[test]
fn every_target_holds_for_its_kept_inputs_and_for_changes_of_them() {
    let seed = seed_from_environment("LASTUNIT_SEED", 1);
    let changes = seed_from_environment("LASTUNIT_FUZZ_CHANGES", CHANGES);
    let mut random = Random::new(seed);
    for target in TARGETS {
        for (path, bytes) in kept(target) {
            run(target, &path, &bytes);
            for _ in 0..changes {
                run(target, &path, &changed(&mut random, &bytes));
            }
        }
    }
}

#[test]
fn kept_inputs_are_few_and_small_and_belong_to_a_target() {
    for target in TARGETS {
        let kept = kept(target);
        assert!(
            (1..=INPUTS_MAX).contains(&kept.len()),
            "{}: {}",
            target.name,
            kept.len()
        );
        for (path, bytes) in kept {
            assert!(bytes.len() as u64 <= INPUT_BYTES_MAX, "{}", path.display());
        }
    }
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"));
    for entry in all.expect("readable") {
        let name = entry.expect("readable").file_name();
        assert!(
            lastunit_fuzz::target(&name.to_string_lossy()).is_some(),
            "{name:?} is not the name of a target"
        );
    }
}

/// Writes the inputs that are made from data of ours: `cargo test -p lastunit-fuzz -- --ignored`.
#[test]
#[ignore = "changes the repository: run it by hand after the golden messages changed"]
fn write_seeds() {
    for target in TARGETS {
        fs::create_dir_all(folder(target)).expect("writable");
        for (name, bytes) in (target.seeds)() {
            fs::write(folder(target).join(format!("seed-{name}.bin")), bytes).expect("writable");
        }
    }
}
