//! The class `Watch`: one stream of changes in availability.
//!
//! Owns: nothing but the handle; dropping it ends the stream. Must not: compare or filter. Where
//! next: `watch.rs` of `lastunit-node`.

use std::sync::Arc;

use lastunit_node::{AnswerPort, Completion};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::port::CompletionPort;

/// One WatchAvailability stream.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct Watch {
    watch: lastunit_node::Watch,
}

impl Watch {
    pub(crate) fn new(watch: lastunit_node::Watch) -> Self {
        Self { watch }
    }
}

#[pymethods]
impl Watch {
    fn next(&self, py: Python<'_>, port: &CompletionPort, ticket: u64) -> PyResult<()> {
        let mailbox: Arc<dyn AnswerPort> = port.mailbox.clone();
        let completion = Completion::Port(mailbox, ticket);
        let asked = py.detach(|| self.watch.next(completion));
        asked.map_err(|_| PyRuntimeError::new_err("a message of this watch was asked for already"))
    }
}
