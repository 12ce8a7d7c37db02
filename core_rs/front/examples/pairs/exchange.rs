//! lastunit, many operations a message: a stream a worker, one message of it under way.
//!
//! Owns: messages of a batch's reserves, then of its confirms.

use std::ops::Range;

use bytes::Bytes;
use http::uri::PathAndQuery;
use lastunit_wire::contract;
use lastunit_wire::contract::operation::Request as Call;
use lastunit_wire::contract::reply::Response as Answer;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request, Streaming};

use crate::Failure;
use crate::bytes_codec::BytesCodec;
use crate::load::Worker;
use crate::names::Names;
use crate::unary::{channel, confirm_request, is_done, reserve_request};

pub(crate) struct Exchange {
    requests: mpsc::Sender<Bytes>,
    responses: Streaming<Bytes>,
    names: Names,
    sent_count: i64,
}

pub(crate) async fn connect(
    address: &str,
    workers: usize,
    connections: usize,
) -> Result<Vec<Exchange>, Failure> {
    let names = Names::new();
    let mut channels = Vec::new();
    for _ in 0..connections.min(workers) {
        channels.push(channel(address).await?);
    }
    let mut connected = Vec::new();
    for index in 0..workers {
        let mut client = Grpc::new(channels[index % channels.len()].clone());
        client.ready().await?;
        let (requests, outgoing) = mpsc::channel(1);
        let path = PathAndQuery::from_static("/lastunit.stock.v1.StockService/Exchange");
        let request = Request::new(ReceiverStream::new(outgoing));
        let responses = client.streaming(request, path, BytesCodec).await?;
        connected.push(Exchange {
            requests,
            responses: responses.into_inner(),
            names: names.clone(),
            sent_count: 0,
        });
    }
    Ok(connected)
}

impl Exchange {
    /// Sends a message and awaits its answer; returns how many operations were done.
    async fn exchange(&mut self, calls: impl Iterator<Item = Call>) -> Result<u64, Failure> {
        self.sent_count += 1;
        let operation = |call| contract::Operation {
            request: Some(call),
        };
        let request = contract::ExchangeRequest {
            exchange_id: self.sent_count,
            operations: calls.map(operation).collect(),
        };
        let count = request.operations.len();
        self.requests.send(request.encode_to_vec().into()).await?;
        let response = self.responses.message().await?.ok_or("the stream ended")?;
        let response = contract::ExchangeResponse::decode(response)?;
        if response.exchange_id != self.sent_count || response.replies.len() != count {
            return Err("a message was not answered by its own reply".into());
        }
        let mut done = 0;
        for reply in &response.replies {
            done += u64::from(match &reply.response {
                Some(Answer::Reserve(reply)) => is_done(reply.result.as_ref()),
                Some(Answer::Confirm(reply)) => is_done(reply.result.as_ref()),
                Some(Answer::Fault(fault)) => return Err(fault.message.clone().into()),
                _ => false,
            });
        }
        Ok(done)
    }
}

impl Worker for Exchange {
    async fn reserve(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        let names = self.names.clone();
        self.exchange(pairs.map(|pair| Call::Reserve(reserve_request(&names, pair))))
            .await
    }

    async fn confirm(&mut self, pairs: Range<u64>) -> Result<u64, Failure> {
        let names = self.names.clone();
        self.exchange(pairs.map(|pair| Call::Confirm(confirm_request(&names, pair))))
            .await
    }
}
