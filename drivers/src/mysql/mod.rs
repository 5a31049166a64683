//! MySQL 8, MariaDB 10.6 and later, and Amazon Aurora MySQL.

mod dialect;
mod ending;
mod errors;
mod session;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use sea_orm::DbBackend;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::{
    ConnectOptions as _, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};
use tenantry_core::{
    BuildContext, BuildError, ByteSize, Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind,
    HumanDuration, MigrationLock, MigrationQueries, Plugin, ScriptFault, ScriptStatement, SecretInvalid, ServerVersion,
    TlsMode,
    driver_settings::{MaxAnswer, check_hosts, statement_timeout},
};

use crate::{
    live_address,
    rds_iam::RdsIam,
    script::{self, Syntax},
    server_address::ServerAddress,
    sqlx_connection::{
        MORE_IN_A_TRANSACTION, STATEMENT_CACHE_CAPACITY, SqlxConnection, begin_error, connect_error, renew,
    },
    tls::{self, Certificates},
};
use dialect::Mysql;
use ending::{ChangedLogins, Controls, EndsSession, login};
use errors::{NoPlainPassword, UNKNOWN_PLUGIN, connect_kind, wants_encrypted_password};
use session::{begin_session, short_version};

const DEFAULT_PORT: u16 = 3306;

/// The name of the lock on migrations. Locks have names of at most 64 characters and belong to the
/// server, not to a database.
macro_rules! lock_name {
    () => {
        "CONCAT('tenantry-', MD5(DATABASE()))"
    };
}

/// MySQL 8, MariaDB 10.6 and later, and Amazon Aurora MySQL.
///
/// A secret for it has `host`, `database`, `username` and mostly `password`; `port` is 3306 by
/// default. A `host` that begins with `/` is the path of a Unix socket. `tls.mode` is `prefer` by
/// default; the verifying modes trust the public authorities and, besides, those of `tls.ca`, so
/// use `verify-full`. MySQL's `caching_sha2_password` needs TLS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MysqlConfig {
    /// How long a statement may run before the server cancels it; `null` for no limit. A secret's
    /// `query.timeout` goes before it. MySQL itself cancels only reads; another statement that
    /// takes longer costs its connection. If the request of a running statement goes away, a second
    /// connection ends the statement's session. There is at most one such connection to a server at
    /// a time, in addition to `pools.max_connections`.
    pub statement_timeout: Option<HumanDuration>,
    /// The largest answer of a statement that is read whole, as it takes in memory. A larger one is
    /// an error and costs its connection; read it as a stream.
    pub max_answer: ByteSize,
    /// The hosts that secrets may name, such as `db1` or `*.db.example.com`, and folders of Unix
    /// sockets; `null` for any. A secret that names another one is `secret_invalid` at `host`.
    pub hosts: Option<Vec<String>>,
}

impl Default for MysqlConfig {
    fn default() -> Self {
        Self {
            statement_timeout: Some(HumanDuration::from_secs(30)),
            max_answer: MaxAnswer::DEFAULT,
            hosts: None,
        }
    }
}

/// Opens connections to MySQL and MariaDB.
#[derive(Debug)]
pub struct MysqlDriver {
    statement_timeout: Option<Duration>,
    max_answer: MaxAnswer,
    hosts: Option<Vec<String>>,
    base_dir: PathBuf,
    environment: String,
    controls: Controls,
    changed: Arc<ChangedLogins>,
    rds_iam: RdsIam,
}

impl Plugin<dyn DatabaseDriver> for MysqlDriver {
    const TYPE: &'static str = "mysql";
    const EXAMPLE: &'static str = "type: mysql\nstatement_timeout: 30s\n";
    type Config = MysqlConfig;

    async fn build(config: MysqlConfig, context: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self {
            statement_timeout: statement_timeout(config.statement_timeout)?,
            max_answer: MaxAnswer::new(config.max_answer)?,
            hosts: config.hosts,
            base_dir: context.base_dir.clone(),
            environment: context.environment.clone(),
            controls: Controls::default(),
            changed: Arc::default(),
            rds_iam: RdsIam::default(),
        })
    }
}

impl MysqlDriver {
    /// The tenant's own time-out, or the driver's.
    fn statement_timeout(&self, config: &DatabaseConfig) -> Option<Duration> {
        config.query.timeout.or(self.statement_timeout)
    }

    fn options(
        &self,
        address: &ServerAddress<'_>,
        config: &DatabaseConfig,
        certificates: Certificates,
        password: Option<&SecretString>,
    ) -> MySqlConnectOptions {
        let mut options = MySqlConnectOptions::new()
            .host(address.host)
            .port(address.port)
            .database(address.database)
            .username(address.username)
            .statement_cache_capacity(STATEMENT_CACHE_CAPACITY + MORE_IN_A_TRANSACTION)
            .ssl_mode(ssl_mode(address, config))
            // A token goes in clear text, over TLS.
            .enable_cleartext_plugin(config.rds_iam.is_some())
            // `session` sets all of these, and more, in one round trip.
            .set_names(false)
            .timezone(None)
            .pipes_as_concat(false)
            .no_engine_substitution(false);
        if address.host.starts_with('/') {
            options = options.socket(address.host);
        }
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        if let Some(ca) = certificates.ca {
            options = options.ssl_ca_from_pem(ca);
        }
        if let Some((cert, key)) = certificates.client {
            options = options
                .ssl_client_cert_from_pem(cert)
                .ssl_client_key_from_pem(key.expose_secret());
        }
        options.disable_statement_logging()
    }
}

/// Logs in at the address that answers, and returns it with the outcome.
async fn log_in(
    options: MySqlConnectOptions,
    address: &ServerAddress<'_>,
    config: &DatabaseConfig,
) -> (MySqlConnectOptions, sqlx::Result<MySqlConnection>) {
    match live_address::logged_in(address, config, options.connect()).await {
        Ok(outcome) => (options, outcome),
        Err(live) => {
            let options = options.host(&live.to_string());
            let outcome = options.connect().await;
            (options, outcome)
        }
    }
}

fn ssl_mode(address: &ServerAddress<'_>, config: &DatabaseConfig) -> MySqlSslMode {
    match config.tls.mode.unwrap_or(TlsMode::Prefer) {
        TlsMode::Prefer if address.host.starts_with('/') => MySqlSslMode::Disabled,
        TlsMode::Disable => MySqlSslMode::Disabled,
        TlsMode::Prefer => MySqlSslMode::Preferred,
        TlsMode::Require => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
    }
}

#[async_trait]
impl DatabaseDriver for MysqlDriver {
    fn aliases(&self) -> &'static [&'static str] {
        &["mariadb", "aurora-mysql"]
    }

    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        config.port.or(Some(DEFAULT_PORT))
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        config.refuse_transaction_pooler()?;
        let address = ServerAddress::of(config, DEFAULT_PORT)?;
        check_hosts(self.hosts.as_deref(), config)?;
        if address.host.starts_with('/') && config.tls.mode.is_some_and(|mode| mode > TlsMode::Prefer) {
            let reason = "cannot be honoured over a Unix socket, which has no host's name to verify: remove it";
            return Err(SecretInvalid::new("tls.mode", reason));
        }
        RdsIam::validate(config)?;
        tls::validate(&config.tls)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        self.validate(config).map_err(invalid)?;
        let address = ServerAddress::of(config, DEFAULT_PORT).map_err(invalid)?;
        let certificates = Certificates::read(config, &self.base_dir).await?;
        let region = config.rds_iam.as_deref();
        let token = self
            .rds_iam
            .token(region, address.host, address.port, address.username)
            .await?;
        let password = token.as_ref().or(config.password.as_ref());
        let options = self.options(&address, config, certificates, password);
        let failed = |error| match error {
            sqlx::Error::Configuration(cause) if wants_encrypted_password(&*cause) => {
                DriverError::new(DriverErrorKind::Tls, NoPlainPassword)
            }
            sqlx::Error::Protocol(reason) if reason.starts_with(UNKNOWN_PLUGIN) => invalid(SecretInvalid::new(
                "username",
                "names an account that logs in by a plugin sqlx does not know, such as `ed25519`: let it log in by \
                 `mysql_native_password` or `caching_sha2_password`",
            )),
            error => connect_error(error, connect_kind),
        };
        let opened = Instant::now();
        let login_anywhere = log_in(options, &address, config);
        let (options, outcome) = match config.connect_timeout {
            Some(limit) => tokio::time::timeout(limit, login_anywhere)
                .await
                .map_err(|elapsed| DriverError::new(DriverErrorKind::Unreachable, elapsed))?,
            None => login_anywhere.await,
        };
        let mut connection = outcome.map_err(failed)?;
        let statement_timeout = self.statement_timeout(config);
        let begun = begin_session(&mut connection, statement_timeout, tls::is_uncertain(config, &address))
            .await
            .map_err(|error| begin_error(error, connect_kind))?;
        let ends_session = EndsSession {
            by_token: region.map(|region| (self.rds_iam.clone(), region.to_owned())),
            options,
            login: login(&address),
            changed: self.changed.clone(),
            id: begun.id,
            opened,
            control: self.controls.of(&address),
            statement_timeout,
            timeout_rolls_back: begun.timeout_rolls_back,
            largest_message: begun.largest_message,
        };
        let version = ServerVersion(short_version(&begun.version).into());
        let opened =
            SqlxConnection::<Mysql>::new(connection, ends_session, version, statement_timeout, self.max_answer);
        let encryption = tls::encryption(config, &address, begun.is_encrypted);
        Ok(Box::new(opened.protected(encryption)))
    }

    fn secret_changed(&self, before: &DatabaseConfig, now: &DatabaseConfig) {
        let address = |config| ServerAddress::of(config, DEFAULT_PORT).map(|address| login(&address));
        if let (Ok(before), Ok(after), Some(password)) = (address(before), address(now), &now.password)
            && (&before.0, before.1) == (&after.0, after.1)
        {
            self.changed.insert(before, after, password.clone());
        }
    }

    fn wants_encryption(&self, config: &DatabaseConfig) -> bool {
        self.environment != "development" && config.leaves_machine()
    }

    fn backend(&self) -> DbBackend {
        DbBackend::MySql
    }

    fn migration_dialect(&self) -> &str {
        "mysql"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Session {
            lock: concat!("SELECT GET_LOCK(", lock_name!(), ", 0)"),
            prepare: "SET @tenantry = 1 /*M! , SESSION max_statement_time = 0 */",
        }
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        script::statements(script, Syntax::Mysql)
    }

    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries {
            schema: Some("SELECT DATABASE(), DATABASE(), DATABASE()"),
            left_behind: None,
            holder: Some(concat!(
                "SELECT CAST(CONCAT('session ', l.id, COALESCE(CONCAT(' from ', p.host), '')) AS CHAR) \
                 FROM (SELECT IS_USED_LOCK(",
                lock_name!(),
                ") AS id) l LEFT JOIN information_schema.processlist p ON p.id = l.id WHERE l.id IS NOT NULL",
            )),
            tables: Some(
                "SELECT CAST(table_name AS CHAR), CAST(NULL AS CHAR) FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_type NOT LIKE '%VIEW'",
            ),
            structure: Some(crate::structure::MYSQL),
        }
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        renew::<Mysql>(self, config, connection).await
    }
}
