//! `tenantry tables`: declared tables and what the tenants' databases have.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Subcommand;
use sea_orm::ConnectionTrait as _;
use tenantry_core::TenantId;
use tenantry_tables::{Catalogue, CatalogueReader, Tables};

use super::{DONE, FAILED, Stop, report};
use crate::{config, installation::Installation};

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// Write declared tables from a tenant's database; keeps your edits in an existing file
    Pull {
        /// The tenant to read
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// The file to write
        #[arg(long, value_name = "FILE", default_value = "tables.yaml")]
        output: PathBuf,
    },
    /// Compare tenants' databases with the declared tables
    Check {
        /// Only this tenant (may be given more than once)
        #[arg(long, value_name = "ID")]
        tenant: Vec<String>,
    },
}

/// The content of a file before its tables are pulled.
const PLACEHOLDER: &str = "tables: {}\n";

/// A temporary empty file for a first pull, since the configuration that names the file cannot be
/// read without it. It is removed again if nothing was pulled.
pub(super) struct Placeholder(PathBuf);

impl Placeholder {
    /// Creates the file that a command is about to write.
    pub(super) fn of(command: &TablesCommand) -> Option<Self> {
        let TablesCommand::Pull { output, .. } = command else {
            return None;
        };
        let made = fs::File::create_new(output).and_then(|mut file| file.write_all(PLACEHOLDER.as_bytes()));
        made.ok().map(|()| Self(output.clone()))
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        if fs::read_to_string(&self.0).is_ok_and(|text| text == PLACEHOLDER)
            && let Err(error) = fs::remove_file(&self.0)
        {
            eprintln!("warning: `{}` cannot be removed: {error}", self.0.display());
        }
    }
}

pub(super) async fn run(installation: &Installation, command: TablesCommand) -> Result<u8, Stop> {
    match command {
        TablesCommand::Pull { tenant, output } => pull(installation, &tenant, output).await,
        TablesCommand::Check { tenant } => check(installation, &tenant).await,
    }
}

async fn pull(installation: &Installation, tenant: &str, output: PathBuf) -> Result<u8, Stop> {
    let tenant = parse(installation, tenant)?;
    let existing = match fs::read_to_string(&output) {
        Ok(text) => Some(text).filter(|text| text != PLACEHOLDER),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Stop::Misuse(format!("`{}` cannot be read: {error}", output.display())));
        }
    };
    let declared: Option<Tables> = match &existing {
        Some(text) => Some(config::tables_of_file(&output, text)?),
        None => None,
    };
    let catalogue = read_prepared(installation, &tenant).await?;
    let known = existing.as_deref().zip(declared.as_ref());
    let pulled = tenantry_tables::pull(&catalogue, known);
    if existing.as_deref() != Some(&pulled.text) {
        fs::write(&output, &pulled.text)
            .map_err(|error| Stop::Failure(format!("`{}` cannot be written: {error}", output.display())))?;
    }
    for added in &pulled.added {
        report::print(format_args!("added {added}"))?;
    }
    for left in &pulled.left {
        eprintln!("warning: {left}");
    }
    let count = catalogue.table_count();
    report::print(format_args!("{}: {count} tables of `{tenant}`", output.display()))?;
    if count == 0 {
        eprintln!("warning: the database has no tables yet; `tenantry migrate` applies the tenant's migrations");
    }
    Ok(DONE)
}

async fn check(installation: &Installation, named: &[String]) -> Result<u8, Stop> {
    let Some(rest) = installation.rest() else {
        return Err(Stop::Misuse(
            "the configuration declares no tables: `rest` is not set".to_owned(),
        ));
    };
    if let Some(warning) = installation.unreachable_roles() {
        eprintln!("warning: {warning}");
    }
    let mut tenants = match named.is_empty() {
        true => {
            let listed = installation.tenants().list().await;
            listed.map_err(|error| Stop::Failure(format!("the tenants cannot be listed: {}", report::chain(&error))))?
        }
        false => named
            .iter()
            .map(|id| parse(installation, id))
            .collect::<Result<_, _>>()?,
    };
    tenants.sort_unstable();
    tenants.dedup();
    let progress = report::progress(tenants.len(), "comparing");
    let mut table = report::table(["tenant", "outcome", "difference"]);
    let mut differing = 0;
    for tenant in &tenants {
        let (outcome, differences) = match read(installation, tenant).await {
            Ok((catalogue, driver)) => {
                let differences = rest.differences(&driver.0, driver.1, &catalogue);
                (if differences.is_empty() { "ok" } else { "differs" }, differences)
            }
            Err(Stop::Failure(error) | Stop::Misuse(error)) => ("failed", vec![error]),
        };
        progress.inc(1);
        differing += usize::from(outcome != "ok");
        match differences.as_slice() {
            [] => drop(table.add_row([tenant.to_string(), outcome.to_owned(), String::new()])),
            several => several.iter().for_each(|difference| {
                table.add_row([tenant.to_string(), outcome.to_owned(), difference.clone()]);
            }),
        }
    }
    progress.finish_and_clear();
    report::print(&table)?;
    report::print(format_args!(
        "{} as declared, {differing} not",
        tenants.len() - differing
    ))?;
    Ok(if differing == 0 { DONE } else { FAILED })
}

fn parse(installation: &Installation, id: &str) -> Result<TenantId, Stop> {
    let parsed = installation.id_pattern().parse(id);
    parsed.map_err(|error| Stop::Misuse(format!("the tenant id {error}")))
}

/// Reads a tenant's catalogue after preparing its database as on any first connection, so that a
/// new database has its tables.
async fn read_prepared(installation: &Installation, tenant: &TenantId) -> Result<Catalogue, Stop> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Stop::Failure(format!("`{tenant}`: {}", report::chain(error)));
    let database = installation
        .tenants()
        .acquire(tenant)
        .await
        .map_err(|error| failed(&error))?;
    let reader = CatalogueReader::of_all(database.driver(), database.get_database_backend());
    let columns = database
        .query_all_raw(reader.columns())
        .await
        .map_err(|error| failed(&error))?;
    let keys = database
        .query_all_raw(reader.keys())
        .await
        .map_err(|error| failed(&error))?;
    reader.read(&columns, &keys).map_err(|error| failed(&error))
}

/// Reads a tenant's catalogue, with its driver's type and SQL.
async fn read(
    installation: &Installation,
    tenant: &TenantId,
) -> Result<(Catalogue, (String, sea_orm::DbBackend)), Stop> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Stop::Failure(format!("`{tenant}`: {}", report::chain(error)));
    let opened = installation.tenants().open_connection(tenant).await;
    let mut opened = opened.map_err(|error| failed(&error))?;
    let (name, backend) = (opened.driver.migration_dialect().to_owned(), opened.driver.backend());
    let reader = CatalogueReader::of_all(&name, backend);
    let connection = &mut opened.connection;
    let rows = async {
        let columns = connection.query(&reader.columns()).await?;
        let keys = connection.query(&reader.keys()).await?;
        Ok::<_, tenantry_core::DatabaseError>((columns, keys))
    };
    let rows = rows.await;
    opened.close().await;
    let (columns, keys) = rows.map_err(|error| failed(&error))?;
    let catalogue = reader.read(&columns, &keys).map_err(|error| failed(&error))?;
    Ok((catalogue, (name, backend)))
}
