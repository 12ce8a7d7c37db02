//! The targets under LLVM's fuzzer: `LASTUNIT_FUZZ_TARGET` says which one.
//!
//! Owns nothing but the choice. `fuzz/run.py` builds and starts it; see `README.md`.
#![no_main]

use std::sync::OnceLock;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("LASTUNIT_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = lastunit_fuzz::target(&name) else {
        let names: Vec<_> = lastunit_fuzz::TARGETS.iter().map(|it| it.name).collect();
        eprintln!(
            "LASTUNIT_FUZZ_TARGET is {name:?}; set it to one of: {}",
            names.join(", ")
        );
        std::process::exit(2)
    };
    target.run
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| RUN.get_or_init(chosen)(data));
