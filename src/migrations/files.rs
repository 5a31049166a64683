//! Migrations as they are written: one folder for each kind of database, one file for each step.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
};

use include_dir::{Dir, include_dir};
use tenantry_core::{ScriptFault, TenantId};

use super::{
    applied::{Recorded, Row},
    text,
};
use name::FileName;

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// How the titles of files with sample rows begin, after the number.
const SAMPLE: &str = "sample_";

/// What a file of sample rows may say in place of the tenant's name.
const TENANT: &str = "{{tenant}}";

/// Why migrations could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A folder or a file cannot be read.
    #[error("`{}` cannot be read", .path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not text that a database could run.
    #[error("`{}`: {reason}", .path.display())]
    Text {
        /// Which one.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file's name is not `NNNN_name.sql`.
    #[error("`{file}` is not named like `0001_name.sql`, with lower-case letters, digits and underscores")]
    Name {
        /// Which one, with its folder.
        file: String,
    },
    /// A file is one of another tool's that cannot be applied once and in order.
    #[error("`{file}` {reason}")]
    Unsupported {
        /// Which one, with its folder.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Two files have the same number.
    #[error("`{first}` and `{second}` have the same number")]
    SameNumber {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// The folder holds no migrations at all.
    #[error("`{}` holds no folder with migrations, such as `postgresql`", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// One file.
#[derive(Debug)]
pub(super) struct Migration {
    /// The number that its name begins with.
    pub(super) version: i64,
    /// Its name without `.sql`: `0001_create_users`.
    pub(super) name: String,
    /// Whether it writes sample rows.
    pub(super) sample: bool,
    /// Whether it runs outside a transaction.
    pub(super) no_transaction: bool,
    /// What is written down when it was applied.
    pub(super) checksum: String,
    /// Other checksums of the same statements, as they may have been written down.
    same: Vec<String>,
    sql: String,
    /// What it has of another tool that Tenantry cannot apply. It matters if the file is pending.
    pub(super) fault: Option<ScriptFault>,
}

impl Migration {
    fn new(dialect: &str, name: &FileName<'_>, sql: String) -> Self {
        // A checkout may have turned the ends of the lines.
        let whole = sql.replace("\r\n", "\n");
        let (sql, outside, fault) = match text::up_section(&whole, dialect) {
            Ok(Some((up, outside))) => (up.to_owned(), outside, None),
            Ok(None) => (whole, false, None),
            Err(fault) => (whole, false, Some(fault)),
        };
        let bare = text::without_directive(&sql);
        // A record of the whole file is one of another file: its part `Down` has run too.
        let (checksum, same) = text::checksums(&sql, bare.as_deref());
        Self {
            version: name.version,
            name: name.name.to_owned(),
            sample: name.title.starts_with(SAMPLE),
            no_transaction: outside || bare.is_some(),
            checksum,
            same,
            sql,
            fault,
        }
    }

    /// Whether a checksum that was written down is of this file.
    pub(super) fn is(&self, checksum: &str) -> bool {
        self.checksum == checksum || self.same.iter().any(|same| same == checksum)
    }

    /// Whether it is named as Flyway names its files.
    pub(super) fn is_of_flyway(&self) -> bool {
        self.name.starts_with('V')
    }

    /// Whether its statements were applied under another version, by the row of that one. A file
    /// that was begun is known by its title, as it may have been corrected.
    pub(super) fn was_applied_as(&self, row: &Row) -> bool {
        let title = |name: &str| name.split_once('_').map(|(_, title)| title.to_owned());
        match &row.recorded {
            // Comments alone may be those of several files.
            Recorded::Whole(checksum) => self.is(checksum) && !text::is_comment(&self.sql),
            Recorded::Part(_) => title(&row.name) == title(&self.name),
        }
    }

    /// The script's text, unchanged.
    pub(super) fn text(&self) -> &str {
        &self.sql
    }

    /// The script to run for this tenant. In sample rows `{{tenant}}` is the tenant's name,
    /// whatever is not a letter or a digit being a hyphen, so that it is safe in a text and good in
    /// a host name.
    pub(super) fn script(&self, tenant: &TenantId) -> String {
        if !self.sample {
            return self.sql.clone();
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = tenant.as_str().chars().map(plain).collect();
        self.sql.replace(TENANT, &name)
    }
}

/// The files of every folder, by number.
#[derive(Debug, Default)]
pub(super) struct Files {
    folders: BTreeMap<String, BTreeMap<i64, Migration>>,
    /// Files outside these folders, and folders with files within these folders.
    misplaced: Vec<String>,
}

impl Files {
    /// Those inside the program.
    pub(super) fn embedded() -> Result<Self, FilesError> {
        let mut files = Self::default();
        for folder in EMBEDDED.dirs() {
            let dialect = folder.path().to_string_lossy();
            for file in folder.files() {
                let name = file.path().file_name().unwrap_or_default().to_string_lossy();
                files.add(&dialect, &name, || text::read(file.path(), file.contents().to_vec()))?;
            }
        }
        Ok(files)
    }

    /// Those inside a program of one's own: paths, `<dialect>/NNNN_name.sql`, and texts.
    pub(super) fn of_texts(
        texts: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
    ) -> Result<Self, FilesError> {
        let mut files = Self::default();
        for (path, sql) in texts {
            let path = path.as_ref();
            let misnamed = || FilesError::Name { file: path.to_owned() };
            let (dialect, name) = path.rsplit_once('/').ok_or_else(misnamed)?;
            let dialect = dialect.rsplit('/').next().unwrap_or(dialect);
            files.add(dialect, name, || Ok(sql.into()))?;
        }
        Ok(files)
    }

    /// Those in a folder.
    pub(super) async fn load(root: &Path) -> Result<Self, FilesError> {
        let mut files = Self::default();
        for (dialect, folder) in entries(root).await? {
            let metadata = tokio::fs::metadata(&folder)
                .await
                .map_err(|source| unreadable(&folder, source))?;
            if !metadata.is_dir() {
                files.misplaced.extend(Some(dialect).filter(|name| is_sql(name)));
                continue;
            }
            for (name, path) in entries(&folder).await? {
                let bytes = if is_sql(&name) {
                    tokio::fs::read(&path)
                        .await
                        .map_err(|source| unreadable(&path, source))?
                } else {
                    let is_folder = entries(&path)
                        .await
                        .is_ok_and(|within| within.keys().any(|name| is_sql(name)));
                    files.misplaced.extend(is_folder.then(|| format!("{dialect}/{name}")));
                    Vec::new()
                };
                files.add(&dialect, &name, || text::read(&path, bytes))?;
            }
        }
        if files.folders.is_empty() {
            return Err(FilesError::Empty { path: root.to_owned() });
        }
        Ok(files)
    }

    /// Adds a file. Files that are not SQL, such as a README, and files that undo another one are
    /// skipped.
    fn add(
        &mut self,
        dialect: &str,
        name: &str,
        text: impl FnOnce() -> Result<String, FilesError>,
    ) -> Result<(), FilesError> {
        let Some(file) = FileName::read(dialect, name)? else {
            return Ok(());
        };
        let migration = Migration::new(dialect, &file, text()?);
        match self
            .folders
            .entry(dialect.to_owned())
            .or_default()
            .entry(migration.version)
        {
            Entry::Vacant(entry) => {
                entry.insert(migration);
                Ok(())
            }
            Entry::Occupied(entry) => Err(FilesError::SameNumber {
                first: format!("{dialect}/{}.sql", entry.get().name),
                second: format!("{dialect}/{name}"),
            }),
        }
    }

    /// The names of the folders.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.keys().map(String::as_str)
    }

    /// What is not read, below the folder of all: files outside the folders, and folders within
    /// them that have files.
    pub(super) fn misplaced(&self) -> &[String] {
        &self.misplaced
    }

    /// Every file.
    pub(super) fn all(&self) -> impl Iterator<Item = &Migration> {
        self.folders.values().flat_map(BTreeMap::values)
    }

    /// The files for one kind of database, in order; `None` if there is no folder for it.
    pub(super) fn of(&self, dialect: &str) -> Option<impl Iterator<Item = &Migration>> {
        self.folders.get(dialect).map(BTreeMap::values)
    }
}

fn is_sql(name: &str) -> bool {
    name.ends_with(".sql")
}

/// What a folder holds, by name and sorted, but for what is hidden.
async fn entries(folder: &Path) -> Result<BTreeMap<String, PathBuf>, FilesError> {
    let failed = |source| unreadable(folder, source);
    let mut found = BTreeMap::new();
    let mut listing = tokio::fs::read_dir(folder).await.map_err(failed)?;
    while let Some(entry) = listing.next_entry().await.map_err(failed)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.insert(name, entry.path());
        }
    }
    Ok(found)
}

fn unreadable(path: &Path, source: io::Error) -> FilesError {
    FilesError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

mod name;
#[cfg(test)]
mod tests;
