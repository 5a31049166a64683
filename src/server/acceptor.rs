//! Accepts connections: without falling over when the process has no file descriptors left, and without losing one at the end.

use std::{io, time::Duration};

use http::uri::Scheme;
use poem::{
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};
use socket2::{SockRef, Socket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::idle::UntilIdle;

/// How long a failed accept is followed by none: the cause (too many open files) does not go away at once, and trying again without a
/// pause would keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// How long connections that were begun may take to be established after newcomers are turned away: a round trip on a slow network.
const SETTLING: Duration = Duration::from_millis(200);

/// Which part of the time for stopping the settling may take at most.
const SETTLING_PART: u32 = 10;

/// How long the door takes to close, within this time for stopping.
pub(crate) fn settling(grace: Duration) -> Duration {
    (grace / SETTLING_PART).min(SETTLING)
}

/// A listening socket's second handle, to turn newcomers away by. A socket that is just closed resets the connections that are established
/// and not accepted yet, whose clients may have sent their requests already.
pub(crate) struct Latch(#[cfg_attr(not(target_os = "linux"), allow(dead_code))] Socket);

impl Latch {
    /// Of this listening socket.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub(crate) fn of(listener: &tokio::net::TcpListener) -> io::Result<Self> {
        SockRef::from(listener).try_clone().map(Self)
    }

    /// From now on nobody begins a connection: the kernel drops what would begin one, and answers it with a refusal once the socket is
    /// closed. Connections that are begun go on.
    #[cfg(target_os = "linux")]
    fn turn_newcomers_away(&self) {
        use socket2::SockFilter;

        /// The SYN bit of the flags in the fourteenth byte of a TCP header (RFC 9293 §3.1), where a packet to a listener begins.
        const DROP_SYN: [SockFilter; 4] = [
            // Load the byte.
            SockFilter::new(0x30, 0, 0, 13),
            // Where the bit is set go on, else skip one.
            SockFilter::new(0x45, 0, 1, 0x02),
            // Drop.
            SockFilter::new(0x06, 0, 0, 0),
            // Keep all of it.
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        if let Err(error) = self.0.attach_filter(&DROP_SYN) {
            tracing::warn!(%error, "connections that are begun while the server closes may be reset");
        }
    }

    /// Elsewhere there is no such way, and the few connections that are begun in the last moment are reset.
    #[cfg(not(target_os = "linux"))]
    fn turn_newcomers_away(&self) {}
}

/// An acceptor that pauses after a failure and tells of it. Once `closing` is cancelled it turns newcomers away, accepts whoever is
/// connected, and then cancels `closed`, on which the server drops it.
pub(crate) struct DoorAcceptor<A> {
    pub(crate) inner: A,
    pub(crate) latch: Option<Latch>,
    pub(crate) closing: CancellationToken,
    pub(crate) closed: CancellationToken,
    /// How long a connection may be unused.
    pub(crate) idle: Duration,
    /// How long it accepts on after newcomers are turned away.
    pub(crate) settling: Duration,
    /// Until when, once they are.
    pub(crate) settled: Option<Instant>,
}

impl<A: Acceptor> Acceptor for DoorAcceptor<A> {
    type Io = UntilIdle<A::Io>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        loop {
            let settled = self.settled;
            let accepted = tokio::select! {
                biased;
                accepted = self.inner.accept() => accepted,
                () = self.closing.cancelled(), if settled.is_none() => {
                    if let Some(latch) = &self.latch {
                        latch.turn_newcomers_away();
                    }
                    self.settled = Some(Instant::now() + self.settling);
                    continue;
                }
                () = until(settled), if settled.is_some() => {
                    // The socket lives as long as one of its handles.
                    self.latch = None;
                    self.closed.cancel();
                    std::future::pending().await
                }
            };
            if let Err(error) = &accepted {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            return accepted.map(|(io, local, remote, scheme)| (UntilIdle::new(io, self.idle), local, remote, scheme));
        }
    }
}

/// An acceptor that lets whoever has it do first what is ready to be done. poem's TLS reads its certificate in turn with the connections, and
/// throws away one that it comes upon before.
pub(crate) struct YieldsFirst<A> {
    inner: A,
    began: bool,
}

impl<A> YieldsFirst<A> {
    pub(crate) fn new(inner: A) -> Self {
        Self { inner, began: false }
    }
}

impl<A: Acceptor> Acceptor for YieldsFirst<A> {
    type Io = A::Io;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        if !self.began {
            self.began = true;
            tokio::task::yield_now().await;
        }
        self.inner.accept().await
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use poem::listener::{AcceptorExt as _, IntoTlsConfigStream as _, RustlsCertificate, RustlsConfig, TcpAcceptor};
    use tenantry_test_support::Certificates;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn who_connects_before_the_certificate_is_loaded_is_not_thrown_away() {
        let certificates = Certificates::make().unwrap();
        for _ in 0..20 {
            let certificate = RustlsCertificate::new()
                .cert(&*certificates.server_cert_pem)
                .key(&*certificates.server_key_pem);
            let config = RustlsConfig::new().fallback(certificate);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _early = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let tcp = YieldsFirst::new(TcpAcceptor::from_tokio(listener).unwrap());
            let mut acceptor = tcp.rustls(config.into_stream().unwrap());
            assert!(acceptor.accept().await.is_ok());
        }
    }
}
