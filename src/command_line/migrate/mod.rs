//! `tenantry migrate`: migrates every tenant's database, wave after wave. A failure of one tenant
//! does not stop the others until the stop rule does.
//!
//! A run has no state of its own. Each tenant's database records what was applied to it, so a run
//! that was killed goes on when it is started again, and the lock of [`crate::migrations`] in that
//! database keeps two runs, or a run and a server, apart. Nothing reads the report that `journal`
//! writes.

mod adopt;
mod apply;
mod drift;
mod flags;
mod journal;
mod outcome;
mod status;
mod waves;

use std::{collections::BTreeSet, io::Write as _};

use serde::Serialize;
use tenantry_core::TenantId;

use super::{Stop, listed, report, until_signalled};
use crate::installation::Installation;
use flags::Command;
pub(super) use flags::Flags;

pub(super) async fn run(installation: &Installation, flags: Flags) -> Result<u8, Stop> {
    for warning in installation.unread_folders() {
        report::note(format_args!("warning: {warning}"));
    }
    match flags.command {
        None => apply::run(installation, flags.apply).await,
        Some(Command::Status(flags)) => until_signalled(status::run(installation, flags)).await,
        Some(Command::Adopt(flags)) => until_signalled(adopt::run(installation, flags)).await,
    }
}

/// The tenants that a command is for: those that are named, else all.
async fn tenants(installation: &Installation, only: &[String]) -> Result<BTreeSet<TenantId>, Stop> {
    if only.is_empty() {
        return Ok(listed(installation).await?.into_iter().collect());
    }
    let parse = |raw: &String| {
        let malformed = |error| Stop::Misuse(format!("--tenant: the id {error}"));
        installation.id_pattern().parse(raw).map_err(malformed)
    };
    only.iter().map(parse).collect()
}

/// Prints `{"tenants":[...]}`, one tenant after another.
fn print_json<T: Serialize>(tenants: impl Iterator<Item = T>) -> Result<(), Stop> {
    let write = || -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        out.write_all(b"{\"tenants\":[")?;
        for (index, tenant) in tenants.enumerate() {
            out.write_all(if index == 0 { b"" } else { b",\n" })?;
            serde_json::to_writer(&mut out, &tenant)?;
        }
        out.write_all(b"]}\n")?;
        out.flush()
    };
    match write() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Stop::Failure(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
