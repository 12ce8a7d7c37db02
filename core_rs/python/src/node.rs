//! The class `Node`: each method hands over to the node with the GIL released.
//!
//! Owns: the conversion of arguments. Must not: decide. Where next: `lastunit-node`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_node::{
    Answer, AnswerPort, CallInput, Completion, GateError, GateState, Listener, NodeSettings,
    Permissions, PolicyOrigin, PolicyPut, Report, Subject,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;
use crate::port::CompletionPort;
use crate::watch::Watch;

/// An answer as Python sees it.
pub(crate) type PyAnswer<'py> = (i32, Bound<'py, PyBytes>);

/// One open ledger.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct Node {
    pub(crate) node: Arc<lastunit_node::Node>,
}

#[pymethods]
impl Node {
    #[new]
    fn new(py: Python<'_>, settings_json: &str) -> PyResult<Self> {
        py.detach(|| {
            let settings = NodeSettings::from_json(settings_json)
                .map_err(|error| errors::open(&error.into()))?;
            let node = lastunit_node::Node::open(settings).map_err(|error| errors::open(&error))?;
            Ok(Self { node })
        })
    }

    #[expect(
        clippy::unused_self,
        reason = "a port is asked of a node, so that it can come to know it"
    )]
    fn port(&self) -> PyResult<CompletionPort> {
        CompletionPort::new()
    }

    #[pyo3(signature = (
        port, ticket, method, request, caller, deadline_ms, seen_sequence, listener, seen_epoch = 0
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the call is made by position on the hot path"
    )]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        ticket: u64,
        method: &str,
        request: &[u8],
        caller: &str,
        deadline_ms: Option<i64>,
        seen_sequence: i64,
        listener: &str,
        seen_epoch: i64,
    ) -> PyResult<Option<PyAnswer<'py>>> {
        let call = CallInput {
            method,
            request,
            caller,
            deadline: deadline(deadline_ms),
            seen_sequence,
            seen_epoch,
            listener: parse_listener(listener)?,
        };
        let mailbox: Arc<dyn AnswerPort> = port.mailbox.clone();
        let completion = Completion::Port(mailbox, ticket);
        let answer = py.detach(|| self.node.submit(&call, completion));
        Ok(answer.map(|answer| to_python(py, &answer)))
    }

    #[pyo3(signature = (
        method, request, caller, timeout_ms, seen_sequence, listener, seen_epoch = 0
    ))]
    #[expect(clippy::too_many_arguments, reason = "the same order as submit")]
    fn call<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        request: &[u8],
        caller: &str,
        timeout_ms: Option<i64>,
        seen_sequence: i64,
        listener: &str,
        seen_epoch: i64,
    ) -> PyResult<PyAnswer<'py>> {
        let call = CallInput {
            method,
            request,
            caller,
            deadline: deadline(timeout_ms),
            seen_sequence,
            seen_epoch,
            listener: parse_listener(listener)?,
        };
        let answer = py.detach(|| self.node.call(&call));
        Ok(to_python(py, &answer))
    }

    fn watch<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match py.detach(|| self.node.watch(request)) {
            Ok(watch) => Ok(Bound::new(py, Watch::new(watch))?.into_any()),
            Err(answer) => Ok(to_python(py, &answer).into_pyobject(py)?.into_any()),
        }
    }

    fn set_permissions(&self, table_json: Option<&str>) -> PyResult<()> {
        let table = table_json.map(Permissions::from_json).transpose();
        let table = table.map_err(|error| errors::value("table_json", &error.to_string()))?;
        self.node.set_permissions(table);
        Ok(())
    }

    fn permission_refusal<'py>(
        &self,
        py: Python<'py>,
        caller: &str,
        method: &str,
        sale_id: Option<&str>,
        is_any_sale: bool,
    ) -> Option<PyAnswer<'py>> {
        let subject = match sale_id {
            Some(sale_id) => Subject::Sale(sale_id),
            None if is_any_sale => Subject::Reservation(""),
            None => Subject::Ledger,
        };
        let answer = self.node.permission_refusal(caller, method, subject)?;
        Some(to_python(py, &answer))
    }

    fn set_gate_settings(&self, settings_json: &str) -> PyResult<()> {
        let set = self.node.set_gate_settings(settings_json);
        set.map_err(|error| errors::value("settings_json", &error.to_string()))
    }

    #[pyo3(signature = (sale_id, hand, until_ms = None))]
    fn set_gate_hand(
        &self,
        py: Python<'_>,
        sale_id: &str,
        hand: Option<&str>,
        until_ms: Option<i64>,
    ) -> PyResult<bool> {
        let hand = match hand {
            None => None,
            Some("open") => Some(GateState::Open),
            Some("queueing") => Some(GateState::Queueing),
            Some("closed") => Some(GateState::Closed),
            Some(_) => return Err(errors::value("hand", "must be open, queueing or closed")),
        };
        match py.detach(|| self.node.set_gate_hand(sale_id, hand, until_ms)) {
            Ok(()) => Ok(true),
            Err(GateError::UnknownSale { .. }) => Ok(false),
            Err(error) => Err(errors::gate(&error)),
        }
    }

    fn gates_json(&self, py: Python<'_>, after_version: u64) -> Option<String> {
        py.detach(|| self.node.gates_json(after_version))
    }

    #[pyo3(signature = (
        document, actor, reason, caller, origin, expected_revision = None, effect_time_ms = None,
        is_dry_run = false, roll_back_to = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "all of one revision")]
    fn put_policy<'py>(
        &self,
        py: Python<'py>,
        document: &str,
        actor: &str,
        reason: &str,
        caller: &str,
        origin: &str,
        expected_revision: Option<u64>,
        effect_time_ms: Option<i64>,
        is_dry_run: bool,
        roll_back_to: Option<u64>,
    ) -> PyResult<PyAnswer<'py>> {
        let put = PolicyPut {
            document,
            expected_revision,
            actor,
            caller,
            reason,
            origin: parse_origin(origin)?,
            effect_time: effect_time_ms,
            is_dry_run,
        };
        let made = py.detach(|| match roll_back_to {
            Some(revision) => self.node.roll_back_policy(revision, &put),
            None => self.node.put_policy(&put),
        });
        Ok(match made {
            Ok(text) => (0, PyBytes::new(py, text.as_bytes())),
            Err(answer) => to_python(py, &answer),
        })
    }

    fn policy_json(&self, py: Python<'_>) -> String {
        py.detach(|| self.node.policy_json())
    }

    fn revisions_json(&self, py: Python<'_>, before: u64, limit: usize) -> String {
        py.detach(|| self.node.revisions_json(before, limit))
    }

    fn set_shadow_policy<'py>(
        &self,
        py: Python<'py>,
        document: Option<&str>,
        actor: &str,
        reason: &str,
    ) -> Option<PyAnswer<'py>> {
        let set = py.detach(|| self.node.set_shadow_policy(document, actor, reason));
        set.err().map(|answer| to_python(py, &answer))
    }

    fn report_pressure<'py>(
        &self,
        py: Python<'py>,
        generation: u64,
        persisted_count: u64,
        oldest_wait_ms: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let report = Report {
            generation,
            persisted_count,
            oldest_wait: oldest_wait_ms.saturating_mul(1_000_000),
        };
        match py.detach(|| self.node.report_pressure(&report)) {
            Ok(Some(stats)) => Ok((stats.limit, stats.outstanding)
                .into_pyobject(py)?
                .into_any()),
            Ok(None) => Ok(py.None().into_bound(py)),
            Err(answer) => Ok(to_python(py, &answer).into_pyobject(py)?.into_any()),
        }
    }

    fn read_events<'py>(
        &self,
        py: Python<'py>,
        after_sequence: i64,
        limit: i64,
    ) -> PyResult<(Bound<'py, PyBytes>, i64)> {
        let read = py.detach(|| self.node.read_events(after_sequence, limit));
        let (body, last) = read.map_err(|error| errors::read(&error))?;
        Ok((PyBytes::new(py, &body), last))
    }

    fn note_reader<'py>(
        &self,
        py: Python<'py>,
        reader_id: &str,
        after_sequence: i64,
    ) -> Option<PyAnswer<'py>> {
        let noted = py.detach(|| self.node.note_reader(reader_id, after_sequence));
        noted.err().map(|answer| to_python(py, &answer))
    }

    fn notify_after(&self, py: Python<'_>, port: &CompletionPort, ticket: u64, sequence: i64) {
        let mailbox: Arc<dyn AnswerPort> = port.mailbox.clone();
        let completion = Completion::Port(mailbox, ticket);
        py.detach(|| self.node.notify_after(sequence, completion));
    }

    fn health(&self) -> (bool, &'static str, i64, i64, i64) {
        let health = self.node.health();
        let reason = health.phase.reason();
        let place = (health.epoch, health.sequence, health.durable_sequence);
        (reason.is_empty(), reason, place.0, place.1, place.2)
    }

    fn metrics_json(&self, py: Python<'_>) -> String {
        py.detach(|| self.node.metrics_json())
    }

    fn end_waiting(&self, py: Python<'_>) {
        py.detach(|| self.node.end_waiting());
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.node.drain(Duration::from_millis(timeout_ms)))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.node.close())
            .map_err(|error| errors::close(&error))
    }
}

pub(crate) fn to_python<'py>(py: Python<'py>, answer: &Answer) -> PyAnswer<'py> {
    (answer.code, PyBytes::new(py, &answer.body))
}

fn deadline(left_ms: Option<i64>) -> Option<Instant> {
    let left = u64::try_from(left_ms?).unwrap_or(0);
    Instant::now().checked_add(Duration::from_millis(left))
}

fn parse_origin(origin: &str) -> PyResult<PolicyOrigin> {
    match origin {
        "file" => Ok(PolicyOrigin::File),
        "service" => Ok(PolicyOrigin::Service),
        _ => Err(errors::value("origin", "must be file or service")),
    }
}

pub(crate) fn parse_listener(listener: &str) -> PyResult<Listener> {
    match listener {
        "data" => Ok(Listener::Data),
        "settlement" => Ok(Listener::Settlement),
        _ => Err(errors::value("listener", "must be data or settlement")),
    }
}
