//! The binding `lastunit_server._native`: the node as a Python extension module.
//!
//! Owns: the border. Bytes go in and out, the GIL is released while the node works, panics become
//! faults inside the node. Must not: hold a rule, or logic of any kind. Where next:
//! `server/lastunit_server/_native.pyi`, which documents every call for Python, and
//! `lastunit-node`.

mod errors;
mod front;
mod node;
mod offline;
mod port;
mod replay;
mod watch;

/// The extension module.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::errors::{EventsRemovedError, NodeOpenError};
    #[pymodule_export]
    use crate::front::NativeFront;
    #[pymodule_export]
    use crate::node::Node;
    #[pymodule_export]
    use crate::offline::{
        DirectoryEvents, DirectoryView, audit_directory, check_policy, default_policy,
        read_directory_events, repair_directory, verify_directory,
    };
    #[pymodule_export]
    use crate::port::CompletionPort;
    #[pymodule_export]
    use crate::replay::ArrivalReplay;
    #[pymodule_export]
    use crate::watch::Watch;

    /// Version of the extension, the same as of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python looks for")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
