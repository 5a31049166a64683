//! The end: by a signal, under load, without a request lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry_test_support::{PostgresServer, TenantDb, TenantryProcess};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    client::{Answer, Client},
    databases::{config, program},
    users::{USERS, user},
};

const CLIENTS: usize = 32;

/// Asks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} did not come about");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn is_down(client: &Client) -> bool {
    let ready = Answer::read(client.request(reqwest::Method::GET, "/health/ready"))
        .await
        .unwrap();
    match ready.status {
        200 => false,
        503 => {
            assert_eq!(ready.json(), json!({"status": "down"}));
            true
        }
        other => panic!("readiness is {other}"),
    }
}

/// A client with its own connections.
fn own_connections(server: &TenantryProcess) -> Client {
    Client::of(server)
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn every_request_of_a_server_that_is_told_to_stop_is_answered() {
    let secrets =
        json!({"acme": {"type": "sqlite", "path": "acme.db"}, "globex": {"type": "sqlite", "path": "globex.db"}});
    let server = program()
        .config(format!(
            "{}server: {{ shutdown_grace: 10s }}\nlogging: {{ level: warn }}\n",
            config(&secrets)
        ))
        .start()
        .await
        .unwrap();
    let (answered, answered_late) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let down = Arc::new(AtomicBool::new(false));
    let load = (0..CLIENTS).map(|n| {
        let client = own_connections(&server).tenant(["acme", "globex"][n % 2]);
        let (answered, answered_late, down) = (answered.clone(), answered_late.clone(), down.clone());
        tokio::spawn(async move {
            for round in 0.. {
                let was_down = down.load(Ordering::SeqCst);
                let request = if round % 10 == 0 {
                    client
                        .request(reqwest::Method::POST, USERS)
                        .json(&user("Ann", &format!("a{n}-{round}@x.example")))
                } else {
                    client.request(reqwest::Method::GET, &format!("{USERS}?limit=20"))
                };
                match Answer::read(request).await {
                    Ok(answer) => {
                        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
                        serde_json::from_slice::<Value>(&answer.body).unwrap();
                        answered.fetch_add(1, Ordering::SeqCst);
                        answered_late.fetch_add(usize::from(was_down), Ordering::SeqCst);
                    }
                    // The door is closed: no request was accepted.
                    Err(error) if is_refused(&error) => return,
                    Err(error) => panic!("a request was lost: {error:?}"),
                }
            }
        })
    });
    let load: Vec<_> = load.collect();
    until("load", || async { answered.load(Ordering::SeqCst) > 200 }).await;

    let began = Instant::now();
    server.terminate().await.unwrap();
    let probe = own_connections(&server);
    until("readiness down", || is_down(&probe)).await;
    down.store(true, Ordering::SeqCst);
    for client in join_all(load).await {
        client.unwrap();
    }
    assert_eq!(server.wait().await.unwrap(), 0, "{}", server.logs().await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Readiness turned down first: requests were accepted after that.
    assert!(
        answered_late.load(Ordering::SeqCst) > CLIENTS,
        "{} requests were answered after it",
        answered_late.load(Ordering::SeqCst)
    );
    let logs = server.logs().await.unwrap();
    assert!(!logs.contains("ERROR") && !logs.contains("panic"), "{logs}");
}

/// A tenant with a locked table, so that reads of it wait.
struct Locked {
    tenant: TenantDb,
    secret: Value,
}

impl Locked {
    async fn new() -> Self {
        let postgres = PostgresServer::shared().await;
        let tenant = postgres.create_tenant("locked").await.unwrap();
        let mut secret = postgres.secret(&tenant);
        secret["pool"] = json!({"max": {"connections": CLIENTS + 8}});
        Self { tenant, secret }
    }

    /// Starts `requests` requests and waits until each of them waits for the table.
    async fn fill(
        &self,
        server: &TenantryProcess,
        requests: usize,
    ) -> Vec<tokio::task::JoinHandle<reqwest::Result<Answer>>> {
        let client = own_connections(server).tenant("acme");
        client.get(USERS).await.expect(200);
        let postgres = PostgresServer::shared().await;
        let database = self.tenant.database.clone();
        tokio::spawn(async move {
            // Ends by being terminated.
            postgres
                .psql(&database, "BEGIN; LOCK TABLE users; SELECT pg_sleep(60);")
                .await
        });
        let holds = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
        until("the lock", || async {
            postgres.psql(&self.tenant.database, holds).await.unwrap() == "1"
        })
        .await;
        let waiting: Vec<_> = (0..requests)
            .map(|_| {
                let request = own_connections(server)
                    .tenant("acme")
                    .request(reqwest::Method::GET, USERS);
                tokio::spawn(Answer::read(request))
            })
            .collect();
        let blocked =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let all = requests.to_string();
        until("requests that wait", || async {
            postgres.psql(&self.tenant.database, blocked).await.unwrap() == all
        })
        .await;
        waiting
    }

    async fn release(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
        PostgresServer::shared()
            .await
            .psql(&self.tenant.database, end)
            .await
            .unwrap();
    }
}

async fn is_closed(server: &TenantryProcess) -> bool {
    TcpStream::connect(("127.0.0.1", server.port())).await.is_err()
}

#[tokio::test]
async fn requests_that_run_when_the_door_closes_are_answered() {
    let locked = Locked::new().await;
    let server = program()
        .config(config(&json!({"acme": locked.secret})))
        // On a busy machine it takes a while until each has its connection and waits for the table.
        .env("TENANTRY__SERVER__REQUEST_TIMEOUT", "90s")
        .env("TENANTRY__TENANCY__POOLS__ACQUIRE_TIMEOUT", "90s")
        .env("TENANTRY__DRIVERS__POSTGRESQL__STATEMENT_TIMEOUT", "90s")
        .start()
        .await
        .unwrap();
    let waiting = locked.fill(&server, CLIENTS).await;
    server.terminate().await.unwrap();
    let probe = own_connections(&server);
    until("readiness down", || is_down(&probe)).await;
    until("a closed door", || is_closed(&server)).await;
    locked.release().await;
    for request in join_all(waiting).await {
        let answer = request
            .unwrap()
            .unwrap_or_else(|error| panic!("a request was lost: {error:?}"));
        assert_eq!(answer.expect(200).json(), json!({"items": [], "next": null}));
    }
    assert_eq!(server.wait().await.unwrap(), 0, "{}", server.logs().await.unwrap());
}

#[tokio::test]
async fn a_server_does_not_wait_longer_than_its_grace() {
    let locked = Locked::new().await;
    let config = format!(
        "{}server: {{ shutdown_grace: 2s, request_timeout: 50s }}\n",
        config(&json!({"acme": locked.secret}))
    );
    let server = program().config(config).start().await.unwrap();
    let waiting = locked.fill(&server, 2).await;
    let began = Instant::now();
    server.terminate().await.unwrap();
    let code = timeout(Duration::from_secs(20), server.wait()).await.unwrap().unwrap();
    // As long as a busy machine needs to see it.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(code, 1);
    let logs = server.logs().await.unwrap();
    assert!(logs.contains("`server.shutdown_grace`"), "{logs}");
    // Each of them has an answer, and its line in the log has the same status.
    for request in waiting {
        request.await.unwrap().unwrap().problem(503, "shutting_down");
    }
    assert!(!logs.contains("status=499"), "{logs}");
    locked.release().await;
}

#[tokio::test]
async fn a_write_that_a_stop_ends_has_an_unknown_outcome() {
    let locked = Locked::new().await;
    let config = format!(
        "{}server: {{ shutdown_grace: 2s, request_timeout: 50s }}\n",
        config(&json!({"acme": locked.secret}))
    );
    let server = program().config(config).start().await.unwrap();
    let reading = locked.fill(&server, 1).await;
    let write = own_connections(&server)
        .tenant("acme")
        .request(reqwest::Method::POST, USERS)
        .json(&user("Ann", "ann@example.com"));
    let writing = tokio::spawn(Answer::read(write));
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("both wait", || async {
        let postgres = PostgresServer::shared().await;
        postgres.psql(&locked.tenant.database, blocked).await.unwrap() == "2"
    })
    .await;
    server.terminate().await.unwrap();
    let written = writing.await.unwrap().unwrap();
    written.problem(503, "outcome_unknown");
    for request in reading {
        request.await.unwrap().unwrap().problem(503, "shutting_down");
    }
    assert_eq!(server.wait().await.unwrap(), 1);
    locked.release().await;
}

#[tokio::test]
async fn an_interrupt_stops_a_server_and_an_idle_one_soon() {
    let secrets = json!({"acme": {"type": "sqlite", "path": "acme.db"}});
    for signal in ["INT", "TERM"] {
        let config = format!("{}server: {{ shutdown_grace: 1s }}\n", config(&secrets));
        let server = program().config(config).start().await.unwrap();
        let client = own_connections(&server);
        // Its connection stays open, and does not delay the shutdown.
        client.tenant("acme").get(USERS).await.expect(200);
        // Nor does one on which nothing was ever said.
        let silent = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let began = Instant::now();
        server.signal(signal).await.unwrap();
        assert_eq!(server.wait().await.unwrap(), 0, "{}", server.logs().await.unwrap());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(server.logs().await.unwrap().contains("every_connection_closed=true"));
        drop((client, silent));
    }
}

#[tokio::test]
async fn a_second_ctrl_c_ends_the_server_at_once() {
    let locked = Locked::new().await;
    let config = format!(
        "{}server: {{ shutdown_grace: 50s, request_timeout: 50s }}\n",
        config(&json!({"acme": locked.secret}))
    );
    let server = program().config(config).start().await.unwrap();
    let waiting = locked.fill(&server, 2).await;
    server.signal("INT").await.unwrap();
    until("draining", || async {
        server.logs().await.unwrap().contains("stopping: readiness is down")
    })
    .await;
    let began = Instant::now();
    server.signal("INT").await.unwrap();
    let code = timeout(Duration::from_secs(20), server.wait()).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(code, 1);
    assert!(server.logs().await.unwrap().contains("interrupted while stopping"));
    for request in waiting {
        assert!(request.await.unwrap().is_err());
    }
    locked.release().await;
}
