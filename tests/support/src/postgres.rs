//! PostgreSQL.

use std::{
    ffi::{OsStr, OsString},
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{fs, sync::OnceCell};

use crate::{
    POSTGRES_URL,
    certificates::Certificates,
    process::{ServerProcess, Spec},
    programs::{ServerUser, folder_with, run, temporary_folder},
    tenant_db::{Superuser, TenantDb, password},
};

const PACKAGE: &str = "postgresql";

/// How long one `psql` may take.
const PSQL_LIMIT: Duration = Duration::from_secs(120);

/// A PostgreSQL server on 127.0.0.1 that asks for passwords by SCRAM-SHA-256 and takes 600
/// connections. Its time zone is `Asia/Kolkata`. Of the members of `login_md5` and
/// `login_password`, roles that a test may make, it asks for passwords by MD5 and in clear text.
/// Dropping it ends it.
pub struct PostgresServer {
    superuser: Superuser,
    process: Option<ServerProcess>,
    certificates: Option<Certificates>,
}

impl PostgresServer {
    /// Starts one of its own, for tests that stop it, fill it or change its settings.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_one(None, None).await
    }

    /// Starts one of its own on a port of 127.0.0.1 that its caller chose.
    ///
    /// # Errors
    /// As [`start`](Self::start), or the port is taken.
    pub async fn start_on(port: u16) -> Result<Self> {
        Self::start_one(None, Some(port)).await
    }

    /// Starts one that takes TLS connections only; [`certificates`](Self::certificates) has what
    /// its clients need. A member of its role `require_client_cert` must also show the client's
    /// certificate.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_tls() -> Result<Self> {
        let server = Self::start_one(Some(Certificates::make()?), None).await?;
        server.psql("postgres", "CREATE ROLE require_client_cert").await?;
        Ok(server)
    }

    /// The server of this test process, or of all test processes if [`POSTGRES_URL`] is set. Each
    /// test creates its own tenants in it.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
        let server = SHARED.get_or_try_init(|| async {
            match std::env::var(POSTGRES_URL) {
                Ok(url) => Ok(Self {
                    superuser: Superuser::from_url(POSTGRES_URL, &url)?,
                    process: None,
                    certificates: None,
                }),
                Err(_) => Self::start().await,
            }
        });
        match server.await {
            Ok(server) => server,
            Err(error) => panic!("no PostgreSQL: {error:#}"),
        }
    }

    async fn start_one(certificates: Option<Certificates>, port: Option<u16>) -> Result<Self> {
        let programs = folder_with(&["initdb", "postgres"], &debian_folders().await, PACKAGE)?;
        let folder = temporary_folder("postgres")?;
        let path = folder.path().to_owned();
        let user = ServerUser::choose("postgres", &path)?;
        let password = password();
        initialise(&programs, &user, &path, &password, certificates.as_ref()).await?;

        let superuser = |port| Superuser {
            host: "127.0.0.1".to_owned(),
            port,
            user: "postgres".to_owned(),
            password: password.clone(),
        };
        let ca = certificates.is_some().then(|| ca_path(&path));
        let command = |port| {
            let mut command = user.command(&programs.join("postgres"));
            command.extend(["-D".into(), path.join("data").into_os_string()]);
            for setting in settings(&path, port, certificates.is_some()) {
                command.extend(["-c".into(), setting]);
            }
            (command, Vec::new())
        };
        let spec = Spec {
            name: "postgres",
            env: Vec::new(),
            without_env: &["PG"],
            // An immediate shutdown: unlike a kill it removes the server's shared memory.
            last_signal: "QUIT",
            port,
        };
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, |port| {
            let (superuser, ca) = (superuser(port), ca.as_deref());
            async move { psql(&superuser, ca, "postgres", "SELECT 1").await.map(drop) }
        })
        .await?;
        Ok(Self {
            superuser: superuser(port),
            process: Some(process),
            certificates,
        })
    }

    /// The port it listens on. It stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.superuser.port
    }

    /// The host it listens on, 127.0.0.1 for those started here.
    pub fn host(&self) -> &str {
        &self.superuser.host
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.superuser.user
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.superuser.password
    }

    /// The certificates for clients, if it was started [with TLS](Self::start_with_tls).
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The file with the certificate authority as PEM, if it was started [with
    /// TLS](Self::start_with_tls).
    pub fn ca_path(&self) -> Option<PathBuf> {
        let process = self.process.as_ref()?;
        self.certificates.is_some().then(|| ca_path(process.folder()))
    }

    /// The folder of its Unix socket, if it was started here.
    pub fn socket_folder(&self) -> Option<PathBuf> {
        Some(self.process.as_ref()?.folder().to_owned())
    }

    /// Runs SQL on a database as the superuser with the `psql` program, statement by statement, and
    /// gives its rows: fields are separated by `|`, rows by a line feed.
    ///
    /// # Errors
    /// A statement fails, or `psql` is not installed.
    pub async fn psql(&self, database: &str, sql: &str) -> Result<String> {
        psql(&self.superuser, self.ca_path().as_deref(), database, sql).await
    }

    /// Runs SQL with the `psql` program, which connects as libpq reads `conninfo`, a URL or a list
    /// of `name=value`, and gives its rows as [`psql`](Self::psql).
    ///
    /// # Errors
    /// libpq cannot connect, the statement fails, or `psql` is not installed.
    pub async fn psql_by(conninfo: &str, password: &str, sql: &str) -> Result<String> {
        let program = folder_with(&["psql"], &debian_folders().await, "postgresql-client")?.join("psql");
        let command = [
            program.into(),
            "--no-psqlrc".into(),
            "--no-password".into(),
            "--quiet".into(),
            "--tuples-only".into(),
            "--no-align".into(),
            format!("--command={sql}").into(),
            conninfo.into(),
        ];
        let env = [
            ("PGPASSWORD", OsStr::new(password)),
            ("PGCLIENTENCODING", OsStr::new("UTF8")),
        ];
        let rows = run(&command, &env, None, PSQL_LIMIT).await?;
        Ok(rows.strip_suffix('\n').unwrap_or(&rows).to_owned())
    }

    /// Makes a database with a role of its own, which owns it and can connect to no other tenant's.
    /// Both names begin with `name`.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub async fn create_tenant(&self, name: &str) -> Result<TenantDb> {
        let tenant = TenantDb::named(name);
        let TenantDb {
            database,
            user,
            password,
        } = &tenant;
        // From `template0`, which allows no connections: a connection to the template would make
        // CREATE DATABASE fail.
        let sql = format!(
            r#"CREATE ROLE "{user}" LOGIN PASSWORD '{password}';
               CREATE DATABASE "{database}" OWNER "{user}" TEMPLATE template0;
               REVOKE ALL ON DATABASE "{database}" FROM PUBLIC;"#
        );
        self.psql("postgres", &sql).await?;
        Ok(tenant)
    }

    /// A tenant's secret, in the form of the contract.
    pub fn secret(&self, tenant: &TenantDb) -> Value {
        json!({
            "type": "postgresql",
            "host": self.host(),
            "port": self.port(),
            "database": tenant.database,
            "username": tenant.user,
            "password": tenant.password,
        })
    }

    /// Stops it: connections are closed, transactions rolled back, and the port refuses. The data
    /// stays.
    ///
    /// # Errors
    /// It does not run, does not end within a minute, or is not ours.
    pub async fn stop(&self) -> Result<()> {
        // A fast shutdown.
        self.owned()?.stop("INT").await.map(drop)
    }

    /// Starts it on the same port and data after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// It runs, does not start within a minute, or is not ours.
    pub async fn start_again(&self) -> Result<()> {
        self.owned()?
            .start(|| async { self.psql("postgres", "SELECT 1").await.map(drop) })
            .await
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start_again`](Self::start_again).
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Copies its log to the folder for logs of failed tests, and prints the path. This happens
    /// automatically if a test panics.
    pub fn keep_log(&self) {
        if let Some(process) = &self.process {
            process.keep_log();
        }
    }

    fn owned(&self) -> Result<&ServerProcess> {
        self.process
            .as_ref()
            .with_context(|| format!("the server that `{POSTGRES_URL}` names is shared and stays as it is"))
    }
}

async fn initialise(
    programs: &Path,
    user: &ServerUser,
    folder: &Path,
    password: &str,
    certificates: Option<&Certificates>,
) -> Result<()> {
    let connection = if let Some(certificates) = certificates {
        let key = folder.join("server.key");
        fs::write(ca_path(folder), &certificates.ca_pem).await?;
        fs::write(folder.join("server.pem"), &certificates.server_cert_pem).await?;
        fs::write(&key, &certificates.server_key_pem).await?;
        fs::set_permissions(&key, Permissions::from_mode(0o600)).await?;
        "hostssl"
    } else {
        "host"
    };
    let rules = format!(
        "local all all scram-sha-256\n\
         {connection} all +require_client_cert 127.0.0.1/32 scram-sha-256 {}\n\
         {connection} all +login_md5 127.0.0.1/32 md5\n\
         {connection} all +login_password 127.0.0.1/32 password\n\
         {connection} all all 127.0.0.1/32 scram-sha-256\n",
        if certificates.is_some() {
            "clientcert=verify-ca"
        } else {
            ""
        }
    );
    fs::write(folder.join("pg_hba.conf"), rules).await?;
    let password_file = folder.join("password");
    fs::write(&password_file, password).await?;
    user.own(folder).await?;

    let mut command = user.command(&programs.join("initdb"));
    command.extend(["--pgdata".into(), folder.join("data").into_os_string()]);
    command.extend(["--pwfile".into(), password_file.clone().into_os_string()]);
    command.extend(
        [
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        .map(OsString::from),
    );
    run(&command, &[], None, Duration::from_secs(120)).await?;
    fs::remove_file(&password_file)
        .await
        .context("can't remove the password file")
}

fn settings(folder: &Path, port: u16, tls: bool) -> Vec<OsString> {
    let below = |setting: &str, name: &str| -> OsString {
        let mut setting = OsString::from(setting);
        setting.push(folder.join(name));
        setting
    };
    let mut settings = vec![
        below("unix_socket_directories=", ""),
        below("hba_file=", "pg_hba.conf"),
        format!("port={port}").into(),
    ];
    settings.extend(
        [
            "listen_addresses=127.0.0.1",
            "max_connections=600",
            // Nothing here outlives its test, so nothing waits for a disk.
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "timezone=Asia/Kolkata",
            "log_line_prefix=%m [%p] %u@%d ",
        ]
        .map(OsString::from),
    );
    if tls {
        settings.extend([
            "ssl=on".into(),
            below("ssl_ca_file=", "ca.pem"),
            below("ssl_cert_file=", "server.pem"),
            below("ssl_key_file=", "server.key"),
        ]);
    }
    settings
}

pub(crate) async fn psql(superuser: &Superuser, ca: Option<&Path>, database: &str, sql: &str) -> Result<String> {
    let program = folder_with(&["psql"], &debian_folders().await, "postgresql-client")?.join("psql");
    let command = [
        program.into(),
        "--no-psqlrc".into(),
        "--quiet".into(),
        "--tuples-only".into(),
        "--no-align".into(),
        "--set=ON_ERROR_STOP=1".into(),
        format!("--host={}", superuser.host).into(),
        format!("--port={}", superuser.port).into(),
        format!("--username={}", superuser.user).into(),
        format!("--dbname={database}").into(),
    ];
    let ca_file = ca.map_or(OsStr::new(""), Path::as_os_str);
    let env = [
        ("PGPASSWORD", OsStr::new(&superuser.password)),
        (
            "PGSSLMODE",
            OsStr::new(if ca.is_some() { "verify-ca" } else { "prefer" }),
        ),
        ("PGSSLROOTCERT", ca_file),
        ("PGCONNECT_TIMEOUT", OsStr::new("30")),
        ("PGCLIENTENCODING", OsStr::new("UTF8")),
    ];
    let rows = run(&command, &env, Some(sql), PSQL_LIMIT).await?;
    Ok(rows.strip_suffix('\n').unwrap_or(&rows).to_owned())
}

fn ca_path(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// The folders of the servers' programs on Debian, which are not in `PATH`; the newest version
/// first.
async fn debian_folders() -> Vec<PathBuf> {
    let mut versions = Vec::new();
    // No such folder on other systems.
    if let Ok(mut entries) = fs::read_dir("/usr/lib/postgresql").await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            if let Some(version) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
                versions.push((version, entry.path().join("bin")));
            }
        }
    }
    versions.sort_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, path)| path).collect()
}
