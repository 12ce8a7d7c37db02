//! The class `NativeFront`: a listener that serves the node without Python.
//!
//! Owns: the conversion of settings. Must not: serve. Where next: `lastunit-front`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lastunit_front::{Control, Credentials, Front, FrontSettings, Limits, Material, TracedCall};
use lastunit_node::Answer;
use pyo3::prelude::*;

use crate::errors;
use crate::node::{Node, parse_listener};

/// Threads of one listener: more than a machine has cores only take turns.
const THREAD_COUNT_MAX: usize = 64;

/// Certificate with its chain, private key and the clients' authorities, each PEM.
type PyMaterial = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// Path, begin and end in nanoseconds since 1970, status code, `traceparent` and `tracestate`.
type PyTracedCall = (&'static str, u64, u64, i32, String, String);

fn to_material((certificate, private_key, client_authorities): PyMaterial) -> Material {
    Material {
        certificate,
        private_key,
        client_authorities,
    }
}

fn credentials(json: &str) -> PyResult<Credentials> {
    Credentials::from_json(json).map_err(|error| errors::value("credentials", &error.to_string()))
}

fn bounds(seconds: Vec<f64>) -> PyResult<Vec<Duration>> {
    let bounds = seconds
        .into_iter()
        .map(|it| Duration::try_from_secs_f64(it).ok());
    let bounds: Option<Vec<_>> = bounds.collect();
    bounds
        .filter(|bounds| bounds.is_sorted())
        .ok_or_else(|| errors::value("latency_bounds", "must be seconds, rising"))
}

/// Answers from a Python function of path, caller and message that returns code and bytes. It
/// catches what it raises itself, so an error here is the interpreter's end.
fn to_control(respond: Py<PyAny>) -> Control {
    let respond = move |path: &str, caller: &str, message: &[u8]| {
        let answered = Python::attach(|py| {
            let answer = respond.call1(py, (path, caller, message))?;
            answer.extract::<(i32, Vec<u8>)>(py)
        });
        let (code, body) = answered.ok()?;
        Some(Answer { code, body })
    };
    Control::new(Arc::new(respond))
}

/// A native listener.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct NativeFront {
    front: Front,
}

#[pymethods]
impl NativeFront {
    #[new]
    #[pyo3(signature = (
        node, *, address, listener, is_rehearsal, has_reflection, thread_count, limits_json,
        material, credentials_json, latency_bounds, is_traced, control
    ))]
    #[expect(clippy::too_many_arguments, reason = "settings, each given by name")]
    fn new(
        py: Python<'_>,
        node: &Node,
        address: &str,
        listener: &str,
        is_rehearsal: bool,
        has_reflection: bool,
        thread_count: usize,
        limits_json: &str,
        material: Option<PyMaterial>,
        credentials_json: &str,
        latency_bounds: Vec<f64>,
        is_traced: bool,
        control: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let address: SocketAddr = address
            .parse()
            .map_err(|_| errors::value("address", "must be a literal address and a port"))?;
        if !(1..=THREAD_COUNT_MAX).contains(&thread_count) {
            return Err(errors::value("thread_count", "must be 1 to 64"));
        }
        let limits = Limits::from_json(limits_json);
        let limits = limits.map_err(|error| errors::value("limits", &error.to_string()))?;
        let settings = FrontSettings {
            address,
            listener: parse_listener(listener)?,
            is_rehearsal,
            has_reflection,
            thread_count,
            limits,
            material: material.map(to_material),
            credentials: credentials(credentials_json)?,
            latency_bounds: bounds(latency_bounds)?,
            is_traced,
            control: control.map(to_control),
        };
        let node = Arc::clone(&node.node);
        let front = py.detach(|| Front::start(node, settings));
        let front = front.map_err(|error| errors::front(&error))?;
        Ok(Self { front })
    }

    #[getter]
    fn address(&self) -> String {
        self.front.address().to_string()
    }

    fn set_other_address(&self, address: String) {
        self.front.set_other_address(address);
    }

    fn set_health(&self, py: Python<'_>, is_serving: bool) {
        py.detach(|| self.front.set_health(is_serving));
    }

    fn tell_news(&self) {
        self.front.tell_news();
    }

    fn replace_material(&self, py: Python<'_>, material: PyMaterial) -> PyResult<()> {
        let material = to_material(material);
        py.detach(|| self.front.replace_material(&material))
            .map_err(|error| errors::value("material", &error.to_string()))
    }

    fn replace_credentials(&self, credentials_json: &str) -> PyResult<()> {
        self.front
            .replace_credentials(credentials(credentials_json)?);
        Ok(())
    }

    fn counts(&self) -> Vec<(String, i32, u64)> {
        let counts = self.front.counts();
        let row = |it: lastunit_front::CallCount| (it.method.into_owned(), it.code, it.count);
        counts.into_iter().map(row).collect()
    }

    fn latencies(&self) -> Vec<(&'static str, Vec<u64>, f64)> {
        let latencies = self.front.latencies();
        let row = |it: lastunit_front::Latency| (it.method, it.counts, it.total.as_secs_f64());
        latencies.into_iter().map(row).collect()
    }

    fn take_traced_calls(&self) -> (Vec<PyTracedCall>, u64) {
        let (calls, lost_count) = self.front.take_traced_calls();
        let row = |it: TracedCall| {
            (
                it.method,
                it.begin_ns,
                it.end_ns,
                it.code,
                it.parent,
                it.state,
            )
        };
        (calls.into_iter().map(row).collect(), lost_count)
    }

    #[getter]
    fn open_count(&self) -> usize {
        self.front.open_count()
    }

    #[getter]
    fn connection_count(&self) -> usize {
        self.front.connection_count()
    }

    #[getter]
    fn waiting_bytes(&self) -> usize {
        self.front.waiting_bytes()
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.front.refusals()
    }

    fn take_unknown_callers(&self) -> Option<(String, String, u64)> {
        let unknown = self.front.take_unknown_callers()?;
        Some((unknown.peer, unknown.reason, unknown.count))
    }

    fn stop(&self, py: Python<'_>, grace_ms: u64) {
        py.detach(|| self.front.stop(Duration::from_millis(grace_ms)));
    }
}
