//! Owns the proof that every declared rule is enforced: each field of each request at its limits
//! and one past them, driven by the declaration, so that a new field cannot go untested.

mod support;

use lastunit_wire::{Code, Fault, Method, Request, decode};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use support::{contract, declared, probes, valid};

/// Decodes and says which field broke which rule, in order; none if the request was taken.
fn broken(method: Method, message: &DynamicMessage) -> Vec<(String, &'static str)> {
    match decode(method, &message.encode_to_vec(), "caller") {
        Ok(_) => Vec::new(),
        Err(fault) => {
            assert_eq!(Code::InvalidArgument, fault.code);
            assert_eq!("INVALID_FIELD", fault.reason);
            let violations = fault.violations.into_iter();
            violations
                .map(|violation| (violation.field, violation.rule))
                .collect()
        }
    }
}

#[test]
fn each_field_is_taken_at_its_limits_and_refused_one_past_them() {
    let pool = contract();
    let mut probe_count = 0;

    for &method in Method::ALL {
        let input = declared(&pool, method).input();
        let base = valid(&pool, &input);
        assert_eq!(
            Vec::<(String, &str)>::new(),
            broken(method, &base),
            "{method:?}"
        );
        for field in input.fields() {
            for probe in probes(&pool, &field) {
                let mut message = base.clone();
                message.set_field(&field, probe.value);
                let expected = probe
                    .breaks
                    .map(|(path, rule)| (format!("{}{path}", field.name()), rule));
                // A page token has a form of its own beyond the declared rule.
                if field.name() == "page_token" && expected.is_none() {
                    continue;
                }
                let expected: Vec<_> = expected.into_iter().collect();

                assert_eq!(
                    expected,
                    broken(method, &message),
                    "{method:?} {field:?} {message:?}"
                );
                probe_count += 1;
            }
        }
    }
    assert!(probe_count > 500, "only {probe_count} probes");
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    let pool = contract();
    let required = [
        (Method::Extend, "extension"),
        (Method::SetClock, "now_time"),
    ];

    for (method, name) in required {
        let mut message = valid(&pool, &declared(&pool, method).input());
        message.clear_field_by_name(name);

        assert_eq!(
            vec![(name.to_owned(), "required")],
            broken(method, &message)
        );
    }
}

#[test]
fn every_request_field_but_truth_values_has_a_rule() {
    let pool = contract();

    for &method in Method::ALL {
        for field in declared(&pool, method).input().fields() {
            let is_message_of_ours = field
                .kind()
                .as_message()
                .is_some_and(|message| message.package_name() == "lastunit.stock.v1");
            let is_free = field.kind() == prost_reflect::Kind::Bool || is_message_of_ours;

            assert!(
                is_free || !support::rules(&pool, &field).is_empty(),
                "{field:?}"
            );
        }
    }
}

#[test]
fn an_operation_of_a_batch_breaks_the_same_rules_as_its_call() {
    let pool = contract();
    let operation = pool
        .get_message_by_name("lastunit.stock.v1.Operation")
        .expect("declared");
    let exchange = declared(&pool, Method::Exchange).input();

    for field in operation.fields() {
        let kind = field.kind();
        let request = kind.as_message().expect("an operation holds a request");
        let method = *Method::ALL
            .iter()
            .find(|method| declared(&pool, **method).input() == *request)
            .expect("an operation calls a method");
        let mut call = valid(&pool, request);
        let first = request.fields().next().expect("a request has fields");
        call.set_field(&first, Value::String("not an id".to_owned()));
        let mut bad = DynamicMessage::new(operation.clone());
        bad.set_field(&field, Value::Message(call.clone()));
        let mut good = DynamicMessage::new(operation.clone());
        good.set_field(&field, Value::Message(valid(&pool, request)));
        let empty = DynamicMessage::new(operation.clone());
        let mut message = DynamicMessage::new(exchange.clone());
        let operations = [bad, good, empty].map(Value::Message).to_vec();
        message.set_field_by_name("exchange_id", Value::I64(7));
        message.set_field_by_name("operations", Value::List(operations));

        let batch = match decode(Method::Exchange, &message.encode_to_vec(), "caller") {
            Ok(Request::Batch(batch)) => batch,
            other => panic!("{other:?}"),
        };
        let unary: Fault = decode(method, &call.encode_to_vec(), "caller").expect_err("bad");

        assert_eq!(7, batch.exchange_id);
        assert_eq!(Err(unary), batch.operations[0].clone().map(|_| ()));
        let second = batch.operations[1].as_ref().expect("a valid operation");
        assert_eq!(method, second.method);
        let third = batch.operations[2]
            .as_ref()
            .expect_err("an empty operation");
        assert_eq!("request", third.violations[0].field);
        assert_eq!("required", third.violations[0].rule);
    }
}

#[test]
fn violations_are_bounded() {
    let pool = contract();
    let input = declared(&pool, Method::GetAvailability).input();
    let mut message = valid(&pool, &input);
    let skus = vec![Value::String("not an id".to_owned()); 256];
    message.set_field_by_name("skus", Value::List(skus));

    assert_eq!(
        lastunit_wire::VIOLATION_COUNT_MAX,
        broken(Method::GetAvailability, &message).len()
    );
}

#[test]
fn a_page_token_that_no_page_gave_is_refused() {
    let pool = contract();
    let input = declared(&pool, Method::ListReservations).input();

    for token in ["1.", "1.x", "2.5", "5", "1.-1", "1.99999999999999999999"] {
        let mut message = valid(&pool, &input);
        message.set_field_by_name("page_token", Value::String(token.to_owned()));

        let expected = vec![("page_token".to_owned(), "page_token")];
        assert_eq!(
            expected,
            broken(Method::ListReservations, &message),
            "{token}"
        );
    }
}

#[test]
fn a_message_past_the_limit_of_the_transport_is_refused() {
    let bytes = vec![0; lastunit_wire::MESSAGE_BYTES_MAX + 1];

    let fault = decode(Method::Reserve, &bytes, "caller").expect_err("too large");

    assert_eq!(
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (fault.code, fault.reason)
    );
}

#[test]
fn the_engine_takes_at_its_own_door_what_the_contract_takes() {
    use lastunit_engine::{Ledger, Outcome};

    // Refusals of the ledger's rules, which relate two fields or two states.
    let own = [
        "closes_time",
        "target_pool",
        "target_person_id",
        "person_ids",
    ];
    let pool = contract();
    let mut decision_count = 0;

    for &method in Method::ALL.iter().filter(|method| method.is_mutating()) {
        let input = declared(&pool, method).input();
        for field in input.fields() {
            for probe in probes(&pool, &field) {
                let mut message = valid(&pool, &input);
                message.set_field(&field, probe.value);
                let request = decode(method, &message.encode_to_vec(), "caller");
                let Ok(Request::Command(command)) = request else {
                    continue;
                };

                let reply = Ledger::new().decide(&command, 1).reply;

                let limit = reply.limit.unwrap_or_default();
                let is_fine = reply.outcome != Outcome::NotAllowed || own.contains(&limit.as_str());
                assert!(is_fine, "{method:?} {}: {limit}", field.name());
                decision_count += 1;
            }
        }
    }
    assert!(decision_count > 200, "only {decision_count} decisions");
}
