//! Transactions of a tenant's database on real servers, as handlers hold it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{AccessMode, ConnectionTrait, DbErr, Statement, TransactionError, TransactionTrait};
use serde_json::{Value, json};
use tenantry_core::{
    BoxError, BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverErrorKind, Registry,
    TenantId,
    engine::{EngineSettings, OnConnect, SchemaVersion, TenantDatabase, Tenants, TenantsParts},
};
use tenantry_drivers::{MysqlDriver, OracleDriver, PostgresqlDriver};
use tenantry_test_support::{MariadbServer, OracleServer, PostgresServer, TenantDb};
use tokio::{
    sync::Semaphore,
    time::{error::Elapsed, timeout},
};

use crate::scripted::{Scripted, id};

pub(crate) enum Server {
    Postgresql(&'static PostgresServer, TenantDb),
    Mariadb(&'static MariadbServer, TenantDb),
    Oracle(&'static OracleServer, TenantDb),
}

impl Server {
    pub(crate) async fn postgresql() -> Self {
        let server = PostgresServer::shared().await;
        Self::Postgresql(server, server.create_tenant("engine").await.unwrap())
    }

    pub(crate) async fn mariadb() -> Self {
        let server = MariadbServer::shared().await;
        Self::Mariadb(server, server.create_tenant("engine").await.unwrap())
    }

    pub(crate) async fn oracle() -> Self {
        let server = OracleServer::shared().await;
        Self::Oracle(server, server.create_tenant("engine").await.unwrap())
    }

    fn secret(&self) -> Value {
        match self {
            Self::Postgresql(server, tenant) => server.secret(tenant),
            Self::Mariadb(server, tenant) => server.secret(tenant),
            Self::Oracle(server, tenant) => server.secret(tenant),
        }
    }

    async fn end_sessions(&self) {
        match self {
            Self::Postgresql(server, tenant) => {
                let end = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
                    tenant.user
                );
                server.psql("postgres", &end).await.unwrap();
            }
            Self::Mariadb(server, tenant) => {
                let kill = format!("KILL USER '{}'@'%'", tenant.user);
                server.sql("mysql", &kill).await.unwrap();
            }
            Self::Oracle(server, tenant) => server.end_sessions(tenant).await.unwrap(),
        }
    }

    /// Makes the sessions that are open refuse to write numbers, as if a failover had made their
    /// server a standby. New ones write.
    async fn fail_over(&self) {
        match self {
            Self::Postgresql(server, tenant) => {
                let sql = "CREATE TABLE standby AS SELECT pid FROM pg_stat_activity WHERE datname = current_database();
                    GRANT SELECT ON standby TO PUBLIC;
                    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                      IF pg_backend_pid() IN (SELECT pid FROM standby) THEN RAISE EXCEPTION USING ERRCODE = '25006'; END IF;
                      RETURN new; END $$;
                    CREATE TRIGGER refuse BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION refuse();";
                server.psql(&tenant.database, sql).await.unwrap();
            }
            Self::Mariadb(server, tenant) => {
                let sql = "CREATE TABLE standby AS SELECT id FROM information_schema.PROCESSLIST WHERE db = DATABASE();
                    DELIMITER //
                    CREATE TRIGGER refuse BEFORE INSERT ON numbers FOR EACH ROW
                      IF CONNECTION_ID() IN (SELECT id FROM standby) THEN
                        SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290; END IF //";
                server.sql(&tenant.database, sql).await.unwrap();
            }
            Self::Oracle(..) => {}
        }
    }

    /// Drops the tenant's database and makes an empty one of the same name.
    async fn replace_database(&self) {
        match self {
            Self::Postgresql(server, tenant) => {
                let (name, user) = (&tenant.database, &tenant.user);
                let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
                server.psql("postgres", &drop).await.unwrap();
                let create = format!("CREATE DATABASE \"{name}\" OWNER \"{user}\"");
                server.psql("postgres", &create).await.unwrap();
            }
            Self::Mariadb(server, tenant) => {
                let name = &tenant.database;
                let sql = format!("DROP DATABASE `{name}`; CREATE DATABASE `{name}`");
                server.sql("mysql", &sql).await.unwrap();
            }
            Self::Oracle(..) => {}
        }
    }

    /// The tenant's database, with a table of numbers.
    pub(crate) async fn database(&self) -> (Tenants, TenantDatabase) {
        let provider = Arc::new(Scripted::default());
        provider.put("acme", self.secret());
        let tenants = self.tenants(provider).await;
        let database = tenants.acquire(&id("acme")).await.unwrap();
        let create = match self {
            Self::Oracle(..) => "CREATE TABLE numbers (n NUMBER(19) PRIMARY KEY)",
            _ => "CREATE TABLE numbers (n BIGINT PRIMARY KEY)",
        };
        database.execute_unprepared(create).await.unwrap();
        (tenants, database)
    }

    /// An engine over this provider's secrets.
    async fn tenants(&self, provider: Arc<Scripted>) -> Tenants {
        self.tenants_with(provider, None).await
    }

    async fn tenants_with(&self, provider: Arc<Scripted>, on_connect: Option<Arc<dyn OnConnect>>) -> Tenants {
        let secret = self.secret();
        let mut registry = Registry::new();
        registry
            .driver::<MysqlDriver>()
            .driver::<OracleDriver>()
            .driver::<PostgresqlDriver>();
        let driver_type = secret["type"].as_str().unwrap().to_owned();
        let mut mapping = json!({"type": driver_type});
        if let Self::Oracle(server, _) = self
            && let Some(folder) = server.client_library()
        {
            mapping["client_library"] = json!(folder);
        }
        let context = BuildContext::for_tests(Registry::new());
        let driver = registry.build_driver(mapping, &context).await.unwrap();
        Tenants::new(TenantsParts {
            provider,
            provider_type: "scripted".to_owned(),
            drivers: vec![(driver_type, driver)],
            settings: EngineSettings::default(),
            on_connect,
            observer: None,
        })
    }
}

#[tokio::test]
async fn a_provider_makes_a_password_for_each_login() {
    let server = Server::postgresql().await;
    let Server::Postgresql(postgres, tenant) = &server else {
        return;
    };
    let provider = Arc::new(Scripted::default());
    let mut secret = server.secret();
    secret["password"] = json!("the secret's own is not used");
    provider.put("acme", secret);
    provider.set_password(Some(&tenant.password));
    let tenants = server.tenants(provider.clone()).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    run(&database, "SELECT 1").await;
    // The next login has another one; the secret stays as it is.
    let change = format!("ALTER ROLE \"{}\" PASSWORD 'made for the second login'", tenant.user);
    postgres.psql("postgres", &change).await.unwrap();
    provider.set_password(Some("made for the second login"));
    server.end_sessions().await;
    run(&database, "SELECT 2").await;
    assert_eq!(provider.fetches(), 1);
    // Without one the secret's own counts, which is wrong.
    provider.set_password(None);
    server.end_sessions().await;
    assert!(database.ping().await.is_err());
}

async fn run(connection: &impl ConnectionTrait, sql: &str) {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.execute_raw(statement).await.unwrap();
}

async fn numbers(connection: &impl ConnectionTrait) -> Vec<i64> {
    let statement = Statement::from_string(connection.get_database_backend(), "SELECT n FROM numbers ORDER BY n");
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn transactions_see_nothing_of_each_other_before_they_commit(server: Server) {
    let (_tenants, database) = server.database().await;
    let (one, other) = (database.begin().await.unwrap(), database.begin().await.unwrap());
    run(&one, "INSERT INTO numbers (n) VALUES (1)").await;
    run(&other, "INSERT INTO numbers (n) VALUES (2)").await;
    assert_eq!((numbers(&one).await, numbers(&other).await), (vec![1], vec![2]));
    assert_eq!(numbers(&database).await, [0i64; 0]);
    one.commit().await.unwrap();
    assert_eq!(numbers(&database).await, [1]);
    other.rollback().await.unwrap();
    assert_eq!(numbers(&database).await, [1]);
}

#[tokio::test]
async fn transactions_on_postgresql_are_isolated_until_commit() {
    transactions_see_nothing_of_each_other_before_they_commit(Server::postgresql().await).await;
}

#[tokio::test]
async fn transactions_on_mariadb_are_isolated_until_commit() {
    transactions_see_nothing_of_each_other_before_they_commit(Server::mariadb().await).await;
}

#[tokio::test]
async fn transactions_on_oracle_are_isolated_until_commit() {
    transactions_see_nothing_of_each_other_before_they_commit(Server::oracle().await).await;
}

/// What one request leaves on its session reaches no other request of the tenant, whether it came
/// by a statement, a query or a script, alone or in a transaction.
async fn no_request_gets_what_another_left(server: Server, leave: &[&str], look: &str) {
    let (_tenants, database) = server.database().await;
    let clean = text(&database, look).await;
    for sql in leave {
        let statement = || Statement::from_string(database.get_database_backend(), *sql);
        database.execute_raw(statement()).await.unwrap();
        assert_eq!(text(&database, look).await, clean, "a statement: {sql}");
        database.query_all_raw(statement()).await.unwrap();
        assert_eq!(text(&database, look).await, clean, "a query: {sql}");
        let transaction = database.begin().await.unwrap();
        transaction.execute_unprepared(sql).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(text(&database, look).await, clean, "a script in a transaction: {sql}");
        let connection = database.connection().await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        assert_ne!(text(&connection, look).await, clean, "it leaves nothing: {sql}");
    }
    run(&database, "START TRANSACTION").await;
    run(&database, "INSERT INTO numbers (n) VALUES (1)").await;
    server.end_sessions().await;
    assert_eq!(numbers(&database).await, [1], "an acknowledged write is lost");
}

#[tokio::test]
async fn no_request_on_postgresql_gets_what_another_left() {
    let leave = [
        "SET application_name = 'left'",
        "SELECT set_config('application_name', 'left', false)",
        "SELECT U&\"set\\005fconfig\"('application_name', 'left', false)",
        "SELECT 1 AS n INTO TABLE pg_temp.behind",
        "SELECT 'left' AS n INTO TEMP behind",
        "CREATE TYPE pg_temp.behind AS ENUM ('left')",
        "CREATE VIEW pg_temp.behind AS SELECT 1",
        "CREATE FUNCTION pg_temp.behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "PREPARE behind AS SELECT 1",
        "LISTEN behind",
    ];
    let look = "SELECT concat(current_setting('application_name'),
        (SELECT count(*) FROM pg_type WHERE typnamespace = pg_my_temp_schema()),
        (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
        (SELECT count(*) FROM pg_prepared_statements WHERE name = 'behind'),
        (SELECT count(*) FROM pg_listening_channels()))";
    no_request_gets_what_another_left(Server::postgresql().await, &leave, look).await;
}

#[tokio::test]
async fn no_request_on_mariadb_gets_what_another_left() {
    let leave = [
        "SET @behind = 'left'",
        "SET LOCAL sql_mode = ''",
        "SELECT 'left' INTO @behind",
        "SELECT @behind := 'left'",
        "CALL answer(@behind)",
        "CALL begin_work()",
    ];
    let look = "SELECT CONCAT(COALESCE((SELECT VARIABLE_VALUE FROM information_schema.USER_VARIABLES
        WHERE VARIABLE_NAME = 'behind'), ''), @@SESSION.sql_mode, IF(@@in_transaction, 'left', ''))";
    let server = Server::mariadb().await;
    if let Server::Mariadb(server, tenant) = &server {
        for create in [
            "CREATE PROCEDURE answer(OUT n VARCHAR(9)) SET n = 'left'",
            "CREATE PROCEDURE begin_work() START TRANSACTION",
        ] {
            server.sql(&tenant.database, create).await.unwrap();
        }
    }
    no_request_gets_what_another_left(server, &leave, look).await;
}

/// A setting that ends with its transaction costs no connection.
#[tokio::test]
async fn a_local_setting_leaves_its_connection_in_use() {
    let server = Server::postgresql().await;
    let (_tenants, database) = server.database().await;
    let process = "SELECT pg_backend_pid()::text";
    let before = text(&database, process).await;
    let transaction = database.begin().await.unwrap();
    run(&transaction, "SET LOCAL application_name = 'local'").await;
    run(&transaction, "SELECT set_config('application_name', 'local', true)").await;
    run(&transaction, "SELECT pg_advisory_xact_lock(1)").await;
    transaction.commit().await.unwrap();
    assert_eq!(text(&database, process).await, before);
}

/// What a lost transaction did is undone, so a roll back that finds its session lost leaves no
/// doubt, and the closure's own error is returned.
async fn a_lost_roll_back_hides_no_error(server: Server) {
    let (_tenants, database) = server.database().await;
    let transaction = database.begin().await.unwrap();
    run(&transaction, "INSERT INTO numbers (n) VALUES (1)").await;
    server.end_sessions().await;
    let kind = DatabaseErrorKind::of(&transaction.rollback().await.unwrap_err());
    assert_ne!(kind, DatabaseErrorKind::OutcomeUnknown);
    let failed = database.transaction::<_, (), _>(move |transaction| {
        Box::pin(async move {
            run(transaction, "INSERT INTO numbers (n) VALUES (1)").await;
            server.end_sessions().await;
            Err(sea_orm::DbErr::Custom("its own".to_owned()))
        })
    });
    let error = failed.await.unwrap_err();
    assert!(matches!(error, TransactionError::Transaction(_)), "{error:?}");
    assert_eq!(numbers(&database).await, [0i64; 0]);
}

/// A transaction that only read has changed nothing, also if its end is lost.
async fn a_lost_commit_of_a_read_leaves_no_doubt(server: Server) {
    let (_tenants, database) = server.database().await;
    for (mode, expected) in [
        (AccessMode::ReadOnly, DatabaseErrorKind::ConnectionLost),
        (AccessMode::ReadWrite, DatabaseErrorKind::OutcomeUnknown),
    ] {
        let begun = database.begin_with_config(None, Some(mode)).await;
        let transaction = begun.unwrap();
        assert_eq!(numbers(&transaction).await, [0i64; 0]);
        server.end_sessions().await;
        let kind = DatabaseErrorKind::of(&transaction.commit().await.unwrap_err());
        // PostgreSQL says that it ended the session before the commit came.
        let is_known = kind == DatabaseErrorKind::ConnectionLostWithoutEffect;
        assert!(kind == expected || is_known, "{mode:?}: {kind:?}");
    }
}

#[tokio::test]
async fn a_lost_commit_of_a_read_on_postgresql_leaves_no_doubt() {
    a_lost_commit_of_a_read_leaves_no_doubt(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_lost_commit_of_a_read_on_mariadb_leaves_no_doubt() {
    a_lost_commit_of_a_read_leaves_no_doubt(Server::mariadb().await).await;
}

#[tokio::test]
async fn a_lost_roll_back_on_postgresql_hides_no_error() {
    a_lost_roll_back_hides_no_error(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_lost_roll_back_on_mariadb_hides_no_error() {
    a_lost_roll_back_hides_no_error(Server::mariadb().await).await;
}

/// A transaction that lost its session before the commit gets an error, keeps nothing, and does not
/// affect the next one. A server that says that it ended the session has not begun the commit; of a
/// connection that is just gone the outcome is unknown.
async fn a_commit_on_a_lost_connection_is_an_error(server: Server) {
    let (_tenants, database) = server.database().await;
    let transaction = database.begin().await.unwrap();
    run(&transaction, "INSERT INTO numbers (n) VALUES (1)").await;
    server.end_sessions().await;
    let kind = DatabaseErrorKind::of(&transaction.commit().await.unwrap_err());
    assert!(
        matches!(
            kind,
            DatabaseErrorKind::OutcomeUnknown | DatabaseErrorKind::ConnectionLostWithoutEffect
        ),
        "{kind:?}"
    );
    assert_eq!(numbers(&database).await, [0i64; 0]);
    assert_eq!(database.pool_status().in_use, 0);
}

#[tokio::test]
async fn a_commit_on_a_lost_connection_to_postgresql_is_an_error() {
    a_commit_on_a_lost_connection_is_an_error(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_commit_on_a_lost_connection_to_mariadb_is_an_error() {
    a_commit_on_a_lost_connection_is_an_error(Server::mariadb().await).await;
}

#[tokio::test]
async fn a_commit_on_a_lost_connection_to_oracle_is_an_error() {
    a_commit_on_a_lost_connection_is_an_error(Server::oracle().await).await;
}

/// That which breaks a rule that is checked at the end. (MariaDB checks none there.)
async fn a_commit_that_breaks_a_rule_is_an_error(server: Server, create: &str) {
    let (_tenants, database) = server.database().await;
    database.execute_unprepared(create).await.unwrap();
    let transaction = database.begin().await.unwrap();
    run(&transaction, "INSERT INTO numbers (n) VALUES (1)").await;
    run(&transaction, "INSERT INTO orphans (n) VALUES (2)").await;
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::ForeignKeyViolation);
    assert_eq!(numbers(&database).await, [0i64; 0]);
    run(&database, "INSERT INTO numbers (n) VALUES (3)").await;
    assert_eq!(numbers(&database).await, [3]);
}

#[tokio::test]
async fn a_commit_that_breaks_a_rule_of_postgresql_is_an_error() {
    let create = "CREATE TABLE orphans (n BIGINT REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)";
    a_commit_that_breaks_a_rule_is_an_error(Server::postgresql().await, create).await;
}

#[tokio::test]
async fn a_commit_that_breaks_a_rule_of_oracle_is_an_error() {
    let create = "CREATE TABLE orphans (n NUMBER(19) REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)";
    a_commit_that_breaks_a_rule_is_an_error(Server::oracle().await, create).await;
}

async fn text(connection: &impl ConnectionTrait, sql: &str) -> String {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Its temporary table, its setting and its lock are there as long as it is, and gone with it.
async fn a_pinned_connection_has_its_own_session(server: Server, set: &str, setting: &str, lock: &str) {
    let (_tenants, database) = server.database().await;
    let connection = database.connection().await.unwrap();
    connection.execute_unprepared(set).await.unwrap();
    connection
        .execute_unprepared("CREATE TEMPORARY TABLE kept (n BIGINT)")
        .await
        .unwrap();
    run(&connection, "INSERT INTO kept VALUES (1)").await;
    assert_eq!(text(&connection, lock).await, "yes");
    assert_eq!(text(&connection, setting).await, "17");
    assert_ne!(text(&database, setting).await, "17");
    assert_eq!(text(&database, lock).await, "no", "it is taken");
    drop(connection);
    assert_eq!(numbers(&database).await, [0i64; 0]);
    // Another session may have the lock once the server has ended the first one.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while text(&database, lock).await == "no" {
        assert!(tokio::time::Instant::now() < deadline, "the lock was left behind");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let kept = Statement::from_string(database.get_database_backend(), "SELECT n FROM kept");
    assert!(database.query_all_raw(kept).await.is_err());
}

#[tokio::test]
async fn a_pinned_connection_to_postgresql_has_its_own_session() {
    let lock = "SELECT CASE WHEN pg_try_advisory_lock(7) THEN 'yes' ELSE 'no' END";
    let (set, setting) = (
        "SET application_name = '17'",
        "SELECT current_setting('application_name')",
    );
    a_pinned_connection_has_its_own_session(Server::postgresql().await, set, setting, lock).await;
}

#[tokio::test]
async fn a_pinned_connection_to_mariadb_has_its_own_session() {
    let lock = "SELECT IF(GET_LOCK(CONCAT('pinned-', DATABASE()), 0) = 1, 'yes', 'no')";
    let (set, setting) = ("SET @kept = 17", "SELECT COALESCE(CAST(@kept AS CHAR), 'none')");
    a_pinned_connection_has_its_own_session(Server::mariadb().await, set, setting, lock).await;
}

/// Several idle sessions lead to a server that became a standby.
async fn a_failover_fails_one_write(server: Server) {
    let (_tenants, database) = server.database().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(database.begin().await.unwrap());
    }
    for transaction in open {
        transaction.rollback().await.unwrap();
    }
    server.fail_over().await;
    let backend = database.get_database_backend();
    for n in 1..=6 {
        let insert = Statement::from_string(backend, format!("INSERT INTO numbers VALUES ({n})"));
        let written = database.execute_raw(insert).await;
        let expected = (n == 1).then_some(DatabaseErrorKind::ReadOnly);
        assert_eq!(
            written.err().map(|error| DatabaseErrorKind::of(&error)),
            expected,
            "write {n}"
        );
    }
    assert_eq!(numbers(&database).await, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_failover_of_postgresql_fails_one_write() {
    a_failover_fails_one_write(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_failover_of_mariadb_fails_one_write() {
    a_failover_fails_one_write(Server::mariadb().await).await;
}

/// The session takes writes: only its transaction does not.
#[tokio::test]
async fn a_write_in_a_reading_transaction_costs_no_session() {
    let server = Server::postgresql().await;
    let (_tenants, database) = server.database().await;
    let session = async |connection: &TenantDatabase| {
        let pid = Statement::from_string(connection.get_database_backend(), "SELECT pg_backend_pid()");
        let row = connection.query_one_raw(pid).await.unwrap().unwrap();
        row.try_get_by_index::<i32>(0).unwrap()
    };
    let before = session(&database).await;
    let reading = database
        .begin_with_config(None, Some(AccessMode::ReadOnly))
        .await
        .unwrap();
    let insert = Statement::from_string(database.get_database_backend(), "INSERT INTO numbers VALUES (1)");
    let error = reading.execute_raw(insert).await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::ReadOnly);
    reading.rollback().await.unwrap();
    assert_eq!(session(&database).await, before);
}

/// Creates the table of numbers.
struct CreatesTable;

#[async_trait]
impl OnConnect for CreatesTable {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let create = "CREATE TABLE IF NOT EXISTS numbers (n BIGINT PRIMARY KEY)";
        connection.execute_script(create).await?;
        Ok(None)
    }
}

/// Prepares as often as it may.
struct Gated {
    begun: AtomicUsize,
    gate: Semaphore,
}

#[async_trait]
impl OnConnect for Gated {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        _: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await?.forget();
        Ok(None)
    }
}

/// That the database was replaced is also noted while it is being prepared.
#[tokio::test]
async fn a_database_that_is_replaced_while_it_is_prepared_is_prepared_again() {
    let (first, second) = (Server::postgresql().await, Server::postgresql().await);
    let provider = Arc::new(Scripted::default());
    provider.put("acme", first.secret());
    let gated = Arc::new(Gated {
        begun: AtomicUsize::new(0),
        gate: Semaphore::new(1),
    });
    let tenants = first.tenants_with(provider.clone(), Some(gated.clone())).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    let connection = database.connection().await.unwrap();
    provider.put("acme", second.secret());
    tenants.refresh(&id("acme")).await.unwrap();
    let waiting = tokio::spawn({
        let database = tenants.acquire(&id("acme")).await.unwrap();
        async move { database.ping().await.map(drop) }
    });
    while gated.begun.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let missing = Statement::from_string(connection.get_database_backend(), "SELECT n FROM nothing");
    connection.query_all_raw(missing).await.unwrap_err();
    gated.gate.add_permits(10);
    waiting.await.unwrap().unwrap();
    // The next one is of another connection.
    let database = tenants.acquire(&id("acme")).await.unwrap();
    database.ping().await.unwrap();
    assert_eq!(gated.begun.load(Ordering::SeqCst), 3);
}

/// Has its session ended some times, as an operator does after a rotation.
struct Ended {
    begun: AtomicUsize,
    times: usize,
}

#[async_trait]
impl OnConnect for Ended {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        if self.begun.fetch_add(1, Ordering::SeqCst) < self.times {
            connection
                .execute_script("SELECT pg_terminate_backend(pg_backend_pid())")
                .await?;
        }
        Ok(None)
    }
}

/// Returns how often the database was prepared for one request, and what became of the request.
async fn prepared_while_sessions_end(times: usize) -> (usize, Result<(), DbErr>) {
    let (server, provider) = (Server::postgresql().await, Arc::new(Scripted::default()));
    provider.put("acme", server.secret());
    let begun = AtomicUsize::new(0);
    let ended = Arc::new(Ended { begun, times });
    let tenants = server.tenants_with(provider, Some(ended.clone())).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    let answered = database.execute_unprepared("SELECT 1").await.map(drop);
    (ended.begun.load(Ordering::SeqCst), answered)
}

#[tokio::test]
async fn a_session_that_is_ended_while_its_database_is_prepared_fails_no_request() {
    assert_eq!(prepared_while_sessions_end(1).await, (2, Ok(())));
    let (prepared, answered) = prepared_while_sessions_end(usize::MAX).await;
    let kind = DatabaseErrorKind::of(&answered.unwrap_err());
    assert_eq!(
        (prepared, kind),
        (4, DatabaseErrorKind::Connect(DriverErrorKind::SessionEnded))
    );
}

/// Renews the session, as migrations do after each file.
struct Renews;

#[async_trait]
impl OnConnect for Renews {
    async fn prepare(
        &self,
        _: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        driver.renew(config, connection).await?;
        Ok(None)
    }
}

async fn a_renewed_session_has_the_password_of_its_login(server: Server) {
    let provider = Arc::new(Scripted::default());
    let mut secret = server.secret();
    provider.set_password(secret["password"].as_str());
    secret["password"] = json!("the secret's own is not used");
    provider.put("acme", secret);
    let tenants = server.tenants_with(provider, Some(Arc::new(Renews))).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    run(&database, "SELECT 1").await;
}

#[tokio::test]
async fn a_renewed_session_on_postgresql_has_the_password_of_its_login() {
    a_renewed_session_has_the_password_of_its_login(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_renewed_session_on_mariadb_has_the_password_of_its_login() {
    a_renewed_session_has_the_password_of_its_login(Server::mariadb().await).await;
}

/// Renews the session on a server that has fallen silent, in paused time.
struct RenewsInVain {
    silent: std::net::TcpListener,
    ended: tokio::sync::mpsc::UnboundedSender<Result<DriverErrorKind, Elapsed>>,
}

#[async_trait]
impl OnConnect for RenewsInVain {
    async fn prepare(
        &self,
        _: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let mut config = config.clone();
        (config.host, config.port) = (Some("127.0.0.1".to_owned()), Some(self.silent.local_addr()?.port()));
        tokio::time::pause();
        let renewed = timeout(Duration::from_secs(60), driver.renew(&config, connection)).await;
        self.ended.send(renewed.map(|renewed| renewed.unwrap_err().kind))?;
        Err("in vain".into())
    }
}

#[tokio::test]
async fn renewing_a_session_on_a_silent_server_is_given_up() {
    for server in [Server::postgresql().await, Server::mariadb().await] {
        let provider = Arc::new(Scripted::default());
        provider.put("acme", server.secret());
        let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let renews = RenewsInVain { silent, ended };
        let tenants = server.tenants_with(provider, Some(Arc::new(renews))).await;
        let database = tenants.acquire(&id("acme")).await.unwrap();
        assert!(database.ping().await.is_err());
        assert_eq!(end.recv().await.unwrap(), Ok(DriverErrorKind::Unreachable));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_prepared_anew() {
    let server = Server::postgresql().await;
    let Server::Postgresql(postgres, tenant) = &server else {
        return;
    };
    let provider = Arc::new(Scripted::default());
    provider.put("acme", server.secret());
    let tenants = server.tenants_with(provider, Some(Arc::new(CreatesTable))).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    run(&database, "INSERT INTO numbers VALUES (1)").await;
    let name = &tenant.database;
    let sql = async |sql: String| postgres.psql("postgres", &sql).await.unwrap();
    sql(format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await;
    // The first one finds the connection lost.
    let errors = [database.ping().await, database.ping().await].map(|outcome| outcome.unwrap_err());
    let missing = DatabaseErrorKind::Connect(DriverErrorKind::DatabaseMissing);
    assert_eq!(errors[1].kind, missing);
    sql(format!("CREATE DATABASE \"{name}\" OWNER \"{}\"", tenant.user)).await;
    let found = async {
        while database.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), found).await.unwrap();
    assert!(numbers(&database).await.is_empty());
}

/// Another database takes the place of the one that was prepared, and no login fails in between:
/// MariaDB lets the sessions live on.
async fn a_database_that_was_replaced_is_prepared(server: Server) {
    let provider = Arc::new(Scripted::default());
    provider.put("acme", server.secret());
    let tenants = server.tenants_with(provider, Some(Arc::new(CreatesTable))).await;
    let database = tenants.acquire(&id("acme")).await.unwrap();
    let transactions = [database.begin().await, database.begin().await, database.begin().await];
    for transaction in transactions {
        transaction.unwrap().rollback().await.unwrap();
    }
    run(&database, "INSERT INTO numbers VALUES (1)").await;
    server.replace_database().await;
    let mut failures = 0;
    let select = Statement::from_string(database.get_database_backend(), "SELECT n FROM numbers");
    while database.query_all_raw(select.clone()).await.is_err() {
        failures += 1;
        assert!(failures < 4, "the new database is never prepared");
    }
    assert!(numbers(&database).await.is_empty());
    // A table that never was costs one session, and no preparation each time.
    let missing = Statement::from_string(database.get_database_backend(), "SELECT n FROM nothing");
    for _ in 0..3 {
        let error = database.query_all_raw(missing.clone()).await.unwrap_err();
        assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::TableMissing);
    }
}

#[tokio::test]
async fn a_database_of_postgresql_that_was_replaced_is_prepared() {
    a_database_that_was_replaced_is_prepared(Server::postgresql().await).await;
}

#[tokio::test]
async fn a_database_of_mariadb_that_was_replaced_is_prepared() {
    a_database_that_was_replaced_is_prepared(Server::mariadb().await).await;
}
