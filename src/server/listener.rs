//! Accepts connections. It survives a process that has no file descriptors left, and loses no
//! connection when it closes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::uri::Scheme;
use poem::{
    Addr, Endpoint,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    activity::STOPPING,
    certificate::TlsAcceptor,
    connection::{Ends, Service, Stop},
};

/// How long no connection is accepted after a failure: the cause (too many open files) does not go
/// away at once, and a loop without a pause would keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests that still run are answered 503 this long before they would be cut off, or a quarter of
/// their time to end before, if that is less.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How long connections that have begun may take to be established after new ones are turned away:
/// a round trip on a slow network.
const SETTLING: Duration = Duration::from_millis(200);

/// Which part of the time for stopping the settling may take at most.
const SETTLING_PART: u32 = 10;

/// How long a listener goes on accepting after it turns new connections away: [`SETTLING`], but no
/// more than its part of `grace`.
pub(crate) fn settling(grace: Duration) -> Duration {
    (grace / SETTLING_PART).min(SETTLING)
}

/// A listening socket and what it serves.
pub(crate) struct Listener<E> {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    /// One permit for each connection, if their number is limited.
    permits: Option<Arc<Semaphore>>,
    service: Arc<Service<E>>,
}

/// How a listener is closed.
pub(crate) struct Closing {
    /// Cancelled when it is to begin: connections that are established by then are still accepted.
    pub(crate) begin: CancellationToken,
    /// How long it still accepts.
    pub(crate) settling: Duration,
    /// How long its requests may then take to end.
    pub(crate) drain: Duration,
}

impl<E: Endpoint + 'static> Listener<E> {
    /// Binds the address; at most `connections` are served at once.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        connections: Option<usize>,
        service: Service<E>,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            tls,
            permits: connections.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            service: Arc::new(service),
        })
    }

    /// The address that it got.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is closed. Returns whether requests were cut off.
    pub(crate) async fn serve(self, closing: Closing) -> bool {
        let connections = Connections::default();
        let mut settled = None;
        loop {
            let accepted = tokio::select! {
                biased;
                // First, since `accept` may be ready each time: while clients keep coming, and
                // while the process has no file descriptor left.
                () = closing.begin.cancelled(), if settled.is_none() => {
                    turn_newcomers_away(&self.tcp);
                    settled = Some(Instant::now() + closing.settling);
                    continue;
                }
                accepted = self.accept(settled.is_some()) => accepted,
                () = until(settled), if settled.is_some() => break,
            };
            match accepted {
                Ok((tcp, remote, permit)) => self.spawn(tcp, remote, permit, &connections),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    let pause = Instant::now() + PAUSE;
                    tokio::time::sleep_until(settled.map_or(pause, |end| end.min(pause))).await;
                    if settled.is_some_and(|end| end <= Instant::now()) {
                        break;
                    }
                }
            }
        }
        drop(self.tcp);
        connections.end(closing.drain).await
    }

    /// Accepts the next connection once there is room for it: until then it waits in the kernel. As
    /// the listener closes, the limit no longer holds: the kernel would reset what waits there.
    async fn accept(&self, is_closing: bool) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
        let permit = match &self.permits {
            Some(permits) if !is_closing => Some(permits.clone().acquire_owned().await.map_err(io::Error::other)?),
            _ => None,
        };
        let (tcp, remote) = self.tcp.accept().await?;
        // Without it a small answer waits for the client's delayed acknowledgement of the packet
        // before it, such as the tickets of TLS: up to 40 ms.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small packets of a connection may be delayed");
        }
        Ok((tcp, remote, permit))
    }

    fn spawn(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
        connections: &Connections,
    ) {
        let ends = Ends {
            local: LocalAddr(Addr::SocketAddr(self.address)),
            remote: RemoteAddr(Addr::SocketAddr(remote)),
            scheme: if self.tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
        };
        let (service, tls) = (self.service.clone(), self.tls.clone());
        let Connections { tasks, stop, has_cut } = connections.clone();
        tasks.spawn(async move {
            let was_cut = match tls {
                None => service.serve(tcp, ends, &stop).await,
                Some(tls) => {
                    let handshake = timeout(service.head_timeout(), tls.accept(tcp));
                    let stopped = async {
                        stop.stopping.cancelled().await;
                        tokio::time::sleep(STOPPING).await;
                    };
                    let shaken = tokio::select! {
                        shaken = handshake => shaken,
                        () = stopped => return,
                        () = stop.cut.cancelled() => return,
                    };
                    match shaken {
                        Ok(Ok(tls)) => service.serve(tls, ends, &stop).await,
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "a TLS handshake failed");
                            false
                        }
                        Err(_) => false,
                    }
                }
            };
            if was_cut {
                has_cut.store(true, Relaxed);
            }
            drop(permit);
        });
    }
}

/// The connections that were accepted.
#[derive(Clone, Default)]
struct Connections {
    tasks: TaskTracker,
    stop: Stop,
    has_cut: Arc<AtomicBool>,
}

impl Connections {
    /// Lets their requests end, at most for this time; those that still run shortly before its end
    /// are answered 503. Returns whether there were any.
    async fn end(self, within: Duration) -> bool {
        self.stop.stopping.cancel();
        self.tasks.close();
        let last = LAST_CALL.min(within / 4);
        if timeout(within - last, self.tasks.wait()).await.is_err() {
            self.stop.last_call.cancel();
            if timeout(last, self.tasks.wait()).await.is_err() {
                self.stop.cut.cancel();
                self.tasks.wait().await;
            }
        }
        self.has_cut.load(Relaxed)
    }
}

/// Turns new connections away: the kernel drops the packets that would begin one, and refuses them
/// once the socket is closed. Closing a socket without this resets connections that are established
/// but not accepted yet, and their clients may already have sent requests.
#[cfg(target_os = "linux")]
fn turn_newcomers_away(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};

    /// The SYN bit of the flags in the fourteenth byte of a TCP header (RFC 9293 §3.1), at which a
    /// packet to a listener begins.
    const DROP_SYN: [SockFilter; 4] = [
        // Load the byte.
        SockFilter::new(0x30, 0, 0, 13),
        // If the bit is set continue, else skip one.
        SockFilter::new(0x45, 0, 1, 0x02),
        // Drop.
        SockFilter::new(0x06, 0, 0, 0),
        // Keep all of it.
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&DROP_SYN) {
        tracing::warn!(%error, "connections that begin while the server closes may be reset");
    }
}

/// Other systems have no such way, and reset the few connections that begin in the last moment.
#[cfg(not(target_os = "linux"))]
fn turn_newcomers_away(_: &TcpListener) {}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
