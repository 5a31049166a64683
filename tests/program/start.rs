//! The first minutes: the program as it comes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    client::Client,
    databases::{config, program, serve},
    users::USERS,
};

#[tokio::test]
async fn the_program_alone_serves_a_tenant_with_sample_rows() {
    let began = Instant::now();
    let server = program().start().await.unwrap();
    let client = Client::of(&server);
    let page = client.tenant("tenant1").get(USERS).await.expect(200).json();
    // No measure of speed: a bound that no busy machine breaks.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let rows: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["name"].as_str().unwrap(), user["email"].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ("John Doe", "john@tenant1.com"),
            ("Jane Smith", "jane@tenant1.com"),
            ("Bob Wilson", "bob@tenant1.com")
        ]
    );
    assert!(
        tokio::fs::try_exists(server.folder().join("data/tenant1.db"))
            .await
            .unwrap()
    );
    client.tenant("tenant2").get(USERS).await.problem(404, "tenant_unknown");
    assert_eq!(
        client.get("/health/ready").await.expect(200).json(),
        json!({"status": "up"})
    );
}

#[tokio::test]
async fn the_documentation_is_inside_the_program() {
    let server = program().start().await.unwrap();
    let client = Client::of(&server);
    let root = client.get("/").await;
    assert!(
        (300..400).contains(&root.status) && root.header("location") == "/docs",
        "{root:?}"
    );
    for path in ["/docs", "/docs/redoc", "/docs/scalar"] {
        let page = client.get(path).await.expect(200);
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(
            page.text().contains("/api/v1/tenant/users/{id}"),
            "{path} has the document in it"
        );
        assert!(
            page.header("content-security-policy").contains("default-src 'none'"),
            "{path}"
        );
    }
    assert_eq!(
        client.get("/openapi.yaml").await.expect(200).header("content-type"),
        "application/yaml"
    );
    let without = format!("{}docs: {{ enabled: false }}\n", config(&json!({})));
    let (_server, client) = serve(&without).await;
    for path in [
        "/",
        "/docs",
        "/docs/redoc",
        "/docs/scalar",
        "/openapi.json",
        "/openapi.yaml",
    ] {
        client.get(path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_file_of_secrets_can_change_under_a_running_server() {
    let config = "tenancy:\n  provider: { type: file, path: secrets.yaml }\n  secrets: { not_found_ttl: 1h }\nmigrations: { on_connect: true }\n";
    let server = program()
        .config(config)
        .file("secrets.yaml", "acme: { type: sqlite, path: acme.db }\n")
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client.tenant("acme").get(USERS).await.expect(200);
    client.tenant("globex").get(USERS).await.problem(404, "tenant_unknown");
    let secrets = "globex: { type: sqlite, path: globex.db }\n";
    tokio::fs::write(server.folder().join("secrets.yaml"), secrets)
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (gone, new) = (
            client.tenant("acme").get(USERS).await.status,
            client.tenant("globex").get(USERS).await.status,
        );
        if (gone, new) == (404, 200) {
            break;
        }
        assert!(Instant::now() < deadline, "acme {gone}, globex {new}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
