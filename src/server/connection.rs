//! Serves the requests of one connection.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header, uri::Scheme};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::{
    Request as HyperRequest, Response as HyperResponse, body::Incoming, rt::Executor, service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::{rt::TokioIo, server::conn::auto::Builder};
use parking_lot::Mutex;
use poem::{
    Body, Endpoint, Request,
    web::{LocalAddr, RemoteAddr},
};
use tenantry_openapi::LastCall;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::activity::{
    Activity, Deadline, Doing, LINGER, LINGER_BYTES, LINGER_PAUSE, RunningRequest, UNREAD, WatchedSocket,
};
use crate::config::ServerLimits;

/// The most bytes of a request's head. hyper answers 431 to a larger one on HTTP/1, without a body;
/// on HTTP/2 it is announced to the client.
const MAX_HEAD: usize = 64 * 1024;

/// The longest unread body after which a connection is kept for the next request. hyper discards
/// such a body if it has already arrived.
const SMALL_BODY: u64 = 64 * 1024;

/// How much longer than the longest request an HTTP/2 stream may make no progress.
const AFTER_REQUEST: Duration = Duration::from_secs(5);

/// How long an idle connection may take to end once it is asked to.
const CLOSING: Duration = Duration::from_secs(5);

type ByteStream = BoxBody<Bytes, io::Error>;

/// The two ends of a connection.
pub(super) struct Ends {
    pub(super) local: LocalAddr,
    pub(super) remote: RemoteAddr,
    pub(super) scheme: Scheme,
}

/// The steps in which a server stops.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// No further request is taken.
    pub(super) stopping: CancellationToken,
    /// Requests that still run are answered 503.
    pub(super) last_call: CancellationToken,
    /// Connections are cut off.
    pub(super) cut: CancellationToken,
}

/// What the connections of a listener have in common.
pub(super) struct Service<E> {
    endpoint: Arc<E>,
    http: Builder<Streams>,
    head_timeout: Duration,
}

impl<E: Endpoint + 'static> Service<E> {
    /// Serves `endpoint`. A request takes at most `request_timeout`.
    pub(super) fn new(endpoint: E, limits: &ServerLimits, request_timeout: Duration) -> Self {
        let patience = UNREAD.max(request_timeout + AFTER_REQUEST);
        let mut http = Builder::new(Streams { patience });
        http.http1().max_buf_size(MAX_HEAD);
        http.http2()
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(MAX_HEAD as u32)
            .max_pending_accept_reset_streams(20);
        Self {
            endpoint: Arc::new(endpoint),
            http,
            head_timeout: limits.head_timeout.into(),
        }
    }

    /// How long a request's head, and before it the TLS handshake, may take to arrive.
    pub(super) fn head_timeout(&self) -> Duration {
        self.head_timeout
    }

    /// Serves one connection to its end: until the client closes it, a time limit is over, or, once
    /// [`stopping`](Stop::stopping) is cancelled, its requests are answered. Returns whether the
    /// stop ended a request.
    pub(super) async fn serve<I>(&self, io: I, ends: Ends, stop: &Stop) -> bool
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::default());
        let mut deadline = Deadline::new(activity.clone(), self.head_timeout);
        let io = TokioIo::new(WatchedSocket::new(io, activity.clone()));
        let refused = Arc::new(Mutex::new(None));
        let last_call = LastCall::default();
        let Stop {
            stopping,
            last_call: hurry,
            cut,
        } = stop;
        let service = service_fn(|request| self.answer(request, &ends, &activity, (&last_call, &refused)));
        let mut connection = pin!(self.http.serve_connection_with_upgrades(io, service));
        let mut stopped = pin!(stopping.cancelled());
        let mut hurried = pin!(hurry.cancelled().fuse());
        let mut cut_off = pin!(cut.cancelled());
        let mut closing: Option<BoxFuture<'static, ()>> = None;
        let mut is_begun = false;
        let overdue = poll_fn(|context| {
            if !std::mem::replace(&mut is_begun, true) {
                // The first request may be here already. At a stop, a connection of which nothing
                // was read would end without its answer.
                context.waker().wake_by_ref();
            } else if !deadline.is_stopping() && stopped.as_mut().poll(context).is_ready() {
                deadline.stop();
                connection.as_mut().graceful_shutdown();
            }
            if hurried.as_mut().poll(context).is_ready() {
                last_call.call();
            }
            if cut_off.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            loop {
                let ended = match &mut closing {
                    None => connection.as_mut().poll(context),
                    Some(closing) => closing.as_mut().poll(context).map(Ok),
                };
                match ended {
                    Poll::Pending => return deadline.poll(context).map(Some),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(error, "a connection failed");
                        return Poll::Ready(None);
                    }
                }
                match refused.lock().take() {
                    Some(refused) => closing = Some(Box::pin(close(refused))),
                    None => return Poll::Ready(None),
                }
            }
        });
        if overdue.await == Some(Doing::Idle) && !stopping.is_cancelled() {
            // The client is sent GOAWAY on HTTP/2, so that it sends no request into a closing
            // connection.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = sleep(CLOSING) => tracing::debug!("an idle connection did not end when it was asked to"),
                () = cut.cancelled() => {}
            }
        }
        last_call.has_ended_a_request() || (cut.is_cancelled() && activity.has_request())
    }

    /// The answer to one request.
    fn answer(
        &self,
        request: HyperRequest<Incoming>,
        ends: &Ends,
        activity: &Arc<Activity>,
        (last_call, refused): (&LastCall, &Arc<Mutex<Option<OnUpgrade>>>),
    ) -> impl Future<Output = Result<HyperResponse<Answer>, Infallible>> + Send + use<E> {
        let version = request.version();
        let upgrade = request.extensions().get::<OnUpgrade>().cloned();
        let upgrade = upgrade.map(|upgrade| (upgrade, refused.clone()));
        let running = activity.begin(version);
        let (local, remote, scheme) = (ends.local.clone(), ends.remote.clone(), ends.scheme.clone());
        let mut request = Request::from((request, local, remote, scheme));
        request.set_data(last_call.clone());
        let unread = Unread::watch(&mut request);
        let endpoint = self.endpoint.clone();
        async move {
            let response = endpoint.get_response(request).await;
            let mut response = HyperResponse::from(response);
            if let Some(unread) = unread.filter(|_| version < Version::HTTP_2) {
                unread.answered(response.headers_mut(), running.activity());
            }
            if let Some((upgrade, refused)) = upgrade
                && response.status() != StatusCode::SWITCHING_PROTOCOLS
            {
                *refused.lock() = Some(upgrade);
            }
            Ok(response.map(|body| Answer::new(body, version, running)))
        }
    }
}

/// Closes a connection after a refused `Upgrade`. hyper hands such a connection over as an upgraded
/// one, without closing it.
async fn close(refused: OnUpgrade) {
    if let Ok(upgraded) = refused.await {
        let mut io = TokioIo::new(upgraded);
        if let Err(error) = io.shutdown().await {
            tracing::debug!(%error, "a connection could not be closed");
        }
    }
}

/// Knows whether a request's body was read to its end.
struct Unread {
    ended: Arc<AtomicBool>,
    is_small: bool,
}

impl Unread {
    /// Watches the request's body, if it has one.
    fn watch(request: &mut Request) -> Option<Self> {
        let body: ByteStream = request.take_body().into();
        if body.is_end_stream() {
            request.set_body(Body::from(body));
            return None;
        }
        let unread = Self {
            ended: Arc::default(),
            is_small: body.size_hint().upper().is_some_and(|size| size <= SMALL_BODY),
        };
        request.set_body(Body::from(BoxBody::new(WatchedBody {
            inner: body,
            ended: unread.ended.clone(),
            is_http2: request.version() == Version::HTTP_2,
        })));
        Some(unread)
    }

    /// Notes that the answer was made. hyper closes the connection after it if the client is still
    /// sending, which the client is to know (RFC 9112 §9.6).
    fn answered(&self, headers: &mut HeaderMap, activity: &Activity) {
        if self.ended.load(Relaxed) {
            return;
        }
        activity.leave_unread();
        if !self.is_small {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A request's body that reports its end. On HTTP/2 what is left of it is discarded: a stream that
/// is reset before its client has sent everything loses its answer in clients that are in use,
/// although RFC 9113 §8.1 allows it.
struct WatchedBody {
    inner: ByteStream,
    ended: Arc<AtomicBool>,
    is_http2: bool,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if self.is_http2 && !self.ended.load(Relaxed) {
            tokio::spawn(discard(std::mem::take(&mut self.inner)));
        }
    }
}

/// Reads a body and discards it, within the bounds of a lingering connection.
async fn discard(mut body: ByteStream) {
    let end = Instant::now() + LINGER;
    let mut left = LINGER_BYTES;
    while left > 0 {
        let pause = end.min(Instant::now() + LINGER_PAUSE);
        match timeout_at(pause, body.frame()).await {
            Ok(Some(Ok(frame))) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
            _ => return,
        }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if frame.is_none() || self.inner.is_end_stream() {
            self.ended.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body. On HTTP/2 it is sent in pieces, each once the client has room for it: what h2
/// is given at once stays in memory until the client takes it, with no limit of time.
struct Answer {
    inner: ByteStream,
    is_http2: bool,
    /// What is left of a frame that is larger than a piece.
    rest: Bytes,
    _running: RunningRequest,
}

/// The largest payload of an HTTP/2 frame, unless the client allows more (RFC 9113 §4.2).
const PIECE: usize = 16 * 1024;

impl Answer {
    fn new(inner: ByteStream, version: Version, running: RunningRequest) -> Self {
        Self {
            inner,
            is_http2: version == Version::HTTP_2,
            rest: Bytes::new(),
            _running: running,
        }
    }

    fn piece(&mut self, mut data: Bytes) -> Bytes {
        if data.len() > PIECE {
            self.rest = data.split_off(PIECE);
        }
        data
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.is_http2 {
            return Pin::new(&mut self.inner).poll_frame(context);
        }
        Streams::note_progress();
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let piece = self.piece(rest);
            // The last piece would keep all of the frame in memory.
            let piece = if self.rest.is_empty() {
                Bytes::copy_from_slice(&piece)
            } else {
                piece
            };
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| self.piece(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

tokio::task_local! {
    /// When the client of this HTTP/2 stream last took a part of its answer.
    static PROGRESS: Cell<Instant>;
}

/// Runs the streams of HTTP/2 connections, and resets each that makes no progress for too long.
#[derive(Debug, Clone, Copy)]
struct Streams {
    patience: Duration,
}

impl Streams {
    fn note_progress() {
        // Without a stream around it, an answer is read by a test.
        PROGRESS.try_with(|progress| progress.set(Instant::now())).ok();
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let patience = self.patience;
        tokio::spawn(PROGRESS.scope(Cell::new(Instant::now()), async move {
            let mut stream = pin!(stream);
            let mut timer = pin!(sleep(patience));
            loop {
                tokio::select! {
                    biased;
                    _ = stream.as_mut() => return,
                    () = timer.as_mut() => {
                        let end = PROGRESS.with(Cell::get) + patience;
                        if end <= Instant::now() {
                            return;
                        }
                        timer.as_mut().reset(end);
                    }
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests;
