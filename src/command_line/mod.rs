//! The command line: what an operator types.

mod check;
mod init;
mod lists;
mod live;
mod migrate;
mod report;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use tenantry_core::Registry;
use tenantry_openapi::ApiSet;

use crate::{
    App,
    background::BackgroundWork,
    config::{self, Environment, Loaded},
    installation::Installation,
    telemetry::Telemetry,
};

/// Everything went well.
const DONE: u8 = 0;
/// It was tried and failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was tried.
const MISUSED: u8 = 2;

/// Gives each request the database of its own tenant.
#[derive(Debug, Parser)]
#[command(name = "tenantry", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The configuration file [default: $TENANTRY_CONFIG, else config.yaml, else the one inside the program]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default); SIGTERM or Ctrl-C drains and closes it
    Serve,
    /// Validate the configuration
    Check {
        /// Also reach the provider and every tenant's database
        #[arg(long)]
        connect: bool,
        /// Ask the running server of this configuration whether it lives, instead; for health checks
        #[arg(long, conflicts_with = "connect")]
        live: bool,
    },
    /// Write a configuration file to begin with, after asking for what no flag says
    Init(init::Flags),
    /// Apply the migrations to each tenant's database; running it again resumes
    Migrate {
        /// Only this tenant (may be given more than once)
        #[arg(long, value_name = "ID")]
        tenant: Vec<String>,
        /// How many tenants at once
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
        parallel: u16,
        /// Only tell what would be applied
        #[arg(long)]
        dry_run: bool,
    },
    /// List the tenants the provider knows
    Tenants {
        /// As a JSON array
        #[arg(long)]
        json: bool,
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
    /// The configuration is wrong.
    Misuse(String),
    /// It was tried and failed.
    Failure(String),
}

impl From<config::Faults> for Stop {
    fn from(faults: config::Faults) -> Self {
        Self::Misuse(faults.to_string())
    }
}

/// Runs what the command line says.
pub(crate) fn run(app: App) -> ExitCode {
    ended(prepare(app, Arguments::parse()))
}

fn prepare(app: App, arguments: Arguments) -> Result<u8, Stop> {
    let App {
        registry,
        apis,
        background,
    } = app;
    let registry = Arc::new(registry);
    let command = arguments.command.unwrap_or(Command::Serve);
    let command = match command {
        // These need no configuration.
        Command::Schema => return lists::schema(&registry),
        Command::Plugins { json } => return lists::plugins(&registry, json),
        Command::Init(flags) => return init::run(&registry, flags),
        command => command,
    };
    let loaded = config::load(arguments.config.as_deref(), &Environment::of_process(), &registry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::Failure(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(dispatch(command, loaded, registry, apis, background));
    // A task that hangs, in a driver's blocking code, must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn dispatch(
    command: Command,
    loaded: Loaded,
    registry: Arc<Registry>,
    apis: ApiSet,
    background: BackgroundWork,
) -> Result<u8, Stop> {
    match command {
        Command::Serve => {
            let telemetry =
                Telemetry::of_process(&loaded.config).map_err(|error| Stop::Misuse(report::chain(&error)))?;
            let installation = Installation::build_with(loaded, registry, telemetry).await?;
            installation
                .serve_with(apis, background)
                .await
                .map_err(|error| Stop::Failure(report::chain(&error)))?;
            Ok(DONE)
        }
        Command::Check { live: true, .. } => live::run(&loaded).await,
        Command::Check { connect, .. } => check::run(loaded, registry, apis, connect).await,
        Command::Migrate {
            tenant,
            parallel,
            dry_run,
        } => migrate::run(loaded, registry, tenant, usize::from(parallel), dry_run).await,
        Command::Tenants { json } => lists::tenants(loaded, registry, json).await,
        Command::Openapi { format } => lists::openapi(loaded, registry, apis, format == DocumentFormat::Yaml).await,
        Command::Schema => lists::schema(&registry),
        Command::Plugins { json } => lists::plugins(&registry, json),
        Command::Init(flags) => init::run(&registry, flags),
    }
}

fn ended(outcome: Result<u8, Stop>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Stop::Misuse(message)) => {
            eprintln!("{message}");
            ExitCode::from(MISUSED)
        }
        Err(Stop::Failure(message)) => {
            eprintln!("{message}");
            ExitCode::from(FAILED)
        }
    }
}
