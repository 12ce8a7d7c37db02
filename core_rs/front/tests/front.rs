//! The native front over a real connection: calls, details of refusals, streams, limits and stops.

mod rig;

use std::time::Duration;

use lastunit_node::Listener;
use lastunit_wire::contract;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Code;

use rig::{Rig, get, reserve};

const SERVICE: &str = "/lastunit.stock.v1.StockService/";

fn stock(method: &str) -> String {
    format!("{SERVICE}{method}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_answered_with_its_place_and_found_again() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;

    let reserved: contract::ReserveResponse = client
        .call(&stock("Reserve"), &reserve("order-1", 1))
        .await
        .expect("is let in");
    let found: contract::GetReservationResponse = client
        .call(&stock("GetReservation"), &get("order-1"))
        .await
        .expect("is let in");

    assert_eq!(
        contract::Outcome::Ok,
        reserved.result.expect("has one").outcome()
    );
    let place = reserved.place.expect("has one");
    assert!(place.sequence > 0 && place.durable_sequence >= place.sequence);
    assert_eq!(
        "order-1",
        found.reservation.expect("is there").reservation_id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_out_of_range_is_named_in_the_details() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;

    let refused = client
        .call::<contract::ReserveResponse>(&stock("Reserve"), &reserve("order-1", 0))
        .await
        .expect_err("zero units are not a line");

    assert_eq!(Code::InvalidArgument, refused.code());
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(
        details.contains("INVALID_FIELD") && details.contains("units"),
        "{details}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_of_the_other_listener_and_unknown_ones_are_refused() {
    let rig = Rig::start(Listener::Settlement);
    let mut client = rig.connect().await;

    let elsewhere = client
        .call::<contract::ReserveResponse>(&stock("Reserve"), &reserve("order-1", 1))
        .await
        .expect_err("reservations have no place here");
    let unknown = client
        .call::<contract::ReserveResponse>(&stock("Guess"), &reserve("order-1", 1))
        .await
        .expect_err("there is no such method");

    assert_eq!(Code::FailedPrecondition, elsewhere.code());
    assert!(
        elsewhere.message().contains("127.0.0.1:1"),
        "{}",
        elsewhere.message()
    );
    assert_eq!(Code::Unimplemented, unknown.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_and_messages_overlap() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;
    let batch = |id: i64| contract::ExchangeRequest {
        exchange_id: id,
        operations: (0..3)
            .map(|line| rig::operation(&format!("order-{id}-{line}")))
            .collect(),
    };

    let requests: Vec<_> = (1..=100).map(batch).collect();
    let replies: Vec<contract::ExchangeResponse> = client
        .stream(&stock("Exchange"), requests)
        .await
        .expect("ends well");

    let ids: Vec<i64> = replies.iter().map(|reply| reply.exchange_id).collect();
    assert_eq!((1..=100).collect::<Vec<_>>(), ids);
    assert!(replies.iter().all(|reply| reply.replies.len() == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_new_events_without_a_gap() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;
    let ask = contract::ReadEventsRequest {
        follow: true,
        page_size: 2,
        ..Default::default()
    };
    let mut events = client
        .follow::<contract::ReadEventsResponse>(
            "/lastunit.stock.v1.JournalService/ReadEvents",
            &ask,
        )
        .await
        .expect("is let in");
    for count in 0..20 {
        let id = format!("order-{count}");
        let mut other = rig.connect().await;
        let _: contract::ReserveResponse = other
            .call(&stock("Reserve"), &reserve(&id, 1))
            .await
            .expect("is let in");
    }

    let mut sequences = Vec::new();
    while sequences.len() < 20 {
        let page = events
            .next()
            .await
            .expect("goes on")
            .expect("is no refusal");
        sequences.extend(page.events.iter().map(|event| event.sequence));
    }

    let expected: Vec<i64> = (1..).take(sequences.len()).collect();
    assert_eq!(expected, sequences);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_an_unknown_sale_says_so_and_ends() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;
    let ask = contract::WatchAvailabilityRequest {
        sale_id: "no-such-sale".to_owned(),
        ..Default::default()
    };

    let mut messages = client
        .follow::<contract::WatchAvailabilityResponse>(&stock("WatchAvailability"), &ask)
        .await
        .expect("is let in");

    let first = messages
        .next()
        .await
        .expect("comes")
        .expect("is no refusal");
    assert_eq!(
        contract::Outcome::UnknownSale,
        first.result.expect("has one").outcome()
    );
    assert!(messages.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_past_the_bound_are_refused_and_a_stop_ends_the_others() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;
    let ask = contract::ReadEventsRequest {
        follow: true,
        page_size: 10,
        ..Default::default()
    };
    let path = "/lastunit.stock.v1.JournalService/ReadEvents";
    let mut open = Vec::new();
    for _ in 0..rig::STREAMS_MAX {
        open.push(
            client
                .follow::<contract::ReadEventsResponse>(path, &ask)
                .await
                .expect("fits"),
        );
    }

    let refused = client
        .follow::<contract::ReadEventsResponse>(path, &ask)
        .await;
    let refused = refused.err().expect("is one too many");
    tokio::task::spawn_blocking(move || {
        rig.front.stop(Duration::from_secs(20));
        rig
    })
    .await
    .expect("stops");

    assert_eq!(Code::ResourceExhausted, refused.code());
    for stream in &mut open {
        let end = rig::last_status(stream).await;
        assert_eq!(Code::Unavailable, end.code());
        assert!(String::from_utf8_lossy(end.details()).contains("DRAINING"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_contract_allows_is_refused() {
    let rig = Rig::start(Listener::Data);
    let mut client = rig.connect().await;
    let huge = contract::GetReservationRequest {
        reservation_id: "x".repeat(5 * 1024 * 1024),
    };
    assert!(huge.encoded_len() > lastunit_wire::MESSAGE_BYTES_MAX);

    let refused = client
        .call::<contract::GetReservationResponse>(&stock("GetReservation"), &huge)
        .await
        .expect_err("is too large");

    assert!(
        matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{refused}"
    );
}
