//! The command line: one file or folder for each command.
//!
//! A new command is a variant of `Command`, an arm of [`dispatch`], and a row of the table in
//! `docs/configuration.md`. Commands that need no configuration are also in [`prepare`].

mod check;
mod init;
mod lists;
mod live;
mod migrate;
mod report;
mod tables;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use tenantry_core::TenantId;

use crate::{
    App,
    app::{AppParts, StartError},
    config::{self, Absent, Loaded},
    installation::Installation,
    product::Product,
    server::Signals,
    telemetry::Telemetry,
};

/// The command succeeded.
const DONE: u8 = 0;
/// The command failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was changed.
const MISUSED: u8 = 2;

/// Gives each request the database of its own tenant.
#[derive(Debug, Parser)]
#[command(about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The configuration file [default: $TENANTRY_CONFIG, else config.yaml, else the one inside the
    /// program]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default); SIGTERM or Ctrl-C stops it after its running requests
    Serve,
    /// Validate the configuration
    Check {
        /// Also reach the provider and every tenant's database
        #[arg(long)]
        connect: bool,
        /// Instead ask the running server of this configuration whether it is alive; for health
        /// checks
        #[arg(long, conflicts_with = "connect")]
        live: bool,
    },
    /// Write a first configuration file; asks for everything that no flag sets
    Init(init::Flags),
    /// Apply the migrations to each tenant's database; running it again resumes
    Migrate(migrate::Flags),
    /// List the tenants that the provider knows
    Tenants {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Write declared tables from a database, or compare databases with them
    Tables {
        #[command(subcommand)]
        command: tables::TablesCommand,
    },
    /// Print the OpenAPI document for this configuration
    Openapi {
        /// The form to print it in
        #[arg(long, value_enum, default_value_t = DocumentFormat::Json)]
        format: DocumentFormat,
    },
    /// Print the configuration's JSON Schema
    Schema,
    /// List every resolver, provider and driver built in
    Plugins {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DocumentFormat {
    Json,
    Yaml,
}

/// Why a command ended without doing its work.
pub(crate) enum Stop {
    /// The command line or the configuration is wrong.
    Misuse(String),
    /// The command failed.
    Failure(String),
}

impl From<config::Faults> for Stop {
    fn from(faults: config::Faults) -> Self {
        Self::Misuse(faults.to_string())
    }
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(faults) => faults.into(),
            StartError::Telemetry(_) => Self::Misuse(report::chain(&error)),
            other => Self::Failure(report::chain(&other)),
        }
    }
}

/// Runs the command of the command line.
pub(crate) fn run(app: App) -> ExitCode {
    let arguments = arguments(&app.product);
    ended(prepare(app, arguments))
}

/// Parses the command line, under the product's own name. If it is wrong, this ends the process.
fn arguments(product: &Product) -> Arguments {
    let mut command = Arguments::command()
        .name(product.name.clone())
        .version(product.version.clone());
    if let Some(description) = &product.description {
        command = command.about(description.clone());
    }
    let matches = command.clone().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

fn prepare(mut app: App, arguments: Arguments) -> Result<u8, Stop> {
    let command = match arguments.command.unwrap_or(Command::Serve) {
        // These need no configuration.
        Command::Schema => return lists::schema(&app.registry),
        Command::Plugins { json } => return lists::plugins(&app.registry, json),
        Command::Init(flags) => return init::run(&app.registry, flags.or_to(arguments.config)),
        command => command,
    };
    let absent = match &command {
        Command::Tables { command } => command.absent(),
        _ => Absent::Refused,
    };
    let loaded = app.load(arguments.config.as_deref(), absent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::Failure(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(dispatch(command, loaded, app));
    // A task that hangs, in a driver's blocking code, must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn dispatch(command: Command, loaded: Loaded, mut app: App) -> Result<u8, Stop> {
    app.refuse_faults(&loaded).await?;
    match command {
        Command::Serve => serve(loaded, app).await,
        Command::Check { live: true, .. } => live::run(&loaded).await,
        Command::Check { connect, .. } => {
            with_built(app, loaded, async |installation, parts| {
                until_signalled(check::run(installation, parts.apis, connect)).await
            })
            .await
        }
        Command::Migrate(flags) => {
            with_built(app, loaded, async |installation, _| {
                migrate::run(installation, flags).await
            })
            .await
        }
        Command::Tenants { json } => {
            with_built(app, loaded, async |installation, _| {
                until_signalled(lists::tenants(installation, json)).await
            })
            .await
        }
        Command::Tables { command } => {
            with_built(app, loaded, async |installation, _| {
                until_signalled(tables::run(installation, command)).await
            })
            .await
        }
        Command::Openapi { format } => {
            with_built(app, loaded, async |installation, parts| {
                lists::openapi(installation, parts.apis, format == DocumentFormat::Yaml)
            })
            .await
        }
        // `prepare` has run these already; the compiler wants them here.
        Command::Schema => lists::schema(&app.registry),
        Command::Plugins { json } => lists::plugins(&app.registry, json),
        Command::Init(flags) => init::run(&app.registry, flags),
    }
}

/// Serves until a signal stops it, which may come while the server is still being built.
async fn serve(loaded: Loaded, app: App) -> Result<u8, Stop> {
    let mut signals = Signals::listen().map_err(|error| Stop::Failure(format!("no signal can be awaited: {error}")))?;
    let telemetry = Telemetry::of_process(&loaded).map_err(StartError::from)?;
    let (installation, parts) = tokio::select! {
        built = app.build(loaded, telemetry) => built?,
        _ = signals.next() => {
            tracing::info!("stopped before it listened");
            return Ok(DONE);
        }
    };
    installation.serve(parts, signals).await.map_err(StartError::from)?;
    Ok(DONE)
}

/// Builds the installation for a command that does not serve, runs the command, and gives back the
/// leases of the secrets that it read. No telemetry is sent.
async fn with_built(
    app: App,
    loaded: Loaded,
    command: impl AsyncFnOnce(&Installation, AppParts) -> Result<u8, Stop>,
) -> Result<u8, Stop> {
    let grace = loaded.config.server.shutdown_grace.into();
    let telemetry = Telemetry::of_command(&loaded).map_err(StartError::from)?;
    let (installation, parts) = app.build(loaded, telemetry).await?;
    let outcome = command(&installation, parts).await;
    installation.tenants().shutdown(grace).await;
    outcome
}

/// The tenants that the provider names, by id. If there is none, a warning says where to look: a
/// wrong place looks like an empty one.
async fn listed(installation: &Installation) -> Result<Vec<TenantId>, Stop> {
    let listed = installation.tenants().list().await;
    let unlisted = |error| Stop::Failure(format!("the tenants cannot be listed: {}", report::chain(&error)));
    let mut ids = listed.map_err(unlisted)?;
    ids.sort_unstable();
    if ids.is_empty() {
        report::note(format_args!(
            "warning: the provider names no tenant; check the place that `tenancy.provider` names, and `app.environment`, \
             which is `{}`",
            installation.loaded().config.app.environment
        ));
    }
    Ok(ids)
}

/// Ends a command at SIGTERM or Ctrl-C, so that the leases of its secrets are given back; a second
/// signal ends the process at once.
async fn until_signalled(command: impl Future<Output = Result<u8, Stop>>) -> Result<u8, Stop> {
    // If this fails, a signal ends the process, as it does by default.
    let Ok(mut signals) = Signals::listen() else {
        return command.await;
    };
    tokio::select! {
        outcome = command => return outcome,
        _ = signals.next() => {}
    }
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(FAILED.into());
    });
    Err(Stop::Failure("ended by a signal".to_owned()))
}

fn ended(outcome: Result<u8, Stop>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Stop::Misuse(message)) => {
            report::note(format_args!("{message}"));
            ExitCode::from(MISUSED)
        }
        Err(Stop::Failure(message)) => {
            report::note(format_args!("{message}"));
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_writes_the_file_that_config_names() {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--resolver", "header", "--provider", "env", "--driver", "sqlite"];
        let run = |line: &[&str]| {
            let line = ["tenantry", "init"]
                .into_iter()
                .chain(flags)
                .chain(line.iter().copied());
            prepare(App::new(), Arguments::parse_from(line))
        };
        let (named, output) = (folder.path().join("named.yaml"), folder.path().join("output.yaml"));
        let config = ["--config", named.to_str().unwrap()];
        assert!(matches!(run(&config), Ok(DONE)));
        assert!(named.exists() && matches!(run(&config), Err(Stop::Failure(_))));
        let both = [config[0], config[1], "--output", output.to_str().unwrap()];
        assert!(matches!(run(&both), Ok(DONE)));
        assert!(output.exists());
    }

    #[test]
    fn every_command_is_documented() {
        fn names(command: &clap::Command, before: &str, found: &mut Vec<String>) {
            let name = format!("{before}{}", command.get_name());
            let below = command.get_subcommands().filter(|inner| inner.get_name() != "help");
            let count = found.len();
            below.for_each(|inner| names(inner, &format!("{name} "), found));
            // `tables` alone does nothing.
            if found.len() == count || !command.is_subcommand_required_set() {
                found.push(name);
            }
        }
        let mut found = Vec::new();
        for command in Arguments::command().get_subcommands() {
            names(command, "", &mut found);
        }
        assert!(found.len() >= 12, "{found:?}");
        let page = include_str!("../../docs/configuration.md");
        for command in found {
            let is_row = |line: &str| {
                let row = line.strip_prefix("| `").and_then(|row| row.strip_prefix(&command));
                row.is_some_and(|rest| rest.starts_with(['`', ' ']))
            };
            assert!(page.lines().any(is_row), "no row for `{command}`");
        }
    }
}
