//! Files that run outside a transaction.

use std::time::Duration;

use super::*;

pub(super) const HEAD: &str = "-- no-transaction\n";

pub(super) async fn one_after_another(target: &Target, files: &[(&str, &str)]) -> Result<Summary, String> {
    let (_folder, migrations) = folder(target.driver.migration_dialect(), files).await;
    let applied = target.apply(&migrations, false).await;
    applied.map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_postgresql_runs_in_no_transaction_is_run() {
    let target = Target::postgresql().await;
    let first = (
        "1_t.sql",
        "CREATE TABLE t (i int); INSERT INTO t VALUES (1); CREATE TYPE mood AS ENUM ('a')",
    );
    for (sql, line) in [
        ("CREATE INDEX CONCURRENTLY i ON t (i)", 1),
        (
            "ALTER TYPE mood ADD VALUE 'b';\nCREATE TABLE u (m mood DEFAULT 'b');\nINSERT INTO u VALUES ('b')",
            2,
        ),
        ("VACUUM t", 1),
        ("REINDEX TABLE CONCURRENTLY t", 1),
    ] {
        let error = one_after_another(&target, &[first, ("2_u.sql", sql)])
            .await
            .unwrap_err();
        assert!(
            error.starts_with(&format!("the migration `2_u` failed at line {line} ")),
            "{error}"
        );
        assert!(
            error.ends_with("begin the file with the line `-- no-transaction` to run it outside a transaction"),
            "{error}"
        );
    }
    let sql = format!(
        "-- what: indexes\n{HEAD}CREATE INDEX CONCURRENTLY i ON t (i);\nALTER TYPE mood ADD VALUE 'b';\n\
         CREATE TABLE u (m mood DEFAULT 'b');\nINSERT INTO u VALUES ('b');\nVACUUM t;\nREINDEX TABLE CONCURRENTLY t;\n\
         DROP INDEX CONCURRENTLY i;"
    );
    assert_eq!(
        one_after_another(&target, &[first, ("2_u.sql", &sql)]).await.unwrap(),
        report(&["2_u"], 1)
    );
    assert_eq!(target.texts("SELECT m::text FROM u").await, ["b"]);
    assert_eq!(
        one_after_another(&target, &[first, ("2_u.sql", &sql)]).await.unwrap(),
        report(&[], 2)
    );
}

#[tokio::test]
async fn what_only_a_superuser_may_run_is_run() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("superuser").await.unwrap();
    let mut secret = server.secret(&tenant);
    secret["username"] = server.superuser().into();
    secret["password"] = server.password().into();
    let target = Target::new(json!({"type": "postgresql"}), secret).await;
    let sql = format!(
        "CREATE DATABASE \"{0}_more\" TEMPLATE template0;\nALTER SYSTEM RESET application_name;\nDROP DATABASE \"{0}_more\";",
        tenant.database
    );
    let error = one_after_another(&target, &[("1_a.sql", &sql)]).await.unwrap_err();
    assert!(
        error.ends_with("`-- no-transaction` to run it outside a transaction"),
        "{error}"
    );
    let sql = format!("{HEAD}{sql}");
    assert_eq!(
        one_after_another(&target, &[("1_a.sql", &sql)]).await.unwrap(),
        report(&["1_a"], 0)
    );
}

#[tokio::test]
async fn vacuum_of_sqlite_runs_outside_a_transaction() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let error = one_after_another(&target, &[("1_t.sql", "VACUUM")]).await.unwrap_err();
    assert!(
        error.ends_with("`-- no-transaction` to run it outside a transaction"),
        "{error}"
    );
    let sql = format!("{HEAD}CREATE TABLE t (i int); VACUUM; BEGIN; INSERT INTO t VALUES (1); COMMIT;");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &sql)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    let left_open = format!("{HEAD}BEGIN; INSERT INTO t VALUES (1);");
    let error = one_after_another(&target, &[("1_t.sql", &sql), ("2_u.sql", &left_open)])
        .await
        .unwrap_err();
    assert!(error.contains("`2_u` ran to its end without being recorded"), "{error}");
}

/// Fails in the third statement, after a setting that the fourth needs.
async fn a_run_goes_on_behind_the_last_statement(target: Target, setting: &str, check: &str) {
    let statements = format!(
        "{HEAD}CREATE TABLE t (i int NOT NULL);\n{setting};\nINSERT INTO t VALUES (NULL);\nINSERT INTO t SELECT {check};"
    );
    for _ in 0..2 {
        let error = one_after_another(&target, &[("1_t.sql", &statements)])
            .await
            .unwrap_err();
        assert_eq!(
            error,
            "the migration `1_t` failed at line 4 (statement 3 of 4, `INSERT`); the statements before it were kept, and the next \
             run goes on with line 4"
        );
    }
    let (_folder, pending) = folder(target.driver.migration_dialect(), &[("1_t.sql", &statements)]).await;
    assert_eq!(target.pending(&pending, false).await, report(&["1_t"], 0));
    let changed = statements.replace("i int NOT NULL", "i bigint NOT NULL");
    let error = one_after_another(&target, &[("1_t.sql", &changed)]).await.unwrap_err();
    assert!(error.contains("`1_t` was changed in its first 2 statements"), "{error}");
    let right = statements.replace("(NULL)", "(3)");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&[], 1)
    );
    assert_eq!(target.texts("SELECT 'row' FROM t WHERE i IN (3, 7)").await.len(), 2);
}

#[tokio::test]
async fn a_run_goes_on_behind_the_last_statement_on_postgresql() {
    let setting = "SET lock_timeout = '7ms'";
    let check = "split_part(current_setting('lock_timeout'), 'm', 1)::int";
    a_run_goes_on_behind_the_last_statement(Target::postgresql().await, setting, check).await;
}

#[tokio::test]
async fn a_run_goes_on_behind_the_last_statement_on_mariadb() {
    let setting = "SET @own = 7";
    // MariaDB commits a definition at once, so the line at the head is not needed.
    a_run_goes_on_behind_the_last_statement(Target::mysql().await, setting, "@own").await;
    let target = Target::mysql().await;
    let wrong = "CREATE TABLE t (i int);\nINSERT INTO t VALUES (1);\nINSERT INTO nowhere VALUES (1);";
    let error = one_after_another(&target, &[("1_t.sql", wrong)]).await.unwrap_err();
    assert!(
        error.ends_with("the statements before it were kept, and the next run goes on with line 3"),
        "{error}"
    );
    let right = wrong.replace("nowhere", "t");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 2);
}

#[tokio::test]
async fn a_run_goes_on_behind_the_last_statement_on_sqlite() {
    let files = tempfile::tempdir().unwrap();
    let check = "(SELECT recursive_triggers * 7 FROM pragma_recursive_triggers)";
    a_run_goes_on_behind_the_last_statement(
        Target::sqlite(files.path()).await,
        "PRAGMA recursive_triggers = ON",
        check,
    )
    .await;
}

#[tokio::test]
async fn an_invalid_index_is_reported_with_what_removes_it() {
    let target = Target::postgresql().await;
    let first = (
        "1_t.sql",
        "CREATE SCHEMA \"o;S\"; CREATE TABLE \"o;S\".t (i int); INSERT INTO \"o;S\".t VALUES (1), (1)",
    );
    let index = format!("{HEAD}CREATE UNIQUE INDEX CONCURRENTLY one ON \"o;S\".t (i);");
    let if_absent = index.replace("CONCURRENTLY one", "CONCURRENTLY IF NOT EXISTS one");
    let remove = "; before that remove what it left: `DROP INDEX CONCURRENTLY \"o;S\".one`";
    for sql in [&index, &if_absent] {
        let error = one_after_another(&target, &[first, ("2_i.sql", sql)])
            .await
            .unwrap_err();
        assert!(error.ends_with(remove), "{error}");
    }
    target.execute("DROP INDEX CONCURRENTLY \"o;S\".one").await.unwrap();
    target.execute("DELETE FROM \"o;S\".t").await.unwrap();
    assert_eq!(
        one_after_another(&target, &[first, ("2_i.sql", &if_absent)])
            .await
            .unwrap(),
        report(&["2_i"], 1)
    );
}

/// Instances at once on a table that is large enough for the index to take its time.
async fn instances_at_once_build_an_index_once(target: Target) {
    let index = format!("{HEAD}CREATE INDEX CONCURRENTLY i ON t (v);\nINSERT INTO t SELECT 1, 'done';");
    let files = [
        (
            "1_t.sql",
            "CREATE TABLE t (i int, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n",
        ),
        ("2_i.sql", index.as_str()),
        ("3_u.sql", "CREATE TABLE u (i int)"),
    ];
    let (_folder, migrations) = folder("postgresql", &files).await;
    let (target, migrations) = (&target, &migrations);
    let runs = (0..6).map(|_| async move { target.apply(migrations, false).await.unwrap() });
    let within = tokio::time::timeout(Duration::from_secs(55), futures_util::future::join_all(runs));
    let reports = within.await.unwrap();
    let applied: usize = reports.iter().map(|report| report.applied.len()).sum();
    assert_eq!(applied, 3, "{reports:?}");
    assert_eq!(target.texts("SELECT v FROM t WHERE v = 'done'").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_at_once_build_an_index_once_on_postgresql() {
    instances_at_once_build_an_index_once(Target::postgresql().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_behind_a_pooler_build_an_index_once() {
    let (_pgbouncer, target) = pooled().await;
    instances_at_once_build_an_index_once(target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_behind_a_pooler_goes_on_behind_the_last_statement() {
    let (_pgbouncer, target) = pooled().await;
    let wrong = format!(
        "{HEAD}CREATE TABLE t (i int);\nCREATE INDEX CONCURRENTLY i ON t (i);\nSELECT pg_sleep(2.3);\nSELECT 1/0;"
    );
    let error = one_after_another(&target, &[("1_t.sql", &wrong)]).await.unwrap_err();
    assert!(error.ends_with("and the next run goes on with line 5"), "{error}");
    let right = wrong.replace("1/0", "1");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    let setting = format!("{HEAD}SELECT 1;\nSET lock_timeout = '1s';");
    let error = one_after_another(&target, &[("1_t.sql", &right), ("2_u.sql", &setting)])
        .await
        .unwrap_err();
    assert!(
        error.starts_with("the migration `2_u` cannot be run: line 3: "),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_run_a_file_outside_a_transaction_once_on_sqlite() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let sql = format!("{HEAD}CREATE TABLE t (i int); INSERT INTO t VALUES (1); VACUUM; INSERT INTO t VALUES (2);");
    let (_folder, migrations) = folder("sqlite", &[("1_t.sql", &sql)]).await;
    let (target, migrations) = (&target, &migrations);
    let runs = (0..6).map(|_| async move { target.apply(migrations, false).await.unwrap() });
    let reports = futures_util::future::join_all(runs).await;
    assert_eq!(
        reports.iter().filter(|report| !report.applied.is_empty()).count(),
        1,
        "{reports:?}"
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 2);
}

/// The run is dropped in the middle of its second statement, as when its process is killed.
async fn a_run_that_was_cut_off_goes_on(target: Target, sleep: &str) {
    let dialect = target.driver.migration_dialect().to_owned();
    let first = ("1_t.sql", "CREATE TABLE t (i int)");
    let sql = |second: &str| format!("{HEAD}INSERT INTO t VALUES (1);\n{second};\nINSERT INTO t VALUES (3);");
    let (_folder, slow) = folder(&dialect, &[first, ("2_rows.sql", &sql(sleep))]).await;
    let cut_off = async {
        while target.execute("SELECT 1 FROM t").await.is_err() || target.texts("SELECT 'row' FROM t").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        ran = target.apply(&slow, false) => panic!("{ran:?}"),
        () = cut_off => {}
    }
    let error = one_after_another(
        &target,
        &[first, ("2_rows.sql", &sql("INSERT INTO nowhere VALUES (2)"))],
    )
    .await
    .unwrap_err();
    assert!(
        error.contains("and the next run goes on with line 3; an earlier run was cut off in this statement"),
        "{error}"
    );
    let right = sql("INSERT INTO t VALUES (2)");
    assert_eq!(
        one_after_another(&target, &[first, ("2_rows.sql", &right)])
            .await
            .unwrap(),
        report(&["2_rows"], 1)
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_goes_on_on_postgresql() {
    a_run_that_was_cut_off_goes_on(Target::postgresql().await, "SELECT pg_sleep(60)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_goes_on_on_mariadb() {
    a_run_that_was_cut_off_goes_on(Target::mysql().await, "DO SLEEP(60)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_goes_on_behind_a_pooler() {
    let (_pgbouncer, target) = pooled().await;
    a_run_that_was_cut_off_goes_on(target, "SELECT pg_sleep(60)").await;
}

/// It is not known whether the statement took effect, so the next run says so if it fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_connection_was_lost_is_in_doubt() {
    let (target, first) = (Target::mysql().await, ("1_t.sql", "CREATE TABLE t (i int)"));
    let sql = |second: &str| format!("{HEAD}INSERT INTO t VALUES (1);\n{second};");
    let lost = sql("KILL CONNECTION_ID()");
    one_after_another(&target, &[first, ("2_rows.sql", &lost)])
        .await
        .unwrap_err();
    let wrong = sql("INSERT INTO nowhere VALUES (2)");
    let again = one_after_another(&target, &[first, ("2_rows.sql", &wrong)]).await;
    let error = again.unwrap_err();
    assert!(
        error.contains("an earlier run was cut off in this statement"),
        "{error}"
    );
}
