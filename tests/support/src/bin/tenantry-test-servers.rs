//! Starts one PostgreSQL and one MariaDB, runs a command with the environment variables that name
//! them, stops them, and ends with the command's exit code: `tenantry-test-servers cargo test
//! --workspace`.
//!
//! An interrupt at the terminal reaches the command too; this program waits for its end. SIGTERM
//! kills the command.

use std::{env, process::ExitCode};

use anyhow::{Context, Result, bail};
use tenantry_test_support::{MARIADB_URL, MariadbServer, POSTGRES_URL, PostgresServer};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tenantry-test-servers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<u8> {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        bail!("no command: name one to run beside the servers");
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (postgres, mariadb) = tokio::try_join!(PostgresServer::start(), MariadbServer::start())?;
    let url = |scheme: &str, user: &str, password: &str, port: u16, database: &str| {
        format!("{scheme}://{user}:{password}@127.0.0.1:{port}/{database}")
    };
    let mut command = Command::new(&program)
        .args(arguments)
        .env(
            POSTGRES_URL,
            url(
                "postgres",
                postgres.superuser(),
                postgres.password(),
                postgres.port(),
                "postgres",
            ),
        )
        .env(
            MARIADB_URL,
            url(
                "mysql",
                mariadb.superuser(),
                mariadb.password(),
                mariadb.port(),
                "mysql",
            ),
        )
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't run `{}`", program.to_string_lossy()))?;

    let status = loop {
        tokio::select! {
            status = command.wait() => break status.context("can't wait for the command")?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => bail!("terminated"),
        }
    };
    if !status.success() {
        postgres.keep_log();
        mariadb.keep_log();
    }
    tokio::try_join!(postgres.stop(), mariadb.stop())?;
    // A signal has no exit code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
