//! How a server stops: after a signal, in steps that lose no request.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::certificate::{Certificate, Renewal};

/// How a server is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Requests are taken a moment longer, so that load balancers see that readiness is down.
    AfterNotice,
    /// No request is taken any more; those that run end.
    AtOnce,
}

/// The signals that ask this process to stop: SIGTERM, which an orchestrator sends, and Ctrl-C,
/// after which a person wants the terminal back.
///
/// From its creation on they do not end the process. The first process of a container would ignore
/// a SIGTERM that it does not listen to.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(not(unix))]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Listens from now on. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// When this process may not listen to signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate())?,
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt())?,
            #[cfg(not(unix))]
            interrupt: tokio::signal::windows::ctrl_c()?,
        })
    }

    /// Waits for the next signal since it listens. None is lost between two calls.
    pub(crate) async fn next(&mut self) -> Stopping {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => Stopping::AfterNotice,
            _ = self.interrupt.recv() => Stopping::AtOnce,
        }
        #[cfg(not(unix))]
        {
            self.interrupt.recv().await;
            Stopping::AtOnce
        }
    }

    /// Waits for the next Ctrl-C.
    pub(crate) async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}

/// How often the certificate's files are read again.
const RENEWAL: Duration = Duration::from_secs(20);

/// Finds out whether the certificate's files have changed, every 20 seconds and at a SIGHUP, and
/// loads them if so. Without a certificate it keeps SIGHUP from ending the process.
pub(crate) async fn on_hangup(certificate: Option<Arc<Certificate>>) {
    let mut renewal = certificate.map(Renewal::new);
    #[cfg(unix)]
    let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            return tracing::error!(%error, "a renewed certificate is not loaded: SIGHUP cannot be listened to");
        }
    };
    loop {
        #[cfg(unix)]
        let is_asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(RENEWAL) => false,
        };
        #[cfg(not(unix))]
        let is_asked = {
            tokio::time::sleep(RENEWAL).await;
            false
        };
        if let Some(renewal) = &mut renewal {
            renewal.read(is_asked).await;
        }
    }
}

/// How long the server still accepts connections after readiness turned down, so that load
/// balancers notice before connections are refused.
pub(crate) fn notice(stopping: Stopping, grace: Duration) -> Duration {
    match stopping {
        Stopping::AfterNotice => (grace / 4).min(Duration::from_secs(2)),
        Stopping::AtOnce => Duration::ZERO,
    }
}

/// Asks clients to open no further request on their connections once draining began. (A
/// `CancellationToken` would be locked by every request that looks at it.)
#[derive(Clone)]
pub(crate) struct CloseWhenDraining(pub(crate) Arc<AtomicBool>);

impl<E: Endpoint> Middleware<E> for CloseWhenDraining {
    type Output = CloseWhenDrainingEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        CloseWhenDrainingEndpoint {
            inner,
            draining: self.0.clone(),
        }
    }
}

pub(crate) struct CloseWhenDrainingEndpoint<E> {
    inner: E,
    draining: Arc<AtomicBool>,
}

impl<E: Endpoint> Endpoint for CloseWhenDrainingEndpoint<E> {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let is_http1 = request.version() <= http::Version::HTTP_11;
        self.inner.call(request).map(move |answer| {
            let mut response = answer?.into_response();
            // HTTP/2 has no such header (RFC 9113 §8.2.2); hyper sends GOAWAY instead.
            if is_http1 && self.draining.load(Ordering::Relaxed) {
                let close = http::HeaderValue::from_static("close");
                response.headers_mut().insert(http::header::CONNECTION, close);
            }
            Ok(response)
        })
    }
}
