//! Owns the fault: what is wrong with a call, and its two forms on the wire.
//!
//! Must not know why a fault is raised, except for the door's own: bytes that do not decode and
//! fields that break a rule. Next: `status.rs`.

use std::collections::BTreeMap;

use lastunit_engine::Millis;
use prost::Message;

use crate::check::Violation;
use crate::{contract, status, time};

/// The domain of every reason of ours.
pub const DOMAIN: &str = "lastunit";

/// The gRPC status codes that a fault can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// The request breaks the contract.
    InvalidArgument = 3,
    /// The caller's time was over before anything happened.
    DeadlineExceeded = 4,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// Shed by admission, or too big.
    ResourceExhausted = 8,
    /// The system is in a state that does not allow it.
    FailedPrecondition = 9,
    /// Beyond what there is.
    OutOfRange = 11,
    /// The node does not serve this method.
    Unimplemented = 12,
    /// A bug of ours.
    Internal = 13,
    /// The ledger can't write; the same id may be tried again.
    Unavailable = 14,
    /// What was acknowledged is damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

/// What is wrong with a call, or why the system could not carry it out. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status code.
    pub code: Code,
    /// What happened, then what to do: lowercase, no full stop. May change.
    pub message: String,
    /// The reason for programs, `UPPER_SNAKE_CASE`; never changes.
    pub reason: &'static str,
    /// Whatever the message states, by name.
    pub metadata: BTreeMap<String, String>,
    /// The fields that broke a rule.
    pub violations: Vec<Violation>,
    /// How long to wait before another try, if waiting helps; 0 or more milliseconds.
    pub retry_after: Option<Millis>,
}

impl Fault {
    /// Makes a fault without metadata that does not ask to wait.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// Adds one fact that the message states.
    #[must_use]
    pub fn with_metadata(mut self, name: &str, value: &impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// Says that trying again after so many milliseconds may help.
    #[must_use]
    pub fn with_retry_after(mut self, millis: Millis) -> Self {
        self.retry_after = Some(millis.max(0));
        self
    }

    /// The fault of bytes that are not the message they should be.
    #[must_use]
    pub(crate) fn malformed(error: &prost::DecodeError) -> Self {
        let message = format!("the request does not decode ({error}); send what the contract says");
        Self::new(Code::InvalidArgument, "MALFORMED_REQUEST", message)
            .with_metadata("detail", error)
    }

    /// The fault of fields that break a rule; at least one.
    #[must_use]
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        let mut fault = Self::new(Code::InvalidArgument, "INVALID_FIELD", "a field is invalid");
        if let Some(first) = violations.first() {
            let Violation {
                field,
                rule,
                description,
            } = first;
            let more = match violations.len() - 1 {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            fault.message = format!("field {field} {description}{more}; correct the request");
            fault = fault
                .with_metadata("field", field)
                .with_metadata("rule", rule);
        }
        fault.violations = violations;
        fault
    }

    /// Writes the fault as a `google.rpc.Status`, for the `grpc-status-details-bin` trailer.
    #[must_use]
    pub fn to_status(&self) -> Vec<u8> {
        let info = status::ErrorInfo {
            reason: self.reason.to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: self.metadata.clone(),
        };
        let mut details = vec![any("ErrorInfo", &info)];
        if !self.violations.is_empty() {
            let field_violations = self.violations.iter().map(status_violation).collect();
            details.push(any("BadRequest", &status::BadRequest { field_violations }));
        }
        if let Some(millis) = self.retry_after {
            let retry_delay = Some(time::span(millis));
            details.push(any("RetryInfo", &status::RetryInfo { retry_delay }));
        }
        let message = self.message.clone();
        status::Status {
            code: self.code as i32,
            message,
            details,
        }
        .encode_to_vec()
    }

    /// Writes the fault as the contract's message, for a reply inside an Exchange.
    pub(crate) fn to_contract(&self) -> contract::Fault {
        contract::Fault {
            code: self.code as i32,
            message: self.message.clone(),
            reason: self.reason.to_owned(),
            metadata: self.metadata.clone(),
            violations: self.violations.iter().map(contract_violation).collect(),
            retry_after: self.retry_after.map(time::span),
        }
    }
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: message.encode_to_vec(),
    }
}

fn status_violation(violation: &Violation) -> status::FieldViolation {
    status::FieldViolation {
        field: violation.field.clone(),
        description: violation.description.clone(),
        // The status wants a reason in UPPER_SNAKE_CASE: `int64.gte` is told as INT64_GTE.
        reason: violation.rule.replace('.', "_").to_uppercase(),
    }
}

fn contract_violation(violation: &Violation) -> contract::FieldViolation {
    contract::FieldViolation {
        field: violation.field.clone(),
        rule: violation.rule.to_owned(),
        description: violation.description.clone(),
    }
}
