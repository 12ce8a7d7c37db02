//! A connection's bytes on their way to HTTP/2, watched for what it does not bound itself.
//!
//! Owns: the time limits of the first words and of a frame that has begun, and the bound of frames
//! that carry nothing. It reads the nine bytes before each frame and nothing else. Must not: change
//! a byte. Where next: `connection.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::crowd::{Place, Reason};
use crate::limits::Limits;

/// With what a client of HTTP/2 begins, and the head of the frame that must follow.
const FIRST_BYTES: usize = 24 + HEAD_BYTES;

/// What stands before each frame: three bytes of length, kind, flags, four of stream.
const HEAD_BYTES: usize = 9;

/// Kinds of frames that belong to calls; a window update is what keeps them going.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// In which the frames that carry nothing are counted.
const CONTROL_SPAN: Duration = Duration::from_secs(10);

/// After so many calls in one go others have their turn. HTTP/2 reads on as long as there is
/// something: a burst of thousands would hold a thread for ten milliseconds and more. And after a
/// standstill it would read all calls that wait together with the resets of those that were given
/// up meanwhile, before it looks at one of them, and take honest callers for attackers.
const TURN_CALLS: u64 = 64;

/// How long others have it; a timer, because HTTP/2 asks again within its own turn.
const REST: Duration = Duration::from_millis(1);

/// A client that measures its line answers what comes with a ping and some settings.
const CONTROL_FRAMES_PER_ANSWER: u64 = 2;

/// Where in a frame the bytes are.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    head_length: usize,
    /// Of the frame's content.
    lacking: usize,
    /// Headers that go on in the next frame.
    is_in_headers: bool,
    /// Rises with each frame that ends.
    ended: u64,
    /// Frames that carried nothing.
    control: u64,
    /// Frames that opened a call.
    calls: u64,
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.lacking > 0 {
                let length = self.lacking.min(bytes.len());
                self.lacking -= length;
                bytes = &bytes[length..];
            } else {
                let length = (HEAD_BYTES - self.head_length).min(bytes.len());
                self.head[self.head_length..self.head_length + length]
                    .copy_from_slice(&bytes[..length]);
                self.head_length += length;
                bytes = &bytes[length..];
                if self.head_length < HEAD_BYTES {
                    return;
                }
                self.begin();
            }
            if self.lacking == 0 {
                self.head_length = 0;
                self.ended += 1;
            }
        }
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.lacking = u32::from_be_bytes([0, high, middle, low]) as usize;
        match kind {
            HEADERS | CONTINUATION => self.is_in_headers = flags & END_HEADERS == 0,
            _ => {}
        }
        let is_empty = self.lacking == 0 && flags & END_STREAM == 0;
        let is_of_a_call = match kind {
            DATA => !is_empty,
            HEADERS | RST_STREAM | WINDOW_UPDATE => true,
            _ => false,
        };
        self.control += u64::from(!is_of_a_call);
        self.calls += u64::from(kind == HEADERS);
    }

    fn is_midway(&self) -> bool {
        self.head_length > 0 || self.is_in_headers
    }
}

/// A connection that is watched.
pub(crate) struct Guarded<S> {
    stream: S,
    place: Arc<Place>,
    /// Bytes of the first words that must still come.
    first: usize,
    frames: Frames,
    handshake: Duration,
    frame_wait: Duration,
    control_max: u64,
    /// Frames that carried nothing and answers that were taken, before this span.
    control_before: u64,
    taken_before: u64,
    span_begun: Instant,
    /// The frame that the sleep is for; nothing while none is half there.
    waited: Option<u64>,
    /// Calls before this turn, and the rest after it.
    calls_before: u64,
    is_resting: bool,
    /// Calls that had begun when a read was last asked for in this rest.
    begun: Option<usize>,
    rest: Option<Pin<Box<Sleep>>>,
    patience: Pin<Box<Sleep>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S, place: Arc<Place>, limits: &Limits) -> Self {
        Self {
            stream,
            place,
            first: FIRST_BYTES,
            frames: Frames::default(),
            handshake: limits.handshake(),
            frame_wait: limits.message_wait(),
            control_max: limits.control_frames_max.into(),
            control_before: 0,
            taken_before: 0,
            span_begun: Instant::now(),
            waited: Some(0),
            calls_before: 0,
            is_resting: false,
            begun: None,
            rest: None,
            patience: Box::pin(tokio::time::sleep(limits.handshake())),
        }
    }

    /// Notes bytes that came.
    ///
    /// # Errors
    /// The connection goes on in a way that is only a burden.
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        let preface = FIRST_BYTES - HEAD_BYTES;
        let begun = FIRST_BYTES - self.first;
        self.first = self.first.saturating_sub(bytes.len());
        let of_frames = preface.saturating_sub(begun).min(bytes.len());
        self.frames.take(&bytes[of_frames..]);
        if self.frames.control - self.control_before <= self.control_max {
            return Ok(());
        }
        let taken = self.place.activity.taken();
        let allowed = self.control_max + CONTROL_FRAMES_PER_ANSWER * (taken - self.taken_before);
        let is_over = self.span_begun.elapsed() >= CONTROL_SPAN;
        if !is_over && self.frames.control - self.control_before > allowed {
            return Err(self.refuse(Reason::ControlFrames));
        }
        if is_over {
            self.span_begun = Instant::now();
            self.control_before = self.frames.control;
            self.taken_before = taken;
        }
        Ok(())
    }

    /// Tells whether something that has begun should have ended by now.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let is_first = self.first > 0;
        if !is_first && !self.frames.is_midway() {
            self.waited = None;
            return false;
        }
        let (number, wait) = if is_first {
            (0, self.handshake)
        } else {
            (self.frames.ended + 1, self.frame_wait)
        };
        // Headers in many frames are one: their time does not begin anew.
        let is_new =
            self.waited.is_none() || (!self.frames.is_in_headers && self.waited != Some(number));
        if is_new {
            self.patience
                .as_mut()
                .reset(tokio::time::Instant::now() + wait);
            self.waited = Some(number);
        }
        self.patience.as_mut().poll(context).is_ready()
    }

    fn begin_rest(&mut self) {
        self.is_resting = true;
        self.begun = None;
        let end = tokio::time::Instant::now() + REST;
        match &mut self.rest {
            Some(rest) => rest.as_mut().reset(end),
            None => self.rest = Some(Box::pin(tokio::time::sleep_until(end))),
        }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = self.rest.as_mut().filter(|_| self.is_resting) else {
            return Poll::Ready(());
        };
        let is_over = rest.as_mut().poll(context).is_ready();
        // A read is asked for before each call that is taken up: as long as one has begun since the
        // last time there may be more.
        let begun = Some(self.place.activity.begun());
        if begun != self.begun {
            self.begun = begun;
            if is_over {
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        if !is_over {
            return Poll::Pending;
        }
        self.is_resting = false;
        self.calls_before = self.frames.calls;
        Poll::Ready(())
    }

    fn refuse(&self, reason: Reason) -> io::Error {
        self.place.count(reason);
        io::ErrorKind::TimedOut.into()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_rest(context));
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.note(&buffer.filled()[before..])?;
            if self.frames.calls - self.calls_before >= TURN_CALLS {
                self.begin_rest();
            }
            return read;
        }
        self.calls_before = self.frames.calls;
        if self.is_late(context) {
            let reason = if self.first > 0 {
                Reason::HandshakeLate
            } else {
                Reason::FrameLate
            };
            return Poll::Ready(Err(self.refuse(reason)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(std::iter::repeat_n(7, length.into()));
        bytes
    }

    #[test]
    fn frames_are_counted_however_they_were_cut() {
        let sent = [
            frame(HEADERS, END_HEADERS, 40),
            frame(DATA, 0, 5),
            frame(DATA, 0, 0),
            frame(DATA, END_STREAM, 0),
            frame(PING, 0, 8),
            frame(4, 0, 0),
            frame(WINDOW_UPDATE, 0, 4),
            frame(RST_STREAM, 0, 4),
            frame(200, 0, 3),
        ]
        .concat();
        for piece_bytes in 1..=sent.len() {
            let mut frames = Frames::default();
            for piece in sent.chunks(piece_bytes) {
                frames.take(piece);
            }

            assert_eq!((9, 4), (frames.ended, frames.control), "{piece_bytes}");
            assert_eq!(1, frames.calls);
            assert!(!frames.is_midway());
        }
    }

    #[test]
    fn a_frame_and_a_block_of_headers_are_midway_until_their_end() {
        let mut frames = Frames::default();
        let headers = frame(HEADERS, 0, 4);
        for byte in &headers[..headers.len()] {
            frames.take(std::slice::from_ref(byte));
            assert!(frames.is_midway());
        }
        frames.take(&frame(CONTINUATION, 0, 0));
        assert!(frames.is_midway());
        frames.take(&frame(CONTINUATION, END_HEADERS, 1));
        assert!(!frames.is_midway());
        // What goes on without an end is counted.
        assert_eq!(2, frames.control);
    }
}
