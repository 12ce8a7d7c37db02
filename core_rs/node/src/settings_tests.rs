//! Settings: what is read, and that what is out of range is named.

use lastunit_admission::{Lane, Operation, TOKEN};

use super::*;

fn error(text: &str) -> SettingsError {
    NodeSettings::from_json(text).expect_err("must be refused")
}

#[test]
fn only_the_directory_is_needed() {
    let read = NodeSettings::from_json(r#"{"data_directory": "/x"}"#).expect("is enough");

    assert_eq!(NodeSettings::new("/x".into()), read);
    assert!(error("{}").expected.contains("data_directory"));
}

#[test]
fn everything_that_can_be_set_is_read() {
    let text = r#"{
        "data_directory": "/x", "durability": "written", "clock": "manual", "manual_start_ms": 5,
        "journal": {"segment_bytes": 1048576, "kept_back_bytes": 7, "snapshot_events": 1000},
        "timer_step_limit": 3, "timer_interval_ms": 6, "batch_chunk_operations": 9,
        "watch_interval_ms": 11,
        "admission": {
            "version": 1,
            "lanes": {"reservation": {"rate_per_second": 0.5, "burst": 2.5},
                      "settlement": {"calls_in_flight_max": 12}},
            "callers": {"default": {"rate_per_second": 1, "burst": 1},
                        "order-service": {"rate_per_second": null, "burst": null}},
            "callers_max": 13,
            "costs": {"Reserve": 1.25, "per_line": 0.000001}
        }
    }"#;
    let read = NodeSettings::from_json(text).expect("all in range");

    assert_eq!(DurabilityKind::Written, read.durability);
    assert_eq!(ClockKind::Manual, read.clock);
    let numbers = (read.manual_start, read.segment_bytes, read.kept_back_bytes);
    assert_eq!((5, 1_048_576, 7), numbers);
    assert_eq!(
        (1_000, 3, 6),
        (
            read.snapshot_events,
            read.timer_step_limit,
            read.timer_interval_ms
        )
    );
    assert_eq!(
        (9, 11),
        (read.batch_chunk_operations, read.watch_interval_ms)
    );
    let bucket = read
        .admission
        .limits
        .lane(Lane::Reservation)
        .bucket
        .expect("is set");
    assert_eq!((500, 2_500_000), (bucket.rate, bucket.burst));
    assert_eq!(
        12,
        read.admission
            .limits
            .lane(Lane::Settlement)
            .calls_in_flight_max
    );
    assert_eq!(Some(TOKEN), read.admission.limits.caller.map(|it| it.burst));
    assert_eq!(
        Some(&None),
        read.admission.limits.callers.get("order-service")
    );
    assert_eq!(13, read.admission.limits.callers_max);
    assert_eq!(
        1_250_002,
        read.admission.limits.costs.cost(Operation::Reserve, 2)
    );
}

#[test]
fn each_number_is_held_to_its_range() {
    let table = [
        ("journal.segment_bytes", 262_144_u64, 1_073_741_824_u64),
        ("journal.kept_back_bytes", 0, 1_073_741_824),
        ("journal.snapshot_events", 1_000, 100_000_000),
        ("timer_step_limit", 1, 4_096),
        ("timer_interval_ms", 5, 10_000),
        ("batch_chunk_operations", 1, 4_096),
        ("watch_interval_ms", 1, 10_000),
    ];
    for (setting, low, high) in table {
        let text = |value: u64| match setting.split_once('.') {
            Some((group, key)) => {
                format!(r#"{{"data_directory": "/x", "{group}": {{"{key}": {value}}}}}"#)
            }
            None => format!(r#"{{"data_directory": "/x", "{setting}": {value}}}"#),
        };
        NodeSettings::from_json(&text(low)).expect(setting);
        NodeSettings::from_json(&text(high)).expect(setting);

        assert_eq!(setting, error(&text(high + 1)).setting);
        if low > 0 {
            assert_eq!(setting, error(&text(low - 1)).setting);
        }
    }
}

#[test]
fn mistakes_are_named() {
    let table = [
        (r#"{"data_directory": "/x", "colour": 1}"#, "colour"),
        (
            r#"{"data_directory": "/x", "durability": "maybe"}"#,
            "maybe",
        ),
        (
            r#"{"data_directory": "/x", "manual_start_ms": -1}"#,
            "manual_start_ms",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"version": 2}}"#,
            "admission.version",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"lanes": {"fast": {}}}}"#,
            "lanes.fast",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"lanes": {"read": {"burst": 1}}}}"#,
            "set together",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"costs": {"Sing": 1}}}"#,
            "costs.Sing",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"costs": {"Reserve": -1}}}"#,
            "costs.Reserve",
        ),
        (
            r#"{"data_directory": "/x", "admission": {"callers_max": 0}}"#,
            "callers_max",
        ),
    ];
    for (text, part) in table {
        let message = error(text).to_string();

        assert!(message.contains(part), "{text} gives {message}");
    }
}
