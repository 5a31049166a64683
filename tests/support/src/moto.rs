//! moto, which speaks the protocols of AWS Secrets Manager and AWS Systems Manager.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    MOTO_PROGRAM, http,
    process::{ServerProcess, Spec},
    programs::{folder_with, temporary_folder},
};

/// A moto server on 127.0.0.1, empty when it starts. It takes any credentials and any region.
/// Dropping it ends it.
pub struct MotoServer {
    process: ServerProcess,
    port: u16,
}

impl MotoServer {
    /// Starts one: the program that [`MOTO_PROGRAM`] names, or `moto_server` from `PATH`.
    ///
    /// # Errors
    /// moto is not installed, or does not start within a minute.
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
        let program = match std::env::var_os(MOTO_PROGRAM) {
            Some(path) => PathBuf::from(path),
            None => folder_with(&["moto_server"], &[], "moto[server] from PyPI")?.join("moto_server"),
        };
        let command = |port: u16| {
            let arguments: [OsString; 4] = [
                "--host".into(),
                "127.0.0.1".into(),
                "--port".into(),
                port.to_string().into(),
            ];
            (
                [OsString::from(&program)].into_iter().chain(arguments).collect(),
                Vec::new(),
            )
        };
        let spec = Spec {
            name: "moto_server",
            env: Vec::new(),
            without_env: &["MOTO_", "AWS_", "FLASK_"],
            last_signal: "KILL",
            port,
        };
        let (process, port) = ServerProcess::start_on_port(temporary_folder("moto")?, spec, command, answers).await?;
        Ok(Self { process, port })
    }

    /// What `AWS_ENDPOINT_URL` or `endpoint_url` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on. It stays the same over a stop and start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Calls an action of Secrets Manager, such as `CreateSecret` with
    /// `{"Name":"n","SecretString":"s"}`, and gives its answer. It does not use an AWS library, so
    /// that a test can also find the library's mistakes.
    ///
    /// # Errors
    /// The action fails: with the service's own words.
    pub async fn secrets_manager(&self, region: &str, action: &str, body: &Value) -> Result<Value> {
        self.call("secretsmanager", "secretsmanager", region, action, body)
            .await
    }

    /// Calls an action of Systems Manager, such as `PutParameter`, in the same way.
    ///
    /// # Errors
    /// As [`secrets_manager`](Self::secrets_manager).
    pub async fn systems_manager(&self, region: &str, action: &str, body: &Value) -> Result<Value> {
        self.call("ssm", "AmazonSSM", region, action, body).await
    }

    async fn call(&self, service: &str, target: &str, region: &str, action: &str, body: &Value) -> Result<Value> {
        let target = format!("{target}.{action}");
        // moto takes the region from here and checks no signature.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", target.as_str()),
            ("Authorization", authorization.as_str()),
        ];
        let answer = http::request(self.port, "/", &headers, Some(&body.to_string()))
            .await
            .with_context(|| format!("`{action}` failed"))?;
        serde_json::from_str(&answer).context("the answer is not JSON")
    }

    /// Stops it. What it held is lost, and the port refuses.
    ///
    /// # Errors
    /// It does not run.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop("KILL").await.map(drop)
    }

    /// Starts it, empty, on the same port after a [`stop`](Self::stop).
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
}

async fn answers(port: u16) -> Result<()> {
    http::request(port, "/moto-api/data.json", &[], None).await.map(drop)
}
