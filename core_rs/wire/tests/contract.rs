//! Owns the proof that the lists kept in code equal the declaration: methods, lanes, fields of
//! replies, the order of outcomes.

mod support;

use std::collections::BTreeSet;

use lastunit_engine::{Answer, Outcome, Reply};
use lastunit_wire::{Code, Durability, Fault, Lane, Method, Place, Replies, encode_reply};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use support::{contract, declared};

const PLACE: Place = Place {
    as_of_sequence: 42,
    durable_sequence: 43,
    op_number: 44,
    epoch: 2,
    durability: Durability::Memory,
};

fn refusal(outcome: Outcome) -> Reply {
    Reply {
        outcome,
        replayed: false,
        conflict_field: None,
        state: None,
        sku: None,
        level: None,
        level_epoch: 0,
        come_back_at: None,
        limit: None,
        sequence: 0,
        answer: Answer::None,
    }
}

#[test]
fn the_methods_are_those_of_the_contract() {
    let pool = contract();
    let services = pool
        .services()
        .filter(|service| service.package_name() == "lastunit.stock.v1");
    let declared: BTreeSet<_> = services
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            let methods = service.methods().collect::<Vec<_>>().into_iter();
            methods.map(move |method| {
                let is_streaming = method.is_client_streaming() || method.is_server_streaming();
                (format!("/{name}/{}", method.name()), is_streaming)
            })
        })
        .collect();
    let kept = Method::ALL
        .iter()
        .map(|method| (method.path().to_owned(), method.is_streaming()));

    assert_eq!(declared, kept.collect());
}

#[test]
fn a_method_is_found_by_its_path_with_or_without_the_slash() {
    for &method in Method::ALL {
        assert_eq!(Some(method), Method::from_path(method.path()));
        assert_eq!(Some(method), Method::from_path(&method.path()[1..]));
        assert!(method.path().ends_with(method.name()));
    }
    for path in [
        "",
        "/",
        "Reserve",
        "//lastunit.stock.v1.StockService/Reserve",
        "a/b/c",
    ] {
        assert_eq!(None, Method::from_path(path), "{path}");
    }
}

#[test]
fn each_lane_is_the_one_that_the_comment_of_its_method_names() {
    let words = |lane: Option<Lane>| match lane {
        Some(lane) => format!("Lane: {}.", lane.name()),
        None => "Lane: of each operation.".to_owned(),
    };
    let pool = contract();

    for &method in Method::ALL {
        let service = declared(&pool, method).parent_service().clone();
        let file = service.parent_file().file_descriptor_proto().clone();
        let locations = file
            .source_code_info
            .expect("the build keeps comments")
            .location;
        let comment = |path: &[i32]| {
            let found = locations.iter().find(|location| location.path == path);
            let text = found.and_then(|location| location.leading_comments.clone());
            text.unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let service_at = service
            .parent_file()
            .services()
            .position(|found| found == service);
        let service_at = i32::try_from(service_at.expect("declared")).expect("small");
        let method_at = service
            .methods()
            .position(|found| found.name() == method.name());
        let method_at = i32::try_from(method_at.expect("declared")).expect("small");
        let of_service = comment(&[6, service_at]);
        let of_method = comment(&[6, service_at, 2, method_at]);
        // A service whose methods share a lane says so once.
        let said = format!("{of_service} {of_method}");

        assert!(said.contains(&words(method.lane())), "{method:?}: {said}");
    }
}

#[test]
fn outcomes_keep_the_order_of_the_contract() {
    let pool = contract();
    let declared = pool
        .get_enum_by_name("lastunit.stock.v1.Outcome")
        .expect("declared");
    let declared = declared
        .values()
        .skip(1)
        .map(|value| value.name().to_owned());
    let kept = Outcome::ALL
        .iter()
        .map(|outcome| format!("OUTCOME_{}", outcome.name()));

    assert_eq!(declared.collect::<Vec<_>>(), kept.collect::<Vec<_>>());
}

#[test]
fn a_refusal_is_told_in_place_and_result_of_every_commands_response() {
    let pool = contract();
    for &method in Method::ALL.iter().filter(|method| method.is_mutating()) {
        if matches!(method, Method::Exchange | Method::SetClock) {
            continue;
        }
        let output = declared(&pool, method).output();
        let bytes = encode_reply(method, &refusal(Outcome::WrongState), &PLACE);

        let read = DynamicMessage::decode(output, bytes.as_slice()).expect("own bytes");

        let names: Vec<_> = read
            .fields()
            .map(|(field, _)| field.name().to_owned())
            .collect();
        assert_eq!(["place", "result"].to_vec(), names, "{method:?}");
        assert_eq!(0, read.unknown_fields().count());
    }
}

#[test]
fn responses_written_without_fields_of_their_own_have_none() {
    let pool = contract();
    let plain = [
        Method::Confirm,
        Method::RecordRefund,
        Method::PutPool,
        Method::SupplyStock,
        Method::WithdrawStock,
        Method::AdjustStock,
        Method::MoveStock,
        Method::PourBuffer,
        Method::ReleaseUnverified,
        Method::MergePersons,
        Method::SplitPersons,
        Method::SetExpiryBrake,
    ];
    for method in plain {
        let output = declared(&pool, method).output();
        let names: Vec<_> = output
            .fields()
            .map(|field| field.name().to_owned())
            .collect();

        assert_eq!(["place", "result"].to_vec(), names, "{method:?}");
    }
}

#[test]
fn get_and_watch_availability_have_the_same_fields() {
    let pool = contract();
    let fields = |method| {
        let fields = declared(&pool, method)
            .output()
            .fields()
            .collect::<Vec<_>>();
        fields
            .into_iter()
            .map(|field| {
                (
                    field.number(),
                    field.name().to_owned(),
                    format!("{:?}", field.kind()),
                )
            })
            .collect::<Vec<_>>()
    };

    assert_eq!(
        fields(Method::GetAvailability),
        fields(Method::WatchAvailability)
    );
}

#[test]
fn each_reply_of_a_batch_stands_in_the_field_of_its_method() {
    let pool = contract();
    let operation = pool
        .get_message_by_name("lastunit.stock.v1.Operation")
        .expect("declared");
    let response = declared(&pool, Method::Exchange).output();

    for field in operation.fields() {
        let kind = field.kind();
        let request = kind.as_message().expect("an operation holds a request");
        let methods = Method::ALL.iter().copied();
        let method = methods
            .clone()
            .find(|method| declared(&pool, *method).input() == *request);
        let method = method.expect("an operation calls a method");
        let refusal = refusal(Outcome::Conflict);
        let bytes = encode_reply(method, &refusal, &PLACE);
        let mut batch = Replies::new(5, 2);
        batch.add_encoded(method, &bytes);
        batch.add_reply(method, &refusal, &PLACE);

        let batch = batch.into_bytes();
        let read = DynamicMessage::decode(response.clone(), batch.as_slice()).expect("own bytes");

        let replies = read.get_field_by_name("replies").expect("declared");
        let replies = replies.as_list().expect("a list");
        assert_eq!(2, replies.len());
        for reply in replies {
            let reply = reply.as_message().expect("a reply");
            let answer = reply
                .get_field_by_name(field.name())
                .expect("the same name as the operation");
            let answer = answer.as_message().expect("a response");
            assert_eq!(declared(&pool, method).output().full_name(), {
                use prost_reflect::ReflectMessage;
                answer.descriptor().full_name().to_owned()
            });
            assert_eq!(bytes, answer.encode_to_vec());
        }
    }
}

#[test]
fn a_method_that_is_no_operation_is_answered_as_a_fault() {
    let pool = contract();
    let mut batch = Replies::new(1, 1);
    batch.add_encoded(Method::Audit, &[]);
    let batch = batch.into_bytes();
    let response = declared(&pool, Method::Exchange).output();
    let read = DynamicMessage::decode(response, batch.as_slice()).expect("own bytes");
    let replies = read
        .get_field_by_name("replies")
        .expect("declared")
        .into_owned();
    let reply = replies.as_list().expect("a list")[0]
        .as_message()
        .expect("a reply")
        .clone();
    let fault = reply
        .get_field_by_name("fault")
        .expect("declared")
        .into_owned();
    let reason = fault
        .as_message()
        .expect("a fault")
        .get_field_by_name("reason");

    assert_eq!(
        Some(Value::String("NOT_AN_OPERATION".into())),
        reason.map(std::borrow::Cow::into_owned)
    );
}

#[test]
fn a_faults_wait_is_never_negative() {
    let fault = Fault::new(Code::Unavailable, "DRAINING", "the node stops; try another");

    assert_eq!(Some(0), fault.with_retry_after(-5).retry_after);
}
