//! Errors outside of handlers: every one of them is a problem of RFC 9457, whichever layer found
//! it.

use std::{io::Read, time::Duration};

use poem_openapi::{OpenApi, param::Path, payload::PlainText};
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::{App, Failure, Problem, Tenant};

use crate::{
    client::{Client, raw, send},
    databases::{config, serve},
    users::{USERS, user},
};

fn one_tenant() -> String {
    config(&json!({"acme": {"type": "sqlite", "path": "acme.db"}}))
}

#[tokio::test]
async fn a_route_that_is_not_there_is_a_problem() {
    let (_server, client) = serve(&one_tenant()).await;
    for client in [&client, &client.tenant("acme")] {
        for path in [
            "/nope",
            "/api",
            "/api/v1/tenant",
            "/api/v1/tenant/",
            "/api/v1/tenant/userss",
            "/api/v2/tenant/users",
            "/health",
            "/%FF",
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
                send(client.request(method, path)).await.problem(404, "not_found");
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_a_route_has_not_is_told_which_it_has() {
    let (_server, client) = serve(&one_tenant()).await;
    let client = client.tenant("acme");
    for (path, allow) in [
        (USERS, "GET, HEAD, POST"),
        ("/api/v1/tenant/users/1", "DELETE, GET, HEAD, PUT"),
        ("/api/v1/tenant/info", "GET, HEAD"),
        ("/health/live", "GET, HEAD"),
        ("/admin/cache/clear", "POST"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ] {
        for method in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = send(client.request(method.parse().unwrap(), path)).await;
            answer.problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allow, "{method} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "CORS is off");
        }
    }
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_the_body() {
    let (_server, client) = serve(&one_tenant()).await;
    let acme = client.tenant("acme");
    for (client, path) in [
        (&acme, "/api/v1/tenant/info"),
        (&acme, USERS),
        (&client, "/health/live"),
        (&client, "/openapi.json"),
    ] {
        let (get, head) = (client.get(path).await, send(client.request(Method::HEAD, path)).await);
        assert_eq!(
            (head.status, head.header("content-type")),
            (get.status, get.header("content-type")),
            "{path}"
        );
        assert!(head.body.is_empty() && !get.body.is_empty());
    }
    let missing = send(client.request(Method::HEAD, USERS)).await;
    assert_eq!(
        (missing.status, missing.header("content-type"), missing.body.len()),
        (400, "application/problem+json", 0)
    );
}

#[tokio::test]
async fn a_body_of_a_wrong_type_or_length_is_not_written() {
    let (server, client) = serve(&format!("{}server: {{ body_limit: 2kB }}\n", one_tenant())).await;
    let client = client.tenant("acme");
    let body = user("Ann", "ann@x.example").to_string();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "multipart/form-data; boundary=x",
        "json",
    ] {
        for (method, path) in [(Method::POST, USERS), (Method::PUT, "/api/v1/tenant/users/1")] {
            let request = client
                .request(method, path)
                .header("Content-Type", content_type)
                .body(body.clone());
            send(request).await.problem(415, "unsupported_media_type");
        }
    }
    send(client.request(Method::POST, USERS).body(body.clone()))
        .await
        .problem(415, "unsupported_media_type");

    let long = user(&"x".repeat(3000), "ann@x.example").to_string();
    let announced = client
        .request(Method::POST, USERS)
        .header("Content-Type", "application/json")
        .body(long.clone());
    send(announced).await.problem(413, "body_too_large");
    // Not announced: in chunks, as many as it takes.
    let mut chunked = format!(
        "POST {USERS} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: acme\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n"
    );
    for chunk in long.as_bytes().chunks(100) {
        chunked.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    }
    let answer = raw(
        ([127, 0, 0, 1], server.port()).into(),
        format!("{chunked}0\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"code\":\"body_too_large\""),
        "{answer}"
    );
    // White space counts too.
    let padded = format!("{body}{}", " ".repeat(2000));
    let padded = client
        .request(Method::POST, USERS)
        .header("Content-Type", "application/json")
        .body(padded);
    send(padded).await.problem(413, "body_too_large");

    assert_eq!(client.get(USERS).await.expect(200).json()["items"], json!([]));
    for (n, content_type) in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.acme+json",
    ]
    .into_iter()
    .enumerate()
    {
        let body = user("Ann", &format!("n{n}@x.example")).to_string();
        send(
            client
                .request(Method::POST, USERS)
                .header("Content-Type", content_type)
                .body(body),
        )
        .await
        .expect(201);
    }
    assert!(!server.logs().await.unwrap().contains("panic"));
}

#[tokio::test]
async fn a_well_formed_request_id_is_kept_and_another_is_replaced() {
    let (server, client) = serve(&one_tenant()).await;
    let longest = "a".repeat(128);
    for id in ["abc-123", "A.B_C", "0193e0f2-8f1c-7c55-9a53-5a1f6b0c9d11", &longest] {
        for path in ["/health/live", "/nope", USERS] {
            let answer = send(client.request(Method::GET, path).header("X-Request-ID", id)).await;
            assert_eq!(answer.header("x-request-id"), id);
        }
    }
    let mut made = std::collections::BTreeSet::new();
    let too_long = "a".repeat(129);
    for id in ["", "a b", "<script>", "a/b", "canary;x=1", "\"canary\"", &too_long] {
        let answer = send(client.request(Method::GET, "/nope").header("X-Request-ID", id)).await;
        assert_ne!(answer.header("x-request-id"), id);
        made.insert(answer.header("x-request-id").to_owned());
    }
    let twice = client
        .request(Method::GET, "/nope")
        .header("X-Request-ID", "one")
        .header("X-Request-ID", "two");
    made.insert(send(twice).await.header("x-request-id").to_owned());
    made.insert(client.get("/nope").await.header("x-request-id").to_owned());
    assert_eq!(made.len(), 9, "each has its own");
    assert!(!server.logs().await.unwrap().contains("canary"));
}

#[tokio::test]
async fn an_answer_of_one_tenant_is_kept_by_no_cache() {
    let (_server, client) = serve(&one_tenant()).await;
    for answer in [
        client.tenant("acme").get(USERS).await,
        client.get(USERS).await,
        client.get("/nope").await,
    ] {
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn an_answer_is_compressed_for_who_takes_it_so() {
    let (_server, client) = serve(&one_tenant()).await;
    let plain = client.get("/openapi.json").await.expect(200);
    assert_eq!(plain.header("content-encoding"), "");
    let gzip = |path: &str| {
        send(
            client
                .tenant("acme")
                .request(Method::GET, path)
                .header("Accept-Encoding", "gzip"),
        )
    };
    let compressed = gzip("/openapi.json").await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
    assert!(
        compressed.header("vary").to_lowercase().contains("accept-encoding"),
        "{:?}",
        compressed.headers
    );
    assert!(
        compressed.body.len() < plain.body.len() / 3,
        "{} of {} bytes",
        compressed.body.len(),
        plain.body.len()
    );
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(compressed.body.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
    // Nothing that the client does not take.
    for encoding in ["identity", "gzip;q=0", "unheard-of"] {
        let answer = send(
            client
                .request(Method::GET, "/openapi.json")
                .header("Accept-Encoding", encoding),
        )
        .await;
        assert_eq!(
            (answer.header("content-encoding"), answer.body == plain.body),
            ("", true),
            "{encoding}"
        );
    }
}

/// Operations that go wrong in the ways a handler can.
struct Trouble;

#[OpenApi]
impl Trouble {
    /// Panic with a secret
    #[oai(path = "/api/v1/tenant/trouble/panic", method = "get", operation_id = "panicNow")]
    async fn panic(&self, _tenant: Tenant) -> PlainText<String> {
        panic!("canary-panic");
    }

    /// Panic outside of any tenant
    #[oai(path = "/trouble/panic", method = "post", operation_id = "panicAnywhere")]
    async fn panic_anywhere(&self) -> PlainText<String> {
        panic!("canary-panic");
    }

    /// Take too long
    #[oai(path = "/api/v1/tenant/trouble/slow", method = "get", operation_id = "beSlow")]
    async fn slow(&self, _tenant: Tenant) -> PlainText<String> {
        tokio::time::sleep(Duration::from_secs(600)).await;
        PlainText("at last".to_owned())
    }

    /// Fail with an error of poem's
    #[oai(path = "/trouble/status/:status", method = "get", operation_id = "failWith")]
    async fn status(&self, status: Path<u16>) -> poem::Result<PlainText<String>> {
        let status = poem::http::StatusCode::from_u16(status.0).unwrap();
        Err(poem::Error::from_string("canary-inside", status))
    }

    /// Run a statement that no database understands
    #[oai(path = "/api/v1/tenant/trouble/sql", method = "get", operation_id = "runNonsense")]
    async fn sql(&self, tenant: Tenant) -> Result<PlainText<String>, Failure> {
        use sea_orm::ConnectionTrait;
        tenant.execute_unprepared("SELECT 'canary-sql' FROM nowhere").await?;
        Ok(PlainText(String::new()))
    }

    /// Refuse by a rule of its own
    #[oai(path = "/api/v1/tenant/trouble/refused", method = "get", operation_id = "refuse")]
    async fn refused(&self, _tenant: Tenant) -> Result<PlainText<String>, Failure<409>> {
        Err(Problem::conflict("It is Sunday.").into())
    }
}

#[tokio::test]
async fn a_handler_s_error_is_a_problem_without_internals() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let config = format!(
        "{}server: {{ listen: \"127.0.0.1:0\", request_timeout: 300ms }}\n",
        one_tenant()
    );
    tokio::fs::write(&file, config).await.unwrap();
    let server = App::new().api(Trouble).start(&file).await.unwrap();
    let client = Client::at(format!("http://{}", server.address()));
    let acme = client.tenant("acme");
    let says_nothing = |problem: Value| {
        let text = problem.to_string();
        for inside in ["canary", "nowhere", ".rs", "panic", "SQL", "sqlite"] {
            assert!(!text.contains(inside), "{text}");
        }
    };
    // More than once: a panic leaves the server and the tenant's pool whole.
    for _ in 0..30 {
        says_nothing(acme.get("/api/v1/tenant/trouble/panic").await.problem(500, "internal"));
    }
    says_nothing(client.post("/trouble/panic", &json!({})).await.problem(500, "internal"));
    says_nothing(acme.get("/api/v1/tenant/trouble/sql").await.problem(500, "internal"));
    says_nothing(
        acme.get("/api/v1/tenant/trouble/slow")
            .await
            .problem(504, "request_timeout"),
    );
    says_nothing(client.get("/trouble/status/500").await.problem(500, "internal"));
    says_nothing(client.get("/trouble/status/502").await.problem(502, "bad_gateway"));
    let refused = acme
        .get("/api/v1/tenant/trouble/refused")
        .await
        .problem(409, "conflict");
    assert_eq!(refused["detail"], "It is Sunday.");
    let bad = client.get("/trouble/status/canary").await;
    assert_eq!(
        (bad.status, bad.faults("request_invalid")[0].0.as_str()),
        (400, "status")
    );
    assert!(!bad.text().contains("canary"));

    acme.get(USERS).await.expect(200);
    let stats = acme.get("/api/v1/tenant/stats").await.expect(200).json();
    assert_eq!(stats["pool"]["in_use"], 0, "{stats}");
    server.stop().await.unwrap();
}
