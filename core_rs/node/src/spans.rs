//! A histogram of spans of time that costs three additions to count into.
//!
//! Owns: the bounds and the JSON. Must not: know what is measured. Where next: `meters.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

/// Bounds, the last one open.
const SPAN_COUNT: usize = 16;

/// Counts by powers of two of a unit, from below `2^SHIFT` upwards; relaxed everywhere: each number
/// stands for itself, and a reader may see one call in the sum and not yet in its span.
#[derive(Default)]
pub(crate) struct Spans<const SHIFT: u32> {
    spans: [AtomicU64; SPAN_COUNT],
    total: AtomicU64,
}

impl<const SHIFT: u32> Spans<SHIFT> {
    pub(crate) fn count(&self, value: u64) {
        let bits = u64::BITS - (value >> SHIFT).leading_zeros();
        let span = (bits as usize).min(SPAN_COUNT - 1);
        self.spans[span].fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(value, Ordering::Relaxed);
    }

    /// `count`, `{unit}_total` and `count_by_{unit}_below`: pairs of a bound and what is below it
    /// and not below the bound before; the last one also has what is above.
    pub(crate) fn to_json(&self, unit: &str) -> Map<String, Value> {
        let counts: Vec<u64> = self.spans.iter().map(load).collect();
        let spans: Vec<(u64, u64)> = counts
            .iter()
            .enumerate()
            .map(|(index, count)| (1 << (SHIFT as usize + index), *count))
            .collect();
        let mut json = Map::new();
        json.insert("count".into(), json!(counts.iter().sum::<u64>()));
        json.insert(format!("{unit}_total"), json!(load(&self.total)));
        json.insert(format!("count_by_{unit}_below"), json!(spans));
        json
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_the_span_they_belong_to() {
        let spans = Spans::<6>::default();
        for value in [0, 63, 64, 127, 128, u64::MAX / 2] {
            spans.count(value);
        }
        let json = spans.to_json("micros");

        assert_eq!(json!(6), json["count"]);
        assert_eq!(json!([64, 2]), json["count_by_micros_below"][0]);
        assert_eq!(json!([128, 2]), json["count_by_micros_below"][1]);
        assert_eq!(json!([256, 1]), json["count_by_micros_below"][2]);
        assert_eq!(json!(1), json["count_by_micros_below"][SPAN_COUNT - 1][1]);
    }
}
