//! What a handler of one's own has and leaves behind: ids in log lines, fields of its own, streamed
//! answers.

use std::{net::TcpStream, path::PathBuf, time::Duration};

use async_stream::try_stream;
use futures_util::StreamExt as _;
use poem::{Body, Endpoint, EndpointExt as _, Middleware, Request, endpoint::BoxEndpoint, http::StatusCode};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    payload::{Binary, Json, PlainText},
};
use sea_orm::{ConnectionTrait as _, Statement, StreamTrait as _};
use serde_json::{Value, json};
use tenantry::{App, Failure, Operator, RequestId, Tenant, config::Logging, log_field};
use tenantry_test_support::TenantryProcess;
use tokio::signal::unix::{SignalKind, signal};

use crate::databases::Database;

const SERVER: &str = "in_a_handler::serve";

struct Handlers;

#[OpenApi]
impl Handlers {
    /// Log something
    #[oai(path = "/api/v1/tenant/logged", method = "get", operation_id = "log")]
    async fn log(&self, tenant: Tenant, id: RequestId) -> PlainText<String> {
        log_field("invoice", 4711);
        log_field("note", "two words");
        for of_every_line in ["timestamp", "level", "target"] {
            log_field(of_every_line, "gold");
        }
        tracing::info!(target: "own", tenant = %tenant.tenant(), "an own line");
        tokio::spawn(async { tracing::info!(target: "own", "a line of another task") });
        PlainText(id.as_str().to_owned())
    }

    /// Run a statement that is wrong
    #[oai(path = "/api/v1/tenant/failed", method = "get", operation_id = "fail")]
    async fn fail(&self, tenant: Tenant) -> Result<PlainText<String>, Failure> {
        tenant
            .execute_unprepared("SELECT nothing FROM sqlite_master WHERE name = 'canary-value'")
            .await?;
        Ok(PlainText("done".to_owned()))
    }

    /// Claim a job
    #[oai(path = "/api/v1/tenant/claim", method = "get", operation_id = "claim")]
    async fn claim(&self, tenant: Tenant) -> Result<Json<bool>, Failure> {
        let hour = Duration::from_secs(3600);
        Ok(Json(tenantry::jobs::claim(&tenant, "hourly", hour).await?))
    }

    /// Stream numbers
    #[oai(path = "/api/v1/tenant/numbers", method = "get", operation_id = "stream")]
    async fn stream(
        &self,
        tenant: Tenant,
        count: Query<u32>,
        fails: Query<bool>,
        pause_ms: Query<u64>,
    ) -> Binary<Body> {
        // SQLite computes one row after the other, so that the last one can fail.
        let last = if fails.0 { "json_extract('{', '$')" } else { "i" };
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) \
             SELECT CASE WHEN i = {0} THEN {last} ELSE i END AS i FROM n",
            count.0
        );
        let rows = try_stream! {
            let statement = Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
            let mut rows = tenant.stream_raw(statement).await.map_err(std::io::Error::other)?;
            while let Some(row) = rows.next().await {
                let row = row.map_err(std::io::Error::other)?;
                let number: i64 = row.try_get("", "i").map_err(std::io::Error::other)?;
                yield format!("{number:->1000}\n");
                tokio::time::sleep(Duration::from_millis(pause_ms.0)).await;
            }
        };
        Binary(Body::from_bytes_stream(rows.map(|row: std::io::Result<String>| row)))
    }

    /// Stream what another server does not deliver in time
    #[oai(path = "/api/v1/late", method = "get", operation_id = "late")]
    async fn late(&self) -> Binary<Body> {
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let parts = futures_util::stream::iter([Ok("begun"), Err(late)]);
        Binary(Body::from_bytes_stream(parts))
    }

    /// Run a job
    #[oai(path = "/jobs/:name/runs/:run", method = "post", operation_id = "runJob")]
    async fn run(&self, _operator: Operator, name: Path<String>, run: Path<String>) -> PlainText<String> {
        PlainText(format!("{} {}", name.0, run.0))
    }
}

/// Fails a request that asks for it.
struct Failing;

impl<E: Endpoint + 'static> Middleware<E> for Failing {
    type Output = BoxEndpoint<'static, E::Output>;

    fn transform(&self, inner: E) -> Self::Output {
        inner.before(fail_if_asked).boxed()
    }
}

async fn fail_if_asked(request: Request) -> poem::Result<Request> {
    match request.headers().contains_key("x-fail") {
        true => Err(StatusCode::BAD_GATEWAY.into()),
        false => Ok(request),
    }
}

/// The server with the handlers above, in a separate process, so that its log can be read.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the server of the tests below, which start it"]
async fn serve() {
    let Some(file) = std::env::var_os("TENANTRY_CONFIG") else {
        return;
    };
    let format = std::env::var("TENANTRY__LOGGING__FORMAT").unwrap_or_else(|_| "text".to_owned());
    let logging: Logging = serde_json::from_value(json!({"level": "info", "format": format})).unwrap();
    tenantry::start_logging(&logging).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let server = App::new().api(Handlers).middleware(Failing).start(file).await.unwrap();
    terminated.recv().await;
    server.stop().await.unwrap();
}

async fn server(format: &str) -> TenantryProcess {
    let program: PathBuf = std::env::current_exe().unwrap();
    TenantryProcess::builder(program)
        .as_test(SERVER)
        .env("TENANTRY__LOGGING__FORMAT", format)
        .config(
            "server: { request_timeout: 3s }\n\
             tenancy: { provider: { type: static, tenants: { acme: { type: sqlite, path: acme.db, pool: { max: { connections: 1 } } } } } }\n",
        )
        .start()
        .await
        .unwrap()
}

async fn get(server: &TenantryProcess, path: &str, id: &str) -> reqwest::Response {
    let request = reqwest::Client::new().get(format!("{}{path}", server.base_url()));
    let request = request.header("X-Tenant-ID", "acme").header("X-Request-ID", id);
    request.send().await.unwrap()
}

/// The line of the log that has each of these.
async fn line(server: &TenantryProcess, parts: &[&str]) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let logs = server.logs().await.unwrap();
        let found = logs.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        if let Some(line) = found {
            return line.to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "no line has {parts:?}: {logs}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The numbers after `name=` in a line.
fn number(line: &str, name: &str) -> f64 {
    let after = line
        .split(&format!(" {name}="))
        .nth(1)
        .unwrap_or_else(|| panic!("no {name} in {line}"));
    after.split(' ').next().unwrap().parse().unwrap()
}

/// The statement that a line's answer was cut off in the middle of is counted, without the time that
/// the handler took between its rows.
fn ran_one_statement(access: &str) {
    assert!((number(access, "statements") - 1.0).abs() < 0.1, "{access}");
    let database = number(access, "database_ms");
    assert!(database > 0.0 && database < number(access, "duration_ms"), "{access}");
}

#[tokio::test]
async fn a_handler_s_log_lines_have_its_ids_and_fields() {
    let server = server("text").await;
    let answer = get(&server, "/api/v1/tenant/logged", "id-1").await;
    assert_eq!(answer.text().await.unwrap(), "id-1");
    let own = line(&server, &["an own line"]).await;
    assert!(own.ends_with(" request_id=id-1 tenant_id=acme"), "{own}");
    let other = line(&server, &["a line of another task"]).await;
    assert!(!other.contains("request_id"), "{other}");
    let access = line(&server, &["tenantry::access", "id-1"]).await;
    assert!(access.contains(" invoice=4711 note=\"two words\""), "{access}");
    assert_eq!(access.matches("request_id=").count(), 1, "{access}");
    assert!(!access.contains("gold"), "{access}");
}

#[tokio::test]
async fn a_line_of_json_has_them_as_members() {
    let server = server("json").await;
    get(&server, "/api/v1/tenant/logged", "id-1").await;
    let own: Value = serde_json::from_str(&line(&server, &["an own line"]).await).unwrap();
    assert_eq!(
        (&own["request_id"], &own["tenant_id"]),
        (&json!("id-1"), &json!("acme"))
    );
    let access: Value = serde_json::from_str(&line(&server, &["tenantry::access", "id-1"]).await).unwrap();
    assert_eq!(
        (&access["invoice"], &access["note"]),
        (&json!("4711"), &json!("two words"))
    );
    assert_eq!(
        (&access["level"], &access["target"]),
        (&json!("INFO"), &json!("tenantry::access"))
    );
    assert_ne!(access["timestamp"], "gold");
}

#[tokio::test]
async fn an_own_action_is_logged_by_its_path_and_no_tenant() {
    let server = server("text").await;
    let path = "/jobs/nightly/runs/7?tenant=acme";
    let request = reqwest::Client::new().post(format!("{}{path}", server.base_url()));
    let answer = request.header("X-Request-ID", "id-12").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "nightly 7");
    let action = line(&server, &["tenantry::audit", "id-12"]).await;
    assert!(action.contains("POST /jobs/{name}/runs/{run} "), "{action}");
    assert!(action.contains("admitted") && !action.contains("tenant_id"), "{action}");
}

#[tokio::test]
async fn a_scrape_that_fails_is_logged_and_counted() {
    let server = server("text").await;
    let scrape = || reqwest::Client::new().get(format!("{}/metrics", server.base_url()));
    let failed = scrape().header("X-Fail", "1").header("X-Request-ID", "id-13");
    assert_eq!(failed.send().await.unwrap().status(), 502);
    let access = line(&server, &["tenantry::access", "id-13"]).await;
    assert!(access.contains(" status=502 "), "{access}");
    let metrics = scrape().send().await.unwrap().text().await.unwrap();
    let counted = metrics
        .lines()
        .any(|line| line.starts_with("http_server_request_duration_seconds_count") && line.contains("\"502\""));
    assert!(counted, "{metrics}");
}

#[tokio::test]
async fn a_failed_statement_is_logged_without_its_values() {
    let server = server("text").await;
    let answer = get(&server, "/api/v1/tenant/failed", "id-2").await;
    assert_eq!(answer.status(), 500);
    let failed = line(&server, &["a statement failed", "request_id=id-2"]).await;
    for part in [
        "ERROR",
        "tenant_id=acme",
        "code=\"1\"",
        "SELECT nothing FROM sqlite_master WHERE name = ?",
    ] {
        assert!(failed.contains(part), "`{part}` is not in {failed}");
    }
    let logs = server.logs().await.unwrap();
    assert!(!logs.contains("canary"), "{logs}");
    assert_eq!(logs.matches("a statement failed").count(), 1, "{logs}");
}

#[tokio::test]
async fn a_streamed_answer_counts_to_its_end() {
    let server = server("text").await;
    let answer = get(
        &server,
        "/api/v1/tenant/numbers?count=4&fails=false&pause_ms=200",
        "id-3",
    )
    .await;
    assert_eq!(answer.text().await.unwrap().lines().count(), 4);
    let access = line(&server, &["tenantry::access", "request_id=\"id-3\""]).await;
    assert!(number(&access, "duration_ms") >= 600.0, "{access}");
    assert!(number(&access, "statements") >= 1.0, "{access}");
    assert!(number(&access, "database_ms") > 0.0, "{access}");
    assert!(!access.contains("cut="), "{access}");
}

#[tokio::test]
async fn an_error_in_the_middle_cuts_the_answer_and_is_logged() {
    let server = server("text").await;
    let answer = get(&server, "/api/v1/tenant/numbers?count=50&fails=true&pause_ms=0", "id-4").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err(), "the answer looked complete");
    let cut = line(&server, &["an answer ended early", "request_id=id-4"]).await;
    assert!(cut.contains("ERROR") && cut.contains("tenant_id=acme"), "{cut}");
    let access = line(&server, &["tenantry::access", "request_id=\"id-4\""]).await;
    assert!(access.contains("cut=\"error\""), "{access}");
}

#[tokio::test]
async fn a_time_out_of_the_source_is_an_error_of_the_answer() {
    let server = server("text").await;
    let request = reqwest::Client::new().get(format!("{}/api/v1/late", server.base_url()));
    // The answer is cut off, before or after its head has arrived.
    drop(request.header("X-Request-ID", "id-14").send().await);
    let access = line(&server, &["tenantry::access", "id-14"]).await;
    assert!(access.contains("cut=\"error\""), "{access}");
    let cut = line(&server, &["an answer ended early", "id-14"]).await;
    assert!(cut.contains("reason=\"error\""), "{cut}");
}

#[tokio::test]
async fn a_streamed_answer_ends_with_the_request_s_time() {
    let server = server("text").await;
    let answer = get(
        &server,
        "/api/v1/tenant/numbers?count=1000&fails=false&pause_ms=100",
        "id-5",
    )
    .await;
    assert!(answer.text().await.is_err(), "the answer looked complete");
    let access = line(&server, &["tenantry::access", "request_id=\"id-5\""]).await;
    assert!(access.contains("cut=\"timeout\""), "{access}");
    assert!((2900.0..20_000.0).contains(&number(&access, "duration_ms")), "{access}");
    ran_one_statement(&access);
    // The one connection that the tenant may have is free again.
    assert_eq!(get(&server, "/api/v1/tenant/info", "id-6").await.status(), 200);
}

#[tokio::test]
async fn a_client_that_goes_releases_the_connection() {
    use std::io::{Read as _, Write as _};
    let server = server("text").await;
    let address = server.base_url().trim_start_matches("http://").to_owned();
    let path = "/api/v1/tenant/numbers?count=100000&fails=false&pause_ms=1";
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: acme\r\nX-Request-ID: id-7\r\n\r\n");
    tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        client.read_exact(&mut [0; 2000]).unwrap();
    })
    .await
    .unwrap();
    let access = line(&server, &["tenantry::access", "request_id=\"id-7\""]).await;
    assert!(access.contains("cut=\"client\""), "{access}");
    ran_one_statement(&access);
    assert_eq!(get(&server, "/api/v1/tenant/info", "id-8").await.status(), 200);
}

async fn one_of_many_claims_a_job(database: Database) {
    let program: PathBuf = std::env::current_exe().unwrap();
    let server = TenantryProcess::builder(program).as_test(SERVER).oracle();
    let secrets = database.secrets(&["acme"]).await;
    let config = format!("tenancy: {{ provider: {{ type: static, tenants: {secrets} }} }}\n");
    let server = server.config(config).start().await.unwrap();
    let claims = (0..8).map(|_| async {
        let answer = get(&server, "/api/v1/tenant/claim", "id-10").await;
        assert_eq!(answer.status(), 200);
        answer.json::<bool>().await.unwrap()
    });
    let claims = futures_util::future::join_all(claims).await;
    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1, "{claims:?}");
    let again = get(&server, "/api/v1/tenant/claim", "id-11").await;
    assert!(!again.json::<bool>().await.unwrap());
    // The first claim makes the table. A warning for each tenant would look like a fault.
    let logs = server.logs().await.unwrap();
    assert!(
        matches!(database, Database::Oracle) || !logs.contains("table_missing"),
        "{logs}"
    );
}

#[tokio::test]
async fn one_of_many_claims_a_job_on_each_database() {
    for database in Database::ALL {
        one_of_many_claims_a_job(database).await;
    }
}

#[tokio::test]
async fn a_missing_folder_of_migrations_is_named() {
    let server = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(
            "tenancy: { provider: { type: static, tenants: { acme: { type: sqlite, path: acme.db } } } }\n\
             migrations: { on_connect: true, dir: scripts }\n",
        )
        .file("scripts/postgresql/0001_one.sql", "SELECT 1")
        .start()
        .await
        .unwrap();
    assert_eq!(get(&server, "/api/v1/tenant/info", "id-9").await.status(), 503);
    let failed = line(&server, &["cannot connect to the database", "tenant_id=acme"]).await;
    assert!(failed.contains("scripts` has no folder `sqlite`"), "{failed}");
}
