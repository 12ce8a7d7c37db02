//! The one table from errors of the node to exceptions of Python.
//!
//! Owns: which exception, and that its arguments are `(message, reason)`. Must not: invent text.
//! Where next: `node.rs`.

use lastunit_front::FrontError;
use lastunit_node::{CloseError, GateError, JournalError, OpenError, ReadError};
use pyo3::PyErr;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};

pyo3::create_exception!(
    _native,
    NodeOpenError,
    PyException,
    "The node cannot be opened; args are (message, reason)."
);

pyo3::create_exception!(
    _native,
    EventsRemovedError,
    PyValueError,
    "The events were removed from the journal; args are (message, reason, first_sequence)."
);

pub(crate) fn open(error: &OpenError) -> PyErr {
    NodeOpenError::new_err((error.to_string(), error.reason()))
}

pub(crate) fn read(error: &ReadError) -> PyErr {
    let arguments = (error.to_string(), error.reason());
    match error {
        ReadError::Removed { first_sequence, .. } => {
            EventsRemovedError::new_err((arguments.0, arguments.1, *first_sequence))
        }
        ReadError::Limit { .. } | ReadError::NotReached { .. } => PyValueError::new_err(arguments),
        _ => PyOSError::new_err(arguments),
    }
}

pub(crate) fn journal(error: &JournalError) -> PyErr {
    PyOSError::new_err((error.to_string(), error.reason()))
}

pub(crate) fn close(error: &CloseError) -> PyErr {
    PyOSError::new_err((error.to_string(), error.reason()))
}

pub(crate) fn gate(error: &GateError) -> PyErr {
    PyOSError::new_err((error.to_string(), "NOT_SERVING"))
}

pub(crate) fn front(error: &FrontError) -> PyErr {
    PyOSError::new_err((error.to_string(), "FRONT_FAILED"))
}

pub(crate) fn value(setting: &str, expected: &str) -> PyErr {
    PyValueError::new_err((format!("{setting} {expected}"), "ARGUMENT_INVALID"))
}
