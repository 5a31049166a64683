//! Clients that send more than the server reads, that send too slowly, and that read nothing.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

use crate::{
    client::{Client, send},
    databases::{config, program},
    users::{USERS, user},
};

const TOKEN: &str = "operator-token-of-this-test";

fn secrets() -> Value {
    json!({
        "acme": {"type": "sqlite", "path": "acme.db"},
        "few": {"type": "sqlite", "path": "few.db", "limits": {"concurrent_requests": 4}},
    })
}

async fn start(server: &str) -> TenantryProcess {
    let config = format!(
        "{}server: {{ {server} }}\nadmin: {{ token: {TOKEN} }}\nlogging: {{ level: warn }}\n",
        config(&secrets())
    );
    program().config(config).start().await.unwrap()
}

/// An ordinary client: it sends all of its body before it looks for an answer.
const ORDINARY: &str = r#"
import http.client, json, sys
port, tries = int(sys.argv[1]), int(sys.argv[2])
users, json_type = "/api/v1/tenant/users", {"Content-Type": "application/json"}
acme = {"X-Tenant-ID": "acme", **json_type}
cases = [
    (413, "POST", users, acme),
    (400, "POST", users, json_type),
    (404, "POST", users, {**acme, "X-Tenant-ID": "nobody"}),
    (404, "POST", "/nope", acme),
    (405, "POST", "/api/v1/tenant/info", acme),
    (415, "POST", users, {**acme, "Content-Type": "text/plain"}),
    (415, "POST", users, {**acme, "Content-Encoding": "br"}),
    (401, "POST", "/admin/cache/clear", json_type),
    (401, "POST", "/admin/cache/clear", {"Authorization": "Bearer wrong"}),
]
lost = 0
for megabytes in (2, 20):
    body = b"a" * (megabytes << 20)
    for status, method, path, headers in cases:
        # A body in pieces announces no length.
        for pieces in (False, True):
            for _ in range(tries):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    sent = iter([body[:1 << 20]] * megabytes) if pieces else body
                    connection.request(method, path, sent, headers)
                    answer = connection.getresponse()
                    problem = json.loads(answer.read())
                    # A body over the limit may be read, and refused, before its tenant or its type is.
                    assert problem["status"] == answer.status and answer.status in (status, 413), problem
                    connection.close()
                except OSError as error:
                    print(status, megabytes, pieces, repr(error))
                    lost += 1
sys.exit(lost != 0)
"#;

#[tokio::test]
async fn an_ordinary_client_sees_every_early_answer() {
    let server = start("request_timeout: 30s").await;
    let client = Command::new("python3")
        .args(["-c", ORDINARY, &server.port().to_string(), "3"])
        .kill_on_drop(true)
        .output();
    let client = client.await.unwrap();
    let said = String::from_utf8_lossy(&client.stdout) + String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}");
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_asked_for() {
    let server = start("request_timeout: 30s").await;
    for (length, tenant, expected) in [(5_000_000, "acme", "413"), (20, "nobody", "100"), (20, "acme", "100")] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let head = format!(
            "POST {USERS} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: {tenant}\r\nContent-Type: application/json\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {expected}"));
    }
}

#[tokio::test]
async fn clients_that_send_no_body_hold_no_request_of_their_tenant() {
    let server = start("request_timeout: 30s").await;
    let few = Client::of(&server).tenant("few");
    few.get(USERS).await.expect(200);
    let open = join_all((0..50).map(async |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let head = format!(
            "POST {USERS} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: few\r\nContent-Type: application/json\r\n\
             Content-Length: 105\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }));
    let open = open.await;
    for n in 0..20 {
        let email = format!("ann{n}@x.example");
        few.post(USERS, &user("Ann", &email)).await.expect(201);
    }
    // They are still there: none was answered.
    let mut one = open.into_iter().next().unwrap();
    assert!(timeout(Duration::from_millis(10), one.read(&mut [0])).await.is_err());
}

#[tokio::test]
async fn slow_heads_do_not_block_other_clients_for_long() {
    let server = start("limits: { connections: 4, head_timeout: 2s }").await;
    let slow = join_all((0..4).map(async |n| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        if n > 0 {
            stream.write_all(b"GET / HT").await.unwrap();
        }
        stream
    }));
    let mut slow = slow.await;
    let began = Instant::now();
    // It waits in the kernel until one of them is closed.
    Client::of(&server).get("/health/live").await.expect(200);
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    for stream in &mut slow {
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    }
}

/// The clients of a rolling restart, of a server that has as many connections as it may have.
#[tokio::test]
async fn a_stop_answers_clients_that_wait_for_a_connection() {
    let server = start("limits: { connections: 2 }").await;
    let connect = async || TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let _held = [connect().await, connect().await];
    let waiting = join_all((0..20).map(async |_| {
        let mut stream = connect().await;
        let head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream
    }));
    let mut waiting = waiting.await;
    let answered = timeout(Duration::from_millis(200), waiting[0].read(&mut [0])).await;
    assert!(answered.is_err(), "the limit does not hold: {answered:?}");
    server.terminate().await.unwrap();
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(server.wait().await.unwrap(), 0, "{}", server.logs().await.unwrap());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered() {
    let server = start("request_timeout: 30s").await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "a".repeat(500_000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// The resident memory of the program, in MiB.
async fn resident(server: &TenantryProcess) -> u64 {
    let pid = server.pid().await.unwrap();
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Opens an HTTP/2 connection with a client that sends 1,000 requests and reads no body, and waits
/// for the heads of as many answers as the server runs at once.
async fn take_nothing(server: &TenantryProcess, path: &str) -> Vec<http::Response<h2::RecvStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (requests, connection) = builder.handshake::<_, Bytes>(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..1_000 {
        let request = http::Request::get(format!("http://localhost{path}"))
            .header("accept-encoding", "gzip")
            .header("x-tenant-id", "acme")
            .body(())
            .unwrap();
        answers.push(requests.send_request(request, true).unwrap().0);
    }
    // Requests that were sent before the client knew the limit are refused.
    let heads = join_all(
        answers
            .into_iter()
            .map(|answer| timeout(Duration::from_secs(3), answer)),
    );
    let heads: Vec<_> = heads.await.into_iter().filter_map(|head| head.ok()?.ok()).collect();
    assert!((1..=100).contains(&heads.len()), "{} run at once", heads.len());
    heads
}

#[tokio::test]
async fn answers_that_are_not_read_hold_little_memory() {
    let server = start("request_timeout: 30s").await;
    let acme = Client::of(&server).tenant("acme");
    acme.get("/openapi.json").await.expect(200);
    for n in 0..40 {
        let email = format!("ann{n}@x.example");
        acme.post(USERS, &user(&"a".repeat(200), &email)).await.expect(201);
    }
    let before = resident(&server).await;
    let mut kept = Vec::new();
    for path in ["/openapi.json", USERS] {
        for _ in 0..5 {
            kept.push(take_nothing(&server, path).await);
        }
    }
    let grown = resident(&server).await.saturating_sub(before);
    assert!(grown < 60, "answers that are not read hold {grown} MiB");
    acme.get(USERS).await.expect(200);
}

#[tokio::test]
async fn a_compressed_body_is_read() {
    let server = start("request_timeout: 30s").await;
    let acme = Client::of(&server).tenant("acme");
    let post = |coding: &'static str, body: Vec<u8>| {
        let request = acme
            .request(Method::POST, USERS)
            .header("content-type", "application/json");
        send(request.header("content-encoding", coding).body(body))
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let ann = gzip(user("Ann", "ann@x.example").to_string().as_bytes());
    post("gzip", ann.clone()).await.expect(201);
    post("gzip", ann[..ann.len() - 4].to_vec())
        .await
        .problem(400, "request_invalid");
    let other = post("br", ann).await;
    assert_eq!(other.header("accept-encoding"), "gzip, deflate");
    other.problem(415, "unsupported_media_type");
    // 400 MB of spaces, then JSON.
    let bomb = gzip(&gzip(&vec![b' '; 400_000_000]));
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    let before = resident(&server).await;
    for answer in join_all((0..8).map(|_| post("gzip, gzip", bomb.clone()))).await {
        answer.problem(413, "body_too_large");
    }
    assert!(resident(&server).await < before + 60);
}
