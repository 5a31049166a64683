//! What a statement may have done when its session ends.

use sea_orm::{DbBackend, Statement};
use tenantry_core::DatabaseErrorKind;
use tenantry_test_support::PostgresServer;

use super::connect;

#[tokio::test]
async fn a_procedure_whose_session_ended_may_have_committed() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("procedure").await.unwrap();
    let create = "CREATE TABLE t (i integer);
        CREATE PROCEDURE batch() LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO t VALUES (1);
          COMMIT;
          PERFORM pg_terminate_backend(pg_backend_pid());
          PERFORM pg_sleep(5);
        END $$";
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    connection.execute_script(create).await.unwrap();
    connection.close().await;
    for (sql, kind) in [
        ("CALL batch()", DatabaseErrorKind::ConnectionLost),
        (
            "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)",
            DatabaseErrorKind::ConnectionLostWithoutEffect,
        ),
    ] {
        let mut connection = connect(server.secret(&tenant)).await.unwrap();
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let error = connection.execute(&statement).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_deref()), (kind, Some("57P01")), "{sql}");
        connection.close().await;
    }
    let rows = server.psql(&tenant.database, "SELECT count(*) FROM t").await.unwrap();
    assert_eq!(rows.trim(), "1");
}
