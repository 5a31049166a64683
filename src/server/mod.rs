//! The server: everything is built, then the sockets are bound, then it serves until it is told to stop.

mod acceptor;
mod compression;
mod shutdown;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use poem::{
    EndpointExt, Server,
    endpoint::BoxEndpoint,
    listener::{Acceptor as _, AcceptorExt as _, BoxAcceptor, Listener, RustlsCertificate, RustlsConfig, TcpListener},
};
use tenantry_core::engine::Tenants;
use tenantry_openapi::{ApiConflict, ApiParts, ApiSet, OperatorGate, Readiness};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ListenAddress, Network},
    installation::Installation,
    telemetry::AccessLog,
};
use acceptor::PausingAcceptor;
use compression::Gzip;
use shutdown::CloseWhenDraining;

/// How long a connection may say nothing before it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Why there is no server.
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
    /// The certificate or its key cannot be used.
    #[error("the certificate cannot be used: {}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener failed while it served.
    #[error("the server failed")]
    Failed(#[source] io::Error),
    /// Requests were still running when the time for stopping was over.
    #[error("some requests were cut off: they did not end within `server.shutdown_grace`")]
    CutOff,
}

type Warming = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server whose sockets are bound.
pub struct BoundServer {
    main: Door,
    operator: Option<Door>,
    tenants: Tenants,
    readiness: Readiness,
    warming: Warming,
    grace: Duration,
    draining: CancellationToken,
    loopback_is_operator_behind_proxy: bool,
}

struct Door {
    acceptor: BoxAcceptor,
    endpoint: BoxEndpoint<'static>,
    address: SocketAddr,
}

impl Installation {
    /// Puts the built-in APIs and `apis` together and binds the sockets.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(self, apis: ApiSet) -> Result<BoundServer, ServerError> {
        let config = &self.loaded().config;
        let settings = self.document_settings();
        let readiness = Readiness::default();
        let parts = ApiParts {
            gate: self.gate(),
            resolver_type: config.tenancy.resolver.type_name().to_owned(),
            operator: OperatorGate {
                token: config.admin.token.clone(),
            },
            readiness: readiness.clone(),
            document: settings,
            docs: config.docs.enabled,
            request_timeout: config.server.request_timeout.into(),
            body_limit: config.server.body_limit.0,
        };
        let served = tenantry_openapi::routes(parts, apis).map_err(ServerError::Apis)?;
        let draining = CancellationToken::new();
        let main = self.door(config.server.listen, served.main, &draining).await?;
        let operator = match (config.server.admin_listen, served.operator) {
            (Some(address), Some(endpoint)) => Some(self.door(address, endpoint, &draining).await?),
            _ => None,
        };
        readiness.set(true);
        Ok(BoundServer {
            main,
            operator,
            tenants: self.tenants().clone(),
            readiness,
            warming: Box::pin(self.warming()),
            grace: config.server.shutdown_grace.into(),
            draining,
            loopback_is_operator_behind_proxy: config.admin.token.is_none()
                && trusts_loopback(&config.server.trusted_proxies),
        })
    }

    /// Serves until SIGTERM or Ctrl-C, then drains.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn serve(self, apis: ApiSet) -> Result<(), ServerError> {
        let server = self.bind(apis).await?;
        server.run(shutdown::signalled()).await
    }

    async fn door(
        &self,
        ListenAddress(address): ListenAddress,
        endpoint: BoxEndpoint<'static>,
        draining: &CancellationToken,
    ) -> Result<Door, ServerError> {
        let cannot_bind = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address);
        let acceptor = match &self.loaded().config.server.tls {
            None => listener.into_acceptor().await.map_err(cannot_bind)?.boxed(),
            Some(tls) => {
                let (cert, key) = (self.loaded().path(&tls.cert), self.loaded().path(&tls.key));
                let certificate = RustlsCertificate::new().cert(pem(&cert).await?).key(pem(&key).await?);
                let listener = listener.rustls(RustlsConfig::new().fallback(certificate));
                let unusable = |source: io::Error| match source.kind() {
                    io::ErrorKind::Other => ServerError::Certificate { path: cert, source },
                    _ => ServerError::Bind { address, source },
                };
                listener.into_acceptor().await.map_err(unusable)?.boxed()
            }
        };
        let bound = acceptor
            .local_addr()
            .into_iter()
            .find_map(|local| local.as_socket_addr().copied());
        // From the outside in: the access log times everything; what is answered while draining asks for a new connection; bodies are
        // compressed whoever wrote them, problems included.
        let endpoint = endpoint
            .with(Gzip)
            .with(CloseWhenDraining(draining.clone()))
            .with(AccessLog)
            .boxed();
        Ok(Door {
            acceptor,
            endpoint,
            address: bound.unwrap_or(address),
        })
    }
}

fn trusts_loopback(networks: &[Network]) -> bool {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    networks
        .iter()
        .any(|Network(network)| loopback.iter().any(|address| network.contains(address)))
}

async fn pem(path: &PathBuf) -> Result<Vec<u8>, ServerError> {
    tokio::fs::read(path).await.map_err(|source| ServerError::Certificate {
        path: path.clone(),
        source,
    })
}

impl BoundServer {
    /// The address it listens on, the port being the one it got where the configuration said 0.
    pub fn address(&self) -> SocketAddr {
        self.main.address
    }

    /// Serves until `stop` is over. Then, in this order: readiness turns down; for a quarter of `server.shutdown_grace`, at most two
    /// seconds, requests are still taken, so that load balancers see it; no more connections are taken and the running requests end; the
    /// pools are closed.
    ///
    /// # Errors
    /// [`ServerError::Failed`], and [`ServerError::CutOff`] when requests did not end in time.
    pub async fn run(self, stop: impl Future<Output = io::Result<()>> + Send) -> Result<(), ServerError> {
        let Self {
            main,
            operator,
            tenants,
            readiness,
            warming,
            grace,
            draining,
            loopback_is_operator_behind_proxy,
        } = self;
        let closing = CancellationToken::new();
        if loopback_is_operator_behind_proxy {
            tracing::warn!(
                "`admin.token` is not set and a proxy on this machine is trusted: whoever comes through it is an operator"
            );
        }
        tracing::info!(
            address = %main.address, operator_address = operator.as_ref().map(|door| tracing::field::display(door.address)), "listening"
        );
        let warming = tokio::spawn(warming);
        let notice = shutdown::notice(grace);
        let drain_for = grace.saturating_sub(notice).mul_f64(0.75);
        let mut doors = vec![main.open(closing.clone(), drain_for)];
        doors.extend(operator.map(|door| door.open(closing.clone(), drain_for)));
        let mut serving = tokio::spawn(futures_util::future::try_join_all(doors));

        tokio::select! {
            stopped = stop => stopped.map_err(ServerError::Failed)?,
            ended = &mut serving => return ended.map_err(|error| ServerError::Failed(error.into()))?.map(drop).map_err(ServerError::Failed),
        }
        let began = tokio::time::Instant::now();
        tracing::info!(
            grace_ms = grace.as_millis() as u64,
            "stopping: readiness is down, running requests end"
        );
        readiness.set(false);
        draining.cancel();
        warming.abort();
        tokio::time::sleep(notice).await;
        closing.cancel();
        let served = serving.await.map_err(|error| ServerError::Failed(error.into()))?;
        let cut_off = began.elapsed() >= notice + drain_for;
        let closed = tenants.shutdown(grace.saturating_sub(began.elapsed())).await;
        served.map_err(ServerError::Failed)?;
        if cut_off {
            return Err(ServerError::CutOff);
        }
        tracing::info!(
            duration_ms = began.elapsed().as_millis() as u64,
            every_connection_closed = closed,
            "stopped"
        );
        Ok(())
    }

    /// Serves in a task of its own.
    pub fn start(self) -> RunningServer {
        let address = self.address();
        let operator_address = self.operator.as_ref().map(|door| door.address);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(self.run(async move {
            stopped.await;
            Ok(())
        }));
        RunningServer {
            address,
            operator_address,
            stop,
            task,
        }
    }
}

impl Door {
    fn open(self, closing: CancellationToken, drain_for: Duration) -> impl Future<Output = io::Result<()>> + Send {
        Server::new_with_acceptor(PausingAcceptor(self.acceptor))
            .idle_timeout(IDLE_TIMEOUT)
            .run_with_graceful_shutdown(self.endpoint, closing.cancelled_owned(), Some(drain_for))
    }
}

/// A server that runs in a task of its own.
pub struct RunningServer {
    address: SocketAddr,
    operator_address: Option<SocketAddr>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
}

impl RunningServer {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the operators' listener, where there is one.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator_address
    }

    /// Drains and closes it.
    ///
    /// # Errors
    /// As [`BoundServer::run`].
    pub async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.task.await.map_err(|error| ServerError::Failed(error.into()))?
    }
}
