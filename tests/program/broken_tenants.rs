//! Tenants with a broken secret or database: an outage is reported as one, and affects only that
//! tenant.

use serde_json::json;
use tenantry_test_support::{CANARY, PostgresServer, free_port};

use crate::{
    client::Client,
    databases::{Database, config, program, serve},
    users::{USERS, user},
};

const INFO: &str = "/api/v1/tenant/info";

#[tokio::test]
async fn a_server_starts_with_every_database_down() {
    let down = |port: u16| json!({"type": "postgresql", "host": "127.0.0.1", "port": port, "database": "d", "username": "u", "password": CANARY});
    let (port, other) = (free_port().unwrap(), free_port().unwrap());
    let (server, client) = serve(&config(&json!({"one": down(port), "two": down(other)}))).await;
    assert_eq!(
        client.get("/health/ready").await.expect(200).json(),
        json!({"status": "up"})
    );
    for tenant in ["one", "two"] {
        let tenant = client.tenant(tenant);
        for answer in [
            tenant.get(INFO).await,
            tenant.get("/api/v1/tenant/stats").await,
            tenant.get(USERS).await,
            tenant.get(&format!("{USERS}/1")).await,
            tenant.post(USERS, &user("Ann", "a@x.example")).await,
            tenant.put(&format!("{USERS}/1"), &user("Ann", "a@x.example")).await,
            tenant.delete(&format!("{USERS}/1")).await,
        ] {
            answer.problem(503, "database_unavailable");
            // Neither the address of the database nor its login.
            for secret in [CANARY, "127.0.0.1", &port.to_string(), &other.to_string()] {
                assert!(!answer.text().contains(secret), "{}", answer.text());
            }
        }
    }
    // A wrong request is answered as such with or without a database.
    let wrong = client.tenant("one").post(USERS, &json!({})).await;
    wrong.problem(400, "request_invalid");
    let health = client.get("/health/tenant/one").await.expect(503).json();
    assert_eq!(
        (&health["status"], &health["error"]),
        (&json!("unhealthy"), &json!("unreachable")),
        "{health}"
    );
    let all = client.get("/health/tenants?probe=true").await.expect(200).json();
    assert_eq!(
        all["summary"],
        json!({"total": 2, "healthy": 0, "unhealthy": 2, "idle": 0, "suspended": 0, "migrating": 0, "behind": 0})
    );
    assert!(!server.logs().await.unwrap().contains(CANARY));
}

#[tokio::test]
async fn a_database_that_comes_back_is_used_again() {
    let postgres = PostgresServer::start().await.unwrap();
    let tenant = postgres.create_tenant("acme").await.unwrap();
    postgres.stop().await.unwrap();
    let secrets = json!({"acme": postgres.secret(&tenant), "calm": Database::Sqlite.secret("calm").await});
    let (_server, client) = serve(&config(&secrets)).await;
    let (acme, calm) = (client.tenant("acme"), client.tenant("calm"));
    acme.get(USERS).await.problem(503, "database_unavailable");
    calm.get(USERS).await.expect(200);
    postgres.start_again().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        let answer = acme.post(USERS, &user("Ann", "a@x.example")).await;
        if answer.status == 201 {
            break;
        }
        answer.problem(503, "database_unavailable");
        assert!(
            tokio::time::Instant::now() < deadline,
            "the database is there again, and still {}",
            answer.text()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    calm.get(USERS).await.expect(200);
}

#[tokio::test]
async fn a_password_that_cannot_be_sent_is_a_secret_that_is_invalid() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("emoji").await.unwrap();
    let password = format!("{CANARY}\u{1f600}");
    let alter = format!("ALTER ROLE \"{}\" PASSWORD '{password}'", tenant.user);
    postgres.psql("postgres", &alter).await.unwrap();
    let mut secret = postgres.secret(&tenant);
    secret["password"] = json!(password);
    let text = format!("{}logging: {{ level: trace }}\n", config(&json!({"emoji": secret})));
    let (server, client) = serve(&text).await;
    let answer = client.tenant("emoji").get(USERS).await;
    answer.problem(503, "secret_invalid");
    let health = client.get("/health/tenant/emoji").await.expect(503);
    let error = health.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("secret_invalid: `password` has "), "{error}");
    for text in [answer.text(), health.text(), server.logs().await.unwrap()] {
        assert!(!text.contains(CANARY) && !text.contains('\u{1f600}'), "{text}");
    }
}

#[tokio::test]
async fn a_malformed_secret_is_reported_by_field_without_value() {
    let canaries = [
        json!({"type": "postgresql", "host": "h", "port": "canary-port", "database": "d", "username": "u", "password": "canary-password"}),
        json!({"type": "canary-type", "host": "h", "password": "canary-password"}),
        json!({"type": "postgresql", "username": "canary-user", "password": "canary-password"}),
        json!({"type": "postgresql", "host": "h", "database": "d", "username": "u", "password": ["canary-password"]}),
        json!({"type": "postgresql", "host": "h", "database": "d", "username": "u", "password": "canary-password", "tls": {"mode": "canary-mode"}}),
        json!({"type": "sqlite", "path": "../canary.db"}),
        json!({"type": "sqlite", "path": "/canary.db"}),
        json!({"url": "postgres://canary-user:canary-password@"}),
        json!({"password": "canary-password"}),
        json!({}),
    ];
    let mut builder = program().config(
        "tenancy:\n  provider: { type: directory, path: secrets }\nmigrations: { on_connect: true }\nlogging: { level: trace }\n\
         drivers: { sqlite: { root: data } }\n",
    );
    let mut texts: Vec<String> = canaries.iter().map(ToString::to_string).collect();
    texts.extend([
        "{\"password\": \"canary-password\"".to_owned(),
        "canary-text".to_owned(),
        "[\"canary\"]".to_owned(),
        String::new(),
    ]);
    for (n, text) in texts.iter().enumerate() {
        builder = builder.file(format!("secrets/bad{n}.json"), text.clone());
    }
    let server = builder
        .file(
            "secrets/good.json",
            json!({"type": "sqlite", "path": "good.db"}).to_string(),
        )
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    for (n, text) in texts.iter().enumerate() {
        let tenant = client.tenant(&format!("bad{n}"));
        // Asked twice: a bad secret is not kept as a good one.
        for _ in 0..2 {
            let answer = tenant.get(INFO).await;
            answer.problem(503, "secret_invalid");
            assert!(!answer.text().contains("canary"), "{text}: {}", answer.text());
        }
        let health = client.get(&format!("/health/tenant/bad{n}")).await;
        let health = health.expect(503);
        assert!(!health.text().contains("canary"), "{text}: {}", health.text());
        let error = health.json()["error"].as_str().unwrap().to_owned();
        assert!(
            error.contains("secret_invalid") && error.contains('`'),
            "{text}: {error}"
        );
    }
    client.tenant("good").get(USERS).await.expect(200);
    client.tenant("nobody").get(INFO).await.problem(404, "tenant_unknown");
    let passive = client.get("/health/tenants").await.expect(200);
    assert!(!passive.text().contains("canary"));
    assert!(!client.get("/metrics").await.expect(200).text().contains("canary"));
    let logs = server.logs().await.unwrap();
    assert!(logs.contains("bad0") && !logs.contains("canary"), "{logs}");
}

#[tokio::test]
async fn a_refused_password_is_an_outage_and_names_nobody() {
    let postgres = PostgresServer::shared().await;
    let mut secret = postgres.secret(&postgres.create_tenant("acme").await.unwrap());
    secret["password"] = "canary-wrong".into();
    let (server, client) = serve(&format!(
        "{}logging: {{ level: trace }}\n",
        config(&json!({"acme": secret}))
    ))
    .await;
    let answer = client.tenant("acme").get(USERS).await;
    answer.problem(503, "database_unavailable");
    for told in [secret["username"].as_str().unwrap(), "canary", "password"] {
        assert!(!answer.text().contains(told), "{}", answer.text());
    }
    let health = client.get("/health/tenant/acme").await.expect(503).json();
    assert_eq!(health["error"], "authentication", "{health}");
    assert!(!server.logs().await.unwrap().contains("canary"));
}

#[tokio::test]
async fn a_missing_oracle_client_fails_only_its_tenant_and_is_logged() {
    let secrets = json!({
        "ora": {"type": "oracle", "host": "127.0.0.1", "database": "d", "username": "u", "password": CANARY},
        "calm": Database::Sqlite.secret("calm").await,
    });
    // A folder that has no library, so that none that is installed is found either.
    let drivers = "drivers: { oracle: { client_library: empty } }\n";
    let server = program()
        .config(format!("{}{drivers}", config(&secrets)))
        .file("empty/readme", "")
        .start()
        .await
        .unwrap();
    let client = Client::of(&server);
    for _ in 0..3 {
        let answer = client.tenant("ora").get(USERS).await;
        answer.problem(503, "database_unavailable");
        assert!(!answer.text().contains(CANARY), "{}", answer.text());
        client.tenant("calm").get(USERS).await.expect(200);
    }
    let health = client.get("/health/tenant/ora").await.expect(503).json();
    assert_eq!(health["error"], "unsupported", "{health}");
    let logs = server.logs().await.unwrap();
    // Once, however often it is tried.
    assert_eq!(logs.matches("install Oracle Instant Client").count(), 1, "{logs}");
    assert!(logs.contains("DPI-1047") && !logs.contains(CANARY), "{logs}");
}
