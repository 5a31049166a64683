//! Each store of secrets that others keep: rotation, outage and cost under load, and nothing secret in the log.

use std::time::Duration;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tenantry_test_support::{CANARY, DrongoServer, MotoServer, OpenBaoServer, PostgresServer};
use tokio::time::sleep;

use crate::{
    PROGRAM,
    proxy::Proxy,
    world::{REGION, Settings, World, names, until},
};

enum Store {
    Ssm(MotoServer),
    Vault(OpenBaoServer),
    Gcp(DrongoServer),
}

impl Store {
    fn port(&self) -> u16 {
        match self {
            Self::Ssm(server) => server.port(),
            Self::Vault(server) => server.port(),
            Self::Gcp(server) => server.port(),
        }
    }

    /// The provider, by way of a port.
    fn provider(&self, port: u16) -> Value {
        let url = format!("http://127.0.0.1:{port}");
        match self {
            Self::Ssm(_) => json!({"type": "aws-ssm", "region": REGION, "endpoint_url": url}),
            Self::Vault(server) => json!({
                "type": "vault", "address": url, "auth": {"method": "token", "token": server.root_token()},
                "kv": {"path": "tenantry/{environment}/{tenant}"},
            }),
            Self::Gcp(_) => json!({"type": "gcp-secret-manager", "project": "p", "endpoint_url": url}),
        }
    }

    /// What is in each request for a secret.
    fn fetch(&self) -> &'static str {
        match self {
            Self::Ssm(_) => "AmazonSSM.GetParameter",
            Self::Vault(_) => "/v1/secret/data/",
            Self::Gcp(_) => "versions/latest:access",
        }
    }

    async fn put(&self, tenant: &str, secret: &Value) -> Result<()> {
        match self {
            Self::Ssm(server) => {
                let name = format!("/tenantry/test/{tenant}/database");
                let body =
                    json!({"Name": name, "Type": "SecureString", "Value": secret.to_string(), "Overwrite": true});
                server.systems_manager(REGION, "PutParameter", &body).await.map(drop)
            }
            Self::Vault(server) => server.put_secret(&format!("tenantry/test/{tenant}"), secret).await,
            Self::Gcp(server) => {
                let name = format!("tenantry-test-{tenant}-database");
                let replication = json!({"replication": {"automatic": {}}});
                // It may be there already.
                drop(
                    server
                        .call("POST", &format!("projects/p/secrets?secretId={name}"), &replication)
                        .await,
                );
                let payload = json!({"payload": {"data": STANDARD.encode(secret.to_string())}});
                let path = format!("projects/p/secrets/{name}:addVersion");
                server.call("POST", &path, &payload).await.map(drop)
            }
        }
    }

    async fn signal(&self, name: &str) -> Result<()> {
        match self {
            Self::Ssm(server) => server.signal(name).await,
            Self::Vault(server) => server.signal(name).await,
            Self::Gcp(server) => server.signal(name).await,
        }
    }
}

/// One run of everything, under load.
async fn holds(store: Store) -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let mut tenant = postgres.create_tenant("store").await?;
    let known = names(10);
    for name in &known {
        store.put(name, &postgres.secret(&tenant)).await?;
    }
    let door = Proxy::start(store.port(), &[store.fetch()]).await?;
    let settings = Settings {
        provider: store.provider(door.port()),
        secrets: json!({"ttl": "10s", "jitter": 0.0}),
        pools: json!({"connect_timeout": "30s", "acquire_timeout": "30s"}),
        request_timeout: "60s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, "", settings).await?;

    // Cost: one fetch for each tenant, and a few for many names that are none.
    for name in &known {
        let answer = world.client.get(name, "/api/v1/tenant/users").await;
        assert!(answer.is_success(), "{answer:?}");
    }
    for _ in 0..100 {
        let answer = world.client.get("nobody", "/api/v1/tenant/users").await;
        assert_eq!(answer.code, "tenant_unknown", "{answer:?}");
    }
    let fetches = door.count(store.fetch());
    assert!(
        (known.len() + 1..=3 * known.len()).contains(&fetches),
        "{fetches} fetches"
    );

    // Rotation: the password changes, and every tenant has the new one within its time to live.
    let load = world.writing_load(16, &known);
    load.go_on_for(200, Duration::from_secs(60)).await?;
    tenant.password = format!("{CANARY}-rotated");
    let sql = format!("ALTER ROLE \"{}\" PASSWORD '{}'", tenant.user, tenant.password);
    postgres.psql("postgres", &sql).await?;
    for name in &known {
        store.put(name, &postgres.secret(&tenant)).await?;
    }
    until("every new secret is used", Duration::from_secs(60), || async {
        Ok(world.counter("/pools/rotations").await? >= known.len() as u64)
    })
    .await?;

    // Outage: it hangs, and what is kept serves.
    store.signal("STOP").await?;
    sleep(Duration::from_secs(12)).await;
    let other = world.client.get("never-seen", "/api/v1/tenant/users").await;
    assert_eq!((other.status, other.code.as_str()), (503, "provider_unavailable"));
    store.signal("CONT").await?;
    load.go_on_for(200, Duration::from_secs(60)).await?;
    let tally = load.stop().await?;
    assert!(
        tally.failures.is_empty(),
        "of {}: {:?}",
        tally.samples.len(),
        tally.failures
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_ssm_holds() -> Result<()> {
    let moto = MotoServer::start().await?;
    holds(Store::Ssm(moto)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_holds() -> Result<()> {
    holds(Store::Vault(OpenBaoServer::start().await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcp_secret_manager_holds() -> Result<()> {
    holds(Store::Gcp(DrongoServer::start().await?)).await
}
