//! Runs one server under a small shell that ends it when its owner is gone.
//!
//! The shell's standard input is a pipe, and only the owner holds the other end. A line on it is a
//! signal for the server. The pipe closes on drop, and also when the owner's process dies for any
//! reason; then the shell ends the server and removes its folder. (A parent-death signal would not
//! do: Linux sends it when the *thread* that started the server ends, and each test has its own.)

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// `$1` is the signal that ends an abandoned server, `$2` its folder, the rest its command. The
/// shell exits as the server does.
///
/// HUP and INT are ignored so that an interrupt at the terminal, which reaches everybody, leaves
/// the shell to clean up. A server that doesn't end by `$1` within ten seconds (it may be stopped
/// by SIGSTOP) is killed.
const SCRIPT: &str = r#"
trap '' HUP INT
last=$1 folder=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
printf '%s' "$server" >"$folder/pid.new" && mv "$folder/pid.new" "$folder/pid"
{
    while read -r signal; do kill -s "$signal" "$server"; done
    : >"$folder/abandoned"
    kill -s CONT "$server"
    kill -s "$last" "$server"
    sleep 10
    kill -s KILL "$server"
} <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
if [ -e "$folder/abandoned" ]; then rm -rf -- "$folder"; fi
exit "$status"
"#;

/// What to run.
#[derive(Clone)]
pub(crate) struct Launch {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Set in its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Variables with names that begin with one of these are not passed on.
    pub(crate) without_env: &'static [&'static str],
    /// Its working directory. It contains the log, and is removed when the owner is gone.
    pub(crate) folder: PathBuf,
    /// Ends the server when its owner is gone, such as `KILL`.
    pub(crate) last_signal: &'static str,
}

/// The log of the server with this folder: standard output and standard error together.
pub(crate) fn log_path(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// A server that runs, or that has ended and was not asked yet.
pub(crate) struct Supervised {
    shell: Option<Child>,
    commands: Option<ChildStdin>,
    folder: PathBuf,
}

impl Supervised {
    /// Starts it. This blocks for as long as a `fork` takes.
    ///
    /// # Errors
    /// There is no shell, or the log can't be opened. A server that fails by itself is seen by
    /// [`exited`](Self::exited).
    pub(crate) fn start(launch: &Launch) -> Result<Self> {
        let path = log_path(&launch.folder);
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let log = open().with_context(|| format!("can't open {}", path.display()))?;
        let log_too = log.try_clone().context("can't open the log twice")?;

        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "supervisor", launch.last_signal])
            .arg(&launch.folder)
            .args(&launch.command)
            .current_dir(&launch.folder)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if launch.without_env.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        let mut shell = command.spawn().context("can't start `sh`")?;
        let commands = shell.stdin.take();
        Ok(Self {
            shell: Some(shell),
            commands,
            folder: launch.folder.clone(),
        })
    }

    /// The server's exit code once it has ended; 128 plus the signal's number if a signal ended it.
    ///
    /// # Errors
    /// The shell itself was killed.
    pub(crate) fn exited(&mut self) -> Result<Option<i32>> {
        let shell = self.shell.as_mut().ok_or_else(|| anyhow!("it was never started"))?;
        match shell.try_wait().context("can't ask for the exit code")? {
            None => Ok(None),
            Some(status) => status
                .code()
                .map(Some)
                .ok_or_else(|| anyhow!("the supervising shell was killed")),
        }
    }

    /// The exit code, waited for.
    ///
    /// # Errors
    /// It still runs when `limit` is over.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(code) = self.exited()? {
                return Ok(code);
            }
            if Instant::now() >= deadline {
                bail!("it still runs after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends the server a signal, such as `TERM`.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn signal(&mut self, name: &str) -> Result<()> {
        let pipe = self.commands.as_mut().ok_or_else(|| anyhow!("it has ended"))?;
        writeln!(pipe, "{name}").with_context(|| format!("can't send SIG{name}: it has ended"))
    }

    /// The server's own process id, once the shell has written it down.
    pub(crate) async fn pid(&self) -> Result<u32> {
        let path = self.folder.join("pid");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match tokio::fs::read_to_string(&path).await {
                Ok(text) => return text.trim().parse().context("the process id is no number"),
                Err(error) if Instant::now() >= deadline => return Err(error).context("no process id was written"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The end of the pipe is what makes the shell end the server.
        drop(self.commands.take());
        if let Some(mut shell) = self.shell.take() {
            // So that no zombie is left for as long as the test process lives.
            let reaper = thread::Builder::new()
                .name("reaper".to_owned())
                .spawn(move || shell.wait());
            if let Err(error) = reaper {
                eprintln!("no thread to wait for a server's end: {error}");
            }
        }
    }
}
