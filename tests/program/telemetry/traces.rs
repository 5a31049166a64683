//! One request, one trace.

use std::collections::{BTreeSet, HashMap};

use opentelemetry_proto::tonic::{metrics::v1::metric::Data, trace::v1::span::SpanKind};
use reqwest::Method;
use tenantry_test_support::CANARY;

use super::{
    TOKEN,
    collector::{Protocol, Received, attribute},
    serve_collected,
};
use crate::{
    client::send,
    databases::Database,
    users::{USERS, user},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every span of the caller's trace, each as `parent > name`.
fn tree(received: &Received) -> BTreeSet<String> {
    let names: HashMap<&[u8], &str> = received
        .spans
        .iter()
        .map(|span| (&*span.span_id, &*span.name))
        .collect();
    received
        .spans
        .iter()
        .filter(|span| hex(&span.trace_id) == TRACE)
        .map(|span| {
            let parent = names.get(&*span.parent_span_id).copied();
            let parent = parent.map_or_else(|| hex(&span.parent_span_id), str::to_owned);
            format!("{parent} > {}", span.name)
        })
        .collect()
}

fn expected(edges: &[(&str, &str)]) -> BTreeSet<String> {
    edges
        .iter()
        .map(|(parent, name)| format!("{parent} > {name}"))
        .collect()
}

async fn one_request_gives_one_trace(protocol: Protocol) {
    const ROUTE: &str = "GET /api/v1/tenant/users/{id}";
    let secrets = Database::Postgresql.secrets(&["acme"]).await;
    let (_server, client, collector) = serve_collected(&secrets, protocol, 0.0).await;
    let acme = client.tenant("acme");
    // Not traced: the caller did not ask for it, and the sample rate is 0.
    let made = acme
        .post(USERS, &user("canary-name", "canary-mail@x.example"))
        .await
        .expect(201);
    let get = || {
        let path = format!("{USERS}/{}", made.json()["id"]);
        acme.request(Method::GET, &path)
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
    };

    let answer = send(get()).await.expect(200);
    let received = collector.wait_for(|received| received.spans.len() >= 5).await;
    let whole = [
        (CALLER, ROUTE),
        (ROUTE, "resolve tenant"),
        (ROUTE, "secret"),
        (ROUTE, "acquire connection"),
        (ROUTE, "SELECT users"),
    ];
    assert_eq!(tree(&received), expected(&whole));
    assert_eq!(received.spans.len(), 5, "{:#?}", received.spans);
    let server = received.span(ROUTE);
    assert_eq!(server.kind(), SpanKind::Server);
    let told = |name: &str| attribute(&server.attributes, name);
    assert_eq!(told("tenant.id"), "acme");
    assert_eq!(told("http.request.method"), "GET");
    assert_eq!(told("http.route"), "/api/v1/tenant/users/{id}");
    assert_eq!(told("http.response.status_code"), "200");
    assert_eq!(told("request.id"), answer.header("x-request-id"));
    let traceparent = format!("00-{TRACE}-{}-01", hex(&server.span_id));
    assert_eq!(answer.header("traceparent"), traceparent);
    assert_eq!(
        attribute(&received.span("resolve tenant").attributes, "tenant.resolver"),
        "header"
    );
    let secret = &received.span("secret").attributes;
    assert_eq!(attribute(secret, "secret.cache"), "hit");
    assert!(!attribute(secret, "secret.version").is_empty());
    let statement = received.span("SELECT users");
    assert_eq!(statement.kind(), SpanKind::Client);
    for (name, value) in [
        ("db.system.name", "postgresql"),
        ("db.operation.name", "SELECT"),
        ("db.collection.name", "users"),
        ("db.response.returned_rows", "1"),
        ("tenant.id", "acme"),
    ] {
        assert_eq!(attribute(&statement.attributes, name), value, "{name}");
    }

    let received = collector
        .wait_for(|received| {
            received
                .metrics
                .iter()
                .any(|metric| metric.name == "http.server.request.duration")
        })
        .await;
    let of_requests = received
        .metrics
        .iter()
        .rfind(|metric| metric.name == "http.server.request.duration");
    let Some(Data::Histogram(histogram)) = of_requests.and_then(|metric| metric.data.clone()) else {
        panic!("{of_requests:?}");
    };
    assert!(
        histogram
            .data_points
            .iter()
            .any(|point| attribute(&point.attributes, "http.route") == USERS)
    );
    let names: BTreeSet<&str> = received.metrics.iter().map(|metric| &*metric.name).collect();
    for name in [
        "db.client.operation.duration",
        "db.client.connection.wait_time",
        "tenantry.secret.fetch.duration",
        "tenantry.tenant.requests",
        "tenantry.connections.open",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for resource in &received.resources {
        assert_eq!(attribute(&resource.attributes, "service.name"), "under-test");
        assert_eq!(attribute(&resource.attributes, "service.version"), "7.8.9");
        assert_eq!(attribute(&resource.attributes, "team"), "tests");
    }
}

#[tokio::test]
async fn one_request_gives_one_trace_over_grpc() {
    one_request_gives_one_trace(Protocol::Grpc).await;
}

#[tokio::test]
async fn one_request_gives_one_trace_over_http() {
    one_request_gives_one_trace(Protocol::Http).await;
}

#[tokio::test]
async fn the_trace_of_a_first_request_shows_fetch_and_opening() {
    let secrets = Database::Postgresql.secrets(&["acme"]).await;
    let (_server, client, collector) = serve_collected(&secrets, Protocol::Grpc, 0.0).await;
    let request = client
        .tenant("acme")
        .request(Method::GET, USERS)
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    send(request).await.expect(200);
    let received = collector.wait_for(|received| received.spans.len() >= 7).await;
    const ROUTE: &str = "GET /api/v1/tenant/users";
    let whole = [
        (CALLER, ROUTE),
        (ROUTE, "resolve tenant"),
        (ROUTE, "secret"),
        ("secret", "fetch secret"),
        (ROUTE, "acquire connection"),
        ("acquire connection", "open connection"),
        (ROUTE, "SELECT users"),
    ];
    assert_eq!(tree(&received), expected(&whole));
    assert_eq!(attribute(&received.span("secret").attributes, "secret.cache"), "miss");
    assert_eq!(
        attribute(&received.span("fetch secret").attributes, "secret.outcome"),
        "changed"
    );
}

#[tokio::test]
async fn a_callers_decision_not_to_trace_is_kept_and_others_sampled() {
    let secrets = Database::Sqlite.secrets(&["acme"]).await;
    let (server, client, collector) = serve_collected(&secrets, Protocol::Grpc, 1.0).await;
    let acme = client.tenant("acme");
    let untraced = acme
        .request(Method::GET, USERS)
        .header("traceparent", format!("00-{TRACE}-{CALLER}-00"));
    assert_eq!(send(untraced).await.expect(200).header("traceparent"), "");
    let sampled = acme.get(USERS).await.expect(200);
    assert!(sampled.header("traceparent").ends_with("-01"), "{sampled:?}");
    // A malformed header begins no trace of its own kind: it counts as none.
    let malformed = acme.request(Method::GET, USERS).header("traceparent", "00-nonsense");
    assert!(send(malformed).await.expect(200).header("traceparent").ends_with("-01"));
    client.get("/health/live").await.expect(200);
    // The end of the program sends what was not sent yet.
    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let received = collector.so_far();
    let roots: Vec<_> = received
        .spans
        .iter()
        .filter(|span| span.kind() == SpanKind::Server)
        .collect();
    assert_eq!(roots.len(), 2, "{roots:#?}");
    assert!(
        roots
            .iter()
            .all(|root| hex(&root.trace_id) != TRACE && root.parent_span_id.is_empty())
    );
    let ids = [sampled.header("traceparent").split('-').nth(1).unwrap().to_owned()];
    assert!(ids.iter().all(|id| roots.iter().any(|root| hex(&root.trace_id) == *id)));
    let lines = server.logs().await.unwrap();
    // The access line of a request that its caller did not trace still says which trace it belongs
    // to.
    assert!(
        lines
            .lines()
            .any(|line| line.contains("tenantry::access") && line.contains(TRACE)),
        "{lines}"
    );
    assert!(lines.contains(&ids[0]), "{lines}");
}

#[tokio::test]
async fn nothing_secret_is_in_a_span_or_a_metric() {
    let (server, client, collector) = {
        let secrets = crate::logs::secrets().await;
        serve_collected(&secrets, Protocol::Http, 1.0).await
    };
    crate::logs::use_everything(&client).await;
    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let received = collector.so_far();
    let failed = received.span("open connection");
    assert!(
        received.spans.len() > 50 && !received.metrics.is_empty(),
        "{}",
        received.spans.len()
    );
    assert!(!attribute(&failed.attributes, "db.system.name").is_empty());
    let text = received.text();
    for canary in crate::logs::CANARIES {
        if let Some(at) = text.find(canary) {
            panic!(
                "{canary}: ...{}",
                &text[at.saturating_sub(300)..(at + 50).min(text.len())]
            );
        }
    }
    assert!(!text.contains(TOKEN) && !text.contains(CANARY));
}
