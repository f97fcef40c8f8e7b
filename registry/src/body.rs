// SPDX-License-Identifier: AGPL-3.0-only
//! Request bodies: as a stream that notices a client which has stopped sending, and in whole with a
//! limit.
//!
//! There is no limit on total time, because large layers over thin lines are legitimate. There is
//! one on silence: each idle period must bring at least [`LEAST`] bytes or the end, so that a client
//! that drips a byte a second does not hold a connection for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http_body::Body as _;
use stella_storage::{Share, Taken};
use tokio::time::{Instant, Sleep};

use crate::error::ApiError;

/// Bytes that an idle period must bring.
const LEAST: usize = 1024;
/// A period whose end is noticed later than this is one in which we did not listen: the request was
/// waiting for memory or for the disk, and the silence was ours.
const LATE: Duration = Duration::from_millis(100);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("it stopped arriving")]
    Idle,
    #[error("it has more bytes than this client may send")]
    TooLarge,
    #[error("{0}")]
    Broken(String),
}

/// A request body as a stream.
pub(crate) struct RequestBody {
    body: BodyDataStream,
    unread: Option<Arc<AtomicBool>>,
    ended: bool,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    arrived: usize,
    /// Set once the stream has failed by silence, for the answer's status.
    timed_out: bool,
    /// Bytes that may still come, if they are limited.
    left: Option<u64>,
    too_large: bool,
}

impl RequestBody {
    pub(crate) fn new(body: Body, idle: Duration) -> Self {
        RequestBody {
            unread: None,
            ended: body.is_end_stream(),
            body: body.into_data_stream(),
            idle,
            deadline: Box::pin(tokio::time::sleep(idle)),
            arrived: 0,
            timed_out: false,
            left: None,
            too_large: false,
        }
    }

    /// The whole body, if it has at most `limit` bytes and `memory` has room for it; what it takes of
    /// `memory` goes back with the permit. It takes what arrives, not what is announced.
    pub(crate) async fn collect(
        mut self,
        limit: usize,
        memory: &Share,
    ) -> Result<(Bytes, Option<Taken>), ApiError> {
        let (mut all, mut taken) = (BytesMut::new(), None::<Taken>);
        while let Some(piece) = self.next().await {
            let piece = piece.map_err(|error| match error {
                BodyError::Idle => ApiError::body_timeout(),
                BodyError::TooLarge => ApiError::manifest_too_large(limit),
                BodyError::Broken(cause) => ApiError::body_broken(cause),
            })?;
            if all.len() + piece.len() > limit {
                return Err(ApiError::manifest_too_large(limit));
            }
            // Waiting here would let slow clients, who hold what they sent, keep out all others.
            let more = memory.try_take(piece.len()).ok_or_else(ApiError::unavailable)?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                None => taken = Some(more),
            }
            all.extend_from_slice(&piece);
        }
        Ok((all.freeze(), taken))
    }

    /// Tells the connection if this body is dropped before its end.
    pub(crate) fn telling(mut self, unread: Arc<AtomicBool>) -> Self {
        self.unread = Some(unread);
        self
    }

    /// From now on no more bytes are taken than these.
    pub(crate) fn limit(&mut self, most: Option<u64>) {
        self.left = most;
    }

    /// Whether the body ended because there were more bytes than the client may send.
    pub(crate) fn too_large(&self) -> bool {
        self.too_large
    }

    /// Whether the body ended because the client had stopped sending.
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (false, Some(unread)) = (self.ended, &self.unread) {
            unread.store(true, Ordering::Relaxed);
        }
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_next(context) {
            Poll::Ready(None) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(piece))) => {
                this.arrived = this.arrived.saturating_add(piece.len());
                if let Some(left) = &mut this.left {
                    let Some(after) = left.checked_sub(piece.len() as u64) else {
                        this.too_large = true;
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    };
                    *left = after;
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error.to_string())))),
            Poll::Pending => {
                while this.deadline.as_mut().poll(context).is_ready() {
                    let late = Instant::now().saturating_duration_since(this.deadline.deadline());
                    if this.arrived < LEAST && late < LATE {
                        this.timed_out = true;
                        return Poll::Ready(Some(Err(BodyError::Idle)));
                    }
                    this.arrived = 0;
                    this.deadline.as_mut().reset(Instant::now() + this.idle);
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: usize, every: Duration, size: usize) -> Body {
        Body::from_stream(futures_util::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(every).await;
            (sent < pieces).then(|| (Ok::<_, std::io::Error>(vec![b'x'; size]), sent + 1))
        }))
    }

    fn room() -> Share {
        Share::of(1 << 20)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_may_take_any_time_but_a_dripping_one_may_not() {
        let idle = Duration::from_secs(10);
        let slow = RequestBody::new(body(100, Duration::from_secs(5), 1024), idle);
        assert_eq!(slow.collect(1 << 20, &room()).await.unwrap().0.len(), 102_400);
        let dripping = RequestBody::new(body(100, Duration::from_secs(1), 1), idle);
        assert_eq!(
            dripping.collect(1 << 20, &room()).await.unwrap_err().status,
            http::StatusCode::REQUEST_TIMEOUT
        );
        let silent = RequestBody::new(body(1, Duration::from_mins(1), 5000), idle);
        assert_eq!(
            silent.collect(1 << 20, &room()).await.unwrap_err().status,
            http::StatusCode::REQUEST_TIMEOUT
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_not_blamed_for_the_time_in_which_nobody_listened() {
        let idle = Duration::from_secs(10);
        let mut body = RequestBody::new(body(2, Duration::from_secs(5), 10), idle);
        // Nothing arrives before it is asked for, as on a connection whose window is full.
        tokio::time::sleep(3 * idle).await;
        assert_eq!(body.next().await.unwrap().unwrap().len(), 10);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let body = RequestBody::new(Body::from(vec![0; 11]), Duration::from_secs(1));
        assert_eq!(body.collect(10, &room()).await.unwrap_err().status, http::StatusCode::PAYLOAD_TOO_LARGE);
        let body = RequestBody::new(Body::from(vec![0; 10]), Duration::from_secs(1));
        assert_eq!(body.collect(10, &room()).await.unwrap().0.len(), 10);
    }

    #[tokio::test]
    async fn a_body_without_room_is_refused_and_room_comes_back() {
        let room = Share::of(10);
        let body = |size| RequestBody::new(Body::from(vec![0; size]), Duration::from_secs(1));
        let first = body(6).collect(10, &room).await.unwrap();
        let second = body(6).collect(10, &room).await.unwrap_err();
        assert_eq!(second.status, http::StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        body(10).collect(10, &room).await.unwrap();
        assert_eq!(room.held(), 0);
    }
}
