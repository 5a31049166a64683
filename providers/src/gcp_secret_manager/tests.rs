use std::{sync::Arc, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tenantry_core::{
    Registry,
    conformance::provider::{CANARY, Misbehaviour, ProviderFixture, check},
};
use tenantry_test_support::{DrongoServer, HttpStub, StubAnswer};
use tokio::net::TcpListener;

use super::*;

/// A call may take its whole time-out, and the machine that tests run on some more.
const IN_TIME: Duration = Duration::from_secs(8);

async fn try_build(config: Value) -> Result<GcpSecretManagerProvider, BuildError> {
    let config = serde_json::from_value(config).unwrap();
    GcpSecretManagerProvider::build(config, &BuildContext::for_tests(Registry::new())).await
}

async fn build(endpoint_url: &str) -> GcpSecretManagerProvider {
    try_build(json!({"project": "p", "endpoint_url": endpoint_url}))
        .await
        .unwrap()
}

fn id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn name_of(tenant: &str) -> String {
    format!("tenantry-test-{tenant}-database")
}

async fn put(drongo: &DrongoServer, name: &str, text: &str) {
    let replication = json!({"replication": {"automatic": {}}});
    // It may be there already.
    drop(
        drongo
            .call("POST", &format!("projects/p/secrets?secretId={name}"), &replication)
            .await,
    );
    let payload = json!({"payload": {"data": STANDARD.encode(text)}});
    drongo
        .call("POST", &format!("projects/p/secrets/{name}:addVersion"), &payload)
        .await
        .unwrap();
}

struct Fixture {
    drongo: DrongoServer,
    provider: Arc<GcpSecretManagerProvider>,
}

impl Fixture {
    async fn new() -> Self {
        let drongo = DrongoServer::start().await.unwrap();
        let provider = Arc::new(build(&drongo.endpoint_url()).await);
        Self { drongo, provider }
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    async fn provider(&self) -> Arc<dyn SecretProvider> {
        self.provider.clone()
    }

    async fn put(&self, tenant: &TenantId, secret: &Value) {
        self.put_text(tenant, &secret.to_string()).await;
    }

    async fn remove(&self, tenant: &TenantId) {
        let path = format!("projects/p/secrets/{}", name_of(tenant.as_str()));
        self.drongo.call("DELETE", &path, &Value::Null).await.unwrap();
    }

    async fn put_text(&self, tenant: &TenantId, text: &str) -> bool {
        put(&self.drongo, &name_of(tenant.as_str()), text).await;
        true
    }

    async fn put_strays(&self) -> bool {
        for name in [
            "tenantry-test-UPPER-database",
            "tenantry-test-x-other",
            "tenantry-test2-y-database",
            "other",
        ] {
            put(&self.drongo, name, "{}").await;
        }
        true
    }

    async fn break_it(&self) -> bool {
        self.drongo.stop().await.unwrap();
        true
    }

    async fn misbehaving(&self, how: Misbehaviour) -> Option<Arc<dyn SecretProvider>> {
        let stub = HttpStub::start(move |request| match how {
            Misbehaviour::Throttles => {
                let answer = failing("429 Too Many Requests", 429, "RESOURCE_EXHAUSTED");
                answer.with_headers("Retry-After: 7\r\n")
            }
            Misbehaviour::CutsPages if !request.contains("pageToken") => page(&["tenant1"], Some("2")),
            _ => {
                let body = json!({"name": "n", "payload": {"data": STANDARD.encode(CANARY)}, "secrets": []});
                StubAnswer::json("200 OK", body.to_string()).cut()
            }
        });
        let stub = Box::leak(Box::new(stub.await.unwrap()));
        Some(Arc::new(build(&stub.url()).await))
    }
}

fn page(tenants: &[&str], next: Option<&str>) -> StubAnswer {
    let secret = |tenant: &&str| json!({"name": format!("projects/1/secrets/{}", name_of(tenant))});
    let secrets: Vec<Value> = tenants.iter().map(secret).collect();
    StubAnswer::json(
        "200 OK",
        json!({"secrets": secrets, "nextPageToken": next.unwrap_or("")}).to_string(),
    )
}

fn failing(status: &str, code: u16, name: &str) -> StubAnswer {
    StubAnswer::json(
        status,
        json!({"error": {"code": code, "message": "why", "status": name}}).to_string(),
    )
}

#[tokio::test]
async fn it_is_a_provider() {
    check(&Fixture::new().await).await;
}

#[tokio::test]
async fn a_secret_is_the_latest_version_and_its_name_has_its_number() {
    let Fixture { drongo, provider } = Fixture::new().await;
    for (number, url) in [(1, "postgres://u:one@h/d"), (2, "postgres://u:two@h/d")] {
        put(&drongo, &name_of("tenant1"), url).await;
        let document = provider.fetch(&id("tenant1")).await.unwrap();
        assert_eq!(*document.value.expose(), json!({"url": url}));
        assert!(
            document.version.as_str().starts_with(&format!("{number} of ")),
            "{}",
            document.version
        );
    }
}

#[tokio::test]
async fn the_list_goes_over_all_pages() {
    let stub = HttpStub::start(|request| {
        assert!(
            request.contains("pageSize=1000") && request.contains("filter=name%3Atenantry-test-"),
            "{request}"
        );
        match request {
            _ if request.contains("pageToken=2") => page(&["b", "c"], Some("3")),
            _ if request.contains("pageToken=3") => page(&["d"], None),
            _ => page(&["a"], Some("2")),
        }
    });
    let stub = stub.await.unwrap();
    let listed = build(&stub.url()).await.list().await.unwrap();
    assert_eq!(listed, ["a", "b", "c", "d"].map(id));
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        (failing("403 Forbidden", 403, "PERMISSION_DENIED"), "denied"),
        (failing("401 Unauthorized", 401, "UNAUTHENTICATED"), "denied"),
        (failing("400 Bad Request", 400, "FAILED_PRECONDITION"), "denied"),
        (failing("404 Not Found", 404, "NOT_FOUND"), "not_found"),
        (
            StubAnswer::json("404 Not Found", "<html>no such host</html>"),
            "unavailable",
        ),
        (failing("429 Too Many Requests", 429, "RESOURCE_EXHAUSTED"), "throttled"),
        (StubAnswer::json("429 Too Many Requests", "slow down"), "throttled"),
        (failing("500 Internal Server Error", 500, "INTERNAL"), "unavailable"),
        (failing("503 Service Unavailable", 503, "UNAVAILABLE"), "unavailable"),
        (StubAnswer::json("200 OK", CANARY), "unavailable"),
        (StubAnswer::json("200 OK", "{}"), "invalid"),
    ];
    for (answer, kind) in cases {
        let (status, body) = (answer.status.clone(), answer.body.clone());
        let stub = HttpStub::start(move |_| StubAnswer::json(&status, body.as_str()))
            .await
            .unwrap();
        let error = build(&stub.url()).await.fetch(&id("t1")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{} {}: {error:?}", answer.status, answer.body);
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time() {
    // It takes connections, and never reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = build(&format!("http://{}", listener.local_addr().unwrap())).await;
    let begun = Instant::now();
    let error = provider.fetch(&id("t1")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_key_that_can_never_work_stops_the_start() {
    let cases = [
        (json!({"project": ""}), "project"),
        (json!({"project": "a/b"}), "project"),
        (json!({"project": "p", "prefix": "/a"}), "prefix"),
        (json!({"project": "p", "prefix": "-"}), "prefix"),
        (json!({"project": "p", "prefix": "a".repeat(200)}), "prefix"),
        (json!({"project": "p", "endpoint_url": "localhost:1"}), "endpoint_url"),
        (
            json!({"project": "p", "endpoint_url": "http://u:canary@localhost"}),
            "endpoint_url",
        ),
        (
            json!({"project": "p", "endpoint_url": "http://secrets.example.com"}),
            "endpoint_url",
        ),
    ];
    for (config, key) in cases {
        let error = try_build(config.clone()).await.unwrap_err();
        assert_eq!(error.path, [key], "{config}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
