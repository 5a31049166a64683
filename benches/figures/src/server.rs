//! The servers that are measured: each a process of its own on a free port, with its files in a
//! temporary folder, killed on drop.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tenantry_test_support::free_port;

use crate::client::Client;

/// How long a server may take to its first answer; under valgrind everything takes fifty times as
/// long.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The folder of the log, in the folder of a server.
const LOGS: &str = "logs";

/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The kernel's unit of a process's time in `/proc` (proc(5): `sysconf(_SC_CLK_TCK)`, which is 100
/// on Linux everywhere).
const TICK: Duration = Duration::from_millis(10);

/// Settings of the user's environment that would change what the program does.
const WITHOUT_ENV: &[&str] = &[
    "TENANTRY_",
    "MULTITENANT_",
    "AWS_",
    "OTEL_",
    "APP_",
    "LOG_LEVEL",
    "TENANT_",
    "RUST_LOG",
    "PGRST_",
    "POSTRUST_",
];

/// What is to be started.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// Files in its folder, which is its working directory.
    pub(crate) files: Vec<(&'static str, String)>,
    /// A program that runs it, with its arguments: valgrind.
    pub(crate) wrapper: Vec<OsString>,
    /// The path that answers 200 as soon as the server runs.
    pub(crate) live: &'static str,
}

/// The path of [`Launch::live`] of the program and of its baselines.
pub(crate) const LIVE: &str = "/health/live";

/// A running server.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    folder: TempDir,
    /// From the start of the process to the first answer to [`Launch::live`].
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts what `launch` makes of the address to listen on, and waits for its first answer.
    pub(crate) fn start(launch: impl FnOnce(String) -> Launch) -> Result<Self> {
        let port = free_port()?;
        let launch = launch(format!("127.0.0.1:{port}"));
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        for (name, contents) in &launch.files {
            fs::write(folder.path().join(name), contents)?;
        }
        let mut words = launch.wrapper.into_iter();
        let mut command = match words.next() {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(&launch.program);
                command
            }
            None => Command::new(&launch.program),
        };
        for (name, _) in std::env::vars_os() {
            if WITHOUT_ENV
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .args(&launch.arguments)
            .envs(launch.env)
            .current_dir(folder.path());
        // Tenantry is notified of each write in the folder of its secrets.
        fs::create_dir(folder.path().join(LOGS))?;
        let log = File::create(folder.path().join(LOGS).join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let process = command
            .spawn()
            .with_context(|| format!("can't run {}", launch.program.display()))?;
        let mut server = Self {
            process,
            port,
            folder,
            started_in: Duration::ZERO,
        };
        server.wait_for_answer(began, launch.live)?;
        server.started_in = began.elapsed();
        Ok(server)
    }

    fn wait_for_answer(&mut self, began: Instant, live: &str) -> Result<()> {
        while began.elapsed() < START_LIMIT {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            if let Ok(mut client) = Client::connect(self.port)
                && client.get(live, "").is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            sleep(Duration::from_micros(500));
        }
        bail!("the server did not answer within {START_LIMIT:?}:\n{}", self.log())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOGS).join("log")).unwrap_or_default()
    }

    /// The processor time it has used, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th after
        // it.
        let after = stat.rsplit_once(')').context("no name in /proc/.../stat")?.1;
        let mut ticks = after.split_whitespace().skip(11).map(str::parse::<u32>);
        match (ticks.next(), ticks.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok(TICK * (user + system)),
            _ => bail!("no times in /proc/.../stat"),
        }
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let field = |name: &str| -> Result<u64> {
            let line = rollup
                .lines()
                .find(|line| line.starts_with(name))
                .with_context(|| format!("no {name}"))?;
            let kilobytes = line.split_whitespace().nth(1).context("no number")?;
            Ok(kilobytes.parse::<u64>()? * 1024)
        };
        Ok(Memory {
            resident: field("Rss:")?,
            anonymous: field("Anonymous:")?,
        })
    }

    /// Ends it as an operator does, and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").arg(self.pid().to_string()).status()?;
        ensure!(status.success(), "can't end the server");
        let began = Instant::now();
        while began.elapsed() < END_LIMIT {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(5));
        }
        bail!("the server did not end within {END_LIMIT:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // It may end by itself in this moment; either way it is waited for.
            if self.process.kill().is_ok() && self.process.wait().is_err() {
                eprintln!("figures: process {} could not be waited for", self.pid());
            }
        }
    }
}

/// What a process occupies, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// All that is in memory, the program's own code included as far as it was used.
    pub(crate) resident: u64,
    /// Of it, what is not a file's: heap and stacks.
    pub(crate) anonymous: u64,
}
