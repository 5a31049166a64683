//! The server's own limits, and what has had an effect when one is met.

use futures_util::StreamExt as _;
use sea_orm::{DbBackend, Statement, Value};
use tenantry_core::DatabaseErrorKind;
use tenantry_test_support::MariadbServer;

use super::{connect, sql, text};

/// Each connection closes its own to make room.
#[tokio::test]
async fn a_server_full_of_prepared_statements_serves_on() {
    let server = MariadbServer::start_with_settings(&["--max-prepared-stmt-count=20"])
        .await
        .unwrap();
    let tenant = server.create_tenant("prepared").await.unwrap();
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(connect(server.secret(&tenant)).await.unwrap());
    }
    for connection in &mut connections {
        for number in 0..15 {
            let select = format!("SELECT CAST({number} AS char)");
            assert_eq!(text(connection, &select).await, number.to_string());
        }
    }
    for connection in &mut connections {
        for number in 15..30 {
            let select = sql(&format!("SELECT CAST({number} AS char)"));
            let rows: Vec<_> = connection.stream(&select).collect().await;
            assert!(rows.len() == 1 && rows[0].is_ok(), "{number}");
        }
    }
    for connection in connections {
        connection.close().await;
    }
}

#[tokio::test]
async fn a_statement_larger_than_a_message_costs_no_connection() {
    let server = MariadbServer::start_with_settings(&["--max-allowed-packet=1M"])
        .await
        .unwrap();
    let tenant = server.create_tenant("message").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    connection.execute_script("CREATE TABLE t (s longtext)").await.unwrap();
    let insert = |length| {
        let values = [Value::from("x".repeat(length))];
        Statement::from_sql_and_values(DbBackend::MySql, "INSERT INTO t VALUES (?)", values)
    };
    let long = sql(&format!("SELECT '{}'", "x".repeat(2 << 20)));
    for too_large in [insert(1 << 20), insert(3 << 20), long] {
        let error = connection.execute(&too_large).await.unwrap_err();
        assert_eq!(error.kind, DatabaseErrorKind::ConstraintViolation);
        assert_eq!(error.code.as_deref(), Some("1153"));
        assert_eq!(text(&mut connection, "SELECT 'there'").await, "there");
    }
    connection.execute(&insert(1_000_000)).await.unwrap();
    assert_eq!(text(&mut connection, "SELECT CAST(COUNT(*) AS char) FROM t").await, "1");
    connection.close().await;
}

/// A procedure commits each of its statements, so it is not sent again, whatever stopped it.
#[tokio::test]
async fn a_procedure_that_failed_midway_is_not_run_again() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("midway").await.unwrap();
    server
        .sql(&tenant.database, "CREATE TABLE done (i bigint)")
        .await
        .unwrap();
    // The second is the message of a node of Galera that is not in its cluster.
    for (number, message, kind) in [
        (1615, "stale", DatabaseErrorKind::Serialization),
        (
            1047,
            "WSREP has not yet prepared node for application use",
            DatabaseErrorKind::ConnectionLost,
        ),
    ] {
        let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{message}'");
        let create = format!(
            "TRUNCATE TABLE done;
            DELIMITER //
            CREATE OR REPLACE PROCEDURE batch() BEGIN INSERT INTO done VALUES (1); {signal}; END //"
        );
        server.sql(&tenant.database, &create).await.unwrap();
        let mut connection = connect(server.secret(&tenant)).await.unwrap();
        let error = connection.execute(&sql("CALL batch()")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{number}");
        connection.close().await;
        let rows = server.sql(&tenant.database, "SELECT COUNT(*) FROM done").await.unwrap();
        assert_eq!(rows, "1", "{number}");
    }
}

/// A trigger stands in for a node that has left its cluster.
#[tokio::test]
async fn a_node_outside_its_cluster_changes_nothing() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("node").await.unwrap();
    let create = "CREATE TABLE t (i bigint);
        CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW SIGNAL SQLSTATE 'HY000'
          SET MYSQL_ERRNO = 1047, MESSAGE_TEXT = 'WSREP has not yet prepared node for application use'";
    server.sql(&tenant.database, create).await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let error = connection.execute(&sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ConnectionLostWithoutEffect);
    connection.close().await;
}
