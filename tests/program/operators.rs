//! The listeners that serve operators' routes, and which requests are an operator's without a
//! token.

use std::net::{IpAddr, UdpSocket};

use reqwest::Method;
use serde_json::json;
use tenantry::App;

use crate::{
    client::{Client, send},
    databases::{config, program, serve},
    users::USERS,
};

const TOKEN: &str = "an-operator-token-of-the-tests";

const OPERATORS: [(&str, &str); 9] = [
    ("GET", "/health/tenants"),
    ("GET", "/health/tenant/acme"),
    ("GET", "/health/cache"),
    ("GET", "/metrics"),
    ("POST", "/admin/cache/clear"),
    ("POST", "/admin/tenants/acme/refresh"),
    ("POST", "/admin/tenants/acme/suspend"),
    ("POST", "/admin/tenants/acme/resume"),
    ("DELETE", "/admin/tenants/acme/pool"),
];

fn one_tenant() -> String {
    config(&json!({"acme": {"type": "sqlite", "path": "acme.db"}}))
}

#[tokio::test]
async fn operators_routes_are_only_on_their_own_listener() {
    let config = format!("{}admin: {{ token: {TOKEN} }}\n", one_tenant());
    let server = program().config(config).admin_listener().start().await.unwrap();
    let (main, operators) = (Client::of(&server), Client::at(server.admin_url()));
    for (method, path) in OPERATORS {
        let method: Method = method.parse().unwrap();
        for client in [&main, &main.token(TOKEN), &main.tenant("acme").token(TOKEN)] {
            send(client.request(method.clone(), path))
                .await
                .problem(404, "not_found");
        }
        send(operators.request(method.clone(), path))
            .await
            .problem(401, "unauthenticated");
        let status = send(operators.token(TOKEN).request(method, path)).await.status;
        assert!(matches!(status, 200 | 204), "{path}: {status}");
    }
    for (path, status) in [("/api/v1/tenant/info", 200), ("/openapi.json", 200), ("/docs", 200)] {
        main.tenant("acme").get(path).await.expect(status);
        operators
            .tenant("acme")
            .token(TOKEN)
            .get(path)
            .await
            .problem(404, "not_found");
    }
    // Health checks may use either listener.
    operators.get("/health/live").await.expect(200);
    operators.get("/health/ready").await.expect(200);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_until_it_is_resumed() {
    let config =
        config(&json!({"acme": {"type": "sqlite", "path": "acme.db"}, "calm": {"type": "sqlite", "path": "calm.db"}}));
    let server = program().config(config).start().await.unwrap();
    let client = Client::of(&server);
    let nothing = json!({});
    client.tenant("acme").get("/api/v1/tenant/users").await.expect(200);
    client.post("/admin/tenants/acme/suspend", &nothing).await.expect(204);
    client
        .tenant("acme")
        .get("/api/v1/tenant/users")
        .await
        .problem(403, "tenant_suspended");
    client.tenant("calm").get("/api/v1/tenant/users").await.expect(200);
    assert_eq!(
        client.get("/health/tenant/acme").await.expect(200).json()["status"],
        "suspended"
    );
    client.post("/admin/cache/clear", &nothing).await.expect(200);
    client
        .tenant("acme")
        .get("/api/v1/tenant/users")
        .await
        .problem(403, "tenant_suspended");
    client.post("/admin/tenants/acme/resume", &nothing).await.expect(204);
    client.tenant("acme").get("/api/v1/tenant/users").await.expect(200);
    client
        .post("/admin/tenants/nobody/suspend", &nothing)
        .await
        .problem(404, "tenant_unknown");
}

#[tokio::test]
async fn an_unknown_query_parameter_of_an_operator_is_refused_by_name() {
    let (_server, client) = serve(&one_tenant()).await;
    client.tenant("acme").get(USERS).await.expect(200);
    let wrong = client.post("/admin/cache/clear?tenants=p1", &json!({})).await;
    assert_eq!(wrong.faults("request_invalid")[0].0, "tenants");
    let entries = client.cache().await["metrics"]["entries"].clone();
    assert_eq!(entries, 1, "the secret is still cached");
    let wrong = [
        "/health/tenants?foo=1",
        "/health/tenants?probe=false&Limit=1",
        "/health/cache?x",
        "/metrics?name=a",
    ];
    for path in wrong {
        assert_eq!(client.get(path).await.faults("request_invalid").len(), 1, "{path}");
    }
    let suspend = client.post("/admin/tenants/acme/suspend?until=1h", &json!({})).await;
    assert_eq!(suspend.faults("request_invalid")[0].0, "until");
    client
        .get("/health/tenants?limit=1&probe=false&status=idle")
        .await
        .expect(200);
    client.get("/health/live?probe=kubelet").await.expect(200);
}

/// This machine's address on a network; nothing is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("192.0.2.1:9")
        .expect("this test needs a machine with a network beside loopback");
    socket.local_addr().unwrap().ip()
}

#[tokio::test]
async fn without_a_token_only_local_requests_are_an_operator_s() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let config = format!(
        "{}server: {{ listen: \"0.0.0.0:0\", trusted_proxies: [0.0.0.0/0] }}\n",
        one_tenant()
    );
    tokio::fs::write(&file, config).await.unwrap();
    let server = App::new().start(&file).await.unwrap();
    let port = server.address().port();
    let local = Client::at(format!("http://127.0.0.1:{port}"));
    let address = own_address();
    assert!(!address.is_loopback());
    let remote = Client::at(format!("http://{address}:{port}"));
    for (method, path) in OPERATORS {
        let method: Method = method.parse().unwrap();
        let status = send(local.request(method.clone(), path)).await.status;
        assert!(matches!(status, 200 | 204), "{path}: {status}");
        let refused = send(remote.request(method.clone(), path)).await;
        refused.problem(401, "unauthenticated");
        assert!(!refused.header("www-authenticate").is_empty());
        // A forwarded header does not help, although every proxy is trusted.
        for (name, value) in [
            ("X-Forwarded-For", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("X-Real-IP", "127.0.0.1"),
            ("Host", "localhost"),
        ] {
            send(remote.request(method.clone(), path).header(name, value))
                .await
                .problem(401, "unauthenticated");
        }
        send(remote.token("").request(method.clone(), path))
            .await
            .problem(401, "unauthenticated");
        // A page of somewhere else, in a browser on this machine.
        let from_page = local.request(method, path).header("Sec-Fetch-Site", "cross-site");
        send(from_page).await.problem(401, "unauthenticated");
    }
    remote.get("/health/live").await.expect(200);
    remote.tenant("acme").get("/api/v1/tenant/info").await.expect(200);
    server.stop().await.unwrap();
}
