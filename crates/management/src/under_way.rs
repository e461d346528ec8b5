//! When a request is under way: from its head to the end of the response's body. Meanwhile, once
//! its user has given a correct password, its connection is not ended to make room for others.
//!
//! Owns nothing but the marking. Once hyper has the whole response, nothing is under way, even if
//! the peer has not read it: not reading must not be a way to keep a place.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use listener::Place;

/// A request that is under way until this is dropped. A connection has one at a time.
pub(crate) struct UnderWay(Arc<Place>);

impl UnderWay {
    /// A request's head has arrived. The place is marked as known once the request's user is known
    /// ([`authenticate`](crate::auth::authenticate)), and as silent again when this is dropped.
    pub(crate) fn new(place: &Arc<Place>) -> Self {
        Self(Arc::clone(place))
    }

    /// Keeps the request under way until the body of its response has ended or is dropped.
    pub(crate) fn until_end_of(self, body: Body) -> AnswerBody {
        AnswerBody { body, _under_way: self }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.silent();
    }
}

/// See [`UnderWay::until_end_of`]. Hyper drops a body at its end.
pub(crate) struct AnswerBody {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
