//! Owns the proof that no field of a response is forgotten: answers with everything in them fill
//! every field that the contract declares.

mod support;

use lastunit_engine::{
    Answer, AttemptState, AttemptView, Audit, AvailabilityView, Counters, Event, EventBody,
    Finding, Level, Line, Oldest, Outcome, PoolAudit, PoolView, ReleaseReason, Reply,
    ReservationPage, ReservationView, SalePolicy, SaleState, SaleView, State, Taken, TakenView,
};
use lastunit_wire::{
    Durability, Method, Place, Query, Request, Transition, contract as messages, decode,
    encode_audit, encode_availabilities, encode_clock, encode_reply, encode_reservation,
    encode_reservations, encode_transitions,
};
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use support::{contract, declared};

const PLACE: Place = Place {
    as_of_sequence: 42,
    durable_sequence: 43,
    op_number: 44,
    epoch: 2,
    durability: Durability::Written,
};

/// Lists the fields that are not set, by path; a list is looked at in its first item.
fn unset(message: &DynamicMessage, path: &str, found: &mut Vec<String>) {
    for field in message.descriptor().fields() {
        let path = format!("{path}{}", field.name());
        if !message.has_field(&field) {
            found.push(path);
            continue;
        }
        let value = message.get_field(&field).into_owned();
        let inner = match &value {
            Value::List(list) => list.first().cloned(),
            other => Some(other.clone()),
        };
        let is_ours =
            |inner: &DynamicMessage| inner.descriptor().package_name() == "lastunit.stock.v1";
        match inner {
            Some(Value::Message(inner)) if is_ours(&inner) => {
                unset(&inner, &format!("{path}."), found);
            }
            _ => {}
        }
    }
}

/// Decodes a response and lists the fields that are not set.
fn unset_of(method: Method, bytes: &[u8]) -> Vec<String> {
    let output = declared(&contract(), method).output();
    let message = DynamicMessage::decode(output, bytes).expect("own bytes");
    let mut found = Vec::new();
    unset(&message, "", &mut found);
    found
}

fn counters() -> Counters {
    Counters {
        supplied: 1,
        withdrawn: 2,
        written_off: 3,
        available: 4,
        buffer: 5,
        held: 6,
        paying: 7,
        overdue: 8,
        sold: 9,
        quarantine: 10,
    }
}

fn reservation() -> ReservationView {
    ReservationView {
        reservation_id: "r-1".into(),
        sale_id: "s-1".into(),
        person_id: "p-1".into(),
        merged_person_id: "p-2".into(),
        state: State::Refunded,
        release_reason: Some(ReleaseReason::Unverified),
        lines: vec![Line {
            sku: "sku-1".into(),
            pool: Some("pool-1".into()),
            units: 2,
        }],
        taken: vec![TakenView {
            line_index: 1,
            sku: "sku-1".into(),
            pool: "pool-1".into(),
            units: 2,
            returned_units: 1,
        }],
        attempts: vec![AttemptView {
            attempt_id: "r-1:1".into(),
            provider: Some("sandbox".into()),
            amount_minor: Some(100),
            currency: Some("EUR".into()),
            state: AttemptState::Refunded,
            is_unregistered: true,
            begun_at: 1_001,
        }],
        created_at: 1_000,
        expires_at: 2_000,
        settle_by: Some(3_000),
        max_life_at: 4_000,
        release_requested: true,
        retaken: true,
        created_sequence: 7,
    }
}

fn reply(answer: Answer) -> Reply {
    Reply {
        outcome: Outcome::SoldOut,
        replayed: true,
        conflict_field: Some("units".into()),
        state: Some(State::Held),
        sku: Some("sku-1".into()),
        level: Some(Level::Gone),
        level_epoch: 3,
        come_back_at: Some(5_000),
        limit: Some("units_per_person_max".into()),
        sequence: 41,
        answer,
    }
}

#[test]
fn replies_to_commands_fill_every_field() {
    let sale = SaleView {
        sale_id: "s-1".into(),
        opens_at: None,
        closes_at: None,
        policy: SalePolicy::default(),
        revision: 2,
        state: SaleState::Paused,
    };
    let taken = Taken {
        line_index: 1,
        sku: "sku-1".into(),
        pool: "pool-1".into(),
        units: 2,
        is_from_buffer: true,
    };
    let settled = Answer::PaymentSettled {
        attempt_state: AttemptState::Applied,
        ignored: true,
        retaken: true,
        refund_due: true,
        unregistered_attempt: true,
        expires_at: Some(2_000),
    };
    let reserved = Answer::Reserved {
        expires_at: 2_000,
        taken: vec![taken],
    };
    let begun = Answer::PaymentBegun {
        settle_by: 3_000,
        retaken: true,
        attempt_count: 2,
    };
    let answers = [
        (Method::Reserve, reserved, vec!["taken.returned_units"]),
        (Method::BeginPayment, begun, vec![]),
        (Method::SettlePayment, settled, vec![]),
        (Method::Confirm, Answer::None, vec![]),
        (
            Method::Release,
            Answer::Released {
                release_requested: true,
            },
            vec![],
        ),
        (
            Method::Extend,
            Answer::Extended { expires_at: 2_000 },
            vec![],
        ),
        (
            Method::Return,
            Answer::Returned { returned_units: 2 },
            vec![],
        ),
        (Method::RecordRefund, Answer::None, vec![]),
        (Method::PutSale, Answer::Sale(sale.clone()), vec![]),
        (Method::SetSaleState, Answer::Sale(sale), vec![]),
        (Method::PutPool, Answer::None, vec![]),
    ];

    for (method, answer, expected) in answers {
        let bytes = encode_reply(method, &reply(answer), &PLACE);

        assert_eq!(expected, unset_of(method, &bytes), "{method:?}");
    }
}

#[test]
fn a_reservation_fills_every_field() {
    let bytes = encode_reservation(Some(&reservation()), &PLACE);

    // Only what a refusal or a retake has in it stays unset.
    let expected = [
        "place.sequence",
        "result.replayed",
        "result.conflict_field",
        "result.sku",
        "result.level",
        "result.level_epoch",
        "result.come_back_time",
        "result.limit",
        "reservation.taken.is_from_buffer",
    ];
    assert_eq!(expected.to_vec(), unset_of(Method::GetReservation, &bytes));
}

#[test]
fn a_page_token_continues_where_its_page_ended() {
    let page = ReservationPage {
        reservations: vec![reservation()],
        next_after: Some(u64::MAX),
    };
    let bytes = encode_reservations(Some(&page), &PLACE);
    let response = messages::ListReservationsResponse::decode(bytes.as_slice()).expect("own bytes");
    let request = messages::ListReservationsRequest {
        sale_id: "s-1".to_owned(),
        page_size: 1,
        page_token: response.next_page_token,
        ..Default::default()
    };

    let next = decode(Method::ListReservations, &request.encode_to_vec(), "caller");

    let Ok(Request::Query(Query::ListReservations { after, .. })) = next else {
        panic!("{next:?}")
    };
    assert_eq!(u64::MAX, after);
    assert_eq!(1, response.reservations.len());
}

#[test]
fn availabilities_fill_every_field() {
    let view = AvailabilityView {
        sale_id: "s-1".into(),
        sku: "sku-1".into(),
        level: Level::HeldOut,
        level_epoch: 2,
        counters: counters(),
        pools: vec![PoolView {
            pool: "pool-1".into(),
            position: 3,
            labels: vec![("tier".into(), "a".into())],
            is_offered: true,
            counters: counters(),
        }],
        earliest_expire_at: Some(2_000),
        changed_sequence: 40,
    };
    let bytes = encode_availabilities(Outcome::Ok, "", &[view], &PLACE);

    let found = unset_of(Method::GetAvailability, &bytes);

    let found: Vec<_> = found
        .iter()
        .filter(|path| path.starts_with("availabilities"))
        .collect();
    assert_eq!(Vec::<&String>::new(), found);
}

#[test]
fn an_audit_fills_every_field_when_something_does_not_hold() {
    let mut audit = Audit {
        findings: vec![Finding {
            invariant: "conservation",
            subject: "s-1/sku-1/pool-1".into(),
            detail: "1 is not 2".to_owned(),
        }],
        pools: vec![PoolAudit {
            sale_id: "s-1".into(),
            sku: "sku-1".into(),
            pool: "pool-1".into(),
            counters: counters(),
            forgotten_sold_units: 3,
            leaked_units: 4,
        }],
        reservation_counts: vec![(State::Held, 0), (State::Paying, 4)],
        oldest: vec![Oldest {
            state: State::Held,
            reservation_id: "r-1".into(),
            created_at: 1_000,
            due_at: Some(2_000),
        }],
        late_held_count: 2,
        as_of_sequence: 42,
    };
    let read =
        |bytes: Vec<u8>| messages::AuditResponse::decode(bytes.as_slice()).expect("own bytes");
    let broken = encode_audit(&audit, &PLACE);
    audit.findings.clear();

    let found = unset_of(Method::Audit, &broken);
    let found: Vec<_> = found.iter().filter(|path| !path.contains('.')).collect();
    assert_eq!(vec!["holds"], found);
    assert_eq!(1, read(broken).reservation_counts.len());
    assert!(read(encode_audit(&audit, &PLACE)).holds);
}

#[test]
fn a_transition_names_its_cause_and_actor() {
    let event = |request_id: &str, actor: &str, body| Event {
        sequence: 9,
        time: 1_000,
        request_id: request_id.into(),
        caller: "shop".into(),
        actor: actor.into(),
        reason: "because".into(),
        sale_id: "s-1".into(),
        reservation_id: "r-1".into(),
        body,
    };
    let released = EventBody::Released {
        release_reason: ReleaseReason::Expired,
    };
    let cases = [
        (event("q-1", "ann", EventBody::Confirmed), "q-1", "ann"),
        (event("q-1", "", EventBody::Confirmed), "q-1", "shop"),
        (event("", "", released), "timer", "shop"),
    ];
    for (event, cause, actor) in cases {
        let name = event.body.name();
        let (state_from, state_to) = (Some(State::Held), Some(State::Confirmed));
        let transition = Transition {
            event,
            state_from,
            state_to,
        };
        let bytes = encode_transitions(Some(&[transition]), &PLACE);
        let response = messages::ExplainReservationResponse::decode(bytes.as_slice());
        let transitions = response.expect("own bytes").transitions;

        assert_eq!(
            (cause, actor),
            (transitions[0].cause.as_str(), transitions[0].actor.as_str())
        );
        assert_eq!(name, transitions[0].event);
        let unset = unset_of(Method::ExplainReservation, &bytes);
        assert!(
            !unset.iter().any(|path| path.starts_with("transitions")),
            "{unset:?}"
        );
    }
}

#[test]
fn what_is_not_there_is_an_outcome() {
    let outcome = |bytes: &[u8]| {
        let response = messages::GetReservationResponse::decode(bytes).expect("the common part");
        response.result.expect("a result").outcome()
    };

    assert_eq!(
        messages::Outcome::UnknownReservation,
        outcome(&encode_reservation(None, &PLACE))
    );
    assert_eq!(
        messages::Outcome::UnknownSale,
        outcome(&encode_reservations(None, &PLACE))
    );
    assert_eq!(
        messages::Outcome::UnknownReservation,
        outcome(&encode_transitions(None, &PLACE))
    );
    let unknown = encode_availabilities(Outcome::UnknownSku, "sku-9", &[], &PLACE);
    assert_eq!(messages::Outcome::UnknownSku, outcome(&unknown));
}

#[test]
fn the_clocks_answer_names_the_last_event_of_its_timers() {
    let bytes = encode_clock(17, &PLACE);
    let response = messages::SetClockResponse::decode(bytes.as_slice()).expect("own bytes");

    assert_eq!(17, response.place.expect("a place").sequence);
}
