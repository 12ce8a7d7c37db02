//! The binding `lastunit_server._native`: the node as a Python extension module.

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {}
