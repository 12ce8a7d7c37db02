//! What an answer must say, byte by byte, once the decision behind it was judged.
//!
//! Owns: the comparison of response bodies and places. Must not: judge a decision; `judge.rs` does.
//! Where next: `server.rs`, which knows what was decided.

use lastunit_engine::{AvailabilityView, Outcome, Reply, ReservationView, Sequence};
use lastunit_node::Answer;
use lastunit_wire::{Durability, Method, Place, contract};
use prost::Message as _;

use crate::judge::Violation;
use crate::server::{Server, Told};

/// A reply in a batch, with the state it shows and its number.
pub(crate) type Decided = (Method, Reply, Sequence, i64);

/// The body that an answer should have.
pub(crate) enum Body {
    Command(Method, Box<Reply>),
    /// None where an operation was a fault by itself.
    Batch(Vec<Option<Decided>>),
    Reservation(Option<Box<ReservationView>>),
    Availability(Option<Vec<AvailabilityView>>),
    Free,
}

impl Body {
    /// Whether an answer says more than what was known to be durable before. A call that was in
    /// line when the disk failed still tells faults, refusals, and what was done long ago.
    pub(crate) fn is_new(&self) -> bool {
        let is_new = |reply: &Reply| reply.outcome == Outcome::Ok && !reply.replayed;
        match self {
            Self::Batch(replies) => replies.iter().flatten().any(|it| is_new(&it.1)),
            // A question; whether it shows what was lost is seen at the next opening.
            Self::Free => false,
            _ => true,
        }
    }
}

impl Server {
    pub(crate) fn check_place(
        &self,
        answer: &Answer,
        as_of: Sequence,
        op_number: i64,
    ) -> Result<Place, Violation> {
        let found = place_of(answer).ok_or_else(|| Violation::new("place", "there is none"))?;
        let place = Place {
            as_of_sequence: found.as_of_sequence,
            durable_sequence: found.durable_sequence,
            op_number: found.op_number,
            epoch: found.epoch,
            durability: Durability::Flushed,
        };
        let is_durable = (as_of..=self.book.sequence).contains(&found.durable_sequence);
        let expected = (as_of, op_number, self.epoch);
        if !is_durable || (found.as_of_sequence, found.op_number, found.epoch) != expected {
            let detail = format!("{found:?}, expected as of, number, epoch {expected:?}");
            return Err(Violation::new("place", detail));
        }
        Ok(place)
    }

    pub(crate) fn check_batch(
        &self,
        answer: &Answer,
        expected: Vec<Option<Decided>>,
    ) -> Result<Told, Violation> {
        let response = contract::ExchangeResponse::decode(answer.body.as_slice());
        let response = response.map_err(|error| Violation::new("reply", error.to_string()))?;
        if response.replies.len() != expected.len() {
            return Err(Violation::new(
                "reply",
                "a batch has another number of replies",
            ));
        }
        let mut replies = Vec::new();
        for (reply, expected) in response.replies.iter().zip(expected) {
            let Some((method, expected, as_of, op_number)) = expected else {
                if !matches!(reply.response, Some(contract::reply::Response::Fault(_))) {
                    return Err(Violation::new(
                        "reply",
                        format!("{reply:?} was never decided"),
                    ));
                }
                replies.push(None);
                continue;
            };
            let own = Answer {
                code: 0,
                body: inner_bytes(reply),
            };
            let place = self.check_place(&own, as_of, op_number)?;
            check_body(
                &own,
                &Body::Command(method, Box::new(expected.clone())),
                &place,
            )?;
            replies.push(Some(expected));
        }
        Ok(Told::Replies(replies))
    }
}

pub(crate) fn told_of(body: Body) -> Told {
    match body {
        Body::Command(_, reply) => Told::Replies(vec![Some(*reply)]),
        Body::Reservation(view) => Told::Reservation(view),
        _ => Told::Nothing,
    }
}

pub(crate) fn check_body(answer: &Answer, body: &Body, place: &Place) -> Result<(), Violation> {
    let expected = match body {
        Body::Command(method, reply) => lastunit_wire::encode_reply(*method, reply, place),
        Body::Reservation(view) => lastunit_wire::encode_reservation(view.as_deref(), place),
        Body::Availability(Some(list)) => {
            lastunit_wire::encode_availabilities(lastunit_engine::Outcome::Ok, "", list, place)
        }
        Body::Availability(None) => lastunit_wire::encode_availabilities(
            lastunit_engine::Outcome::UnknownSale,
            "",
            &[],
            place,
        ),
        Body::Batch(_) | Body::Free => return Ok(()),
    };
    if answer.body != expected {
        let text = |bytes: &[u8]| format!("{:?}", contract::ReserveResponse::decode(bytes));
        let detail = format!(
            "bytes read as {}, expected {}",
            text(&answer.body),
            text(&expected)
        );
        return Err(Violation::new("reply", detail));
    }
    Ok(())
}

fn inner_bytes(reply: &contract::Reply) -> Vec<u8> {
    use contract::reply::Response;
    match &reply.response {
        Some(Response::Reserve(it)) => it.encode_to_vec(),
        Some(Response::BeginPayment(it)) => it.encode_to_vec(),
        Some(Response::SettlePayment(it)) => it.encode_to_vec(),
        Some(Response::Confirm(it)) => it.encode_to_vec(),
        Some(Response::Release(it)) => it.encode_to_vec(),
        Some(Response::Extend(it)) => it.encode_to_vec(),
        Some(Response::ReturnUnits(it)) => it.encode_to_vec(),
        Some(Response::RecordRefund(it)) => it.encode_to_vec(),
        _ => Vec::new(),
    }
}

/// Place is field 1 of every response.
pub(crate) fn place_of(answer: &Answer) -> Option<contract::Place> {
    contract::ConfirmResponse::decode(answer.body.as_slice())
        .ok()?
        .place
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

pub(crate) fn reason_of(answer: &Answer) -> String {
    let status = Status::decode(answer.body.as_slice()).unwrap_or_default();
    let info = status
        .details
        .first()
        .map(|it| ErrorInfo::decode(it.value.as_slice()));
    info.and_then(Result::ok).unwrap_or_default().reason
}
