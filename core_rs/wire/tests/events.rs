//! Owns the proof that the journal loses nothing: every event comes back equal from its bytes.

#[path = "support/random.rs"]
mod random;

use std::collections::BTreeSet;

use lastunit_engine::{
    AttemptState, Disposition, Event, EventBody, Line, PaymentBegun, PaymentResult, PaymentSettled,
    PoolDefined, ReleaseReason, Reserved, Returned, SaleDefined, SalePolicy, SaleState, State,
    StockBooked, Taken, Text,
};
use lastunit_wire::{
    EventError, JournalExtent, contract, decode_record, encode_events, encode_record,
    encode_record_events, event_from_proto, event_to_proto,
};
use prost::Message;
use random::Random;

/// The number of kinds of event that `random_body` makes.
const KIND_COUNT: u64 = 28;

fn units(random: &mut Random) -> i64 {
    i64::try_from(random.below(1_000_000_000_000)).expect("small")
}

fn taken(random: &mut Random) -> Vec<Taken> {
    random.list(3, |random| Taken {
        line_index: u32::try_from(random.below(32)).expect("small"),
        sku: random.id("sku"),
        pool: random.id("pool"),
        units: units(random),
        is_from_buffer: random.flag(),
    })
}

fn labels(random: &mut Random) -> Vec<(Text, Text)> {
    let mut labels = random.list(4, |random| (random.id("key"), random.id("value")));
    labels.sort();
    labels
}

fn policy(random: &mut Random) -> SalePolicy {
    let small = |random: &mut Random| u32::try_from(random.below(1_000)).expect("small");
    SalePolicy {
        reservation_ttl: random.millis(),
        settle_by: random.millis(),
        retry_grace: random.millis(),
        max_life: random.millis(),
        units_per_person_per_sku_max: units(random),
        units_per_person_max: units(random),
        unpaid_reservations_per_person_max: small(random),
        attempts_per_reservation_max: small(random),
        low_level_percent: small(random),
        is_unverified_release_allowed: random.flag(),
        expiry_brake_lag: random.millis(),
        does_return_give_limit_back: random.flag(),
        forget_after: random.millis(),
        does_forget_while_open: random.flag(),
    }
}

fn stock_body(kind: u64, random: &mut Random) -> EventBody {
    let (sku, pool): (Text, Text) = (random.id("sku"), random.id("pool"));
    let booked = StockBooked {
        sku: sku.clone(),
        pool: pool.clone(),
        units: units(random),
        is_buffer: random.flag(),
    };
    match kind {
        0 => EventBody::SaleDefined(SaleDefined {
            opens_at: random.maybe(Random::millis),
            closes_at: random.maybe(Random::millis),
            policy: policy(random),
            expected_revision: random.maybe(units),
            revision: units(random),
            state: random.one_of(SaleState::ALL),
        }),
        1 => EventBody::SaleStateChanged {
            state_from: random.one_of(SaleState::ALL),
            state_to: random.one_of(SaleState::ALL),
        },
        2 => EventBody::PoolDefined(PoolDefined {
            sku,
            pool,
            position: u32::try_from(random.below(1_000_001)).expect("small"),
            labels: labels(random),
            is_offered: random.flag(),
        }),
        3 => EventBody::StockSupplied(booked),
        4 => EventBody::StockWithdrawn(booked),
        5 => EventBody::StockAdjusted {
            sku,
            pool,
            expected_available: units(random),
            available: units(random),
        },
        6 => EventBody::StockMoved {
            sku,
            source_pool: pool,
            target_pool: random.id("pool"),
            units: units(random),
        },
        _ => EventBody::BufferPoured {
            sku,
            pool,
            units: units(random),
        },
    }
}

fn payment_body(kind: u64, random: &mut Random) -> EventBody {
    let attempt_id: Text = random.id("attempt");
    match kind {
        8 => EventBody::PaymentBegun(PaymentBegun {
            attempt_id,
            provider: random.maybe(|random| random.id("provider")),
            amount_minor: random.maybe(units),
            currency: random.maybe(|_| "EUR".into()),
            settle_by: random.millis(),
            attempt_count: u32::try_from(random.below(17)).expect("small"),
            retaken: random.flag(),
            taken: taken(random),
        }),
        9 => EventBody::PaymentSettled(PaymentSettled {
            attempt_id,
            payment_result: random.one_of(PaymentResult::ALL),
            occurred_at: random.maybe(Random::millis),
            evidence: random.id("evidence"),
            attempt_state: random.one_of(AttemptState::ALL),
            state: random.one_of(State::ALL),
            expires_at: random.maybe(Random::millis),
            unregistered_attempt: random.flag(),
            retaken: random.flag(),
            taken: taken(random),
        }),
        10 => EventBody::PaymentNewsIgnored {
            attempt_id,
            payment_result: random.one_of(PaymentResult::ALL),
            occurred_at: random.maybe(Random::millis),
            evidence: random.id("evidence"),
            attempt_state: random.one_of(AttemptState::ALL),
        },
        11 => EventBody::CancelAtProviderRequested { attempt_id },
        12 => EventBody::AskProviderRequested { attempt_id },
        13 => EventBody::RefundBecameDue { attempt_id },
        14 => EventBody::RefundRecorded {
            attempt_id,
            evidence: random.id("evidence"),
            state: random.one_of(State::ALL),
        },
        _ => EventBody::BecameOverdue,
    }
}

fn other_body(kind: u64, random: &mut Random) -> EventBody {
    match kind {
        16 => EventBody::Reserved(Reserved {
            person_id: random.id("person"),
            lines: random.list(4, |random| Line {
                sku: random.id("sku"),
                pool: random.maybe(|random| random.id("pool")),
                units: units(random),
            }),
            ttl: random.maybe(Random::millis),
            not_after: random.maybe(Random::millis),
            expires_at: random.millis(),
            max_life_at: random.millis(),
            taken: taken(random),
        }),
        17 => EventBody::Confirmed,
        18 => EventBody::Released {
            release_reason: random.one_of(ReleaseReason::ALL),
        },
        19 => EventBody::Extended {
            extension: random.millis(),
            expires_at: random.millis(),
        },
        20 => EventBody::ReleaseRequested {
            release_reason: random.one_of(ReleaseReason::ALL),
        },
        21 => EventBody::Returned(Returned {
            sku: random.id("sku"),
            pool: random.maybe(|random| random.id("pool")),
            units: units(random),
            disposition: random.one_of(Disposition::ALL),
            give_limit_back: random.maybe(Random::flag),
            is_limit_given_back: random.flag(),
            taken: taken(random),
            state: random.one_of(State::ALL),
        }),
        22 => EventBody::PersonsMerged {
            source_person_id: random.id("person"),
            target_person_id: random.id("person"),
        },
        23 => EventBody::ExpiryBrakeSet {
            is_on: random.flag(),
            until: random.maybe(Random::millis),
        },
        24 => EventBody::OutageCredited {
            outage: random.millis(),
        },
        25 => EventBody::HistoryForgotten {
            reservation_ids: random.list(3, |random| random.id("reservation")),
            request_ids: random.list(3, |random| random.id("request")),
        },
        26 => EventBody::PersonsSplit {
            person_ids: random.list(3, |random| random.id("person")),
        },
        _ => EventBody::NodeOpened {
            epoch: units(random),
        },
    }
}

fn random_event(kind: u64, random: &mut Random) -> Event {
    let body = match kind {
        0..8 => stock_body(kind, random),
        8..16 => payment_body(kind, random),
        _ => other_body(kind, random),
    };
    let text = |random: &mut Random, kind: &str| {
        random
            .maybe(|random| random.id::<Text>(kind))
            .unwrap_or_default()
    };
    Event {
        sequence: units(random),
        time: random.millis(),
        request_id: text(random, "request"),
        caller: text(random, "caller"),
        actor: text(random, "actor"),
        reason: text(random, "reason"),
        sale_id: text(random, "sale"),
        reservation_id: text(random, "reservation"),
        body,
    }
}

#[test]
fn every_event_comes_back_equal_from_its_bytes() {
    let mut random = Random::from_environment();
    let mut names = BTreeSet::new();

    for round in 0..200 * KIND_COUNT {
        let event = random_event(round % KIND_COUNT, &mut random);
        names.insert(event.body.name());
        let bytes = event_to_proto(&event).encode_length_delimited_to_vec();
        // A record is written straight away, and holds what prost would write.
        assert_eq!(bytes, encode_record(std::slice::from_ref(&event)));
        let bytes = bytes.as_slice();
        let message = contract::Event::decode_length_delimited(bytes).expect("own bytes");

        assert_eq!(Ok(event), event_from_proto(message));
    }
    assert_eq!(KIND_COUNT, names.len() as u64);
}

#[test]
fn every_event_of_the_contract_is_one_of_the_engine() {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
    let pool = prost_reflect::DescriptorPool::decode(bytes.as_slice()).expect("a valid set");
    let event = pool
        .get_message_by_name("lastunit.stock.v1.Event")
        .expect("declared");
    let body = event.oneofs().next().expect("an event has a body");
    let mut random = Random::from_environment();
    let made = (0..KIND_COUNT).map(|kind| random_event(kind, &mut random).body.name().to_owned());

    let declared = body.fields().map(|field| {
        let kind = field.kind();
        kind.as_message()
            .expect("a body is a message")
            .name()
            .to_owned()
    });
    assert_eq!(
        declared.collect::<BTreeSet<_>>(),
        made.collect::<BTreeSet<_>>()
    );
}

#[test]
fn a_record_gives_its_events_back_in_order() {
    let mut random = Random::from_environment();
    for _ in 0..200 {
        let kinds = random.list(5, |random| random.below(KIND_COUNT));
        let events: Vec<_> = kinds
            .into_iter()
            .map(|kind| random_event(kind, &mut random))
            .collect();
        let body = encode_record(&events);

        assert_eq!(Ok(&events), decode_record(&body).as_ref());
        assert_eq!(
            body,
            encode_record(&events),
            "the same events give the same bytes"
        );
    }
}

#[test]
fn a_cut_record_is_refused_or_ends_with_a_whole_event() {
    let mut random = Random::from_environment();
    let events: Vec<_> = (0..3).map(|kind| random_event(kind, &mut random)).collect();
    let body = encode_record(&events);

    for length in 1..body.len() {
        let cut = decode_record(&body[..length]);
        let is_prefix = cut.as_ref().is_ok_and(|read| read.len() < events.len());

        assert!(
            cut.is_err() || is_prefix,
            "{length} of {} bytes",
            body.len()
        );
        assert!(!is_prefix || events.starts_with(&cut.expect("a prefix")));
    }
}

#[test]
fn an_event_that_lacks_what_its_effect_needs_is_refused_by_name() {
    let mut random = Random::from_environment();
    let whole = event_to_proto(&random_event(16, &mut random));
    let mut no_body = whole.clone();
    no_body.body = None;
    let mut no_time = whole.clone();
    no_time.time = None;
    let mut no_expiry = whole.clone();
    if let Some(contract::event::Body::Reserved(reserved)) = &mut no_expiry.body {
        reserved.expire_time = None;
    }
    let mut unknown_state = event_to_proto(&random_event(9, &mut random));
    unknown_state.sequence = whole.sequence;
    if let Some(contract::event::Body::PaymentSettled(settled)) = &mut unknown_state.body {
        settled.state = 99;
    }

    for (event, field) in [
        (no_body, "body"),
        (no_time, "time"),
        (no_expiry, "reserved.expire_time"),
        (unknown_state, "payment_settled.state"),
    ] {
        let expected = EventError::Incomplete {
            sequence: whole.sequence,
            field,
        };
        assert_eq!(Err(expected), event_from_proto(event));
    }
}

#[test]
fn a_stream_is_served_from_record_bytes_as_from_events() {
    let mut random = Random::from_environment();
    let mut sequence = 0;
    let records: Vec<Vec<Event>> = (0..20)
        .map(|_| {
            let kinds = random.list(4, |random| random.below(KIND_COUNT));
            let events = kinds.into_iter().map(|kind| {
                sequence += 1;
                Event {
                    sequence,
                    ..random_event(kind, &mut random)
                }
            });
            events.collect()
        })
        .collect();
    let bodies: Vec<_> = records.iter().map(|events| encode_record(events)).collect();
    let all: Vec<Event> = records.concat();

    let extent = JournalExtent {
        first_sequence: 1,
        durable_sequence: sequence,
        epoch: 3,
    };
    for after in 0..=sequence {
        let later: Vec<_> = all
            .iter()
            .filter(|event| event.sequence > after)
            .cloned()
            .collect();
        let last = later.last().map_or(0, |event| event.sequence);
        let slices = bodies.iter().map(Vec::as_slice);

        let served = encode_record_events(slices, after, extent).expect("own bodies");

        let read = contract::ReadEventsResponse::decode(served.0.as_slice()).expect("a response");
        let expected = encode_events(&later, extent);
        assert_eq!(expected, read.encode_to_vec());
        assert_eq!(last, served.1);
    }
}
