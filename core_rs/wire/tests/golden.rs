//! Owns the proof that both languages mean the same by the same bytes: `golden.txt` holds what
//! Python wrote, and `tests/unit/contract` reads from it what is written here.

use std::collections::BTreeMap;

use lastunit_engine::{
    self as engine, Action, Answer, Command, Disposition, Level, Outcome, PaymentResult,
    ReleaseReason, Reply, ReservationFilter, SalePolicy, SaleState, State, Taken,
};
use lastunit_wire::{
    Code, Durability, Fault, Method, Place, Query, Replies, Request, Violation, decode,
    encode_reply,
};

const OPENS: i64 = 1_700_000_000_250;
const CLOSES: i64 = 1_700_000_600_000;

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    let rows = include_str!("golden.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| {
        let (name, text) = line.split_once(' ').expect("a row has two columns");
        let pairs = text.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| {
            let digits = std::str::from_utf8(pair).expect("hexadecimal");
            u8::from_str_radix(digits, 16).expect("hexadecimal")
        });
        (name, bytes.collect())
    });
    rows.collect()
}

fn of_caller(request_id: &str, action: Action) -> Request {
    Request::Command(Command::from_caller(request_id, "shop", action))
}

fn of_operator(action: Action) -> Request {
    Request::Command(Command {
        request_id: "q-1".into(),
        caller: "shop".into(),
        actor: "ann".into(),
        reason: "because".into(),
        action,
    })
}

fn stock_commands() -> Vec<(Method, Request)> {
    let line = |sku: &str, pool: Option<&str>, units| engine::Line {
        sku: sku.into(),
        pool: pool.map(Into::into),
        units,
    };
    let reserve = Action::Reserve(engine::Reserve {
        reservation_id: "r-1".into(),
        sale_id: "s-1".into(),
        person_id: "person-with-a-name-longer-than-23-bytes".into(),
        lines: vec![
            line("sku-1", None, 2),
            line("sku-2", Some("p-1"), 1_000_000),
        ],
        ttl: Some(90_500),
        not_after: Some(OPENS),
    });
    let begin = Action::BeginPayment(engine::BeginPayment {
        reservation_id: "r-1".into(),
        attempt_id: "r-1:1".into(),
        provider: Some("sandbox".into()),
        amount_minor: Some(0),
        currency: Some("EUR".into()),
    });
    let settle = Action::SettlePayment(engine::SettlePayment {
        reservation_id: "r-1".into(),
        attempt_id: "r-1:1".into(),
        payment_result: PaymentResult::Failed,
        occurred_at: Some(OPENS),
        evidence: "événement 7".into(),
    });
    let release = Action::Release {
        reservation_id: "r-1".into(),
        release_reason: ReleaseReason::Operator,
    };
    let refund = Action::RecordRefund {
        reservation_id: "r-1".into(),
        attempt_id: "r-1:1".into(),
        evidence: "e-1".into(),
    };
    let confirm = Action::Confirm {
        reservation_id: "r-1".into(),
    };
    let extend = Action::Extend {
        reservation_id: "r-1".into(),
        extension: 1,
    };
    vec![
        (Method::Reserve, of_caller("", reserve)),
        (Method::BeginPayment, of_caller("", begin)),
        (Method::SettlePayment, of_caller("q-1", settle)),
        (Method::Confirm, of_caller("q-1", confirm)),
        (Method::Release, of_caller("q-1", release)),
        (Method::Extend, of_caller("q-1", extend)),
        (Method::Return, of_caller("q-1", return_action())),
        (Method::RecordRefund, of_caller("q-1", refund)),
    ]
}

fn return_action() -> Action {
    Action::Return(engine::Return {
        reservation_id: "r-1".into(),
        sku: "sku-1".into(),
        pool: None,
        units: 3,
        disposition: Disposition::Quarantine,
        give_limit_back: Some(false),
    })
}

fn put_sale() -> Action {
    Action::PutSale(engine::PutSale {
        sale_id: "s-1".into(),
        opens_at: Some(OPENS),
        closes_at: Some(CLOSES),
        policy: SalePolicy {
            retry_grace: 0,
            units_per_person_max: 5,
            unpaid_reservations_per_person_max: 0,
            low_level_percent: 0,
            is_unverified_release_allowed: true,
            ..SalePolicy::default()
        },
        expected_revision: Some(0),
    })
}

fn put_pool() -> Action {
    Action::PutPool(engine::PutPool {
        sale_id: "s-1".into(),
        sku: "sku-1".into(),
        pool: "p-1".into(),
        position: 7,
        labels: vec![("city".into(), "Köln".into()), ("tier".into(), "b".into())],
        is_offered: true,
    })
}

fn admin_commands() -> Vec<(Method, Request)> {
    let change = |units, is_buffer| engine::StockChange {
        sale_id: "s-1".into(),
        sku: "sku-1".into(),
        pool: "p-1".into(),
        units,
        is_buffer,
    };
    let (sale_id, sku, pool) = ("s-1", "sku-1", "p-1");
    let adjust = Action::AdjustStock {
        sale_id: sale_id.into(),
        sku: sku.into(),
        pool: pool.into(),
        expected_available: 0,
        available: 1_000_000_000_000,
    };
    let move_stock = Action::MoveStock {
        sale_id: sale_id.into(),
        sku: sku.into(),
        source_pool: pool.into(),
        target_pool: "p-2".into(),
        units: 6,
    };
    let pour = Action::PourBuffer {
        sale_id: sale_id.into(),
        sku: sku.into(),
        pool: pool.into(),
        units: 8,
    };
    let set_state = Action::SetSaleState {
        sale_id: sale_id.into(),
        state: SaleState::Paused,
    };
    let merge = Action::MergePersons {
        source_person_id: "x".into(),
        target_person_id: "y".into(),
    };
    let split = Action::SplitPersons {
        person_ids: vec!["y".into(), "x".into()],
    };
    let unverified = Action::ReleaseUnverified {
        reservation_id: "r-1".into(),
    };
    let brake = Action::SetExpiryBrake {
        is_on: true,
        until: Some(CLOSES),
    };
    vec![
        (Method::PutSale, of_operator(put_sale())),
        (Method::SetSaleState, of_operator(set_state)),
        (Method::PutPool, of_operator(put_pool())),
        (
            Method::SupplyStock,
            of_operator(Action::SupplyStock(change(2_000, false))),
        ),
        (
            Method::WithdrawStock,
            of_operator(Action::WithdrawStock(change(5, true))),
        ),
        (Method::AdjustStock, of_operator(adjust)),
        (Method::MoveStock, of_operator(move_stock)),
        (Method::PourBuffer, of_operator(pour)),
        (Method::ReleaseUnverified, of_operator(unverified)),
        (Method::MergePersons, of_operator(merge)),
        (Method::SplitPersons, of_operator(split)),
        (Method::SetExpiryBrake, of_operator(brake)),
    ]
}

fn queries() -> Vec<(Method, Request)> {
    let filter = ReservationFilter {
        sale_id: "s-1".into(),
        person_id: None,
        state: Some(State::Overdue),
    };
    let list = Query::ListReservations {
        filter,
        after: 77,
        page_size: 1_000,
    };
    let get = Query::GetAvailability {
        sale_id: "s-1".into(),
        skus: vec!["sku-2".into(), "sku-1".into()],
    };
    let watch = Query::WatchAvailability {
        sale_id: "s-1".into(),
        skus: Vec::new(),
        after_sequence: 9,
    };
    let read = Query::ReadEvents {
        after_sequence: 12,
        follow: true,
        page_size: 4_096,
        reader_id: "".into(),
    };
    let reservation_id = || "r-1".into();
    vec![
        (
            Method::GetReservation,
            Request::Query(Query::GetReservation {
                reservation_id: reservation_id(),
            }),
        ),
        (Method::ListReservations, Request::Query(list)),
        (Method::GetAvailability, Request::Query(get)),
        (Method::WatchAvailability, Request::Query(watch)),
        (Method::Audit, Request::Query(Query::Audit)),
        (
            Method::ExplainReservation,
            Request::Query(Query::ExplainReservation {
                reservation_id: reservation_id(),
            }),
        ),
        (Method::ReadEvents, Request::Query(read)),
        (Method::SetClock, Request::SetClock { now: CLOSES }),
    ]
}

#[test]
fn requests_written_by_python_are_read_field_by_field() {
    let golden = golden();
    let cases = [stock_commands(), admin_commands(), queries()].concat();
    // Exchange has a test of its own.
    assert_eq!(Method::ALL.len() - 1, cases.len());

    for (method, expected) in cases {
        assert_eq!(
            Ok(expected),
            decode(method, &golden[method.name()], "shop"),
            "{method:?}"
        );
    }
}

#[test]
fn a_batch_written_by_python_is_read_operation_by_operation() {
    let request = decode(Method::Exchange, &golden()["Exchange"], "shop");
    let Ok(Request::Batch(batch)) = request else {
        panic!("{request:?}")
    };

    assert_eq!((-3, 3), (batch.exchange_id, batch.operations.len()));
    let first = batch.operations[0].as_ref().expect("a valid operation");
    assert_eq!(
        (Method::Return, &of_caller("q-1", return_action())),
        (first.method, &first.request)
    );
    let second = batch.operations[1].as_ref().expect_err("a bad id");
    assert_eq!("request_id", second.violations[0].field);
    let third = batch.operations[2].as_ref().expect_err("no request");
    assert_eq!("request", third.violations[0].field);
}

#[test]
fn fields_that_the_contract_does_not_know_are_ignored() {
    // Field 1000 as a number, field 1001 as bytes, and in an enum a number nobody has declared.
    let unknown = [0xc0, 0x3e, 0x07, 0xca, 0x3e, 0x02, 0xff, 0x00];
    for (method, expected) in [stock_commands(), admin_commands(), queries()].concat() {
        let mut bytes = golden()[method.name()].clone();
        bytes.extend(unknown);

        assert_eq!(Ok(expected), decode(method, &bytes, "shop"), "{method:?}");
    }
}

fn place() -> Place {
    Place {
        as_of_sequence: 42,
        durable_sequence: 43,
        op_number: 44,
        epoch: 2,
        durability: Durability::Flushed,
    }
}

fn reserved() -> Reply {
    Reply {
        outcome: Outcome::Ok,
        replayed: true,
        conflict_field: None,
        state: Some(State::Held),
        sku: None,
        level: None,
        level_epoch: 0,
        come_back_at: None,
        limit: None,
        sequence: 41,
        answer: Answer::Reserved {
            expires_at: CLOSES,
            taken: vec![Taken {
                line_index: 1,
                sku: "sku-2".into(),
                pool: "p-1".into(),
                units: 4,
                is_from_buffer: false,
            }],
        },
    }
}

#[test]
fn replies_are_written_as_python_would() {
    let golden = golden();
    let refused = Reply {
        outcome: Outcome::SoldOut,
        replayed: false,
        state: None,
        sku: Some("sku-1".into()),
        level: Some(Level::HeldOut),
        level_epoch: 3,
        come_back_at: Some(OPENS),
        answer: Answer::None,
        ..reserved()
    };
    let reply = encode_reply(Method::Reserve, &reserved(), &place());
    let full = Fault::new(
        Code::ResourceExhausted,
        "LANE_FULL",
        "the reservation lane is full; come back later",
    );
    let full = full
        .with_metadata("lane", &"reservation")
        .with_retry_after(1_500);
    let mut replies = Replies::new(-3, 2);
    replies.add_reply(Method::Reserve, &reserved(), &place());
    replies.add_fault(&full);

    assert_eq!(golden["reply.Reserve"], reply);
    assert_eq!(
        golden["reply.Refused"],
        encode_reply(Method::Reserve, &refused, &place())
    );
    assert_eq!(golden["reply.Exchange"], replies.into_bytes());
}

#[test]
fn a_fault_is_written_as_the_status_that_python_reads() {
    let mut fault = Fault::new(Code::InvalidArgument, "INVALID_FIELD", "a field is wrong")
        .with_metadata("field", &"units")
        .with_retry_after(1_500);
    fault.violations.push(Violation {
        field: "units".to_owned(),
        rule: "int64.gte",
        description: "must be at least 1".to_owned(),
    });
    let written = fault.to_status();
    let text: String = written
        .iter()
        .flat_map(|byte| {
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).expect("a digit"))
        })
        .collect();

    assert_eq!(golden()["status"], written, "status {text}");
}
