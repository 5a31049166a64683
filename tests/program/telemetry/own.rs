//! Telemetry of a program of one's own that is started without the command line.

use std::path::PathBuf;

use poem_openapi::{OpenApi, payload::PlainText};
use serde_json::json;
use tenantry::{App, Tenant, config::Logging, opentelemetry::metrics::Counter};
use tenantry_test_support::TenantryProcess;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument as _;

use super::collector::{Collector, Protocol, attribute};

struct Greetings(Counter<u64>);

#[OpenApi]
impl Greetings {
    /// Greet the tenant
    #[oai(path = "/api/v1/tenant/greeting", method = "get", operation_id = "greet")]
    async fn greet(&self, tenant: Tenant) -> PlainText<String> {
        self.0.add(1, &[]);
        let thinking = async { tenant.tenant().to_string() };
        PlainText(thinking.instrument(tracing::info_span!("thinking")).await)
    }
}

/// The server.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the server of the tests below, which start it"]
async fn serve() {
    let Some(file) = std::env::var_os("TENANTRY_CONFIG") else {
        return;
    };
    if std::env::var_os("LOGS_BEFORE").is_some() {
        let logging: Logging = serde_json::from_value(json!({"level": "info"})).unwrap();
        tenantry::start_logging(&logging).unwrap();
    }
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let app = App::new()
        .name("greeter")
        .version("7.8.9")
        .setup(|app, setup| async move { Ok(app.api(Greetings(setup.meter().u64_counter("greetings").build()))) });
    match app.start(file).await {
        Ok(server) => {
            terminated.recv().await;
            server.stop().await.unwrap();
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

fn server(collector: &Collector) -> tenantry_test_support::TenantryBuilder {
    let observability = json!({
        "enabled": true,
        "trace": {"endpoint": collector.url(), "protocol": "grpc"},
        "metrics": {"endpoint": collector.url(), "protocol": "grpc", "interval": "200ms"},
    });
    let program: PathBuf = std::env::current_exe().unwrap();
    TenantryProcess::builder(program)
        .as_test("telemetry::own::serve")
        .config(format!(
            "tenancy: {{ provider: {{ type: static, tenants: {{ acme: {{ type: sqlite, path: acme.db }} }} }} }}\n\
             observability: {observability}\n"
        ))
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

#[tokio::test]
async fn own_spans_have_the_ids_and_own_metrics_arrive() {
    let collector = Collector::start(Protocol::Grpc).await;
    let server = server(&collector).start().await.unwrap();
    let request = reqwest::Client::new().get(format!("{}/api/v1/tenant/greeting", server.base_url()));
    let request = request.header("X-Tenant-ID", "acme").header("X-Request-ID", "id-1");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "acme");
    let received = collector
        .wait_for(|received| {
            received.spans.iter().any(|span| span.name == "thinking")
                && received.metrics.iter().any(|metric| metric.name == "greetings")
        })
        .await;
    for name in ["thinking", "resolve tenant", "GET /api/v1/tenant/greeting"] {
        let span = received.span(name);
        let of = |name: &str| span.attributes.iter().filter(|attribute| attribute.key == name).count();
        assert_eq!((of("request.id"), of("tenant.id")), (1, 1), "{span:?}");
        assert_eq!(attribute(&span.attributes, "request.id"), "id-1");
        assert_eq!(attribute(&span.attributes, "tenant.id"), "acme");
    }
    let resource = &received.resources[0].attributes;
    assert_eq!(attribute(resource, "service.name"), "greeter");
    assert_eq!(attribute(resource, "service.version"), "7.8.9");
}

#[tokio::test]
async fn traces_that_could_not_be_made_are_an_error() {
    let collector = Collector::start(Protocol::Grpc).await;
    let Err(error) = server(&collector).env("LOGS_BEFORE", "1").start().await else {
        panic!("it started, and all traces would be lost");
    };
    let error = format!("{error:#}");
    assert!(error.contains("no trace could be made"), "{error}");
}
