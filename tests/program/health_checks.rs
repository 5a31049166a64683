//! What health checks and a refresh find out.

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
