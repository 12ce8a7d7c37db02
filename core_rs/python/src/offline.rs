//! Functions and classes on a directory that is only looked at.
//!
//! Owns: nothing. Must not: write, but for a repaired copy elsewhere. Where next: `offline.rs` and
//! `damage.rs` of `lastunit-node`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;
use crate::node::{PyAnswer, to_python};

/// Reads a policy document; gives JSON with every setting, or with every problem.
#[pyfunction]
pub(crate) fn check_policy(py: Python<'_>, document: &str) -> String {
    py.detach(|| lastunit_node::check_policy(document))
}

/// The policy document that holds until another one is put.
#[pyfunction]
pub(crate) fn default_policy() -> &'static str {
    lastunit_node::default_policy()
}

/// Recovers the journal of a directory without writing and checks every invariant.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "Python gives a path of its own"
)]
pub(crate) fn audit_directory(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| lastunit_node::audit_directory(&path))
        .map_err(|error| errors::open(&error))
}

/// Reads events of a directory without writing.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "Python gives a path of its own"
)]
pub(crate) fn read_directory_events(
    py: Python<'_>,
    path: PathBuf,
    after_sequence: i64,
    limit: i64,
) -> PyResult<(Bound<'_, PyBytes>, i64)> {
    let read = py.detach(|| lastunit_node::read_directory_events(&path, after_sequence, limit));
    let (body, last) = read.map_err(|error| errors::read(&error))?;
    Ok((PyBytes::new(py, &body), last))
}

/// Checks every record and every snapshot of a directory without writing.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "Python gives a path of its own"
)]
pub(crate) fn verify_directory(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| lastunit_node::verify_directory(&path))
        .map_err(|error| errors::journal(&error))
}

/// Writes what can be saved of a directory to another one.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "Python gives paths of its own"
)]
pub(crate) fn repair_directory(py: Python<'_>, path: PathBuf, target: PathBuf) -> PyResult<String> {
    py.detach(|| lastunit_node::repair_directory(&path, &target))
        .map_err(|error| errors::journal(&error))
}

/// The state of a directory's ledger as of some sequence.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct DirectoryView {
    view: lastunit_node::DirectoryView,
}

#[pymethods]
impl DirectoryView {
    #[new]
    #[pyo3(signature = (path, as_of = None))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "Python gives a path of its own"
    )]
    fn new(py: Python<'_>, path: PathBuf, as_of: Option<i64>) -> PyResult<Self> {
        py.detach(|| lastunit_node::DirectoryView::open(&path, as_of))
            .map(|view| Self { view })
            .map_err(|error| errors::open(&error))
    }

    fn sequence(&self) -> i64 {
        self.view.sequence()
    }

    fn audit_json(&self, py: Python<'_>) -> String {
        py.detach(|| self.view.audit_json())
    }

    fn ask<'py>(&self, py: Python<'py>, method: &str, request: &[u8]) -> PyAnswer<'py> {
        let answer = py.detach(|| self.view.ask(method, request));
        to_python(py, &answer)
    }
}

/// The events of a directory, looked at once or followed.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct DirectoryEvents {
    /// Held for one look or one page; Python calls from one thread at a time anyway.
    events: Mutex<lastunit_node::DirectoryEvents>,
}

#[pymethods]
impl DirectoryEvents {
    #[new]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "Python gives a path of its own"
    )]
    fn new(py: Python<'_>, path: PathBuf, follow: bool) -> PyResult<Self> {
        py.detach(|| lastunit_node::DirectoryEvents::open(&path, follow))
            .map(|events| Self {
                events: Mutex::new(events),
            })
            .map_err(|error| errors::journal(&error))
    }

    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.events().refresh())
            .map_err(|error| errors::journal(&error))
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        after_sequence: i64,
        limit: i64,
    ) -> PyResult<(Bound<'py, PyBytes>, i64)> {
        let read = py.detach(|| self.events().read(after_sequence, limit));
        let (body, last) = read.map_err(|error| errors::read(&error))?;
        Ok((PyBytes::new(py, &body), last))
    }

    fn first_sequence(&self, py: Python<'_>) -> PyResult<i64> {
        py.detach(|| self.events().first_sequence())
            .map_err(|error| errors::journal(&error))
    }
}

impl DirectoryEvents {
    fn events(&self) -> std::sync::MutexGuard<'_, lastunit_node::DirectoryEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
