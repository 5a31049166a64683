//! The driver `postgresql` on a real server.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod effects;
mod logins;
mod renewal;
mod urls;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sea_orm::{DbBackend, Statement};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError, DriverErrorKind,
    Registry, SecretValue,
    conformance::driver::{DriverFixture, MAX_ANSWER, STATEMENT_TIMEOUT, run},
};
use tenantry_drivers::PostgresqlDriver;
use tenantry_test_support::{PostgresServer, Relay, TenantDb, free_port, record_case};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A context whose folder holds every certificate of the tests.
fn context() -> BuildContext {
    BuildContext {
        base_dir: "/".into(),
        ..BuildContext::for_tests(Registry::new())
    }
}

async fn driver() -> Arc<dyn DatabaseDriver> {
    let mut registry = Registry::new();
    registry.driver::<PostgresqlDriver>();
    let mapping = json!({"type": "postgresql", "statement_timeout": format!("{}ms", STATEMENT_TIMEOUT.as_millis()), "max_answer": MAX_ANSWER});
    registry.build_driver(mapping, &context()).await.unwrap()
}

async fn connect(secret: Value) -> Result<Box<dyn Connection>, DriverError> {
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    driver().await.connect(&config).await
}

async fn text(connection: &mut Box<dyn Connection>, sql: &str) -> String {
    let row = connection
        .query_one(&Statement::from_string(DbBackend::Postgres, sql))
        .await
        .unwrap()
        .unwrap();
    row.try_get_by_index(0).unwrap()
}

struct Server {
    server: &'static PostgresServer,
    tenant: TenantDb,
    silent: u16,
}

impl Server {
    fn with(&self, changes: Value) -> Option<Value> {
        let mut secret = self.server.secret(&self.tenant);
        for (name, value) in changes.as_object().unwrap() {
            secret[name] = value.clone();
        }
        Some(secret)
    }
}

#[async_trait]
impl DriverFixture for Server {
    fn secret(&self) -> Value {
        self.server.secret(&self.tenant)
    }

    fn wrong_password(&self) -> Option<Value> {
        self.with(json!({"password": "canary-wrong"}))
    }

    fn unreachable(&self) -> Option<Value> {
        self.with(json!({"port": self.silent}))
    }

    fn tls_refused(&self) -> Option<Value> {
        self.with(json!({"tls": {"mode": "require"}}))
    }

    fn database_missing(&self) -> Option<Value> {
        self.with(json!({"database": "no such database"}))
    }

    async fn end_sessions(&self) -> bool {
        let sql = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{}'",
            self.tenant.user
        );
        self.server.psql("postgres", &sql).await.unwrap();
        true
    }

    fn slow_statement(&self) -> &'static str {
        "SELECT pg_sleep(30)"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let server = PostgresServer::shared().await;
    let fixture = Server {
        server,
        tenant: server.create_tenant("conformance").await.unwrap(),
        silent: free_port().unwrap(),
    };
    for case in run(driver().await, &fixture).await {
        let outcome = if case.applies { "ok" } else { "does not apply" };
        record_case("postgresql", case.group, &case.name, outcome);
    }
}

/// sqlx finds a prepared statement by its text, whatever the types of the values were.
#[tokio::test]
async fn one_text_with_values_of_other_types_keeps_them() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("types").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let table = "CREATE TABLE t (id serial, v double precision)";
    connection.execute_script(table).await.unwrap();
    for value in [sea_orm::Value::from(5_i64), 1.5_f64.into(), 7_i32.into()] {
        let insert = Statement::from_sql_and_values(DbBackend::Postgres, "INSERT INTO t (v) VALUES ($1)", [value]);
        connection.execute(&insert).await.unwrap();
    }
    let stored = text(&mut connection, "SELECT string_agg(v::text, ' ' ORDER BY id) FROM t").await;
    assert_eq!(stored, "5 1.5 7");
}

#[tokio::test]
async fn a_session_is_set_up_as_configured() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("session").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let settings = [
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("application_name", "tenantry"),
        ("statement_timeout", "2s"),
        ("client_connection_check_interval", "500ms"),
    ];
    for (name, value) in settings {
        assert_eq!(
            text(&mut connection, &format!("SELECT current_setting('{name}')")).await,
            value,
            "{name}"
        );
    }
    assert_eq!(connection.encryption().as_str(), "none");
    let told = connection.ping().await.unwrap();
    let version = text(&mut connection, "SHOW server_version").await;
    assert_eq!(&*told.0, version.split(' ').next().unwrap());
    connection.close().await;
}

#[tokio::test]
async fn a_session_that_starts_with_other_settings_is_set_right() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("other").await.unwrap();
    // Each setting, what the role says, and what holds.
    let settings = [
        ("standard_conforming_strings", "off", "on"),
        ("transform_null_equals", "on", "off"),
        ("array_nulls", "off", "on"),
        ("bytea_output", "escape", "hex"),
        ("IntervalStyle", "sql_standard", "postgres"),
        ("xmloption", "document", "content"),
        ("client_min_messages", "debug5", "error"),
        ("DateStyle", "German, DMY", "ISO, MDY"),
        ("TimeZone", "Asia/Tokyo", "UTC"),
        ("client_encoding", "LATIN1", "UTF8"),
        ("statement_timeout", "1ms", "2s"),
        ("client_connection_check_interval", "0", "500ms"),
        // These are the server's to choose: nothing is lost by them.
        ("default_transaction_isolation", "serializable", "serializable"),
        ("search_path", "other", "other"),
    ];
    for (name, value, _) in settings {
        let sql = format!("ALTER ROLE \"{}\" SET {name} = '{value}'", tenant.user);
        server.psql("postgres", &sql).await.unwrap();
    }
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    for (name, _, value) in settings {
        let held = text(&mut connection, &format!("SELECT current_setting('{name}')")).await;
        assert_eq!(held, value, "{name}");
    }
    assert_eq!(text(&mut connection, r"SELECT 'a\b'").await, r"a\b");
    connection.close().await;

    let mut secret = server.secret(&tenant);
    secret["schema"] = json!("App \"x\", $user,public");
    let mut connection = connect(secret).await.unwrap();
    let path = text(&mut connection, "SELECT current_setting('search_path')").await;
    assert_eq!(path, r#""App ""x""", "$user", public"#);
    connection.close().await;
}

/// A statement in such a session is refused, so nothing is lost.
#[tokio::test]
async fn a_session_that_starts_read_only_says_so() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("readonly").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    connection.execute_script("CREATE TABLE t (i integer)").await.unwrap();
    connection.close().await;
    let sql = format!("ALTER ROLE \"{}\" SET default_transaction_read_only = on", tenant.user);
    server.psql("postgres", &sql).await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let insert = Statement::from_string(DbBackend::Postgres, "INSERT INTO t VALUES (1)");
    let error = connection.execute(&insert).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ReadOnly);
    connection.close().await;
}

#[tokio::test]
async fn a_table_that_changes_under_a_prepared_statement_is_read_anew() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("stale").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let mut other = connect(server.secret(&tenant)).await.unwrap();
    connection
        .execute_script("CREATE TABLE t (a integer); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let select = Statement::from_string(DbBackend::Postgres, "SELECT * FROM t");
    for change in ["ADD b text DEFAULT 'b'", "ALTER a TYPE bigint", "DROP b"] {
        assert_eq!(connection.query(&select).await.unwrap().len(), 1);
        other.execute_script(&format!("ALTER TABLE t {change}")).await.unwrap();
        assert_eq!(connection.query(&select).await.unwrap().len(), 1, "{change}");
    }
    for forget in ["DEALLOCATE ALL", "DISCARD ALL"] {
        connection.execute_script(forget).await.unwrap();
        assert_eq!(connection.query(&select).await.unwrap().len(), 1, "{forget}");
    }
    connection.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_statement_whose_future_is_dropped_stops_running() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("dropped").await.unwrap();
    let secret = json!({"statement_timeout": null, "type": "postgresql"});
    let mut registry = Registry::new();
    registry.driver::<PostgresqlDriver>();
    let driver = registry.build_driver(secret, &context()).await.unwrap();
    let config = DatabaseConfig::parse(&SecretValue::new(server.secret(&tenant))).unwrap();
    let mut left = driver.connect(&config).await.unwrap();
    let sleep = Statement::from_string(DbBackend::Postgres, "SELECT pg_sleep(600)");
    assert!(
        tokio::time::timeout(Duration::from_millis(200), left.query(&sleep))
            .await
            .is_err()
    );
    left.close().await;
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'",
        tenant.user
    );
    let gone = async {
        while server.psql("postgres", &count).await.unwrap().trim() != "0" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .expect("the server goes on with what nobody waits for");
}

#[tokio::test]
async fn every_tls_mode_demands_what_it_says() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("tls").await.unwrap();
    let certificates = server.certificates().unwrap();
    let (ca, other) = (certificates.ca_pem.as_str(), certificates.other_ca_pem.as_str());
    let none = Value::Null;
    let cases = [
        ("127.0.0.1", json!({"mode": "prefer"}), None),
        ("127.0.0.1", none, None),
        ("127.0.0.1", json!({"mode": "require"}), None),
        ("127.0.0.1", json!({"mode": "verify-ca", "ca": ca}), None),
        ("localhost", json!({"mode": "verify-full", "ca": ca}), None),
        (
            "127.0.0.1",
            json!({"mode": "verify-full", "ca": ca}),
            Some(DriverErrorKind::Tls),
        ),
        ("127.0.0.1", json!({"mode": "verify-ca"}), Some(DriverErrorKind::Tls)),
        ("localhost", json!({"mode": "verify-full"}), Some(DriverErrorKind::Tls)),
        (
            "localhost",
            json!({"mode": "verify-full", "ca": other}),
            Some(DriverErrorKind::Tls),
        ),
        (
            "localhost",
            json!({"mode": "verify-ca", "ca": other}),
            Some(DriverErrorKind::Tls),
        ),
        // The server takes encrypted connections only and says so as a refused login.
        (
            "127.0.0.1",
            json!({"mode": "disable"}),
            Some(DriverErrorKind::Authentication),
        ),
    ];
    for (host, tls, expected) in cases {
        let mode = tls["mode"].clone();
        let mut secret = server.secret(&tenant);
        secret["host"] = json!(host);
        secret["tls"] = tls;
        match (connect(secret).await, expected) {
            (Ok(mut connection), None) => {
                let used = text(
                    &mut connection,
                    "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                )
                .await;
                assert_eq!(used, "true", "{mode} at {host}");
                let verifies = mode.as_str().is_some_and(|mode| mode.starts_with("verify"));
                let expected = if verifies { "verified" } else { "encrypted" };
                assert_eq!(connection.encryption().as_str(), expected, "{mode} at {host}");
                connection.close().await;
            }
            (Err(error), Some(kind)) => assert_eq!(error.kind, kind, "{mode} at {host}: {error:?}"),
            (Ok(_), Some(kind)) => panic!("{mode} at {host} is not {kind:?}"),
            (Err(error), None) => panic!("{mode} at {host}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_s_certificate_is_shown_where_it_is_asked_for() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("client").await.unwrap();
    server
        .psql("postgres", &format!("GRANT require_client_cert TO \"{}\"", tenant.user))
        .await
        .unwrap();
    let certificates = server.certificates().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("client.key");
    std::fs::write(&key, &certificates.client_key_pem).unwrap();
    let mut secret = server.secret(&tenant);
    secret["tls"] = json!({"mode": "require", "cert": certificates.client_cert_pem, "key": key.to_str().unwrap()});
    connect(secret.clone()).await.unwrap().close().await;
    secret["tls"] = json!({"mode": "require"});
    assert!(connect(secret).await.is_err());
}

#[tokio::test]
async fn a_full_server_and_one_that_starts_are_told() {
    let server = PostgresServer::shared().await;
    for limited in ["ROLE", "DATABASE"] {
        let tenant = server.create_tenant("full").await.unwrap();
        let name = match limited {
            "ROLE" => &tenant.user,
            _ => &tenant.database,
        };
        let limit = format!("ALTER {limited} \"{name}\" CONNECTION LIMIT 1");
        server.psql("postgres", &limit).await.unwrap();
        let first = connect(server.secret(&tenant)).await.unwrap();
        let error = connect(server.secret(&tenant)).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::ConnectionLimit, "{limited}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.starts_with("the server refused with its error 53300 (no connection is left"),
            "{cause}"
        );
        first.close().await;
    }
}

#[tokio::test]
async fn a_session_that_ends_at_once_is_an_error() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("ended").await.unwrap();
    let mut secret = server.secret(&tenant);
    let relay = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = secret["port"].as_u64().unwrap() as u16;
    secret["port"] = json!(relay.local_addr().unwrap().port());
    let ends_the_session = async {
        let (client, _) = relay.accept().await.unwrap();
        let server_side = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server_side.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let sent = &buffer[..length];
            // The login is over, and what the driver sets first is on its way.
            if sent.windows(4).any(|word| word == b"SET ") {
                let end = format!(
                    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{}'",
                    tenant.user
                );
                assert_eq!(server.psql("postgres", &end).await.unwrap().trim(), "1");
            }
            to_server.write_all(sent).await.ok();
        }
    };
    let error = tokio::select! {
        connected = connect(secret) => connected.err().unwrap(),
        () = ends_the_session => panic!("the driver went away"),
    };
    assert_eq!(error.kind, DriverErrorKind::SessionEnded);
}

/// The default of `max_answer` is 32 MiB. What was sent beyond that lies in the buffers of sockets,
/// which Linux lets grow up to 32 MiB and more.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_of_300_megabytes_no_more_is_read_than_fits() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("large").await.unwrap();
    let relay = Relay::to(server.port()).await.unwrap();
    let mut secret = server.secret(&tenant);
    secret["port"] = json!(relay.port());
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    let mut registry = Registry::new();
    registry.driver::<PostgresqlDriver>();
    let driver = registry
        .build_driver(json!({"type": "postgresql"}), &context())
        .await
        .unwrap();
    let statement = Statement::from_string(
        DbBackend::Postgres,
        "SELECT repeat('x', 1000000) FROM generate_series(1, 300)",
    );
    for one in [false, true] {
        let mut connection = driver.connect(&config).await.unwrap();
        let before = relay.sent();
        let error = match one {
            true => connection.query_one(&statement).await.err(),
            false => connection.query(&statement).await.err(),
        };
        assert_eq!(error.unwrap().kind, DatabaseErrorKind::AnswerTooLarge);
        connection.close().await;
        let read = relay.sent() - before;
        assert!(read < 150_000_000, "{read} of 300 million bytes were sent");
    }
    let mut connection = driver.connect(&config).await.unwrap();
    let rows = connection.stream(&statement).map(|row| row.unwrap());
    assert_eq!(rows.count().await, 300);
    connection.close().await;
}

/// PostgreSQL 18 has a code of its own for a foreign key that restricts, which sqlx does not know.
#[tokio::test]
async fn a_restricting_foreign_key_is_a_violation_in_sea_orm_too() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("restrict").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let create = "CREATE TABLE parent (i integer PRIMARY KEY); INSERT INTO parent VALUES (1);
        CREATE TABLE child (i integer REFERENCES parent ON DELETE RESTRICT); INSERT INTO child VALUES (1);
        CREATE TABLE later (i integer);
        CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'restrict_violation'; END $$;
        CREATE TRIGGER later BEFORE INSERT ON later FOR EACH ROW EXECUTE FUNCTION later()";
    connection.execute_script(create).await.unwrap();
    for sql in ["DELETE FROM parent", "INSERT INTO later VALUES (1)"] {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let error = connection.execute(&statement).await.unwrap_err();
        let kind = DatabaseErrorKind::of(&error.into_db_err());
        assert_eq!(kind, DatabaseErrorKind::ForeignKeyViolation, "{sql}");
    }
    connection.close().await;
}
