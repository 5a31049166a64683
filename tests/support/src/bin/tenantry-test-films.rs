//! Starts the program that `TENANTRY_PROGRAM` names with declared tables of films and a tenant on
//! each kind of database, runs a command beside it, and ends with the command's exit code.
//!
//! The command finds the server's URL in `TENANTRY_URL`, the names of the tenants in
//! `TENANTRY_TENANTS`, separated by spaces, and what tokens are signed with in
//! `TENANTRY_TOKEN_SECRET`. SIGTERM kills the command.

use std::{env, process::ExitCode};

use anyhow::{Context, Result, bail};
use tenantry_test_support::Films;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tenantry-test-films: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<u8> {
    let mut arguments = env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        bail!("no command: name one to run beside the server");
    };
    let program = env::var_os("TENANTRY_PROGRAM").context("`TENANTRY_PROGRAM` names no program")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let films = Films::start(program).await?;
    let mut command = Command::new(&command)
        .args(arguments)
        .env("TENANTRY_URL", films.server.base_url())
        .env("TENANTRY_TENANTS", Films::TENANTS.join(" "))
        .env("TENANTRY_TOKEN_SECRET", Films::SECRET)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't run `{}`", command.to_string_lossy()))?;
    let status = tokio::select! {
        status = command.wait() => status.context("can't wait for the command")?,
        _ = terminate.recv() => bail!("terminated"),
    };
    if !status.success() {
        let log = films.server.logs().await?;
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("tenantry-test-films: the server's log ends with");
        for line in &lines[lines.len().saturating_sub(20)..] {
            eprintln!("{line}");
        }
    }
    films.server.terminate().await?;
    films.server.wait().await?;
    // A signal has no exit code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
