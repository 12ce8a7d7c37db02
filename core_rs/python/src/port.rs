//! The way of answers back into an event loop: a list under a lock, and an eventfd to wake it.
//!
//! Owns: one wake-up for everything that came since the last drain. Must not: need the GIL on the
//! side of the node's threads. Where next: `node.rs`.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastunit_node::{Answer, AnswerPort};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use rustix::event::{EventfdFlags, eventfd};

/// Answers on their way, shared with the node's threads.
pub(crate) struct Mailbox {
    /// Held to append or to take all, never while Python runs: the side without the GIL must not
    /// wait for the side that has it for longer than that.
    answers: Mutex<Vec<(u64, Answer)>>,
    eventfd: OwnedFd,
}

impl Mailbox {
    fn answers(&self) -> MutexGuard<'_, Vec<(u64, Answer)>> {
        // A push or a take leaves the list whole, whatever happens around it.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerPort for Mailbox {
    fn deliver(&self, mut answers: Vec<(u64, Answer)>) {
        let was_empty = {
            let mut waiting = self.answers();
            let was_empty = waiting.is_empty();
            waiting.append(&mut answers);
            was_empty
        };
        if was_empty {
            // It can only fail when the counter is full, and then the loop is awake already.
            let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
        }
    }
}

/// Where answers arrive that could not be given at once.
#[pyclass(frozen, module = "lastunit_server._native")]
pub(crate) struct CompletionPort {
    pub(crate) mailbox: Arc<Mailbox>,
}

impl CompletionPort {
    pub(crate) fn new() -> PyResult<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = eventfd(0, flags).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            mailbox: Arc::new(Mailbox {
                answers: Mutex::default(),
                eventfd,
            }),
        })
    }
}

#[pymethods]
impl CompletionPort {
    fn fileno(&self) -> RawFd {
        self.mailbox.eventfd.as_raw_fd()
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // First the eventfd, then the list: what comes in between is in the list, or wakes again.
        let _ = rustix::io::read(&self.mailbox.eventfd, &mut [0; 8]);
        let answers = std::mem::take(&mut *self.mailbox.answers());
        let items: PyResult<Vec<Bound<'py, PyTuple>>> = answers
            .into_iter()
            .map(|(ticket, answer)| {
                let body = PyBytes::new(py, &answer.body);
                (ticket, answer.code, body).into_pyobject(py)
            })
            .collect();
        PyList::new(py, items?)
    }
}
