//! The driver `oracle` on the stand-in for Oracle's client library (`tests/oracle-client`), which
//! runs its SQL on a real PostgreSQL; with `TENANTRY_TEST_ORACLE_URL`
//! (`oracle://system:password@127.0.0.1:1521/FREEPDB1`) on a real Oracle, with the client library
//! that is installed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter, QueryResult, QuerySelect, QueryTrait, Statement,
    StatementBuilder, TransactionOptions,
    prelude::{DateTimeUtc, Decimal},
    sea_query::OnConflict,
};
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError, DriverErrorKind,
    MigrationLock, Plugin, Registry, SecretValue,
    conformance::driver::{DriverFixture, MAX_ANSWER, STATEMENT_TIMEOUT, run},
};
use tenantry_oracle::OracleDriver;
use tenantry_test_support::{OracleServer, TenantDb, free_port, record_case};

async fn driver() -> Arc<dyn DatabaseDriver> {
    let mut registry = Registry::new();
    registry.driver::<OracleDriver>();
    let mut mapping = json!({"type": "oracle", "statement_timeout": format!("{}ms", STATEMENT_TIMEOUT.as_millis()), "max_answer": MAX_ANSWER});
    if let Some(folder) = OracleServer::shared().await.client_library() {
        mapping["client_library"] = json!(folder);
    }
    let context = BuildContext::for_tests(Registry::new());
    registry.build_driver(mapping, &context).await.unwrap()
}

async fn connect(secret: Value) -> Result<Box<dyn Connection>, DriverError> {
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    driver().await.connect(&config).await
}

/// A tenant of its own.
async fn database(name: &str) -> Server {
    let oracle = OracleServer::shared().await;
    Server {
        oracle,
        tenant: oracle.create_tenant(name).await.unwrap(),
        silent: free_port().unwrap(),
    }
}

struct Server {
    oracle: &'static OracleServer,
    tenant: TenantDb,
    silent: u16,
}

impl Server {
    fn with(&self, changes: Value) -> Option<Value> {
        let mut secret = self.secret();
        for (name, value) in changes.as_object().unwrap() {
            secret[name] = value.clone();
        }
        Some(secret)
    }
}

#[async_trait]
impl DriverFixture for Server {
    fn secret(&self) -> Value {
        self.oracle.secret(&self.tenant)
    }

    fn wrong_password(&self) -> Option<Value> {
        self.with(json!({"password": "canary-wrong"}))
    }

    fn unreachable(&self) -> Option<Value> {
        self.with(json!({"host": "127.0.0.1", "port": self.silent}))
    }

    fn tls_refused(&self) -> Option<Value> {
        self.with(json!({"tls": {"mode": "require"}}))
    }

    fn database_missing(&self) -> Option<Value> {
        self.with(json!({"database": "absent"}))
    }

    async fn end_sessions(&self) -> bool {
        self.oracle.end_sessions(&self.tenant).await.unwrap();
        true
    }

    fn slow_statement(&self) -> &'static str {
        "WITH d AS (SELECT 1 AS x UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6
           UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9 UNION ALL SELECT 10)
         SELECT COUNT(*) AS n FROM d AS a CROSS JOIN d AS b CROSS JOIN d AS c CROSS JOIN d AS e CROSS JOIN d AS f CROSS JOIN d AS g
           CROSS JOIN d AS h CROSS JOIN d AS i CROSS JOIN d AS j CROSS JOIN d AS k"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let fixture = database("conformance").await;
    for case in run(driver().await, &fixture).await {
        let outcome = if case.applies { "ok" } else { "does not apply" };
        record_case("oracle", case.group, &case.name, outcome);
    }
}

/// The table `users` as the migration makes it, and the entity of the users API.
#[allow(missing_docs, unreachable_pub)]
mod users {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub name: String,
        pub email: String,
        pub created_at: DateTimeUtc,
        pub updated_at: DateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const CREATE: &str = include_str!("../../../migrations/oracle/0001_create_users.sql");
const SAMPLES: &str = include_str!("../../../migrations/oracle/0002_sample_users.sql");

struct Session(Box<dyn Connection>);

impl Session {
    async fn of(server: &Server) -> Self {
        Self(connect(server.secret()).await.unwrap())
    }

    /// With the table of users, empty.
    async fn with_users(server: &Server) -> Self {
        let mut session = Self::of(server).await;
        session.script("DROP TABLE IF EXISTS users").await;
        session.script(CREATE).await;
        session
    }

    async fn script(&mut self, sql: &str) {
        self.0.execute_script(sql).await.unwrap_or_else(told);
    }

    async fn query<S: StatementBuilder>(&mut self, statement: &S) -> Vec<QueryResult> {
        self.0
            .query(&DbBackend::Postgres.build(statement))
            .await
            .unwrap_or_else(told)
    }

    async fn execute<S: StatementBuilder>(&mut self, statement: &S) -> u64 {
        let statement = DbBackend::Postgres.build(statement);
        self.0.execute(&statement).await.unwrap_or_else(told).rows_affected()
    }

    async fn sql(&mut self, sql: &str) -> Vec<QueryResult> {
        self.0
            .query(&Statement::from_string(DbBackend::Postgres, sql))
            .await
            .unwrap_or_else(told)
    }

    async fn count(&mut self) -> i64 {
        self.sql("SELECT COUNT(*) AS n FROM users").await[0]
            .try_get("", "n")
            .unwrap()
    }
}

/// A test may print what the database says; a server may not.
fn told<T>(error: tenantry_core::DatabaseError) -> T {
    panic!(
        "{error}: {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );
}

fn now() -> DateTimeUtc {
    "2026-01-02T03:04:05.678901Z".parse().unwrap()
}

fn user(name: &str) -> users::ActiveModel {
    users::ActiveModel {
        id: NotSet,
        name: Set(name.to_owned()),
        email: Set(format!("{name}@example.com")),
        created_at: Set(now()),
        updated_at: Set(now()),
    }
}

fn returning_id() -> sea_orm::sea_query::ReturningClause {
    sea_orm::sea_query::Query::returning().columns([users::Column::Id])
}

#[tokio::test]
async fn the_users_of_a_tenant_are_written_and_read_by_their_entity() {
    let server = database("users").await;
    let mut session = Session::with_users(&server).await;
    let insert = users::Entity::insert(user("john"))
        .into_query()
        .returning(returning_id())
        .to_owned();
    let id: i64 = session.query(&insert).await[0].try_get("", "id").unwrap();
    assert!(id > 0);
    let find = users::Entity::find().filter(users::Column::Id.eq(id)).into_query();
    let read = users::Model::from_query_result(&session.query(&find).await[0], "").unwrap();
    let john = users::Model {
        id,
        name: "john".to_owned(),
        email: "john@example.com".to_owned(),
        created_at: now(),
        updated_at: now(),
    };
    assert_eq!(read, john);
    let all = sea_orm::sea_query::Query::returning().columns([
        users::Column::Id,
        users::Column::Name,
        users::Column::Email,
        users::Column::CreatedAt,
        users::Column::UpdatedAt,
    ]);
    let update = users::Entity::update_many()
        .col_expr(users::Column::Name, sea_orm::sea_query::Expr::value("ünï🦀"))
        .filter(users::Column::Id.eq(id))
        .into_query()
        .returning(all.clone())
        .to_owned();
    let updated = users::Model::from_query_result(&session.query(&update).await[0], "").unwrap();
    assert_eq!(
        updated,
        users::Model {
            name: "ünï🦀".to_owned(),
            ..john
        }
    );
    let nobody = users::Entity::update_many()
        .col_expr(users::Column::Name, sea_orm::sea_query::Expr::value("x"))
        .filter(users::Column::Id.eq(id + 1))
        .into_query()
        .returning(all)
        .to_owned();
    assert!(session.query(&nobody).await.is_empty());
    let taken = users::Entity::insert(user("JOHN")).into_query();
    let error = session.0.execute(&DbBackend::Postgres.build(&taken)).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::UniqueViolation);
    let delete = users::Entity::delete_many()
        .filter(users::Column::Id.eq(id))
        .into_query();
    assert_eq!((session.execute(&delete).await, session.execute(&delete).await), (1, 0));
    session.0.close().await;
}

#[tokio::test]
async fn pages_counts_and_tuples_are_right() {
    let server = database("pages").await;
    let mut session = Session::with_users(&server).await;
    let many = users::Entity::insert_many((0..7).map(|n| user(&format!("user{n}")))).into_query();
    assert_eq!(session.execute(&many).await, 7);
    assert_eq!(session.count().await, 7);
    let page = users::Entity::find()
        .filter(users::Column::Name.gt("user1"))
        .limit(3)
        .offset(1)
        .into_query();
    let names: Vec<String> = session
        .query(&page)
        .await
        .iter()
        .map(|row| row.try_get("", "name").unwrap())
        .collect();
    assert_eq!(names, ["user3", "user4", "user5"]);
    let tuple = session
        .sql("SELECT name, email, 1, id > 0, MAX(id) FROM users WHERE name = 'user6' GROUP BY name, email, id")
        .await;
    let (name, email, one, positive, id): (String, String, i32, bool, i64) = tuple[0].try_get_many_by_index().unwrap();
    assert_eq!(
        (name.as_str(), email.as_str(), one, positive),
        ("user6", "user6@example.com", 1, true)
    );
    assert!(id > 0);
    let sums = session
        .sql("SELECT SUM(id) AS whole, AVG(id) AS half, CAST(COUNT(*) AS integer) AS few FROM users")
        .await;
    assert!(sums[0].try_get::<Decimal>("", "whole").unwrap() > Decimal::ZERO);
    sums[0].try_get::<Decimal>("", "half").unwrap();
    assert_eq!(sums[0].try_get::<i32>("", "few").unwrap(), 7);
    let like = session
        .sql("SELECT id FROM users WHERE email ILIKE 'USER_@%' AND name NOT LIKE '%6'")
        .await;
    assert_eq!(like.len(), 6);
    session.0.close().await;
}

#[tokio::test]
async fn several_rows_that_give_something_back_stand_or_fall_together() {
    let server = database("several").await;
    let mut session = Session::with_users(&server).await;
    let insert = |names: &[&str]| {
        users::Entity::insert_many(names.iter().map(|name| user(name)))
            .into_query()
            .returning(returning_id())
            .to_owned()
    };
    let ids: Vec<i64> = session
        .query(&insert(&["a", "b", "c"]))
        .await
        .iter()
        .map(|row| row.try_get("", "id").unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.is_sorted());
    let failing = DbBackend::Postgres.build(&insert(&["d", "a", "e"]));
    assert_eq!(
        session.0.query(&failing).await.unwrap_err().kind,
        DatabaseErrorKind::UniqueViolation
    );
    assert_eq!(session.count().await, 3);
    session.0.begin(&TransactionOptions::default()).await.unwrap();
    session.query(&insert(&["f"])).await;
    assert_eq!(
        session.0.query(&failing).await.unwrap_err().kind,
        DatabaseErrorKind::UniqueViolation
    );
    session.0.commit().await.unwrap();
    assert_eq!(session.count().await, 4);
    session.0.close().await;
}

/// More than a `BigInt` holds.
const GREAT: &str = "1000000000000000000000000000000";

#[tokio::test]
async fn a_change_whose_returned_value_cannot_be_read_is_undone() {
    let server = database("unread").await;
    let mut session = Session::of(&server).await;
    session
        .script("DROP TABLE IF EXISTS unread; CREATE TABLE unread (id NUMBER(38))")
        .await;
    let insert = format!("INSERT INTO unread (id) VALUES ({GREAT}) RETURNING id");
    let insert = Statement::from_string(DbBackend::Postgres, insert);
    for _ in 0..2 {
        session.0.query(&insert).await.unwrap_err();
        let rows = session.sql("SELECT COUNT(*) AS n FROM unread").await;
        assert_eq!(rows[0].try_get::<i64>("", "n").unwrap(), 0);
    }
    let small = session.sql("INSERT INTO unread (id) VALUES (7) RETURNING id").await;
    assert_eq!(small[0].try_get::<i64>("", "id").unwrap(), 7);
    let mut other = Session::of(&server).await;
    let rows = other.sql("SELECT id FROM unread").await;
    assert_eq!(rows[0].try_get::<i64>("", "id").unwrap(), 7);
    other.0.close().await;
    session.0.close().await;
}

#[tokio::test]
async fn a_number_beyond_its_column_s_type_is_read() {
    let server = database("beyond").await;
    let mut session = Session::of(&server).await;
    session
        .script("DROP TABLE IF EXISTS beyond; CREATE TABLE beyond (small NUMBER(5, 0), whole NUMBER(10, 0))")
        .await;
    let great = "INSERT INTO beyond (small, whole) VALUES (40000, 3000000000) RETURNING small, whole";
    let select = "SELECT small, whole FROM beyond";
    for sql in [great, select] {
        let row = session.sql(sql).await.remove(0);
        let numbers: (i64, i64) = row.try_get_many_by_index().unwrap();
        assert_eq!(numbers, (40_000, 3_000_000_000), "{sql}");
    }
    session.script("DELETE FROM beyond").await;
    let fitting = "INSERT INTO beyond (small, whole) VALUES (32767, -2147483648) RETURNING small, whole";
    let row = session.sql(fitting).await.remove(0);
    let numbers: (i16, i32) = row.try_get_many_by_index().unwrap();
    assert_eq!(numbers, (i16::MAX, i32::MIN));
    session.0.close().await;
}

#[tokio::test]
async fn a_failed_read_for_update_locks_nothing() {
    let server = database("unlocked").await;
    let mut session = Session::of(&server).await;
    let create = "DROP TABLE IF EXISTS unlocked; CREATE TABLE unlocked (id NUMBER(38))";
    session
        .script(&format!("{create}; INSERT INTO unlocked (id) VALUES ({GREAT})"))
        .await;
    let select = Statement::from_string(DbBackend::Postgres, "SELECT id FROM unlocked FOR UPDATE");
    session.0.query(&select).await.unwrap_err();
    let mut other = Session::of(&server).await;
    let update = Statement::from_string(DbBackend::Postgres, "UPDATE unlocked SET id = 1");
    assert_eq!(other.0.execute(&update).await.unwrap_or_else(told).rows_affected(), 1);
    other.0.close().await;
    session.0.close().await;
}

#[tokio::test]
async fn a_change_that_was_cut_off_may_have_been_committed() {
    let server = database("cut_off").await;
    let mut holder = Session::of(&server).await;
    let create = "DROP TABLE IF EXISTS held; CREATE TABLE held (id NUMBER(19))";
    holder
        .script(&format!("{create}; INSERT INTO held (id) VALUES (1)"))
        .await;
    let update = Statement::from_string(DbBackend::Postgres, "UPDATE held SET id = 2");
    holder.0.begin(&TransactionOptions::default()).await.unwrap();
    holder.0.execute(&update).await.unwrap_or_else(told);
    let mut session = Session::of(&server).await;
    let error = session.0.execute(&update).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::NoAnswer);
    session.0.close().await;
    // Nothing is committed within a transaction.
    let mut session = Session::of(&server).await;
    session.0.begin(&TransactionOptions::default()).await.unwrap();
    let error = session.0.execute(&update).await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::StatementTimeout);
    session.0.close().await;
    holder.0.close().await;
}

#[tokio::test]
async fn a_conflict_updates_or_does_nothing() {
    let server = database("conflict").await;
    let mut session = Session::of(&server).await;
    session
        .script("DROP TABLE IF EXISTS marks; CREATE TABLE marks (id NUMBER(19) PRIMARY KEY, mark VARCHAR2(20 CHAR))")
        .await;
    let mark = |conflict: &mut OnConflict, text: &str| {
        sea_orm::sea_query::Query::insert()
            .into_table("marks")
            .columns(["id", "mark"])
            .values_panic([1i64.into(), text.into()])
            .on_conflict(conflict.to_owned())
            .returning(sea_orm::sea_query::Query::returning().columns(["id", "mark"]))
            .to_owned()
    };
    let read = |rows: Vec<QueryResult>| rows.first().map(|row| row.try_get::<String>("", "mark").unwrap());
    let update = |text| mark(OnConflict::column("id").update_column("mark"), text);
    let nothing = |text| mark(OnConflict::column("id").do_nothing(), text);
    assert_eq!(read(session.query(&nothing("first")).await).as_deref(), Some("first"));
    assert_eq!(read(session.query(&nothing("second")).await), None);
    assert_eq!(read(session.query(&update("third")).await).as_deref(), Some("third"));
    let row = session.sql("SELECT mark FROM marks").await;
    assert_eq!(row[0].try_get::<String>("", "mark").unwrap(), "third");
    session.0.close().await;
}

#[tokio::test]
async fn what_oracle_cannot_do_is_refused_and_the_session_goes_on() {
    let server = database("refused").await;
    let mut session = Session::with_users(&server).await;
    for sql in [
        "SELECT DISTINCT ON (name) name FROM users",
        "SELECT no_such_function(id) FROM users",
        "BEGIN",
    ] {
        let error = session
            .0
            .query(&Statement::from_string(DbBackend::Postgres, sql))
            .await
            .unwrap_err();
        assert_eq!(error.kind, DatabaseErrorKind::Unsupported, "{sql}");
    }
    assert_eq!(session.count().await, 0);
    session.0.close().await;
}

#[tokio::test]
async fn an_empty_text_is_null_in_a_varchar2_and_kept_in_a_clob() {
    let server = database("empty").await;
    let mut session = Session::of(&server).await;
    session
        .script("DROP TABLE IF EXISTS texts; CREATE TABLE texts (id NUMBER(19), short VARCHAR2(20), long_text CLOB)")
        .await;
    let insert = sea_orm::sea_query::Query::insert()
        .into_table("texts")
        .columns(["id", "short", "long_text"])
        .values_panic([1i64.into(), "".into(), "".into()])
        .to_owned();
    session.execute(&insert).await;
    let row = session.sql("SELECT short, long_text FROM texts").await;
    assert_eq!(row[0].try_get::<Option<String>>("", "short").unwrap(), None);
    assert_eq!(
        row[0].try_get::<Option<String>>("", "long_text").unwrap().as_deref(),
        Some("")
    );
    session.0.close().await;
}

#[tokio::test]
async fn the_migrations_bear_being_run_again() {
    let server = database("migrations").await;
    let mut session = Session::with_users(&server).await;
    session.script(CREATE).await;
    session.script(&SAMPLES.replace("{{tenant}}", "acme")).await;
    assert_eq!(session.count().await, 3);
    let john = session
        .sql("SELECT id FROM users WHERE email = 'john@acme.com' AND created_at <= now()")
        .await;
    assert_eq!(john.len(), 1);
    session.0.close().await;
}

#[tokio::test]
async fn one_session_at_a_time_holds_the_migration_lock() {
    let server = database("lock").await;
    let secret = DatabaseConfig::parse(&SecretValue::new(json!({"type": "oracle"}))).unwrap();
    let MigrationLock::Session { lock, prepare } = driver().await.migration_lock(&secret) else {
        panic!("it is a session's lock");
    };
    let lock = Statement::from_string(DbBackend::Postgres, lock);
    let (mut one, mut other) = (Session::of(&server).await, Session::of(&server).await);
    one.script("DROP TABLE IF EXISTS tenantry_migration_lock").await;
    async fn take(session: &mut Session, lock: &Statement) -> i64 {
        let row = session.0.query_one(lock).await.unwrap_or_else(told).unwrap();
        row.try_get_by_index(0).unwrap()
    }
    assert_eq!(take(&mut one, &lock).await, 1);
    one.script(prepare).await;
    // A change of tables commits, and the lock is still held.
    one.script("DROP TABLE IF EXISTS locked; CREATE TABLE locked (id NUMBER(19))")
        .await;
    assert_eq!(take(&mut other, &lock).await, 0);
    let (driver, secret) = (driver().await, server.secret());
    let secret = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    driver.renew(&secret, &mut *one.0).await.unwrap();
    assert_eq!(take(&mut other, &lock).await, 1);
    assert_eq!(take(&mut one, &lock).await, 0);
    // Whoever holds it and goes away, however that is, gives it up.
    other.0.close().await;
    let before = Instant::now();
    while take(&mut one, &lock).await != 1 {
        assert!(
            before.elapsed() < Duration::from_secs(10),
            "a session that is over holds the lock"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.0.close().await;
}

#[tokio::test]
async fn a_commit_that_fails_is_told_and_keeps_nothing() {
    let server = database("commit").await;
    let mut session = Session::of(&server).await;
    session
        .script(
            "DROP TABLE IF EXISTS late_child; DROP TABLE IF EXISTS late_parent;
             CREATE TABLE late_parent (id NUMBER(19) PRIMARY KEY);
             CREATE TABLE late_child (parent NUMBER(19) REFERENCES late_parent (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    session.0.begin(&TransactionOptions::default()).await.unwrap();
    let orphan = Statement::from_string(DbBackend::Postgres, "INSERT INTO late_child (parent) VALUES (1)");
    session.0.execute(&orphan).await.unwrap_or_else(told);
    let error = session.0.commit().await.unwrap_err();
    assert_eq!(error.kind, DatabaseErrorKind::ForeignKeyViolation, "{error}");
    let left = session.sql("SELECT COUNT(*) AS n FROM late_child").await;
    assert_eq!(left[0].try_get::<i64>("", "n").unwrap(), 0);
    // And no transaction is left open.
    assert!(session.0.commit().await.is_err());
    session.0.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_cut_off_at_any_moment_leave_no_session_behind() {
    let server = database("cut").await;
    let mut session = Session::with_users(&server).await;
    for microseconds in (0..6000u64).step_by(60) {
        let mut cut = Session::of(&server).await;
        let insert =
            DbBackend::Postgres.build(&users::Entity::insert(user(&format!("cut{microseconds}"))).into_query());
        cut.0.begin(&TransactionOptions::default()).await.unwrap();
        drop(tokio::time::timeout(Duration::from_micros(microseconds), cut.0.execute(&insert)).await);
        // Half of them take their leave.
        if microseconds % 120 == 0 {
            cut.0.close().await;
        }
    }
    assert_eq!(session.count().await, 0);
    let before = Instant::now();
    while server.oracle.sessions(&server.tenant).await.unwrap() != 1 {
        assert!(before.elapsed() < Duration::from_secs(10), "sessions are left open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    session.0.close().await;
}

#[tokio::test]
async fn logins_that_hang_leave_threads_to_other_servers() {
    let server = database("hung").await;
    let mut registry = Registry::new();
    registry.driver::<OracleDriver>();
    let mut mapping = json!({"type": "oracle", "max_threads": 8});
    if let Some(folder) = server.oracle.client_library() {
        mapping["client_library"] = json!(folder);
    }
    let context = BuildContext::for_tests(Registry::new());
    let driver = registry.build_driver(mapping, &context).await.unwrap();
    // It accepts connections, and nothing reads from them.
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hung.local_addr().unwrap().port();
    let secret = server.with(json!({"host": "127.0.0.1", "port": port})).unwrap();
    let secret = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    for _ in 0..8 {
        let login = tokio::time::timeout(Duration::from_millis(100), driver.connect(&secret)).await;
        assert!(login.is_err());
    }
    let secret = DatabaseConfig::parse(&SecretValue::new(server.secret())).unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(20), driver.connect(&secret)).await;
    connected.unwrap().unwrap().close().await;
}

#[tokio::test]
async fn the_example_builds_and_wrong_keys_are_named() {
    let mut registry = Registry::new();
    registry.driver::<OracleDriver>();
    let context = BuildContext::for_tests(Registry::new());
    let example: Value = serde_saphyr::from_str(OracleDriver::EXAMPLE).unwrap();
    let built = registry.build_driver(example.clone(), &context).await.unwrap();
    assert_eq!(built.migration_dialect(), "oracle");
    for (key, value) in [
        ("statement_timeout", json!("0s")),
        ("max_threads", json!(0)),
        ("canary", json!(1)),
    ] {
        let mut wrong = example.clone();
        wrong[key] = value;
        let error = registry.build_driver(wrong, &context).await.err().unwrap().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}

#[tokio::test]
async fn certificates_that_the_client_library_cannot_take_are_refused() {
    let server = database("certificates").await;
    for field in ["ca", "cert", "key"] {
        let mut secret = server.secret();
        secret["tls"] = json!({"mode": "verify-full"});
        secret["tls"][field] = json!("-----BEGIN canary");
        let error = connect(secret).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::Invalid);
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            reason.contains(&format!("`tls.{field}`")) && !reason.contains("canary"),
            "{reason}"
        );
    }
}
