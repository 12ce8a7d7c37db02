//! Owns the encoding of the engine's replies to commands.
//!
//! Must not change an answer: it adds the place that the node knows. Next: `view.rs`.

use lastunit_engine::{Answer, Counters, Reply, Sequence, Taken};
use prost::Message;

use crate::{Method, contract, enums, time};

/// What an event has survived when it is reported as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Flushed with fdatasync.
    Flushed,
    /// Handed to the operating system.
    Written,
    /// In memory only.
    Memory,
}

/// Where a reply stands in the ledger's history; `sequence` comes from the reply itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The last event whose effect the reply shows.
    pub as_of_sequence: Sequence,
    /// The last event known to be durable when the reply leaves.
    pub durable_sequence: Sequence,
    /// The position in the order of decisions, reads and refusals included; from 1.
    pub op_number: i64,
    /// Rises at each opening of the journal; from 1.
    pub epoch: i64,
    /// How far towards the disk `durable_sequence` goes.
    pub durability: Durability,
}

impl Place {
    pub(crate) fn with_sequence(&self, sequence: Sequence) -> contract::Place {
        let durability = match self.durability {
            Durability::Flushed => contract::Durability::Flushed,
            Durability::Written => contract::Durability::Written,
            Durability::Memory => contract::Durability::Memory,
        };
        contract::Place {
            sequence,
            as_of_sequence: self.as_of_sequence,
            durable_sequence: self.durable_sequence,
            op_number: self.op_number,
            epoch: self.epoch,
            durability: durability.into(),
        }
    }
}

/// Encodes the response of a command's method.
///
/// `method` is the one that the command came by; a method that is no command's gives the common
/// part of every response, place and result.
#[must_use]
pub fn encode_reply(method: Method, reply: &Reply, place: &Place) -> Vec<u8> {
    let place = Some(place.with_sequence(reply.sequence));
    let result = Some(result(reply));
    match method {
        Method::Reserve => reserve(place, result, &reply.answer),
        Method::BeginPayment => begin_payment(place, result, &reply.answer),
        Method::SettlePayment => settle_payment(place, result, &reply.answer),
        Method::Release => {
            let release_requested = match reply.answer {
                Answer::Released { release_requested } => release_requested,
                _ => false,
            };
            contract::ReleaseResponse {
                place,
                result,
                release_requested,
            }
            .encode_to_vec()
        }
        Method::Extend => {
            let expire_time = match reply.answer {
                Answer::Extended { expires_at } => Some(time::instant(expires_at)),
                _ => None,
            };
            contract::ExtendResponse {
                place,
                result,
                expire_time,
            }
            .encode_to_vec()
        }
        Method::Return => {
            let returned_units = match reply.answer {
                Answer::Returned { returned_units } => returned_units,
                _ => 0,
            };
            contract::ReturnResponse {
                place,
                result,
                returned_units,
            }
            .encode_to_vec()
        }
        Method::PutSale => put_sale(place, result, &reply.answer),
        Method::SetSaleState => set_sale_state(place, result, &reply.answer),
        // Place and result are fields 1 and 2 of every response; the rest have no others, and a
        // test holds them to that.
        _ => contract::ConfirmResponse { place, result }.encode_to_vec(),
    }
}

fn reserve(
    place: Option<contract::Place>,
    result: Option<contract::Result>,
    answer: &Answer,
) -> Vec<u8> {
    let mut response = contract::ReserveResponse {
        place,
        result,
        ..Default::default()
    };
    if let Answer::Reserved { expires_at, taken } = answer {
        response.expire_time = Some(time::instant(*expires_at));
        response.taken = taken.iter().map(taken_to_proto).collect();
    }
    response.encode_to_vec()
}

fn begin_payment(
    place: Option<contract::Place>,
    result: Option<contract::Result>,
    answer: &Answer,
) -> Vec<u8> {
    let mut response = contract::BeginPaymentResponse {
        place,
        result,
        ..Default::default()
    };
    if let Answer::PaymentBegun {
        settle_by,
        retaken,
        attempt_count,
    } = *answer
    {
        response.settle_by_time = Some(time::instant(settle_by));
        response.retaken = retaken;
        response.attempt_count = number(attempt_count);
    }
    response.encode_to_vec()
}

fn settle_payment(
    place: Option<contract::Place>,
    result: Option<contract::Result>,
    answer: &Answer,
) -> Vec<u8> {
    let mut response = contract::SettlePaymentResponse {
        place,
        result,
        ..Default::default()
    };
    if let Answer::PaymentSettled {
        attempt_state,
        ignored,
        retaken,
        refund_due,
        unregistered_attempt,
        expires_at,
    } = *answer
    {
        response.attempt_state = enums::attempt_state_number(attempt_state);
        response.ignored = ignored;
        response.retaken = retaken;
        response.refund_due = refund_due;
        response.unregistered_attempt = unregistered_attempt;
        response.expire_time = expires_at.map(time::instant);
    }
    response.encode_to_vec()
}

fn put_sale(
    place: Option<contract::Place>,
    result: Option<contract::Result>,
    answer: &Answer,
) -> Vec<u8> {
    let mut response = contract::PutSaleResponse {
        place,
        result,
        ..Default::default()
    };
    if let Answer::Sale(sale) = answer {
        response.revision = sale.revision;
        response.sale_state = enums::sale_state_number(sale.state);
    }
    if let Answer::SaleRefused { state } = answer {
        response.sale_state = enums::sale_state_number(*state);
    }
    response.encode_to_vec()
}

fn set_sale_state(
    place: Option<contract::Place>,
    result: Option<contract::Result>,
    answer: &Answer,
) -> Vec<u8> {
    let mut response = contract::SetSaleStateResponse {
        place,
        result,
        ..Default::default()
    };
    response.sale_state = match answer {
        Answer::Sale(sale) => enums::sale_state_number(sale.state),
        Answer::SaleRefused { state } => enums::sale_state_number(*state),
        _ => 0,
    };
    response.encode_to_vec()
}

fn result(reply: &Reply) -> contract::Result {
    let text = |text: &Option<lastunit_engine::Text>| {
        text.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    contract::Result {
        outcome: enums::outcome_number(reply.outcome),
        replayed: reply.replayed,
        conflict_field: text(&reply.conflict_field),
        state: reply.state.map(enums::state_number).unwrap_or_default(),
        sku: text(&reply.sku),
        level: reply.level.map(enums::level_number).unwrap_or_default(),
        level_epoch: reply.level_epoch,
        come_back_time: reply.come_back_at.map(time::instant),
        limit: text(&reply.limit),
    }
}

/// Makes the contract's form of units taken.
pub(crate) fn taken_to_proto(taken: &Taken) -> contract::Taken {
    contract::Taken {
        line_index: number(taken.line_index),
        sku: taken.sku.to_string(),
        pool: taken.pool.to_string(),
        units: taken.units,
        returned_units: 0,
        is_from_buffer: taken.is_from_buffer,
    }
}

/// Makes the contract's form of a pool's counters.
pub(crate) fn counters_to_proto(counters: &Counters) -> contract::Counters {
    contract::Counters {
        supplied: counters.supplied,
        withdrawn: counters.withdrawn,
        written_off: counters.written_off,
        available: counters.available,
        buffer: counters.buffer,
        held: counters.held,
        paying: counters.paying,
        overdue: counters.overdue,
        sold: counters.sold,
        quarantine: counters.quarantine,
    }
}

/// The engine's small counts are all far below 2^31.
pub(crate) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
