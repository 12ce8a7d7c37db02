//! How many calls of each method ended how, and how long they took.
//!
//! Owns: the counters that metrics read. Must not: cost a lock on the hot path. Where next:
//! `unary.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lastunit_wire::Method;

/// gRPC status codes, 0 to 16.
const CODE_COUNT: usize = 17;

/// Calls of one method that ended with one status code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCount {
    /// The gRPC path.
    pub method: Cow<'static, str>,
    /// The gRPC status code, 0 to 16.
    pub code: i32,
    /// How many.
    pub count: u64,
}

/// How long finished unary calls of one method took.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// The gRPC path.
    pub method: &'static str,
    /// Calls by span: up to each bound of the settings, and above the last one.
    pub counts: Vec<u64>,
    /// All of them together.
    pub total: Duration,
}

/// The spans of one method.
#[derive(Debug)]
struct Spans {
    counts: Vec<AtomicU64>,
    micros: AtomicU64,
}

/// Counters of all methods. Relaxed: each is read by itself.
pub(crate) struct Counts {
    cells: Vec<[AtomicU64; CODE_COUNT]>,
    bounds: Vec<Duration>,
    spans: Vec<Spans>,
    /// What the owner answers, by path and code.
    rare: Mutex<BTreeMap<(String, i32), u64>>,
}

impl Counts {
    /// Takes the upper bounds of spans, rising.
    pub(crate) fn new(bounds: Vec<Duration>) -> Self {
        let empty = || [const { AtomicU64::new(0) }; CODE_COUNT];
        let spans = || Spans {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            micros: AtomicU64::new(0),
        };
        Self {
            cells: Method::ALL.iter().map(|_| empty()).collect(),
            spans: Method::ALL.iter().map(|_| spans()).collect(),
            bounds,
            rare: Mutex::default(),
        }
    }

    /// Counts a finished unary call with the time since it began.
    pub(crate) fn add_timed(&self, method: Method, code: i32, begun: Instant) {
        self.add(method, code);
        let elapsed = begun.elapsed();
        let span = self.bounds.partition_point(|bound| *bound < elapsed);
        let spans = &self.spans[method as usize];
        spans.counts[span].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        spans.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn latencies(&self) -> Vec<Latency> {
        let shown = Method::ALL.iter().zip(&self.spans).map(|(method, spans)| {
            let counts = spans.counts.iter();
            Latency {
                method: method.path(),
                counts: counts.map(|it| it.load(Ordering::Relaxed)).collect(),
                total: Duration::from_micros(spans.micros.load(Ordering::Relaxed)),
            }
        });
        let has_calls = |it: &Latency| it.counts.iter().any(|count| *count > 0);
        shown.filter(has_calls).collect()
    }

    pub(crate) fn add(&self, method: Method, code: i32) {
        let code = usize::try_from(code).unwrap_or(0).min(CODE_COUNT - 1);
        self.cells[method as usize][code].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a finished call of the owner's, by one of its known paths.
    pub(crate) fn add_rare(&self, path: &str, code: i32) {
        let mut rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
        *rare.entry((path.to_owned(), code)).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Vec<CallCount> {
        let mut counts = Vec::new();
        for (method, row) in Method::ALL.iter().zip(&self.cells) {
            for (code, cell) in (0..).zip(row) {
                let count = cell.load(Ordering::Relaxed);
                if count > 0 {
                    counts.push(CallCount {
                        method: method.path().into(),
                        code,
                        count,
                    });
                }
            }
        }
        let rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
        counts.extend(rare.iter().map(|((path, code), count)| CallCount {
            method: path.clone().into(),
            code: *code,
            count: *count,
        }));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_falls_into_the_first_span_that_holds_it() {
        let counts = Counts::new(vec![Duration::ZERO, Duration::from_secs(3600)]);
        assert!(counts.latencies().is_empty());

        counts.add_timed(Method::Reserve, 0, Instant::now());
        counts.add(Method::Reserve, 8);

        let latencies = counts.latencies();
        assert_eq!(1, latencies.len());
        assert_eq!(Method::Reserve.path(), latencies[0].method);
        assert_eq!(1, latencies[0].counts.iter().sum::<u64>());
        assert_eq!(0, latencies[0].counts[2]);
        assert_eq!(2, counts.read().len());
    }

    #[test]
    fn rare_calls_are_counted_beside_the_others() {
        let counts = Counts::new(Vec::new());
        counts.add(Method::Reserve, 0);
        counts.add_rare("/a/b", 5);
        counts.add_rare("/a/b", 5);

        let last = counts.read().pop().expect("is counted");
        assert_eq!(
            ("/a/b", 5, 2),
            (last.method.as_ref(), last.code, last.count)
        );
    }
}
