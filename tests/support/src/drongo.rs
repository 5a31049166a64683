//! drongo, which speaks the protocol of Google Cloud's Secret Manager.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    DRONGO_PROGRAM, http,
    process::{ServerProcess, Spec},
    programs::{folder_with, temporary_folder},
};

/// A drongo server on 127.0.0.1, empty when it starts. It takes any credentials and any project.
/// Dropping it ends it.
pub struct DrongoServer {
    process: ServerProcess,
    port: u16,
}

impl DrongoServer {
    /// Starts one: the program that [`DRONGO_PROGRAM`] names, or `drongo` from `PATH`.
    ///
    /// # Errors
    /// drongo is not installed, or does not start within a minute.
    pub async fn start() -> Result<Self> {
        let program = match std::env::var_os(DRONGO_PROGRAM) {
            Some(path) => PathBuf::from(path),
            None => folder_with(&["drongo"], &[], "drongo from PyPI")?.join("drongo"),
        };
        let command = |port: u16| {
            let arguments: [OsString; 3] = ["server".into(), "--port".into(), port.to_string().into()];
            (
                [OsString::from(&program)].into_iter().chain(arguments).collect(),
                Vec::new(),
            )
        };
        let spec = Spec {
            name: "drongo",
            env: Vec::new(),
            without_env: &["GOOGLE_"],
            last_signal: "KILL",
            port: None,
        };
        let (process, port) = ServerProcess::start_on_port(temporary_folder("drongo")?, spec, command, answers).await?;
        Ok(Self { process, port })
    }

    /// What `endpoint_url` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Calls its API, such as `POST` `projects/p/secrets?secretId=s`, and gives its answer.
    ///
    /// # Errors
    /// The call fails: with the service's own words.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let headers = [("Content-Type", "application/json")];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = http::request_as(method, self.port, &format!("/v1/{path}"), &headers, &body).await;
        let answer = answer.with_context(|| format!("`{method} {path}` failed"))?;
        serde_json::from_str(&answer).context("the answer is not JSON")
    }

    /// Sends it a signal: `STOP` makes it accept connections and never answer, `CONT` go on.
    ///
    /// # Errors
    /// It does not run.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name).await
    }

    /// Stops it. What it held is lost, and the port refuses.
    ///
    /// # Errors
    /// It does not run.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop("KILL").await.map(drop)
    }
}

async fn answers(port: u16) -> Result<()> {
    http::request(port, "/v1/projects/p/secrets", &[], None).await.map(drop)
}
