//! The driver `sqlite` on files of its own.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::{DbBackend, Statement, TransactionOptions};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverErrorKind, Registry,
    SecretValue,
    conformance::driver::{DriverFixture, MAX_ANSWER, STATEMENT_TIMEOUT, run},
};
use tenantry_drivers::SqliteDriver;
use tenantry_test_support::record_case;

async fn driver(root: &Path) -> Arc<dyn DatabaseDriver> {
    driver_with(root, json!({})).await
}

async fn driver_with(root: &Path, changes: Value) -> Arc<dyn DatabaseDriver> {
    let mut registry = Registry::new();
    registry.driver::<SqliteDriver>();
    let mut context = BuildContext::for_tests(Registry::new());
    context.base_dir = root.to_owned();
    let mut mapping = json!({
        "type": "sqlite", "root": "files", "statement_timeout": format!("{}ms", STATEMENT_TIMEOUT.as_millis()), "max_answer": MAX_ANSWER
    });
    for (name, value) in changes.as_object().unwrap() {
        mapping[name] = value.clone();
    }
    registry.build_driver(mapping, &context).await.unwrap()
}

fn config(path: &str) -> DatabaseConfig {
    DatabaseConfig::parse(&SecretValue::new(json!({"type": "sqlite", "path": path}))).unwrap()
}

struct Files;

#[async_trait]
impl DriverFixture for Files {
    fn secret(&self) -> Value {
        json!({"type": "sqlite", "path": "some/folder/conformance.db"})
    }

    fn wrong_password(&self) -> Option<Value> {
        None
    }

    fn unreachable(&self) -> Option<Value> {
        // A file stands where a folder would have to be.
        Some(json!({"type": "sqlite", "path": "some/folder/conformance.db/below.db"}))
    }

    fn tls_refused(&self) -> Option<Value> {
        None
    }

    fn database_missing(&self) -> Option<Value> {
        Some(json!({"type": "sqlite", "path": "some/folder/missing.db", "create": false}))
    }

    async fn end_sessions(&self) -> bool {
        false
    }

    fn slow_statement(&self) -> &'static str {
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let folder = tempfile::tempdir().unwrap();
    for case in run(driver(folder.path()).await, &Files).await {
        let outcome = if case.applies { "ok" } else { "does not apply" };
        record_case("sqlite", case.group, &case.name, outcome);
    }
}

#[tokio::test]
async fn files_lie_below_the_root_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    driver.connect(&config("a/b.db")).await.unwrap().close().await;
    assert!(folder.path().join("files/a/b.db").is_file());
    for path in ["../b.db", "/tmp/b.db", ":memory:"] {
        assert_eq!(driver.validate(&config(path)).unwrap_err().field, "path");
        assert_eq!(
            driver.connect(&config(path)).await.err().unwrap().kind,
            DriverErrorKind::Invalid
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_missing_file_is_not_created_if_that_is_forbidden() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    let secret = |path: &str, create: Value| {
        let secret = json!({"type": "sqlite", "path": path, "create": create});
        DatabaseConfig::parse(&SecretValue::new(secret)).unwrap()
    };
    let forbids = driver_with(folder.path(), json!({"create": false})).await;
    let allows = driver(folder.path()).await;
    // The first case has no root, as if its volume were not mounted.
    let cases = [
        (&forbids, Value::Null),
        (&forbids, json!(false)),
        (&allows, json!(false)),
        (&allows, json!("False")),
    ];
    for (driver, create) in &cases {
        for path in ["new.db", "new/new.db"] {
            let error = driver.connect(&secret(path, create.clone())).await.err().unwrap();
            assert_eq!(error.kind, DriverErrorKind::DatabaseMissing, "{path} {create}");
        }
        assert!(!files.exists());
    }
    forbids
        .connect(&secret("a/b.db", json!(true)))
        .await
        .unwrap()
        .close()
        .await;
    for (driver, create) in &cases {
        driver
            .connect(&secret("a/b.db", create.clone()))
            .await
            .unwrap()
            .close()
            .await;
        let error = driver.connect(&secret("a/c.db", create.clone())).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::DatabaseMissing);
    }
    std::os::unix::fs::symlink(files.join("unmounted.db"), files.join("link.db")).unwrap();
    let error = forbids.connect(&config("link.db")).await.err().unwrap();
    assert_eq!(error.kind, DriverErrorKind::DatabaseMissing);
    assert_eq!(
        std::fs::read_dir(files.join("a"))
            .unwrap()
            .filter(|file| file.as_ref().unwrap().path().extension().unwrap() == "db")
            .count(),
        1
    );
    let wrong = json!({"type": "sqlite", "path": "a/b.db", "create": "canary"});
    let error = DatabaseConfig::parse(&SecretValue::new(wrong)).unwrap_err();
    assert_eq!(error.field, "create");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(
        folder.path().join("files/x.db"),
        "no database at all, but long enough to have a header".repeat(99),
    )
    .unwrap();
    let error = driver(folder.path())
        .await
        .connect(&config("x.db"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, DriverErrorKind::Other);
}

#[tokio::test]
async fn the_file_is_in_wal_mode_and_keeps_foreign_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = driver(folder.path()).await.connect(&config("x.db")).await.unwrap();
    for (pragma, value) in [
        ("journal_mode", "wal"),
        ("foreign_keys", "1"),
        ("synchronous", "1"),
        ("busy_timeout", "5000"),
    ] {
        let sql = format!("SELECT CAST({pragma} AS text) AS value FROM (SELECT * FROM pragma_{pragma})");
        let sql = sql.replace("CAST(busy_timeout", "CAST(timeout");
        let row = connection
            .query_one(&Statement::from_string(DbBackend::Sqlite, sql))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.try_get::<String>("", "value").unwrap(), value, "{pragma}");
    }
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_future_is_dropped_stops_running() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let mut left = driver.connect(&config("x.db")).await.unwrap();
    left.execute_script("CREATE TABLE t (i integer)").await.unwrap();
    let endless =
        "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0";
    let running = left.execute_script(endless);
    assert!(tokio::time::timeout(Duration::from_millis(100), running).await.is_err());
    // It holds the writer's lock; another writer gets on as soon as it is stopped, well within its
    // own wait.
    drop(left);
    let mut next = driver.connect(&config("x.db")).await.unwrap();
    let write = next.execute_script("INSERT INTO t VALUES (1)");
    tokio::time::timeout(Duration::from_secs(3), write)
        .await
        .unwrap()
        .unwrap();
    next.close().await;
}

/// Each row takes milliseconds, in a handful of SQLite's instructions.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_comparison_of_few_rows_is_stopped_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver_with(folder.path(), json!({"statement_timeout": "50ms"})).await;
    let mut connection = driver.connect(&config("slow.db")).await.unwrap();
    let pattern = format!("*{}b", "a".repeat(250));
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
               SELECT count(*) FROM n WHERE printf('%.*c', 5000 + i, 'a') GLOB ?";
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [pattern.into()]);
    let error = connection.query(&statement).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::StatementTimeout, "it was left to run on");
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_for_another_no_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let mut one = driver.connect(&config("x.db")).await.unwrap();
    let mut other = driver.connect(&config("x.db")).await.unwrap();
    one.execute_script("CREATE TABLE t (i integer); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let error = other.execute_script("INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::StatementTimeout);
    one.close().await;
    other.execute_script("INSERT INTO t VALUES (2)").await.unwrap();
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_rolled_back_by_sqlite_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = driver(folder.path()).await.connect(&config("x.db")).await.unwrap();
    let sql = |text: &str| Statement::from_string(DbBackend::Sqlite, text);
    connection
        .execute_script(
            "CREATE TABLE t (i integer PRIMARY KEY, b blob);
             CREATE TRIGGER refuse BEFORE INSERT ON t WHEN new.i = 13 BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
             INSERT INTO t VALUES (1, NULL);
             PRAGMA max_page_count = 100",
        )
        .await
        .unwrap();
    let failing = [
        "INSERT OR ROLLBACK INTO t VALUES (1, NULL)",
        "INSERT INTO t VALUES (13, NULL)",
        "INSERT INTO t VALUES (3, zeroblob(1000000))",
    ];
    for failing in failing {
        for nested in [false, true] {
            connection.begin(&TransactionOptions::default()).await.unwrap();
            connection
                .execute(&sql("INSERT INTO t VALUES (2, NULL)"))
                .await
                .unwrap();
            if nested {
                connection.begin(&TransactionOptions::default()).await.unwrap();
            }
            connection.execute(&sql(failing)).await.unwrap_err();
            if nested {
                connection.rollback().await.unwrap();
            }
            let next = connection.execute(&sql("INSERT INTO t VALUES (4, NULL)")).await;
            assert!(next.is_err(), "{failing}: a statement was kept outside its transaction");
            assert!(connection.commit().await.is_err(), "{failing}");
            let rows = connection.query(&sql("SELECT i FROM t")).await.unwrap();
            assert_eq!(rows.len(), 1, "{failing}");
        }
    }
    // A failed statement alone costs nothing else.
    connection.execute(&sql(failing[0])).await.unwrap_err();
    connection.begin(&TransactionOptions::default()).await.unwrap();
    connection
        .execute(&sql("INSERT INTO t VALUES (5, NULL)"))
        .await
        .unwrap();
    connection
        .execute(&sql("INSERT INTO t VALUES (5, NULL)"))
        .await
        .unwrap_err();
    connection.commit().await.unwrap();
    assert_eq!(connection.query(&sql("SELECT i FROM t")).await.unwrap().len(), 2);
    connection.close().await;
}

/// SQLite itself answers at once that a file is busy which another one is putting into WAL mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_is_opened_by_several_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..8 {
            // As processes of their own, which know nothing of each other.
            let driver = driver(folder.path()).await;
            opening.spawn(async move { driver.connect(&config(&format!("{round}.db"))).await.map(drop) });
        }
        for opened in opening.join_all().await {
            opened.unwrap();
        }
    }
}

/// A row that comes before the commit must not hide that the commit fails.
#[tokio::test]
async fn a_row_of_a_change_that_is_not_committed_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = driver(folder.path()).await.connect(&config("x.db")).await.unwrap();
    let tables = "CREATE TABLE a (id INTEGER PRIMARY KEY);
        CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)";
    connection.execute_script(tables).await.unwrap();
    let insert = Statement::from_string(DbBackend::Sqlite, "INSERT INTO b (a) VALUES (7) RETURNING a");
    let error = connection.query_one(&insert).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ForeignKeyViolation, "{error:?}");
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM b");
    let row = connection.query_one(&count).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 0);
}

#[tokio::test]
async fn a_number_beyond_a_signed_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = driver(folder.path()).await.connect(&config("x.db")).await.unwrap();
    for (number, fits) in [(i64::MAX as u64, true), (u64::MAX, false)] {
        let select = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT ?", [number.into()]);
        let outcome = connection.query_one(&select).await;
        assert_eq!(outcome.is_ok(), fits, "{number}");
        let kind = outcome.err().map(|error| error.kind);
        assert!(fits || kind == Some(DatabaseErrorKind::ConstraintViolation), "{kind:?}");
    }
}

#[tokio::test]
async fn the_mode_of_a_url_says_whether_a_file_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let open = async |url: &str| {
        let config = DatabaseConfig::parse(&SecretValue::new(json!({"url": url}))).unwrap();
        match driver.connect(&config).await {
            Ok(connection) => {
                connection.close().await;
                Ok(())
            }
            Err(error) => Err(error.kind),
        }
    };
    assert_eq!(open("sqlite:x.db?mode=rw").await, Err(DriverErrorKind::DatabaseMissing));
    assert_eq!(open("sqlite:x.db?mode=rwc").await, Ok(()));
    assert_eq!(open("sqlite://x.db?mode=rw").await, Ok(()));
    let made: Vec<_> = std::fs::read_dir(folder.path().join("files")).unwrap().collect();
    assert!(
        made.iter()
            .all(|file| !file.as_ref().unwrap().file_name().to_string_lossy().contains('?'))
    );
}

/// Opens a connection of a health check, and closes it.
async fn probe(driver: &dyn DatabaseDriver, path: &str) -> Result<(), DriverErrorKind> {
    let mut config = config(path);
    (config.looks_only, config.probes) = (true, true);
    let probed = driver.connect(&config).await.map_err(|error| error.kind);
    probed?.close().await;
    Ok(())
}

#[tokio::test]
async fn a_probe_finds_what_a_request_would_find() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let files = folder.path().join("files");
    // A request would create it, and its folder.
    assert_eq!(probe(&*driver, "a/x.db").await, Ok(()));
    assert!(!files.exists());
    driver.connect(&config("a/x.db")).await.unwrap().close().await;
    assert_eq!(probe(&*driver, "a/x.db").await, Ok(()));
    std::os::unix::fs::symlink(files.join("absent.db"), files.join("link.db")).unwrap();
    std::os::unix::fs::symlink(files.join("absent"), files.join("linked")).unwrap();
    std::fs::remove_file(files.join("a/x.db")).unwrap();
    // A request would create none of these.
    for path in ["a/x.db", "link.db", "linked/x.db"] {
        assert_eq!(
            probe(&*driver, path).await,
            Err(DriverErrorKind::DatabaseMissing),
            "{path}"
        );
        assert!(driver.connect(&config(path)).await.is_err(), "{path}");
    }
}

/// As on a read-only mount. Root may write everywhere, so this shows something for other users
/// only.
#[tokio::test]
async fn a_database_in_a_read_only_folder_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let mut connection = driver.connect(&config("x.db")).await.unwrap();
    connection.execute_script("CREATE TABLE t (i integer)").await.unwrap();
    connection.close().await;
    let files = folder.path().join("files");
    let mut permissions = std::fs::metadata(&files).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&files, permissions).unwrap();
    if std::fs::File::create(files.join("y.db")).is_ok() {
        return;
    }
    let mut config = config("x.db");
    config.looks_only = true;
    let mut connection = driver.connect(&config).await.unwrap();
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT i FROM t");
    assert!(connection.query(&select).await.unwrap().is_empty());
    connection.close().await;
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1);
}

/// A backup is moved to the file's place, or the file is removed: SQLite would go on with the old
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_or_removed_ends_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path()).await;
    let sql = |text: &str| Statement::from_string(DbBackend::Sqlite, text);
    for (path, number) in [("x.db", 1), ("backup.db", 2)] {
        let mut connection = driver.connect(&config(path)).await.unwrap();
        let fill = format!("CREATE TABLE t (i integer); INSERT INTO t VALUES ({number})");
        connection.execute_script(&fill).await.unwrap();
        connection.close().await;
    }
    let file = |name: &str| folder.path().join("files").join(name);
    let mut alone = driver.connect(&config("x.db")).await.unwrap();
    let mut within = driver.connect(&config("x.db")).await.unwrap();
    within.begin(&TransactionOptions::default()).await.unwrap();
    within.execute(&sql("INSERT INTO t VALUES (3)")).await.unwrap();
    for companion in ["x.db-wal", "x.db-shm"] {
        std::fs::remove_file(file(companion)).unwrap();
    }
    std::fs::rename(file("backup.db"), file("x.db")).unwrap();
    let insert = sql("INSERT INTO t VALUES (4)");
    let error = alone.execute(&insert).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ConnectionLostWithoutEffect);
    assert_eq!(
        within.commit().await.unwrap_err().kind,
        DatabaseErrorKind::ConnectionLost
    );
    assert!(alone.ping().await.is_err());
    alone.close().await;
    within.close().await;

    let mut connection = driver.connect(&config("x.db")).await.unwrap();
    connection.execute(&insert).await.unwrap();
    let rows = connection.query(&sql("SELECT i FROM t ORDER BY i")).await.unwrap();
    let numbers: Vec<i32> = rows.iter().map(|row| row.try_get("", "i").unwrap()).collect();
    assert_eq!(numbers, [2, 4]);
    std::fs::remove_file(file("x.db")).unwrap();
    assert!(connection.query(&sql("SELECT i FROM t")).await.is_err());
    connection.close().await;
    // It is not created again, as if it had never held anything.
    let error = driver.connect(&config("x.db")).await.err().unwrap();
    assert_eq!(error.kind, DriverErrorKind::DatabaseMissing);
    assert!(!file("x.db").exists());
}

/// sqlx has no kind for the code of a foreign key that restricts.
#[tokio::test]
async fn a_restricting_foreign_key_is_a_violation_in_sea_orm_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = driver(folder.path()).await.connect(&config("x.db")).await.unwrap();
    let create = "CREATE TABLE parent (i integer PRIMARY KEY); INSERT INTO parent VALUES (1);
        CREATE TABLE child (i integer REFERENCES parent ON DELETE RESTRICT); INSERT INTO child VALUES (1)";
    connection.execute_script(create).await.unwrap();
    let delete = Statement::from_string(DbBackend::Sqlite, "DELETE FROM parent");
    let error = connection.execute(&delete).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("1811"));
    let error = error.into_db_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::ForeignKeyViolation);
    assert!(DatabaseError::find(&error).is_some_and(|error| error.code.is_some()));
    connection.close().await;
}
