//! Telemetry: traces and metrics as a collector receives them, and `/metrics`.

mod bounds;
mod collector;
mod dashboards;
mod outage;
mod own;
mod traces;

use serde_json::{Value, json};
use tenantry_test_support::TenantryProcess;

use crate::{
    client::Client,
    databases::{config, program},
};
use collector::{Collector, Protocol};

pub(crate) const TOKEN: &str = "canary-operator-token";

/// A server that sends its telemetry to `endpoint`, traces of as many requests as `rate` says.
async fn serve_with(secrets: &Value, endpoint: &str, protocol: Protocol, rate: f64) -> (TenantryProcess, Client) {
    let observability = json!({
        "enabled": true,
        "service": {"name": "under-test", "version": "7.8.9"},
        "trace": {"endpoint": endpoint, "protocol": protocol.word(), "sample": {"rate": rate}},
        "metrics": {"endpoint": endpoint, "protocol": protocol.word(), "interval": "200ms"},
    });
    let config = format!(
        "{}observability: {observability}\nadmin: {{ token: {TOKEN} }}\nlogging: {{ level: info, format: json }}\n\
         server: {{ trusted_proxies: [127.0.0.1], forwarded: x-forwarded }}\n",
        config(secrets)
    );
    let server = program()
        .config(config)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=tests")
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    (server, client)
}

/// The same, with a collector that listens.
async fn serve_collected(secrets: &Value, protocol: Protocol, rate: f64) -> (TenantryProcess, Client, Collector) {
    let collector = Collector::start(protocol).await;
    let (server, client) = serve_with(secrets, &collector.url(), protocol, rate).await;
    (server, client, collector)
}
