//! `tenantry tables`: declared tables and what the tenants' databases have.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use futures_util::{StreamExt as _, stream};
use sea_orm::{ConnectionTrait as _, DbErr};
use tenantry_core::{
    DatabaseError, Purpose, TenantId,
    engine::{AcquireError, OpenedConnection, SchemaVersion},
};
use tenantry_tables::{Catalogue, CatalogueReader, Rest, TableDeclaration, Tables};

use super::{DONE, FAILED, Stop, listed, report};
use crate::{
    config::{self, Absent},
    installation::Installation,
    migrations::{Choice, MigrationError},
};

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// Write declared tables from a tenant's database; keeps your edits in an existing file
    Pull {
        /// The tenant to read
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// The file to write: by default the one that `rest.tables` names, else tables.yaml
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare tenants' databases with the declared tables
    Check {
        /// Only this tenant (may be given more than once)
        #[arg(long, value_name = "ID")]
        tenant: Vec<String>,
    },
}

impl TablesCommand {
    /// What is done if there is no file with tables.
    pub(super) fn absent(&self) -> Absent {
        match self {
            Self::Pull { .. } => Absent::Empty,
            Self::Check { .. } => Absent::Refused,
        }
    }
}

/// The file that is written if the configuration names none.
const DEFAULT_OUTPUT: &str = "tables.yaml";

pub(super) async fn run(installation: &Installation, command: TablesCommand) -> Result<u8, Stop> {
    match command {
        TablesCommand::Pull { tenant, output } => pull(installation, &tenant, output).await,
        TablesCommand::Check { tenant } => check(installation, &tenant).await,
    }
}

async fn pull(installation: &Installation, tenant: &str, output: Option<PathBuf>) -> Result<u8, Stop> {
    let tenant = parse(installation, tenant)?;
    let output = output.unwrap_or_else(|| match &installation.loaded().tables_file {
        Some(file) => file.strip_prefix(".").unwrap_or(file).to_owned(),
        None => PathBuf::from(DEFAULT_OUTPUT),
    });
    let existing = match fs::read_to_string(&output) {
        Ok(text) => Some(text).filter(|text| !text.trim().is_empty()),
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
        // A file that was in order stays so.
        let is_in_order = |tables: &Tables| TableDeclaration::check_all(tables).is_empty();
        if declared.as_ref().is_none_or(is_in_order) && !is_in_order(&config::tables_of_file(&output, &pulled.text)?) {
            return Err(Stop::Failure(format!(
                "what the database has cannot be added to `{}`, which stays as it is: pull into another file with `--output`, \
                 and copy from it",
                output.display()
            )));
        }
        replace(&output, &pulled.text)
            .map_err(|error| Stop::Failure(format!("`{}` cannot be written: {error}", output.display())))?;
    }
    for added in &pulled.added {
        report::print(format_args!("added {added}"))?;
    }
    for left in &pulled.left {
        report::note(format_args!("warning: {left}"));
    }
    let count = catalogue.table_count();
    report::print(format_args!("{}: {count} tables of `{tenant}`", output.display()))?;
    if count == 0 {
        report::note(format_args!(
            "warning: the database has no tables yet; `tenantry migrate` applies the tenant's migrations"
        ));
    }
    Ok(DONE)
}

/// Writes a file beside an existing one and renames it, so that the existing one is never half
/// written. A link stays, and the file that it leads to is replaced.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = fs::File::create_new(&beside).and_then(|mut file| {
        if let Ok(existing) = fs::metadata(&path) {
            file.set_permissions(existing.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&beside, &path));
    if replaced.is_err() && fs::remove_file(&beside).is_err() {
        report::note(format_args!("warning: `{}` may be left over", beside.display()));
    }
    replaced
}

/// How many tenants are compared at once.
const AT_ONCE: usize = 8;

async fn check(installation: &Installation, named: &[String]) -> Result<u8, Stop> {
    let Some(rest) = installation.rest() else {
        return Err(Stop::Misuse(
            "the configuration declares no tables: `rest` is not set".to_owned(),
        ));
    };
    if let Some(warning) = installation.unreachable_roles() {
        report::note(format_args!("warning: {warning}"));
    }
    let mut tenants = match named.is_empty() {
        true => listed(installation).await?,
        false => named
            .iter()
            .map(|id| parse(installation, id))
            .collect::<Result<_, _>>()?,
    };
    tenants.sort_unstable();
    tenants.dedup();
    let progress = report::progress(tenants.len(), "comparing");
    let mut table = report::table(["tenant", "outcome", "difference"]);
    let (mut differing, mut as_declared) = (0, 0);
    let compared = stream::iter(&tenants)
        .map(|tenant| async move { (tenant, differences(installation, rest, tenant).await) })
        .buffered(AT_ONCE)
        .inspect(|_| progress.inc(1));
    let compared: Vec<_> = compared.collect().await;
    for (tenant, found) in compared {
        let (outcome, differences) = match found {
            Ok(Some(differences)) if differences.is_empty() => ("ok", differences),
            Ok(Some(differences)) => ("differs", differences),
            Ok(None) if named.is_empty() => {
                report::left_out(tenant);
                continue;
            }
            Ok(None) => ("failed", vec![AcquireError::Unknown.to_string()]),
            Err(Stop::Failure(error) | Stop::Misuse(error)) => ("failed", vec![error]),
        };
        match outcome {
            "ok" => as_declared += 1,
            _ => differing += 1,
        }
        match differences.as_slice() {
            [] => drop(table.add_row([tenant.to_string(), outcome.to_owned(), String::new()])),
            several => several.iter().for_each(|difference| {
                table.add_row([tenant.to_string(), outcome.to_owned(), difference.clone()]);
            }),
        }
    }
    progress.finish_and_clear();
    report::print(&table)?;
    report::print(format_args!("{as_declared} as declared, {differing} not"))?;
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
    // SeaORM's error hides its causes.
    let refused = |error: DbErr| match DatabaseError::find(&error) {
        Some(found) => failed(found),
        None => failed(&error),
    };
    let database = installation
        .tenants()
        .acquire(tenant)
        .await
        .map_err(|error| failed(&error))?;
    let reader = CatalogueReader::of_all(database.driver(), database.get_database_backend());
    let mut columns = database.query_all_raw(reader.columns()).await.map_err(refused)?;
    if let Some(views) = reader.views() {
        for view in database.query_all_raw(views).await.map_err(refused)? {
            let view: String = view.try_get_by_index(0).map_err(refused)?;
            match database.query_all_raw(reader.columns_of_view(&view)).await {
                Ok(found) => columns.extend(found),
                Err(error) => report::note(format_args!(
                    "warning: the view `{view}` is left out, since its columns cannot be read: {}",
                    report::chain(&error)
                )),
            }
        }
    }
    let keys = database.query_all_raw(reader.keys()).await.map_err(refused)?;
    reader.read(&columns, &keys).map_err(refused)
}

/// How a tenant's database differs from the declared tables. None if the provider has no secret for
/// the tenant.
async fn differences(installation: &Installation, rest: &Rest, tenant: &TenantId) -> Result<Option<Vec<String>>, Stop> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Stop::Failure(format!("`{tenant}`: {}", report::chain(error)));
    let mut opened = match installation.tenants().open_connection(tenant, Purpose::Look).await {
        Ok(opened) => opened,
        Err(AcquireError::Unknown) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let (name, backend) = (opened.driver.migration_dialect().to_owned(), opened.driver.backend());
    let version = match rest.needs_version() {
        true => version(installation, &mut opened).await,
        false => Ok(None),
    };
    let reader = rest.catalogue_reader(&name, backend);
    let connection = &mut opened.connection;
    let rows = async {
        let columns = connection.query(&reader.columns()).await?;
        let mut unique = Vec::new();
        for statement in rest.key_statements(&name, backend) {
            unique.push(connection.query(&statement).await?);
        }
        Ok::<_, tenantry_core::DatabaseError>((columns, unique))
    };
    let rows = rows.await;
    opened.close().await;
    let version = version.map_err(|error| failed(&error))?;
    let (columns, unique) = rows.map_err(|error| failed(&error))?;
    let catalogue = reader.read(&columns, &[]).map_err(|error| failed(&error))?;
    let mut differences = rest.differences(&name, backend, version.as_ref(), &catalogue);
    let keys = rest.key_differences(&name, backend, &catalogue, &unique);
    differences.extend(keys.map_err(|error| failed(&error))?);
    Ok(Some(differences))
}

/// How far a tenant's migrations are; `None` if that cannot be said, as for a server.
async fn version(
    installation: &Installation,
    opened: &mut OpenedConnection,
) -> Result<Option<SchemaVersion>, MigrationError> {
    let connection = &mut *opened.connection;
    let looked = installation
        .migrations()
        .look_quietly(&*opened.driver, connection, Choice::default());
    match looked.await {
        Ok(state) => Ok(Some(state.into())),
        Err(MigrationError::Table(error)) if error.kind.breaks_connection() => Err(MigrationError::Table(error)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables.yaml");
        replace(&path, "one").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let link = folder.path().join("link.yaml");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            let before = fs::metadata(&path).unwrap();
            replace(&link, "two").unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!(after.permissions().mode() & 0o777, 0o640);
            assert_ne!(before.ino(), after.ino(), "it is another file");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        replace(&path, "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        let names = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("tmp")));
    }
}
