//! The rig: a node in memory with a sale of 2,000 units, a front on a free port, and a client that
//! speaks prost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_front::{Credentials, Front, FrontSettings, Limits};
use lastunit_node::{CallInput, ClockKind, DurabilityKind, Listener, Node, NodeSettings};
use lastunit_wire::{Method, contract};
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::Channel;
use tonic::{Request, Status};

pub(crate) const STREAMS_MAX: usize = 3;
const SALE: &str = "sale-1";
const SKU: &str = "sku-1";

/// A served node.
pub(crate) struct Rig {
    pub(crate) front: Front,
}

impl Rig {
    /// Starts on a thread of its own: a front waits for its own threads, which the test's threads
    /// are not allowed to.
    pub(crate) fn start(listener: Listener) -> Self {
        let starting = std::thread::spawn(move || Self::start_here(listener));
        starting.join().expect("starts")
    }

    fn start_here(listener: Listener) -> Self {
        let mut settings = NodeSettings::new(PathBuf::new());
        settings.clock = ClockKind::Manual;
        settings.manual_start = 1_000_000;
        settings.durability = DurabilityKind::Memory;
        let node = Node::open(settings).expect("opens in memory");
        prepare(&node);
        let settings = FrontSettings {
            address: ([127, 0, 0, 1], 0).into(),
            listener,
            is_rehearsal: true,
            has_reflection: true,
            thread_count: 2,
            limits: limits(),
            material: None,
            credentials: Credentials::default(),
            latency_bounds: vec![Duration::from_millis(1)],
            is_traced: false,
            control: None,
        };
        let front = Front::start(node, settings).expect("a free port is there");
        front.set_other_address("127.0.0.1:1".to_owned());
        Self { front }
    }

    pub(crate) async fn connect(&self) -> Client {
        let address = format!("http://{}", self.front.address());
        let channel = Channel::from_shared(address).expect("is an address");
        let channel = channel.connect().await.expect("listens");
        Client(Grpc::new(channel))
    }
}

fn limits() -> Limits {
    Limits {
        max_concurrent_streams: 100,
        streams_max: STREAMS_MAX,
        connections_max: 100,
        connections_per_address_max: 100,
        connection_age_ms: 60_000,
        connection_idle_ms: 60_000,
        handshake_ms: 5000,
        message_wait_ms: 10_000,
        half_open_max: 1024,
        half_open_rush_max: 32_768,
        half_open_patience_ms: 1000,
        reader_wait_ms: 20_000,
        waiting_bytes_max: 1 << 26,
        control_frames_max: 1000,
        header_bytes_max: 16 * 1024,
        pending_resets_max: 20,
    }
}

fn prepare(node: &Arc<Node>) {
    let actor = || "actor".to_owned();
    let (sale_id, sku, pool) = (SALE.to_owned(), SKU.to_owned(), "pool-1".to_owned());
    let sale = contract::PutSaleRequest {
        request_id: "put-sale".to_owned(),
        actor: actor(),
        reason: "test".to_owned(),
        sale_id: sale_id.clone(),
        policy: Some(contract::SalePolicy::default()),
        ..Default::default()
    };
    admin(node, Method::PutSale, &sale);
    let put_pool = contract::PutPoolRequest {
        request_id: "put-pool".to_owned(),
        actor: actor(),
        reason: "test".to_owned(),
        sale_id: sale_id.clone(),
        sku: sku.clone(),
        pool: pool.clone(),
        is_offered: true,
        ..Default::default()
    };
    admin(node, Method::PutPool, &put_pool);
    let supply = contract::SupplyStockRequest {
        request_id: "supply".to_owned(),
        actor: actor(),
        reason: "test".to_owned(),
        sale_id,
        sku,
        pool,
        units: 2_000,
        ..Default::default()
    };
    admin(node, Method::SupplyStock, &supply);
}

fn admin(node: &Arc<Node>, method: Method, request: &impl Message) {
    let request = request.encode_to_vec();
    let answer = node.call(&CallInput {
        method: method.path(),
        request: &request,
        caller: "tester",
        deadline: Some(Instant::now() + Duration::from_secs(20)),
        seen_sequence: 0,
        seen_epoch: 0,
        listener: Listener::Settlement,
    });
    assert_eq!(0, answer.code, "{}", String::from_utf8_lossy(&answer.body));
}

pub(crate) fn reserve(reservation_id: &str, units: i64) -> contract::ReserveRequest {
    contract::ReserveRequest {
        reservation_id: reservation_id.to_owned(),
        sale_id: SALE.to_owned(),
        person_id: format!("person-of-{reservation_id}"),
        lines: vec![contract::Line {
            sku: SKU.to_owned(),
            units,
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn get(reservation_id: &str) -> contract::GetReservationRequest {
    contract::GetReservationRequest {
        reservation_id: reservation_id.to_owned(),
    }
}

pub(crate) fn operation(reservation_id: &str) -> contract::Operation {
    contract::Operation {
        request: Some(contract::operation::Request::Reserve(reserve(
            reservation_id,
            1,
        ))),
    }
}

/// The status that ends a stream.
pub(crate) async fn last_status<T>(
    stream: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Status {
    loop {
        match stream.next().await.expect("a stop is told") {
            Ok(_) => {}
            Err(status) => return status,
        }
    }
}

/// A client on one connection.
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) async fn call<R: Message + Default + 'static>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<R, Status> {
        self.0.ready().await.expect("is connected");
        let path = path.parse().expect("is a path");
        let request = Request::new(request.encode_to_vec());
        let response = self.0.unary(request, path, RawCodec).await?;
        Ok(R::decode(response.into_inner().as_slice()).expect("is what the contract says"))
    }

    pub(crate) async fn follow<R: Message + Default + 'static>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<Messages<R>, Status> {
        self.0.ready().await.expect("is connected");
        let path = path.parse().expect("is a path");
        let request = Request::new(request.encode_to_vec());
        let response = self.0.server_streaming(request, path, RawCodec).await?;
        Ok(decoded(response.into_inner()))
    }

    pub(crate) async fn stream<R: Message + Default + 'static>(
        &mut self,
        path: &str,
        requests: Vec<impl Message>,
    ) -> Result<Vec<R>, Status> {
        self.0.ready().await.expect("is connected");
        let path = path.parse().expect("is a path");
        let bytes: Vec<_> = requests.iter().map(Message::encode_to_vec).collect();
        let request = Request::new(tokio_stream::iter(bytes));
        let response = self.0.streaming(request, path, RawCodec).await?;
        decoded(response.into_inner()).collect().await
    }
}

/// Messages of a stream.
pub(crate) type Messages<R> = std::pin::Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

fn decoded<R: Message + Default + 'static>(stream: Streaming<Vec<u8>>) -> Messages<R> {
    Box::pin(stream.map(|bytes| {
        bytes.map(|bytes| R::decode(bytes.as_slice()).expect("is what the contract says"))
    }))
}

/// Bytes through a client.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}
