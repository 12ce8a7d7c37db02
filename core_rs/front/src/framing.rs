//! Messages as gRPC frames them: a byte that tells whether it is packed, four bytes of length, the
//! message.
//!
//! Owns: taking messages out of a body and putting them into one. A message that came in one piece
//! is a slice of what was read. Must not: know a message. Where next: `reply.rs`.

use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::Incoming;
use lastunit_wire::MESSAGE_BYTES_MAX;
use tonic::Status;

use crate::activity::{OpenCall, Waiting};

/// What stands before each message.
const PREFIX_BYTES: usize = 5;

/// Puts the prefix before a message.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a reply is far below 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of one call, as they come in.
pub(crate) struct Messages<B = Incoming> {
    body: B,
    pieces: Pieces,
    /// What was gathered of a message that is not whole.
    waiting: Waiting,
}

impl<B> Messages<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    pub(crate) fn new(body: B, call: &OpenCall) -> Self {
        Self {
            body,
            pieces: Pieces::default(),
            waiting: call.message(),
        }
    }

    /// Awaits the next message; none when the caller has sent all.
    ///
    /// # Errors
    /// A message that is packed, too large or cut off, or a caller that has left.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.pieces.take()? {
                self.waiting.clear();
                return Ok(Some(message));
            }
            // A message that came in one piece never waits.
            self.waiting.hold(self.pieces.taken_bytes());
            let body = &mut self.body;
            let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match frame.await {
                None if self.pieces.is_empty() => return Ok(None),
                None => return Err(Status::internal("the message was cut off, send it again")),
                Some(Err(_)) => return Err(Status::cancelled("the caller has left")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pieces.put(data);
                    }
                }
            }
        }
    }
}

/// What has come of the next messages.
#[derive(Debug, Default)]
struct Pieces {
    /// What came in one piece and is not taken yet; empty while something is gathered.
    piece: Bytes,
    /// A message that came in several pieces, and what follows it.
    gathered: BytesMut,
}

impl Pieces {
    fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.gathered.is_empty()
    }

    /// What a message that is not whole takes in memory; nothing between messages.
    fn taken_bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.piece.len() + self.gathered.capacity()
    }

    fn put(&mut self, data: Bytes) {
        if self.is_empty() {
            self.piece = data;
            return;
        }
        self.gathered.extend_from_slice(&self.piece);
        self.piece.clear();
        self.gathered.extend_from_slice(&data);
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let is_gathered = !self.gathered.is_empty();
        let held: &[u8] = if is_gathered {
            &self.gathered
        } else {
            &self.piece
        };
        let Some(length) = message_length(held)? else {
            return Ok(None);
        };
        let end = PREFIX_BYTES + length;
        if held.len() < end {
            return Ok(None);
        }
        let mut message = if is_gathered {
            self.gathered.split_to(end).freeze()
        } else {
            self.piece.split_to(end)
        };
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }
}

/// Reads a prefix; none if it is not whole yet.
fn message_length(held: &[u8]) -> Result<Option<usize>, Status> {
    let Some(([flag, length @ ..], _)) = held.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    if *flag != 0 {
        let text =
            "packed messages are not taken here, send them unpacked (grpc-encoding: identity)";
        return Err(Status::unimplemented(text));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        let text = format!("received message larger than max ({length} vs. {MESSAGE_BYTES_MAX})");
        return Err(Status::resource_exhausted(text));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds bytes in pieces of a size and returns the messages that came out.
    fn messages(bytes: &[u8], piece_bytes: usize) -> Vec<Bytes> {
        let mut pieces = Pieces::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            pieces.put(Bytes::copy_from_slice(piece));
            while let Some(message) = pieces.take().expect("is well formed") {
                found.push(message);
            }
        }
        assert!(pieces.is_empty());
        found
    }

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let sent: Vec<Vec<u8>> = [0, 1, 300, 5, 0, 70].map(|length| vec![7; length]).to_vec();
        let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(message)).collect();
        for piece_bytes in 1..=bytes.len() {
            assert_eq!(sent, messages(&bytes, piece_bytes), "{piece_bytes}");
        }
    }

    #[test]
    fn between_messages_nothing_is_held() {
        let mut pieces = Pieces::default();
        let message = framed(&vec![7; 100_000]);
        for piece in message.chunks(30_000) {
            assert!(pieces.take().expect("is well formed").is_none());
            pieces.put(Bytes::copy_from_slice(piece));
            assert!(pieces.taken_bytes() >= piece.len());
        }
        assert!(pieces.take().expect("is well formed").is_some());

        assert_eq!(0, pieces.taken_bytes());
    }

    #[test]
    fn a_message_past_the_limit_is_refused_by_its_prefix_alone() {
        let prefix = |length: usize| {
            let length = u32::try_from(length).expect("fits").to_be_bytes();
            [&[0][..], &length].concat()
        };

        assert_eq!(
            Some(MESSAGE_BYTES_MAX),
            message_length(&prefix(MESSAGE_BYTES_MAX)).expect("is allowed")
        );
        let refused = message_length(&prefix(MESSAGE_BYTES_MAX + 1)).expect_err("is too large");
        assert_eq!(tonic::Code::ResourceExhausted, refused.code());
    }

    #[test]
    fn packed_messages_are_refused() {
        let refused = message_length(&[1, 0, 0, 0, 0]).expect_err("is packed");

        assert_eq!(tonic::Code::Unimplemented, refused.code());
    }
}
