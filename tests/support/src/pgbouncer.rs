//! PgBouncer, a connection pooler for PostgreSQL.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    postgres::{PostgresServer, psql},
    process::{ServerProcess, Spec},
    programs::{ServerUser, folder_with, temporary_folder},
    tenant_db::{Superuser, TenantDb},
};

const PACKAGE: &str = "pgbouncer";

/// The page that operators read.
const PRODUCTION: &str = include_str!("../../../docs/production.md");

/// A PgBouncer in transaction mode on 127.0.0.1, before a [`PostgresServer`]. It has the settings
/// that `docs/production.md` names. Dropping it ends it.
pub struct PgBouncer {
    admin: Superuser,
    process: ServerProcess,
}

impl PgBouncer {
    /// Starts one before `server`, with the settings that the documentation names and then `more`,
    /// one in a line.
    ///
    /// # Errors
    /// PgBouncer is not installed, does not start within a minute, or the documentation names none.
    pub async fn start(server: &PostgresServer, more: &str) -> Result<Self> {
        let programs = folder_with(&["pgbouncer"], &[PathBuf::from("/usr/sbin")], PACKAGE)?;
        let folder = temporary_folder("pgbouncer")?;
        let path = folder.path().to_owned();
        let user = ServerUser::choose("postgres", &path)?;
        let (name, password) = (server.superuser(), server.password());
        let users = format!("\"{name}\" \"{password}\"\n");
        tokio::fs::write(path.join("users.txt"), users).await?;
        user.own(&path).await?;

        let documented = documented_settings()?;
        let admin = |port| Superuser {
            host: "127.0.0.1".to_owned(),
            port,
            user: name.to_owned(),
            password: password.to_owned(),
        };
        // The last of several settings of one name is valid.
        let configuration = |port: u16| {
            format!(
                "[databases]\n* = host={} port={}\n\
                 {documented}\n\
                 auth_user = {name}\nadmin_users = {name}\nauth_file = {}\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n{more}\n",
                server.host(),
                server.port(),
                path.join("users.txt").display(),
            )
        };
        let command = |port| {
            let file = path.join(format!("{port}.ini"));
            let written = std::fs::write(&file, configuration(port));
            let mut command = user.command(&programs.join("pgbouncer"));
            command.push(file.into_os_string());
            if let Err(error) = written {
                eprintln!("PgBouncer's configuration cannot be written: {error}");
            }
            (command, Vec::new())
        };
        let spec = Spec {
            name: "pgbouncer",
            env: Vec::new(),
            without_env: &["PG"],
            last_signal: "TERM",
            port: None,
        };
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, |port| {
            let admin = admin(port);
            async move { psql(&admin, None, "pgbouncer", "SHOW VERSION;").await.map(drop) }
        })
        .await?;
        Ok(Self {
            admin: admin(port),
            process,
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.admin.port
    }

    /// A tenant's secret that leads through it, in the form of the contract.
    pub fn secret(&self, tenant: &TenantDb) -> Value {
        json!({
            "type": "postgresql",
            "host": self.admin.host,
            "port": self.admin.port,
            "database": tenant.database,
            "username": tenant.user,
            "password": tenant.password,
            "pooler": "transaction",
        })
    }

    /// Runs a command of its console, such as `SHOW POOLS`, and returns the rows as
    /// [`PostgresServer::psql`] does.
    ///
    /// # Errors
    /// The command fails.
    pub async fn console(&self, command: &str) -> Result<String> {
        psql(&self.admin, None, "pgbouncer", &format!("{command};")).await
    }

    /// Stops it, which closes every connection on both sides at once, and starts it again on the
    /// same port. (Its command `KILL` would close one tenant's connections, but sometimes makes
    /// version 1.18 crash.)
    ///
    /// # Errors
    /// It does not end or does not start within a minute.
    pub async fn restart(&self) -> Result<()> {
        self.process.stop("TERM").await?;
        self.process
            .start(|| async { self.console("SHOW VERSION").await.map(drop) })
            .await
    }
}

/// The settings that `docs/production.md` shows: its block in the language `ini`.
fn documented_settings() -> Result<&'static str> {
    let block = PRODUCTION.split("```ini\n").nth(1);
    let block = block.and_then(|rest| rest.split("```").next());
    block.context("`docs/production.md` has no block with PgBouncer's settings")
}
