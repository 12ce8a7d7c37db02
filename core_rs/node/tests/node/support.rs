//! The rig: a node with a sale, and calls in the words of the contract.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lastunit_journal::Storage;
use lastunit_node::{
    Answer, AnswerPort, CallInput, ClockKind, Completion, Listener, Node, NodeSettings,
};
use lastunit_wire::{Method, contract};
use prost::Message;

pub(crate) const SALE: &str = "sale-1";
pub(crate) const SKU: &str = "sku-1";
pub(crate) const POOL: &str = "pool-1";

/// How long a test waits for what must come; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings with a manual clock at 1,000,000 ms.
pub(crate) fn settings(directory: &Path) -> NodeSettings {
    let mut settings = NodeSettings::new(directory.to_owned());
    settings.clock = ClockKind::Manual;
    settings.manual_start = 1_000_000;
    settings.segment_bytes = 1 << 20;
    settings.kept_back_bytes = 0;
    settings
}

/// A node on a disk of the test's own, with a manual clock.
pub(crate) fn open_on(storage: Arc<dyn Storage>) -> Arc<Node> {
    Node::open_on(settings(Path::new("")), storage).expect("opens")
}

/// A call's context that a test may change.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) name: &'static str,
    pub(crate) listener: Listener,
    pub(crate) seen_sequence: i64,
    pub(crate) seen_epoch: i64,
    pub(crate) deadline: Option<Instant>,
}

pub(crate) const TESTER: Caller = Caller {
    name: "tester",
    listener: Listener::Data,
    seen_sequence: 0,
    seen_epoch: 0,
    deadline: None,
};

impl Caller {
    fn input<'a>(&self, method: Method, request: &'a [u8]) -> CallInput<'a> {
        CallInput {
            method: method.path(),
            request,
            caller: self.name,
            deadline: self.deadline,
            seen_sequence: self.seen_sequence,
            seen_epoch: self.seen_epoch,
            listener: self.listener,
        }
    }

    /// Calls and waits; gives the answer as it is.
    pub(crate) fn call(&self, node: &Node, method: Method, request: &impl Message) -> Answer {
        let bytes = request.encode_to_vec();
        let mut input = self.input(method, &bytes);
        input.deadline = input.deadline.or(Some(Instant::now() + PATIENCE));
        node.call(&input)
    }

    /// Calls and does not wait; the answer goes to the box.
    pub(crate) fn submit(
        &self,
        node: &Node,
        method: Method,
        request: &impl Message,
        answers: &Arc<Answers>,
        ticket: u64,
    ) {
        let bytes = request.encode_to_vec();
        let port: Arc<dyn AnswerPort> = Arc::clone(answers) as Arc<dyn AnswerPort>;
        let input = self.input(method, &bytes);
        if let Some(answer) = node.submit(&input, Completion::Port(port, ticket)) {
            answers.deliver(vec![(ticket, answer)]);
        }
    }
}

/// Calls as the tester and decodes the response.
pub(crate) fn ask<R: Message + Default>(node: &Node, method: Method, request: &impl Message) -> R {
    decode(&TESTER.call(node, method, request))
}

pub(crate) fn decode<R: Message + Default>(answer: &Answer) -> R {
    assert_eq!(0, answer.code, "{}", reason(answer));
    R::decode(answer.body.as_slice()).expect("is the response")
}

/// Says which reason a fault has; empty for an answer that is none.
pub(crate) fn reason(answer: &Answer) -> String {
    if answer.code == 0 {
        return String::new();
    }
    let status = Status::decode(answer.body.as_slice()).expect("is a status");
    let info = status.details.first().expect("has details");
    ErrorInfo::decode(info.value.as_slice())
        .expect("is an info")
        .reason
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

/// Answers that came through a port, with the number of deliveries.
#[derive(Default)]
pub(crate) struct Answers {
    answers: Mutex<Vec<(u64, Answer)>>,
    deliveries: Mutex<usize>,
}

impl AnswerPort for Answers {
    fn deliver(&self, answers: Vec<(u64, Answer)>) {
        *self.deliveries.lock().unwrap() += 1;
        self.answers.lock().unwrap().extend(answers);
    }
}

impl Answers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    pub(crate) fn delivery_count(&self) -> usize {
        *self.deliveries.lock().unwrap()
    }

    /// Waits until there are `count` answers and takes them all.
    pub(crate) fn take(&self, count: usize) -> Vec<(u64, Answer)> {
        wait_until("the answers came", || self.len() >= count);
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

/// Waits for something that must come; fails after [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < end, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn instant(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis / 1_000,
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap(),
    }
}

/// Makes an open sale of one sku in one pool.
pub(crate) fn put_sale(node: &Node, units: i64) {
    let put = put_sale_request(0);
    let _: contract::PutSaleResponse = ask(node, Method::PutSale, &put);
    put_pool(node);
    supply(node, "supply", units);
}

pub(crate) fn put_pool(node: &Node) {
    let pool = contract::PutPoolRequest {
        request_id: "put-pool".into(),
        actor: "tester".into(),
        reason: "test".into(),
        sale_id: SALE.into(),
        sku: SKU.into(),
        pool: POOL.into(),
        is_offered: true,
        ..Default::default()
    };
    let _: contract::PutPoolResponse = ask(node, Method::PutPool, &pool);
}

pub(crate) fn put_sale_request(opens: i64) -> contract::PutSaleRequest {
    contract::PutSaleRequest {
        request_id: "put-sale".into(),
        actor: "tester".into(),
        reason: "test".into(),
        sale_id: SALE.into(),
        opens_time: Some(instant(opens)),
        ..Default::default()
    }
}

pub(crate) fn supply(node: &Node, request_id: &str, units: i64) {
    let supply = contract::SupplyStockRequest {
        request_id: request_id.into(),
        actor: "tester".into(),
        reason: "test".into(),
        sale_id: SALE.into(),
        sku: SKU.into(),
        pool: POOL.into(),
        units,
        ..Default::default()
    };
    let _: contract::SupplyStockResponse = ask(node, Method::SupplyStock, &supply);
}

pub(crate) fn reserve(reservation_id: &str) -> contract::ReserveRequest {
    contract::ReserveRequest {
        reservation_id: reservation_id.into(),
        sale_id: SALE.into(),
        person_id: format!("person-{reservation_id}"),
        lines: vec![contract::Line {
            sku: SKU.into(),
            pool: String::new(),
            units: 1,
        }],
        ..Default::default()
    }
}

pub(crate) fn reserve_operation(reservation_id: &str) -> contract::Operation {
    contract::Operation {
        request: Some(contract::operation::Request::Reserve(reserve(
            reservation_id,
        ))),
    }
}

pub(crate) fn begin_payment(reservation_id: &str) -> contract::BeginPaymentRequest {
    contract::BeginPaymentRequest {
        reservation_id: reservation_id.into(),
        attempt_id: format!("{reservation_id}:1"),
        ..Default::default()
    }
}

pub(crate) fn settle(reservation_id: &str) -> contract::SettlePaymentRequest {
    contract::SettlePaymentRequest {
        request_id: format!("settle-{reservation_id}"),
        reservation_id: reservation_id.into(),
        attempt_id: format!("{reservation_id}:1"),
        payment_result: contract::PaymentResult::Succeeded.into(),
        ..Default::default()
    }
}

pub(crate) fn set_clock(now: i64) -> contract::SetClockRequest {
    contract::SetClockRequest {
        now_time: Some(instant(now)),
    }
}

/// Reserves and gives the outcome.
pub(crate) fn reserve_now(node: &Node, reservation_id: &str) -> contract::ReserveResponse {
    ask(node, Method::Reserve, &reserve(reservation_id))
}

pub(crate) fn outcome(result: Option<&contract::Result>) -> contract::Outcome {
    result.expect("every response has a result").outcome()
}

pub(crate) fn state_of(node: &Node, reservation_id: &str) -> contract::State {
    let request = contract::GetReservationRequest {
        reservation_id: reservation_id.into(),
    };
    let found: contract::GetReservationResponse = ask(node, Method::GetReservation, &request);
    found
        .reservation
        .map_or(contract::State::Unspecified, |it| it.state())
}

pub(crate) fn available(node: &Node) -> i64 {
    counters(node).available
}

pub(crate) fn counters(node: &Node) -> contract::Counters {
    let request = contract::GetAvailabilityRequest {
        sale_id: SALE.into(),
        skus: vec![SKU.into()],
    };
    let found: contract::GetAvailabilityResponse = ask(node, Method::GetAvailability, &request);
    found.availabilities[0].counters.expect("always set")
}

/// The audit must hold; gives the counts by state.
pub(crate) fn audit(node: &Node) -> contract::AuditResponse {
    let audit: contract::AuditResponse = ask(node, Method::Audit, &contract::AuditRequest {});
    assert!(audit.holds, "{:?}", audit.findings);
    audit
}
