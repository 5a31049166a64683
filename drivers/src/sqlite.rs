//! SQLite: a file for each tenant, below one folder.

mod files;

use std::{
    path::{Component, Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use sea_orm::{AccessMode, DbBackend, TransactionOptions};
use serde::Deserialize;
use sqlx::{
    ConnectOptions as _, Decode, SqliteConnection, Type, ValueRef as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous, SqliteValueRef},
};
use tenantry_core::{
    BuildContext, BuildError, ByteSize, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError,
    DriverErrorKind, HumanDuration, MigrationLock, MigrationQueries, Plugin, ScriptFault, ScriptStatement,
    SecretInvalid, ServerVersion, TlsMode,
    driver_settings::{MaxAnswer, statement_timeout},
};
use tokio::time::{Instant, sleep};

use files::{Files, HeldFile};

use crate::{
    script::{self, Syntax},
    sqlx_connection::{
        Aftermath, Dialect, ErrorMeaning, STATEMENT_CACHE_CAPACITY, SqlxConnection, Watch, connect_error, renew,
    },
};

/// How long a statement waits for the one writer there may be.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before a file that was busy is opened again.
const OPEN_AGAIN: Duration = Duration::from_millis(20);

/// How many of SQLite's virtual instructions run between two looks at the clock: few, since one
/// that compares a long text with a pattern takes milliseconds.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 100;

/// SQLite, built in: a file for each tenant, below one folder.
///
/// A secret for it has `path`, a relative one, such as `tenant1.db`. The file and its folders are
/// created if they are missing, unless `create` is false, with access for the server's user alone.
/// A file belongs to one tenant; another tenant with a secret for the same file is refused.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteConfig {
    /// The folder that every tenant's file is in; no path and no symbolic link leads out of it.
    pub root: PathBuf,
    /// Whether a missing file is created. With `false` its tenant is 503 until the file exists, so
    /// that a volume that is not mounted does not look like an empty database. A secret's `create`
    /// takes precedence. A file that is removed while the program runs is not created again.
    pub create: bool,
    /// How long a statement may run before it is cancelled; `null` for no limit. A secret's
    /// `query.timeout` goes before it.
    pub statement_timeout: Option<HumanDuration>,
    /// The largest answer of a statement that is read whole, as it takes in memory. A larger one is
    /// an error and costs its connection; read it as a stream.
    pub max_answer: ByteSize,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("data"),
            create: true,
            statement_timeout: Some(HumanDuration::from_secs(30)),
            max_answer: MaxAnswer::DEFAULT,
        }
    }
}

/// Opens SQLite files.
#[derive(Debug)]
pub struct SqliteDriver {
    files: Files,
    create: bool,
    statement_timeout: Option<Duration>,
    max_answer: MaxAnswer,
}

impl Plugin<dyn DatabaseDriver> for SqliteDriver {
    const TYPE: &'static str = "sqlite";
    const EXAMPLE: &'static str = "type: sqlite\nroot: data\nstatement_timeout: 30s\n";
    type Config = SqliteConfig;

    async fn build(config: SqliteConfig, context: &BuildContext) -> Result<Self, BuildError> {
        if config.root.as_os_str().is_empty() {
            return Err(BuildError::key("root", "is empty"));
        }
        Ok(Self {
            files: Files::below(context.path(config.root)),
            create: config.create,
            statement_timeout: statement_timeout(config.statement_timeout)?,
            max_answer: MaxAnswer::new(config.max_answer)?,
        })
    }
}

#[async_trait]
impl DatabaseDriver for SqliteDriver {
    fn aliases(&self) -> &'static [&'static str] {
        &["sqlite3"]
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        refuse_servers(config)?;
        relative_path(config).map(drop)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let invalid = |error| DriverError::new(DriverErrorKind::Invalid, error);
        refuse_servers(config).map_err(invalid)?;
        let path = relative_path(config).map_err(invalid)?.to_owned();
        let create = config.create.unwrap_or(self.create);
        let (files, tenant) = (self.files.clone(), config.tenant);
        let (looks_only, probes) = (config.looks_only, config.probes);
        let opened = tokio::task::spawn_blocking(move || match looks_only {
            true => files.look(&path, create, tenant, probes),
            false => files.open(&path, create, tenant).map(Some),
        });
        let file = opened
            .await
            .map_err(|error| DriverError::new(DriverErrorKind::Other, error))??;
        let failed = |error| connect_error(error, connect_kind);
        let path = file.as_ref().map_or(Path::new(":memory:"), HeldFile::path);
        let options = SqliteConnectOptions::new().filename(path);
        let options = match looks_only {
            true => options
                .pragma("query_only", "ON")
                .immutable(file.as_ref().is_some_and(|file| file.immutable)),
            false => options.journal_mode(SqliteJournalMode::Wal),
        };
        let options = options
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
            .disable_statement_logging();
        let began = Instant::now();
        let mut connection = loop {
            match options.connect().await {
                // SQLite does not wait for another process that is just putting a new file into WAL
                // mode.
                Err(error) if is_busy(&error) && began.elapsed() < BUSY_TIMEOUT => sleep(OPEN_AGAIN).await,
                opened => break opened.map_err(failed)?,
            }
        };
        let version = version(&mut connection).await.map_err(failed)?;
        let mut alarm = Alarm::default();
        alarm.file = file;
        let (looked_at, rolled_back) = (alarm.deadline.clone(), alarm.rolled_back.clone());
        {
            let mut handle = connection.lock_handle().await.map_err(failed)?;
            handle.set_progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, move || !looked_at.is_due());
            handle.set_rollback_hook(move || rolled_back.store(true, Ordering::Release));
        }
        let version = ServerVersion(version.into());
        Ok(Box::new(SqlxConnection::<Sqlite>::new(
            connection,
            alarm,
            version,
            config.query.timeout.or(self.statement_timeout),
            self.max_answer,
        )))
    }

    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    fn migration_dialect(&self) -> &str {
        "sqlite"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Transaction
    }

    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries {
            tables: Some("SELECT name, NULL FROM sqlite_master WHERE type = 'table'"),
            structure: Some(crate::structure::SQLITE),
            ..MigrationQueries::default()
        }
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        script::statements(script, Syntax::Sqlite)
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        renew::<Sqlite>(self, config, connection).await
    }
}

async fn version(connection: &mut SqliteConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(connection)
        .await
}

/// Checks the secret's `path`: one below the root, with no way out of it, that is not a companion
/// of another database.
fn relative_path(config: &DatabaseConfig) -> Result<&Path, SecretInvalid> {
    let wrong = |reason| Err(SecretInvalid::new("path", reason));
    let Some(text) = config.path.as_deref() else {
        return wrong("is missing");
    };
    if text.contains('\0') {
        return wrong("holds a NUL character");
    }
    if text.contains(":memory:") {
        return wrong("names no file: a database in memory would be another one for each connection");
    }
    if text.ends_with('/') {
        return wrong("names a folder");
    }
    if ["-wal", "-shm", "-journal"].iter().any(|end| text.ends_with(end)) {
        return wrong("is the name of a file that SQLite keeps beside a database");
    }
    let path = Path::new(text);
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return wrong("is not a relative path without `.` and `..`");
    }
    Ok(path)
}

/// Refuses what only a server has.
fn refuse_servers(config: &DatabaseConfig) -> Result<(), SecretInvalid> {
    const NOT_HERE: &str = "is set, and a file has no connection to encrypt: remove it";
    // Before TLS, which it sets.
    config.refuse_rds_iam()?;
    if config.tls.mode.is_some_and(|mode| mode > TlsMode::Prefer) {
        return Err(SecretInvalid::new("tls.mode", NOT_HERE));
    }
    config.refuse_certificates(NOT_HERE)?;
    config.refuse_transaction_pooler()
}

/// Stops a statement at its deadline, or when its request has gone away, and notices whether it
/// rolled its transaction back.
#[derive(Default)]
struct Alarm {
    deadline: Arc<Deadline>,
    /// Whether SQLite has rolled a transaction back since the statement began.
    rolled_back: Arc<AtomicBool>,
    /// When the statement began, as [`Deadline`] counts.
    began: AtomicU64,
    /// The connection's file, which is its tenant's for as long as the connection is open.
    file: Option<HeldFile>,
}

/// Milliseconds since the first use of this clock; [`Deadline::NEVER`] if no statement is to be
/// stopped.
struct Deadline(AtomicU64);

impl Default for Deadline {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NEVER))
    }
}

impl Deadline {
    const NEVER: u64 = u64::MAX;

    fn of(moment: Instant) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(moment.saturating_duration_since(*START).as_millis()).unwrap_or(Self::NEVER)
    }

    fn is_due(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            Self::NEVER => false,
            deadline => Self::of(Instant::now()) >= deadline,
        }
    }
}

impl Alarm {
    /// The time since the statement began.
    fn elapsed(&self) -> Duration {
        let began = self.began.load(Ordering::Relaxed);
        Duration::from_millis(Deadline::of(Instant::now()).saturating_sub(began))
    }
}

impl Watch for Alarm {
    fn begins(&self, limit: Option<Duration>) {
        let deadline = limit.map_or(Deadline::NEVER, |limit| Deadline::of(Instant::now() + limit));
        self.rolled_back.store(false, Ordering::Release);
        self.began.store(Deadline::of(Instant::now()), Ordering::Relaxed);
        self.deadline.0.store(deadline, Ordering::Relaxed);
    }

    fn is_gone(&self) -> bool {
        self.file.as_ref().is_some_and(HeldFile::is_gone)
    }

    fn ends(&self) {
        self.deadline.0.store(Deadline::NEVER, Ordering::Relaxed);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.deadline.0.store(0, Ordering::Relaxed);
        self.file.take();
    }
}

/// The primary code of an extended one (SQLite's "Result and Error Codes").
fn codes(error: &dyn sqlx::error::DatabaseError) -> (u32, u32) {
    let extended: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
    (extended & 0xff, extended)
}

/// Whether another connection has the file.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| codes(error).0 == 5)
}

fn connect_kind(error: &dyn sqlx::error::DatabaseError) -> DriverErrorKind {
    match codes(error).0 {
        // Busy, locked, read-only, an input or output error, cannot be opened.
        5 | 6 | 8 | 10 | 14 => DriverErrorKind::Unreachable,
        _ => DriverErrorKind::Other,
    }
}

/// SQLite, as the connection sees it.
struct Sqlite;

impl Dialect for Sqlite {
    type Database = sqlx::Sqlite;
    type Watch = Alarm;

    const OPEN_AFTER_FAILED_COMMIT: bool = true;
    const WORKS_ON_DEMAND: bool = true;
    const HAS_NO_PROTOCOL: bool = true;

    /// The length of a number is not queried as bytes, since SQLite would convert it to a text.
    fn length(value: SqliteValueRef<'_>) -> usize {
        match <[u8] as Type<sqlx::Sqlite>>::compatible(&value.type_info()) {
            true => <&[u8] as Decode<sqlx::Sqlite>>::decode(value).map_or(0, <[u8]>::len),
            false => 0,
        }
    }

    fn fault(watch: &Alarm, error: &dyn sqlx::error::DatabaseError, within: bool) -> ErrorMeaning {
        let (primary, extended) = codes(error);
        // A transaction that has read cannot wait for a writer, which may be waiting for its end.
        // So it is refused at once.
        let refused_at_once = within && extended == 5 && watch.elapsed() < BUSY_TIMEOUT / 2;
        // SQLite has no code of its own for it.
        let no_table = primary == 1 && error.message().starts_with("no such table: ");
        let rolled_back = watch.rolled_back.load(Ordering::Acquire);
        ErrorMeaning {
            kind: match (no_table, refused_at_once) {
                (true, _) => DatabaseErrorKind::TableMissing,
                (_, true) => DatabaseErrorKind::Serialization,
                _ => kind(primary, extended),
            },
            // <https://www.sqlite.org/lang_transaction.html>: these may roll the whole transaction
            // back. So do `INSERT OR ROLLBACK` and a trigger's `RAISE(ROLLBACK, ...)`.
            transaction: match primary {
                _ if rolled_back => Aftermath::Gone,
                7 | 9 | 10 | 11 | 13 => Aftermath::Gone,
                _ => Aftermath::GoesOn,
            },
        }
    }

    /// SQLite's transactions are serializable, which satisfies every isolation level.
    fn begin(options: &TransactionOptions) -> String {
        let begin = match options.sqlite_transaction_mode {
            Some(mode) => format!("BEGIN {}", mode.sqlite_keyword()),
            None => "BEGIN".to_owned(),
        };
        match options.access_mode {
            Some(AccessMode::ReadOnly) => format!("{begin}; PRAGMA query_only = 1"),
            _ => begin,
        }
    }

    fn begin_within(options: &TransactionOptions, save_point: &str) -> Option<String> {
        match options.access_mode {
            Some(AccessMode::ReadOnly) => Some(format!("{save_point}; PRAGMA query_only = 1")),
            _ => Some(save_point.to_owned()),
        }
    }

    fn end(options: &TransactionOptions) -> Option<&'static str> {
        (options.access_mode == Some(AccessMode::ReadOnly)).then_some("PRAGMA query_only = 0")
    }
}

fn kind(primary: u32, extended: u32) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    match (primary, extended) {
        // UNIQUE, PRIMARY KEY, ROWID.
        (_, 2067 | 1555 | 2579) => Kind::UniqueViolation,
        // FOREIGN KEY; a foreign key's own trigger (RESTRICT).
        (_, 787 | 1811) => Kind::ForeignKeyViolation,
        // Any other constraint, a value that is too big, a type that does not fit.
        (18..=20, _) => Kind::ConstraintViolation,
        // BUSY_SNAPSHOT: another connection wrote since this transaction read.
        (_, 517) => Kind::Serialization,
        // Busy and locked after waiting; interrupted.
        (5 | 6 | 9, _) => Kind::StatementTimeout,
        // Read only; full.
        (8 | 13, _) => Kind::ReadOnly,
        // PERM, AUTH.
        (3 | 23, _) => Kind::PermissionDenied,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry_core::SecretValue;

    use super::*;

    fn check(path: &str) -> Result<(), SecretInvalid> {
        let config = DatabaseConfig::parse(&SecretValue::new(json!({"type": "sqlite", "path": path}))).unwrap();
        relative_path(&config).map(drop)
    }

    #[test]
    fn a_path_that_could_leave_the_root_is_refused() {
        for path in [
            "tenant1.db",
            "a/b/c.sqlite",
            "a b.db",
            "..db",
            "ünï.db",
            "file:x.db?mode=memory",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        let bad = [
            "/etc/x.db",
            "../x.db",
            "a/../../x.db",
            "a/..",
            ".",
            "./x.db",
            "",
            ":memory:",
            "a/:memory:",
            "a/",
            "x\0.db",
            "x.db-wal",
            "x.db-shm",
            "x.db-journal",
        ];
        for path in bad {
            let error = check(path).unwrap_err();
            assert_eq!(error.field, "path", "{path}");
        }
    }

    #[test]
    fn an_alarm_is_due_at_its_deadline_and_when_nobody_waits() {
        let alarm = Alarm::default();
        let deadline = alarm.deadline.clone();
        assert!(!deadline.is_due());
        alarm.begins(Some(Duration::from_secs(60)));
        assert!(!deadline.is_due());
        alarm.begins(Some(Duration::ZERO));
        assert!(deadline.is_due());
        alarm.ends();
        assert!(!deadline.is_due());
        drop(alarm);
        assert!(deadline.is_due());
    }
}
