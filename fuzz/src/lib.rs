//! What must hold for every input: one function a target, from bytes to a panic or to nothing.
//!
//! Owns the properties. Must not know where the bytes come from: `tests/corpus.rs` runs them over
//! the kept inputs in the everyday tests, `main.rs` under LLVM's fuzzer, and both mean the same.
//! Next: `README.md` for how to run it, then the module of a target.

mod admission;
mod arrivals;
mod draw;
mod journal;
mod ledger;
mod memory;
mod record;
mod request;
mod settings;
mod snapshot;

/// One kind of input and what must hold for it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; also that of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics if the property does not hold.
    pub run: fn(&[u8]),
    /// Inputs worth starting from, made from data of ours.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// Every target, in the order of the README.
pub const TARGETS: &[Target] = &[
    Target {
        name: "request",
        run: request::run,
        seeds: request::seeds,
    },
    Target {
        name: "record",
        run: record::run,
        seeds: record::seeds,
    },
    Target {
        name: "journal_bytes",
        run: journal::run_bytes,
        seeds: journal::seeds_of_bytes,
    },
    Target {
        name: "journal_edits",
        run: journal::run_edits,
        seeds: journal::seeds_of_edits,
    },
    Target {
        name: "snapshot",
        run: snapshot::run,
        seeds: snapshot::seeds,
    },
    Target {
        name: "ledger",
        run: ledger::run,
        seeds: ledger::seeds,
    },
    Target {
        name: "bucket",
        run: admission::run_bucket,
        seeds: admission::seeds,
    },
    Target {
        name: "admission",
        run: admission::run_admission,
        seeds: admission::seeds,
    },
    Target {
        name: "arrivals",
        run: arrivals::run,
        seeds: arrivals::seeds,
    },
    Target {
        name: "settings",
        run: settings::run,
        seeds: settings::seeds,
    },
];

/// Finds a target by its name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
