//! MySQL 8, MariaDB 10.6 and later, and Amazon Aurora MySQL.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use sea_orm::{DbBackend, TransactionOptions, Value};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, MySqlConnection, Row as _,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode, MySqlValueRef},
};
use tenantry_core::{
    BuildContext, BuildError, ByteSize, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError,
    DriverErrorKind, HumanDuration, MigrationLock, MigrationQueries, Plugin, ScriptFault, ScriptStatement,
    SecretInvalid, ServerVersion, TlsMode,
};

use crate::{
    allowed_hosts, live_address,
    max_answer::MaxAnswer,
    rds_iam::RdsIam,
    script::{self, Syntax},
    server_address::ServerAddress,
    sqlx_connection::{
        Aftermath, Dialect, ErrorMeaning, STATEMENT_CACHE_CAPACITY, SqlxConnection, Watch, begin_error, connect_error,
        io_kind, renew,
    },
    statement_timeout::statement_timeout,
    tls::{self, Certificates},
};

const DEFAULT_PORT: u16 = 3306;

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
    /// connection ends the statement's session. There is at most one such connection at a time, in
    /// addition to `pools.max_connections`.
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
    /// Held by the one connection that ends abandoned sessions.
    control: Arc<tokio::sync::Mutex<()>>,
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
            control: Arc::default(),
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
            .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
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

/// Identifies the server, since several can be behind one address and each numbers its sessions by
/// itself.
const SERVER: &str = "CONCAT_WS(':', @@hostname, @@port, @@server_id)";

/// What correctness rests on in a session, whatever the server's configuration and its
/// `init_connect` say:
///
/// - each statement that stands alone is committed (`autocommit`), and nothing begins a transaction
///   but `begin` (`completion_type`);
/// - keys and checks are enforced, and no row is left out (`sql_select_limit`, `sql_auto_is_null`);
/// - UTF-8, UTC and the server's own clock;
/// - an SQL mode in which no value is cut short, `||` joins texts, `\` escapes, `"` quotes a text,
///   and dates exist.
const SETTINGS: &str = "autocommit = 1, completion_type = 0, foreign_key_checks = 1, unique_checks = 1, \
    sql_select_limit = DEFAULT, sql_auto_is_null = 0, timestamp = DEFAULT, time_zone = '+00:00', \
    sql_mode = CONCAT('STRICT_TRANS_TABLES,PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
    ERROR_FOR_DIVISION_BY_ZERO', IF(FIND_IN_SET('ONLY_FULL_GROUP_BY', @@sql_mode), ',ONLY_FULL_GROUP_BY', ''))";

/// A session that would read what others have not committed reads what they have. A stricter
/// isolation is the server's to choose.
const ISOLATION: &str = "/*M! , SESSION check_constraint_checks = 1, \
    SESSION tx_isolation = IF(@@SESSION.tx_isolation = 'READ-UNCOMMITTED', 'READ-COMMITTED', @@SESSION.tx_isolation) */ \
    /*!80000 , SESSION transaction_isolation = IF(@@SESSION.transaction_isolation = 'READ-UNCOMMITTED', \
    'READ-COMMITTED', @@SESSION.transaction_isolation) */";

/// The cipher of this session, which is empty if it is not encrypted.
const CIPHER: &str = "/*M! , (SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher') \
    AS cipher */ /*!80000 , (SELECT VARIABLE_VALUE FROM performance_schema.session_status \
    WHERE VARIABLE_NAME = 'Ssl_cipher') AS cipher */";

/// The script that begins a session. It sets [`SETTINGS`] and the statement's time-out, and leaves
/// a transaction that `init_connect` began. It ends with a query for the version, the session's
/// number, the server's identity and, if `innodb` is set, InnoDB's setting that a wait for a lock
/// that is too long rolls the whole transaction back. MariaDB alone reads `/*M! */`; it passes over
/// `/*!80000 */`, which MySQL reads.
fn session(statement_timeout: Option<Duration>, innodb: bool, asks_tls: bool) -> String {
    let limit = statement_timeout.map_or(String::new(), |limit| {
        let (seconds, milliseconds) = (limit.as_secs_f64().max(0.001), limit.as_millis().max(1));
        format!("/*M! , max_statement_time = {seconds} */ /*!80000 , max_execution_time = {milliseconds} */")
    });
    let rolls_back = if innodb {
        ", @@GLOBAL.innodb_rollback_on_timeout"
    } else {
        ""
    };
    let tls = if asks_tls { CIPHER } else { "" };
    format!(
        "SET {SETTINGS} {ISOLATION} {limit}, NAMES utf8mb4; ROLLBACK; \
         SELECT VERSION(), CONNECTION_ID(), {SERVER}{rolls_back}{tls}"
    )
}

/// The properties of a new session.
struct Begun {
    version: String,
    id: SessionId,
    /// Whether error 1205 rolls the whole transaction back, and not its statement only.
    timeout_rolls_back: bool,
    /// Whether the connection is encrypted, if it was asked.
    is_encrypted: Option<bool>,
}

async fn begin_session(
    connection: &mut MySqlConnection,
    statement_timeout: Option<Duration>,
    asks_tls: bool,
) -> Result<Begun, sqlx::Error> {
    let mut innodb = true;
    let row = loop {
        let script = sqlx::raw_sql(AssertSqlSafe(session(statement_timeout, innodb, asks_tls)));
        match script.fetch_one(&mut *connection).await {
            // An unknown variable: the server has no InnoDB.
            Err(sqlx::Error::Database(error)) if innodb && number_of(&*error) == 1193 => innodb = false,
            outcome => break outcome?,
        }
    };
    Ok(Begun {
        version: row.try_get(0)?,
        id: SessionId {
            number: row.try_get(1)?,
            server: row.try_get(2)?,
        },
        // What is not known is not relied upon.
        is_encrypted: match asks_tls {
            // A server that is neither MariaDB nor MySQL 8 does not say.
            true => row
                .try_get::<Option<String>, _>("cipher")
                .ok()
                .flatten()
                .map(|cipher| !cipher.is_empty()),
            false => None,
        },
        timeout_rolls_back: !innodb || row.try_get::<i64, _>(3)? != 0,
    })
}

/// A user of one server.
type Login = (String, u16, String);

fn login(address: &ServerAddress<'_>) -> Login {
    (address.host.to_owned(), address.port, address.username.to_owned())
}

/// What took the place of logins that changed, for sessions that were opened with them.
#[derive(Debug, Default)]
struct ChangedLogins(Mutex<HashMap<Login, (Login, SecretString)>>);

/// The most changed logins that are remembered; then all are forgotten. They only help to end a
/// session sooner.
const MOST_CHANGED: usize = 10_000;
/// How often in a row a login may have changed while a session lived.
const MOST_CHANGES: usize = 16;

impl ChangedLogins {
    fn insert(&self, before: Login, now: Login, password: SecretString) {
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= MOST_CHANGED {
            logins.clear();
        }
        logins.insert(before, (now.clone(), password.clone()));
        // The end of the way, also if it was the beginning of another one before.
        logins.insert(now.clone(), (now, password));
    }

    /// The login that is used now instead of this one, if it changed.
    fn latest(&self, login: &Login) -> Option<(Login, SecretString)> {
        let logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = logins.get(login)?;
        for _ in 0..MOST_CHANGES {
            latest = logins.get(&latest.0).unwrap_or(latest);
        }
        Some(latest.clone())
    }
}

/// One session of one server.
struct SessionId {
    number: u64,
    server: String,
}

/// Ends the session of an abandoned statement. MySQL and MariaDB notice a disconnected client only
/// when they send it an answer.
struct EndsSession {
    options: MySqlConnectOptions,
    /// What makes a token for another login, and its region.
    by_token: Option<(RdsIam, String)>,
    login: Login,
    changed: Arc<ChangedLogins>,
    id: SessionId,
    opened: Instant,
    control: Arc<tokio::sync::Mutex<()>>,
    /// How long the session can live on at most if it cannot be ended.
    statement_timeout: Option<Duration>,
    timeout_rolls_back: bool,
}

/// The longest that a statement without a time-out is waited for once its session should be ended.
const LONGEST_STATEMENT: Duration = Duration::from_secs(60);
/// How much later than its process a server may begin to count its uptime, and the fraction of a
/// second that it leaves out.
const UPTIME_TOLERANCE: Duration = Duration::from_secs(2);
/// The waits between tries to end a session.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest one try may take, the login included.
const ONE_TRY: Duration = Duration::from_secs(5);

impl Watch for EndsSession {
    async fn end_session(&self) {
        let limit = self.statement_timeout.unwrap_or(LONGEST_STATEMENT) + Duration::from_secs(1);
        let ended = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let tried = {
                    let _one_at_a_time = self.control.lock().await;
                    tokio::time::timeout(ONE_TRY, self.try_to_end()).await
                };
                match tried {
                    Ok(Ok(true)) => return,
                    Ok(Ok(false)) | Err(_) => {}
                    Ok(Err(error)) => tracing::debug!(error = io_kind(&error), "an abandoned session is not ended yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::debug!("an abandoned session could not be ended");
        }
    }
}

impl EndsSession {
    /// Ends the session; returns whether it is gone from the server.
    async fn try_to_end(&self) -> Result<bool, sqlx::Error> {
        let mut options = self.options.clone();
        if let Some(((.., user), password)) = self.changed.latest(&self.login) {
            options = options.username(&user).password(password.expose_secret());
        } else if let Some((rds_iam, region)) = &self.by_token {
            let (host, port, user) = &self.login;
            let token = rds_iam.token(Some(region), host, *port, user).await;
            let token = token.map_err(|error| sqlx::Error::Configuration(error.into()))?;
            options = options.password(token.as_ref().map_or("", |token| token.expose_secret()));
        }
        let mut connection = options.connect().await?;
        let ended = self.end_over(&mut connection).await;
        connection.close().await?;
        ended
    }

    async fn end_over(&self, connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
        // With the server that ran it, the session has ended, and the number may be another one's
        // by now.
        let uptime = sqlx::raw_sql("SHOW GLOBAL STATUS LIKE 'Uptime'")
            .fetch_one(&mut *connection)
            .await?;
        let uptime = uptime.try_get::<String, _>(1)?.parse().map(Duration::from_secs);
        if uptime.is_ok_and(|uptime| uptime + UPTIME_TOLERANCE < self.opened.elapsed()) {
            return Ok(true);
        }
        let number = self.id.number;
        let is_there =
            format!("SELECT {SERVER}, EXISTS (SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number})");
        // Without a pause there is one look before the KILL and one soon after it.
        for pause in [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)] {
            tokio::time::sleep(pause).await;
            let row = sqlx::raw_sql(AssertSqlSafe(is_there.clone()))
                .fetch_one(&mut *connection)
                .await?;
            // Behind one address there may be several servers, and on another one the number is
            // another session's.
            if row.try_get::<String, _>(0)? != self.id.server {
                return Ok(false);
            }
            if row.try_get::<i64, _>(1)? == 0 {
                return Ok(true);
            }
            if pause.is_zero() {
                let killed = sqlx::raw_sql(AssertSqlSafe(format!("KILL {number}")))
                    .execute(&mut *connection)
                    .await;
                match killed {
                    Ok(_) => {}
                    // No such session any more.
                    Err(sqlx::Error::Database(error)) if number_of(&*error) == 1094 => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }
}

/// `10.11.14-MariaDB-0+deb12u2` and `8.0.36-log` without the packagers' suffixes. The name MariaDB
/// stays, since its version numbers differ from MySQL's.
fn short_version(version: &str) -> String {
    let number = version.split(['-', '+']).next().unwrap_or(version);
    if version.contains("MariaDB") {
        format!("{number}-MariaDB")
    } else {
        number.to_owned()
    }
}

#[async_trait]
impl DatabaseDriver for MysqlDriver {
    fn aliases(&self) -> &'static [&'static str] {
        &["mariadb", "aurora-mysql"]
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        config.refuse_transaction_pooler()?;
        let address = ServerAddress::of(config, DEFAULT_PORT)?;
        allowed_hosts::check(self.hosts.as_deref(), config)?;
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
        let by_any_address = async {
            let login = options.connect();
            match live_address::logged_in(&address, config, login).await {
                Ok(outcome) => (options, outcome),
                Err(live) => {
                    let options = options.host(&live.to_string());
                    let outcome = options.connect().await;
                    (options, outcome)
                }
            }
        };
        let (options, outcome) = match config.connect_timeout {
            Some(limit) => tokio::time::timeout(limit, by_any_address)
                .await
                .map_err(|elapsed| DriverError::new(DriverErrorKind::Unreachable, elapsed))?,
            None => by_any_address.await,
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
            control: self.control.clone(),
            statement_timeout,
            timeout_rolls_back: begun.timeout_rolls_back,
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
        // Locks have names of at most 64 characters and belong to the server, not to a database.
        MigrationLock::Session {
            lock: "SELECT GET_LOCK(CONCAT('tenantry-', MD5(DATABASE())), 0)",
            prepare: "SET @tenantry = 1 /*M! , SESSION max_statement_time = 0 */",
        }
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        script::statements(script, Syntax::Mysql)
    }

    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries {
            schema: Some("SELECT DATABASE()"),
            left_behind: None,
            structure: Some(crate::structure::MYSQL),
        }
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        renew::<Mysql>(self, config, connection).await
    }
}

/// The server asks for the password itself, and the connection is not encrypted.
///
/// MySQL's clients can encrypt it with a key from the server that no authority certifies, so an
/// attacker in between can get the password. This driver does not do that, and does not need the
/// crate `rsa`.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server asks for the password itself (`caching_sha2_password` or `sha256_password`), which is sent over TLS only: set `tls.mode` \
     to `verify-full` or at least `require`"
)]
struct NoPlainPassword;

/// How sqlx's error begins if the server asks for a way to log in that sqlx does not have: there is
/// no kind of error for it.
const UNKNOWN_PLUGIN: &str = "unknown authentication plugin";

/// Whether sqlx refused because it was to encrypt the password without TLS: it has no kind of error
/// for that.
fn wants_encrypted_password(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.to_string().starts_with("RSA auth backend disabled")
}

fn number_of(error: &dyn sqlx::error::DatabaseError) -> u16 {
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map_or(0, MySqlDatabaseError::number)
}

/// Reads the number of a refused connection (MySQL's and MariaDB's lists of server errors).
fn connect_kind(error: &dyn sqlx::error::DatabaseError) -> DriverErrorKind {
    match number_of(error) {
        // Access denied: by password, to the database, without a password, to a locked account, by
        // an expired password, from here.
        1044 | 1045 | 1698 | 1130 | 1820 | 1862 | 3118 | 3878 | 4151 => DriverErrorKind::Authentication,
        1049 => DriverErrorKind::DatabaseMissing,
        1040 | 1203 | 1226 => DriverErrorKind::TooManyConnections,
        // Shutting down; this host made too many bad connections.
        1053 | 1129 => DriverErrorKind::Unreachable,
        1927 => DriverErrorKind::SessionEnded,
        // The server takes encrypted connections only, from this user or from anyone.
        3159 => DriverErrorKind::Tls,
        _ => DriverErrorKind::Other,
    }
}

/// MySQL and MariaDB, as the connection sees them.
struct Mysql;

impl Dialect for Mysql {
    type Database = sqlx::MySql;
    type Watch = EndsSession;

    const COUNTS_VALUES: bool = true;

    fn fault(watch: &EndsSession, error: &dyn sqlx::error::DatabaseError, _within: bool) -> ErrorMeaning {
        let number = number_of(error);
        ErrorMeaning {
            kind: kind(number),
            transaction: aftermath(number, watch.timeout_rolls_back),
        }
    }

    /// The server failed to prepare it again several times (1615), or does not know it, as behind a
    /// proxy that switched servers (1243).
    fn is_stale_plan(error: &dyn sqlx::error::DatabaseError) -> bool {
        matches!(number_of(error), 1615 | 1243)
    }

    /// sqlx sends a time in UTC as a TIMESTAMP, of which MariaDB makes NULL outside the years 1970
    /// to 2038 whatever the column is. A DATETIME is the same in a session that speaks UTC.
    fn bound(value: Value) -> Value {
        match value {
            Value::ChronoDateTimeUtc(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            Value::ChronoDateTimeLocal(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            Value::ChronoDateTimeWithTimeZone(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            value => value,
        }
    }

    fn length(value: MySqlValueRef<'_>) -> usize {
        <&[u8] as Decode<sqlx::MySql>>::decode(value).map_or(0, <[u8]>::len)
    }

    fn begin(options: &TransactionOptions) -> String {
        let start = match options.access_mode {
            Some(mode) => format!("START TRANSACTION {mode}"),
            None => "START TRANSACTION".to_owned(),
        };
        match options.isolation_level {
            Some(level) => format!("SET TRANSACTION ISOLATION LEVEL {level}; {start}"),
            None => start,
        }
    }
}

/// What became of the transaction in which a statement failed with this number.
fn aftermath(number: u16, timeout_rolls_back: bool) -> Aftermath {
    match number {
        // A deadlock, a full lock table, and MariaDB's "record has changed since last read".
        1213 | 1206 | 1020 => Aftermath::Gone,
        1205 if timeout_rolls_back => Aftermath::Gone,
        _ => Aftermath::GoesOn,
    }
}

/// Reads the number of a failed statement.
fn kind(number: u16) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    match number {
        1022 | 1062 | 1169 | 1586 | 1859 => Kind::UniqueViolation,
        1216 | 1217 | 1451 | 1452 | 1557 | 1761 | 1762 => Kind::ForeignKeyViolation,
        1048 | 1264 | 1364 | 1406 | 3819 | 4025 => Kind::ConstraintViolation,
        // 1412: the table was changed since the transaction began.
        1213 | 1206 | 1020 | 1412 | 1615 | 1243 => Kind::Serialization,
        // Waited too long for a lock; interrupted; ran too long (MySQL, MariaDB); a lock that was
        // not to be waited for.
        1205 | 1317 | 3024 | 1969 | 3572 => Kind::StatementTimeout,
        // 4031: the session had been ended for idling before the statement came.
        4031 => Kind::ConnectionLostWithoutEffect,
        1053 | 1927 | 2006 | 2013 => Kind::ConnectionLost,
        // 1021, 1114: the disk is full, or the table's file is.
        1290 | 1836 | 1792 | 1021 | 1114 => Kind::ReadOnly,
        1044 | 1142 | 1143 | 1227 | 1370 => Kind::PermissionDenied,
        1235 | 1295 => Kind::Unsupported,
        // The user may send no more statements in this hour.
        1226 => Kind::Connect(DriverErrorKind::TooManyConnections),
        // The table, or the database that it would be in: dropped while the session lived.
        1146 | 1046 | 1049 => Kind::TableMissing,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{AccessMode, IsolationLevel};

    use super::*;

    #[test]
    fn a_version_loses_its_packager() {
        assert_eq!(short_version("10.11.14-MariaDB-0+deb12u2"), "10.11.14-MariaDB");
        assert_eq!(short_version("5.5.5-10.6.1-MariaDB"), "5.5.5-MariaDB");
        assert_eq!(short_version("8.0.36-log"), "8.0.36");
    }

    #[test]
    fn a_session_without_a_limit_sets_none() {
        assert!(!session(None, true, true).contains("max_"));
        let limited = session(Some(Duration::from_millis(1500)), true, true);
        assert!(limited.contains("max_statement_time = 1.5 "), "{limited}");
        assert!(limited.contains("max_execution_time = 1500 "), "{limited}");
    }

    #[test]
    fn what_became_of_a_transaction_is_known_by_the_number() {
        for number in [1213, 1206, 1020] {
            assert_eq!(aftermath(number, false), Aftermath::Gone, "{number}");
        }
        assert_eq!(aftermath(1205, true), Aftermath::Gone);
        assert_eq!(aftermath(1205, false), Aftermath::GoesOn);
        assert_eq!(aftermath(1062, true), Aftermath::GoesOn);
    }

    #[test]
    fn the_isolation_level_comes_before_the_transaction() {
        assert_eq!(Mysql::begin(&TransactionOptions::default()), "START TRANSACTION");
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::ReadCommitted),
            access_mode: Some(AccessMode::ReadOnly),
            ..Default::default()
        };
        assert_eq!(
            Mysql::begin(&options),
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ ONLY"
        );
    }

    #[test]
    fn the_login_of_a_session_is_followed_through_every_change() {
        let changed = ChangedLogins::default();
        let login = |user: &str| ("host".to_owned(), 3306, user.to_owned());
        let latest = |user| {
            let found = changed.latest(&login(user));
            found.map(|(login, password)| (login.2, password.expose_secret().to_owned()))
        };
        let now = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(latest("a"), None);
        changed.insert(login("a"), login("a"), "2".into());
        assert_eq!(latest("a"), now("a", "2"));
        changed.insert(login("a"), login("b"), "3".into());
        changed.insert(login("b"), login("b"), "4".into());
        assert_eq!((latest("a"), latest("b")), (now("b", "4"), now("b", "4")));
        changed.insert(login("b"), login("a"), "5".into());
        assert_eq!((latest("a"), latest("b")), (now("a", "5"), now("a", "5")));
    }
}
