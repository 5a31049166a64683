//! `"auth": "rds-iam"`: tokens in place of a password, verified by AWS's own library.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::NaiveDateTime;
use serde_json::{Value, json};
use tenantry_test_support::{
    CANARY, Clock, MariadbServer, PostgresServer, RdsRules, RdsServer, TenantDb, TenantryProcess,
};
use tokio::time::{Instant, sleep};

const REGION: &str = "eu-central-1";
/// A token is good for a minute less.
const MOVED_ON: Duration = Duration::from_secs(16 * 60);
const USERS: &str = "/api/v1/tenant/users";

/// The secret key of AWS that tokens are signed with.
fn secret_key() -> String {
    format!("{CANARY}-key")
}

fn secret(kind: &str, rds: &RdsServer, tenant: &TenantDb) -> Value {
    json!({
        "type": kind, "host": "localhost", "port": rds.port(), "database": tenant.database,
        "username": tenant.user, "auth": "rds-iam", "region": REGION,
        "tls": {"mode": "verify-full", "ca": rds.certificates().ca_pem},
    })
}

async fn start(tenants: Value, secret_key: &str, clock: &Clock) -> Result<TenantryProcess> {
    let config = json!({
        "tenancy": {
            "provider": {"type": "static", "tenants": tenants},
            "secrets": {"ttl": "1s"},
            "pools": {"connect_timeout": "30s", "acquire_timeout": "10s"},
        },
        "migrations": {"on_connect": true},
        "server": {"request_timeout": "60s"},
        "logging": {"level": "trace", "format": "json"},
    });
    let mut program = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", secret_key)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for (name, value) in clock.environment() {
        program = program.env(name, value);
    }
    program.start().await
}

/// A running program and its client.
struct Running {
    server: TenantryProcess,
    client: reqwest::Client,
}

impl Running {
    async fn get(&self, tenant: &str, path: &str) -> Result<(u16, Value)> {
        let request = self.client.get(format!("{}{path}", self.server.base_url()));
        let answer = request.header("X-Tenant-ID", tenant).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    async fn is_served(&self, tenant: &str) -> Result<()> {
        let (status, body) = self.get(tenant, USERS).await?;
        assert_eq!(status, 200, "{body}");
        Ok(())
    }

    async fn close_pool(&self, tenant: &str) -> Result<()> {
        let url = format!("{}/admin/tenants/{tenant}/pool", self.server.base_url());
        let closed = self.client.delete(url).send().await?;
        assert_eq!(closed.status(), 204);
        Ok(())
    }

    /// Ends it, and looks for what is secret in all that it wrote, and in `more`.
    async fn finish(self, more: &[String]) -> Result<()> {
        let metrics = self.client.get(format!("{}/metrics", self.server.base_url()));
        let metrics = metrics.send().await?.text().await?;
        self.server.terminate().await?;
        self.server.wait().await?;
        let logs = self.server.logs().await?;
        for written in [&logs, &metrics].into_iter().chain(more) {
            for secret in [CANARY, "X-Amz-Signature", "X-Amz-Credential"] {
                assert!(!written.contains(secret), "`{secret}` is in it");
            }
        }
        Ok(())
    }
}

/// When a token was made.
fn time_of(token: &str) -> Result<NaiveDateTime> {
    NaiveDateTime::parse_from_str(token, "%Y%m%dT%H%M%SZ").context("no time of a token")
}

/// Each login takes a token of its own, sessions outlive theirs, and nothing secret is shown.
async fn logs_in_by_tokens(kind: &str, rds: RdsServer, tenant: TenantDb, (own, its): (&Clock, &Clock)) -> Result<()> {
    let tenants = json!({"t1": secret(kind, &rds, &tenant)});
    let running = Running {
        server: start(tenants, &secret_key(), own).await?,
        client: reqwest::Client::new(),
    };
    running.is_served("t1").await?;
    // Each migration's session was one login.
    let (first, refused) = rds.logins().await?;
    assert!(!first.is_empty() && refused.is_empty(), "{first:?} {refused:?}");

    // Every token is past its time, and the secret is read anew: the sessions live on.
    own.set(MOVED_ON)?;
    its.set(MOVED_ON)?;
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        running.is_served("t1").await?;
    }
    assert_eq!(rds.logins().await?.0.len(), first.len());
    let (_, health) = running.get("t1", "/health/tenant/t1").await?;
    assert_eq!(health["tls"], "verified", "{health}");

    // Another login takes a new token.
    running.close_pool("t1").await?;
    running.is_served("t1").await?;
    let (taken, refused) = rds.logins().await?;
    assert!(refused.is_empty(), "{refused:?}");
    let [.., before, last] = taken.as_slice() else {
        panic!("one login: {taken:?}");
    };
    assert!(
        time_of(last)? - time_of(&first[0])? >= chrono::Duration::from_std(MOVED_ON)?,
        "{taken:?}"
    );
    assert!(first.contains(before), "{taken:?}");

    // The server takes no token that is older: with its clock alone moved on, it refuses those of now.
    its.set(2 * MOVED_ON)?;
    running.close_pool("t1").await?;
    let (status, body) = running.get("t1", USERS).await?;
    assert_eq!(status, 503, "{body}");
    let (_, refused) = rds.logins().await?;
    let is_too_old = |reason: &String| reason.starts_with("it is 9") && reason.ends_with(" s old");
    assert!(!refused.is_empty() && refused.iter().all(is_too_old), "{refused:?}");
    let (_, unhealthy) = running.get("t1", "/health/tenant/t1").await?;
    own.set(2 * MOVED_ON)?;
    let began = Instant::now();
    while running.get("t1", USERS).await?.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not served again");
        sleep(Duration::from_millis(200)).await;
    }
    running
        .finish(&[body.to_string(), health.to_string(), unhealthy.to_string()])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_logs_in_by_tokens_of_fifteen_minutes() -> Result<()> {
    let (own, its) = (Clock::new()?, Clock::new()?);
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("token").await?;
    let rules = RdsRules {
        key: ("AKIDTEST", &secret_key()),
        region: REGION,
        clock: &its,
    };
    let rds = RdsServer::before_postgres(postgres, &tenant, &rules).await?;
    logs_in_by_tokens("postgresql", rds, tenant, (&own, &its)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_logs_in_by_tokens_of_fifteen_minutes() -> Result<()> {
    let (own, its) = (Clock::new()?, Clock::new()?);
    let mariadb = MariadbServer::shared().await;
    let tenant = mariadb.create_tenant("token").await?;
    let rules = RdsRules {
        key: ("AKIDTEST", &secret_key()),
        region: REGION,
        clock: &its,
    };
    let rds = RdsServer::before_mariadb(mariadb, &tenant, &rules).await?;
    logs_in_by_tokens("mysql", rds, tenant, (&own, &its)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_needs_tls_and_stands_in_place_of_a_password() -> Result<()> {
    let server = json!({
        "host": "localhost", "port": 1, "database": "d", "username": "u", "auth": "rds-iam", "region": REGION,
    });
    let mut tenants = json!({});
    let mut cases = Vec::new();
    for kind in ["postgresql", "mysql"] {
        for (name, more, field) in [
            ("plain", json!({"tls": {"mode": "disable"}}), "tls.mode"),
            ("both", json!({"password": format!("{CANARY}-password")}), "password"),
        ] {
            let tenant = format!("{kind}-{name}");
            let mut secret = server.clone();
            secret["type"] = json!(kind);
            for (key, value) in more.as_object().into_iter().flatten() {
                secret[key] = value.clone();
            }
            tenants[&tenant] = secret;
            cases.push((tenant, field));
        }
    }
    let running = Running {
        server: start(tenants, &secret_key(), &Clock::new()?).await?,
        client: reqwest::Client::new(),
    };
    let mut shown = Vec::new();
    for (tenant, field) in cases {
        let (status, body) = running.get(&tenant, USERS).await?;
        assert_eq!((status, &body["code"]), (503, &json!("secret_invalid")), "{body}");
        let (_, health) = running.get(&tenant, &format!("/health/tenant/{tenant}")).await?;
        let error = health["error"].as_str().unwrap_or_default();
        assert!(error.contains(field), "{tenant}: {health}");
        shown.extend([body.to_string(), health.to_string()]);
    }
    running.finish(&shown).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_key_is_refused_and_not_repeated() -> Result<()> {
    let clock = Clock::new()?;
    let (postgres, mariadb) = (PostgresServer::shared().await, MariadbServer::shared().await);
    let rules = RdsRules {
        key: ("AKIDTEST", "right"),
        region: REGION,
        clock: &clock,
    };
    let (one, other) = (
        postgres.create_tenant("wrongkey").await?,
        mariadb.create_tenant("wrongkey").await?,
    );
    let servers = [
        (
            "postgresql",
            RdsServer::before_postgres(postgres, &one, &rules).await?,
            one,
        ),
        (
            "mysql",
            RdsServer::before_mariadb(mariadb, &other, &rules).await?,
            other,
        ),
    ];
    let mut tenants = json!({});
    for (kind, rds, tenant) in &servers {
        tenants[*kind] = secret(kind, rds, tenant);
    }
    let running = Running {
        server: start(tenants, &format!("{CANARY}-wrong"), &clock).await?,
        client: reqwest::Client::new(),
    };
    let mut shown = Vec::new();
    for (kind, rds, _) in &servers {
        let (status, body) = running.get(kind, USERS).await?;
        assert_eq!(status, 503, "{kind}: {body}");
        let (taken, refused) = rds.logins().await?;
        assert!(taken.is_empty() && !refused.is_empty(), "{kind}: {taken:?} {refused:?}");
        shown.push(body.to_string());
    }
    running.finish(&shown).await
}
