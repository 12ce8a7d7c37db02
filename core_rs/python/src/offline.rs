//! Functions on a directory that is only looked at.
//!
//! Owns: nothing. Must not: write. Where next: `offline.rs` of `lastunit-node`.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

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
