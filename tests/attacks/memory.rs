//! Attempts to fill the server's memory, while a neighbour's requests go on.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::{Value, json};
use tenantry_test_support::{PostgresServer, TenantryProcess};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::raw::{Answer, LIMIT, exchange, program, send, start};

/// The most resident memory that the server may have, in MiB: 150 MB. At rest a debug build takes
/// some 20 MiB more than a release build.
const MOST: u64 = if cfg!(debug_assertions) { 165 } else { 143 };
/// How long an attack goes on.
const ATTACK: Duration = Duration::from_secs(8);

async fn resident(server: &TenantryProcess) -> u64 {
    let status = format!("/proc/{}/status", server.pid().await.unwrap());
    let status = tokio::fs::read_to_string(status).await.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes / 1024
}

async fn neighbour(server: &TenantryProcess) -> Answer {
    send(
        server,
        "GET /api/v1/tenant/info",
        &["Host: localhost", "X-Tenant-ID: zeta"],
    )
    .await
}

/// For as long as an attack goes on, each request of a neighbour succeeds and memory stays bounded.
async fn stands(server: &TenantryProcess) {
    let until = Instant::now() + ATTACK;
    let mut most = 0;
    while Instant::now() < until {
        let answer = neighbour(server).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        most = most.max(resident(server).await);
        assert!(most < MOST, "{most} MiB");
        sleep(Duration::from_millis(50)).await;
    }
    println!("at most {most} MiB");
}

async fn connect(server: &TenantryProcess) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).await.unwrap()
}

/// Opens connections that send `begin`, and then one byte after the other.
async fn drip(server: &TenantryProcess, connections: usize, begin: String) {
    let mut attackers = JoinSet::new();
    for _ in 0..connections {
        let mut stream = connect(server).await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        attackers.spawn(async move {
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(2)).await;
            }
        });
    }
    stands(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_heads_cost_little() {
    let server = start("").await;
    drip(
        &server,
        2_000,
        "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX: ".into(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_open_bodies_cost_little() {
    let server = start("").await;
    let begin = "POST /api/v1/tenant/users HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: acme\r\n\
                 Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{";
    drip(&server, 2_000, format!("{begin}{}", " ".repeat(2_000))).await;
    let acme = ["Host: localhost", "X-Tenant-ID: acme"];
    let own = send(&server, "GET /api/v1/tenant/info", &acme).await;
    assert_eq!(own.status, 200, "open bodies took the tenant's own turn: {own:?}");
}

/// Users of whom a page takes 12 MB, more than the buffers of sockets, and clients that read one
/// line of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_no_client_reads_are_bounded() {
    const ROWS: usize = 4_000;
    const ANSWERED: &str = "HTTP/1.1 200";
    let server = start(
        "server: { body_limit: 2MiB, limits: { unread_answers: 64MiB } }\n\
         rest: { max_rows: 4000, tables: { users: { key: [id], columns: { id: { type: int8, generated: true }, \
         name: { type: text }, email: { type: text } }, allow: { anon: { read: {}, create: {} } } } } }",
    )
    .await;
    let insert = |tenant: &str, group: &str, prefer: &str| {
        let user = |n: usize| json!({"name": "x".repeat(200), "email": format!("{n}@{group}.example")});
        let body = Value::from_iter((0..ROWS).map(user)).to_string();
        let length = body.len();
        format!(
            "POST /rest/v1/users HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: {tenant}\r\nPrefer: {prefer}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    for tenant in ["acme", "zeta"] {
        let inserted = exchange(&server, insert(tenant, "first", "return=minimal").as_bytes()).await;
        assert_eq!(inserted.status, 201, "{inserted:?}");
    }
    let columns: Vec<String> = (0..15).map(|n| format!("n{n}:name")).collect();
    let read = async |tenant: &str| {
        let mut stream = connect(&server).await;
        let request = format!(
            "GET /rest/v1/users?select={} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: {tenant}\r\n\r\n",
            columns.join(",")
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; ANSWERED.len()];
        timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        (stream, String::from_utf8_lossy(&answer).into_owned())
    };
    let mut unread = Vec::new();
    for number in 0..8 {
        let (stream, status) = read("acme").await;
        // A quarter of 64 MiB is 16 MiB, and the last one may take more than is left.
        let expected = if number < 2 { ANSWERED } else { "HTTP/1.1 429" };
        assert_eq!(status, expected, "number {number}");
        unread.push(stream);
    }
    assert_eq!(read("zeta").await.1, ANSWERED, "of the other tenant");
    let written = exchange(&server, insert("acme", "second", "return=representation").as_bytes()).await;
    assert_eq!(written.status, 503, "{:?}", written.head);
    assert!(
        !written.head.to_lowercase().contains("retry-after"),
        "{:?}",
        written.head
    );
    drop(unread);
    let again = async {
        while read("acme").await.1 != ANSWERED {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, again).await.expect("the room is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_names_cost_little() {
    let server = start("").await;
    let mut attackers = JoinSet::new();
    for attacker in 0..8_u32 {
        let stream = connect(&server).await;
        let (mut answers, mut requests) = stream.into_split();
        attackers.spawn(async move {
            let mut sink = [0; 65_536];
            while answers.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        });
        attackers.spawn(async move {
            for name in 0_u64.. {
                let request = format!(
                    "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: made-up-{attacker}-{name}\r\n\r\n"
                );
                if requests.write_all(request.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
    stands(&server).await;
}

/// One frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /openapi.json` in HPACK, each field a literal that is not indexed (RFC 7541 §6.2.2).
fn head() -> Vec<u8> {
    let fields = [
        (":path", "/openapi.json"),
        (":authority", "localhost"),
        ("accept-encoding", "gzip"),
    ];
    let mut head = vec![0x82, 0x86];
    for (name, value) in fields {
        head.push(0);
        for text in [name, value] {
            head.push(text.len() as u8);
            head.extend(text.bytes());
        }
    }
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_streams_that_nobody_reads_cost_little() {
    let server = start("").await;
    const INITIAL_WINDOW_SIZE: [u8; 6] = [0, 4, 0, 0, 0, 0];
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &INITIAL_WINDOW_SIZE));
        for stream in 0..1_000 {
            // END_STREAM and END_HEADERS.
            bytes.extend(frame(1, 5, 2 * stream + 1, &head()));
        }
        let mut stream = connect(&server).await;
        // The server may end the connection, which asks for more than it may.
        if stream.write_all(&bytes).await.is_ok() {
            open.push(stream);
        }
    }
    stands(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_sends_a_gigabyte_costs_little() {
    let postgres = PostgresServer::shared().await;
    let acme = postgres.create_tenant("gigabyte").await.unwrap();
    let secret = postgres.secret(&acme);
    let tenants = json!({"acme": secret, "zeta": {"type": "sqlite", "path": "zeta.db"}});
    // The allocator keeps freed memory for a while, on a busy machine more of it. Here it gives it
    // back at once, so that what is measured is in use.
    let server = program("", "")
        .env("MIMALLOC_PURGE_DELAY", "0")
        .config(format!(
            "tenancy:\n  provider: {{ type: static, tenants: {tenants} }}\nmigrations: {{ on_connect: true }}\n"
        ))
        .start()
        .await
        .unwrap();
    let users = ["Host: localhost", "X-Tenant-ID: acme"];
    assert_eq!(send(&server, "GET /api/v1/tenant/users", &users).await.status, 200);
    let rows = "ALTER TABLE users ALTER COLUMN name TYPE text; ALTER TABLE users ALTER COLUMN name SET STORAGE EXTERNAL; \
                INSERT INTO users (name, email) SELECT repeat('x', 5000000), n || '@example.com' FROM generate_series(1, 200) n";
    postgres.psql(&acme.database, rows).await.unwrap();
    let attack = async {
        loop {
            let answer = send(&server, "GET /api/v1/tenant/users?limit=200", &users).await;
            assert!(matches!(answer.status, 500 | 503 | 504), "{}", answer.status);
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = attack => {}
        () = stands(&server) => {}
    }
    timeout(Duration::from_secs(10), neighbour(&server)).await.unwrap();
}
