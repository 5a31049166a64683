//! The driver `postgresql` behind a real PgBouncer in transaction mode.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future::join_all};
use sea_orm::{DbBackend, IsolationLevel, Statement, TransactionOptions};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverErrorKind,
    Registry, SecretValue,
    conformance::driver::{DriverFixture, MAX_ANSWER, STATEMENT_TIMEOUT, run},
};
use tenantry_drivers::PostgresqlDriver;
use tenantry_test_support::{PgBouncer, PostgresServer, TenantDb, free_port};

async fn driver(more: Value) -> Arc<dyn DatabaseDriver> {
    let mut registry = Registry::new();
    registry.driver::<PostgresqlDriver>();
    let mut mapping = json!({
        "type": "postgresql",
        "statement_timeout": format!("{}ms", STATEMENT_TIMEOUT.as_millis()),
        "max_answer": MAX_ANSWER,
    });
    for (name, value) in more.as_object().unwrap() {
        mapping[name] = value.clone();
    }
    let context = BuildContext::for_tests(Registry::new());
    registry.build_driver(mapping, &context).await.unwrap()
}

/// Held by one test of many clients at a time, and by the one that measures time limits, which
/// would wait for the processor beside them.
static BUSY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A tenant of a server that is reached through a pooler with so many sessions.
struct Pooled {
    server: &'static PostgresServer,
    pgbouncer: PgBouncer,
    tenant: TenantDb,
    silent: u16,
}

impl Pooled {
    async fn start(sessions: usize) -> Self {
        let server = PostgresServer::shared().await;
        let size = format!("default_pool_size = {sessions}");
        Self {
            server,
            pgbouncer: PgBouncer::start(server, &size).await.unwrap(),
            tenant: server.create_tenant("pooled").await.unwrap(),
            silent: free_port().unwrap(),
        }
    }

    async fn connect(&self) -> Box<dyn Connection> {
        self.connect_with(json!({})).await
    }

    async fn connect_with(&self, changes: Value) -> Box<dyn Connection> {
        let config = DatabaseConfig::parse(&SecretValue::new(self.with(changes))).unwrap();
        driver(json!({})).await.connect(&config).await.unwrap()
    }

    fn with(&self, changes: Value) -> Value {
        let mut secret = self.pgbouncer.secret(&self.tenant);
        for (name, value) in changes.as_object().unwrap() {
            secret[name] = value.clone();
        }
        secret
    }

    /// Runs SQL on the tenant's database, not through the pooler.
    async fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.tenant.database, sql).await.unwrap()
    }

    /// How many sessions of the server the tenant has.
    async fn sessions(&self) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'",
            self.tenant.user
        );
        self.psql(&sql).await.parse().unwrap()
    }
}

#[async_trait]
impl DriverFixture for Pooled {
    fn secret(&self) -> Value {
        self.with(json!({}))
    }

    fn wrong_password(&self) -> Option<Value> {
        Some(self.with(json!({"password": "canary-wrong"})))
    }

    fn unreachable(&self) -> Option<Value> {
        Some(self.with(json!({"port": self.silent})))
    }

    fn tls_refused(&self) -> Option<Value> {
        Some(self.with(json!({"tls": {"mode": "require"}})))
    }

    fn database_missing(&self) -> Option<Value> {
        None
    }

    async fn end_sessions(&self) -> bool {
        self.pgbouncer.restart().await.unwrap();
        true
    }

    fn slow_statement(&self) -> &'static str {
        "SELECT pg_sleep(30)"
    }
}

fn sql(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

fn with<const N: usize>(sql: &str, values: [i64; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values.map(Into::into))
}

async fn text(connection: &mut Box<dyn Connection>, query: &str) -> String {
    let row = connection.query_one(&sql(query)).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

fn kind<T>(outcome: Result<T, DatabaseError>) -> DatabaseErrorKind {
    outcome.err().expect("the statement fails").kind
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let _alone = BUSY.lock().await;
    let fixture = Pooled::start(4).await;
    run(driver(json!({})).await, &fixture).await;
}

/// What one client does in each round; each round writes four rows.
async fn one_round(connection: &mut Box<dyn Connection>, id: i64) -> Result<(), DatabaseError> {
    let insert = "INSERT INTO written (id, mood) VALUES ($1, 'glad')";
    connection.execute(&with(insert, [id])).await?;
    let returned = connection
        .query_one(&with(&format!("{insert} RETURNING id"), [id + 1]))
        .await?;
    assert_eq!(returned.unwrap().try_get_by_index::<i64>(0).unwrap(), id + 1);

    // A text of its own for each client's turn, so that a mistaken statement shows.
    let select = format!("SELECT id, mood::text, {id}::bigint AS own FROM written WHERE id = $1");
    let row = connection.query_one(&with(&select, [id])).await?.unwrap();
    assert_eq!(row.try_get::<i64>("", "own").unwrap(), id);
    assert_eq!(row.try_get::<String>("", "mood").unwrap(), "glad");

    let options = TransactionOptions {
        isolation_level: Some(IsolationLevel::RepeatableRead),
        ..Default::default()
    };
    connection.begin(&options).await?;
    connection.execute(&with(insert, [id + 2])).await?;
    connection.begin(&TransactionOptions::default()).await?;
    connection.execute(&with(insert, [id + 4])).await?;
    let taken = connection.execute(&with(insert, [id])).await;
    assert_eq!(kind(taken), DatabaseErrorKind::UniqueViolation);
    connection.rollback().await?;
    connection.execute(&with(insert, [id + 3])).await?;
    connection.commit().await?;

    let statement = with("SELECT g FROM generate_series($1::bigint, $1 + 99) g", [id]);
    let mut sum = 0;
    let mut rows = connection.stream(&statement);
    while let Some(row) = rows.next().await {
        sum += row?.try_get_by_index::<i64>(0).unwrap() - id;
    }
    assert_eq!(sum, 4950);
    drop(rows);
    let taken = connection.execute(&with(insert, [id])).await;
    assert_eq!(kind(taken), DatabaseErrorKind::UniqueViolation);
    Ok(())
}

/// So many calls on the connection are in a round.
const CALLS: usize = 13;

async fn sixteen_clients_lose_and_double_nothing(sessions: usize) {
    const CLIENTS: i64 = 16;
    const ROUNDS: i64 = 60;
    let _alone = BUSY.lock().await;
    let pooled = &Pooled::start(sessions).await;
    // One that a busy machine keeps.
    let patient = || pooled.connect_with(json!({"query": {"timeout": "30s"}}));
    patient()
        .await
        .execute_script("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE written (id bigint PRIMARY KEY, mood mood)")
        .await
        .unwrap();
    let clients = (0..CLIENTS).map(|client| async move {
        let mut connection = patient().await;
        for round in 0..ROUNDS {
            let id = (client * ROUNDS + round) * 5;
            one_round(&mut connection, id).await.unwrap();
        }
        let zone = text(&mut connection, "SHOW TimeZone").await;
        let limit = text(&mut connection, "SHOW statement_timeout").await;
        assert_eq!((zone.as_str(), limit.as_str()), ("UTC", "30s"));
        connection.close().await;
    });
    join_all(clients).await;
    let counted = pooled
        .psql("SELECT count(*), count(*) FILTER (WHERE id % 5 = 4) FROM written")
        .await;
    assert_eq!(counted, format!("{}|0", CLIENTS * ROUNDS * 4));
    let shared = pooled.sessions().await;
    assert!((1..=sessions).contains(&shared), "{shared} sessions were shared");
    let calls = CLIENTS as usize * ROUNDS as usize * CALLS;
    println!("{calls} calls of {CLIENTS} clients on {shared} sessions: no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_lose_and_double_nothing_on_two_sessions() {
    sixteen_clients_lose_and_double_nothing(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_lose_and_double_nothing_on_four_sessions() {
    sixteen_clients_lose_and_double_nothing(4).await;
}

#[tokio::test]
async fn every_transaction_has_the_settings_of_its_own_secret() {
    let pooled = Pooled::start(1).await;
    // The server's session belongs to both in turns.
    let mut one = pooled.connect().await;
    let mut other = pooled.connect_with(json!({"query": {"timeout": "700ms"}})).await;
    for _ in 0..3 {
        for (connection, limit) in [(&mut one, "2s"), (&mut other, "700ms")] {
            let settings = [
                ("TimeZone", "UTC"),
                ("client_encoding", "UTF8"),
                ("DateStyle", "ISO, MDY"),
                ("statement_timeout", limit),
                ("client_connection_check_interval", "500ms"),
            ];
            for (name, value) in settings {
                let query = format!("SELECT current_setting('{name}')");
                assert_eq!(text(connection, &query).await, value, "{name}");
            }
            connection
                .execute_script(
                    "CREATE TABLE IF NOT EXISTS s (v text); INSERT INTO s SELECT current_setting('statement_timeout')",
                )
                .await
                .unwrap();
            assert_eq!(text(connection, "DELETE FROM s RETURNING v").await, limit);
            connection.begin(&TransactionOptions::default()).await.unwrap();
            assert_eq!(text(connection, "SHOW statement_timeout").await, limit);
            connection.commit().await.unwrap();
        }
    }
    let before = Instant::now();
    let slow = other.execute_script("SELECT 1; SELECT pg_sleep(30)").await;
    assert_eq!(kind(slow), DatabaseErrorKind::StatementTimeout);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    // Nothing of them is left in the session.
    assert_eq!(pooled.sessions().await, 1);
    let admin = driver(json!({"statement_timeout": null})).await;
    let config = DatabaseConfig::parse(&SecretValue::new(pooled.with(json!({})))).unwrap();
    let mut third = admin.connect(&config).await.unwrap();
    assert_eq!(text(&mut third, "SHOW statement_timeout").await, "0");
}

#[tokio::test]
async fn the_driver_says_it_for_secrets_that_do_not() {
    let pooled = Pooled::start(1).await;
    let mut secret = pooled.with(json!({}));
    secret.as_object_mut().unwrap().remove("pooler");
    let config = DatabaseConfig::parse(&SecretValue::new(secret.clone())).unwrap();
    let driver = driver(json!({"pooler": "transaction"})).await;
    let mut connection = driver.connect(&config).await.unwrap();
    assert_eq!(text(&mut connection, "SHOW statement_timeout").await, "2s");
    secret["pooler"] = json!("none");
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    // PgBouncer does not know the start-up options that are sent then.
    let error = driver.connect(&config).await.err().unwrap();
    assert_eq!(error.kind, DriverErrorKind::Invalid);
    assert!(error.source().unwrap().to_string().contains("`pooler`"), "{error:?}");
}

#[tokio::test]
async fn a_pooler_that_keeps_sessions_needs_no_word_of_it() {
    let server = PostgresServer::shared().await;
    // As the documentation has it for `pool_mode = session`.
    let settings = "pool_mode = session\nignore_startup_parameters = extra_float_digits,options";
    let pgbouncer = PgBouncer::start(server, settings).await.unwrap();
    let tenant = server.create_tenant("kept").await.unwrap();
    let limit = format!("ALTER ROLE \"{}\" SET statement_timeout = '2s'", tenant.user);
    server.psql("postgres", &limit).await.unwrap();
    let mut secret = pgbouncer.secret(&tenant);
    secret["pooler"] = json!("none");
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    let mut connection = driver(json!({})).await.connect(&config).await.unwrap();
    for _ in 0..2 {
        assert_eq!(text(&mut connection, "SHOW statement_timeout").await, "2s");
        assert_eq!(text(&mut connection, "SHOW TimeZone").await, "UTC");
    }
    connection.close().await;
}

#[tokio::test]
async fn a_commit_that_breaks_a_rule_is_an_error_of_its_statement() {
    let pooled = Pooled::start(2).await;
    let mut connection = pooled.connect().await;
    let tables = "CREATE TABLE p (id bigint PRIMARY KEY);
        CREATE TABLE c (id bigint REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)";
    connection.execute_script(tables).await.unwrap();
    let insert = with("INSERT INTO c (id) VALUES ($1)", [1]);
    assert_eq!(
        kind(connection.execute(&insert).await),
        DatabaseErrorKind::ForeignKeyViolation
    );
    let returning = with("INSERT INTO c (id) VALUES ($1) RETURNING id", [1]);
    assert_eq!(
        kind(connection.query(&returning).await),
        DatabaseErrorKind::ForeignKeyViolation
    );
    let rows: Vec<_> = connection.stream(&returning).collect().await;
    assert!(rows.len() == 2 && rows[0].is_ok() && rows[1].is_err());
    assert_eq!(pooled.psql("SELECT count(*) FROM c").await, "0");
    connection
        .execute(&with("INSERT INTO p (id) VALUES ($1)", [1]))
        .await
        .unwrap();
    connection.execute(&insert).await.unwrap();
}

/// Makes each commit of a row of `slow` take ten seconds.
const SLOW_COMMIT: &str = "CREATE TABLE slow (id bigint);
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER t AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()";

#[tokio::test]
async fn a_commit_that_is_lost_leaves_the_outcome_open() {
    let pooled = Pooled::start(2).await;
    let end_session = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}' AND query = 'COMMIT'",
        pooled.tenant.user
    );
    pooled.connect().await.execute_script(SLOW_COMMIT).await.unwrap();
    for by_the_pooler in [false, true] {
        let mut connection = pooled.connect_with(json!({"query": {"timeout": "20s"}})).await;
        let insert = with("INSERT INTO slow (id) VALUES ($1)", [1]);
        let lose = async {
            while pooled
                .psql("SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'")
                .await
                == "0"
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match by_the_pooler {
                true => pooled.pgbouncer.restart().await.unwrap(),
                false => drop(pooled.psql(&end_session).await),
            }
        };
        let (outcome, ()) = tokio::join!(connection.execute(&insert), lose);
        assert_eq!(kind(outcome), DatabaseErrorKind::ConnectionLost);
        connection.close().await;
    }
}

#[tokio::test]
async fn a_statement_that_finds_no_session_in_time_had_no_effect() {
    let pooled = Pooled::start(1).await;
    let mut holder = pooled.connect().await;
    holder.execute_script("CREATE TABLE t (id bigint)").await.unwrap();
    let mut waiting = pooled.connect_with(json!({"query": {"timeout": "300ms"}})).await;
    holder.begin(&TransactionOptions::default()).await.unwrap();
    let insert = with("INSERT INTO t (id) VALUES ($1)", [1]);
    assert_eq!(kind(waiting.execute(&insert).await), DatabaseErrorKind::PoolTimeout);
    waiting.close().await;
    holder.commit().await.unwrap();
    assert_eq!(text(&mut holder, "SELECT count(*)::text FROM t").await, "0");
}

#[tokio::test]
async fn a_statement_that_cannot_run_in_a_transaction_runs_alone() {
    let pooled = Pooled::start(2).await;
    let mut connection = pooled.connect().await;
    connection
        .execute_script("CREATE TABLE t (id bigint); CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (1); COMMIT; END'")
        .await
        .unwrap();
    for alone in ["VACUUM t", "CREATE INDEX CONCURRENTLY i ON t (id);", "CALL p()"] {
        connection.execute_script(alone).await.unwrap();
    }
    assert_eq!(text(&mut connection, "SELECT count(*)::text FROM t").await, "1");
    // Of several nothing is done twice.
    let several = connection
        .execute_script("BEGIN; INSERT INTO t VALUES (2); COMMIT; VACUUM t")
        .await;
    assert_eq!(several.unwrap_err().code.as_deref(), Some("25001"));
    connection.close().await;
    assert_eq!(pooled.psql("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn an_abandoned_statement_ends_at_the_server() {
    let pooled = Pooled::start(2).await;
    let mut connection = pooled.connect_with(json!({"query": {"timeout": "1m"}})).await;
    let slow = sql("SELECT pg_sleep(50)");
    let abandoned = tokio::time::timeout(Duration::from_millis(300), connection.query(&slow)).await;
    assert!(abandoned.is_err());
    connection.close().await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while pooled.sessions().await > 0 {
        assert!(Instant::now() < deadline, "the statement goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
