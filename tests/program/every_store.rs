//! The same tenants through every provider: nothing but `tenancy.provider` changes.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tenantry_test_support::{DrongoServer, MotoServer, OpenBaoServer, PostgresServer, TenantryProcess};

const REGION: &str = "eu-central-1";

/// What clients and operators see of the tenants.
async fn seen(provider: Value, files: &[(&str, String)], env: &[(&str, String)]) -> Result<Value> {
    let config = json!({
        "app": {"environment": "test"},
        "server": {"request_timeout": "60s"},
        "tenancy": {
            "provider": provider,
            "pools": {"connect_timeout": "30s", "acquire_timeout": "30s"},
        },
        "migrations": {"on_connect": true, "sample_data": true},
    });
    let mut builder = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for (name, text) in files {
        builder = builder.file(*name, text.clone());
    }
    for (name, value) in env {
        builder = builder.env(*name, value);
    }
    let server = builder.start().await?;
    let client = reqwest::Client::new();
    let mut seen = Vec::new();
    for tenant in ["t1", "t2", "t3"] {
        let request = client.get(format!("{}/api/v1/tenant/users", server.base_url()));
        let answer = request.header("X-Tenant-ID", tenant).send().await?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await?;
        let names: Vec<&Value> = body["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|user| &user["email"])
            .collect();
        seen.push(json!({"tenant": tenant, "status": status, "code": body["code"], "users": names}));
    }
    let health: Value = client
        .get(format!("{}/health/tenants", server.base_url()))
        .send()
        .await?
        .json()
        .await?;
    let ids = health["tenants"].as_array().context("no tenants")?;
    let ids: Vec<&Value> = ids.iter().map(|tenant| &tenant["id"]).collect();
    seen.push(json!({"listed": ids}));
    server.terminate().await?;
    server.wait().await?;
    Ok(Value::Array(seen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_the_provider_changes_nothing_else() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let mut secrets = Vec::new();
    for name in ["t1", "t2"] {
        let tenant = postgres.create_tenant(name).await?;
        secrets.push((name, postgres.secret(&tenant)));
    }
    let both: Value = secrets
        .iter()
        .map(|(name, secret)| ((*name).to_owned(), secret.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let expected = seen(json!({"type": "static", "tenants": both}), &[], &[]).await?;
    let statuses: Vec<&Value> = expected
        .as_array()
        .into_iter()
        .flatten()
        .map(|seen| &seen["status"])
        .collect();
    assert_eq!(statuses[..3], [&json!(200), &json!(200), &json!(404)], "{expected}");

    let (moto, bao, drongo) = tokio::try_join!(MotoServer::start(), OpenBaoServer::start(), DrongoServer::start())?;
    for (name, secret) in &secrets {
        let text = secret.to_string();
        let path = format!("/tenantry/test/{name}/database");
        let body = json!({"Name": path, "SecretString": text});
        moto.secrets_manager(REGION, "CreateSecret", &body).await?;
        let body = json!({"Name": path, "Type": "SecureString", "Value": text});
        moto.systems_manager(REGION, "PutParameter", &body).await?;
        bao.put_secret(&format!("tenantry/{name}"), secret).await?;
        let replication = json!({"replication": {"automatic": {}}});
        let name = format!("tenantry-test-{name}-database");
        drongo
            .call("POST", &format!("projects/p/secrets?secretId={name}"), &replication)
            .await?;
        let payload = json!({"payload": {"data": STANDARD.encode(&text)}});
        drongo
            .call("POST", &format!("projects/p/secrets/{name}:addVersion"), &payload)
            .await?;
    }
    let file = [("tenants.json", both.to_string())];
    let folder: Vec<(String, String)> = secrets
        .iter()
        .map(|(name, secret)| (format!("secrets/{name}.json"), secret.to_string()))
        .collect();
    let folder: Vec<(&str, String)> = folder
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let env: Vec<(String, String)> = secrets
        .iter()
        .map(|(name, secret)| (format!("TENANT_{}_DATABASE", name.to_uppercase()), secret.to_string()))
        .collect();
    let env: Vec<(&str, String)> = env.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let endpoint = moto.endpoint_url();
    let vault = json!({
        "type": "vault", "address": bao.address(), "auth": {"method": "token", "token": bao.root_token()},
        "kv": {"path": "tenantry/{tenant}"},
    });
    let gcp = json!({"type": "gcp-secret-manager", "project": "p", "endpoint_url": drongo.endpoint_url()});
    let cases = [
        (json!({"type": "file", "path": "tenants.json"}), &file[..], &[][..]),
        (json!({"type": "directory", "path": "secrets"}), &folder, &[]),
        (json!({"type": "env"}), &[], &env),
        (
            json!({"type": "aws-secrets-manager", "region": REGION, "endpoint_url": endpoint}),
            &[],
            &[],
        ),
        (
            json!({"type": "aws-ssm", "region": REGION, "endpoint_url": endpoint}),
            &[],
            &[],
        ),
        (vault, &[], &[]),
        (gcp, &[], &[]),
    ];
    for (provider, files, env) in cases {
        let name = provider["type"].clone();
        assert_eq!(seen(provider, files, env).await?, expected, "{name}");
    }
    Ok(())
}
