//! A tenant's database, as handlers use it: SeaORM's traits over leases of the tenant's pool.

mod call;
mod sea_orm;
mod session;

use std::{fmt, pin::pin, sync::Arc};

use ::sea_orm::{DbBackend, DbErr, QueryResult, Statement, TransactionOptions};
use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use tracing::{Instrument as _, field::Empty};

use call::{Repeats, Request, Stopwatch};
use session::Level;

use super::{
    measure::{note_error, tally::RequestTally, usage::TenantUsage},
    pool::{Answer, Call, Lease, Pool},
    secrets::Secret,
    tenant::Held,
};
use crate::{DatabaseError, ServerVersion, TenantId, health::PoolStatus, on_connect::SchemaVersion, trace::trace_span};

pub use sea_orm::{TenantConnection, TenantTransaction};

/// One tenant's database, for one request. It runs everything that runs on SeaORM's traits,
/// whatever the driver. Each statement and each transaction takes a connection from the tenant's
/// pool and returns it afterwards.
///
/// Only [`Tenants::acquire`](super::Tenants::acquire) creates one, so there is none without a
/// tenant. A clone belongs to the same request, which counts as running until the last one, and the
/// last transaction and pinned connection of it, is dropped.
#[derive(Clone)]
pub struct TenantDatabase {
    request: Request,
    pool: Arc<Pool>,
}

impl TenantDatabase {
    /// For a request that `tenant` counts as running.
    pub(crate) fn new(tenant: Held, secret: Arc<Secret>, pool: Arc<Pool>, tally: Option<Arc<RequestTally>>) -> Self {
        let tenant = Arc::new(tenant);
        let request = Request { tenant, secret, tally };
        Self { request, pool }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.request.tenant.id
    }

    /// The driver's type, such as `postgresql`.
    pub fn driver(&self) -> &str {
        &self.request.secret.driver_type
    }

    /// The database's name; for a database that is a file, its path.
    pub fn database(&self) -> &str {
        let config = &self.request.secret.config;
        config
            .database
            .as_deref()
            .or(config.path.as_deref())
            .unwrap_or_default()
    }

    /// How far its migrations were when they were looked at last; `None` if they never were.
    pub fn schema_version(&self) -> Option<SchemaVersion> {
        self.request.secret.schema.get()
    }

    /// The connections of the tenant's pool.
    pub fn pool_status(&self) -> PoolStatus {
        self.pool.health().status
    }

    /// What the tenant used since the engine first saw it.
    pub fn usage(&self) -> TenantUsage {
        *self.request.tenant.usage.lock()
    }

    /// The server's version; asked once and cached.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn server_version(&self) -> Result<ServerVersion, DatabaseError> {
        let version = self.request.secret.server_version.get_or_try_init(|| self.pool.ping());
        version.await.cloned()
    }

    /// Makes a round trip to the server.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn ping(&self) -> Result<ServerVersion, DatabaseError> {
        self.pool.ping().await
    }

    /// Takes a connection and keeps it until the returned value is dropped. It waits for one no
    /// longer than a statement does, and makes sure that the server answers on it.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn connection(&self) -> Result<TenantConnection, DbErr> {
        let (mut lease, _) = self.lease_and_call(Call::Ping).await?;
        // No other request uses it after this one.
        lease.discard();
        Ok(TenantConnection(Level::lowest(lease, self.request.clone())))
    }

    /// Calls on a connection of the pool, and again on another one if the call may be repeated.
    async fn lease_and_call(&self, call: Call<'_>) -> Result<(Lease, Answer), DbErr> {
        let mut watch = self.request.watch(call);
        let mut repeats = Repeats::default();
        let answered = loop {
            let mut lease = match self.lease(&mut watch).await {
                Ok(lease) => lease,
                Err(error) => break Err(error),
            };
            match watch.run(lease.call(call)).await {
                Ok(answer) => break Ok((lease, answer)),
                Err(error) if repeats.again(&error, call, &self.pool) => {}
                Err(error) => break Err(error),
            }
        };
        watch.stop(answered.as_ref().err());
        answered.map_err(|error| call.db_err(error))
    }

    /// Takes a connection. All waits of one statement together take no longer than
    /// `acquire_timeout`.
    async fn lease(&self, watch: &mut Stopwatch<'_>) -> Result<Lease, DatabaseError> {
        let span = trace_span!(
            "acquire connection",
            otel.status_code = Empty,
            tenant.id = self.tenant().as_str(),
            error.type = Empty,
        );
        watch.wait();
        let leased = self.pool.lease(watch.waited).instrument(span.clone()).await;
        let error = leased.as_ref().err();
        watch.waited(error);
        if let Some(error) = error {
            note_error(&span, error.kind.as_str());
        }
        leased.map(|lease| lease.counted_by(self.request.tally.as_ref()))
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        let (_, answer) = self.lease_and_call(call).await?;
        Ok(answer)
    }

    /// Runs a statement and returns its rows as they arrive. It is repeated as in `lease_and_call`,
    /// before the first row.
    fn rows(&self, statement: Statement) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + '_ {
        try_stream! {
            let call = Call::All(&statement);
            let mut watch = self.request.watch(call);
            let mut repeats = Repeats::default();
            let ended = 'repeat: loop {
                let mut lease = match self.lease(&mut watch).await {
                    Ok(lease) => lease,
                    Err(error) => break Err(error),
                };
                let mut rows = pin!(watch.rows(&mut lease, &statement));
                let mut any = false;
                while let Some(row) = rows.next().await {
                    match row {
                        Ok(row) => {
                            any = true;
                            yield row;
                        }
                        Err(error) if !any && repeats.again(&error, call, &self.pool) => continue 'repeat,
                        Err(error) => break 'repeat Err(error),
                    }
                }
                break Ok(());
            };
            watch.stop(ended.as_ref().err());
            ended?;
        }
    }

    async fn begin_transaction(&self, options: TransactionOptions) -> Result<Level, DbErr> {
        let (lease, _) = self.lease_and_call(Call::Begin(&options)).await?;
        Ok(Level::lowest(lease, self.request.clone()))
    }

    fn backend(&self) -> DbBackend {
        self.request.backend()
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
