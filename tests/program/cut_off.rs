//! Clients that go away in the middle of their requests: whatever was going on then, the tenant's
//! pool is as good after it as before.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use futures_util::{StreamExt, future::join_all, stream};
use poem_openapi::{OpenApi, param::Path, payload::Json};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait, sea_query::Query};
use serde_json::json;
use tenantry::{App, Failure, Tenant};
use tenantry_test_support::{MariadbServer, OracleServer, PostgresServer, TenantDb, requests};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    sync::{Barrier, Notify},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    client::Client,
    databases::Database,
    users::{USERS, user},
};

/// How many users there are before, for the requests that read, change and delete one.
const KNOWN: usize = 100;
const AT_ONCE: usize = 48;
const POOL: usize = 8;

/// How long a handler may take to begin, and what happens in the background after a cut to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the built-in API has no operation for: a transaction of several statements, and a statement
/// that takes its time.
struct Work {
    progress: Arc<Progress>,
    /// Lets requests continue only when every connection of the pool is in use.
    all_in_use: Arc<Barrier>,
}

/// How far the requests of [`Work`] came.
struct Progress {
    /// Notifies the client of each request that its handler runs.
    begins: Vec<Notify>,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Progress {
    fn begin(&self, n: u64) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.begins[n as usize].notify_one();
    }

    fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[OpenApi]
impl Work {
    /// Make two users
    #[oai(path = "/api/v1/tenant/pairs/:n", method = "post", operation_id = "makePair")]
    async fn pair(&self, tenant: Tenant, n: Path<u64>) -> Result<Json<bool>, Failure> {
        self.progress.begin(n.0);
        let transaction = tenant.begin().await?;
        for half in ["left", "right"] {
            let email = format!("{half}{}@x.example", n.0);
            let insert = Query::insert()
                .into_table("users")
                .columns(["name", "email", "created_at", "updated_at"])
                .values_panic([half.into(), email.into(), Utc::now().into(), Utc::now().into()])
                .to_owned();
            transaction.execute(&insert).await?;
        }
        transaction.commit().await?;
        self.progress.end();
        Ok(Json(true))
    }

    /// Take long
    #[oai(path = "/api/v1/tenant/slow/:n", method = "get", operation_id = "beSlow")]
    async fn slow(&self, tenant: Tenant, n: Path<u64>) -> Result<Json<bool>, Failure> {
        self.progress.begin(n.0);
        let statement = Statement::from_string(tenant.get_database_backend(), slow(tenant.driver()));
        tenant.query_all_raw(statement).await?;
        self.progress.end();
        Ok(Json(true))
    }

    /// Hold a connection
    #[oai(path = "/api/v1/tenant/hold", method = "get", operation_id = "holdConnection")]
    async fn hold(&self, tenant: Tenant) -> Result<Json<bool>, Failure> {
        let transaction = tenant.begin().await?;
        self.all_in_use.wait().await;
        let count = Query::select().column("id").from("users").limit(1).to_owned();
        transaction.query_all(&count).await?;
        transaction.commit().await?;
        Ok(Json(true))
    }
}

/// Some twenty milliseconds.
fn slow(driver: &str) -> &'static str {
    match driver {
        "postgresql" => "SELECT pg_sleep(0.02)",
        "mysql" => "SELECT SLEEP(0.02)",
        "sqlite" => "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000) SELECT COUNT(*) FROM n",
        _ => {
            "WITH d AS (SELECT 1 AS x UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6
               UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9 UNION ALL SELECT 10)
             SELECT COUNT(*) AS n FROM d AS a CROSS JOIN d AS b CROSS JOIN d AS c CROSS JOIN d AS e CROSS JOIN d AS f"
        }
    }
}

/// Sends a request and goes away: from one of the built-in API at some moment, which mostly is
/// before its answer; from one of [`Work`] at some moment after its handler began, however long the
/// machine took until then. One in ten stays for its answer.
async fn cut_off(address: SocketAddr, n: u64, known: &[u64], progress: &Progress) {
    let mut random = fastrand::Rng::with_seed(n);
    let one = known[random.usize(..known.len())];
    let body = format!(r#"{{"name":"User {n}","email":"user{n}@x.example"}}"#);
    let (method, path, body, longest) = match random.u8(..100) {
        0..25 => ("GET", format!("{USERS}?limit=20"), "", 8_000.0),
        25..40 => ("GET", format!("{USERS}/{one}"), "", 6_000.0),
        40..60 => ("POST", USERS.to_owned(), body.as_str(), 8_000.0),
        60..70 => ("PUT", format!("{USERS}/{one}"), body.as_str(), 8_000.0),
        70..75 => ("DELETE", format!("{USERS}/{one}"), "", 6_000.0),
        75..93 => ("POST", format!("/api/v1/tenant/pairs/{n}"), "", 12_000.0),
        _ => ("GET", format!("/api/v1/tenant/slow/{n}"), "", 40_000.0),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: acme\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    if random.u8(..10) == 0 {
        assert!(stream.read(&mut answer).await.unwrap() > 0, "{method} {path}");
        return;
    }
    if !path.starts_with(USERS) {
        let begins = progress.begins[n as usize].notified();
        timeout(PATIENCE, begins).await.expect("a handler that runs");
    }
    // Rather early than late: a connection that is left in the middle of a statement has to be
    // opened anew.
    let moment = Duration::from_micros((longest * random.f64().powi(2)) as u64);
    drop(timeout(moment, stream.read(&mut answer)).await);
}

/// Sends all the requests, from a thread of their own: in the server's they would go away when it
/// has time for them, which is when they are answered.
fn cut_off_all(address: SocketAddr, known: &[u64], progress: &Progress) {
    let clients = stream::iter(0..progress.begins.len())
        .map(|n| cut_off(address, n as u64, known, progress))
        .buffer_unordered(AT_ONCE)
        .for_each(|()| async {});
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(clients);
}

/// A tenant's database, and what its server says of it.
enum Behind {
    Sqlite,
    Postgresql(&'static PostgresServer, TenantDb),
    Mariadb(&'static MariadbServer, TenantDb),
    Oracle(&'static OracleServer, TenantDb),
}

impl Behind {
    async fn of(database: Database) -> Self {
        match database {
            Database::Sqlite => Self::Sqlite,
            Database::Postgresql => {
                let server = PostgresServer::shared().await;
                Self::Postgresql(server, server.create_tenant("cut").await.unwrap())
            }
            Database::Mariadb => {
                let server = MariadbServer::shared().await;
                Self::Mariadb(server, server.create_tenant("cut").await.unwrap())
            }
            Database::Oracle => {
                let server = OracleServer::shared().await;
                Self::Oracle(server, server.create_tenant("cut").await.unwrap())
            }
        }
    }

    fn secret(&self) -> serde_json::Value {
        let mut secret = match self {
            Self::Sqlite => json!({"type": "sqlite", "path": "cut.db"}),
            Self::Postgresql(server, tenant) => server.secret(tenant),
            Self::Mariadb(server, tenant) => server.secret(tenant),
            Self::Oracle(server, tenant) => server.secret(tenant),
        };
        secret["pool"] = json!({"max": {"connections": POOL}, "idle": {"connections": POOL}});
        secret
    }

    /// How many sessions the server has of this tenant, and how many of them are in a transaction.
    /// SQLite has no server: there, a lock that was left behind would fail the writes that come
    /// after.
    async fn sessions(&self) -> Option<(u64, u64)> {
        Some(match self {
            Self::Sqlite => return None,
            Self::Postgresql(server, tenant) => {
                let sql = format!(
                    "SELECT count(*), count(xact_start) FROM pg_stat_activity WHERE usename = '{}'",
                    tenant.user
                );
                two_numbers(&server.psql("postgres", &sql).await.unwrap())
            }
            Self::Mariadb(server, tenant) => {
                let sql = format!(
                    "SELECT CONCAT(COUNT(*), '|', COUNT(trx_id)) FROM information_schema.processlist \
                     LEFT JOIN information_schema.innodb_trx ON trx_mysql_thread_id = id WHERE user = '{}'",
                    tenant.user
                );
                two_numbers(&server.sql("mysql", &sql).await.unwrap())
            }
            Self::Oracle(server, tenant) => (
                server.sessions(tenant).await.unwrap(),
                server.transactions(tenant).await.unwrap(),
            ),
        })
    }
}

fn two_numbers(text: &str) -> (u64, u64) {
    let (one, other) = text.trim().split_once('|').unwrap();
    (one.parse().unwrap(), other.parse().unwrap())
}

/// The tenant's pool as the operator sees it, which opens nothing.
async fn pool(client: &Client) -> (u64, u64) {
    let tenants = client.get("/health/tenants").await.expect(200).json();
    let pool = &tenants["tenants"][0]["pool"];
    (pool["open"].as_u64().unwrap(), pool["in_use"].as_u64().unwrap())
}

async fn requests_that_are_cut_off_leak_nothing(database: Database) {
    let behind = Behind::of(database).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let drivers = match database {
        Database::Oracle => json!({"oracle": {"client_library": OracleServer::shared().await.client_library()}}),
        _ => json!({}),
    };
    let config = json!({
        "server": {"listen": "127.0.0.1:0"},
        "tenancy": {
            "provider": {"type": "static", "tenants": {"acme": behind.secret()}},
            // No request may fail for having waited: the machine may be busy.
            "pools": {"acquire_timeout": "60s", "connect_timeout": "60s"},
        },
        "migrations": {"on_connect": true, "sample_data": false},
        "drivers": drivers,
    });
    tokio::fs::write(&file, config.to_string()).await.unwrap();
    let requests = requests(3_000);
    let progress = Arc::new(Progress {
        begins: (0..requests).map(|_| Notify::new()).collect(),
        begun: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
    });
    let work = Work {
        progress: progress.clone(),
        all_in_use: Arc::new(Barrier::new(POOL)),
    };
    let server = App::new().api(work).start(&file).await.unwrap();
    let address = server.address();
    let client = Client::at(format!("http://{address}"));
    let acme = client.tenant("acme");
    let mut known = Vec::new();
    for n in 0..KNOWN {
        let made = acme.post(USERS, &user("Known", &format!("known{n}@x.example"))).await;
        known.push(made.expect(201).json()["id"].as_u64().unwrap());
    }

    let before = Instant::now();
    let counted = progress.clone();
    spawn_blocking(move || cut_off_all(address, &known, &counted))
        .await
        .unwrap();
    let (begun, ended) = (
        progress.begun.load(Ordering::Relaxed),
        progress.ended.load(Ordering::Relaxed),
    );
    println!(
        "{}: {requests} requests in {:?}; of {begun} that were counted {} were cut off in the middle",
        database.driver(),
        before.elapsed(),
        begun - ended
    );
    // Chance was not so unkind as to test nothing.
    assert!(begun > 200 && ended > 10 && begun - ended > 50, "{begun} {ended}");

    // At rest: nothing in use, no session that is not the pool's, none in a transaction.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (open, in_use) = pool(&client).await;
        let sessions = behind.sessions().await;
        if in_use == 0 && sessions.is_none_or(|(sessions, in_transaction)| sessions == open && in_transaction == 0) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{in_use} of {open} connections are in use; the server has {sessions:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Each connection is usable, all of them at the same time.
    for answer in join_all((0..POOL).map(|_| acme.get("/api/v1/tenant/hold"))).await {
        answer.expect(200);
    }
    assert_eq!(pool(&client).await, (POOL as u64, 0));
    acme.post(USERS, &user("Late", "late@x.example")).await.expect(201);

    // And no transaction was kept by half.
    let (mut halves, mut query) = ([BTreeSet::new(), BTreeSet::new()], String::new());
    loop {
        let page = acme.get(&format!("{USERS}?limit=200{query}")).await.expect(200).json();
        for user in page["items"].as_array().unwrap() {
            let email = user["email"].as_str().unwrap();
            for (half, prefix) in halves.iter_mut().zip(["left", "right"]) {
                half.extend(email.strip_prefix(prefix).map(str::to_owned));
            }
        }
        match page["next"].as_str() {
            Some(next) => query = format!("&after={next}"),
            None => break,
        }
    }
    let [left, right] = halves;
    let alone: Vec<&String> = left.symmetric_difference(&right).collect();
    assert!(!left.is_empty() && alone.is_empty(), "{alone:?}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_requests_leak_nothing_on_sqlite() {
    requests_that_are_cut_off_leak_nothing(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_requests_leak_nothing_on_postgresql() {
    requests_that_are_cut_off_leak_nothing(Database::Postgresql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_requests_leak_nothing_on_mariadb() {
    requests_that_are_cut_off_leak_nothing(Database::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_requests_leak_nothing_on_oracle() {
    requests_that_are_cut_off_leak_nothing(Database::Oracle).await;
}
