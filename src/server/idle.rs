//! Closes connections that nobody uses, and gives up requests whose clients have gone. poem's own way to do the first wakes a task of its own
//! at every read and every write, which costs a small request a tenth of its time; the second it does not do.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::unconstrained,
    time::{Instant, Sleep, sleep},
};

/// A connection that ends once nothing was read from it or written to it for some time: what is read then is its end, and what cannot be
/// written is an error. A client that ends its side has gone, which is an error too: of a mere end poem makes that no other request is read,
/// and the one that runs would keep its connection to the database until it has an answer for nobody.
pub(crate) struct UntilIdle<T> {
    inner: T,
    idle: Duration,
    /// Something was read since anyone looked at the clock. Whoever reads goes on until there is nothing more, and is told so here; a
    /// write may be the last that happens for long.
    read: bool,
    used_at: Instant,
    timer: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    waker: Option<Waker>,
}

impl<T> UntilIdle<T> {
    pub(crate) fn new(inner: T, idle: Duration) -> Self {
        Self {
            inner,
            idle,
            read: false,
            used_at: Instant::now(),
            timer: Box::pin(sleep(idle)),
            waker: None,
        }
    }

    /// Ready when it was not used for too long. Called where there is nothing else to do, so the clock is read once for all that was read in
    /// one go, and the timer is set once in `idle`.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.read) {
            self.used_at = Instant::now();
        }
        let waits = self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if waits && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        // Whether or not the task has used up its turn: the timer must know whom to wake.
        while pin!(unconstrained(self.timer.as_mut())).poll(context).is_ready() {
            let end = self.used_at + self.idle;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn written<R>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.used_at = Instant::now();
            return polled;
        }
        self.poll_idle(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for UntilIdle<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.read = true;
            let is_end = buffer.remaining() == before && before > 0;
            return read.map_ok(|()| is_end).map(|read| match read {
                Ok(true) => Err(io::ErrorKind::ConnectionReset.into()),
                other => other.map(drop),
            });
        }
        self.poll_idle(context).map(Ok)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for UntilIdle<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if flushed.is_ready() {
            return flushed;
        }
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.inner).poll_shutdown(context);
        self.written(context, shut_down)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_uses_ends() {
        let (_client, server) = duplex(16);
        let mut server = UntilIdle::new(server, IDLE);
        let started = Instant::now();
        assert_eq!(server.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(started.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn each_use_begins_its_time_anew() {
        let (mut client, server) = duplex(16);
        let mut server = UntilIdle::new(server, IDLE);
        let started = Instant::now();
        let asks = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(60)).await;
                client.write_all(b"a").await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'b');
            }
            client
        });
        let mut buffer = [0; 16];
        while server.read(&mut buffer).await.unwrap() > 0 {
            server.write_all(b"b").await.unwrap();
        }
        assert_eq!(started.elapsed().as_secs(), 5 * 60 + 75);
        drop(asks.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_counts_though_nobody_reads_after_it() {
        let (_client, server) = duplex(16);
        let (mut reads, mut writes) = tokio::io::split(UntilIdle::new(server, IDLE));
        let started = Instant::now();
        let end = tokio::spawn(async move { reads.read(&mut [0; 16]).await });
        tokio::time::sleep(Duration::from_secs(60)).await;
        writes.write_all(b"b").await.unwrap();
        assert_eq!(end.await.unwrap().unwrap(), 0);
        assert_eq!(started.elapsed().as_secs(), 60 + 75);
    }

    #[tokio::test]
    async fn a_client_that_ends_its_side_has_gone() {
        let (mut client, server) = duplex(16);
        let mut server = UntilIdle::new(server, IDLE);
        client.write_all(b"a").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        let error = server.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (_client, server) = duplex(16);
        let mut server = UntilIdle::new(server, IDLE);
        let error = server.write_all(&[0; 32]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
