//! Statements that fail, take long, or are left.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sea_orm::{SqlErr, Statement, TransactionOptions};
use tokio::time::timeout;

use super::{STATEMENT_TIMEOUT, Session, Suite, kind, tables};
use crate::{DatabaseError, DatabaseErrorKind};

pub(super) async fn a_taken_value_is_a_unique_violation_also_to_sea_orm(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session
        .execute(&tables::parent(200, Some("canary")))
        .await
        .expect("the name is free");
    let mut constraints = Vec::new();
    for again in [
        tables::parent(201, Some("canary")),
        tables::parent(200, Some("another")),
    ] {
        let error = session.execute(&again).await.expect_err("the value is taken");
        assert_eq!(error.kind, DatabaseErrorKind::UniqueViolation);
        assert!(error.code.is_some());
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "the error repeats a value"
        );
        let constraint = error.constraint().expect("the constraint has a name");
        let error = error.into_db_err();
        assert_eq!(DatabaseError::constraint_of(&error), Some(constraint.clone()));
        constraints.push(constraint);
        if suite.is_known_to_sea_orm() {
            assert!(
                matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))),
                "{:?}",
                error.sql_err()
            );
        }
        assert!(
            matches!(
                DatabaseError::sql_err_of(&error),
                Some(SqlErr::UniqueConstraintViolation(_))
            ),
            "{error}"
        );
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "SeaORM's error repeats a value"
        );
        assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::UniqueViolation);
    }
    assert_ne!(constraints[0], constraints[1], "which one was violated is not told");
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_missing_parent_is_a_foreign_key_violation_also_to_sea_orm(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let error = session
        .execute(&tables::child(300, 399))
        .await
        .expect_err("the parent is missing");
    assert_eq!(error.kind, DatabaseErrorKind::ForeignKeyViolation);
    let error = error.into_db_err();
    if suite.is_known_to_sea_orm() {
        assert!(
            matches!(error.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))),
            "{:?}",
            error.sql_err()
        );
    }
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::ForeignKeyViolation);
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_missing_value_is_a_constraint_violation(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let outcome = session.execute(&tables::parent(400, None)).await;
    assert_eq!(kind(outcome), DatabaseErrorKind::ConstraintViolation);
    session.close().await;
}

pub(super) async fn a_syntax_error_leaves_the_connection_usable(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    for (sql, kind) in [
        ("SELEKT 1", DatabaseErrorKind::Other),
        ("SELECT * FROM conformance_absent", DatabaseErrorKind::TableMissing),
    ] {
        let error = session.query_sql(sql).await.expect_err("the statement is wrong");
        assert_eq!(error.kind, kind, "{sql}");
        assert!(
            !error.into_db_err().to_string().contains("SELEKT"),
            "the error repeats the statement"
        );
        session.is_usable().await;
    }
    session.close().await;
}

pub(super) async fn rows_that_were_touched_are_counted(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    for id in 500..503 {
        let name = format!("counted {id}");
        assert_eq!(
            session
                .execute(&tables::parent(id, Some(&name)))
                .await
                .expect("a row is inserted"),
            1
        );
    }
    let update = |from: i64| {
        sea_orm::Statement::from_string(
            suite.backend(),
            format!("UPDATE conformance_parent SET id = id WHERE id >= {from} AND id < 600"),
        )
    };
    for (from, touched) in [(500, 3), (502, 1), (503, 0)] {
        let result = session
            .connection
            .execute(&update(from))
            .await
            .expect("rows are updated");
        assert_eq!(result.rows_affected(), touched);
    }
    session.close().await;
}

pub(super) async fn a_script_runs_all_of_its_statements(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let script = "-- a remark; with a semicolon
        INSERT INTO conformance_parent (id, name) VALUES (600, 'one; two');
        INSERT INTO conformance_parent (id, name) VALUES (601, 'it''s');
        UPDATE conformance_parent SET name = 'three' WHERE id = 600;
        /* the end */";
    session
        .connection
        .execute_script(script)
        .await
        .expect("the script runs");
    assert_eq!(
        tables::counted(&session.query(&tables::count(6)).await.expect("rows are counted")),
        2
    );
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_script_s_statements_are_run_one_by_one(suite: &Suite<'_>) {
    let insert = |id: i64, name: &str| format!("INSERT INTO conformance_parent (id, name) VALUES ({id}, '{name}')");
    let script = format!(
        "-- one; of\n{};\n\n/* two; of */ {};\n;\n{}\n-- the end; of it\n",
        insert(2200, "a; b"),
        insert(2201, "it''s -- no remark"),
        insert(2202, "/* nor; this")
    );
    let statements = suite.driver.statements(&script).expect("the script can be split");
    let lines: Vec<usize> = statements.iter().map(|statement| statement.line).collect();
    assert_eq!(lines, [2, 4, 6]);
    let mut session = suite.connect().await;
    for statement in statements {
        let ran = session.connection.execute_script(statement.sql).await;
        assert_eq!(ran.expect("the statement runs").rows_affected(), 1);
    }
    let rows = session.query(&tables::count(22)).await.expect("rows are counted");
    assert_eq!(tables::counted(&rows), 3);
    session.close().await;
}

pub(super) async fn a_statement_that_takes_too_long_is_cancelled(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let before = Instant::now();
    let outcome = session.query_sql(suite.fixture.slow_statement()).await;
    assert_eq!(kind(outcome), DatabaseErrorKind::StatementTimeout);
    let took = before.elapsed();
    assert!(
        took > STATEMENT_TIMEOUT / 2 && took < STATEMENT_TIMEOUT * 3,
        "it took {took:?}"
    );
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_tenant_s_own_time_out_goes_before_the_driver_s(suite: &Suite<'_>) {
    let mut secret = suite.fixture.secret();
    secret["query"] = serde_json::json!({"timeout": "500ms"});
    // A pooler has a session of the server from now on. To open one may take longer than this
    // tenant waits.
    let mut warm = suite.connect().await;
    warm.is_usable().await;
    warm.close().await;
    let mut session = suite.session(secret).await;
    let before = Instant::now();
    let outcome = session.query_sql(suite.fixture.slow_statement()).await;
    assert_eq!(kind(outcome), DatabaseErrorKind::StatementTimeout);
    let took = before.elapsed();
    assert!(took < STATEMENT_TIMEOUT, "it took {took:?}");
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_future_that_is_dropped_never_gives_its_answer_to_another(suite: &Suite<'_>) {
    for milliseconds in [0, 1, 3, 100] {
        let mut session = suite.connect().await;
        let slow = session.query_sql(suite.fixture.slow_statement());
        assert!(
            timeout(Duration::from_millis(milliseconds), slow).await.is_err(),
            "the slow statement was not slow"
        );
        match session.query(&tables::count(0)).await {
            Ok(rows) => assert_eq!(tables::counted(&rows), 0),
            Err(error) => assert!(error.kind.breaks_connection(), "{error}"),
        }
        session.close().await;
    }
}

pub(super) async fn a_connection_can_be_closed_in_the_middle_of_a_statement(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let slow = session.query_sql(suite.fixture.slow_statement());
    assert!(
        timeout(Duration::from_millis(50), slow).await.is_err(),
        "the slow statement was not slow"
    );
    let before = Instant::now();
    session.close().await;
    let took = before.elapsed();
    assert!(took < STATEMENT_TIMEOUT / 2, "closing took {took:?}");
    let mut session = suite.connect().await;
    session.is_usable().await;
    session.close().await;
}

/// Begins a transaction with thirty parents, and returns a statement with a row for each two of
/// them and each of the `third` first ones.
async fn triples(session: &mut Session, third: i64) -> Statement {
    session.begin().await;
    for id in 0..30 {
        let parent = tables::parent(FIRST_OF_TRIPLES + id, Some(&format!("of {id}")));
        session.execute(&parent).await.expect("a row is inserted");
    }
    let sql = format!(
        "SELECT a.id, b.id AS b, c.id AS c FROM conformance_parent a CROSS JOIN conformance_parent b \
         CROSS JOIN conformance_parent c WHERE a.id >= {FIRST_OF_TRIPLES} AND b.id >= {FIRST_OF_TRIPLES} \
         AND c.id >= {FIRST_OF_TRIPLES} AND c.id < {}",
        FIRST_OF_TRIPLES + third
    );
    Statement::from_string(session.backend, sql)
}

const FIRST_OF_TRIPLES: i64 = 100_000;

pub(super) async fn a_stream_gives_every_row_and_the_connection_goes_on(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let statement = triples(&mut session, 10).await;
    let mut rows = session.connection.stream(&statement);
    let (mut count, mut sum) = (0, 0);
    while let Some(row) = rows.next().await {
        let id: i64 = row.expect("a row arrives").try_get_by_index(0).expect("it has an id");
        count += 1;
        sum += id - FIRST_OF_TRIPLES;
    }
    drop(rows);
    assert_eq!((count, sum), (9_000, 9_000 * 29 / 2));
    session.rollback().await;
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_stream_that_is_dropped_never_gives_its_rows_to_another(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let statement = triples(&mut session, 10).await;
    let first = session.connection.stream(&statement).next().await;
    first.expect("there is a row").expect("it arrives");
    match session.query(&tables::count(0)).await {
        Ok(rows) => assert_eq!(tables::counted(&rows), 0),
        Err(error) => assert!(error.kind.breaks_connection(), "{error}"),
    }
    session.close().await;
    let mut session = suite.connect().await;
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn an_answer_that_is_too_large_is_refused_and_costs_its_connection(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    // More than `MAX_ANSWER`, as rows are in memory.
    let statement = triples(&mut session, 30).await;
    let outcome = session.connection.query(&statement).await;
    assert_eq!(kind(outcome), DatabaseErrorKind::AnswerTooLarge);
    match session.query(&tables::count(0)).await {
        Ok(rows) => assert_eq!(tables::counted(&rows), 0),
        Err(error) => assert!(error.kind.breaks_connection(), "{error}"),
    }
    let before = Instant::now();
    session.close().await;
    assert!(
        before.elapsed() < STATEMENT_TIMEOUT,
        "closing took {:?}",
        before.elapsed()
    );
}

pub(super) async fn an_ended_session_is_a_lost_connection_without_effect(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session.is_usable().await;
    if !suite.fixture.end_sessions().await {
        return suite.does_not_apply();
    }
    let outcome = session.execute(&tables::parent(700, Some("lost"))).await;
    let lost = kind(outcome);
    assert!(lost.breaks_connection(), "{lost:?}");
    if suite.dialect() == "postgresql" {
        assert_eq!(lost, DatabaseErrorKind::ConnectionLostWithoutEffect);
    }
    let again = kind(session.query(&tables::count(0)).await);
    assert!(again.breaks_connection(), "{again:?}");
    session.close().await;
    let mut session = suite.connect().await;
    suite.fixture.end_sessions().await;
    let begun = session.connection.begin(&TransactionOptions::default()).await;
    assert_eq!(kind(begun), DatabaseErrorKind::ConnectionLostWithoutEffect);
    session.close().await;
    let mut session = suite.connect().await;
    assert_eq!(
        tables::counted(&session.query(&tables::count(7)).await.expect("rows are counted")),
        0
    );
    session.close().await;
}

pub(super) async fn a_transaction_whose_session_ended_is_a_lost_connection(suite: &Suite<'_>) {
    for commit in [false, true] {
        let mut session = suite.connect().await;
        session.begin().await;
        session
            .execute(&tables::parent(800, Some("lost in between")))
            .await
            .expect("a row is inserted");
        if !suite.fixture.end_sessions().await {
            session.rollback().await;
            return suite.does_not_apply();
        }
        let outcome = if commit {
            kind(session.connection.commit().await)
        } else {
            kind(session.execute(&tables::parent(801, Some("lost too"))).await.map(drop))
        };
        // Some servers say of a COMMIT that it was not begun.
        let is_undone = commit && outcome == DatabaseErrorKind::ConnectionLostWithoutEffect;
        assert!(is_undone || outcome == DatabaseErrorKind::ConnectionLost, "{outcome:?}");
        session.close().await;
        let mut session = suite.connect().await;
        assert_eq!(
            tables::counted(&session.query(&tables::count(8)).await.expect("rows are counted")),
            0
        );
        session.close().await;
    }
}
