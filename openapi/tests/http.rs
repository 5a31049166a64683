//! The interfaces from outside, on real tenants: each has an SQLite database of its own.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not what they call")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Method, StatusCode};
use poem::{
    Endpoint, EndpointExt, Response,
    endpoint::BoxEndpoint,
    listener::{Acceptor, Listener, TcpListener},
    test::{TestClient, TestResponse},
};
use poem_openapi::{OpenApi, param::Query, payload::PlainText};
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_core::{
    BoxError, BuildContext, Connection, DatabaseConfig, DatabaseDriver, Registry, TenantId, TrustedProxies,
    engine::{EngineSettings, LimitsSettings, OnConnect, SchemaVersion, Tenants, TenantsParts},
};
use tenantry_openapi::{
    ApiParts, ApiSet, BodyLimit, DocumentSettings, LogControl, LogControlLost, LogLevel, MetricsSource, OperatorGate,
    Origin, Problems, Readiness, RequestIds, Served, Tenant, TenantGate, routes,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TOKEN: &str = "an-operator-s-token";

struct CreateUsers;

#[async_trait]
impl OnConnect for CreateUsers {
    async fn prepare(
        &self,
        _tenant: &TenantId,
        _driver: &dyn DatabaseDriver,
        _config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let sql = include_str!("../../migrations/sqlite/0001_create_users.sql");
        let sql = sql
            .replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
            .replace("CREATE UNIQUE INDEX ", "CREATE UNIQUE INDEX IF NOT EXISTS ");
        connection.execute_script(&sql).await?;
        Ok(None)
    }
}

struct Server {
    _folder: TempDir,
    readiness: Readiness,
    served: Served,
}

#[derive(Clone)]
struct Options {
    resolver: Value,
    token: Option<&'static str>,
    apart: bool,
    limits: LimitsSettings,
}

impl Options {
    fn new() -> Self {
        Self {
            resolver: json!({"type": "header", "name": "X-Tenant-ID"}),
            token: Some(TOKEN),
            apart: false,
            limits: LimitsSettings::default(),
        }
    }

    fn resolver(resolver: Value) -> Self {
        Self {
            resolver,
            ..Self::new()
        }
    }

    async fn server(self) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nowhere.db"), "no database ".repeat(100)).unwrap();
        let mut registry = Registry::new();
        registry.resolver::<tenantry_resolvers::HeaderResolver>();
        registry.resolver::<tenantry_resolvers::PathResolver>();
        registry.resolver::<tenantry_resolvers::StaticResolver>();
        registry.provider::<tenantry_providers::StaticProvider>();
        registry.driver::<tenantry_drivers::SqliteDriver>();
        let context = BuildContext::for_tests(registry);
        let registry = context.registry.clone();
        let build = |what: Value| (what, &context);
        let (mapping, context) = build(json!({"type": "static", "tenants": {
            "tenant1": {"type": "sqlite", "path": "tenant1.db"},
            "tenant2": {"type": "sqlite", "path": "tenant2.db"},
            "broken": {"type": "sqlite"},
            "nowhere": {"type": "sqlite", "path": "nowhere.db"},
        }}));
        let provider = registry.build_provider(mapping, context).await.unwrap();
        let driver = json!({"type": "sqlite", "root": folder.path()});
        let driver = registry.build_driver(driver, context).await.unwrap();
        let resolver_type = self.resolver["type"].as_str().unwrap().to_owned();
        let resolver = registry.build_resolver(self.resolver, context).await.unwrap();
        let location = resolver.location();
        let tenants = Tenants::new(TenantsParts {
            provider,
            provider_type: "static".to_owned(),
            drivers: vec![("sqlite".to_owned(), driver)],
            settings: EngineSettings {
                limits: self.limits,
                ..EngineSettings::default()
            },
            on_connect: Some(Arc::new(CreateUsers)),
            observer: None,
        });
        let readiness = Readiness::default();
        let parts = ApiParts {
            gate: TenantGate {
                resolver,
                resolver_type: resolver_type.into(),
                tenants,
                trusted_proxies: TrustedProxies::default(),
                id_pattern: context.id_pattern.clone(),
            },
            operator: OperatorGate {
                token: self.token.map(Into::into),
                loopback: true,
            },
            readiness: readiness.clone(),
            metrics: Arc::new(NoMetrics(std::thread::current().id())),
            log: Arc::new(NoLog),
            document: DocumentSettings {
                title: "test".to_owned(),
                version: "1".to_owned(),
                description: None,
                authenticates: false,
                location,
                id_pattern: context.id_pattern.clone(),
                origin: Origin::default(),
                operator_server: self.apart.then(|| "http://localhost:9090".to_owned()),
            },
            docs: true,
        };
        let mut served = routes(parts, ApiSet::new().with(Greetings)).unwrap();
        let ids = RequestIds::with_gates(served.gates.clone());
        served.main = layered(served.main, &ids);
        served.operator = served.operator.map(|endpoint| layered(endpoint, &ids));
        Server {
            _folder: folder,
            readiness,
            served,
        }
    }
}

/// The layers that a server has around its routes.
fn layered(endpoint: BoxEndpoint<'static>, ids: &RequestIds) -> BoxEndpoint<'static> {
    endpoint
        .with(BodyLimit { bytes: 1000 })
        .with(Problems {
            timeout: Some(Duration::from_secs(10)),
            ..Problems::default()
        })
        .with(ids.clone())
        .boxed()
}

/// The text of the metrics is the program's; that it is answered is what is tested here, and that
/// no thread of the runtime is blocked meanwhile.
struct NoMetrics(std::thread::ThreadId);

impl MetricsSource for NoMetrics {
    fn text(&self) -> Result<String, BoxError> {
        if std::thread::current().id() == self.0 {
            return Err("the server's own thread is blocked".into());
        }
        Ok("# nothing is counted\n".to_owned())
    }
}

/// A log that belongs to somebody else.
struct NoLog;

impl LogControl for NoLog {
    fn set(&self, _level: LogLevel) -> Result<(), LogControlLost> {
        Err(LogControlLost)
    }
}

/// An API as a user of the crate writes one.
struct Greetings;

#[OpenApi]
impl Greetings {
    #[oai(path = "/greeting", method = "get")]
    async fn greet(&self, tenant: Tenant, times: Query<u8>) -> PlainText<String> {
        PlainText(format!("{} {}", tenant.tenant(), times.0))
    }
}

type Client<'a> = TestClient<&'a BoxEndpoint<'static>>;

impl Server {
    fn client(&self) -> Client<'_> {
        TestClient::new(&self.served.main)
    }
}

async fn body(response: TestResponse) -> Value {
    let text = response.0.into_body().into_string().await.unwrap();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// Sends what `request` is made of and gives status and body.
async fn send<E: Endpoint<Output = Response>>(
    client: &TestClient<E>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    content: Option<Value>,
) -> (StatusCode, Value) {
    let mut request = client.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(content) = content {
        request = request.content_type("application/json").body(content.to_string());
    }
    let response = request.send().await;
    assert!(response.0.header("x-request-id").is_some(), "{path}");
    let status = response.0.status();
    let is_problem = response.0.content_type() == Some("application/problem+json");
    let has_status_of_its_own = path.starts_with("/health/ready") || path.starts_with("/health/tenant/");
    assert!(
        is_problem == (status.as_u16() >= 400) || has_status_of_its_own,
        "{path} {status}"
    );
    (status, body(response).await)
}

const TENANT1: [(&str, &str); 1] = [("x-tenant-id", "tenant1")];
const OPERATOR: [(&str, &str); 1] = [("authorization", "Bearer an-operator-s-token")];
const USERS: &str = "/api/v1/tenant/users";

fn user(name: &str, email: &str) -> Option<Value> {
    Some(json!({"name": name, "email": email}))
}

#[tokio::test]
async fn a_user_lives_and_dies() {
    let server = Options::new().server().await;
    let client = server.client();
    let response = client
        .post(USERS)
        .header("x-tenant-id", "tenant1")
        .body_json(&user("  Ann Example ", "Ann@tenant1.com"))
        .send()
        .await;
    response.assert_status(StatusCode::CREATED);
    let location = response.0.header("location").unwrap().to_owned();
    let created = body(response).await;
    assert_eq!(location, format!("{USERS}/{}", created["id"]));
    assert_eq!(created["name"], "Ann Example");
    assert!(created["created_at"].as_str().unwrap().ends_with('Z'));

    let (status, read) = send(&client, Method::GET, &location, &TENANT1, None).await;
    assert_eq!((status, &read), (StatusCode::OK, &created));

    let taken = send(&client, Method::POST, USERS, &TENANT1, user("Other", "aNN@tenant1.com")).await;
    assert_eq!((taken.0, &taken.1["code"]), (StatusCode::CONFLICT, &json!("conflict")));
    assert_eq!(taken.1["errors"][0]["pointer"], "/email");

    let (status, updated) = send(&client, Method::PUT, &location, &TENANT1, user("Ann", "ann@x.org")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&updated["name"], &updated["email"]),
        (&json!("Ann"), &json!("ann@x.org"))
    );
    assert_eq!(updated["created_at"], created["created_at"]);
    assert!(updated["updated_at"].as_str() > created["updated_at"].as_str());
    assert_eq!(send(&client, Method::GET, &location, &TENANT1, None).await.1, updated);

    let deleted = send(&client, Method::DELETE, &location, &TENANT1, None).await;
    assert_eq!(deleted, (StatusCode::NO_CONTENT, json!("")));
    for (method, content) in [
        (Method::DELETE, None),
        (Method::GET, None),
        (Method::PUT, user("Ann", "ann@x.org")),
    ] {
        let (status, problem) = send(&client, method, &location, &TENANT1, content).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_last() {
    let server = Options::new().server().await;
    let client = server.client();
    for n in 0..5 {
        let (status, _) = send(
            &client,
            Method::POST,
            USERS,
            &TENANT1,
            user("N", &format!("n{n}@x.org")),
        )
        .await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let mut seen = Vec::new();
    let mut path = format!("{USERS}?limit=2");
    let mut pages = 0;
    loop {
        let (status, page) = send(&client, Method::GET, &path, &TENANT1, None).await;
        assert_eq!(status, StatusCode::OK);
        pages += 1;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|user| user["id"].as_i64().unwrap()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("{USERS}?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen), (3, vec![1, 2, 3, 4, 5]));
    let (_, whole) = send(&client, Method::GET, &format!("{USERS}?limit=5"), &TENANT1, None).await;
    assert_eq!(whole["next"], Value::Null);
    let (_, other) = send(&client, Method::GET, USERS, &[("x-tenant-id", "tenant2")], None).await;
    assert_eq!(other, json!({"items": [], "next": null}));
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_request_is_told_at_once() {
    let server = Options::new().server().await;
    let client = server.client();
    let faults = |problem: &Value| -> Vec<String> {
        assert_eq!(problem["code"], "request_invalid");
        let errors = problem["errors"].as_array().unwrap().iter();
        let place = |error: &Value| {
            error["pointer"]
                .as_str()
                .or(error["parameter"].as_str())
                .unwrap()
                .to_owned()
        };
        errors.map(place).collect()
    };
    for (method, path, content, expected) in [
        (Method::GET, "?limit=0&after=x", None, vec!["limit", "after"]),
        (Method::GET, "?limit=201", None, vec!["limit"]),
        (Method::GET, "?limit=", None, vec!["limit"]),
        (Method::GET, "?limit=1&limit=2", None, vec!["limit"]),
        (Method::GET, "?after=", None, vec!["after"]),
        (
            Method::POST,
            "",
            Some(json!({"name": "", "email": "x"})),
            vec!["/name", "/email"],
        ),
        (
            Method::POST,
            "",
            Some(json!({"name": "a\u{0}", "email": "a\u{0}@b.cd"})),
            vec!["/name", "/email"],
        ),
        (Method::POST, "", Some(json!(null)), vec![""]),
        (Method::PUT, "/0", Some(json!({"name": "x"})), vec!["id", "/email"]),
        (Method::GET, "/abc", None, vec!["id"]),
        (Method::GET, "/9223372036854775808", None, vec!["id"]),
        (Method::DELETE, "/-1", None, vec!["id"]),
    ] {
        let (status, problem) = send(&client, method, &format!("{USERS}{path}"), &TENANT1, content).await;
        assert_eq!(
            (status, faults(&problem)),
            (
                StatusCode::BAD_REQUEST,
                expected.iter().map(ToString::to_string).collect()
            ),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_body_is_refused_by_its_type_its_syntax_and_its_length() {
    let server = Options::new().server().await;
    let client = server.client();
    let post = |content_type: Option<&'static str>, body: String| {
        let request = client.post(USERS).header("x-tenant-id", "tenant1");
        let request = match content_type {
            Some(content_type) => request.content_type(content_type),
            None => request,
        };
        async move {
            let length = body.len();
            let response = request.header("content-length", length).body(body).send().await;
            let status = response.0.status().as_u16();
            (status, code_of(response).await)
        }
    };
    let json = Some("application/json");
    let good = json!({"name": "a", "email": "a@b.cd"}).to_string();
    assert_eq!(post(None, good.clone()).await, (415, json!("unsupported_media_type")));
    assert_eq!(
        post(Some("text/plain"), good).await,
        (415, json!("unsupported_media_type"))
    );
    assert_eq!(post(json, "{".to_owned()).await, (400, json!("request_invalid")));
    assert_eq!(post(json, String::new()).await, (400, json!("request_invalid")));
    assert_eq!(post(json, " ".repeat(1001)).await, (413, json!("body_too_large")));
}

async fn code_of(response: TestResponse) -> Value {
    body(response).await["code"].clone()
}

#[tokio::test]
async fn who_has_no_tenant_is_told_so_before_anything_else() {
    let server = Options::new().server().await;
    let client = server.client();
    for (headers, status, code) in [
        (&[][..], 400, "tenant_missing"),
        (&[("x-tenant-id", "../x")], 400, "tenant_malformed"),
        (&[("x-tenant-id", "Tenant1")], 400, "tenant_malformed"),
        (&[("x-tenant-id", "")], 400, "tenant_malformed"),
        (
            &[("x-tenant-id", "tenant1"), ("x-tenant-id", "tenant2")],
            400,
            "tenant_malformed",
        ),
        (&[("x-tenant-id", "acme")], 404, "tenant_unknown"),
        (&[("x-tenant-id", "broken")], 503, "secret_invalid"),
        (&[("x-tenant-id", "nowhere")], 503, "database_unavailable"),
    ] {
        let bad = Some(json!([1]));
        for (method, path, content) in [
            (Method::GET, "/api/v1/tenant/info", None),
            (Method::GET, "/api/v1/tenant/stats", None),
            (Method::GET, "/api/v1/tenant/users?limit=1", None),
        ] {
            let (got, problem) = send(&client, method, path, headers, content).await;
            assert_eq!(
                (got.as_u16(), &problem["code"]),
                (status, &json!(code)),
                "{path} {headers:?}"
            );
        }
        if code != "database_unavailable" {
            for path in ["/api/v1/tenant/users", "/api/v1/tenant/users/x"] {
                let method = if path.ends_with('x') { Method::PUT } else { Method::POST };
                let (got, problem) = send(&client, method, path, headers, bad.clone()).await;
                assert_eq!(
                    (got.as_u16(), &problem["code"]),
                    (status, &json!(code)),
                    "{path} {headers:?}"
                );
            }
        }
    }
    let (_, missing) = send(&client, Method::GET, USERS, &[], None).await;
    assert_eq!(
        missing["detail"],
        "The request names no tenant; it is expected in the header `X-Tenant-ID`."
    );
}

#[tokio::test]
async fn a_tenant_reads_about_itself() {
    let server = Options::new().server().await;
    let client = server.client();
    let (_, info) = send(&client, Method::GET, "/api/v1/tenant/info", &TENANT1, None).await;
    assert_eq!((&info["id"], &info["driver"]), (&json!("tenant1"), &json!("sqlite")));
    assert_eq!(
        (&info["resolver"], &info["provider"]),
        (&json!("header"), &json!("static"))
    );
    assert_eq!(info["database"], "tenant1.db");
    assert!(info["server_version"].as_str().unwrap().starts_with("3."));
    send(&client, Method::POST, USERS, &TENANT1, user("A", "a@b.cd")).await;
    let (_, stats) = send(&client, Method::GET, "/api/v1/tenant/stats", &TENANT1, None).await;
    assert_eq!((&stats["id"], &stats["users"]), (&json!("tenant1"), &json!(1)));
    assert!(stats["queries"]["total"].as_u64() > Some(0));
    assert_eq!(stats["pool"]["open"], 1);
}

#[tokio::test]
async fn a_tenant_in_the_path_reaches_no_operator_s_operation() {
    let server = Options::resolver(json!({"type": "path", "prefix": "/t"}))
        .server()
        .await;
    let client = server.client();
    let path = format!("/t/tenant1{USERS}");
    let response = client.post(&path).body_json(&user("A", "a@b.cd")).send().await;
    response.assert_status(StatusCode::CREATED);
    assert_eq!(response.0.header("location"), Some(format!("{path}/1").as_str()));
    let (status, _) = send(&client, Method::GET, &format!("{path}/1"), &[], None).await;
    assert_eq!(status, StatusCode::OK);
    let (_, greeting) = send(&client, Method::GET, "/t/tenant2/greeting?times=3", &[], None).await;
    assert_eq!(greeting, json!("tenant2 3"));
    for (path, headers, status, code) in [
        (USERS, &[][..], 400, "tenant_missing"),
        ("/t/../api/v1/tenant/users", &[], 400, "tenant_malformed"),
        ("/t/a%2Fb/api/v1/tenant/users", &[], 400, "tenant_malformed"),
        ("/t/acme/api/v1/tenant/users", &[], 404, "tenant_unknown"),
        ("/t/tenant1/health/tenants", &OPERATOR[..], 404, "not_found"),
        ("/t/tenant1", &[], 404, "not_found"),
    ] {
        let (got, problem) = send(&client, Method::GET, path, headers, None).await;
        assert_eq!((got.as_u16(), &problem["code"]), (status, &json!(code)), "{path}");
    }
    let (status, _) = send(&client, Method::GET, "/health/tenants", &OPERATOR, None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn every_operator_s_operation_needs_the_token() {
    let server = Options::new().server().await;
    let client = server.client();
    let document: Value = serde_json::from_slice(server.served.document.json()).unwrap();
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"] != json!([{"Operator": []}]) {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = format!("{}?probe=neither", path.replace("{id}", "NO-ID"));
            for headers in [&[][..], &TENANT1, &[("authorization", "Bearer wrong-wrong-wrong")]] {
                let request = client.request(method.clone(), &path);
                let request = headers
                    .iter()
                    .fold(request, |request, (name, value)| request.header(*name, *value));
                let response = request.send().await;
                response.assert_status(StatusCode::UNAUTHORIZED);
                assert!(
                    response.0.header("www-authenticate").unwrap().starts_with("Bearer"),
                    "{path}"
                );
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 10);
}

#[tokio::test]
async fn an_operator_sees_and_moves_tenants() {
    let server = Options::new().server().await;
    let client = server.client();
    let get = async |path: &str| send(&client, Method::GET, path, &OPERATOR, None).await;
    let post = async |path: &str| send(&client, Method::POST, path, &OPERATOR, None).await;
    let (status, all) = get("/health/tenants").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        all["summary"],
        json!({"total": 4, "healthy": 0, "unhealthy": 0, "idle": 4, "suspended": 0, "migrating": 0, "behind": 0})
    );
    assert_eq!(get("/health/tenants?probe=maybe").await.0, StatusCode::BAD_REQUEST);
    let (status, all) = get("/health/tenants?probe=true").await;
    assert_eq!(
        (status, &all["summary"]["healthy"], &all["summary"]["unhealthy"]),
        (StatusCode::OK, &json!(2), &json!(2))
    );

    let (status, one) = get("/health/tenant/tenant1").await;
    assert_eq!((status, &one["status"]), (StatusCode::OK, &json!("healthy")));
    assert!(one["latency_ms"].is_number() && one["checked_at"].is_string());
    let (status, one) = get("/health/tenant/broken").await;
    assert_eq!(
        (status, &one["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy"))
    );
    assert_eq!(get("/health/tenant/acme").await.1["code"], "tenant_unknown");
    assert_eq!(get("/health/tenant/A.B").await.1["code"], "tenant_malformed");

    send(&client, Method::GET, USERS, &TENANT1, None).await;
    let (_, cache) = get("/health/cache").await;
    assert_eq!(cache["pools"]["open"], 1);
    assert!(
        cache["metrics"]["hit_rate"]
            .as_f64()
            .is_some_and(|rate| (0.0..=1.0).contains(&rate))
    );
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metrics, "# nothing is counted\n");

    assert_eq!(post("/admin/tenants/tenant1/suspend").await.0, StatusCode::NO_CONTENT);
    let (status, problem) = send(&client, Method::GET, USERS, &TENANT1, None).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::FORBIDDEN, &json!("tenant_suspended"))
    );
    assert_eq!(post("/admin/tenants/tenant1/resume").await.0, StatusCode::NO_CONTENT);
    assert_eq!(
        send(&client, Method::GET, USERS, &TENANT1, None).await.0,
        StatusCode::OK
    );

    let (status, health) = post("/admin/tenants/tenant1/refresh").await;
    assert_eq!((status, &health["id"]), (StatusCode::OK, &json!("tenant1")));
    let (status, _) = send(&client, Method::DELETE, "/admin/tenants/tenant1/pool", &OPERATOR, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(get("/health/cache").await.1["pools"]["open"], 0);
    assert_eq!(post("/admin/cache/clear?tenant=tenant1").await.1, json!({"cleared": 1}));
    assert_eq!(post("/admin/cache/clear?tenant=").await.1["code"], "tenant_malformed");
    assert_eq!(post("/admin/cache/clear").await.0, StatusCode::OK);
    assert_eq!(post("/admin/tenants/acme/refresh").await.1["code"], "tenant_unknown");
}

#[tokio::test]
async fn readiness_is_what_the_server_says() {
    let server = Options::new().server().await;
    let client = server.client();
    let ready = async || send(&client, Method::GET, "/health/ready", &[], None).await;
    assert_eq!(
        ready().await,
        (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "down"}))
    );
    server.readiness.set(true);
    assert_eq!(ready().await, (StatusCode::OK, json!({"status": "up"})));
    let live = send(&client, Method::GET, "/health/live", &[], None).await;
    assert_eq!(live, (StatusCode::OK, json!({"status": "up"})));
}

#[tokio::test]
async fn a_tenant_over_its_limit_is_told_to_wait() {
    let mut options = Options::new();
    options.limits.requests_per_second = Some(1);
    let server = options.server().await;
    let client = server.client();
    let mut last = None;
    for _ in 0..3 {
        last = Some(client.get(USERS).header("x-tenant-id", "tenant1").send().await);
    }
    let last = last.unwrap();
    last.assert_status(StatusCode::TOO_MANY_REQUESTS);
    assert!(last.0.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(code_of(last).await, "rate_limited");
}

#[tokio::test]
async fn operators_on_their_own_listener_are_nowhere_else() {
    let mut options = Options::new();
    options.apart = true;
    let server = options.server().await;
    let main = server.client();
    let operators = TestClient::new(server.served.operator.as_ref().unwrap());
    for path in ["/health/live", "/health/tenants", "/metrics"] {
        assert_eq!(
            send(&main, Method::GET, path, &OPERATOR, None).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            send(&operators, Method::GET, path, &OPERATOR, None).await.0,
            StatusCode::OK
        );
    }
    assert_eq!(
        send(&operators, Method::GET, USERS, &TENANT1, None).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        send(&operators, Method::GET, "/health/tenants", &[], None).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn the_documentation_is_served_and_known_again() {
    let server = Options::new().server().await;
    let client = server.client();
    let root = client.get("/").send().await;
    assert_eq!(
        (root.0.status().as_u16(), root.0.header("location")),
        (307, Some("/docs"))
    );
    for (path, media_type) in [
        ("/openapi.json", "application/json"),
        ("/openapi.yaml", "application/yaml"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/redoc", "text/html; charset=utf-8"),
        ("/docs/scalar", "text/html; charset=utf-8"),
    ] {
        let response = client.get(path).send().await;
        response.assert_status_is_ok();
        assert_eq!(response.0.content_type(), Some(media_type), "{path}");
        assert_eq!(response.0.header("cache-control"), Some("no-cache"));
        let etag = response.0.header("etag").unwrap().to_owned();
        let text = response.0.into_body().into_string().await.unwrap();
        assert!(text.contains("listUsers") && text.contains("getGreeting"), "{path}");
        let again = client.get(path).header("if-none-match", etag).send().await;
        again.assert_status(StatusCode::NOT_MODIFIED);
        let refused = client.post(path).send().await;
        assert_eq!(
            (refused.0.status().as_u16(), refused.0.header("allow")),
            (405, Some("GET, HEAD"))
        );
    }
}

#[tokio::test]
async fn with_no_token_the_machine_itself_is_the_operator() {
    let mut options = Options::new();
    options.token = None;
    let server = options.server().await;
    // A test client has no address, so it is not of this machine.
    let status = send(
        &server.client(),
        Method::GET,
        "/health/cache",
        &[("x-forwarded-for", "127.0.0.1")],
        None,
    )
    .await
    .0;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    let address = acceptor.local_addr()[0].as_socket_addr().copied().unwrap();
    let running = tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(server.served.main));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /health/cache HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    running.abort();
}
