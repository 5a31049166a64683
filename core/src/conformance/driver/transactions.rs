//! Transactions and save points.

use sea_orm::{AccessMode, ExecResult, IsolationLevel, TransactionOptions, sea_query::InsertStatement};

use super::{Session, Suite, kind, tables};
use crate::{DatabaseError, DatabaseErrorKind};

fn row(id: i64) -> InsertStatement {
    tables::parent(id, Some(&format!("row {id}")))
}

async fn insert(session: &mut Session, id: i64) {
    session.execute(&row(id)).await.expect("a row is inserted");
}

async fn rows(session: &mut Session, hundred: i64) -> i64 {
    tables::counted(&session.query(&tables::count(hundred)).await.expect("rows are counted"))
}

pub(super) async fn a_commit_keeps_and_a_roll_back_does_not(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session.begin().await;
    insert(&mut session, 900).await;
    session.rollback().await;
    assert_eq!(rows(&mut session, 9).await, 0);
    session.begin().await;
    insert(&mut session, 901).await;
    session.commit().await;
    assert_eq!(rows(&mut session, 9).await, 1);
    session.close().await;
    let mut another = suite.connect().await;
    assert_eq!(rows(&mut another, 9).await, 1);
    another.close().await;
}

pub(super) async fn a_renewed_session_keeps_nothing_of_the_old_one(suite: &Suite<'_>) {
    let config = super::config(suite.fixture.secret());
    let mut session = suite.connect().await;
    session.begin().await;
    insert(&mut session, 2100).await;
    let renewed = suite.driver.renew(&config, &mut *session.connection).await;
    renewed.expect("a new session begins");
    assert!(
        session.connection.commit().await.is_err(),
        "a transaction is still open"
    );
    assert_eq!(rows(&mut session, 21).await, 0);
    session.begin().await;
    insert(&mut session, 2101).await;
    session.commit().await;
    assert_eq!(rows(&mut session, 21).await, 1);
    session.close().await;
}

pub(super) async fn a_nested_roll_back_undoes_its_own_part_only(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session.begin().await;
    insert(&mut session, 1000).await;
    session.begin().await;
    insert(&mut session, 1001).await;
    let taken = kind(session.execute(&row(1000)).await);
    assert_eq!(taken, DatabaseErrorKind::UniqueViolation);
    session.rollback().await;
    session.begin().await;
    insert(&mut session, 1002).await;
    session.commit().await;
    session.commit().await;
    assert_eq!(rows(&mut session, 10).await, 2);
    session.close().await;
}

pub(super) async fn an_outer_roll_back_undoes_what_an_inner_commit_kept(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session.begin().await;
    session.begin().await;
    session.begin().await;
    insert(&mut session, 1100).await;
    session.commit().await;
    session.commit().await;
    assert_eq!(rows(&mut session, 11).await, 1);
    session.rollback().await;
    assert_eq!(rows(&mut session, 11).await, 0);
    session.close().await;
}

pub(super) async fn others_see_nothing_before_the_commit(suite: &Suite<'_>) {
    let (mut writer, mut reader) = (suite.connect().await, suite.connect().await);
    writer.begin().await;
    insert(&mut writer, 1200).await;
    assert_eq!(rows(&mut reader, 12).await, 0);
    writer.commit().await;
    assert_eq!(rows(&mut reader, 12).await, 1);
    writer.close().await;
    reader.close().await;
}

pub(super) async fn a_commit_after_an_error_keeps_all_or_fails(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    session.begin().await;
    insert(&mut session, 1300).await;
    assert_eq!(
        kind(session.execute(&row(1300)).await),
        DatabaseErrorKind::UniqueViolation
    );
    let kept = match session.connection.commit().await {
        Ok(()) => 1,
        Err(_) => 0,
    };
    assert_eq!(rows(&mut session, 13).await, kept);
    // Whichever it was, the transaction is over.
    insert(&mut session, 1301).await;
    session.close().await;
    let mut another = suite.connect().await;
    assert_eq!(rows(&mut another, 13).await, kept + 1);
    another.close().await;
}

pub(super) async fn a_commit_after_a_deadlock_keeps_all_or_fails(suite: &Suite<'_>) {
    let (mut one, mut other) = (suite.connect().await, suite.connect().await);
    insert(&mut one, 1800).await;
    insert(&mut one, 1801).await;
    let touch = |id: i64| {
        let sql = format!("UPDATE conformance_parent SET name = 'touched {id}' WHERE id = {id}");
        sea_orm::Statement::from_string(suite.backend(), sql)
    };
    // SQLite has one writer: there, the second one that begins fails at its first write.
    let one_writer = suite.dialect() == "sqlite";
    for (session, id) in [(&mut one, 1800), (&mut other, 1801)] {
        session.begin().await;
        assert_eq!(rows(session, 18).await, 2);
        if !one_writer {
            insert(session, id + 10).await;
            session.connection.execute(&touch(id)).await.expect("the row is free");
        }
    }
    let (first, second) = (touch(1801), touch(1800));
    let (a, b) = if one_writer {
        one.connection.execute(&first).await.expect("nobody else writes");
        one.commit().await;
        one.begin().await;
        (None, other.connection.execute(&second).await.err())
    } else {
        let (a, b) =
            futures_util::future::join(one.connection.execute(&first), other.connection.execute(&second)).await;
        (a.err(), b.err())
    };
    assert!(a.is_some() || b.is_some(), "nobody lost");
    for (session, lost, id) in [(&mut one, a, 1820), (&mut other, b, 1821)] {
        let Some(error) = lost else {
            session.commit().await;
            continue;
        };
        assert_eq!(error.kind, DatabaseErrorKind::Serialization);
        // A statement before the end is refused; it is not executed outside the transaction.
        assert!(session.execute(&row(id)).await.is_err());
        let committed = session.connection.commit().await.is_ok();
        assert!(one_writer || !committed, "a transaction that lost was committed");
    }
    let kept = if one_writer { 2 } else { 3 };
    for session in [&mut one, &mut other] {
        assert_eq!(rows(session, 18).await, kept);
        session.is_usable().await;
    }
    one.close().await;
    other.close().await;
}

pub(super) async fn a_dropped_transaction_keeps_nothing(suite: &Suite<'_>) {
    for closed in [true, false] {
        let mut session = suite.connect().await;
        session.begin().await;
        insert(&mut session, 1400).await;
        if closed {
            session.close().await;
        } else {
            drop(session);
        }
        let mut another = suite.connect().await;
        assert_eq!(rows(&mut another, 14).await, 0);
        another.close().await;
    }
}

pub(super) async fn a_read_only_transaction_refuses_writes(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let options = TransactionOptions {
        access_mode: Some(AccessMode::ReadOnly),
        ..Default::default()
    };
    session.connection.begin(&options).await.expect("a transaction begins");
    assert_eq!(kind(session.execute(&row(1500)).await), DatabaseErrorKind::ReadOnly);
    session.rollback().await;
    insert(&mut session, 1501).await;
    session.connection.begin(&options).await.expect("a transaction begins");
    assert_eq!(rows(&mut session, 15).await, 1);
    session.commit().await;
    insert(&mut session, 1502).await;
    session.close().await;
}

pub(super) async fn an_isolation_level_is_taken(suite: &Suite<'_>) {
    let (mut one, mut other) = (suite.connect().await, suite.connect().await);
    let options = TransactionOptions {
        isolation_level: Some(IsolationLevel::RepeatableRead),
        ..Default::default()
    };
    one.connection.begin(&options).await.expect("a transaction begins");
    assert_eq!(rows(&mut one, 16).await, 0);
    insert(&mut other, 1600).await;
    assert_eq!(rows(&mut one, 16).await, 0, "a read was not repeated");
    // A database with serializable transactions only accepts any level.
    match one.connection.begin(&options).await {
        Ok(()) => one.rollback().await,
        Err(error) => assert_eq!(error.kind, DatabaseErrorKind::Unsupported),
    }
    one.commit().await;
    assert_eq!(rows(&mut one, 16).await, 1);
    one.close().await;
    other.close().await;
}

pub(super) async fn a_commit_without_a_transaction_is_an_error(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    assert!(session.connection.commit().await.is_err());
    assert!(session.connection.rollback().await.is_err());
    session.is_usable().await;
    session.close().await;
}

/// Commits the session that won and rolls the other one back. Returns how many lost, and the name
/// of the winner.
async fn end_deadlock(
    ended: [(&mut Session, Result<ExecResult, DatabaseError>, &'static str); 2],
) -> (i32, &'static str) {
    let (mut losers, mut winner) = (0, "");
    for (session, outcome, name) in ended {
        match outcome {
            Ok(_) => {
                session.commit().await;
                session.commit().await;
                winner = name;
            }
            Err(error) => {
                assert_eq!(error.kind, DatabaseErrorKind::Serialization);
                losers += 1;
                // A statement before the rollback is refused; it is not executed outside the
                // transaction.
                assert!(session.execute(&row(1730)).await.is_err());
                session.rollback().await;
                session.rollback().await;
            }
        }
    }
    (losers, winner)
}

pub(super) async fn the_loser_of_a_deadlock_gets_an_error_and_keeps_nothing(suite: &Suite<'_>) {
    let (mut one, mut other) = (suite.connect().await, suite.connect().await);
    insert(&mut one, 1700).await;
    insert(&mut one, 1701).await;
    let touch = |id: i64, name: &str| {
        let sql = format!("UPDATE conformance_parent SET name = '{name} {id}' WHERE id = {id}");
        sea_orm::Statement::from_string(suite.backend(), sql)
    };
    for (session, id) in [(&mut one, 1710), (&mut other, 1720)] {
        session.begin().await;
        // SQLite has one writer: a transaction that read before another one wrote cannot write any
        // more.
        assert_eq!(rows(session, 17).await, 2);
        if suite.dialect() != "sqlite" {
            session.begin().await;
            insert(session, id).await;
        }
    }
    let (losers, winner) = if suite.dialect() == "sqlite" {
        one.connection
            .execute(&touch(1700, "one"))
            .await
            .expect("nobody else writes");
        one.commit().await;
        let lost = kind(other.connection.execute(&touch(1700, "other")).await);
        assert_eq!(lost, DatabaseErrorKind::Serialization);
        other.rollback().await;
        (1, "one")
    } else {
        one.connection
            .execute(&touch(1700, "one"))
            .await
            .expect("the row is free");
        other
            .connection
            .execute(&touch(1701, "other"))
            .await
            .expect("the row is free");
        let (first, second) = (touch(1701, "one"), touch(1700, "other"));
        let both = futures_util::future::join(one.connection.execute(&first), other.connection.execute(&second));
        let (a, b) = both.await;
        end_deadlock([(&mut one, a, "one"), (&mut other, b, "other")]).await
    };
    assert_eq!(losers, 1);
    let kept = if suite.dialect() == "sqlite" { 2 } else { 3 };
    for session in [&mut one, &mut other] {
        assert_eq!(rows(session, 17).await, kept);
        session.begin().await;
        let sql = format!("SELECT name FROM conformance_parent WHERE id = 1700 AND name = '{winner} 1700'");
        assert_eq!(session.query_sql(&sql).await.expect("the row is read").len(), 1);
        session.commit().await;
    }
    one.close().await;
    other.close().await;
}
