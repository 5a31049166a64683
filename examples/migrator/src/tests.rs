//! A migrator on each kind of database: up, status and down, and what people meet.

use sea_orm_migration::{
    Migration,
    prelude::*,
    schema::{integer, pk_auto},
    sea_orm::{Database, DbBackend, EntityTrait as _, MockDatabase, PaginatorTrait as _, TransactionTrait as _},
};
use serde_json::{Value, json};
use tenantry::{
    App,
    core::engine::TenantDatabase,
    testing::{TestApp, tenant_database},
};
use tenantry_test_support::{MariadbServer, PostgresServer};

use super::{Migrator, app, cake, migrate, migrations};

/// Runs a test on a database of each kind.
macro_rules! on_each {
    ($($test:ident),+) => {
        $(mod $test {
            use super::*;

            #[tokio::test]
            async fn sqlite() {
                super::$test(on(json!({"type": "sqlite", "path": "acme.db"})).await).await;
            }

            #[tokio::test]
            async fn postgresql() {
                let server = PostgresServer::shared().await;
                let tenant = server.create_tenant("migrator").await.unwrap();
                super::$test(on(server.secret(&tenant)).await).await;
            }

            #[tokio::test]
            async fn mariadb() {
                let server = MariadbServer::shared().await;
                let tenant = server.create_tenant("migrator").await.unwrap();
                super::$test(on(server.secret(&tenant)).await).await;
            }
        })+
    };
}

on_each!(
    migrations_go_up_and_down,
    a_failed_migration_is_not_recorded,
    a_migration_may_begin_transactions_of_its_own,
    everything_can_be_made_again,
    two_at_once_record_each_migration_once
);

fn configuration(secret: &Value) -> String {
    let provider = json!({"type": "static", "tenants": {"acme": secret}});
    json!({"tenancy": {"provider": provider}, "migrations": {"on_connect": false}}).to_string()
}

/// A server without the job, and one tenant's database.
async fn on(secret: Value) -> (TestApp, TenantDatabase) {
    let server = TestApp::start_with(App::new().without_users(), None, &configuration(&secret)).await;
    let database = server.database("acme").await;
    (server, database)
}

async fn up<M: MigratorTrait>(database: &TenantDatabase) -> Result<(), DbErr> {
    database
        .with_sea_orm(async |connection| M::up(&connection, None).await)
        .await
}

/// The names of the migrations that are recorded, and of those that are not.
async fn status<M: MigratorTrait>(database: &TenantDatabase) -> (Vec<String>, Vec<String>) {
    let names = |migrations: Vec<Migration>| -> Vec<String> {
        migrations.iter().map(|migration| migration.name().to_owned()).collect()
    };
    database
        .with_sea_orm(async move |connection| {
            M::status(&connection).await?;
            let applied = M::get_applied_migrations(&connection).await?;
            let pending = M::get_pending_migrations(&connection).await?;
            let read_only = M::get_pending_migrations_read_only(&connection).await?;
            assert_eq!(read_only.len(), pending.len());
            Ok((names(applied), names(pending)))
        })
        .await
        .unwrap()
}

async fn has_table(database: &TenantDatabase, table: &'static str) -> bool {
    database
        .with_sea_orm(async move |connection| SchemaManager::new(&connection).has_table(table).await)
        .await
        .unwrap()
}

async fn migrations_go_up_and_down((server, database): (TestApp, TenantDatabase)) {
    let names = ["m20260101_000001_create_cakes", "m20260101_000002_seed_cakes"];
    assert_eq!(status::<Migrator>(&database).await.1, names);
    for _ in 0..2 {
        // The second time there is nothing to do.
        up::<Migrator>(&database).await.unwrap();
        assert_eq!(status::<Migrator>(&database).await.0, names);
        assert_eq!(cake::Entity::find().count(&database).await.unwrap(), 1);
    }
    let looked = database.with_sea_orm(async |connection| {
        let manager = SchemaManager::new(&connection);
        let name = manager.has_column("cakes", "name").await?;
        let index = manager.has_index("cakes", "cakes_name").await?;
        Ok((name, index, manager.has_column("cakes", "price").await?))
    });
    assert_eq!(looked.await.unwrap(), (true, true, false));
    let down = |steps| database.with_sea_orm(async move |connection| Migrator::down(&connection, steps).await);
    down(Some(1)).await.unwrap();
    assert_eq!(cake::Entity::find().count(&database).await.unwrap(), 0);
    assert_eq!(status::<Migrator>(&database).await.1, names[1..]);
    down(None).await.unwrap();
    assert_eq!(status::<Migrator>(&database).await.1, names);
    assert!(!has_table(&database, "cakes").await);
    server.stop().await;
}

/// Makes a table, and then fails.
struct Breaks {
    in_transaction: bool,
}

impl MigrationName for Breaks {
    fn name(&self) -> &str {
        "m20260101_000003_breaks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Breaks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create().table("half").col(pk_auto("id")).to_owned();
        manager.create_table(table).await?;
        manager
            .get_connection()
            .execute_unprepared("INSERT INTO nowhere (id) VALUES (1)")
            .await
            .map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        self.in_transaction.then_some(true)
    }
}

struct Broken;

impl MigratorTrait for Broken {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let breaks = Breaks { in_transaction: false };
        vec![Box::new(migrations::CreateCakes), Box::new(breaks)]
    }
}

struct BrokenInTransaction;

impl MigratorTrait for BrokenInTransaction {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let breaks = Breaks { in_transaction: true };
        vec![Box::new(migrations::CreateCakes), Box::new(breaks)]
    }
}

/// What was done before it stays, and what it did itself is undone in a transaction, if the
/// database can undo a change of tables.
async fn a_failed_migration_is_not_recorded((server, database): (TestApp, TenantDatabase)) {
    let backend = database.get_database_backend();
    let error = up::<BrokenInTransaction>(&database).await.unwrap_err();
    assert!(matches!(error, DbErr::Exec(_)), "{error:?}");
    let (applied, pending) = status::<BrokenInTransaction>(&database).await;
    assert_eq!(applied, ["m20260101_000001_create_cakes"]);
    assert_eq!(pending, ["m20260101_000003_breaks"]);
    assert_eq!(has_table(&database, "half").await, backend == DbBackend::MySql);
    if backend == DbBackend::MySql {
        database.execute_unprepared("DROP TABLE half").await.unwrap();
    }
    up::<Broken>(&database).await.unwrap_err();
    // By itself SeaORM takes a transaction on PostgreSQL only.
    assert_eq!(has_table(&database, "half").await, backend != DbBackend::Postgres);
    // The program's next version has other migrations; the failed one was never recorded.
    up::<Migrator>(&database).await.unwrap();
    assert_eq!(cake::Entity::find().count(&database).await.unwrap(), 1);
    // A migration that is recorded and gone from the program is SeaORM's own error.
    let error = up::<Broken>(&database).await.unwrap_err();
    assert!(error.to_string().contains("m20260101_000002_seed_cakes"), "{error}");
    server.stop().await;
}

struct OfItsOwn;

impl MigrationName for OfItsOwn {
    fn name(&self) -> &str {
        "m20260101_000004_of_its_own"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for OfItsOwn {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let first = manager.begin().await?;
        let table = Table::create().table("own").col(integer("n")).to_owned();
        first.create_table(table).await?;
        first.commit().await?;
        let second = manager.get_connection().begin().await?;
        second.execute_unprepared("INSERT INTO own (n) VALUES (1)").await?;
        second.rollback().await?;
        let third = manager.get_connection().begin().await?;
        third.execute_unprepared("INSERT INTO own (n) VALUES (2)").await?;
        third.commit().await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

struct WithOwn;

impl MigratorTrait for WithOwn {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(OfItsOwn)]
    }
}

async fn a_migration_may_begin_transactions_of_its_own((server, database): (TestApp, TenantDatabase)) {
    up::<WithOwn>(&database).await.unwrap();
    let select = Query::select().column("n").from("own").to_owned();
    let rows = database.query_all(&select).await.unwrap();
    let numbers: Vec<i32> = rows.iter().map(|row| row.try_get("", "n").unwrap()).collect();
    assert_eq!(numbers, [2]);
    server.stop().await;
}

async fn everything_can_be_made_again((server, database): (TestApp, TenantDatabase)) {
    up::<Migrator>(&database).await.unwrap();
    database
        .execute_unprepared("CREATE TABLE other (n INTEGER)")
        .await
        .unwrap();
    database
        .with_sea_orm(async |connection| Migrator::refresh(&connection).await)
        .await
        .unwrap();
    assert!(has_table(&database, "other").await);
    // It drops every table, also those that are not the migrator's.
    database
        .with_sea_orm(async |connection| Migrator::fresh(&connection).await)
        .await
        .unwrap();
    assert!(!has_table(&database, "other").await);
    assert_eq!(cake::Entity::find().count(&database).await.unwrap(), 1);
    database
        .with_sea_orm(async |connection| Migrator::reset(&connection).await)
        .await
        .unwrap();
    for table in ["cakes", "seaql_migrations"] {
        assert!(!has_table(&database, table).await, "{table}");
    }
    server.stop().await;
}

/// SeaORM has no lock, so that one of them may fail. What it leaves is whole.
async fn two_at_once_record_each_migration_once((server, database): (TestApp, TenantDatabase)) {
    for _ in 0..5 {
        let (one, other) = tokio::join!(up::<Migrator>(&database), up::<Migrator>(&database));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        assert_eq!(status::<Migrator>(&database).await.1, [""; 0]);
        database
            .with_sea_orm(async |connection| Migrator::fresh(&connection).await)
            .await
            .unwrap();
    }
    server.stop().await;
}

/// The job claims its runs, so that two instances do not run it at once.
#[tokio::test]
async fn a_job_migrates_each_tenant_once() {
    let configuration = json!({"migrations": {"on_connect": false}}).to_string();
    let tenants = ["acme", "globex", "initech"];
    let one = TestApp::start_with(app(), tenants, &configuration).await;
    let other = one.start_another(app()).await;
    for tenant in tenants {
        let client = other.tenant(tenant);
        let mut answer = client.get("/api/v1/cakes").await;
        for _ in 0..200 {
            if answer.status == 200 && answer.text() != "[]" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            answer = client.get("/api/v1/cakes").await;
        }
        assert_eq!(answer.expect(200).json(), json!(["Cheesecake"]));
    }
    other.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn cakes_are_found_without_a_server() {
    let cake = cake::Model {
        id: 1,
        name: "Cheesecake".to_owned(),
    };
    let mock = MockDatabase::new(DbBackend::Postgres).append_query_results([[cake.clone()]]);
    let database = tenant_database(mock.into_connection()).await;
    let all = cake::Entity::find().all(&database).await.unwrap();
    assert_eq!(all, std::slice::from_ref(&cake));

    let database = tenant_database(Database::connect("sqlite::memory:").await.unwrap()).await;
    migrate(database.clone()).await.unwrap();
    assert_eq!(cake::Entity::find().all(&database).await.unwrap(), [cake]);
}
