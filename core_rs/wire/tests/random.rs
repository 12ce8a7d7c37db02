//! Owns the proof that no bytes make the door or the journal's reader panic.

#[path = "support/random.rs"]
mod random;
mod support;

use lastunit_wire::{Code, JournalExtent, Method, decode, decode_record, encode_record_events};
use prost::Message;
use random::Random;
use support::{contract, declared, valid};

const EXTENT: JournalExtent = JournalExtent {
    first_sequence: 1,
    durable_sequence: 1,
    epoch: 1,
};

fn assert_harmless(method: Method, bytes: &[u8]) {
    if let Err(fault) = decode(method, bytes, "caller") {
        assert_eq!(Code::InvalidArgument, fault.code);
        assert!(!fault.message.is_empty() && !fault.to_status().is_empty());
        assert_eq!(
            fault.reason == "INVALID_FIELD",
            !fault.violations.is_empty()
        );
    }
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    random.list(200, |random| random.next().to_le_bytes()[0])
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::from_environment();
    for _ in 0..2_000 {
        let bytes = random_bytes(&mut random);
        for &method in Method::ALL {
            assert_harmless(method, &bytes);
        }
        let _ = decode_record(&bytes);
        let _ = encode_record_events([bytes.as_slice()], 0, EXTENT);
    }
}

#[test]
fn changed_bytes_of_a_valid_request_never_panic() {
    let pool = contract();
    let mut random = Random::from_environment();
    for &method in Method::ALL {
        let whole = valid(&pool, &declared(&pool, method).input()).encode_to_vec();
        if whole.is_empty() {
            continue;
        }
        for _ in 0..500 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(bytes.len() as u64)).expect("an index");
                bytes[at] = random.next().to_le_bytes()[0];
            }
            let length = random.below(bytes.len() as u64 + 1);
            bytes.truncate(usize::try_from(length).expect("a length"));
            assert_harmless(method, &bytes);
        }
    }
}

#[test]
fn deep_nesting_is_refused_without_a_panic() {
    // Groups inside groups, in a field that no request has.
    let bytes = vec![0xfb; 100_000];
    for &method in Method::ALL {
        assert_harmless(method, &bytes);
    }
}

#[test]
fn numbers_at_the_ends_of_their_type_never_panic() {
    let pool = contract();
    for &method in Method::ALL {
        let input = declared(&pool, method).input();
        for field in input.fields() {
            for number in [i64::MIN, -1, 0, i64::MAX] {
                let mut message = valid(&pool, &input);
                let value = match field.kind() {
                    prost_reflect::Kind::Int64 => prost_reflect::Value::I64(number),
                    prost_reflect::Kind::Int32 => {
                        let clamped = number.clamp(i32::MIN.into(), i32::MAX.into());
                        prost_reflect::Value::I32(i32::try_from(clamped).expect("clamped"))
                    }
                    _ => continue,
                };
                message.set_field(&field, value);
                assert_harmless(method, &message.encode_to_vec());
            }
        }
    }
}
