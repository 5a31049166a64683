//! The server: builds everything, binds the sockets, and serves until it is stopped.
//!
//! ```text
//! listener     accepts connections; certificate is what TLS shows to clients (no_certificate
//!              without the feature `tls`)
//! connection   serves the requests of one connection; activity says how long each may last
//! layers       what a request passes before its operation; two of the layers are compression and
//!              unread_answers, which bounds what clients leave unread
//! shutdown     the signals, and the layer that asks clients for a new connection
//! ```

mod activity;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(not(feature = "tls"))]
#[path = "no_certificate.rs"]
mod certificate;
mod compression;
mod connection;
mod layers;
mod listener;
mod shutdown;
mod unread_answers;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tenantry_core::engine::Tenants;
use tenantry_openapi::{ApiConflict, ApiParts, OperatorGate, Readiness};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    app::AppParts,
    background::BackgroundWork,
    config::ListenAddress,
    installation::Installation,
    telemetry::{self, Telemetry},
};
pub(crate) use certificate::Certificate;
use connection::Service;
use layers::{Layered, Layers};
use listener::{Closing, Listener};
pub(crate) use shutdown::Signals;
use shutdown::Stopping;
use unread_answers::UnreadAnswers;

/// Why the server did not start, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Two APIs cannot be served as one.
    #[error("the APIs cannot be served together")]
    Apis(#[source] ApiConflict),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be shown to clients.
    #[error("the certificate cannot be used")]
    Certificate(#[source] certificate::TlsError),
    /// A listener failed while it served.
    #[error("the server failed")]
    Failed(#[source] io::Error),
    /// Requests were still running when the time for stopping was over.
    #[error("some requests were cut off: they did not end within `server.shutdown_grace`")]
    CutOff,
    /// A Ctrl-C ended the server while it was stopping.
    #[error("interrupted while stopping: the requests that still ran were cut off")]
    Interrupted,
}

/// How long sending the last traces and metrics may take after `server.shutdown_grace`.
const SENDING: Duration = Duration::from_secs(1);

type Warming = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server with bound sockets.
pub(crate) struct BoundServer {
    main: Listener<Layered>,
    operator: Option<Listener<Layered>>,
    certificate: Option<Arc<Certificate>>,
    tenants: Tenants,
    telemetry: Telemetry,
    readiness: Readiness,
    warming: Warming,
    grace: Duration,
    draining: Arc<AtomicBool>,
    warnings: Vec<String>,
    background: BackgroundWork,
}

impl Installation {
    /// Combines the built-in APIs with those of `parts`, and binds the sockets.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn bind(self, parts: AppParts) -> Result<BoundServer, ServerError> {
        let config = &self.loaded().config;
        let settings = self.document_settings();
        let readiness = Readiness::default();
        let AppParts { apis, background, .. } = parts;
        let parts = ApiParts {
            gate: self.gate(),
            operator: OperatorGate {
                token: config.admin.token.clone(),
                loopback: config.admin.loopback,
            },
            readiness: readiness.clone(),
            metrics: Arc::new(self.telemetry().metrics().clone()),
            log: telemetry::log_control(),
            document: settings,
            docs: config.docs.enabled,
        };
        let served = tenantry_openapi::routes(parts, apis).map_err(ServerError::Apis)?;
        let draining = Arc::new(AtomicBool::new(false));
        let certificate = self.certificate().cloned();
        let layers = Layers {
            gates: served.gates,
            draining: draining.clone(),
            telemetry: self.telemetry().clone(),
            trusted_proxies: self.trusted_proxies(),
            request_timeout: config.server.request_timeout.into(),
            tables: config.rest.as_ref().map(|rest| rest.path.as_str().into()),
            body_limit: config.server.body_limit.0,
            unread_answers: UnreadAnswers::new(config.server.limits.unread_answers.0),
        };
        let main = self.listen(config.server.listen, layers.around(served.main)).await?;
        let operator = match (config.server.admin_listen, served.operator) {
            (Some(address), Some(endpoint)) => Some(self.listen(address, layers.around(endpoint)).await?),
            _ => None,
        };
        readiness.set(true);
        Ok(BoundServer {
            main,
            operator,
            certificate,
            tenants: self.tenants().clone(),
            telemetry: self.telemetry().clone(),
            readiness,
            warming: Box::pin(self.warming()),
            grace: config.server.shutdown_grace.into(),
            draining,
            warnings: self
                .secret_faults()
                .iter()
                .map(ToString::to_string)
                .chain(self.warnings())
                .collect(),
            background,
        })
    }

    /// Serves until SIGTERM or Ctrl-C, then lets running requests end. A Ctrl-C after that ends the
    /// server at once.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn serve(self, parts: AppParts, mut signals: Signals) -> Result<(), ServerError> {
        let server = self.bind(parts).await?;
        let (first, signalled) = oneshot::channel();
        let stop = async { signalled.await.map_err(io::Error::other) };
        let interrupted = async {
            let signal = signals.next().await;
            // A server that has ended needs no signal.
            first.send(signal).ok();
            signals.interrupted().await;
        };
        tokio::select! {
            ended = server.run(stop) => ended,
            () = interrupted => Err(ServerError::Interrupted),
        }
    }

    async fn listen(
        &self,
        ListenAddress(address): ListenAddress,
        endpoint: Layered,
    ) -> Result<Listener<Layered>, ServerError> {
        let tls = self.certificate().map(Certificate::acceptor);
        let tls = tls.transpose().map_err(ServerError::Certificate)?;
        let server = &self.loaded().config.server;
        let service = Service::new(endpoint, &server.limits, server.request_timeout.into());
        Listener::bind(address, tls, server.limits.connections, service)
            .await
            .map_err(|source| ServerError::Bind { address, source })
    }
}

impl BoundServer {
    /// The address of the main listener, with the real port if the configuration has port 0.
    fn address(&self) -> SocketAddr {
        self.main.address()
    }

    /// Serves until `stop` resolves. Then, in this order:
    ///
    /// 1. Readiness turns down, and background work is signalled to end.
    /// 2. [After notice](Stopping::AfterNotice), requests are still accepted for a quarter of
    ///    `server.shutdown_grace`, at most two seconds.
    /// 3. New connections are refused, and running requests end.
    /// 4. At the last call, at most a second before the end of their time, those that still run are
    ///    answered 503. At the end, connections whose client has not taken its answer are cut off.
    /// 5. Background work that still runs is aborted.
    /// 6. The pools are closed.
    /// 7. The last traces and metrics are sent. If nothing is left of `server.shutdown_grace`, this
    ///    takes [`SENDING`] more.
    ///
    /// # Errors
    /// [`ServerError::Failed`], and [`ServerError::CutOff`] when requests did not end in time.
    async fn run(self, stop: impl Future<Output = io::Result<Stopping>> + Send) -> Result<(), ServerError> {
        let Self {
            main,
            operator,
            certificate,
            tenants,
            telemetry,
            readiness,
            warming,
            grace,
            draining,
            warnings,
            background,
        } = self;
        let closing = CancellationToken::new();
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            address = %main.address(), operator_address = operator.as_ref().map(|listener| tracing::field::display(listener.address())), "listening"
        );
        let warming = tokio::spawn(warming);
        let background = background.start(&tenants, &readiness);
        let settling = listener::settling(grace);
        let longest_notice = shutdown::notice(Stopping::AfterNotice, grace);
        // The last quarter is for closing the pools, which waits for what the requests held.
        let drain_for = grace.saturating_sub(longest_notice + settling).mul_f64(0.75);
        let listeners = [Some(main), operator].into_iter().flatten().map(|listener| {
            listener.serve(Closing {
                begin: closing.clone(),
                settling,
                drain: drain_for,
            })
        });
        let serving = tokio::spawn(futures_util::future::join_all(listeners));
        let renewing = tokio::spawn(shutdown::on_hangup(certificate));

        let stopping = stop.await.map_err(ServerError::Failed)?;
        let notice = shutdown::notice(stopping, grace);
        let began = tokio::time::Instant::now();
        tracing::info!(
            grace_ms = grace.as_millis() as u64,
            "stopping: readiness is down, running requests end"
        );
        readiness.set(false);
        draining.store(true, Ordering::Relaxed);
        warming.abort();
        background.stop();
        tokio::time::sleep(notice).await;
        closing.cancel();
        let cut_off = serving.await.map_err(|error| ServerError::Failed(error.into()))?;
        renewing.abort();
        background
            .ended((notice + settling + drain_for).saturating_sub(began.elapsed()))
            .await;
        let closed = tenants.shutdown(grace.saturating_sub(began.elapsed())).await;
        telemetry
            .shutdown(grace.saturating_sub(began.elapsed()).max(SENDING))
            .await;
        if cut_off.contains(&true) {
            return Err(ServerError::CutOff);
        }
        tracing::info!(
            duration_ms = began.elapsed().as_millis() as u64,
            every_connection_closed = closed,
            "stopped"
        );
        Ok(())
    }

    /// Serves in a new task.
    pub(crate) fn start(self) -> RunningServer {
        let address = self.address();
        let operator_address = self.operator.as_ref().map(Listener::address);
        let tenants = self.tenants.clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(self.run(async move {
            stopped.await;
            Ok(Stopping::AtOnce)
        }));
        RunningServer {
            address,
            operator_address,
            tenants,
            stop,
            task,
        }
    }
}

/// A server that runs in its own task.
pub struct RunningServer {
    address: SocketAddr,
    operator_address: Option<SocketAddr>,
    tenants: Tenants,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
}

impl RunningServer {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the operators' listener, if there is one.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator_address
    }

    /// Its tenants, for background work. After [`stop`](Self::stop) they accept no request.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Drains and closes it.
    ///
    /// # Errors
    /// [`ServerError::Failed`], and [`ServerError::CutOff`] when requests did not end in time.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.task.await.map_err(|error| ServerError::Failed(error.into()))?
    }
}
