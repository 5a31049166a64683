//! PostgreSQL 12 and later, and Amazon Aurora PostgreSQL.

mod dialect;
mod errors;
mod login;
mod migrations;
mod servers;
mod session;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use sea_orm::DbBackend;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::{
    ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tenantry_core::{
    BuildContext, BuildError, ByteSize, Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind,
    HumanDuration, MigrationLock, MigrationQueries, Plugin, Pooler, ScriptFault, ScriptStatement, SecretInvalid,
    ServerVersion, TlsMode,
    driver_settings::{MaxAnswer, check_hosts, statement_timeout},
};

use crate::{
    live_address,
    rds_iam::RdsIam,
    script::{self, Syntax},
    server_address::ServerAddress,
    sqlx_connection::{PerTransaction, STATEMENT_CACHE_CAPACITY, SqlxConnection, begin_error, connect_error, renew},
    tls::{self, Certificates},
};
use dialect::{EndsStatements, Postgresql};
use errors::{connect_kind, refuses_parameters};
use login::{LoginError, in_long_steps, log_in};
use servers::connect_to_one;
use session::{Begun, NOTICE_LOST_CLIENTS, begin_session, notices_lost_clients, search_path};

const DEFAULT_PORT: u16 = 5432;

/// The variables of the environment that sqlx takes for every connection, and that none of its
/// options takes back.
const FOR_EVERY_TENANT: [&str; 3] = ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY"];

/// PostgreSQL 12 and later, and Amazon Aurora PostgreSQL.
///
/// A secret for it has `host`, `database`, `username` and mostly `password`; `port` is 5432 by
/// default. A `host` that begins with `/` is the folder of a Unix socket. `tls.mode` is `prefer` by
/// default; the verifying modes trust the public authorities and, besides, those of `tls.ca`, so
/// use `verify-full`. `schema` sets `search_path`: one name, or several with commas between them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresqlConfig {
    /// How long a statement may run before the server cancels it; `null` for no limit. A secret's
    /// `query.timeout` goes before it.
    pub statement_timeout: Option<HumanDuration>,
    /// The largest answer of a statement that is read whole, as it takes in memory. A larger one is
    /// an error and costs its connection; read it as a stream.
    pub max_answer: ByteSize,
    /// The name that the sessions bear in `pg_stat_activity`.
    pub application_name: String,
    /// The kind of connection pooler before the servers, for secrets that do not say it:
    /// `transaction` for PgBouncer in transaction mode, Amazon RDS Proxy and the poolers of Neon
    /// and Cloud SQL.
    pub pooler: Pooler,
    /// The hosts that secrets may name, such as `db1` or `*.db.example.com`, and folders of Unix
    /// sockets; `null` for any. A secret that names another one is `secret_invalid` at `host`.
    pub hosts: Option<Vec<String>>,
}

impl Default for PostgresqlConfig {
    fn default() -> Self {
        Self {
            statement_timeout: Some(HumanDuration::from_secs(30)),
            max_answer: MaxAnswer::DEFAULT,
            application_name: "tenantry".to_owned(),
            pooler: Pooler::None,
            hosts: None,
        }
    }
}

/// Opens connections to PostgreSQL.
#[derive(Debug)]
pub struct PostgresqlDriver {
    config: PostgresqlConfig,
    statement_timeout: Option<Duration>,
    max_answer: MaxAnswer,
    base_dir: PathBuf,
    environment: String,
    rds_iam: RdsIam,
    /// sqlx's defaults. They are made once, since that reads the environment and asks the system
    /// for the user's name.
    defaults: PgConnectOptions,
    /// The variable of the environment, if any, that keeps it from connecting.
    for_every_tenant: Option<&'static str>,
}

impl Plugin<dyn DatabaseDriver> for PostgresqlDriver {
    const TYPE: &'static str = "postgresql";
    const EXAMPLE: &'static str = "type: postgresql\nstatement_timeout: 30s\napplication_name: tenantry\n";
    type Config = PostgresqlConfig;

    async fn build(config: PostgresqlConfig, context: &BuildContext) -> Result<Self, BuildError> {
        if config.application_name.contains('\0') {
            return Err(BuildError::key("application_name", "holds a NUL character"));
        }
        Ok(Self {
            statement_timeout: statement_timeout(config.statement_timeout)?,
            max_answer: MaxAnswer::new(config.max_answer)?,
            config,
            base_dir: context.base_dir.clone(),
            environment: context.environment.clone(),
            rds_iam: RdsIam::default(),
            // The driver's `Debug` would print a password of the environment.
            defaults: PgConnectOptions::new_without_pgpass().password(""),
            for_every_tenant: FOR_EVERY_TENANT
                .into_iter()
                .find(|name| std::env::var_os(name).is_some_and(|value| *name != "PGOPTIONS" || !value.is_empty())),
        })
    }
}

impl PostgresqlDriver {
    /// Fails if a variable of the environment would be a part of every tenant's connection: a
    /// tenant would show a certificate that is not its own. (The server starts all the same, since
    /// it may have no tenant on PostgreSQL.)
    fn refuse_for_every_tenant(&self) -> Result<(), DriverError> {
        match self.for_every_tenant {
            None => Ok(()),
            Some(name) => Err(DriverError::new(
                DriverErrorKind::Unsupported,
                format!(
                    "the environment variable `{name}` would be a part of every tenant's connection: unset it, and write \
                     what it says in the secrets"
                ),
            )),
        }
    }

    /// The tenant's own time-out, or the driver's.
    fn statement_timeout(&self, config: &DatabaseConfig) -> Option<Duration> {
        config.query.timeout.or(self.statement_timeout)
    }

    /// Whether each transaction may run in another session of the server.
    fn is_pooled(&self, config: &DatabaseConfig) -> bool {
        config.pooler.unwrap_or(self.config.pooler) == Pooler::Transaction
    }

    /// What each transaction sets for itself behind a pooler: what the start-up packet asks for,
    /// since not every pooler passes it on, and what would be a setting of the session.
    fn per_transaction(
        &self,
        config: &DatabaseConfig,
        search_path: Option<&str>,
        server_version: Option<u32>,
    ) -> PerTransaction {
        let mut settings = "SET LOCAL client_encoding = 'UTF8'; SET LOCAL TimeZone = 'UTC'; \
                            SET LOCAL DateStyle = 'ISO, MDY'; "
            .to_owned();
        settings.push_str(&session::settings("SET LOCAL", search_path));
        if let Some(limit) = self.statement_timeout(config) {
            settings.push_str(&format!("; SET LOCAL statement_timeout = {}", milliseconds(limit)));
        }
        let if_possible = notices_lost_clients(server_version).then_some(NOTICE_LOST_CLIENTS);
        PerTransaction::new(settings, if_possible, search_path.map(session::check_of))
    }

    /// Logs in to one server, by another of its addresses if the first is dead.
    async fn log_in(
        &self,
        address: ServerAddress<'_>,
        config: &DatabaseConfig,
        certificates: Certificates,
    ) -> Result<PgConnection, DriverError> {
        let token = self
            .rds_iam
            .token(config.rds_iam.as_deref(), address.host, address.port, address.username)
            .await?;
        let password = token.as_ref().or(config.password.as_ref());
        let login = self.log_in_to(address, config, certificates.clone(), password);
        match live_address::logged_in(&address, config, login).await {
            Ok(outcome) => outcome,
            Err(live) => {
                let host = &live.to_string();
                self.log_in_to(ServerAddress { host, ..address }, config, certificates, password)
                    .await
            }
        }
    }

    async fn log_in_to(
        &self,
        address: ServerAddress<'_>,
        config: &DatabaseConfig,
        certificates: Certificates,
        password: Option<&SecretString>,
    ) -> Result<PgConnection, DriverError> {
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        let options = self.options(&address, config, certificates);
        let failed = |error| match error {
            LoginError::Password(error) => invalid(error),
            LoginError::Sqlx(sqlx::Error::Database(error)) if refuses_parameters(&*error) => {
                let reason = "must be `transaction`: a pooler before the server refuses a start-up parameter";
                invalid(SecretInvalid::new("pooler", reason))
            }
            LoginError::Sqlx(error) => connect_error(error, connect_kind),
        };
        let name = config.session.application_name.as_ref();
        let name = name.unwrap_or(&self.config.application_name);
        let password = password.map_or("", |password| password.expose_secret());
        in_long_steps(log_in(options, name, password)).await.map_err(failed)
    }

    /// Everything is set, since what is not comes from the process's `PG...` variables; those that
    /// cannot be set are refused before a login.
    fn options(
        &self,
        address: &ServerAddress<'_>,
        config: &DatabaseConfig,
        certificates: Certificates,
    ) -> PgConnectOptions {
        let mut options = self
            .defaults
            .clone()
            .host(address.host)
            .port(address.port)
            .database(address.database)
            .username(address.username)
            .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
            .ssl_mode(ssl_mode(address, config))
            .ssl_root_cert_from_pem(certificates.ca.unwrap_or_default());
        if let Some((cert, key)) = certificates.client {
            options = options
                .ssl_client_cert_from_pem(cert)
                .ssl_client_key_from_pem(key.expose_secret());
        }
        if self.is_pooled(config) {
            // A pooler refuses start-up parameters that it does not know, and a named statement
            // stays in a session that the next transaction may not meet again.
            options = options.extra_float_digits(None).statement_cache_capacity(0);
        } else {
            let limit = self.statement_timeout(config);
            let limit = limit.map(|limit| ("statement_timeout", milliseconds(limit).to_string()));
            let own = config
                .session
                .settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()));
            options = options.options(own.chain(limit));
        }
        options.disable_statement_logging()
    }
}

/// As PostgreSQL counts a time-out, to which 0 is no limit.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}

/// A Unix socket is not encrypted, whatever is demanded, as libpq has it.
fn ssl_mode(address: &ServerAddress<'_>, config: &DatabaseConfig) -> PgSslMode {
    match config.tls.mode.unwrap_or(TlsMode::Prefer) {
        _ if address.host.starts_with('/') => PgSslMode::Disable,
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

#[async_trait]
impl DatabaseDriver for PostgresqlDriver {
    fn aliases(&self) -> &'static [&'static str] {
        &["postgres", "aurora-postgresql"]
    }

    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        config.port.or(Some(DEFAULT_PORT))
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        ServerAddress::of(config, DEFAULT_PORT)?;
        search_path(config)?;
        check_hosts(self.config.hosts.as_deref(), config)?;
        if self.is_pooled(config) && !config.session.settings.is_empty() {
            let reason =
                "has `options` that would not reach a session behind a pooler: write `ALTER ROLE .. SET` instead";
            return Err(SecretInvalid::new("url", reason));
        }
        RdsIam::validate(config)?;
        tls::validate(&config.tls)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        self.refuse_for_every_tenant()?;
        self.validate(config).map_err(invalid)?;
        let address = ServerAddress::of(config, DEFAULT_PORT).map_err(invalid)?;
        let certificates = Certificates::read(config, &self.base_dir).await?;
        let schema = search_path(config).map_err(invalid)?;
        let log_in = |address| self.log_in(address, config, certificates.clone());
        let mut connection = connect_to_one(config, &address, log_in).await?;
        let uncertain = tls::is_uncertain(config, &address);
        let (per_transaction, begun) = if self.is_pooled(config) {
            let version = connection.server_version_num();
            let setting = self.per_transaction(config, schema.as_deref(), version);
            let begun = Begun {
                is_encrypted: None,
                notices_lost_clients: notices_lost_clients(version),
            };
            (Some(setting), begun)
        } else {
            let begun = begin_session(&mut connection, schema.as_deref(), uncertain)
                .await
                .map_err(|error| begin_error(error, connect_kind))?;
            (None, begun)
        };
        let version = ServerVersion(version(&connection).into());
        let statement_timeout = self.statement_timeout(config);
        let watch = EndsStatements::new(begun.notices_lost_clients, statement_timeout);
        let opened = SqlxConnection::<Postgresql>::new(connection, watch, version, statement_timeout, self.max_answer);
        let encryption = tls::encryption(config, &address, begun.is_encrypted);
        Ok(Box::new(opened.setting(per_transaction).protected(encryption)))
    }

    fn wants_encryption(&self, config: &DatabaseConfig) -> bool {
        self.environment != "development" && config.leaves_machine()
    }

    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn migration_dialect(&self) -> &str {
        "postgresql"
    }

    fn migration_lock(&self, config: &DatabaseConfig) -> MigrationLock {
        migrations::lock(self.is_pooled(config))
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        script::statements(script, Syntax::Postgresql)
    }

    fn migration_queries(&self) -> MigrationQueries {
        migrations::QUERIES
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        renew::<Postgresql>(self, config, connection).await
    }
}

/// The version that the server sent when the session began. It needs no round trip.
fn version(connection: &PgConnection) -> String {
    match connection.server_version_num() {
        Some(number) if number >= 100_000 => format!("{}.{}", number / 10_000, number % 10_000),
        Some(number) => format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests;
