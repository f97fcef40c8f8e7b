// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a connection is of use: a request runs on it, or an answer is still being sent.
//!
//! hyper limits the time for an HTTP/1 head; it does not for the first bytes, which tell HTTP/1 from
//! 2, nor for HTTP/2 heads and connections without streams. So the server counts for itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

/// What a connection is doing.
#[derive(Default)]
pub(crate) struct InUse {
    pub(crate) running: Arc<watch::Sender<usize>>,
    /// Set by every write.
    pub(crate) wrote: Arc<AtomicBool>,
}

impl InUse {
    /// Returns once no request has run, and no byte was written, for `limit`.
    pub(crate) async fn no_more(&self, limit: Duration) {
        let mut running = self.running.subscribe();
        loop {
            // The sender lives in `self`.
            let _none = running.wait_for(|running| *running == 0).await.is_ok();
            let begun = tokio::time::timeout(limit, running.changed()).await.is_ok();
            if !begun && !self.wrote.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// A request, from its head to the end of its answer.
pub(crate) struct Running(Arc<watch::Sender<usize>>);

impl Running {
    pub(crate) fn new(running: &Arc<watch::Sender<usize>>) -> Self {
        running.send_modify(|running| *running += 1);
        Running(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// Keeps `held` until the answer's body has been passed on.
pub(crate) fn hold<T: Send + Unpin + 'static>(response: Response<Body>, held: T) -> Response<Body> {
    response.map(|body| Body::new(Holding { body, _held: held }))
}

struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
