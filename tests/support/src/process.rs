//! A server with a folder and a port: started, waited for, stopped, started again.

use std::{
    ffi::OsString,
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{
    LOG_FOLDER,
    ports::free_port,
    supervisor::{Launch, Supervised, log_path},
};

/// How long a server may take to start or to stop.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How many bytes of a log an error shows.
const LOG_TAIL: usize = 6_000;

/// How often a server is started on another port if its port was taken.
const ATTEMPTS: usize = 5;

/// What to start; the command is made for a port.
pub(crate) struct Spec {
    /// What errors call it, such as `postgres`.
    pub(crate) name: &'static str,
    /// Set in its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Variables with names that begin with one of these are not passed on.
    pub(crate) without_env: &'static [&'static str],
    /// Ends it when its owner is gone.
    pub(crate) last_signal: &'static str,
    /// The port that it listens on. Without one it gets a free one.
    pub(crate) port: Option<u16>,
}

/// One server of ours. Dropping it ends the server and removes the folder.
pub(crate) struct ServerProcess {
    name: &'static str,
    launch: Launch,
    running: Mutex<Option<Supervised>>,
    folder: TempDir,
}

impl ServerProcess {
    /// Starts `command(port)` on its port and returns once `ready(port)` has succeeded. When a free
    /// port was taken in between, it is tried again on another.
    ///
    /// # Errors
    /// It ended, or was not ready within [`DEADLINE`]: with the last error of `ready` and the end
    /// of its log.
    pub(crate) async fn start_on_port<C, R, F>(folder: TempDir, spec: Spec, command: C, ready: R) -> Result<(Self, u16)>
    where
        C: Fn(u16) -> (Vec<OsString>, Vec<(OsString, OsString)>),
        R: Fn(u16) -> F,
        F: Future<Output = Result<()>>,
    {
        let mut folder = folder;
        let mut attempt = 1;
        loop {
            let port = match spec.port {
                Some(port) => port,
                None => free_port()?,
            };
            let (arguments, env) = command(port);
            let server = Self {
                name: spec.name,
                launch: Launch {
                    command: arguments,
                    env: spec.env.iter().cloned().chain(env).collect(),
                    without_env: spec.without_env,
                    folder: folder.path().to_owned(),
                    last_signal: spec.last_signal,
                },
                running: Mutex::new(None),
                folder,
            };
            let Err(error) = server.start(|| ready(port)).await else {
                return Ok((server, port));
            };
            let taken = server.exited().await? && server.log_tail().await.to_lowercase().contains("in use");
            if !taken || spec.port.is_some() || attempt == ATTEMPTS {
                server.keep_log();
                return Err(error);
            }
            attempt += 1;
            folder = server.into_folder().await?;
        }
    }

    /// Starts it, also after a [`stop`](Self::stop), and returns once `ready` has succeeded.
    ///
    /// # Errors
    /// It runs already; it ended, or was not ready within [`DEADLINE`].
    pub(crate) async fn start<R, F>(&self, ready: R) -> Result<()>
    where
        R: Fn() -> F,
        F: Future<Output = Result<()>>,
    {
        let mut running = self.running.lock().await;
        if let Some(server) = running.as_mut()
            && server.exited()?.is_none()
        {
            bail!("`{}` runs already", self.name);
        }
        let launch = self.launch.clone();
        let server = spawn_blocking(move || Supervised::start(&launch))
            .await
            .context("the start was cut off")?
            .with_context(|| format!("can't start `{}`", self.name))?;
        let server = running.insert(server);

        let deadline = Instant::now() + DEADLINE;
        let mut pause = Duration::from_millis(20);
        loop {
            let tried = ready().await;
            // Checked after the request, so that an answer of another server on this port is not
            // mistaken for this one's.
            if let Some(code) = server.exited()? {
                bail!(
                    "`{}` ended with code {code} instead of starting\n{}",
                    self.name,
                    self.log_tail().await
                );
            }
            match tried {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    let log = self.log_tail().await;
                    return Err(error.context(format!("`{}` is not ready after {DEADLINE:?}\n{log}", self.name)));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 3 / 2).min(Duration::from_millis(250));
        }
    }

    /// Sends `signal` and waits for the end. Returns the exit code, which is 128 plus the signal's
    /// number if a signal ended it.
    ///
    /// # Errors
    /// It does not run, or does not end within [`DEADLINE`].
    pub(crate) async fn stop(&self, signal: &str) -> Result<i32> {
        self.signal(signal).await?;
        self.wait(DEADLINE).await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It was stopped before, or does not end within `limit`.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<i32> {
        let mut running = self.running.lock().await;
        let server = running
            .as_mut()
            .ok_or_else(|| anyhow!("`{}` does not run", self.name))?;
        match server.wait(limit).await {
            Ok(code) => {
                *running = None;
                Ok(code)
            }
            Err(error) => Err(error.context(format!("`{}` does not end\n{}", self.name, self.log_tail().await))),
        }
    }

    /// Sends a signal, such as `STOP` and `CONT`, which make a server hang and go on.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        let mut running = self.running.lock().await;
        let server = running
            .as_mut()
            .ok_or_else(|| anyhow!("`{}` does not run", self.name))?;
        server.signal(name).with_context(|| format!("`{}`", self.name))
    }

    /// Its process id.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) async fn pid(&self) -> Result<u32> {
        let running = self.running.lock().await;
        running
            .as_ref()
            .ok_or_else(|| anyhow!("`{}` does not run", self.name))?
            .pid()
            .await
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The whole log so far. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) async fn log(&self) -> Result<String> {
        let path = log_path(self.folder());
        let bytes = tokio::fs::read(&path)
            .await
            .with_context(|| format!("can't read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As [`log`](Self::log), without waiting; what cannot be read is not there.
    pub(crate) fn log_so_far(&self) -> String {
        let bytes = std::fs::read(log_path(self.folder())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn log_tail(&self) -> String {
        match self.log().await {
            Ok(log) => {
                let mut start = log.len().saturating_sub(LOG_TAIL);
                while !log.is_char_boundary(start) {
                    start += 1;
                }
                format!("--- log of `{}`\n{}", self.name, &log[start..])
            }
            Err(error) => format!("--- no log of `{}`: {error:#}", self.name),
        }
    }

    /// Copies the log to the folder for logs of failed tests, and prints the path.
    pub(crate) fn keep_log(&self) {
        match copy_log(self.folder()) {
            Ok(path) => eprintln!("the log of `{}` is kept in {}", self.name, path.display()),
            Err(error) => eprintln!("the log of `{}` could not be kept: {error:#}", self.name),
        }
    }

    async fn exited(&self) -> Result<bool> {
        match self.running.lock().await.as_mut() {
            None => Ok(true),
            Some(server) => Ok(server.exited()?.is_some()),
        }
    }

    /// The folder of a server that has ended, for another start.
    async fn into_folder(mut self) -> Result<TempDir> {
        let empty = tempfile::tempdir().context("can't make a temporary folder")?;
        let folder = std::mem::replace(&mut self.folder, empty);
        self.running.lock().await.take();
        tokio::fs::remove_file(log_path(folder.path()))
            .await
            .context("can't remove a log")?;
        Ok(folder)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_log();
        }
        if let Some(server) = self.running.get_mut().as_mut()
            && matches!(server.exited(), Ok(None))
        {
            // It still writes there; the supervising shell removes the folder when it has ended.
            self.folder.disable_cleanup(true);
        }
    }
}

fn copy_log(folder: &Path) -> Result<PathBuf> {
    let target = match std::env::var_os(LOG_FOLDER) {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir().join("tenantry-test-logs"),
    };
    fs::create_dir_all(&target).with_context(|| format!("can't make {}", target.display()))?;
    let name = folder.file_name().ok_or_else(|| anyhow!("the folder has no name"))?;
    let path = target.join(format!("{}.log", name.to_string_lossy()));
    fs::copy(log_path(folder), &path).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}
