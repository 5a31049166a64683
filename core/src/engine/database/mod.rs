//! A tenant's database, as handlers use it: SeaORM's traits over leases of the tenant's pool.

mod call;
mod sea_orm;
mod transaction;

use std::{fmt, pin::pin, sync::Arc};

use ::sea_orm::{DbBackend, DbErr, TransactionOptions};
use tokio::time::Instant;
use tracing::{Instrument as _, field::Empty};

use super::{
    measure::{
        stopwatch::{Stopwatch, note_error},
        tally::RequestTally,
        usage::TenantUsage,
    },
    pool::{Answer, Call, Lease, PoolStatus},
    tenant::OpenTenant,
};
use crate::{DatabaseError, DatabaseErrorKind, ServerVersion, TenantId, trace::TRACE_TARGET};

pub use transaction::TenantTransaction;

/// How often a read is sent whose connection broke while it may have been running: it may be what breaks it.
const ATTEMPTS: u32 = 3;

/// One tenant's database, for one request. Whatever runs on SeaORM's [`ConnectionTrait`] runs on it, whatever the driver; a connection is
/// taken for each statement and for each transaction, and given back after.
///
/// It can only be had from [`Tenants::acquire`](super::Tenants::acquire), so there is none without a tenant.
pub struct TenantDatabase {
    open: OpenTenant,
    tally: Option<Arc<RequestTally>>,
    /// Whether it was had within a trace: elsewhere its statements need not ask.
    traced: bool,
}

impl TenantDatabase {
    /// For a request that is counted in; it is counted out when this is dropped.
    pub(crate) fn new(open: OpenTenant, tally: Option<Arc<RequestTally>>, traced: bool) -> Self {
        Self { open, tally, traced }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.open.tenant.id
    }

    /// The driver's type, such as `postgresql`.
    pub fn driver(&self) -> &str {
        &self.open.secret.driver_type
    }

    /// The database's name; the path, for a database that is a file.
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

    /// What the tenant used since the server began to know it.
    pub fn usage(&self) -> TenantUsage {
        self.open.tenant.usage.usage()
    }

    /// The server's version; asked once and remembered.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn server_version(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.server_version().await
    }

    /// A round trip to the server.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn ping(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.ping().await
    }

    /// Takes a connection and asks it. What failed because the connection was dead is asked again of another, where it certainly had no
    /// effect.
    async fn lease_and_call(&self, call: Call<'_>) -> Result<(Lease, Answer), DatabaseError> {
        let mut watch = Stopwatch::new(call::subject(
            &self.open.tenant,
            &self.open.secret,
            self.tally.as_deref(),
        ));
        self.open.tenant.touch(watch.started);
        // What certainly had no effect is repeated for as long as a request waits for a connection, on as many as the pool may have: when
        // all sessions of a pool are ended one after the other, it may meet every one of them.
        let give_up = watch.started + self.open.pool.acquire_timeout();
        let (mut attempt, mut without_effect) = (1, 0);
        let answered = loop {
            let leased = self.lease().await;
            watch.waited(leased.as_ref().err());
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(error) => break Err(error),
            };
            let answer = call::run(lease.call(call), call, &mut watch, self.traced).await;
            match answer {
                Ok(answer) => break Ok((lease, answer)),
                Err(error)
                    if error.kind == DatabaseErrorKind::ConnectionLostWithoutEffect
                        && without_effect <= self.open.pool.status().max
                        && Instant::now() < give_up =>
                {
                    without_effect += 1;
                }
                Err(error) if attempt < ATTEMPTS && call::may_repeat(&error, call) => attempt += 1,
                Err(error) => break Err(error),
            }
        };
        let answered = answered.map_err(|error| call::unknown_outcome(error, call));
        watch.stop(call::measured(&call), answered.as_ref().err());
        answered
    }

    async fn lease(&self) -> Result<Lease, DatabaseError> {
        match self.traced {
            false => self.open.pool.lease(self.open.pool.acquire_timeout()).await,
            true => Box::pin(self.lease_in_span()).await,
        }
    }

    async fn lease_in_span(&self) -> Result<Lease, DatabaseError> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "acquire connection",
            otel.status_code = Empty,
            tenant.id = self.open.tenant.id.as_str(),
            error.type = Empty,
        );
        let mut leasing = pin!(self.open.pool.lease(self.open.pool.acquire_timeout()).instrument(span));
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

    async fn begin_transaction(&self, options: TransactionOptions) -> Result<TenantTransaction, DbErr> {
        match self.lease_and_call(Call::Begin(&options)).await {
            Ok((lease, _)) => Ok(TenantTransaction::new(
                lease,
                self.open.tenant.clone(),
                self.open.secret.clone(),
                self.tally.clone(),
            )),
            Err(error) => Err(error.into_db_err()),
        }
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
