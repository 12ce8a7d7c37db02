//! Runs seeds, prints what they met, and one line for each that failed.
//!
//! Owns: the command line and the summary. Must not: know what a seed does. Where next: `run.rs`.

#![expect(clippy::cast_precision_loss, reason = "rates are for reading")]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lastunit_sim::{Cover, Life, Violation, live};

const HELP: &str = "lastunit-sim: lives through seeds; each is a sale with faults of every kind

  --seeds N        how many seeds (default 1000)
  --start N        the first seed (default 1)
  --seed N         one seed only
  --threads N      how many at once (default 2)
  --trace          print what happens (with --seed)
  --doublecheck    run each seed twice and compare
  --stop-after N   stop after so many failures (default 1)
  --need-all       fail if something that should have been met was not
  --record PATH    append the summary to a file, one JSON object a line
  --label TEXT     what the record says of the build, such as a commit
";

#[derive(Clone, Debug)]
struct Options {
    start: u64,
    seeds: u64,
    threads: u64,
    is_traced: bool,
    is_doubled: bool,
    stop_after: usize,
    needs_all: bool,
    record: Option<String>,
    label: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            start: 1,
            seeds: 1_000,
            threads: 2,
            is_traced: false,
            is_doubled: false,
            stop_after: 1,
            needs_all: false,
            record: None,
            label: String::new(),
        };
        while let Some(name) = arguments.next() {
            let mut text = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            let number = |text: String| {
                text.parse::<u64>()
                    .map_err(|_| format!("{name} needs a number, not {text}"))
            };
            match name.as_str() {
                "--seeds" => options.seeds = number(text()?)?,
                "--start" => options.start = number(text()?)?,
                "--threads" => options.threads = number(text()?)?.clamp(1, 64),
                "--stop-after" => {
                    options.stop_after = usize::try_from(number(text()?)?).unwrap_or(1);
                }
                "--seed" => {
                    options.start = number(text()?)?;
                    (options.seeds, options.threads) = (1, 1);
                }
                "--trace" => options.is_traced = true,
                "--doublecheck" => options.is_doubled = true,
                "--need-all" => options.needs_all = true,
                "--record" => options.record = Some(text()?),
                "--label" => options.label = text()?,
                other => return Err(format!("{other} is no option\n\n{HELP}")),
            }
        }
        Ok(options)
    }
}

/// What all threads found together.
#[derive(Default)]
struct Total {
    cover: Cover,
    operations: u64,
    crashes: u64,
    seeds: u64,
    failures: Vec<(u64, Violation)>,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if !options.is_traced {
        // A panic of the simulated node is a finding, told once with its seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let start = Instant::now();
    let (next, total) = (AtomicU64::new(0), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(&options, &next, &total, start));
        }
    });
    let total = total.into_inner().expect("no thread of ours panics");
    finish(&options, &total, start.elapsed())
}

fn work(options: &Options, next: &AtomicU64, total: &Mutex<Total>, start: Instant) {
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= options.seeds {
            return;
        }
        let seed = options.start + place;
        let life = checked(options, seed);
        let mut total = total.lock().expect("no thread of ours panics");
        total.cover.merge(&life.cover);
        total.operations += life.operations;
        total.crashes += life.crashes;
        total.seeds += 1;
        if let Some(violation) = life.violation {
            println!("{}", failure_line(seed, &violation));
            total.failures.push((seed, violation));
        }
        if total.failures.len() >= options.stop_after {
            next.store(options.seeds, Ordering::Relaxed);
        }
        if total.seeds.is_multiple_of(1_000) {
            progress(options, &total, start.elapsed());
        }
    }
}

fn checked(options: &Options, seed: u64) -> Life {
    let mut life = live(seed, options.is_traced);
    if options.is_doubled && life.violation.is_none() {
        let again = live(seed, false);
        if again.digest != life.digest {
            life.violation = Some(Violation {
                oracle: "determinism",
                detail: format!("digests {:016x} and {:016x}", life.digest, again.digest),
            });
        }
    }
    life
}

fn failure_line(seed: u64, violation: &Violation) -> String {
    let detail: String = violation.detail.chars().take(1_500).collect();
    let detail = detail.replace('\n', " ");
    format!(
        "FAILED seed {seed} [{}] {detail} | replay: cargo run --release -p lastunit-sim -- --seed \
         {seed} --trace",
        violation.oracle
    )
}

fn progress(options: &Options, total: &Total, elapsed: Duration) {
    let rate = total.seeds as f64 / elapsed.as_secs_f64().max(0.001);
    eprint!(
        "\r{} of {} seeds, {rate:.0} a second, {} crashes, {} failed   ",
        total.seeds,
        options.seeds,
        total.crashes,
        total.failures.len()
    );
    let _ = std::io::stderr().flush();
}

fn finish(options: &Options, total: &Total, elapsed: Duration) -> ExitCode {
    eprintln!();
    for (name, count) in total.cover.iter() {
        println!("{count:>12}  {name}");
    }
    let seconds = elapsed.as_secs_f64();
    println!(
        "{} seeds from {}, {} operations, {} crashes, {} failed, {seconds:.1} s, {:.0} seeds a \
         second",
        total.seeds,
        options.start,
        total.operations,
        total.crashes,
        total.failures.len(),
        total.seeds as f64 / seconds.max(0.001)
    );
    let missing = total.cover.missing();
    if !missing.is_empty() {
        println!("not met: {}", missing.join(", "));
    }
    if let Some(path) = &options.record
        && let Err(error) = record(path, options, total, seconds)
    {
        eprintln!("the record {path} cannot be written: {error}");
        return ExitCode::from(2);
    }
    let is_well = total.failures.is_empty() && (missing.is_empty() || !options.needs_all);
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn record(path: &str, options: &Options, total: &Total, seconds: f64) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let label: String = options
        .label
        .chars()
        .filter(|it| !"\"\\".contains(*it))
        .collect();
    writeln!(
        file,
        "{{\"build\": \"{label}\", \"first_seed\": {}, \"seeds\": {}, \"operations\": {}, \
         \"crashes\": {}, \"failed\": {}, \"seconds\": {seconds:.1}, \"threads\": {}}}",
        options.start,
        total.seeds,
        total.operations,
        total.crashes,
        total.failures.len(),
        options.threads
    )
}
