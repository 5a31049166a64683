//! A PostgreSQL or MariaDB server that logs in by tokens, as Amazon RDS does.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    Clock, MOTO_PROGRAM, MariadbServer, PostgresServer, TenantDb,
    certificates::Certificates,
    process::{ServerProcess, Spec},
    programs::{folder_with, temporary_folder},
};

const VERIFIER: &str = include_str!("rds_verifier.py");

/// Stands before a database server. It takes TLS only, and verifies tokens with botocore, which is AWS's own
/// library in another language: a token is good for 15 minutes. Dropping it ends it.
pub struct RdsServer {
    process: ServerProcess,
    port: u16,
    certificates: Certificates,
}

/// Which tokens it takes, and by which clock.
pub struct RdsRules<'a> {
    /// The access key and the secret key that tokens are signed with.
    pub key: (&'a str, &'a str),
    /// The region that they are signed for.
    pub region: &'a str,
    /// The clock by which a token has its age.
    pub clock: &'a Clock,
}

impl RdsServer {
    /// Lets the user of a tenant of `postgres` log in by tokens.
    ///
    /// # Errors
    /// botocore is not installed beside moto, or it does not start.
    pub async fn before_postgres(postgres: &PostgresServer, tenant: &TenantDb, rules: &RdsRules<'_>) -> Result<Self> {
        // This server asks the members of that role for passwords in clear text.
        let sql = format!(
            "DO $$ BEGIN CREATE ROLE login_password; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             GRANT login_password TO \"{}\"",
            tenant.user
        );
        postgres.psql("postgres", &sql).await?;
        Self::start("postgresql", postgres.port(), tenant, rules).await
    }

    /// Lets the user of a tenant of `mariadb` log in by tokens.
    ///
    /// # Errors
    /// As [`before_postgres`](Self::before_postgres).
    pub async fn before_mariadb(mariadb: &MariadbServer, tenant: &TenantDb, rules: &RdsRules<'_>) -> Result<Self> {
        Self::start("mysql", mariadb.port(), tenant, rules).await
    }

    async fn start(protocol: &str, upstream_port: u16, tenant: &TenantDb, rules: &RdsRules<'_>) -> Result<Self> {
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
                "protocol": protocol, "port": port,
                "upstream_port": upstream_port, "upstream_password": tenant.password,
                "cert": path.join("cert.pem"), "key": path.join("key.pem"),
                "access_key": rules.key.0, "secret_key": rules.key.1, "region": rules.region,
            });
            let program: OsString = tools.join("python").into();
            let arguments = vec![program, path.join("verifier.py").into(), settings.to_string().into()];
            (arguments, Vec::new())
        };
        let spec = Spec {
            name: "rds_verifier",
            env: rules.clock.environment(),
            without_env: &["AWS_", "PYTHON"],
            last_signal: "KILL",
            port: None,
        };
        let ready = |port: u16| async move {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            connected.map(drop).context("can't connect")
        };
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, ready).await?;
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
