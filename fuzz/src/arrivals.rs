//! A recording of arrivals, from any bytes.
//!
//! What must hold: no panic; every byte is read or told as damage; memory within a bound; what was
//! read is decided again, and everybody who came is counted once, live and in the forecast.

use lastunit_admission::{
    Ask, BucketPolicy, Call, Chance, DoorPolicy, Lane, Operation, QueuePolicy, Report, TOKEN,
    WindowPolicy,
};
use lastunit_arrivals::{
    Blocks, Draft, Encoder, HEADER_BYTES, Options, Origin, Outcome, ReportNote, Row, Simulation,
};

use crate::memory::{Bound, bounded};

const MEMORY: Bound = Bound {
    bytes: 64 << 10,
    per_byte: 100,
};

/// Magic, length and check sum of a block.
const HEAD: usize = 16;

fn policy() -> DoorPolicy {
    let bucket = |rate, burst| BucketPolicy {
        rate,
        burst: burst * TOKEN,
    };
    let mut policy = DoorPolicy::default();
    let lane = policy.limits.lane_mut(Lane::Reservation);
    lane.bucket = Some(bucket(5_000, 2));
    lane.calls_in_flight_max = 3;
    lane.queue = Some(QueuePolicy {
        length_max: 2,
        wait_max: 20_000_000,
        target: 1_000_000,
        interval: 5_000_000,
    });
    policy.limits.caller = Some(bucket(1_000_000, 10));
    policy.limits.callers_max = 2;
    policy.skus.each = Some(bucket(3_000, 1));
    policy.skus.names_max = 2;
    policy.window = Some(WindowPolicy {
        least: 1,
        most: 3,
        target_delay: 50_000_000,
        report_interval: 100_000_000,
        stale_after: 3,
        credit_life: 60_000_000_000,
        floor: bucket(10_000, 5),
    });
    assert_eq!(Ok(()), policy.check());
    policy
}

/// Makes the check sums right again, so that what they protect is looked at too.
fn forge(data: &[u8]) -> Vec<u8> {
    let mut forged = data.to_vec();
    let mut at = 0;
    while let Some(head) = data.get(at..at + HEAD) {
        let mut length = [0; 4];
        length.copy_from_slice(&head[8..12]);
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let end = (at + HEADER_BYTES).saturating_add(length);
        let Some(summed) = data.get(at + HEAD..end) else {
            break;
        };
        let sum = crc32c::crc32c(summed).to_le_bytes();
        forged[at + 12..at + HEAD].copy_from_slice(&sum);
        at = end;
    }
    forged
}

pub(crate) fn run(data: &[u8]) {
    check(data);
    check(&forge(data));
}

fn check(data: &[u8]) {
    let blocks: Vec<_> = bounded(data.len(), MEMORY, || Blocks::new(data).collect());
    let (mut arrivals, mut damaged) = (0, 0);
    for block in &blocks {
        match block {
            Ok(block) => {
                assert!(block.skus.iter().all(|it| *it < block.names.len()));
                let rows = block.rows.iter();
                arrivals += rows.filter(|row| matches!(row, Row::Arrival(_))).count();
            }
            Err(damage) => damaged += damage.bytes,
        }
    }
    let given = Options {
        service: [Some(1_000_000); 4],
        persisted_per_second: Some(2_000),
    };
    for options in [Options::default(), given] {
        let mut simulation = Simulation::new(policy(), options);
        simulation.feed(data);
        let forecast = simulation.finish(10);
        let told = forecast.damaged_bytes + forecast.unfinished_bytes;
        assert_eq!(damaged as u64, told, "each damage is told once");
        let lanes = forecast.lanes.iter();
        let offered = lanes.map(|row| [row.live.offered(), row.forecast.offered()]);
        let sums = offered.fold([0, 0], |sums, it| [sums[0] + it[0], sums[1] + it[1]]);
        assert_eq!([arrivals as u64; 2], sums, "everybody is counted once");
    }
}

fn recording() -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for number in 0..24_u64 {
        let sku = format!("sku-{}", number % 3);
        let skus = [sku.as_str(), "socks"];
        let operations = [
            Operation::Reserve,
            Operation::Confirm,
            Operation::GetAvailability,
        ];
        let operation = operations[usize::from(number.to_le_bytes()[0] % 3)];
        let ask = Ask {
            call: Call {
                operation,
                line_count: 2,
                caller: "order-service",
            },
            sale: "summer",
            skus: &skus,
            chance: Chance::Possible,
        };
        let reserve = [
            Outcome::NoEffect,
            Outcome::Hopeless,
            Outcome::HopelessRefused,
        ];
        let outcome = match operation {
            Operation::Reserve => reserve[usize::from(number.to_le_bytes()[0] % 9 / 3)],
            _ => Outcome::Granted,
        };
        let mut draft = Draft::new("order-service");
        draft.add(&ask, outcome, number * 1_000_000, number % 4 * 500_000);
        encoder.add(&draft, 0, number * 2_000_000);
        if number % 8 == 7 {
            let report = Report {
                generation: 1,
                persisted_count: number,
                oldest_wait: number * 1_000_000,
            };
            encoder.add_report(&ReportNote {
                at: number * 3_000_000,
                report,
            });
            bytes.extend(encoder.finish(&Origin {
                run: number / 16,
                start_micros: 5,
                dropped_count: number,
            }));
        }
    }
    bytes
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let whole = recording();
    let cut = whole[..whole.len() - 9].to_vec();
    let mut broken = whole.clone();
    broken[70] ^= 1;
    vec![
        ("whole".to_owned(), whole),
        ("unfinished".to_owned(), cut),
        ("broken".to_owned(), broken),
    ]
}
