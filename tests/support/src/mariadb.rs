//! MariaDB.

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
    MARIADB_URL,
    certificates::Certificates,
    process::{ServerProcess, Spec},
    programs::{ServerUser, folder_with, run, temporary_folder},
    tenant_db::{Superuser, TenantDb, password},
};

const PACKAGE: &str = "mariadb-server";

/// How long one `mariadb` may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

/// A MariaDB server on 127.0.0.1 that takes 300 connections. Its time zone is `+05:30`. Dropping it
/// ends it.
pub struct MariadbServer {
    superuser: Superuser,
    process: Option<ServerProcess>,
    certificates: Option<Certificates>,
}

impl MariadbServer {
    /// Starts one of its own, for tests that stop it, fill it or change its settings.
    ///
    /// # Errors
    /// MariaDB is not installed, or does not start within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_one(None, &[], None).await
    }

    /// Starts one of its own on a port of 127.0.0.1 that its caller chose.
    ///
    /// # Errors
    /// As [`start`](Self::start), or the port is taken.
    pub async fn start_on(port: u16) -> Result<Self> {
        Self::start_one(None, &[], Some(port)).await
    }

    /// Starts one of its own with further settings, such as `--innodb-rollback-on-timeout=ON`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_settings(settings: &'static [&'static str]) -> Result<Self> {
        Self::start_one(None, settings, None).await
    }

    /// Starts one that takes TLS connections only; [`certificates`](Self::certificates) has what
    /// its clients need.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_tls() -> Result<Self> {
        Self::start_one(Some(Certificates::make()?), &[], None).await
    }

    /// The server of this test process, or of all test processes if [`MARIADB_URL`] is set. Each
    /// test creates its own tenants in it.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<MariadbServer> = OnceCell::const_new();
        let server = SHARED.get_or_try_init(|| async {
            match std::env::var(MARIADB_URL) {
                Ok(url) => Ok(Self {
                    superuser: Superuser::from_url(MARIADB_URL, &url)?,
                    process: None,
                    certificates: None,
                }),
                Err(_) => Self::start().await,
            }
        });
        match server.await {
            Ok(server) => server,
            Err(error) => panic!("no MariaDB: {error:#}"),
        }
    }

    async fn start_one(certificates: Option<Certificates>, more: &[&str], port: Option<u16>) -> Result<Self> {
        let server = folder_with(&["mariadbd"], &system_folders(), PACKAGE)?.join("mariadbd");
        let folder = temporary_folder("mariadb")?;
        let path = folder.path().to_owned();
        let user = ServerUser::choose("mysql", &path)?;
        let password = password();
        initialise(&user, &path, &password, certificates.as_ref()).await?;

        let superuser = |port| Superuser {
            host: "127.0.0.1".to_owned(),
            port,
            user: "root".to_owned(),
            password: password.clone(),
        };
        let ca = certificates.is_some().then(|| ca_path(&path));
        let command = |port| {
            let mut command = user.command(&server);
            command.extend(settings(&path, port, certificates.is_some()));
            command.extend(more.iter().map(OsString::from));
            (command, Vec::new())
        };
        let spec = Spec {
            name: "mariadbd",
            env: Vec::new(),
            without_env: &["MYSQL", "MARIADB"],
            last_signal: "KILL",
            port,
        };
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, |port| {
            let (superuser, ca) = (superuser(port), ca.as_deref());
            async move { mariadb(&superuser, ca, "mysql", "SELECT 1").await.map(drop) }
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

    /// Its Unix socket, if it was started here.
    pub fn socket(&self) -> Option<PathBuf> {
        Some(self.process.as_ref()?.folder().join("socket"))
    }

    /// Runs SQL on a database as the superuser with the `mariadb` program, statement by statement,
    /// and gives its rows: fields are separated by a tab, rows by a line feed.
    ///
    /// # Errors
    /// A statement fails, or `mariadb` is not installed.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        mariadb(&self.superuser, self.ca_path().as_deref(), database, sql).await
    }

    /// Runs SQL with the `mariadb` program as another user than the superuser, without a database.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub async fn sql_as(&self, user: &str, password: &str, sql: &str) -> Result<String> {
        let other = Superuser {
            host: self.superuser.host.clone(),
            port: self.superuser.port,
            user: user.to_owned(),
            password: password.to_owned(),
        };
        mariadb(&other, self.ca_path().as_deref(), "information_schema", sql).await
    }

    /// Creates a database and a user with access to this database alone. Both names begin with
    /// `name`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub async fn create_tenant(&self, name: &str) -> Result<TenantDb> {
        let tenant = TenantDb::named(name);
        let TenantDb {
            database,
            user,
            password,
        } = &tenant;
        // In GRANT an underscore in a database's name stands for any character.
        let pattern = database.replace('_', "\\_");
        let sql = format!(
            "CREATE DATABASE `{database}` CHARACTER SET utf8mb4;
             CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';
             GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{user}'@'%';"
        );
        self.sql("mysql", &sql).await?;
        Ok(tenant)
    }

    /// A tenant's secret, in the form of the contract.
    pub fn secret(&self, tenant: &TenantDb) -> Value {
        json!({
            "type": "mysql",
            "host": self.host(),
            "port": self.port(),
            "database": tenant.database,
            "username": tenant.user,
            "password": tenant.password,
        })
    }

    /// Stops it: connections are closed, and the port refuses. The data stays.
    ///
    /// # Errors
    /// It does not run, does not end within a minute, or is not ours.
    pub async fn stop(&self) -> Result<()> {
        self.owned()?.stop("TERM").await.map(drop)
    }

    /// Starts it on the same port and data after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// It runs, does not start within a minute, or is not ours.
    pub async fn start_again(&self) -> Result<()> {
        self.owned()?
            .start(|| async { self.sql("mysql", "SELECT 1").await.map(drop) })
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
            .with_context(|| format!("the server that `{MARIADB_URL}` names is shared and stays as it is"))
    }
}

async fn initialise(
    user: &ServerUser,
    folder: &Path,
    password: &str,
    certificates: Option<&Certificates>,
) -> Result<()> {
    let installer = folder_with(&["mariadb-install-db"], &["/usr/share/mariadb/scripts".into()], PACKAGE)?
        .join("mariadb-install-db");
    if let Some(certificates) = certificates {
        let key = folder.join("server.key");
        fs::write(ca_path(folder), &certificates.ca_pem).await?;
        fs::write(folder.join("server.pem"), &certificates.server_cert_pem).await?;
        fs::write(&key, &certificates.server_key_pem).await?;
        fs::set_permissions(&key, Permissions::from_mode(0o600)).await?;
    }
    // Read by the server each time it starts, before it takes connections; one statement a line.
    let accounts = format!(
        "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n\
         ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n\
         ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n\
         DROP USER IF EXISTS 'root'@'::1', ''@'localhost';\n"
    );
    fs::write(folder.join("accounts.sql"), accounts).await?;
    user.own(folder).await?;

    let mut command = user.command(&installer);
    command.push("--no-defaults".into());
    command.push(option("datadir", &folder.join("data")));
    command.push(option("tmpdir", folder));
    command.extend(
        [
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        .map(OsString::from),
    );
    run(&command, &[], None, Duration::from_secs(120)).await.map(drop)
}

fn settings(folder: &Path, port: u16, tls: bool) -> Vec<OsString> {
    let mut settings = vec![
        "--no-defaults".into(),
        option("datadir", &folder.join("data")),
        option("tmpdir", folder),
        option("socket", &folder.join("socket")),
        option("pid-file", &folder.join("mariadbd.pid")),
        option("init-file", &folder.join("accounts.sql")),
        format!("--port={port}").into(),
    ];
    settings.extend(
        [
            "--bind-address=127.0.0.1",
            "--skip-networking=0",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--max-connections=300",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+05:30",
            "--innodb-buffer-pool-size=64M",
            // Nothing here outlives its test, so nothing waits for a disk.
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        ]
        .map(OsString::from),
    );
    if tls {
        settings.extend([
            option("ssl-ca", &ca_path(folder)),
            option("ssl-cert", &folder.join("server.pem")),
            option("ssl-key", &folder.join("server.key")),
            "--require-secure-transport=ON".into(),
        ]);
    }
    settings
}

async fn mariadb(superuser: &Superuser, ca: Option<&Path>, database: &str, sql: &str) -> Result<String> {
    let program = folder_with(&["mariadb"], &system_folders(), "mariadb-client")?.join("mariadb");
    let mut command = vec![
        program.into(),
        "--no-defaults".into(),
        "--protocol=tcp".into(),
        "--batch".into(),
        "--raw".into(),
        "--skip-column-names".into(),
        "--connect-timeout=10".into(),
        "--default-character-set=utf8mb4".into(),
        format!("--host={}", superuser.host).into(),
        format!("--port={}", superuser.port).into(),
        format!("--user={}", superuser.user).into(),
        format!("--database={database}").into(),
    ];
    command.push(match ca {
        Some(ca) => option("ssl-ca", ca),
        None => "--skip-ssl".into(),
    });
    let env = [("MYSQL_PWD", OsStr::new(&superuser.password))];
    let rows = run(&command, &env, Some(sql), CLIENT_LIMIT).await?;
    Ok(rows.strip_suffix('\n').unwrap_or(&rows).to_owned())
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}

fn ca_path(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// The folders of servers' programs on systems that do not have them in a user's `PATH`.
fn system_folders() -> [PathBuf; 3] {
    ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from)
}
