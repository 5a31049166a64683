//! Accepts connections without falling over when the process has no file descriptors left.

use std::{io, time::Duration};

use http::uri::Scheme;
use poem::{
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};

/// How long a failed accept is followed by none: the cause (too many open files) does not go away at once, and trying again without a
/// pause would keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// An acceptor that pauses after a failure and tells of it.
pub(crate) struct PausingAcceptor<A>(pub(crate) A);

impl<A: Acceptor> Acceptor for PausingAcceptor<A> {
    type Io = A::Io;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let accepted = self.0.accept().await;
        if let Err(error) = &accepted {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
        }
        accepted
    }
}
