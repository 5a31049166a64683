//! The runner on real databases.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use sea_orm::{DbBackend, Statement};
use serde_json::{Value, json};
use tenantry_core::{BuildContext, DatabaseError, DatabaseErrorKind, Registry, SecretValue};
use tenantry_drivers::{MysqlDriver, PostgresqlDriver, SqliteDriver};
use tenantry_test_support::{MariadbServer, PgBouncer, PostgresServer};

use super::*;

mod dumps;
mod first_use;
mod hard;
mod lower_case;
mod names;
mod resumed;
mod schemas;
mod sessions;
mod stepwise;
mod tables;
mod texts;
mod waits;

/// A driver and the secret of an empty database.
struct Target {
    driver: Arc<dyn DatabaseDriver>,
    config: DatabaseConfig,
    tenant: TenantId,
}

impl Target {
    async fn new(driver: Value, secret: Value) -> Self {
        let mut registry = Registry::new();
        registry
            .driver::<SqliteDriver>()
            .driver::<PostgresqlDriver>()
            .driver::<MysqlDriver>();
        let context = BuildContext::for_tests(Registry::new());
        Self {
            driver: registry.build_driver(driver, &context).await.unwrap(),
            config: DatabaseConfig::parse(&SecretValue::new(secret)).unwrap(),
            tenant: "tenant1".parse().unwrap(),
        }
    }

    async fn sqlite(folder: &Path) -> Self {
        let driver = json!({"type": "sqlite", "root": folder.to_str()});
        Self::new(driver, json!({"type": "sqlite", "path": "x.db"})).await
    }

    async fn postgresql() -> Self {
        let server = PostgresServer::shared().await;
        let tenant = server.create_tenant("migrations").await.unwrap();
        Self::new(json!({"type": "postgresql"}), server.secret(&tenant)).await
    }

    async fn mysql() -> Self {
        let server = MariadbServer::shared().await;
        let tenant = server.create_tenant("migrations").await.unwrap();
        Self::new(json!({"type": "mysql"}), server.secret(&tenant)).await
    }

    async fn apply(&self, migrations: &Migrations, sample_data: bool) -> Result<Summary, MigrationError> {
        let mut connection = self.driver.connect(&self.config).await.unwrap();
        let applied = self.apply_on(&mut *connection, migrations, sample_data).await;
        connection.close().await;
        applied
    }

    async fn apply_on(
        &self,
        connection: &mut dyn Connection,
        migrations: &Migrations,
        sample_data: bool,
    ) -> Result<Summary, MigrationError> {
        let choice = Choice { sample_data, to: None };
        let mut done = Report::default();
        migrations.apply(self.database(), connection, choice, &mut done).await?;
        Ok(Summary {
            applied: done.applied.into_iter().map(|file| file.name).collect(),
            already: done.already,
        })
    }

    fn database(&self) -> Database<'_> {
        Database {
            driver: &*self.driver,
            config: &self.config,
            tenant: &self.tenant,
        }
    }

    /// On a connection that is used afterwards, as on a tenant's first.
    async fn apply_with(
        &self,
        connection: &mut dyn Connection,
        migrations: &Migrations,
    ) -> Result<Summary, MigrationError> {
        self.apply_on(connection, migrations, false).await
    }

    async fn dump(&self) -> String {
        let tenant = tenantry_test_support::TenantDb {
            database: self.config.database.clone().unwrap(),
            user: self.config.username.clone().unwrap(),
            password: secrecy::ExposeSecret::expose_secret(self.config.password.as_ref().unwrap()).to_owned(),
        };
        dumps::pg_dump(&tenant, &["--schema-only", "--exclude-table=tenantry_migrations"]).await
    }

    async fn look(&self, migrations: &Migrations, sample_data: bool) -> State {
        let mut connection = self.driver.connect(&self.config).await.unwrap();
        let choice = Choice { sample_data, to: None };
        let state = migrations.look(&*self.driver, &mut *connection, choice).await;
        connection.close().await;
        state.unwrap()
    }

    /// What is left, and how much is there.
    async fn pending(&self, migrations: &Migrations, sample_data: bool) -> Summary {
        let state = self.look(migrations, sample_data).await;
        Summary {
            applied: state.pending,
            already: state.already,
        }
    }

    async fn execute(&self, sql: &str) -> Result<(), DatabaseError> {
        let mut connection = self.driver.connect(&self.config).await.unwrap();
        let outcome = connection.execute_script(sql).await;
        connection.close().await;
        outcome.map(drop)
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let mut connection = self.driver.connect(&self.config).await.unwrap();
        let rows = connection
            .query(&Statement::from_string(self.driver.backend(), sql))
            .await
            .unwrap();
        connection.close().await;
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }
}

/// What was done, or would be.
#[derive(Debug, PartialEq)]
struct Summary {
    applied: Vec<String>,
    already: usize,
}

fn report(applied: &[&str], already: usize) -> Summary {
    Summary {
        applied: applied.iter().map(ToString::to_string).collect(),
        already,
    }
}

async fn folder(dialect: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Migrations) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(dialect)).unwrap();
    for (name, sql) in files {
        std::fs::write(folder.path().join(dialect).join(name), sql).unwrap();
    }
    let migrations = Migrations::load(folder.path()).await.unwrap();
    (folder, migrations)
}

/// What holds of every kind of database.
async fn the_embedded_migrations_make_a_database_ready(target: Target) {
    let migrations = Migrations::embedded().unwrap();
    let both = ["0001_create_users", "0002_sample_users"];
    assert_eq!(target.pending(&migrations, true).await, report(&both, 0));
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&both[..1], 0));
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 1));
    assert_eq!(target.pending(&migrations, true).await, report(&both[1..], 1));
    assert_eq!(target.apply(&migrations, true).await.unwrap(), report(&both[1..], 1));
    assert_eq!(target.apply(&migrations, true).await.unwrap(), report(&[], 2));
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 2));
    let emails = target.texts("SELECT email FROM users ORDER BY id").await;
    assert_eq!(emails, ["john@tenant1.com", "jane@tenant1.com", "bob@tenant1.com"]);

    let taken = target
        .execute("INSERT INTO users (name, email) VALUES ('J', 'JOHN@tenant1.com')")
        .await
        .unwrap_err();
    assert_eq!(taken.kind, DatabaseErrorKind::UniqueViolation);
    target
        .execute("INSERT INTO users (name, email) VALUES ('É', 'jöhn@tenant1.com')")
        .await
        .unwrap();
    let long = format!(
        "INSERT INTO users (name, email) VALUES ('{}', 'long@x.com')",
        "ü".repeat(200)
    );
    target.execute(&long).await.unwrap();
    let longer = format!(
        "INSERT INTO users (name, email) VALUES ('{}', 'longer@x.com')",
        "ü".repeat(201)
    );
    assert_eq!(
        target.execute(&longer).await.unwrap_err().kind,
        DatabaseErrorKind::ConstraintViolation
    );

    let mut connection = target.driver.connect(&target.config).await.unwrap();
    let select = Statement::from_string(
        target.driver.backend(),
        "SELECT id, created_at, updated_at FROM users ORDER BY id",
    );
    let rows = connection.query(&select).await.unwrap();
    assert_eq!(rows[0].try_get::<i64>("", "id").unwrap(), 1);
    for column in ["created_at", "updated_at"] {
        let at: chrono::DateTime<chrono::Utc> = rows[0].try_get("", column).unwrap();
        assert!((chrono::Utc::now() - at).num_seconds().abs() < 600, "{column} is {at}");
    }
    connection.close().await;
}

/// Ten instances start together on an empty database.
async fn instances_at_once_apply_each_file_once(target: Target, dialect: &str) {
    let (_folder, migrations) = folder(
        dialect,
        &[
            ("1_t.sql", "CREATE TABLE t (i integer)"),
            ("2_one.sql", "INSERT INTO t VALUES (1)"),
            ("7_two.sql", "INSERT INTO t VALUES (2)"),
        ],
    )
    .await;
    let (target, migrations) = (&target, &migrations);
    let runs = (0..10).map(|_| async move { target.apply(migrations, false).await.unwrap() });
    let reports = futures_util::future::join_all(runs).await;
    let applied: Vec<&String> = reports.iter().flat_map(|report| &report.applied).collect();
    assert_eq!(applied.len(), 3, "{reports:?}");
    assert_eq!(applied.into_iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(
        reports.iter().all(|report| report.applied.len() + report.already == 3),
        "{reports:?}"
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 2);
}

/// The second file fails in its second statement.
async fn a_file_that_fails_is_named_and_run_again(target: Target, dialect: &str) {
    let first = ("1_t.sql", "CREATE TABLE t (i integer NOT NULL)");
    let wrong = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (NULL);";
    let (_folder, migrations) = folder(
        dialect,
        &[first, ("2_rows.sql", wrong), ("3_more.sql", "INSERT INTO t VALUES (3)")],
    )
    .await;
    for already in 0..2 {
        let error = target.apply(&migrations, false).await.unwrap_err();
        let MigrationError::Failed { name, source, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (name.as_str(), source.kind),
            ("2_rows", DatabaseErrorKind::ConstraintViolation),
            "{already}"
        );
    }
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 0);
    let right = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);";
    let (_folder, migrations) = folder(
        dialect,
        &[first, ("2_rows.sql", right), ("3_more.sql", "INSERT INTO t VALUES (3)")],
    )
    .await;
    assert_eq!(
        target.apply(&migrations, false).await.unwrap(),
        report(&["2_rows", "3_more"], 1)
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 3);
}

macro_rules! on_every_database {
    ($($dialect:ident: $target:expr),* $(,)?) => {
        $(mod $dialect {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn the_embedded_migrations_make_a_database_ready() {
                let (_folder, target) = $target;
                super::the_embedded_migrations_make_a_database_ready(target).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn instances_at_once_apply_each_file_once() {
                let (_folder, target) = $target;
                super::instances_at_once_apply_each_file_once(target, stringify!($dialect)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_file_that_fails_is_named_and_run_again() {
                let (_folder, target) = $target;
                super::a_file_that_fails_is_named_and_run_again(target, stringify!($dialect)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn no_text_of_a_file_is_logged() {
                let (_folder, target) = $target;
                first_use::no_text_of_a_file_is_logged(target, stringify!($dialect)).await;
            }
        })*
    };
}

on_every_database! {
    sqlite: {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::sqlite(folder.path()).await;
        (folder, target)
    },
    postgresql: ((), Target::postgresql().await),
    mysql: ((), Target::mysql().await),
}

#[tokio::test]
async fn a_file_changed_after_it_was_applied_is_named() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let (_folder, migrations) = folder("sqlite", &[("1_t.sql", "CREATE TABLE t (i integer)")]).await;
    target.apply(&migrations, false).await.unwrap();
    let (_folder, changed) = folder(
        "sqlite",
        &[
            ("1_t.sql", "CREATE TABLE t (i text)"),
            ("2_u.sql", "CREATE TABLE u (i text)"),
        ],
    )
    .await;
    let state = target.look(&changed, false).await;
    assert_eq!(
        (state.changed, state.pending),
        (vec!["1_t".to_owned()], vec!["2_u".to_owned()])
    );
    assert_eq!(
        target.apply(&changed, false).await.unwrap_err().to_string(),
        "the migration `1_t` was changed after it had been applied"
    );
    assert_eq!(
        target
            .texts("SELECT name FROM sqlite_master WHERE name = 'u'")
            .await
            .len(),
        0
    );
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_left_alone_and_a_gap_is_filled() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let (one, two, three) = (
        ("1_t.sql", "CREATE TABLE t (i integer)"),
        ("2_one.sql", "INSERT INTO t VALUES (1)"),
        ("3_two.sql", "INSERT INTO t VALUES (2)"),
    );
    let (_folder, newer) = folder("sqlite", &[one, three]).await;
    target.apply(&newer, false).await.unwrap();
    let (_folder, older) = folder("sqlite", &[one]).await;
    assert_eq!(target.apply(&older, false).await.unwrap(), report(&[], 1));
    let (_folder, all) = folder("sqlite", &[one, two, three]).await;
    assert_eq!(target.apply(&all, false).await.unwrap(), report(&["2_one"], 2));
}

#[tokio::test]
async fn a_database_without_a_folder_of_migrations_is_named() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let (_folder, migrations) = folder("oracle", &[("1_t.sql", "")]).await;
    let error = target.apply(&migrations, false).await.unwrap_err();
    assert!(error.to_string().ends_with("has no folder `sqlite`"), "{error}");
}

#[tokio::test]
async fn the_statement_time_out_is_for_requests_and_comes_back_after() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("slow").await.unwrap();
    let driver = json!({"type": "postgresql", "statement_timeout": "300ms"});
    let target = Target::new(driver, server.secret(&tenant)).await;
    let (_folder, migrations) = folder("postgresql", &[("1_slow.sql", "SELECT pg_sleep(0.6)")]).await;
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    target.apply_on(&mut *connection, &migrations, false).await.unwrap();
    let timeout = Statement::from_string(DbBackend::Postgres, "SHOW statement_timeout");
    let row = connection.query_one(&timeout).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "300ms");
    let locks = Statement::from_string(
        DbBackend::Postgres,
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    );
    let row = connection.query_one(&locks).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 0);
    connection.close().await;
}

#[tokio::test]
async fn mariadb_s_time_out_comes_back_after_migrations() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("slow").await.unwrap();
    let target = Target::new(
        json!({"type": "mysql", "statement_timeout": "1s"}),
        server.secret(&tenant),
    )
    .await;
    let (_folder, migrations) = folder("mysql", &[("1_slow.sql", "DO SLEEP(1.5)")]).await;
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    target.apply_on(&mut *connection, &migrations, false).await.unwrap();
    let limit = Statement::from_string(DbBackend::MySql, "SELECT CAST(@@SESSION.max_statement_time AS char)");
    let row = connection.query_one(&limit).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "1.000000");
    connection.close().await;
}

/// A target behind a PgBouncer in transaction mode with two sessions.
async fn pooled() -> (PgBouncer, Target) {
    let server = PostgresServer::shared().await;
    let pgbouncer = PgBouncer::start(server, "default_pool_size = 2").await.unwrap();
    let tenant = server.create_tenant("pooled").await.unwrap();
    let driver = json!({"type": "postgresql", "statement_timeout": "2s"});
    let target = Target::new(driver, pgbouncer.secret(&tenant)).await;
    (pgbouncer, target)
}

#[tokio::test]
async fn instances_behind_a_pooler_apply_each_file_once() {
    let (_pgbouncer, target) = pooled().await;
    instances_at_once_apply_each_file_once(target, "postgresql").await;
}

#[tokio::test]
async fn a_file_leaves_no_setting_in_a_session_of_a_pooler() {
    let (_pgbouncer, target) = pooled().await;
    let dumped = "SELECT pg_catalog.set_config('search_path', '', false); SET statement_timeout = 0; \
                  SET TimeZone = 'Asia/Tokyo'; CREATE TABLE public.t (id bigint); SELECT pg_sleep(2.3)";
    let files = [("1_dumped.sql", dumped), ("2_more.sql", "INSERT INTO t VALUES (1)")];
    let (_folder, migrations) = folder("postgresql", &files).await;
    let both = ["1_dumped", "2_more"];
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&both, 0));
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 2));
    for _ in 0..4 {
        let settings = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('TimeZone'), \
                        current_setting('statement_timeout')) FROM t";
        assert_eq!(target.texts(settings).await, ["\"$user\", public UTC 2s"]);
    }
}

#[tokio::test]
async fn a_file_that_fails_behind_a_pooler_leaves_nothing() {
    let (_pgbouncer, target) = pooled().await;
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (id bigint); SELECT 1/0")]).await;
    for _ in 0..2 {
        let error = target.apply(&migrations, false).await.unwrap_err();
        assert!(matches!(error, MigrationError::Failed { .. }), "{error:?}");
    }
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (id bigint)")]).await;
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
}

#[tokio::test]
async fn another_tool_s_table_that_cannot_be_read_is_named() {
    let target = Target::postgresql().await;
    let database = target.config.database.as_deref().unwrap();
    let create = "CREATE TABLE public.schema_migrations (version bigint, dirty boolean)";
    PostgresServer::shared().await.psql(database, create).await.unwrap();
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (i integer);")]).await;
    let refused = target.apply(&migrations, false).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, MigrationError::ForeignUnreadable { .. }),
        "{refused:?}"
    );
    assert!(text.contains("`schema_migrations` cannot be read"), "{text}");
}
