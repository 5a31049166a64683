//! Finds programs and runs them, as another user if they must not run as root.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// The first folder of `PATH`, then of `more`, that holds all of `names`.
///
/// # Errors
/// None does: the error says to install `package`.
pub(crate) fn folder_with(names: &[&str], more: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(more.iter().cloned())
        .find(|folder| names.iter().all(|name| is_program(&folder.join(name))))
        .with_context(|| {
            format!(
                "`{}` not found: install {package} (`./scripts/test` does it; on Debian and Ubuntu `apt-get install {package}`)",
                names.join("`, `")
            )
        })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The user that runs a database server: this user, or another one if this is root, since database
/// servers refuse to run as root.
pub(crate) struct ServerUser(Option<&'static str>);

impl ServerUser {
    /// This user unless it is root. For root, `preferred` if such a user exists, else `nobody`.
    ///
    /// # Errors
    /// `folder` or the list of users can't be read.
    pub(crate) fn choose(preferred: &'static str, folder: &Path) -> Result<Self> {
        // A folder just made belongs to the effective user.
        if fs::metadata(folder).context("can't ask who this is")?.uid() != 0 {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("can't read the list of users")?;
        let known = users.lines().any(|line| line.split(':').next() == Some(preferred));
        Ok(Self(Some(if known { preferred } else { "nobody" })))
    }

    /// `program`, to be followed by its arguments, run by this user.
    pub(crate) fn command(&self, program: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = Vec::new();
        if let Some(user) = self.0 {
            command.extend(["setpriv", "--reuid", user, "--regid"].map(OsString::from));
            // Packages give a group the name of its user; `nobody` has `nogroup` on Debian.
            command.push(if user == "nobody" {
                "nogroup".into()
            } else {
                user.into()
            });
            command.extend(["--init-groups", "--"].map(OsString::from));
        }
        command.push(program.into());
        command
    }

    /// Gives everything in `folder` to this user.
    ///
    /// # Errors
    /// `chown` fails.
    pub(crate) async fn own(&self, folder: &Path) -> Result<()> {
        let Some(user) = self.0 else { return Ok(()) };
        let command = ["chown".into(), "-R".into(), format!("{user}:").into(), folder.into()];
        run(&command, &[], None, Duration::from_secs(10)).await.map(drop)
    }
}

/// A temporary folder for a server called `name`. Its path is short, since a Unix socket's path has
/// at most 107 bytes.
///
/// # Errors
/// It can't be made.
pub(crate) fn temporary_folder(name: &str) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("tenantry-{name}-"))
        .tempdir()
        .context("can't make a temporary folder")
}

/// Runs a command to its end, with `env` set and `input` on standard input, and gives its standard
/// output.
///
/// # Errors
/// It can't be started, fails, or takes longer than `limit`: with its standard error.
pub(crate) async fn run(
    command: &[OsString],
    env: &[(&str, &OsStr)],
    input: Option<&str>,
    limit: Duration,
) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command");
    };
    let name = Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned();
    let output = run_any(
        Command::new(program).args(arguments).envs(env.iter().copied()),
        input,
        limit,
    )
    .await
    .with_context(|| format!("`{name}`"))?;
    if !output.status.success() {
        bail!(
            "`{name}` failed with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` wrote something that is not UTF-8"))
}

/// Runs `command` to its end, however it ends.
///
/// # Errors
/// It can't be started, or takes longer than `limit`.
pub(crate) async fn run_any(command: &mut Command, input: Option<&str>, limit: Duration) -> Result<Output> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("can't be started")?;
    let pipe = child.stdin.take();
    let write = async {
        if let (Some(mut pipe), Some(text)) = (pipe, input)
            && let Err(error) = pipe.write_all(text.as_bytes()).await
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            // A broken pipe is a program that ended early; its exit code and its words say more.
            return Err(error);
        }
        Ok(())
    };
    let both = async { tokio::join!(write, child.wait_with_output()) };
    let (written, output) = timeout(limit, both)
        .await
        .with_context(|| format!("takes longer than {limit:?}"))?;
    written.context("can't be written to")?;
    output.context("can't be waited for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_fails_and_names_the_package() {
        let error = folder_with(&["no-such-program"], &[], "some-package")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`no-such-program` not found: install some-package"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_command_that_fails_shows_its_standard_error() {
        let command = ["sh", "-c", "cat >&2; exit 3"].map(OsString::from);
        let error = run(&command, &[], Some("what went wrong"), Duration::from_secs(10))
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("what went wrong") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_given_up() {
        let command = ["sleep", "100"].map(OsString::from);
        let error = run(&command, &[], None, Duration::from_millis(50)).await.unwrap_err();
        assert!(format!("{error:#}").contains("takes longer"), "{error:#}");
    }
}
