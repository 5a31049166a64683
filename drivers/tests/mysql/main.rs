//! The driver `mysql` on a real MariaDB.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod limits;
mod logins;
mod renewal;
mod urls;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sea_orm::{DbBackend, Statement, TransactionOptions};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError, DriverErrorKind,
    Registry, SecretValue,
    conformance::driver::{DriverFixture, MAX_ANSWER, STATEMENT_TIMEOUT, run},
};
use tenantry_drivers::MysqlDriver;
use tenantry_test_support::{MariadbServer, Relay, TenantDb, free_port, record_case};

/// A context whose folder holds every certificate of the tests.
fn context() -> BuildContext {
    BuildContext {
        base_dir: "/".into(),
        ..BuildContext::for_tests(Registry::new())
    }
}

async fn driver() -> Arc<dyn DatabaseDriver> {
    driver_with(json!({"type": "mysql", "statement_timeout": format!("{}ms", STATEMENT_TIMEOUT.as_millis()), "max_answer": MAX_ANSWER})).await
}

async fn driver_with(mapping: Value) -> Arc<dyn DatabaseDriver> {
    let mut registry = Registry::new();
    registry.driver::<MysqlDriver>();
    registry.build_driver(mapping, &context()).await.unwrap()
}

async fn connect(secret: Value) -> Result<Box<dyn Connection>, DriverError> {
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    driver().await.connect(&config).await
}

async fn text(connection: &mut Box<dyn Connection>, sql: &str) -> String {
    let row = connection
        .query_one(&Statement::from_string(DbBackend::MySql, sql))
        .await
        .unwrap()
        .unwrap();
    row.try_get_by_index(0).unwrap()
}

struct Server {
    server: &'static MariadbServer,
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
        None
    }

    async fn end_sessions(&self) -> bool {
        let kill = format!("KILL USER '{}'@'%'", self.tenant.user);
        self.server.sql("mysql", &kill).await.unwrap();
        true
    }

    fn slow_statement(&self) -> &'static str {
        "SELECT SLEEP(30)"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let server = MariadbServer::shared().await;
    let fixture = Server {
        server,
        tenant: server.create_tenant("conformance").await.unwrap(),
        silent: free_port().unwrap(),
    };
    for case in run(driver().await, &fixture).await {
        let outcome = if case.applies { "ok" } else { "does not apply" };
        record_case("mysql", case.group, &case.name, outcome);
    }
}

#[tokio::test]
async fn a_session_is_set_up_as_configured() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("session").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    assert_eq!(connection.encryption().as_str(), "none");
    let settings = [
        ("time_zone", "+00:00"),
        ("character_set_client", "utf8mb4"),
        ("character_set_connection", "utf8mb4"),
        ("character_set_results", "utf8mb4"),
        ("max_statement_time", "2.000000"),
    ];
    for (name, value) in settings {
        let sql = format!("SELECT CAST(@@SESSION.{name} AS char)");
        assert_eq!(text(&mut connection, &sql).await, value, "{name}");
    }
    let mode = text(&mut connection, "SELECT CAST(@@SESSION.sql_mode AS char)").await;
    for word in ["STRICT_TRANS_TABLES", "PIPES_AS_CONCAT", "NO_ZERO_DATE"] {
        assert!(mode.contains(word), "{mode}");
    }
    let told = connection.ping().await.unwrap();
    let version = text(&mut connection, "SELECT VERSION()").await;
    assert!(version.starts_with(&*told.0), "{told} is not {version}");
    connection.close().await;
}

#[tokio::test]
async fn a_session_that_starts_with_other_settings_is_set_right() {
    let server = MariadbServer::start_with_settings(&["--transaction-isolation=READ-UNCOMMITTED", "--init-connect=\
        SET autocommit = 0, completion_type = 1, foreign_key_checks = 0, unique_checks = 0, check_constraint_checks = 0, \
        sql_select_limit = 1, sql_auto_is_null = 1, timestamp = 1, time_zone = '-11:00', NAMES latin1, \
        sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES,ONLY_FULL_GROUP_BY'; \
        BEGIN"])
    .await
    .unwrap();
    let tenant = server.create_tenant("other").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let settings = [
        ("autocommit", "ON"),
        ("completion_type", "NO_CHAIN"),
        ("foreign_key_checks", "ON"),
        ("unique_checks", "ON"),
        ("check_constraint_checks", "ON"),
        ("sql_auto_is_null", "OFF"),
        ("time_zone", "+00:00"),
        ("tx_isolation", "READ-COMMITTED"),
        ("character_set_client", "utf8mb4"),
        ("in_transaction", "0"),
        (
            "sql_mode",
            "PIPES_AS_CONCAT,ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
             ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
        ),
    ];
    for (name, value) in settings {
        let sql = format!("SELECT CAST(@@SESSION.{name} AS char)");
        assert_eq!(text(&mut connection, &sql).await, value, "{name}");
    }
    let clock = "SELECT IF(NOW() > '2020-01-01', 'now', 'long ago')";
    assert_eq!(text(&mut connection, clock).await, "now");
    connection
        .execute_script("CREATE TABLE t (i bigint PRIMARY KEY)")
        .await
        .unwrap();
    connection.execute(&sql("INSERT INTO t VALUES (1)")).await.unwrap();
    let kept = async || {
        let rows = server.sql(&tenant.database, "SELECT COUNT(*) FROM t").await;
        rows.unwrap()
    };
    assert_eq!(kept().await, "1", "a statement alone is not committed");
    connection.begin(&TransactionOptions::default()).await.unwrap();
    connection.execute(&sql("INSERT INTO t VALUES (2)")).await.unwrap();
    connection.commit().await.unwrap();
    connection.execute(&sql("INSERT INTO t VALUES (3)")).await.unwrap();
    assert_eq!(kept().await, "3", "a commit began another transaction");
    assert_eq!(connection.query(&sql("SELECT i FROM t")).await.unwrap().len(), 3);
    connection.close().await;
}

/// A statement in such a session is refused, so nothing is lost.
#[tokio::test]
async fn a_session_that_starts_read_only_says_so() {
    let server = MariadbServer::start_with_settings(&["--init-connect=SET SESSION TRANSACTION READ ONLY"]);
    let server = server.await.unwrap();
    let tenant = server.create_tenant("readonly").await.unwrap();
    let create = "CREATE TABLE t (i bigint PRIMARY KEY)";
    server.sql(&tenant.database, create).await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let error = connection.execute(&sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ReadOnly);
    connection.close().await;
}

#[tokio::test]
async fn a_missing_database_is_told_to_who_may_know() {
    let server = MariadbServer::shared().await;
    let secret = json!({
        "type": "mariadb", "host": server.host(), "port": server.port(), "username": server.superuser(),
        "password": server.password(), "database": "absent"
    });
    assert_eq!(
        connect(secret).await.err().unwrap().kind,
        DriverErrorKind::DatabaseMissing
    );
    let tenant = server.create_tenant("missing").await.unwrap();
    let mut secret = server.secret(&tenant);
    secret["database"] = json!("absent");
    assert_eq!(
        connect(secret).await.err().unwrap().kind,
        DriverErrorKind::Authentication
    );
}

#[tokio::test]
async fn every_tls_mode_demands_what_it_says() {
    let server = MariadbServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("tls").await.unwrap();
    let certificates = server.certificates().unwrap();
    let (ca, other) = (certificates.ca_pem.as_str(), certificates.other_ca_pem.as_str());
    let cases = [
        ("127.0.0.1", json!({"mode": "prefer"}), None),
        ("127.0.0.1", Value::Null, None),
        ("127.0.0.1", json!({"mode": "require"}), None),
        ("127.0.0.1", json!({"mode": "verify-ca", "ca": ca}), None),
        ("localhost", json!({"mode": "verify-full", "ca": ca}), None),
        (
            "127.0.0.1",
            json!({"mode": "verify-full", "ca": ca}),
            Some(DriverErrorKind::Tls),
        ),
        ("127.0.0.1", json!({"mode": "verify-ca"}), Some(DriverErrorKind::Tls)),
        (
            "localhost",
            json!({"mode": "verify-full", "ca": other}),
            Some(DriverErrorKind::Tls),
        ),
    ];
    for (host, tls, expected) in cases {
        let mode = tls["mode"].clone();
        let mut secret = server.secret(&tenant);
        secret["host"] = json!(host);
        secret["tls"] = tls;
        match (connect(secret).await, expected) {
            (Ok(mut connection), None) => {
                let sql =
                    "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'SSL_VERSION'";
                let used = text(&mut connection, sql).await;
                assert!(used.starts_with("TLS"), "{mode} at {host}: {used}");
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
    let mut secret = server.secret(&tenant);
    secret["tls"] = json!({"mode": "disable"});
    assert!(connect(secret).await.is_err());
}

/// One packet of MySQL's protocol.
fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// A server of MySQL 8's protocol without TLS that does what MySQL does with an account of
/// `caching_sha2_password` whose password it has not in its memory: it asks for the password
/// itself, and gives a key to encrypt it with. Gives whatever the client sends after that.
async fn asks_for_the_password_itself(listener: tokio::net::TcpListener) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.unwrap();
    // Protocol 10, a version, a connection, the salt in two pieces, capabilities (4.1, its
    // passwords, plugins for them, a database).
    let mut hello = b"\x0a8.0.36\0\x01\0\0\0saltsalt\0".to_vec();
    hello.extend(b"\x08\xa2\xff\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0caching_sha2_password\0");
    stream.write_all(&packet(0, &hello)).await.unwrap();
    let read = async |stream: &mut tokio::net::TcpStream| {
        let length = stream.read_u32_le().await.unwrap() & 0xff_ff_ff;
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        payload
    };
    let login = read(&mut stream).await;
    assert!(login.windows(4).any(|word| word == b"app\0"), "{login:?}");
    // Not known: all of the login, please.
    stream.write_all(&packet(2, &[1, 4])).await.unwrap();
    assert_eq!(read(&mut stream).await, [2]);
    let key = b"\x01-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n";
    stream.write_all(&packet(4, key)).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn a_password_is_not_sent_in_clear_text_without_tls() {
    for mode in ["disable", "prefer"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(asks_for_the_password_itself(listener));
        let secret = json!({
            "type": "mysql", "host": "127.0.0.1", "port": port, "database": "d", "username": "app", "password": "canary",
            "tls": {"mode": mode}
        });
        let error = connect(secret).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::Tls);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains("`tls.mode`") && cause.contains("`caching_sha2_password`"),
            "{cause}"
        );
        assert_eq!(server.await.unwrap(), b"", "something of the password was sent");
    }
}

#[tokio::test]
async fn a_statement_that_was_left_ends_with_its_session() {
    use futures_util::future::join_all;
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("left").await.unwrap();
    let driver = driver_with(json!({"type": "mysql"})).await;
    let config = DatabaseConfig::parse(&SecretValue::new(server.secret(&tenant))).unwrap();
    let mut connections = join_all((0..5).map(|_| async { driver.connect(&config).await.unwrap() })).await;
    let slow = Statement::from_string(DbBackend::MySql, "SELECT SLEEP(20)");
    for connection in &mut connections {
        let left = tokio::time::timeout(std::time::Duration::from_millis(100), connection.query(&slow)).await;
        assert!(left.is_err());
    }
    let began = std::time::Instant::now();
    join_all(connections.into_iter().map(|connection| connection.close())).await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let mut observer = connect(server.secret(&tenant)).await.unwrap();
    let others = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND DB = DATABASE()";
    assert_eq!(text(&mut observer, others).await, "0");
    observer.close().await;
}

/// A server that hangs keeps no session of another server from being ended.
#[tokio::test]
async fn a_silent_server_delays_no_other() {
    use std::time::Duration;
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("silent").await.unwrap();
    let driver = driver_with(json!({"type": "mysql"})).await;
    let relay = Relay::to(server.port()).await.unwrap();
    let mut left = Vec::new();
    for port in [relay.port(), server.port()] {
        let mut secret = server.secret(&tenant);
        secret["port"] = json!(port);
        let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
        let mut connection = driver.connect(&config).await.unwrap();
        let slow = Statement::from_string(DbBackend::MySql, "SELECT SLEEP(20)");
        let cut = tokio::time::timeout(Duration::from_millis(100), connection.query(&slow)).await;
        assert!(cut.is_err());
        left.push(connection);
    }
    relay.fall_silent();
    let other = left.pop().unwrap();
    let silent = tokio::spawn(left.pop().unwrap().close());
    // It is being ended, in vain.
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::timeout(Duration::from_secs(4), other.close())
        .await
        .expect("the session of another server is not ended");
    silent.abort();
}

/// The default of `max_answer` is 32 MiB. What was sent beyond that lies in the buffers of sockets,
/// which Linux lets grow up to 32 MiB and more.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_of_300_megabytes_no_more_is_read_than_fits() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("large").await.unwrap();
    let relay = Relay::to(server.port()).await.unwrap();
    let mut secret = server.secret(&tenant);
    secret["port"] = json!(relay.port());
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    let driver = driver_with(json!({"type": "mysql"})).await;
    let statement = Statement::from_string(DbBackend::MySql, "SELECT REPEAT('x', 1000000) FROM seq_1_to_300");
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

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::MySql, text)
}

/// One session waits too long for another one's lock in the middle of its transaction.
async fn waits_too_long_for_a_lock(server: &MariadbServer, nested: bool, goes_on: bool) {
    let tenant = server.create_tenant("waits").await.unwrap();
    let mut holder = connect(server.secret(&tenant)).await.unwrap();
    holder
        .execute_script("CREATE TABLE t (id bigint PRIMARY KEY, n bigint); INSERT INTO t VALUES (1, 0)")
        .await
        .unwrap();
    holder.begin(&TransactionOptions::default()).await.unwrap();
    holder.execute(&sql("UPDATE t SET n = 1 WHERE id = 1")).await.unwrap();

    let mut waiter = connect(server.secret(&tenant)).await.unwrap();
    waiter.execute_script("SET innodb_lock_wait_timeout = 1").await.unwrap();
    waiter.begin(&TransactionOptions::default()).await.unwrap();
    waiter.execute(&sql("INSERT INTO t VALUES (10, 0)")).await.unwrap();
    if nested {
        waiter.begin(&TransactionOptions::default()).await.unwrap();
    }
    let error = waiter
        .execute(&sql("UPDATE t SET n = 2 WHERE id = 1"))
        .await
        .unwrap_err();
    assert_eq!(error.code.as_deref(), Some("1205"));
    if nested {
        waiter.rollback().await.unwrap();
    }
    let next = waiter.execute(&sql("INSERT INTO t VALUES (11, 0)")).await;
    assert_eq!(next.is_ok(), goes_on);
    assert_eq!(waiter.commit().await.is_ok(), goes_on);

    holder.commit().await.unwrap();
    let kept = if goes_on { "1:1,10:0,11:0" } else { "1:1" };
    let rows = "SELECT GROUP_CONCAT(CONCAT(id, ':', n) ORDER BY id) FROM t";
    assert_eq!(text(&mut holder, rows).await, kept);
    // The session serves the next transaction.
    waiter.begin(&TransactionOptions::default()).await.unwrap();
    waiter.execute(&sql("INSERT INTO t VALUES (12, 0)")).await.unwrap();
    waiter.commit().await.unwrap();
    assert!(text(&mut holder, rows).await.ends_with("12:0"));
    holder.close().await;
    waiter.close().await;
}

#[tokio::test]
async fn a_lock_time_out_leaves_the_server_s_transaction_state() {
    let server = MariadbServer::shared().await;
    let rolls_back = MariadbServer::start_with_settings(&["--innodb-rollback-on-timeout=ON"]);
    let rolls_back = rolls_back.await.unwrap();
    for nested in [false, true] {
        waits_too_long_for_a_lock(server, nested, true).await;
        waits_too_long_for_a_lock(&rolls_back, nested, false).await;
    }
}

/// The server refuses a statement that it has to prepare anew too often. A trigger stands in for
/// it.
#[tokio::test]
async fn a_statement_that_must_be_prepared_anew_is_repeated_once() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("stale").await.unwrap();
    let create = "CREATE TABLE t (i bigint, wanted int);
        DELIMITER //
        CREATE TRIGGER stale BEFORE INSERT ON t FOR EACH ROW
          IF IFNULL(@refused, 0) < new.wanted THEN
            SET @refused = IFNULL(@refused, 0) + 1;
            SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1615;
          END IF //";
    server.sql(&tenant.database, create).await.unwrap();
    for (refused, written) in [(1, true), (2, false)] {
        let mut connection = connect(server.secret(&tenant)).await.unwrap();
        let insert = sql(&format!("INSERT INTO t VALUES (1, {refused})"));
        let failed = connection.execute(&insert).await.err().map(|error| error.kind);
        assert_eq!(failed, (!written).then_some(DatabaseErrorKind::Serialization));
        connection.close().await;
    }
    let rows = server.sql(&tenant.database, "SELECT COUNT(*) FROM t").await.unwrap();
    assert_eq!(rows, "1");
}

/// Each number of a refused write, and what it means.
#[tokio::test]
async fn numbers_of_a_server_that_takes_no_writes_are_known() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("numbers").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    connection.execute_script("CREATE TABLE t (i bigint)").await.unwrap();
    for (number, kind) in [
        (1290, DatabaseErrorKind::ReadOnly),
        (1792, DatabaseErrorKind::ReadOnly),
        (1836, DatabaseErrorKind::ReadOnly),
        (1021, DatabaseErrorKind::ReadOnly),
        (1114, DatabaseErrorKind::ReadOnly),
        (1412, DatabaseErrorKind::Serialization),
        (1146, DatabaseErrorKind::TableMissing),
        (1644, DatabaseErrorKind::ConstraintViolation),
        (1441, DatabaseErrorKind::ConstraintViolation),
        (1064, DatabaseErrorKind::Other),
        (1047, DatabaseErrorKind::Other),
    ] {
        let trigger = format!(
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}"
        );
        server.sql(&tenant.database, &trigger).await.unwrap();
        let error = connection.execute(&sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
        assert_eq!((error.kind, error.code), (kind, Some(number.to_string())));
    }
    for statement in ["EXECUTE s", "DEALLOCATE PREPARE s"] {
        let error = connection.execute_script(statement).await.unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_deref()),
            (DatabaseErrorKind::Other, Some("1243"))
        );
    }
    connection.close().await;
}

/// A message in another language, and with its words in another order, means the same.
#[tokio::test]
async fn the_language_of_messages_does_not_matter() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("languages").await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let create = "CREATE TABLE t (i bigint PRIMARY KEY, s varchar(20), UNIQUE KEY t_s_key (s)); INSERT INTO t VALUES (1, 'taken')";
    connection.execute_script(create).await.unwrap();
    for language in [
        "de_DE", "fr_FR", "hu_HU", "ja_JP", "ru_RU", "zh_CN", "ka_GE", "el_GR", "sr_RS",
    ] {
        let set = format!("SET lc_messages = '{language}'");
        connection.execute_script(&set).await.unwrap();
        for (insert, key) in [
            ("INSERT INTO t VALUES (1, 'new')", "PRIMARY"),
            ("INSERT INTO t VALUES (2, 'taken')", "t_s_key"),
        ] {
            let error = connection.execute(&sql(insert)).await.unwrap_err();
            assert_eq!(error.kind, DatabaseErrorKind::UniqueViolation, "{language}");
            assert_eq!(error.constraint().as_deref(), Some(key), "{language}");
        }
    }
    connection.close().await;
}

/// The limit of a user, of all users together, and of a user in an hour.
#[tokio::test]
async fn every_limit_of_connections_is_known_as_one() {
    let server = MariadbServer::start_with_settings(&["--max-connections=10"])
        .await
        .unwrap();
    for limit in ["MAX_USER_CONNECTIONS 1", "MAX_CONNECTIONS_PER_HOUR 1", ""] {
        let tenant = server.create_tenant("limited").await.unwrap();
        let most = if limit.is_empty() { 10 } else { 1 };
        if !limit.is_empty() {
            let alter = format!("ALTER USER '{}'@'%' WITH {limit}", tenant.user);
            server.sql("mysql", &alter).await.unwrap();
        }
        let mut open = Vec::new();
        let error = loop {
            match connect(server.secret(&tenant)).await {
                Ok(connection) => open.push(connection),
                Err(error) => break error,
            }
        };
        let expected = match limit {
            "" => DriverErrorKind::TooManyConnections,
            _ => DriverErrorKind::ConnectionLimit,
        };
        assert_eq!(error.kind, expected, "{limit}");
        assert!(open.len() <= most, "{limit}: {}", open.len());
        for connection in open {
            connection.close().await;
        }
    }
}

#[tokio::test]
async fn a_user_who_may_send_no_more_statements_is_over_a_limit() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("hourly").await.unwrap();
    let alter = format!("ALTER USER '{}'@'%' WITH MAX_QUERIES_PER_HOUR 20", tenant.user);
    server.sql("mysql", &alter).await.unwrap();
    let mut connection = connect(server.secret(&tenant)).await.unwrap();
    let mut sent = 0;
    let error = loop {
        match connection.execute_script("DO 1").await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent <= 20);
    };
    let limited = DatabaseErrorKind::Connect(DriverErrorKind::ConnectionLimit);
    assert_eq!((error.kind, error.code.as_deref()), (limited, Some("1226")));
    connection.close().await;
}

/// To close one of them for another costs 40 ms, since nothing acknowledges it sooner.
#[tokio::test]
async fn prepared_statements_are_closed_before_there_are_too_many() {
    const COUNTED: &str = "SELECT CAST(GROUP_CONCAT(variable_value ORDER BY variable_name DESC) AS char) \
        FROM information_schema.session_status WHERE variable_name IN ('COM_STMT_PREPARE', 'COM_STMT_CLOSE')";
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("statements").await.unwrap();
    let selected = |number: i32| format!("SELECT CAST({number} AS char)");
    for way in ["alone", "in a transaction", "as a stream"] {
        let mut connection = connect(server.secret(&tenant)).await.unwrap();
        // What fits is prepared once.
        for number in (0..90).chain(0..90) {
            text(&mut connection, &selected(number)).await;
        }
        let counts = text(&mut connection, COUNTED).await;
        assert_eq!(counts, "91,0", "{way}");
        for number in 100..230 {
            match way {
                "in a transaction" => {
                    connection.begin(&TransactionOptions::default()).await.unwrap();
                    text(&mut connection, &selected(number)).await;
                    connection.commit().await.unwrap();
                }
                "as a stream" => {
                    let statement = Statement::from_string(DbBackend::MySql, selected(number));
                    assert_eq!(connection.stream(&statement).count().await, 1);
                }
                _ => drop(text(&mut connection, &selected(number)).await),
            }
        }
        // Twice all of more than a hundred.
        let counts = text(&mut connection, COUNTED).await;
        assert_eq!(counts, "222,202", "{way}");
        connection.close().await;
    }
}
