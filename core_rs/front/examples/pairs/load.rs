//! The two kinds of load. Closed: each worker asks again as soon as it is answered. Open: pairs
//! come at times drawn beforehand, whether or not there was an answer, and a latency counts from
//! the time at which a pair was due; so a server that stalls can't slow down who measures it.
//!
//! Owns: times and percentiles. Must not: know a peer.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Failure;

/// An open load is given up after this many times its duration.
const PATIENCE: u32 = 3;

/// How long a thread sleeps at most when it waits for what is due: the kernel's timers are late
/// by about this.
const PACE: Duration = Duration::from_micros(60);

/// What is sent.
pub(crate) struct Plan {
    /// How many ask at the same time.
    pub(crate) workers: usize,
    /// Pairs of one go of a worker.
    pub(crate) batch: usize,
    pub(crate) duration: Duration,
    /// Batches a second, for an open load.
    pub(crate) rate: Option<f64>,
}

/// A caller of some peer.
pub(crate) trait Worker: Send + 'static {
    /// Reserves for each pair; returns how many were granted.
    fn reserve(&mut self, pairs: Range<u64>) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Confirms each pair's reservation; returns how many were.
    fn confirm(&mut self, pairs: Range<u64>) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// When batches come.
struct Schedule {
    start: Instant,
    end: Instant,
    next: AtomicU64,
    /// When each batch is due, of an open load.
    due: Option<Vec<Duration>>,
    released: Semaphore,
    is_over: AtomicBool,
    workers: usize,
}

/// What a worker saw.
#[derive(Default)]
struct Seen {
    calls: Vec<Duration>,
    pairs: Vec<Duration>,
    confirmed: u64,
    asked: u64,
}

/// Runs a load to its end; returns its figures as JSON.
pub(crate) async fn run<W: Worker>(plan: &Plan, workers: Vec<W>) -> Result<String, Failure> {
    let schedule = Arc::new(Schedule::new(plan));
    let pacer = pace(&schedule);
    let mut tasks = JoinSet::new();
    for worker in workers {
        let (schedule, batch) = (Arc::clone(&schedule), plan.batch as u64);
        tasks.spawn(async move { work(worker, &schedule, batch).await });
    }
    let mut seen = Seen::default();
    while let Some(ended) = tasks.join_next().await {
        let one = ended??;
        seen.calls.extend(one.calls);
        seen.pairs.extend(one.pairs);
        seen.confirmed += one.confirmed;
        seen.asked += one.asked;
    }
    let elapsed = schedule.start.elapsed();
    schedule.is_over.store(true, Ordering::Relaxed);
    if let Some(pacer) = pacer {
        pacer.join().map_err(|_| "the pacing thread failed")?;
    }
    let unserved = schedule.unserved(&mut seen);
    seen.figures(elapsed, unserved * plan.batch)
}

async fn work<W: Worker>(mut worker: W, schedule: &Schedule, batch: u64) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    while let Some((number, due)) = schedule.take().await {
        let pairs = number * batch..(number + 1) * batch;
        seen.asked += batch;
        worker.reserve(pairs.clone()).await?;
        let between = Instant::now();
        seen.confirmed += worker.confirm(pairs).await?;
        let end = Instant::now();
        seen.calls.push(between - due);
        seen.calls.push(end - between);
        seen.pairs.push(end - due);
    }
    Ok(seen)
}

impl Schedule {
    fn new(plan: &Plan) -> Self {
        let due = plan.rate.map(|rate| arrivals(plan.duration, rate));
        let start = Instant::now();
        let patience = if due.is_some() { PATIENCE } else { 1 };
        Self {
            start,
            end: start + plan.duration * patience,
            next: AtomicU64::new(0),
            due,
            released: Semaphore::new(0),
            is_over: AtomicBool::new(false),
            workers: plan.workers,
        }
    }

    /// Waits for the next batch; none when the load is over.
    async fn take(&self) -> Option<(u64, Instant)> {
        let Some(due) = &self.due else {
            let now = Instant::now();
            return (now < self.end).then(|| (self.next.fetch_add(1, Ordering::Relaxed), now));
        };
        self.released.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.start + *due.get(usize::try_from(number).ok()?)?;
        (Instant::now() < self.end).then_some((number, due))
    }

    /// Adds the batches that nobody came to, each as late as it is by now at least.
    fn unserved(&self, seen: &mut Seen) -> usize {
        let Some(due) = &self.due else {
            return 0;
        };
        let late: Vec<_> = due.iter().skip(seen.pairs.len()).copied().collect();
        let elapsed = self.start.elapsed();
        seen.pairs
            .extend(late.iter().map(|due| elapsed.saturating_sub(*due)));
        seen.calls
            .extend(late.iter().map(|due| elapsed.saturating_sub(*due)));
        late.len()
    }
}

/// Draws when each batch comes: gaps as of people who know nothing of each other.
fn arrivals(duration: Duration, per_second: f64) -> Vec<Duration> {
    let random = RandomState::new();
    let (mut at, mut due) = (0.0, Vec::new());
    while at < duration.as_secs_f64() {
        due.push(Duration::from_secs_f64(at));
        #[expect(clippy::cast_precision_loss, reason = "53 random bits are enough")]
        let share = (random.hash_one(due.len()) >> 11) as f64 / (1_u64 << 53) as f64;
        at -= (1.0 - share).ln() / per_second;
    }
    due
}

/// Releases batches when they are due, from a thread of its own: the runtime's timers are late by
/// up to a millisecond.
fn pace(schedule: &Arc<Schedule>) -> Option<std::thread::JoinHandle<()>> {
    schedule.due.as_ref()?;
    let schedule = Arc::clone(schedule);
    Some(std::thread::spawn(move || {
        let due = schedule.due.as_deref().unwrap_or_default();
        for at in due {
            while schedule.start.elapsed() < *at {
                let wait = at.saturating_sub(schedule.start.elapsed());
                std::thread::sleep(wait.saturating_sub(PACE).max(Duration::from_micros(1)));
            }
            if schedule.is_over.load(Ordering::Relaxed) {
                return;
            }
            schedule.released.add_permits(1);
        }
        // One for each worker, so that all see that there is no more.
        schedule.released.add_permits(schedule.workers);
    }))
}

impl Seen {
    fn figures(mut self, elapsed: Duration, unserved: usize) -> Result<String, Failure> {
        if self.pairs.is_empty() {
            return Err("no pair came to its end".into());
        }
        self.pairs.sort_unstable();
        self.calls.sort_unstable();
        let of = |sorted: &[Duration], share: usize| {
            sorted[(sorted.len() - 1) * share / 100].as_secs_f64() * 1e3
        };
        Ok(format!(
            "{{\"pairs\": {}, \"refused\": {}, \"unserved\": {unserved}, \"seconds\": {:.6}, \
             \"call_p50_ms\": {:.4}, \"call_p99_ms\": {:.4}, \"call_max_ms\": {:.4}, \
             \"pair_p50_ms\": {:.4}, \"pair_p99_ms\": {:.4}}}",
            self.confirmed,
            self.asked - self.confirmed,
            elapsed.as_secs_f64(),
            of(&self.calls, 50),
            of(&self.calls, 99),
            of(&self.calls, 100),
            of(&self.pairs, 50),
            of(&self.pairs, 99),
        ))
    }
}
