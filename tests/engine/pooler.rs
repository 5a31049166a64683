//! Tenants behind a PgBouncer in transaction mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all};
use sea_orm::{ConnectionTrait, Statement, StreamTrait, TransactionTrait};
use serde_json::json;
use tenantry_core::{
    BuildContext, DatabaseErrorKind, Registry,
    engine::{EngineSettings, TenantDatabase, Tenants, TenantsParts},
};
use tenantry_drivers::PostgresqlDriver;
use tenantry_test_support::{PgBouncer, PostgresServer, TenantDb, requests};

use crate::scripted::{Scripted, id};

const CLIENTS: i64 = 16;

struct Pooled {
    server: &'static PostgresServer,
    pgbouncer: PgBouncer,
    tenant: TenantDb,
    tenants: Tenants,
}

impl Pooled {
    /// A tenant behind a pooler with this many sessions.
    async fn start(sessions: usize) -> Self {
        let server = PostgresServer::shared().await;
        let size = format!("default_pool_size = {sessions}");
        let pgbouncer = PgBouncer::start(server, &size).await.unwrap();
        let tenant = server.create_tenant("pooled").await.unwrap();
        let mut registry = Registry::new();
        registry.driver::<PostgresqlDriver>();
        let context = BuildContext::for_tests(Registry::new());
        let driver = registry
            .build_driver(json!({"type": "postgresql"}), &context)
            .await
            .unwrap();
        let provider = Arc::new(Scripted::default());
        provider.put("acme", pgbouncer.secret(&tenant));
        let tenants = Tenants::new(TenantsParts {
            provider,
            provider_type: "scripted".to_owned(),
            drivers: vec![("postgresql".to_owned(), driver)],
            settings: EngineSettings::default(),
            on_connect: None,
            observer: None,
        });
        let pooled = Self {
            server,
            pgbouncer,
            tenant,
            tenants,
        };
        let create = "CREATE TABLE numbers (n bigint PRIMARY KEY, client bigint)";
        pooled.database().await.execute_unprepared(create).await.unwrap();
        pooled
    }

    async fn database(&self) -> TenantDatabase {
        self.tenants.acquire(&id("acme")).await.unwrap()
    }

    /// Runs SQL on the tenant's database, not through the pooler.
    async fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.tenant.database, sql).await.unwrap()
    }
}

fn with<const N: usize>(sql: &str, values: [i64; N]) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values.map(Into::into))
}

const INSERT: &str = "INSERT INTO numbers (n, client) VALUES ($1, $2)";

/// What one request does: five writes, of which four are kept, among reads.
async fn request(database: &TenantDatabase, client: i64, first: i64) -> Result<(), sea_orm::DbErr> {
    database.execute_raw(with(INSERT, [first, client])).await?;
    let own = format!("SELECT n, {first}::bigint AS own FROM numbers WHERE n = $1");
    let row = database.query_one_raw(with(&own, [first])).await?.unwrap();
    assert_eq!(row.try_get::<i64>("", "own").unwrap(), first);

    let outer = database.begin().await?;
    outer.execute_raw(with(INSERT, [first + 1, client])).await?;
    let inner = outer.begin().await?;
    inner.execute_raw(with(INSERT, [first + 4, client])).await?;
    inner.rollback().await?;
    let inner = outer.begin().await?;
    inner.execute_raw(with(INSERT, [first + 2, client])).await?;
    inner.commit().await?;
    outer.commit().await?;

    let mut rows = database.stream_raw(with("SELECT generate_series(1, $1)", [50])).await?;
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row?;
        count += 1;
    }
    assert_eq!(count, 50);
    drop(rows);
    database.execute_raw(with(INSERT, [first + 3, client])).await?;
    Ok(())
}

async fn every_request_succeeds(sessions: usize) {
    let requests = requests(2_000) as i64 / CLIENTS;
    let pooled = Pooled::start(sessions).await;
    let (succeeded, failed) = (AtomicI64::new(0), AtomicI64::new(0));
    let clients = (0..CLIENTS).map(|client| {
        let (pooled, succeeded, failed) = (&pooled, &succeeded, &failed);
        async move {
            for n in 0..requests {
                let database = pooled.database().await;
                match request(&database, client, (client * requests + n) * 5).await {
                    Ok(()) => succeeded.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        println!("{error}");
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
        }
    });
    join_all(clients).await;
    let counts = (succeeded.into_inner(), failed.into_inner());
    println!(
        "{sessions} sessions: {} requests succeeded, {} failed",
        counts.0, counts.1
    );
    assert_eq!(counts, (CLIENTS * requests, 0));
    let written = pooled
        .psql("SELECT count(*), count(*) FILTER (WHERE n % 5 = 4) FROM numbers")
        .await;
    assert_eq!(written, format!("{}|0", CLIENTS * requests * 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_succeeds_on_two_sessions_of_a_pooler() {
    every_request_succeeds(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_succeeds_on_four_sessions_of_a_pooler() {
    every_request_succeeds(4).await;
}

/// While sessions are ended and the pooler is restarted again and again, each write is there if it
/// was acknowledged, and not there if it was refused, unless its outcome is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_is_restarted_loses_and_doubles_no_write() {
    let writes = requests(4_000) as i64 / CLIENTS;
    let pooled = Pooled::start(3).await;
    let clients = (0..CLIENTS).map(|client| {
        let pooled = &pooled;
        async move {
            let (mut kept, mut unknown, mut refused) = (Vec::new(), Vec::new(), Vec::new());
            for n in 0..writes {
                let number = client * writes + n;
                let database = pooled.database().await;
                match database.execute_raw(with(INSERT, [number, client])).await {
                    Ok(_) => kept.push(number),
                    Err(error) if DatabaseErrorKind::of(&error) == DatabaseErrorKind::OutcomeUnknown => {
                        unknown.push(number);
                    }
                    Err(error) => {
                        refused.push((number, error));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            (kept, unknown, refused)
        }
    });
    let end_sessions = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        pooled.tenant.user
    );
    let drops = async {
        loop {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                pooled.psql(&end_sessions).await;
            }
            pooled.pgbouncer.restart().await.unwrap();
        }
    };
    let outcomes = tokio::select! {
        outcomes = join_all(clients) => outcomes,
        () = drops => unreachable!("it has no end"),
    };
    let there = pooled.psql("SELECT n FROM numbers").await;
    let there: BTreeSet<i64> = there.lines().map(|line| line.parse().unwrap()).collect();
    let (mut kept, mut unknown, mut refused) = (0, 0, 0);
    let mut kinds = BTreeMap::<&str, usize>::new();
    for outcome in outcomes {
        assert!(outcome.0.iter().all(|number| there.contains(number)), "a write is lost");
        for (number, error) in &outcome.2 {
            assert!(!there.contains(number), "{error}");
            *kinds.entry(DatabaseErrorKind::of(error).as_str()).or_default() += 1;
        }
        kept += outcome.0.len();
        unknown += outcome.1.len();
        refused += outcome.2.len();
    }
    println!("{kept} writes were acknowledged, {unknown} are unknown, {refused} were refused: {kinds:?}");
    assert!(kept > 0 && kept + unknown + refused == (CLIENTS * writes) as usize);
}

#[tokio::test]
async fn a_lost_commit_of_a_single_write_is_an_unknown_outcome() {
    let pooled = Pooled::start(2).await;
    let slow =
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER t AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait()";
    let database = pooled.database().await;
    database.execute_unprepared(slow).await.unwrap();
    let user = &pooled.tenant.user;
    let lose = async {
        let commit =
            format!("FROM pg_stat_activity WHERE usename = '{user}' AND query = 'COMMIT' AND state = 'active'");
        while pooled.psql(&format!("SELECT count(*) {commit}")).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pooled.psql(&format!("SELECT pg_terminate_backend(pid) {commit}")).await;
    };
    let (outcome, ()) = tokio::join!(database.execute_raw(with(INSERT, [1, 1])), lose);
    let error = outcome.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::OutcomeUnknown);
}
