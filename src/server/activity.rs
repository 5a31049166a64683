//! What happens on a connection, as its socket and its requests report it, and how long each may
//! last.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a connection may be unused between two requests.
const IDLE: Duration = Duration::from_secs(75);

/// How long a client may read none of the bytes that are sent to it.
pub(super) const UNREAD: Duration = Duration::from_secs(60);

/// How long the server discards what a client still sends after its answer, in all and from one
/// piece to the next (nginx's `lingering_time` and `lingering_timeout`).
pub(super) const LINGER: Duration = Duration::from_secs(30);
pub(super) const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// The most bytes that are discarded.
pub(super) const LINGER_BYTES: usize = 256 * 1024 * 1024;

/// How long a connection without a request may take to end while the server stops.
pub(super) const STOPPING: Duration = Duration::from_secs(1);

/// What a connection is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// A request head is arriving, or the first one is awaited.
    Head,
    /// A request runs, within its own time limit.
    Request,
    /// Nothing: the next request is awaited.
    Idle,
    /// The client takes no bytes.
    Unread,
    /// The answer was sent, and the rest of what the client sends is discarded.
    Lingering,
}

/// The state of one connection. Its socket and its requests write it, [`Deadline`] reads it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    /// A request began since the deadline looked.
    begun: AtomicBool,
    /// Bytes arrived that belong to no request that has begun.
    arriving: AtomicBool,
    /// Bytes were read or written since the deadline looked.
    moved: AtomicBool,
    /// The client did not take the bytes that were last written.
    blocked: AtomicBool,
    /// The client may be sending a body that nothing reads.
    unread_body: AtomicBool,
    lingering: AtomicBool,
    http2: AtomicBool,
}

impl Activity {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> RunningRequest {
        self.requests.fetch_add(1, Relaxed);
        self.begun.store(true, Relaxed);
        self.arriving.store(false, Relaxed);
        self.unread_body.store(false, Relaxed);
        if version == Version::HTTP_2 {
            self.http2.store(true, Relaxed);
        }
        RunningRequest(self.clone())
    }

    /// Notes that an answer was made before the request's body was read to its end.
    pub(super) fn leave_unread(&self) {
        self.unread_body.store(true, Relaxed);
    }

    /// Whether a request runs, or its answer was not taken yet.
    pub(super) fn has_request(&self) -> bool {
        self.requests.load(Relaxed) > 0 || (self.blocked.load(Relaxed) && !self.lingering.load(Relaxed))
    }

    /// Whether the client may be sending something that nothing reads: a body, or a head that was
    /// refused.
    fn should_linger(&self) -> bool {
        !self.http2.load(Relaxed) && (self.unread_body.load(Relaxed) || self.arriving.load(Relaxed))
    }

    fn doing(&self) -> Doing {
        if self.lingering.load(Relaxed) {
            Doing::Lingering
        } else if self.blocked.load(Relaxed) {
            Doing::Unread
        } else if self.requests.load(Relaxed) > 0 {
            Doing::Request
        } else if self.arriving.load(Relaxed) && !self.http2.load(Relaxed) {
            // On HTTP/2 bytes also arrive that belong to no head.
            Doing::Head
        } else {
            Doing::Idle
        }
    }
}

/// A request, from when its head has arrived until its answer is handed to the connection.
#[derive(Debug)]
pub(super) struct RunningRequest(Arc<Activity>);

impl RunningRequest {
    /// Its connection's.
    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            // What arrived until now was the request's body.
            self.0.arriving.store(false, Relaxed);
        }
    }
}

/// The deadline of a connection, which depends on its activity.
pub(super) struct Deadline {
    activity: Arc<Activity>,
    head: Duration,
    stopping: bool,
    doing: Doing,
    since: Instant,
    /// When it has to stop lingering.
    linger_end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// For a new connection, of which the first head is awaited for `head`.
    pub(super) fn new(activity: Arc<Activity>, head: Duration) -> Self {
        let now = Instant::now();
        Self {
            activity,
            head,
            stopping: false,
            doing: Doing::Head,
            since: now,
            linger_end: now,
            timer: Box::pin(sleep(head)),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// From now on a connection without a request ends soon.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Ready once the time for what the connection is doing is over. To be polled after the
    /// connection.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Doing> {
        let now = Instant::now();
        self.look(now);
        let limit = match self.doing {
            Doing::Request => return Poll::Pending,
            Doing::Idle | Doing::Lingering if self.stopping => STOPPING,
            Doing::Head => self.head,
            Doing::Idle => IDLE,
            Doing::Unread => UNREAD,
            Doing::Lingering => LINGER_PAUSE.min(self.linger_end - self.since),
        };
        let end = self.since + limit;
        // If the timer fires too early, it is set again. Most requests end long before, so this is
        // rare.
        if self.timer.deadline() > end {
            self.timer.as_mut().reset(end);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if end <= Instant::now() {
                return Poll::Ready(self.doing);
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }

    fn look(&mut self, now: Instant) {
        let doing = self.activity.doing();
        let begun = self.activity.begun.swap(false, Relaxed);
        let moved = self.activity.moved.swap(false, Relaxed);
        // Before the first request `doing` says `Idle`, but the time for the head goes on.
        if doing == Doing::Idle && self.doing == Doing::Head && !begun {
            return;
        }
        if doing == Doing::Lingering && self.doing != doing {
            self.linger_end = now + LINGER;
        }
        let restarts = match doing {
            Doing::Unread | Doing::Lingering => moved,
            _ => begun,
        };
        if doing != self.doing || restarts {
            self.doing = doing;
            self.since = now;
        }
    }
}

/// A connection's socket, which reports to its [`Activity`].
///
/// The end of the client's side is reported as an error, since the client is gone. If it were
/// reported as an ordinary end, hyper would let the running request keep its database connection
/// for an answer that no client reads.
pub(super) struct WatchedSocket<T> {
    inner: T,
    activity: Arc<Activity>,
    /// How many more bytes are discarded after the server's side is closed.
    lingers: Option<usize>,
}

impl<T> WatchedSocket<T> {
    pub(super) fn new(inner: T, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            activity,
            lingers: None,
        }
    }

    fn wrote<R>(&self, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.activity.moved.store(true, Relaxed);
        }
        self.activity.blocked.store(polled.is_pending(), Relaxed);
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if buffer.remaining() == before && before > 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.activity.arriving.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedSocket<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if flushed.is_pending() {
            return self.wrote(flushed);
        }
        flushed
    }

    /// Closes this side. If the client may still be sending, what it sends is read and discarded: a
    /// socket that is closed with unread bytes is reset, and the client loses the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = match self.lingers {
            Some(left) => left,
            None => {
                ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
                if !self.activity.should_linger() {
                    return Poll::Ready(Ok(()));
                }
                self.activity.lingering.store(true, Relaxed);
                LINGER_BYTES
            }
        };
        let mut discarded = [0; 16 * 1024];
        loop {
            self.lingers = Some(left);
            let mut buffer = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer));
            let size = buffer.filled().len();
            left = left.saturating_sub(size);
            if read.is_err() || size == 0 || left == 0 {
                return Poll::Ready(Ok(()));
            }
            self.activity.moved.store(true, Relaxed);
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
