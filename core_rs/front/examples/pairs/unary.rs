//! lastunit, one call an operation: Reserve on the data listener, Confirm on the other.
//!
//! Owns: what a request holds, for `exchange.rs` too.

use std::ops::Range;

use bytes::Bytes;
use http::uri::PathAndQuery;
use lastunit_wire::contract;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use crate::Failure;
use crate::bytes_codec::BytesCodec;
use crate::load::Worker;
use crate::names::Names;

/// What a connection may have under way, so that the transport never waits for itself.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Opens a connection.
pub(crate) async fn channel(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .tcp_nodelay(true);
    Ok(endpoint.connect().await?)
}

/// Makes the request that holds a unit.
pub(crate) fn reserve_request(names: &Names, pair: u64) -> contract::ReserveRequest {
    contract::ReserveRequest {
        reservation_id: names.reservation(pair),
        sale_id: "bench".to_owned(),
        person_id: names.buyer(pair),
        lines: vec![contract::Line {
            sku: "unit".to_owned(),
            units: 1,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Makes the request that sells what is held.
pub(crate) fn confirm_request(names: &Names, pair: u64) -> contract::ConfirmRequest {
    let reservation_id = names.reservation(pair);
    contract::ConfirmRequest {
        request_id: format!("c-{reservation_id}"),
        reservation_id,
    }
}

/// Tells whether a command was done, by the field that all responses share.
pub(crate) fn is_done(result: Option<&contract::Result>) -> bool {
    result.is_some_and(|it| it.outcome == i32::from(contract::Outcome::Ok))
}

pub(crate) struct Unary {
    data: Grpc<Channel>,
    settlement: Grpc<Channel>,
    names: Names,
}

pub(crate) async fn connect(
    data: &str,
    settlement: &str,
    workers: usize,
    connections: usize,
) -> Result<Vec<Unary>, Failure> {
    let names = Names::new();
    let mut pairs = Vec::new();
    for _ in 0..connections.min(workers) {
        pairs.push((channel(data).await?, channel(settlement).await?));
    }
    let of = |index: usize| {
        let (data, settlement) = pairs[index % pairs.len()].clone();
        Unary {
            data: Grpc::new(data),
            settlement: Grpc::new(settlement),
            names: names.clone(),
        }
    };
    Ok((0..workers).map(of).collect())
}

async fn call(
    client: &mut Grpc<Channel>,
    path: &'static str,
    request: &impl Message,
) -> Result<u64, Failure> {
    client.ready().await?;
    let request = Request::new(Bytes::from(request.encode_to_vec()));
    let path = PathAndQuery::from_static(path);
    let response = client.unary(request, path, BytesCodec).await?.into_inner();
    // Place and result are the first two fields of every response.
    let response = contract::ConfirmResponse::decode(response)?;
    Ok(u64::from(is_done(response.result.as_ref())))
}

impl Worker for Unary {
    async fn reserve(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        let request = reserve_request(&self.names, pairs.start);
        call(
            &mut self.data,
            "/lastunit.stock.v1.StockService/Reserve",
            &request,
        )
        .await
    }

    async fn confirm(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        let request = confirm_request(&self.names, pairs.start);
        call(
            &mut self.settlement,
            "/lastunit.stock.v1.StockService/Confirm",
            &request,
        )
        .await
    }
}
