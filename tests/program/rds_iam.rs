//! `"auth": "rds-iam"`: tokens in place of a password, verified by AWS's own library.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tenantry_test_support::{CANARY, PostgresServer, RdsServer, TenantryProcess};
use tokio::time::sleep;

const REGION: &str = "eu-central-1";
/// Every token is refused that is older, as if the clock had moved on by 15 minutes.
const LIFETIME: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_login_takes_a_token_of_its_own_and_sessions_live_on() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("token").await?;
    let secret_key = format!("{CANARY}-key");
    let rds = RdsServer::start(postgres, &tenant, ("AKIDTEST", &secret_key), REGION, LIFETIME).await?;
    let secret = json!({
        "type": "postgresql", "host": "localhost", "port": rds.port(), "database": tenant.database,
        "username": tenant.user, "auth": "rds-iam", "region": REGION,
        "tls": {"mode": "verify-full", "ca": rds.certificates().ca_pem},
    });
    let mut in_clear = secret.clone();
    in_clear["tls"] = json!({"mode": "disable"});
    let mut with_password = secret.clone();
    with_password["password"] = json!(format!("{CANARY}-password"));
    let config = json!({
        "tenancy": {
            "provider": {"type": "static", "tenants": {"t1": secret, "plain": in_clear, "both": with_password}},
            "secrets": {"ttl": "1s"},
            "pools": {"connect_timeout": "30s", "acquire_timeout": "30s"},
        },
        "migrations": {"on_connect": true},
        "server": {"request_timeout": "60s"},
        "logging": {"level": "trace", "format": "json"},
    });
    let server = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", &secret_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .start()
        .await?;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", server.base_url());
    let info = async |tenant: &str| {
        let request = client.get(url("/api/v1/tenant/users")).header("X-Tenant-ID", tenant);
        let answer = request.send().await?;
        Ok::<_, anyhow::Error>((answer.status().as_u16(), answer.json::<Value>().await?))
    };

    let (status, body) = info("t1").await?;
    assert_eq!(status, 200, "{body}");
    // Each migration's session was one login. The secret is read anew, and its tokens are past their time:
    // the sessions live on.
    let before = rds.logins().await?.0.len();
    for _ in 0..LIFETIME + 2 {
        sleep(Duration::from_secs(1)).await;
        let (status, body) = info("t1").await?;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(rds.logins().await?.0.len(), before);
    let health: Value = client.get(url("/health/tenant/t1")).send().await?.json().await?;
    assert_eq!(health["tls"], "verified", "{health}");

    // Another login takes another token.
    let closed = client.delete(url("/admin/tenants/t1/pool")).send().await?;
    assert_eq!(closed.status(), 204);
    let (status, body) = info("t1").await?;
    assert_eq!(status, 200, "{body}");
    let (taken, refused) = rds.logins().await?;
    assert!(taken.len() >= 2 && taken[0] != taken[taken.len() - 1], "{taken:?}");
    assert!(refused.is_empty(), "{refused:?}");

    for (tenant, field) in [("plain", "tls.mode"), ("both", "password")] {
        let (status, body) = info(tenant).await?;
        assert_eq!((status, &body["code"]), (503, &json!("secret_invalid")), "{body}");
        let health: Value = client
            .get(url(&format!("/health/tenant/{tenant}")))
            .send()
            .await?
            .json()
            .await?;
        assert!(
            health["error"].as_str().is_some_and(|error| error.contains(field)),
            "{health}"
        );
    }
    let metrics = client.get(url("/metrics")).send().await?.text().await?;
    server.terminate().await?;
    server.wait().await?;
    for told in [server.logs().await?, metrics, health.to_string()] {
        for secret in [CANARY, "X-Amz-Signature", "X-Amz-Credential"] {
            assert!(!told.contains(secret), "`{secret}` is told");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_key_is_refused_and_not_repeated() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("wrongkey").await?;
    let rds = RdsServer::start(postgres, &tenant, ("AKIDTEST", "right"), REGION, 900).await?;
    let secret = json!({
        "type": "postgresql", "host": "localhost", "port": rds.port(), "database": tenant.database,
        "username": tenant.user, "auth": "rds-iam", "region": REGION,
    });
    let config = json!({
        "tenancy": {"provider": {"type": "static", "tenants": {"t1": secret}}},
        "logging": {"level": "trace", "format": "json"},
    });
    let server = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", format!("{CANARY}-wrong"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .start()
        .await?;
    let request = reqwest::Client::new().get(format!("{}/api/v1/tenant/info", server.base_url()));
    let answer = request.header("X-Tenant-ID", "t1").send().await?;
    assert_eq!(answer.status(), 503);
    let body = answer.text().await?;
    let (taken, refused) = rds.logins().await?;
    assert!(taken.is_empty() && !refused.is_empty(), "{taken:?} {refused:?}");
    server.terminate().await?;
    server.wait().await?;
    for told in [server.logs().await?, body] {
        assert!(!told.contains(CANARY) && !told.contains("X-Amz-Signature"), "{told}");
    }
    Ok(())
}
