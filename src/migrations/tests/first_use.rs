//! What a server does before it first uses a database.

use tenantry_core::engine::{OnConnect as _, SchemaBehind};

use super::*;

/// Wrong syntax is quoted by the database, and the quotation may hold a password.
pub(super) async fn no_text_of_a_file_is_logged(target: Target, dialect: &str) {
    for (sql, is_logged) in [
        ("CREATE TABLE t (i integer); DELETE FROM t 'canary'", false),
        ("CREATE TABLE t (i integer); INSERT INTO t (i) VALUES ('canary)", false),
        ("CREATE TABLE t (i integer); UPDATE t SET nowhere = 'canary'", true),
        ("SELECT 'canary' FROM nowhere", true),
    ] {
        let (_folder, migrations) = folder(dialect, &[("1_t.sql", sql)]).await;
        let error = target.apply(&migrations, false).await.unwrap_err();
        let reason = error.reason();
        assert_eq!(
            reason.is_some(),
            is_logged && !matches!(error, MigrationError::Refused { .. }),
            "{sql}: {error:?}"
        );
        assert!(!format!("{error} {reason:?}").contains("canary"), "{error} {reason:?}");
        target
            .execute("DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS tenantry_migrations")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_look_finds_what_requests_would_find() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let (_folder, migrations) = folder("sqlite", &[("1_t.sql", "CREATE TABLE t (i integer)")]).await;
    let migrations = Arc::new(migrations);
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    let on_connect = |is_applying| MigrationsOnConnect::new(migrations.clone(), is_applying, false);
    let required = |is_applying| on_connect(is_applying).require(2, "2");
    let mut look = async |on_connect: MigrationsOnConnect| on_connect.look(&*target.driver, &mut *connection).await;

    assert_eq!(look(required(true)).await.unwrap().unwrap().pending, 1);
    assert!(look(required(false)).await.unwrap_err().is::<SchemaBehind>());
    target.apply(&migrations, false).await.unwrap();
    assert_eq!(look(on_connect(true)).await.unwrap().unwrap().pending, 0);
    for is_applying in [true, false] {
        assert!(look(required(is_applying)).await.unwrap_err().is::<SchemaBehind>());
    }
    target
        .execute("DROP TABLE tenantry_migrations; CREATE TABLE tenantry_migrations (i integer); INSERT INTO tenantry_migrations VALUES (1)")
        .await
        .unwrap();
    for needed in [on_connect(true), required(false)] {
        assert!(look(needed).await.is_err());
    }
    assert_eq!(look(on_connect(false)).await.unwrap(), None);
}
