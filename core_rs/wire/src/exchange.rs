//! Owns the batch: many operations in one message, each decoded and answered by itself.
//!
//! Must not let one bad operation hinder another: the batch is taken apart as bytes first.
//! Next: `decode.rs`.

use bytes::Bytes;
use prost::Message;

use crate::check;
use crate::checks::EXCHANGE_REQUEST_OPERATIONS;
use crate::contract::operation;
use crate::decode::{Request, check_and_convert};
use crate::fault::Fault;
use crate::{Method, contract};

/// A batch of operations, to be decided in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The caller's mark, to be repeated in the response.
    pub exchange_id: i64,
    /// One operation each, or what is wrong with it; 1 to 4,096.
    pub operations: Vec<Result<Operation, Fault>>,
}

/// One call of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which method it calls; never a streaming one.
    pub method: Method,
    /// Its request: a command or a query.
    pub request: Request,
}

/// `ExchangeRequest` with its operations left as bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct RawRequest {
    #[prost(int64, tag = "1")]
    exchange_id: i64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    operations: Vec<Bytes>,
}

/// Takes a batch apart and decodes each operation by itself.
pub(crate) fn decode(bytes: &[u8], caller: &str) -> Result<Batch, Fault> {
    // One copy of the message; the operations are slices of it.
    let raw = RawRequest::decode(Bytes::copy_from_slice(bytes))
        .map_err(|error| Fault::malformed(&error))?;
    check::check_length(
        "operations",
        raw.operations.len(),
        EXCHANGE_REQUEST_OPERATIONS,
    )
    .map_err(Fault::invalid)?;
    let operations = raw.operations.into_iter();
    Ok(Batch {
        exchange_id: raw.exchange_id,
        operations: operations
            .map(|bytes| decode_operation(bytes, caller))
            .collect(),
    })
}

fn decode_operation(bytes: Bytes, caller: &str) -> Result<Operation, Fault> {
    use operation::Request as Call;

    let operation = contract::Operation::decode(bytes).map_err(|error| Fault::malformed(&error))?;
    let Some(call) = operation.request else {
        // Also an operation that a newer contract knows: its field is ignored, nothing is left.
        return Err(missing_request());
    };
    let (method, request) = match call {
        Call::Reserve(call) => (Method::Reserve, check_and_convert(call, caller)),
        Call::BeginPayment(call) => (Method::BeginPayment, check_and_convert(call, caller)),
        Call::SettlePayment(call) => (Method::SettlePayment, check_and_convert(call, caller)),
        Call::Confirm(call) => (Method::Confirm, check_and_convert(call, caller)),
        Call::Release(call) => (Method::Release, check_and_convert(call, caller)),
        Call::Extend(call) => (Method::Extend, check_and_convert(call, caller)),
        Call::ReturnUnits(call) => (Method::Return, check_and_convert(call, caller)),
        Call::RecordRefund(call) => (Method::RecordRefund, check_and_convert(call, caller)),
        Call::GetReservation(call) => (Method::GetReservation, check_and_convert(call, caller)),
        Call::GetAvailability(call) => (Method::GetAvailability, check_and_convert(call, caller)),
    };
    request.map(|request| Operation { method, request })
}

fn missing_request() -> Fault {
    match check::check(&contract::Operation::default()) {
        Err(violations) => Fault::invalid(violations),
        Ok(()) => Fault::invalid(Vec::new()),
    }
}

/// The field of `Reply` that answers a method; none if no operation calls it.
const fn reply_field(method: Method) -> Option<u8> {
    match method {
        Method::Reserve => Some(1),
        Method::BeginPayment => Some(2),
        Method::SettlePayment => Some(3),
        Method::Confirm => Some(4),
        Method::Release => Some(5),
        Method::Extend => Some(6),
        Method::Return => Some(7),
        Method::RecordRefund => Some(8),
        Method::GetReservation => Some(9),
        Method::GetAvailability => Some(10),
        _ => None,
    }
}

/// The field of `Reply` that says what was wrong.
const FAULT_FIELD: u8 = 15;

/// Encodes a response: one reply for each operation of the batch, in its order.
///
/// Each reply is a method with its encoded response, as [`crate::encode_reply`] and the other
/// encoders give it, or a fault. A method that no operation calls is answered as a fault.
#[must_use]
pub fn encode_exchange(exchange_id: i64, replies: &[Result<(Method, Vec<u8>), Fault>]) -> Vec<u8> {
    let head = contract::ExchangeResponse {
        exchange_id,
        replies: Vec::new(),
    };
    let mut response = head.encode_to_vec();
    let mut reply = Vec::new();
    for answer in replies {
        reply.clear();
        match answer {
            Ok((method, bytes)) => match reply_field(*method) {
                Some(field) => put(&mut reply, field, bytes),
                None => put(&mut reply, FAULT_FIELD, &not_an_operation(*method)),
            },
            Err(fault) => put(
                &mut reply,
                FAULT_FIELD,
                &fault.to_contract().encode_to_vec(),
            ),
        }
        put(&mut response, 2, &reply);
    }
    response
}

fn not_an_operation(method: Method) -> Vec<u8> {
    let message = format!(
        "{} is not an operation of a batch; call it by itself",
        method.name()
    );
    let fault = Fault::new(crate::Code::Unimplemented, "NOT_AN_OPERATION", message);
    fault
        .with_metadata("method", &method.name())
        .to_contract()
        .encode_to_vec()
}

/// Appends a length-delimited field; `field` is at most 15, so that its key is one byte.
pub(crate) fn put(buffer: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    const LENGTH_DELIMITED: u8 = 2;
    buffer.push((field << 3) | LENGTH_DELIMITED);
    // Writing to a vector fails only when memory ends, which aborts the process anyway.
    let _ = prost::encode_length_delimiter(bytes.len(), buffer);
    buffer.extend_from_slice(bytes);
}
