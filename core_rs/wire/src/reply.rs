//! Owns the encoding of the engine's replies to commands.
//!
//! Must not change an answer: it adds the place that the node knows. Next: `view.rs`.

use lastunit_engine::{Answer, Counters, Reply, Sequence, Taken, Text};
use prost::Message;

use crate::event_out::write_taken;
use crate::{Method, contract, enums, time, writer};

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
    fn durability_number(&self) -> i32 {
        let durability = match self.durability {
            Durability::Flushed => contract::Durability::Flushed,
            Durability::Written => contract::Durability::Written,
            Durability::Memory => contract::Durability::Memory,
        };
        durability.into()
    }

    pub(crate) fn with_sequence(&self, sequence: Sequence) -> contract::Place {
        contract::Place {
            sequence,
            as_of_sequence: self.as_of_sequence,
            durable_sequence: self.durable_sequence,
            op_number: self.op_number,
            epoch: self.epoch,
            durability: self.durability_number(),
        }
    }

    fn write(&self, out: &mut Vec<u8>, sequence: Sequence) {
        writer::number(out, 1, sequence);
        writer::number(out, 2, self.as_of_sequence);
        writer::number(out, 3, self.durable_sequence);
        writer::number(out, 4, self.op_number);
        writer::number(out, 5, self.epoch);
        writer::number(out, 6, self.durability_number().into());
    }
}

/// Room for one response, so that the usual one never grows.
pub(crate) const REPLY_BYTES_TYPICAL: usize = 96;

/// Encodes the response of a command's method.
///
/// `method` is the one that the command came by; a method that is no command's gives the common
/// part of every response, place and result.
#[must_use]
pub fn encode_reply(method: Method, reply: &Reply, place: &Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(REPLY_BYTES_TYPICAL);
    write_reply(&mut out, method, reply, place);
    out
}

/// Like [`encode_reply`], at the end of a buffer that the caller keeps.
pub(crate) fn write_reply(out: &mut Vec<u8>, method: Method, reply: &Reply, place: &Place) {
    // Place and result are fields 1 and 2 of every response, a test holds them to that; so what a
    // method has of its own is written after them.
    writer::message(out, 1, |out| place.write(out, reply.sequence));
    writer::message(out, 2, |out| write_result(out, reply));
    let answer = &reply.answer;
    match method {
        Method::Reserve => write_reserved(out, answer),
        Method::BeginPayment => own(out, &begin_payment(answer)),
        Method::SettlePayment => own(out, &settle_payment(answer)),
        Method::Release => {
            if let Answer::Released { release_requested } = *answer {
                let response = contract::ReleaseResponse {
                    release_requested,
                    ..Default::default()
                };
                own(out, &response);
            }
        }
        Method::Extend => {
            if let Answer::Extended { expires_at } = *answer {
                writer::instant(out, 3, expires_at);
            }
        }
        Method::Return => {
            if let Answer::Returned { returned_units } = *answer {
                writer::number(out, 3, returned_units);
            }
        }
        Method::PutSale => own(out, &put_sale(answer)),
        Method::SetSaleState => own(out, &set_sale_state(answer)),
        _ => {}
    }
}

/// Writes a response that has neither place nor result, behind those.
fn own(out: &mut Vec<u8>, response: &impl Message) {
    // Writing to a vector fails only when memory ends, which aborts the process anyway.
    let _ = response.encode(out);
}

fn write_reserved(out: &mut Vec<u8>, answer: &Answer) {
    if let Answer::Reserved { expires_at, taken } = answer {
        writer::instant(out, 3, *expires_at);
        for taken in taken {
            writer::message(out, 4, |out| write_taken(out, taken));
        }
    }
}

fn begin_payment(answer: &Answer) -> contract::BeginPaymentResponse {
    let mut response = contract::BeginPaymentResponse::default();
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
    response
}

fn settle_payment(answer: &Answer) -> contract::SettlePaymentResponse {
    let mut response = contract::SettlePaymentResponse::default();
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
    response
}

fn put_sale(answer: &Answer) -> contract::PutSaleResponse {
    let mut response = contract::PutSaleResponse::default();
    if let Answer::Sale(sale) = answer {
        response.revision = sale.revision;
        response.sale_state = enums::sale_state_number(sale.state);
    }
    if let Answer::SaleRefused { state } = answer {
        response.sale_state = enums::sale_state_number(*state);
    }
    response
}

fn set_sale_state(answer: &Answer) -> contract::SetSaleStateResponse {
    let sale_state = match answer {
        Answer::Sale(sale) => enums::sale_state_number(sale.state),
        Answer::SaleRefused { state } => enums::sale_state_number(*state),
        _ => 0,
    };
    contract::SetSaleStateResponse {
        sale_state,
        ..Default::default()
    }
}

fn or_none(text: Option<&Text>) -> &str {
    text.map_or("", Text::as_str)
}

fn write_result(out: &mut Vec<u8>, reply: &Reply) {
    writer::number(out, 1, enums::outcome_number(reply.outcome).into());
    writer::truth(out, 2, reply.replayed);
    writer::text(out, 3, or_none(reply.conflict_field.as_ref()));
    let state = reply.state.map(enums::state_number);
    writer::number(out, 4, state.unwrap_or_default().into());
    writer::text(out, 5, or_none(reply.sku.as_ref()));
    let level = reply.level.map(enums::level_number);
    writer::number(out, 6, level.unwrap_or_default().into());
    writer::number(out, 7, reply.level_epoch);
    if let Some(come_back_at) = reply.come_back_at {
        writer::instant(out, 8, come_back_at);
    }
    writer::text(out, 9, or_none(reply.limit.as_ref()));
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
