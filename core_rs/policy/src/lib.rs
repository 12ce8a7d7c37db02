//! The admission policy as a document: one TOML text that people write, keep and compare.
//!
//! Owns: the document's form (schema version 1), what is said when it is wrong, and what differs
//! between two of them. The server's file, the service and the command line all read it here, so
//! that they cannot disagree.
//!
//! Must not: read a file, apply a policy, know when one holds. Where next: `document.rs` for the
//! form, `docs/reference/admission-policy.md` for people, `lastunit-admission` for what each number
//! does.
#![forbid(unsafe_code)]

mod changes;
mod document;
mod places;
mod table;

pub use changes::{Change, changes, settings};
pub use document::{DOCUMENT_BYTES_MAX, VERSION, read};
pub use places::Problem;

/// The document that holds until another one is put.
pub const DEFAULT_DOCUMENT: &str = include_str!("../default.toml");

#[cfg(test)]
mod tests;
