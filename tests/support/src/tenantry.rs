//! The built `tenantry` program.

use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::{fs, net::TcpStream, process::Command};

use crate::{
    http, oracle,
    ports::free_port,
    process::{DEADLINE, ServerProcess, Spec},
    programs::{run_any, temporary_folder},
    tenant_db::CANARY,
};

/// Settings of the developer's own shell that would change what the program does. Everything else
/// is handed down.
const WITHOUT_ENV: &[&str] = &[
    "TENANTRY_",
    "MULTITENANT_",
    "AWS_",
    "OTEL_",
    "APP_",
    "LOG_LEVEL",
    "TENANT_",
    "RUST_LOG",
];

/// How the program is started: its configuration, files, environment and arguments.
///
/// It is given a temporary folder to work in with the configuration in `config.yaml`, and
/// `TENANTRY__SERVER__LISTEN` with a free port, which comes before whatever the configuration says.
pub struct TenantryBuilder {
    program: PathBuf,
    test: Option<&'static str>,
    config: Option<String>,
    files: Vec<(PathBuf, String)>,
    env: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
    admin_listener: bool,
    tls: bool,
}

impl TenantryBuilder {
    /// The program is a test executable, and the server is its ignored test `name`, which reads the
    /// file that `TENANTRY_CONFIG` names and ends after SIGTERM.
    #[must_use]
    pub fn as_test(mut self, name: &'static str) -> Self {
        self.test = Some(name);
        self
    }

    /// The text of `config.yaml`. Without it there is no such file.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// A file beside the configuration: `path` is relative to the folder, and folders on the way
    /// are made.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, contents: impl Into<String>) -> Self {
        self.files.push((path.into(), contents.into()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// It opens Oracle tenants: it finds the stand-in for Oracle's client library, unless there is
    /// a real Oracle.
    ///
    /// # Panics
    /// The stand-in was not built: no test could go on.
    #[must_use]
    pub fn oracle(mut self) -> Self {
        match oracle::environment() {
            Ok(variables) => self.env.extend(variables),
            Err(error) => panic!("no Oracle: {error:#}"),
        }
        self
    }

    /// An argument of `serve`, after all others.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Operator routes get a free port of their own, by `TENANTRY__SERVER__ADMIN_LISTEN`.
    #[must_use]
    pub fn admin_listener(mut self) -> Self {
        self.admin_listener = true;
        self
    }

    /// The configuration makes the server speak TLS: it is waited for by its port only, and its URL
    /// begins with `https`, at the host `localhost`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Runs `tenantry serve` until `/health/live` answers.
    ///
    /// # Errors
    /// It ends instead (a wrong configuration), or does not answer within a minute: with its log.
    pub async fn start(self) -> Result<TenantryProcess> {
        let folder = self.folder().await?;
        let admin_port = if self.admin_listener { Some(free_port()?) } else { None };
        let mut arguments = vec![OsString::from(&self.program)];
        let mut test_config = None;
        if let Some(name) = self.test {
            arguments.extend([name, "--exact", "--ignored", "--nocapture"].map(OsString::from));
            test_config = Some(folder.path().join("config.yaml").into_os_string());
        } else {
            arguments.extend(self.config_argument(&folder));
            arguments.push("serve".into());
            arguments.extend(self.arguments.iter().cloned());
        }

        let command = |port: u16| {
            let mut env = vec![("TENANTRY__SERVER__LISTEN".into(), format!("127.0.0.1:{port}").into())];
            if let Some(path) = &test_config {
                env.push(("TENANTRY_CONFIG".into(), path.clone()));
            }
            if let Some(port) = admin_port {
                env.push((
                    "TENANTRY__SERVER__ADMIN_LISTEN".into(),
                    format!("127.0.0.1:{port}").into(),
                ));
            }
            (arguments.clone(), env)
        };
        let spec = Spec {
            name: "tenantry",
            env: self.env.clone(),
            without_env: WITHOUT_ENV,
            last_signal: "KILL",
            port: None,
        };
        let tls = self.tls;
        let (process, port) = ServerProcess::start_on_port(folder, spec, command, |port| async move {
            match admin_port {
                _ if tls => TcpStream::connect(("127.0.0.1", port))
                    .await
                    .map(drop)
                    .context("can't connect"),
                Some(admin) => http::request(admin, "/health/live", &[], None).await.map(drop),
                None => http::request(port, "/health/live", &[], None).await.map(drop),
            }
        })
        .await?;
        Ok(TenantryProcess {
            process,
            port,
            admin_port,
            tls,
        })
    }

    /// Runs another command to its end, such as `["check"]`, in a folder of its own.
    ///
    /// # Errors
    /// It does not end within a minute. An exit code other than 0 is no error.
    pub async fn run<A: Into<OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Result<Finished> {
        let folder = self.folder().await?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if WITHOUT_ENV.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command
            .args(self.config_argument(&folder))
            .args(arguments.into_iter().map(Into::into))
            .args(&self.arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder.path());
        let output = run_any(&mut command, None, DEADLINE).await.context("`tenantry`")?;
        Ok(Finished {
            code: output.status.code().context("`tenantry` was ended by a signal")?,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn folder(&self) -> Result<TempDir> {
        let folder = temporary_folder("server")?;
        let config = self.config.iter().map(|text| (Path::new("config.yaml"), text));
        for (path, contents) in self
            .files
            .iter()
            .map(|(path, text)| (path.as_path(), text))
            .chain(config)
        {
            let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(inside, "{} is not a plain relative path", path.display());
            let target = folder.path().join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)
                    .await
                    .with_context(|| format!("can't make {}", parent.display()))?;
            }
            fs::write(&target, contents)
                .await
                .with_context(|| format!("can't write {}", target.display()))?;
        }
        Ok(folder)
    }

    fn config_argument(&self, folder: &TempDir) -> Vec<OsString> {
        match self.config {
            Some(_) => vec!["--config".into(), folder.path().join("config.yaml").into()],
            None => Vec::new(),
        }
    }
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running `tenantry serve`. Dropping it kills it.
pub struct TenantryProcess {
    process: ServerProcess,
    port: u16,
    admin_port: Option<u16>,
    tls: bool,
}

/// Whatever a test is about, no secret may be in what the program wrote meanwhile.
impl Drop for TenantryProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.process.log_so_far();
        if let Some(line) = log.lines().find(|line| line.contains(CANARY)) {
            panic!("a secret is in the log of `tenantry`: {line}");
        }
    }
}

impl TenantryProcess {
    /// How to start `program`, which a test names by `env!("CARGO_BIN_EXE_tenantry")`.
    pub fn builder(program: impl Into<PathBuf>) -> TenantryBuilder {
        TenantryBuilder {
            program: program.into(),
            test: None,
            config: None,
            files: Vec::new(),
            env: Vec::new(),
            arguments: Vec::new(),
            admin_listener: false,
            tls: false,
        }
    }

    /// Starts `program` with this `config.yaml`.
    ///
    /// # Errors
    /// As [`TenantryBuilder::start`].
    pub async fn start(program: impl Into<PathBuf>, config: impl Into<String>) -> Result<Self> {
        Self::builder(program).config(config).start().await
    }

    /// Its URL, without a slash at the end.
    pub fn base_url(&self) -> String {
        if self.tls {
            format!("https://localhost:{}", self.port)
        } else {
            format!("http://127.0.0.1:{}", self.port)
        }
    }

    /// The URL for operator routes: that of the admin listener if there is one.
    pub fn admin_url(&self) -> String {
        match self.admin_port {
            Some(port) => format!("http://127.0.0.1:{port}"),
            None => self.base_url(),
        }
    }

    /// The port it answers on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, with `config.yaml` and the files it was given; also its working directory.
    pub fn folder(&self) -> &Path {
        self.process.folder()
    }

    /// Its process id.
    ///
    /// # Errors
    /// It was waited for.
    pub async fn pid(&self) -> Result<u32> {
        self.process.pid().await
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// It has ended.
    pub async fn terminate(&self) -> Result<()> {
        self.signal("TERM").await
    }

    /// Sends a signal, such as `INT`.
    ///
    /// # Errors
    /// It has ended.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name).await
    }

    /// Waits for its end and returns the exit code, which is 128 plus the signal's number if a
    /// signal ended it. Call it once only.
    ///
    /// # Errors
    /// It still runs after a minute.
    pub async fn wait(&self) -> Result<i32> {
        self.process.wait(DEADLINE).await
    }

    /// Everything it has written so far, standard output and standard error together.
    ///
    /// # Errors
    /// The log can't be read.
    pub async fn logs(&self) -> Result<String> {
        self.process.log().await
    }

    /// Waits until it has written `text`, and gives everything written so far.
    ///
    /// # Errors
    /// It has not within `limit`: with the log.
    pub async fn logs_with(&self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let logs = self.logs().await?;
            if logs.contains(text) {
                return Ok(logs);
            }
            ensure!(
                Instant::now() < deadline,
                "no `{text}` in the log after {limit:?}\n{logs}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
