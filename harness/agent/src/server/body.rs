//! Answers: whole, or written while they are sent, so that an exposition of a thousand processes is never in memory at
//! once.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::connections::Answering;

/// A piece of an answer. Large enough that handing it over costs nothing beside writing it.
const CHUNK_BYTES: usize = 64 * 1024;

/// Pieces that wait to be sent, with each answer.
const CHUNKS_AHEAD: usize = 2;

/// An answer's content.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Content,
    /// The right to write figures.
    _permit: Option<OwnedSemaphorePermit>,
    /// While it is there, the connection is answering.
    _answering: Answering,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Written(mpsc::Receiver<Piece>),
    Ended,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// All is written. Without it the writer failed, and the client must learn that what it has is not all.
    End,
}

impl AnswerBody {
    /// All at once.
    pub fn whole(bytes: impl Into<Bytes>, answering: Answering) -> Self {
        let bytes = bytes.into();
        Self { content: Content::Whole((!bytes.is_empty()).then_some(bytes)), _permit: None, _answering: answering }
    }

    /// What `write` writes, on a thread of its own, as fast as the client takes it.
    pub fn written(
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
        gzip: bool,
        permit: Option<OwnedSemaphorePermit>,
        answering: Answering,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut chunks = Chunks { buffer: Vec::with_capacity(CHUNK_BYTES), sender };
            let written = if gzip {
                // The fastest level: it makes a tenth of such a text, better ones half of that in many times the time.
                let mut encoder = GzEncoder::new(&mut chunks, Compression::fast());
                write(&mut encoder).and_then(|()| encoder.finish().map(drop))
            } else {
                write(&mut chunks)
            };
            // An error is a client that went away.
            if written.and_then(|()| chunks.flush()).is_ok() {
                let _ = chunks.sender.blocking_send(Piece::End);
            }
        });
        Self { content: Content::Written(receiver), _permit: permit, _answering: answering }
    }
}

struct Chunks {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Piece>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(Piece::Bytes(full.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (next, ended) = match &mut self.content {
            Content::Whole(bytes) => (bytes.take().map(|bytes| Ok(Frame::data(bytes))), true),
            Content::Written(receiver) => match std::task::ready!(receiver.poll_recv(context)) {
                Some(Piece::Bytes(bytes)) => (Some(Ok(Frame::data(bytes))), false),
                Some(Piece::End) => (None, true),
                None => (Some(Err(io::Error::other("the answer could not be written to its end"))), true),
            },
            Content::Ended => (None, true),
        };
        if ended {
            self.content = Content::Ended;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Ended | Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Ended => SizeHint::with_exact(0),
            Content::Written(_) => SizeHint::default(),
        }
    }
}
