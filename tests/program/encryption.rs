//! How connections to the databases are protected, as an operator sees it.

use serde_json::{Value, json};
use tenantry_test_support::PostgresServer;

use crate::{
    client::Client,
    databases::{Database, config, program},
    users::USERS,
};

const WARNING: &str = "the connection to the tenant's database is not encrypted";

#[tokio::test]
async fn an_operator_sees_how_connections_are_protected() {
    let (plain, encrypted) = (
        PostgresServer::shared().await,
        PostgresServer::start_with_tls().await.unwrap(),
    );
    let tenant = plain.create_tenant("plain").await.unwrap();
    // Another name for this machine, which does not look like one.
    let elsewhere = |mut secret: Value| {
        secret["host"] = json!("127.1");
        secret
    };
    let other = encrypted.create_tenant("encrypted").await.unwrap();
    let with = |host: &str, tls: Value| {
        let mut secret = encrypted.secret(&other);
        (secret["host"], secret["tls"]) = (json!(host), tls);
        secret
    };
    let ca = encrypted.certificates().unwrap().ca_pem.as_str();
    let secrets = json!({
        "file": Database::Sqlite.secret("file").await,
        "here": plain.secret(&tenant),
        "plain": elsewhere(plain.secret(&tenant)),
        "prefer": with("127.0.0.1", json!({"mode": "prefer"})),
        "require": with("127.0.0.1", json!({"mode": "require"})),
        "verify": with("localhost", json!({"mode": "verify-full", "ca": ca})),
    });
    let expected = [
        ("file", "none"),
        ("here", "none"),
        ("plain", "none"),
        ("prefer", "encrypted"),
        ("require", "encrypted"),
        ("verify", "verified"),
    ];
    for environment in ["production", "development"] {
        let text = format!(
            "app: {{ environment: {environment} }}\n{}logging: {{ format: json }}\n",
            config(&secrets)
        );
        let server = program().config(text).start().await.unwrap();
        let client = Client::of(&server);
        let unknown = client.get("/health/tenants").await.expect(200).json();
        assert_eq!(unknown["tenants"][0]["tls"], Value::Null, "{unknown}");
        for (tenant, tls) in expected {
            client.tenant(tenant).get(USERS).await.expect(200);
            let health = client.get(&format!("/health/tenant/{tenant}")).await.expect(200).json();
            assert_eq!(health["tls"], tls, "{tenant}: {health}");
        }
        let metrics = client.get("/metrics").await.expect(200).text();
        for line in ["tls=\"none\"} 3", "tls=\"encrypted\"} 2", "tls=\"verified\"} 1"] {
            let has = |text: &str| text.starts_with("tenantry_tenants_tls{") && text.ends_with(line);
            assert!(metrics.lines().any(has), "{line}: {metrics}");
        }
        let logs = server.logs().await.unwrap();
        let warned: Vec<Value> = logs
            .lines()
            .filter(|line| line.contains(WARNING))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let tenants: Vec<&str> = warned.iter().filter_map(|line| line["tenant_id"].as_str()).collect();
        let expected: &[&str] = if environment == "production" { &["plain"] } else { &[] };
        assert_eq!(tenants, expected, "{environment}");
    }
}
