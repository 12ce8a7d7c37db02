//! Calls that somebody traces: what a collector is told of each.
//!
//! Owns: which calls these are, and a bounded line of them until the front's owner takes it. Must
//! not: send anything, or keep whose call it was or what was in it. Where next: `unary.rs`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};
use lastunit_wire::Method;

/// Half a second of all that one listener serves.
const CALLS_MAX: usize = 8_192;

/// Longest `tracestate` that has to be passed on: <https://www.w3.org/TR/trace-context/>.
const STATE_BYTES_MAX: usize = 512;

/// `traceparent` of its only version so far: version, trace, parent and flags, in hexadecimal
/// digits with dashes between them.
const PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// A finished call that a collector is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// The gRPC path.
    pub method: &'static str,
    /// When it began by the system's clock, nanoseconds since 1970.
    pub begin_ns: u64,
    /// When it ended; the span between them is by a clock that never jumps.
    pub end_ns: u64,
    /// The gRPC status code, 0 to 16.
    pub code: i32,
    /// The caller's `traceparent`; empty if it sent none that can be read.
    pub parent: String,
    /// The caller's `tracestate`; empty if it sent none.
    pub state: String,
}

/// A call that began and is to be told of.
pub(crate) struct Traced {
    begin: SystemTime,
    begun: Instant,
    parent: String,
    state: String,
}

#[derive(Default)]
struct Line {
    calls: VecDeque<TracedCall>,
    lost_count: u64,
}

/// The line of one listener; None while nobody traces, and then a call costs nothing.
pub(crate) struct Traces {
    line: Option<Mutex<Line>>,
}

impl Traces {
    pub(crate) fn new(is_on: bool) -> Self {
        Self {
            line: is_on.then(Mutex::default),
        }
    }

    /// Notes that a call began. None if nobody wants to know: tracing is off, or its caller has
    /// decided against this one.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Traced> {
        self.line.as_ref()?;
        let parent = text(headers, &PARENT, PARENT_BYTES);
        if !parent.is_empty() && !is_sampled(&parent) {
            return None;
        }
        Some(Traced {
            begin: SystemTime::now(),
            begun: Instant::now(),
            parent,
            state: text(headers, &STATE, STATE_BYTES_MAX),
        })
    }

    /// Puts a call that ended in line. If there is no room it is lost: no call waits for a
    /// collector.
    pub(crate) fn end(&self, traced: Option<Traced>, method: Method, code: i32) {
        let (Some(traced), Some(line)) = (traced, &self.line) else {
            return;
        };
        let begin_ns = nanos(traced.begin);
        let took = u64::try_from(traced.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let call = TracedCall {
            method: method.path(),
            begin_ns,
            end_ns: begin_ns.saturating_add(took),
            code,
            parent: traced.parent,
            state: traced.state,
        };
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.calls.len() < CALLS_MAX {
            line.calls.push_back(call);
        } else {
            line.lost_count += 1;
        }
    }

    /// Takes what is in line, the oldest first, and how many were lost since it was last taken.
    pub(crate) fn take(&self) -> (Vec<TracedCall>, u64) {
        let Some(line) = &self.line else {
            return (Vec::new(), 0);
        };
        let taken = std::mem::take(&mut *line.lock().unwrap_or_else(PoisonError::into_inner));
        (taken.calls.into(), taken.lost_count)
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What a caller says under a name; empty if it is not there, too long or no text.
fn text(headers: &HeaderMap, name: &HeaderName, bytes_max: usize) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= bytes_max)
        .unwrap_or_default()
        .to_owned()
}

/// Whether the caller sends its own part of the trace. What cannot be read says so too: whoever
/// tells the collector reads it again, and then begins a trace of its own.
fn is_sampled(parent: &str) -> bool {
    let flags = parent.get(PARENT_BYTES - 2..);
    let flags = flags.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    flags.is_none_or(|flags| flags & SAMPLED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

    fn headers(flags: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let parent = format!("{TRACE}{flags}");
        headers.insert(PARENT, parent.parse().expect("is a header"));
        headers.insert(STATE, "a=b".parse().expect("is a header"));
        headers
    }

    #[test]
    fn nothing_is_kept_while_nobody_traces() {
        let traces = Traces::new(false);
        let begun = traces.begin(&headers("01"));

        assert!(begun.is_none());
        traces.end(begun, Method::Reserve, 0);
        assert_eq!((Vec::new(), 0), traces.take());
    }

    #[test]
    fn a_call_is_told_once_with_its_parent_and_its_end() {
        let traces = Traces::new(true);
        let begun = traces.begin(&headers("01"));
        traces.end(begun, Method::Reserve, 8);

        let (calls, lost_count) = traces.take();
        assert_eq!((1, 0), (calls.len(), lost_count));
        assert_eq!(Method::Reserve.path(), calls[0].method);
        assert_eq!(8, calls[0].code);
        assert_eq!(format!("{TRACE}01"), calls[0].parent);
        assert_eq!("a=b", calls[0].state);
        assert!(calls[0].begin_ns > 1_600_000_000_000_000_000);
        assert!(calls[0].end_ns >= calls[0].begin_ns);
        assert_eq!((Vec::new(), 0), traces.take());
    }

    #[test]
    fn a_caller_that_is_not_sampled_is_not_followed_and_one_without_a_trace_is() {
        let traces = Traces::new(true);

        assert!(traces.begin(&headers("00")).is_none());
        assert!(traces.begin(&headers("02")).is_none());
        assert!(traces.begin(&headers("03")).is_some());
        assert!(traces.begin(&headers("zz")).is_some());
        let alone = traces.begin(&HeaderMap::new()).expect("is followed");
        assert_eq!(("", ""), (alone.parent.as_str(), alone.state.as_str()));
    }

    #[test]
    fn what_is_too_long_or_no_text_is_as_if_it_were_not_there() {
        let traces = Traces::new(true);
        let mut strange = headers("010");
        strange.insert(STATE, "a".repeat(513).parse().expect("is a header"));
        let long = traces.begin(&strange).expect("is followed");
        assert_eq!(("", ""), (long.parent.as_str(), long.state.as_str()));

        strange.insert(STATE, "a".repeat(512).parse().expect("is a header"));
        let binary = http::HeaderValue::from_bytes(b"\xff").expect("is a header");
        strange.insert(PARENT, binary);
        let binary = traces.begin(&strange).expect("is followed");
        assert_eq!(("", 512), (binary.parent.as_str(), binary.state.len()));
    }

    #[test]
    fn the_line_is_bounded_and_says_what_it_lost() {
        let traces = Traces::new(true);
        for _ in 0..CALLS_MAX + 3 {
            let begun = traces.begin(&HeaderMap::new());
            traces.end(begun, Method::Confirm, 0);
        }

        let (calls, lost_count) = traces.take();
        assert_eq!((CALLS_MAX, 3), (calls.len(), lost_count));
        assert_eq!((Vec::new(), 0), traces.take());
    }
}
