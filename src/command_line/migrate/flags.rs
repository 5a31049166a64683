//! The flags of `tenantry migrate`.

use clap::{Args, Subcommand, ValueEnum};

use super::waves::{StopAfter, Wave};

/// `tenantry migrate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::command_line) struct Flags {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) apply: Apply,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every tenant's version, pending and failed files, and differences; changes nothing
    Status(Status),
    /// Record the migrations up to a version as applied, for databases that already have them
    Adopt(Adopt),
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Only this tenant (may be given more than once)
    #[arg(long, value_name = "ID")]
    pub(super) tenant: Vec<String>,
    /// The tenants to migrate before any others: the next N, the next ones up to P% of all, or
    /// these ids (may be given more than once) [default: all tenants at once]
    #[arg(long, value_name = "N|P%|ID,..")]
    pub(super) wave: Vec<Wave>,
    /// Start no other tenant after this many failures: a number, or a percentage of all tenants
    #[arg(long, value_name = "N|P%")]
    pub(super) stop_after: Option<StopAfter>,
    /// Apply nothing after this version
    #[arg(long, value_name = "VERSION")]
    pub(super) to: Option<String>,
    /// How many tenants to migrate at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) parallel: u16,
    /// Show what would be applied, and apply nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only tenants with a failed last migration, or tenants that are behind; an unreachable tenant
    /// is both
    #[arg(long, value_enum)]
    pub(super) only: Option<Only>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Only {
    /// Tenants with a failed file.
    Failed,
    /// Tenants with pending files.
    Behind,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this tenant (may be given more than once)
    #[arg(long, value_name = "ID")]
    pub(super) tenant: Vec<String>,
    /// Compare each database with this tenant's, instead of with the majority
    #[arg(long, value_name = "ID")]
    pub(super) template: Option<String>,
    /// How many tenants to check at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) parallel: u16,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// The last version that the databases have, such as 0004
    pub(super) version: String,
    /// Only this tenant (may be given more than once)
    #[arg(long, value_name = "ID")]
    pub(super) tenant: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
