//! What a call gets back, and the ways it can get there.
//!
//! Owns: the form of an answer and its delivery. Must not: know what is in it. Where next:
//! `waiters.rs`.

use std::sync::Arc;

use lastunit_wire::Fault;

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// gRPC status code; 0 is OK.
    pub code: i32,
    /// With 0 the serialized response, else a serialized `google.rpc.Status`.
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn ok(body: Vec<u8>) -> Self {
        Self { code: 0, body }
    }

    pub(crate) fn fault(fault: &Fault) -> Self {
        Self {
            code: fault.code as i32,
            body: fault.to_status(),
        }
    }
}

/// Takes many answers at once, such as all that one flush made durable.
pub trait AnswerPort: Send + Sync {
    /// Takes the answers, each with the ticket of its call. Must not block and must not panic.
    fn deliver(&self, answers: Vec<(u64, Answer)>);
}

/// Where an answer goes. Each is used exactly once.
pub enum Completion {
    /// To a port, with the ticket that the caller chose.
    Port(Arc<dyn AnswerPort>, u64),
    /// To a function, called on a thread of the node; it must not block.
    Call(Box<dyn FnOnce(Answer) + Send>),
}

/// Answers of one port, each with its ticket.
type PortAnswers = (Arc<dyn AnswerPort>, Vec<(u64, Answer)>);

/// Answers gathered by port, so that a port is told once.
#[derive(Default)]
pub(crate) struct Deliveries {
    ports: Vec<PortAnswers>,
}

impl Deliveries {
    pub(crate) fn add(&mut self, completion: Completion, answer: Answer) {
        match completion {
            Completion::Call(call) => call(answer),
            Completion::Port(port, ticket) => {
                // A node has a handful of ports, one for each event loop.
                let known = self.ports.iter_mut().find(|it| Arc::ptr_eq(&it.0, &port));
                match known {
                    Some((_, answers)) => answers.push((ticket, answer)),
                    None => self.ports.push((port, vec![(ticket, answer)])),
                }
            }
        }
    }

    pub(crate) fn send(self) {
        for (port, answers) in self.ports {
            port.deliver(answers);
        }
    }

    pub(crate) fn send_one(completion: Completion, answer: Answer) {
        let mut deliveries = Self::default();
        deliveries.add(completion, answer);
        deliveries.send();
    }
}
