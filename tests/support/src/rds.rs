//! A PostgreSQL server that logs in by tokens, as Amazon RDS does.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    MOTO_PROGRAM, PostgresServer, TenantDb,
    certificates::Certificates,
    process::{ServerProcess, Spec},
    programs::{folder_with, temporary_folder},
};

const VERIFIER: &str = include_str!("rds_verifier.py");

/// Stands before a PostgreSQL server. It takes TLS only, and verifies tokens with botocore, which is AWS's
/// own library in another language. Dropping it ends it.
pub struct RdsServer {
    process: ServerProcess,
    port: u16,
    certificates: Certificates,
}

impl RdsServer {
    /// Lets the user of a tenant of `postgres` log in by tokens that are signed with this key and no older
    /// than `lifetime` seconds.
    ///
    /// # Errors
    /// botocore is not installed beside moto, or it does not start.
    pub async fn start(
        postgres: &PostgresServer,
        tenant: &TenantDb,
        (access_key, secret_key): (&str, &str),
        region: &str,
        lifetime: u32,
    ) -> Result<Self> {
        // This server asks the members of that role for passwords in clear text.
        let sql = format!(
            "DO $$ BEGIN CREATE ROLE login_password; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             GRANT login_password TO \"{}\"",
            tenant.user
        );
        postgres.psql("postgres", &sql).await?;
        let tools = match std::env::var_os(MOTO_PROGRAM) {
            Some(path) => PathBuf::from(path).parent().map(PathBuf::from).unwrap_or_default(),
            None => folder_with(&["moto_server", "python"], &[], "moto[server] from PyPI")?,
        };
        let folder = temporary_folder("rds")?;
        let path = folder.path().to_owned();
        let certificates = Certificates::make()?;
        for (name, text) in [
            ("verifier.py", VERIFIER),
            ("cert.pem", &certificates.server_cert_pem),
            ("key.pem", &certificates.server_key_pem),
        ] {
            std::fs::write(path.join(name), text).context("can't write a file")?;
        }
        let command = |port: u16| {
            let settings = json!({
                "port": port, "upstream_port": postgres.port(), "upstream_password": tenant.password,
                "cert": path.join("cert.pem"), "key": path.join("key.pem"),
                "access_key": access_key, "secret_key": secret_key, "region": region, "lifetime": lifetime,
            });
            let program: OsString = tools.join("python").into();
            let arguments = vec![program, path.join("verifier.py").into(), settings.to_string().into()];
            (arguments, Vec::new())
        };
        let spec = Spec {
            name: "rds_verifier",
            env: Vec::new(),
            without_env: &["AWS_", "PYTHON"],
            last_signal: "KILL",
        };
        let ready = |port: u16| async move {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(drop).context("can't connect")
        };
        let (process, port) = ServerProcess::start_on_free_port(folder, spec, command, ready).await?;
        Ok(Self {
            process,
            port,
            certificates,
        })
    }

    /// The port on `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The times of the tokens that were taken, and why others were refused.
    ///
    /// # Errors
    /// Its log can't be read.
    pub async fn logins(&self) -> Result<(Vec<String>, Vec<String>)> {
        let log = self.process.log().await?;
        let with = |word: &str| {
            let lines = log.lines().filter_map(|line| line.strip_prefix(word));
            lines.map(|line| line.trim().to_owned()).collect()
        };
        Ok((with("ok "), with("refused ")))
    }
}
