//! What a file does to its session and its transaction.

use super::*;

/// The first column of a query's first row.
async fn text(connection: &mut dyn Connection, target: &Target, sql: &str) -> String {
    let statement = Statement::from_string(target.driver.backend(), sql);
    let row = connection.query_one(&statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Runs a file that makes settings, one that fails if they are still made, and then looks at the
/// connection that was used.
async fn settings_end_with_their_file(target: Target, first: &str, second: &str, query: &str) {
    let dialect = target.driver.migration_dialect().to_owned();
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    let before = text(&mut *connection, &target, query).await;
    let (_folder, migrations) = folder(&dialect, &[("1_set.sql", first), ("2_use.sql", second)]).await;
    let applied = target.apply_with(&mut *connection, &migrations).await.unwrap();
    assert_eq!(applied, report(&["1_set", "2_use"], 0));
    assert_eq!(text(&mut *connection, &target, query).await, before);
    connection.close().await;
}

#[tokio::test]
async fn postgresql_s_settings_end_with_their_file() {
    let query = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('lock_timeout'), \
                 current_setting('TimeZone'), current_setting('session_replication_role'), current_user = session_user, \
                 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
                 to_regclass('pg_temp.own') IS NULL, current_setting('statement_timeout'))";
    for head in ["", "-- no-transaction\n"] {
        let first = format!(
            "{head}SET lock_timeout = '7s'; SET search_path = ''; SET TimeZone = 'Asia/Tokyo'; CREATE TABLE public.t (i int); \
             SELECT pg_catalog.pg_advisory_lock(1); CREATE TEMP TABLE own (i int); LISTEN x; PREPARE p AS SELECT 1"
        );
        let second = "CREATE TEMP TABLE own (i int); PREPARE p AS SELECT 1; INSERT INTO t VALUES (1)";
        settings_end_with_their_file(Target::postgresql().await, &first, second, query).await;
    }
}

#[tokio::test]
async fn mariadb_s_settings_end_with_their_file() {
    let query = "SELECT CONCAT_WS(' ', @@foreign_key_checks, @@sql_mode, @@time_zone, @@lock_wait_timeout, @@autocommit, \
                 DATABASE() = 'mysql', @own IS NULL, @@character_set_client, @@max_statement_time)";
    let first = "SET FOREIGN_KEY_CHECKS = 0; SET sql_mode = 'ANSI_QUOTES'; SET time_zone = '+09:00'; SET @own = 1; \
                 SET lock_wait_timeout = 7; CREATE TABLE t (i int PRIMARY KEY); SET autocommit = 0; INSERT INTO t VALUES (2); COMMIT";
    let second = "CREATE TABLE u (i int, FOREIGN KEY (i) REFERENCES t (i)); DROP TABLE u; INSERT INTO t VALUES (1)";
    settings_end_with_their_file(Target::mysql().await, first, second, query).await;
}

#[tokio::test]
async fn sqlite_s_settings_end_with_their_file() {
    let files = tempfile::tempdir().unwrap();
    let query = "SELECT foreign_keys || ' ' || recursive_triggers || ' ' || (SELECT count(*) FROM pragma_database_list) \
                 FROM pragma_foreign_keys, pragma_recursive_triggers";
    let first = "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = ON; ATTACH ':memory:' AS more; CREATE TEMP TABLE own \
                 (i int); CREATE TABLE t (i int)";
    let second = "CREATE TEMP TABLE own (i int); ATTACH ':memory:' AS more; INSERT INTO t VALUES (1)";
    // Within a transaction nothing can be attached, so both stand at the files' heads.
    let second = second.replacen(
        "CREATE TEMP TABLE own (i int); ATTACH ':memory:' AS more",
        "ATTACH ':memory:' AS more; CREATE TEMP TABLE own (i int)",
        1,
    );
    settings_end_with_their_file(Target::sqlite(files.path()).await, first, &second, query).await;
}

#[tokio::test]
async fn a_rebuilt_table_of_sqlite_keeps_the_rows_that_refer_to_it() {
    let rebuild = "CREATE TABLE new (id INTEGER PRIMARY KEY, more TEXT); INSERT INTO new SELECT id, 'x' FROM parents; \
                   DROP TABLE parents; ALTER TABLE new RENAME TO parents;";
    for (head, tail) in [
        ("", ""),
        ("BEGIN;", "COMMIT;"),
        ("BEGIN;", "PRAGMA foreign_key_check; COMMIT; PRAGMA foreign_keys = ON;"),
    ] {
        let files = tempfile::tempdir().unwrap();
        let target = Target::sqlite(files.path()).await;
        let first = "CREATE TABLE parents (id INTEGER PRIMARY KEY); \
                     CREATE TABLE children (parent INTEGER REFERENCES parents (id) ON DELETE CASCADE); \
                     INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1)";
        let second = format!("-- rebuild\nPRAGMA foreign_keys = OFF;\n{head}\n{rebuild}\n{tail}");
        let (_folder, migrations) = folder("sqlite", &[("1_a.sql", first), ("2_b.sql", &second)]).await;
        assert_eq!(
            target.apply(&migrations, false).await.unwrap(),
            report(&["1_a", "2_b"], 0)
        );
        assert_eq!(target.texts("SELECT 'row' FROM children").await.len(), 1, "{head}");
    }
}

/// A file that is one transaction is recorded in it; a failure leaves nothing.
async fn a_file_s_own_transaction_is_tenantry_s(target: Target, begin: &str) {
    let dialect = target.driver.migration_dialect().to_owned();
    let wrong = format!("-- a licence\n{begin};\nCREATE TABLE t (i int);\nINSERT INTO nowhere VALUES (1);\nCOMMIT;\n");
    let (_folder, migrations) = folder(&dialect, &[("1_t.sql", &wrong)]).await;
    let error = target.apply(&migrations, false).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the migration `1_t` failed at line 4 (statement 2 of 2, `INSERT`); nothing of it was kept"
    );
    let right = wrong.replace("nowhere", "t");
    let (_folder, migrations) = folder(&dialect, &[("1_t.sql", &right)]).await;
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
    for (sql, line, word) in [
        ("SELECT 1;\nCOMMIT;\nSELECT 2;", 2, "COMMIT"),
        ("BEGIN;\nSELECT 1;", 1, "BEGIN"),
        ("SELECT 1;\nROLLBACK;", 2, "ROLLBACK"),
        ("BEGIN; SELECT 1; COMMIT;\nBEGIN; SELECT 2; COMMIT;", 1, "COMMIT"),
    ] {
        let (_folder, migrations) = folder(&dialect, &[("1_t.sql", &right), ("2_u.sql", sql)]).await;
        let error = target.apply(&migrations, false).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "the migration `2_u` cannot be run: line {line}: `{word}` begins or ends"
            )),
            "{error}"
        );
        // The line that is asked for makes no other file of it.
        let with = format!("-- no-transaction\n{}", right);
        let (_folder, migrations) = folder(&dialect, &[("1_t.sql", &with)]).await;
        assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 1));
    }
}

#[tokio::test]
async fn a_file_s_own_transaction_is_tenantry_s_on_postgresql() {
    a_file_s_own_transaction_is_tenantry_s(Target::postgresql().await, "START TRANSACTION").await;
}

#[tokio::test]
async fn a_file_s_own_transaction_is_tenantry_s_on_sqlite() {
    let files = tempfile::tempdir().unwrap();
    a_file_s_own_transaction_is_tenantry_s(Target::sqlite(files.path()).await, "BEGIN IMMEDIATE").await;
}

/// The new session takes the place of the old one: the server has room for one.
async fn files_are_applied_with_one_connection(target: Target) {
    let dialect = target.driver.migration_dialect().to_owned();
    let files = [
        ("1_a.sql", "CREATE TABLE t (i int)"),
        ("2_b.sql", "INSERT INTO t VALUES (1)"),
        ("3_c.sql", "-- no-transaction\nINSERT INTO t VALUES (2)"),
    ];
    let (_folder, migrations) = folder(&dialect, &files).await;
    assert_eq!(
        target.apply(&migrations, false).await.unwrap(),
        report(&["1_a", "2_b", "3_c"], 0)
    );
}

#[tokio::test]
async fn files_are_applied_with_one_connection_to_postgresql() {
    let target = Target::postgresql().await;
    let user = target.config.username.clone().unwrap();
    let limit = format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 1");
    PostgresServer::shared().await.psql("postgres", &limit).await.unwrap();
    files_are_applied_with_one_connection(target).await;
}

#[tokio::test]
async fn files_are_applied_with_one_connection_to_mariadb() {
    let target = Target::mysql().await;
    let user = target.config.username.clone().unwrap();
    let limit = format!("ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS 1");
    MariadbServer::shared().await.sql("mysql", &limit).await.unwrap();
    files_are_applied_with_one_connection(target).await;
}
