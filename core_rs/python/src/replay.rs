//! A recording of arrivals replayed against another policy.
//!
//! Owns: nothing. Must not: decide, or read a file. Where next: `simulation.rs` of `lastunit-node`.

use std::sync::{Mutex, PoisonError};

use lastunit_node::ReplayError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// One replay; its bytes come file by file, and it ends once.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct ArrivalReplay {
    replay: Mutex<Option<lastunit_node::ArrivalReplay>>,
}

#[pymethods]
impl ArrivalReplay {
    #[new]
    fn new(document: &str, options_json: &str) -> PyResult<Self> {
        let replay = lastunit_node::ArrivalReplay::new(document, options_json);
        let replay = replay.map_err(|error| match error {
            ReplayError::Policy(problems) => PyValueError::new_err(problems),
            other => PyValueError::new_err(vec![other.to_string()]),
        })?;
        Ok(Self {
            replay: Mutex::new(Some(replay)),
        })
    }

    /// Takes the next file.
    fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| {
            let mut held = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            held.as_mut().map(|replay| replay.feed(data))
        })
        .ok_or_else(ended)
    }

    /// Ends the replay and gives the counts.
    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| {
            let mut held = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            held.take().map(lastunit_node::ArrivalReplay::finish)
        })
        .ok_or_else(ended)
    }
}

fn ended() -> PyErr {
    PyValueError::new_err(vec!["this replay has ended; begin another one"])
}
