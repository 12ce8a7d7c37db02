//! The node's settings and the admission policy inside them, as one text of JSON.
//!
//! What must hold: no panic; a refusal names the setting and says what was expected; what is
//! accepted is in range, and admission works with it.

use lastunit_admission::{Admission, Call, Lane, Operation};
use lastunit_node::NodeSettings;

use crate::memory::{Bound, bounded};

const MEMORY: Bound = Bound {
    bytes: 64 << 10,
    per_byte: 200,
};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = bounded(data.len(), MEMORY, || NodeSettings::from_json(text));
    let settings = match read {
        Err(error) => {
            assert!(!error.setting.is_empty() && !error.expected.is_empty());
            return;
        }
        Ok(settings) => settings,
    };
    assert_eq!(Ok(()), settings.admission.check());
    assert!((1..=4_096).contains(&settings.timer_step_limit));
    assert!((1..=4_096).contains(&settings.batch_chunk_operations));
    assert!((5..=10_000).contains(&settings.timer_interval_ms));
    assert!((1..=10_000).contains(&settings.watch_interval_ms));
    let mut admission = Admission::new(settings.admission.limits, 0);
    for (at, operation) in (0..).zip(Operation::ALL) {
        let call = Call {
            operation: *operation,
            line_count: 32,
            caller: "order-service",
        };
        let _ = admission.admit(&call, at << 60);
    }
    let stats = admission.stats(10, u64::MAX);
    assert_eq!(Lane::ALL.len(), stats.lanes.len());
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let texts = [
        ("least", r#"{"data_directory":"d"}"#),
        (
            "journal",
            r#"{"data_directory":"d","durability":"memory","clock":"manual","manual_start_ms":5,
            "journal":{"segment_bytes":262144,"kept_back_bytes":0,"snapshot_events":1000},
            "timer_step_limit":1,"timer_interval_ms":5,"batch_chunk_operations":1,
            "watch_interval_ms":1}"#,
        ),
        (
            "admission",
            r#"{"data_directory":"d","admission":{"version":1,"lanes":{"reservation":
            {"rate_per_second":50000,"burst":5000,"calls_in_flight_max":16384}},"callers":{
            "default":{"rate_per_second":0.001,"burst":1},"shop":{}},"callers_max":10,
            "costs":{"Reserve":1.5,"per_line":0.2}}}"#,
        ),
    ];
    let seed = |(name, text): (&str, &str)| (name.to_owned(), text.as_bytes().to_vec());
    texts.into_iter().map(seed).collect()
}
