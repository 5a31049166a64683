//! A tenant's database, as handlers use it: SeaORM's traits over leases of the tenant's pool.

mod call;
mod connection;
mod sea_orm;
mod session;
mod transaction;

use std::{fmt, pin::pin, sync::Arc};

use ::sea_orm::{DbBackend, DbErr, QueryResult, Statement, TransactionOptions};
use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use tracing::{Instrument as _, field::Empty};

use call::Repeats;
use session::{Level, Origin};

use super::{
    measure::{
        stopwatch::{Stopwatch, note_error},
        tally::RequestTally,
        usage::TenantUsage,
    },
    pool::{Answer, Call, Lease, PoolStatus},
    tenant::OpenTenant,
};
use crate::{DatabaseError, ServerVersion, TenantId, trace::TRACE_TARGET};

pub use connection::TenantConnection;
pub use transaction::TenantTransaction;

/// One tenant's database, for one request. It runs everything that runs on SeaORM's traits,
/// whatever the driver. Each statement and each transaction takes a connection from the tenant's
/// pool and returns it afterwards.
///
/// Only [`Tenants::acquire`](super::Tenants::acquire) creates one, so there is none without a
/// tenant.
pub struct TenantDatabase {
    open: OpenTenant,
    tally: Option<Arc<RequestTally>>,
    /// Whether the request is traced; otherwise its statements open no spans.
    traced: bool,
}

impl TenantDatabase {
    /// For a request that `open` counts as running.
    pub(crate) fn new(open: OpenTenant, tally: Option<Arc<RequestTally>>, traced: bool) -> Self {
        Self { open, tally, traced }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.open.tenant.id
    }

    /// The driver's type, such as `postgresql`.
    pub fn driver(&self) -> &str {
        &self.open.secret.driver_type
    }

    /// The database's name; for a database that is a file, its path.
    pub fn database(&self) -> &str {
        let config = &self.open.secret.config;
        config
            .database
            .as_deref()
            .or(config.path.as_deref())
            .unwrap_or_default()
    }

    /// The connections of the tenant's pool.
    pub fn pool_status(&self) -> PoolStatus {
        self.open.pool.status()
    }

    /// What the tenant used since the engine first saw it.
    pub fn usage(&self) -> TenantUsage {
        self.open.tenant.usage.usage()
    }

    /// The server's version; asked once and cached.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn server_version(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.server_version().await
    }

    /// Makes a round trip to the server.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn ping(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.ping().await
    }

    /// Takes a connection and keeps it until the returned value is dropped. It waits for one no
    /// longer than a statement does, and makes sure that the server answers on it.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn connection(&self) -> Result<TenantConnection, DbErr> {
        self.level(Call::Ping, true).await.map(TenantConnection)
    }

    /// Calls on a connection of the pool, and again on another one if the call may be repeated.
    async fn lease_and_call(&self, call: Call<'_>) -> Result<(Lease, Answer), DatabaseError> {
        let mut watch = self.watch();
        let mut repeats = Repeats::default();
        let answered = loop {
            let mut lease = match self.lease(&mut watch).await {
                Ok(lease) => lease,
                Err(error) => break Err(error),
            };
            match call::run(lease.call(call), call, &mut watch, self.traced).await {
                Ok(answer) => break Ok((lease, answer)),
                Err(error) if repeats.again(&error, call, &self.open.pool) => {}
                Err(error) => break Err(call::unknown_outcome(error, call)),
            }
        };
        watch.stop(call::measured(&call), answered.as_ref().err());
        answered
    }

    /// Takes a connection. All waits of one statement together take no longer than
    /// `acquire_timeout`.
    async fn lease(&self, watch: &mut Stopwatch<'_>) -> Result<Lease, DatabaseError> {
        let pool = &self.open.pool;
        let leasing = pool.lease(pool.acquire_timeout().saturating_sub(watch.waited));
        let leased = match self.traced {
            false => leasing.await,
            true => Box::pin(self.in_span(leasing)).await,
        };
        watch.waited(leased.as_ref().err());
        leased
    }

    async fn in_span(
        &self,
        leasing: impl Future<Output = Result<Lease, DatabaseError>>,
    ) -> Result<Lease, DatabaseError> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "acquire connection",
            otel.status_code = Empty,
            tenant.id = self.open.tenant.id.as_str(),
            error.type = Empty,
        );
        let mut leasing = pin!(leasing.instrument(span));
        let leased = leasing.as_mut().await;
        if let Err(error) = &leased {
            note_error(leasing.span(), error.kind.as_str());
        }
        leased
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        match self.lease_and_call(call).await {
            Ok((_, answer)) => Ok(answer),
            Err(error) => Err(error.into_db_err()),
        }
    }

    /// Runs a statement and returns its rows as they arrive. It is repeated as in `lease_and_call`,
    /// before the first row.
    fn rows(&self, statement: Statement) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + '_ {
        try_stream! {
            let call = Call::All(&statement);
            let mut watch = self.watch();
            let mut repeats = Repeats::default();
            let ended = 'repeat: loop {
                let mut lease = match self.lease(&mut watch).await {
                    Ok(lease) => lease,
                    Err(error) => break Err(error),
                };
                let mut rows = pin!(call::rows(&mut lease, &statement, &mut watch, self.traced));
                let mut any = false;
                loop {
                    match rows.next().await {
                        Some(Ok(row)) => {
                            any = true;
                            yield row;
                        }
                        None => break 'repeat Ok(()),
                        Some(Err(error)) if !any && repeats.again(&error, call, &self.open.pool) => break,
                        Some(Err(error)) => break 'repeat Err(call::unknown_outcome(error, call)),
                    }
                }
            };
            watch.stop(call::measured(&call), ended.as_ref().err());
            ended?;
        }
    }

    async fn begin_transaction(&self, options: TransactionOptions) -> Result<Level, DbErr> {
        self.level(Call::Begin(&options), false).await
    }

    /// Takes a connection that answers `first`, and keeps it.
    async fn level(&self, first: Call<'_>, pinned: bool) -> Result<Level, DbErr> {
        let (lease, _) = self.lease_and_call(first).await.map_err(DatabaseError::into_db_err)?;
        let origin = Origin {
            tenant: self.open.tenant.clone(),
            secret: self.open.secret.clone(),
            tally: self.tally.clone(),
        };
        Ok(Level::lowest(lease, origin, pinned))
    }

    fn watch(&self) -> Stopwatch<'_> {
        call::watch(&self.open.tenant, &self.open.secret, self.tally.as_deref())
    }

    fn backend(&self) -> DbBackend {
        self.open.secret.driver.backend()
    }
}

impl fmt::Debug for TenantDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantDatabase")
            .field("tenant", self.tenant())
            .field("driver", &self.driver())
            .finish_non_exhaustive()
    }
}
