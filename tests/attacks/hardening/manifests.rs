//! What a stranger gets from the manifests as they are shipped.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use tenantry_test_support::{TenantryBuilder, TenantryProcess};

use super::{ACME, INFO, ask};

const CONFIG: &str = include_str!("../../../deploy/kubernetes/base/config.yaml");
const KEY: &str = "a secret of more than thirty-two bytes";

/// The program with the pods' configuration, and tenants from the environment.
fn pod(config: String) -> TenantryBuilder {
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config)
        .env("TENANTRY_ADMIN_TOKEN", "an-operator-token-of-the-tests")
        .env("TENANTRY__TENANCY__PROVIDER__TYPE", "env")
        .env("TENANTRY__DRIVERS__SQLITE__ENABLED", "true")
        .env("TENANTRY__MIGRATIONS__ON_CONNECT", "true")
        .env("TENANT_ACME_DATABASE", r#"{"type": "sqlite", "path": "acme.db"}"#)
        .env("TENANT_ZETA_DATABASE", r#"{"type": "sqlite", "path": "zeta.db"}"#)
        .admin_listener()
}

fn token(tenant: &str, audience: &str) -> String {
    let expires = get_current_timestamp() + 600;
    let claims = json!({"tenant": tenant, "iss": "https://id.example.com", "aud": audience, "exp": expires});
    let token = encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(KEY.as_bytes()),
    )
    .unwrap();
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn the_pods_demand_a_token_and_serve_no_documentation() {
    let server = pod(CONFIG.to_owned()).start().await.unwrap();
    let answer = ask(&server, INFO, &[ACME]).await;
    answer.is_refused(401, "unauthenticated");
    assert!(answer.header("www-authenticate")[0].starts_with("Bearer"), "{answer:?}");
    for path in [
        "/",
        "/docs",
        "/docs/redoc",
        "/docs/scalar",
        "/openapi.json",
        "/openapi.yaml",
        "/metrics",
        "/health/tenants",
    ] {
        ask(&server, &format!("GET {path}"), &[ACME])
            .await
            .is_refused(404, "not_found");
    }
    assert!(!server.logs().await.unwrap().contains("demands no proof"));
}

#[tokio::test]
async fn the_pods_serve_the_tenant_that_header_and_token_name() {
    let keys = "jwks_url: https://id.example.com/.well-known/jwks.json";
    assert!(CONFIG.contains(keys));
    let server = pod(CONFIG.replace(keys, &format!("secret: {KEY}")))
        .start()
        .await
        .unwrap();
    let both = ask(&server, INFO, &[ACME, &token("acme", "tenantry")]).await;
    assert!(both.body.contains("\"id\":\"acme\""), "{both:?}");
    let other = ask(&server, INFO, &[ACME, &token("zeta", "tenantry")]).await;
    other.is_refused(403, "tenant_mismatch");
    let elsewhere = ask(&server, INFO, &[ACME, &token("acme", "another-service")]).await;
    elsewhere.is_refused(401, "unauthenticated");
    ask(&server, INFO, &[&token("acme", "tenantry")])
        .await
        .is_refused(400, "tenant_missing");
}
