//! Oracle 12.2 and later, through Oracle's own client library.
//!
//! SeaORM does not support Oracle. It writes statements for PostgreSQL; `dialect` translates
//! them, and a session runs them on its own thread, since the client library has only blocking
//! calls.

mod address;
mod bind;
mod connection;
mod dialect;
mod errors;
mod logins;
mod migration_lock;
mod offsets;
mod plans;
mod read;
mod script;
mod session;
mod statement;
mod structure;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use oracle::{Connector, InitParams};
use schemars::JsonSchema;
use sea_orm::DbBackend;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, ByteSize, Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind,
    Encryption, HumanDuration, MigrationLock, MigrationQueries, Plugin, ScriptFault, ScriptStatement, SecretInvalid,
    driver_settings::{MaxAnswer, check_hosts, statement_timeout},
};
use tokio::sync::Semaphore;

use address::Address;
use connection::OracleConnection;
use logins::Logins;
use offsets::Offsets;
use plans::Plans;
use session::Session;

/// How many prepared statements one connection keeps.
const STATEMENT_CACHE_CAPACITY: u32 = 100;

/// Oracle 12.2 and later, through Oracle's client library, which must be on the machine.
///
/// A secret for it has `host`, `username` and mostly `password`, and names the database by
/// `oracle.service.name`, by `oracle.service.sid` or, without both, by `database` as the service;
/// `port` is 1521 by default, 2484 with TLS. `tls.mode` is `disable` by default, and `prefer` means
/// the same, since a listener has a port for each. The client library takes certificates from a
/// wallet only (`oracle.wallet.location` in the secret, or `wallet_location` here); it always
/// checks the server's certificate against it, with `verify-full` the host's name too. `tls.ca`,
/// `tls.cert` and `tls.key` cannot be used.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OracleConfig {
    /// How long one call to the server may take before it is cancelled, such as a statement; `null`
    /// for no limit. A secret's `query.timeout` goes before it.
    pub statement_timeout: Option<HumanDuration>,
    /// The largest answer of a statement that is read whole, as it takes in memory. A larger one is
    /// an error and costs its connection. The rows of a stream are read before the first one is
    /// returned.
    pub max_answer: ByteSize,
    /// How long opening a connection may take.
    pub connect_timeout: HumanDuration,
    /// The folder of Oracle Instant Client; `null` for the system's search path for libraries.
    pub client_library: Option<PathBuf>,
    /// The folder of the wallet with the certificates for TLS, for secrets that name none.
    pub wallet_location: Option<PathBuf>,
    /// The most threads, over all tenants. A connection has one from before it is opened until it
    /// is closed. Logins to one server take a quarter of them at a time, and 16 at most.
    pub max_threads: usize,
    /// The hosts that secrets may name, such as `db1` or `*.db.example.com`;
    /// `null` for any. A secret that names another one is `secret_invalid` at `host`.
    pub hosts: Option<Vec<String>>,
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self {
            statement_timeout: Some(HumanDuration::from_secs(30)),
            max_answer: MaxAnswer::DEFAULT,
            connect_timeout: HumanDuration::from_secs(5),
            client_library: None,
            wallet_location: None,
            max_threads: 256,
            hosts: None,
        }
    }
}

/// Opens connections to Oracle.
#[derive(Debug)]
pub struct OracleDriver {
    hosts: Option<Vec<String>>,
    environment: String,
    statement_timeout: Option<Duration>,
    max_answer: MaxAnswer,
    connect_timeout: Duration,
    client_library: Option<PathBuf>,
    wallet_location: Option<PathBuf>,
    threads: Arc<Semaphore>,
    logins: Logins,
    plans: Arc<Plans>,
    offsets: Arc<Offsets>,
    /// Whether the missing client library has already been logged.
    told: Arc<AtomicBool>,
}

impl Plugin<dyn DatabaseDriver> for OracleDriver {
    const TYPE: &'static str = "oracle";
    const EXAMPLE: &'static str = "type: oracle\nstatement_timeout: 30s\nclient_library: /opt/oracle/instantclient\n";
    type Config = OracleConfig;

    async fn build(config: OracleConfig, context: &BuildContext) -> Result<Self, BuildError> {
        if !(1..=10_000).contains(&config.max_threads) {
            return Err(BuildError::key("max_threads", "is not from 1 to 10000"));
        }
        let statement_timeout = statement_timeout(config.statement_timeout)?;
        Ok(Self {
            hosts: config.hosts,
            environment: context.environment.clone(),
            statement_timeout,
            max_answer: MaxAnswer::new(config.max_answer)?,
            connect_timeout: config.connect_timeout.into(),
            client_library: config.client_library.map(|path| context.path(path)),
            wallet_location: config.wallet_location.map(|path| context.path(path)),
            threads: Arc::new(Semaphore::new(config.max_threads)),
            logins: Logins::of_threads(config.max_threads),
            plans: Arc::default(),
            offsets: Arc::default(),
            told: Arc::default(),
        })
    }
}

/// Loads the client library, once for the whole program.
fn load_client(folder: Option<&Path>) -> oracle::Result<()> {
    let mut parameters = InitParams::new();
    if let Some(folder) = folder {
        parameters.oracle_client_lib_dir(folder)?;
    }
    parameters.init().map(drop)
}

impl OracleDriver {
    fn address<'a>(&'a self, config: &'a DatabaseConfig) -> Result<Address<'a>, SecretInvalid> {
        Address::of(config, self.wallet_location.as_deref())
    }
}

/// Says once what to install.
fn tell_missing_client(told: &AtomicBool) {
    if !told.swap(true, Ordering::Relaxed) {
        tracing::error!(
            "Oracle's client library was not found: install Oracle Instant Client 18 or later (Basic or Basic Light) and libaio, \
             and name its folder in `drivers.oracle.client_library` or LD_LIBRARY_PATH; tenants on Oracle are unavailable until then"
        );
    }
}

#[async_trait]
impl DatabaseDriver for OracleDriver {
    fn aliases(&self) -> &'static [&'static str] {
        &["oracle-ee", "oracle-se2"]
    }

    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        self.address(config)
            .map_or(config.port, |address| Some(address.server().1))
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        config.refuse_rds_iam()?;
        config.refuse_transaction_pooler()?;
        config.refuse_certificates("cannot be used: Oracle's client library takes certificates from a wallet only")?;
        self.address(config)?;
        check_hosts(self.hosts.as_deref(), config)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        self.validate(config).map_err(invalid)?;
        let address = self.address(config).map_err(invalid)?;
        let username = address.username.to_owned();
        // The client library compares the server's certificate with the wallet in every mode.
        let encryption = match address.is_encrypted() {
            true => Encryption::Verified,
            false => Encryption::None,
        };
        let password = config.password.clone().unwrap_or_else(|| SecretString::from(""));
        let descriptor = address.descriptor(self.connect_timeout);
        let closed = |error| DriverError::new(DriverErrorKind::Other, error);
        let login = self.logins.to(address.server()).acquire_owned().await.map_err(closed)?;
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(closed)?;
        let (folder, told) = (self.client_library.clone(), Arc::clone(&self.told));
        let connect = move || {
            let opened = load_client(folder.as_deref()).and_then(|()| {
                Connector::new(username.as_str(), password.expose_secret(), descriptor.as_str())
                    .stmt_cache_size(STATEMENT_CACHE_CAPACITY)
                    .driver_name("tenantry")
                    .connect()
            });
            drop(login);
            opened.map_err(|error| {
                let error = errors::connect_error(error);
                if error.kind == DriverErrorKind::Unsupported {
                    tell_missing_client(&told);
                }
                error
            })
        };
        let limit = config.query.timeout.or(self.statement_timeout);
        let max_answer = self.max_answer;
        let offsets = Arc::clone(&self.offsets);
        let begin =
            move |shared| Session::begin_session(shared, limit, max_answer, offsets).map_err(errors::connect_error);
        let opened = connection::open(connect, begin, Arc::clone(&self.plans), limit, permit).await?;
        Ok(Box::new(opened.protected(encryption)))
    }

    fn wants_encryption(&self, config: &DatabaseConfig) -> bool {
        self.environment != "development" && config.leaves_machine()
    }

    /// SeaORM writes PostgreSQL's statements, which is what the dialect reads.
    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn migration_dialect(&self) -> &str {
        "oracle"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        migration_lock::LOCK
    }

    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries {
            tables: Some("SELECT CAST(table_name AS VARCHAR(400)), CAST(NULL AS VARCHAR(400)) FROM user_tables"),
            structure: Some(structure::QUERY),
            holder: Some("SELECT CAST('session ' || holder AS VARCHAR(400)) FROM tenantry_migration_lock"),
            ..MigrationQueries::default()
        }
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        Ok(script::statements(script))
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        let other = || DriverError::new(DriverErrorKind::Other, "the connection is another driver's");
        let current = own(connection).ok_or_else(other)?;
        current.end().await;
        let mut opened = self.connect(config).await?;
        std::mem::swap(current, own(&mut *opened).ok_or_else(other)?);
        Ok(())
    }
}

fn own(connection: &mut dyn Connection) -> Option<&mut OracleConnection> {
    connection.as_any()?.downcast_mut()
}
