//! What health checks and a refresh find out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::Client,
    databases::{config, program, serve},
    users::USERS,
};

#[tokio::test]
async fn a_refresh_reads_the_file_as_it_is_now() {
    let server = program()
        .config("tenancy: { provider: { type: file, path: tenants.json } }\nmigrations: { on_connect: true }\n")
        .file("tenants.json", r#"{"acme": {"type": "sqlite", "path": "0.db"}}"#)
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client.tenant("acme").get(USERS).await.expect(200);
    for number in 1..20 {
        let database = format!("{number}.db");
        let secrets = json!({"acme": {"type": "sqlite", "path": database}});
        let file = server.folder().join("tenants.json");
        let (new, change) = (file.with_extension("new"), number % 2);
        match change {
            0 => std::fs::write(&file, secrets.to_string()).unwrap(),
            _ => {
                std::fs::write(&new, secrets.to_string()).unwrap();
                std::fs::rename(&new, &file).unwrap();
            }
        }
        client.post("/admin/tenants/acme/refresh", &json!({})).await.expect(200);
        let info = client
            .tenant("acme")
            .get("/api/v1/tenant/info")
            .await
            .expect(200)
            .json();
        assert_eq!(info["database"], Value::from(database));
    }
}

#[tokio::test]
async fn a_tenant_whose_migrations_fail_is_unhealthy() {
    let server = program()
        .config(format!(
            "{}  dir: own\n",
            config(&json!({"acme": {"type": "sqlite", "path": "acme.db"}}))
                .replace("{ on_connect: true }", "\n  on_connect: true")
        ))
        .file("own/sqlite/0001_fail.sql", "SELECT * FROM nowhere;\n")
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client
        .tenant("acme")
        .get(USERS)
        .await
        .problem(503, "database_unavailable");
    for path in ["/health/tenant/acme", "/health/tenants", "/health/tenants?probe=true"] {
        let health = client.get(path).await.json();
        let health = health["tenants"].get(0).unwrap_or(&health);
        assert_eq!(
            (&health["status"], &health["error"]),
            (&json!("unhealthy"), &json!("migration")),
            "{path}"
        );
    }
    // The log has the file, its line, and what the database said.
    let logs = server
        .logs_with("cannot connect to the database", Duration::from_secs(10))
        .await
        .unwrap();
    assert!(logs.contains("`0001_fail` failed at line 1"), "{logs}");
    assert!(logs.contains("no such table: nowhere"), "{logs}");
}

#[tokio::test]
async fn a_tenant_with_an_unusable_secret_is_unhealthy_in_the_list() {
    let server = program()
        .config("tenancy: { provider: { type: directory, path: secrets } }\nmigrations: { on_connect: true }\n")
        .file("secrets/acme.json", r#"{"type": "sqlite", "path": "acme.db"}"#)
        .file("secrets/broken.json", "")
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client.tenant("acme").get(USERS).await.expect(200);
    client.tenant("broken").get(USERS).await.problem(503, "secret_invalid");
    for query in ["?status=unhealthy", "?status=unhealthy&probe=true"] {
        let health = client.get(&format!("/health/tenants{query}")).await.expect(200).json();
        assert_eq!(health["tenants"].as_array().unwrap().len(), 1, "{health}");
        let broken = &health["tenants"][0];
        assert_eq!(broken["id"], "broken", "{query}");
        assert!(
            broken["error"].as_str().unwrap().starts_with("secret_invalid"),
            "{broken}"
        );
        assert_eq!(health["summary"]["unhealthy"], 1, "{health}");
    }
    // It is served again once its secret is there.
    let file = server.folder().join("secrets/broken.json");
    std::fs::write(file, r#"{"type": "sqlite", "path": "broken.db"}"#).unwrap();
    client
        .post("/admin/tenants/broken/refresh", &json!({}))
        .await
        .expect(200);
    let health = client.get("/health/tenants?status=unhealthy").await.expect(200).json();
    assert_eq!(health["tenants"], json!([]));
}

#[tokio::test]
async fn a_broken_new_secret_is_shown_while_the_old_one_serves() {
    let secret = r#"{"acme": {"type": "sqlite", "path": "acme.db"}}"#;
    let server = program()
        .config("tenancy: { provider: { type: file, path: tenants.json } }\nmigrations: { on_connect: true }\n")
        .file("tenants.json", secret)
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client.tenant("acme").get(USERS).await.expect(200);
    let file = server.folder().join("tenants.json");
    std::fs::write(&file, r#"{"acme": {"type": "sqlite", "path": "../acme.db"}}"#).unwrap();
    let refresh = async || client.post("/admin/tenants/acme/refresh", &json!({})).await;
    refresh().await.problem(503, "secret_invalid");
    client.tenant("acme").get(USERS).await.expect(200);
    for path in ["/health/tenant/acme", "/health/tenants"] {
        let health = client.get(path).await.expect(200).json();
        let health = health["tenants"].get(0).unwrap_or(&health);
        assert_eq!(health["status"], "healthy", "{health}");
        let error = health["error"].as_str().unwrap();
        assert!(error.starts_with("secret_invalid: `path`"), "{path}: {error}");
    }
    std::fs::write(&file, secret).unwrap();
    refresh().await.expect(200);
    let health = client.get("/health/tenant/acme").await.expect(200).json();
    assert_eq!(health["error"], Value::Null);
}

#[tokio::test]
async fn without_the_provider_the_known_tenants_are_listed_and_suspended() {
    let server = program()
        .config("tenancy: { provider: { type: directory, path: secrets } }\nmigrations: { on_connect: true }\n")
        .file("secrets/acme.json", r#"{"type": "sqlite", "path": "acme.db"}"#)
        .file("secrets/other.json", r#"{"type": "sqlite", "path": "other.db"}"#)
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    client.tenant("acme").get(USERS).await.expect(200);
    let all = client.get("/health/tenants").await.expect(200).json();
    assert_eq!((&all["summary"]["total"], all.get("incomplete")), (&json!(2), None));
    let folder = server.folder();
    std::fs::rename(folder.join("secrets"), folder.join("gone")).unwrap();
    // A made-up name is no known tenant.
    client
        .tenant("nosuch")
        .get(USERS)
        .await
        .problem(503, "provider_unavailable");
    let known = client.get("/health/tenants").await.expect(200).json();
    assert_eq!(known["tenants"].as_array().unwrap().len(), 1, "{known}");
    assert_eq!(known["tenants"][0]["id"], "acme");
    let reason = known["incomplete"].as_str().unwrap();
    assert!(reason.contains("provider_unavailable"), "{reason}");
    client
        .post("/admin/tenants/other/suspend", &json!({}))
        .await
        .expect(204);
    client.tenant("other").get(USERS).await.problem(403, "tenant_suspended");
    let known = client.get("/health/tenants").await.expect(200).json();
    assert_eq!(known["summary"]["suspended"], 1, "{known}");
    std::fs::rename(folder.join("gone"), folder.join("secrets")).unwrap();
    client.tenant("other").get(USERS).await.problem(403, "tenant_suspended");
    client.post("/admin/tenants/other/resume", &json!({})).await.expect(204);
}

#[tokio::test]
async fn a_check_that_finds_no_room_for_a_connection_says_nothing_bad() {
    let mut secrets = json!({});
    for number in 0..12 {
        secrets[format!("t{number}")] = json!({"type": "sqlite", "path": format!("{number}.db")});
    }
    let small = config(&secrets).replace("tenancy:\n", "tenancy:\n  pools: { max_connections: 2 }\n");
    let (_server, client) = serve(&small).await;
    for tenant in ["t0", "t1"] {
        client.tenant(tenant).get(USERS).await.expect(200);
    }
    let health = client.get("/health/tenant/t9").await.expect(200).json();
    assert_eq!((&health["status"], &health["error"]), (&json!("idle"), &Value::Null));
    client.tenant("t9").get(USERS).await.expect(200);
    let checked = program().config(small).run(["check", "--connect"]).await.unwrap();
    assert!(checked.stdout.ends_with("12 reached, 0 failed\n"), "{}", checked.stdout);
}
