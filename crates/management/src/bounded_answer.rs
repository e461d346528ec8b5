//! Large answers: how many bytes of them may be on their way, and how they are written.
//!
//! An answer is in memory until its client has read it, and nobody can make a client read. So large
//! answers take room from a pool of which a user has half at most, and are handed to the connection in
//! pieces: the room comes back when the last piece has been taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::app::App;
use crate::caller::Caller;
use crate::pool::Share;
use crate::problem::Answer;

/// Answers up to this size need no room.
const SMALL_BYTES: u64 = 64 << 10;
/// What a connection is handed at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Bounds the answers of one user and of all.
pub(crate) async fn bound(State(app): State<App>, request: Request, next: Next) -> Answer {
    let caller = request.extensions().get::<Caller>().cloned();
    let response = next.run(request).await;
    let size = HttpBody::size_hint(response.body()).exact().filter(|size| *size > SMALL_BYTES);
    let (Some(caller), Some(size)) = (caller, size) else { return Ok(response) };
    let room = app.room_for_answer(&caller, usize::try_from(size).unwrap_or(usize::MAX))?;
    let (parts, body) = response.into_parts();
    // It is all there already; this only takes it out of its wrapping.
    let Ok(whole) = body.collect().await else {
        return Ok(Response::from_parts(parts, Body::empty()));
    };
    let body = InPieces { left: whole.to_bytes(), _room: room };
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// A body that is handed out in pieces.
struct InPieces {
    left: Bytes,
    _room: Share,
}

impl HttpBody for InPieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.left.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
