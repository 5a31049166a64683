//! Migrations as they are written: one folder for each kind of database, one file for each step.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
};

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};
use tenantry_core::TenantId;

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// Files whose name begins so hold sample rows.
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
    /// A file's name is not `NNNN_name.sql`.
    #[error("`{file}` is not named like `0001_name.sql`, with lower-case letters, digits and underscores")]
    Name {
        /// Which one, with its folder.
        file: String,
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
    /// SHA-256 of the text, in hexadecimal.
    pub(super) checksum: String,
    sql: String,
}

impl Migration {
    fn new(folder: &str, file: &str, sql: String) -> Result<Self, FilesError> {
        let wrong = || FilesError::Name {
            file: format!("{folder}/{file}"),
        };
        let name = file.strip_suffix(".sql").ok_or_else(wrong)?;
        let (number, title) = name.split_once('_').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if title.is_empty() || !title.chars().all(plain) || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        // A checkout may have turned the ends of the lines.
        let sql = sql.replace("\r\n", "\n");
        Ok(Self {
            version: number.parse().map_err(|_| wrong())?,
            name: name.to_owned(),
            sample: title.starts_with(SAMPLE),
            checksum: Sha256::digest(&sql).iter().map(|byte| format!("{byte:02x}")).collect(),
            sql,
        })
    }

    /// The script to run for this tenant. In sample rows `{{tenant}}` is the tenant's name, whatever is not a letter or a digit
    /// being a hyphen, so that it is safe in a text and good in a host name.
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
pub(super) struct Files(BTreeMap<String, BTreeMap<i64, Migration>>);

impl Files {
    /// Those inside the program.
    pub(super) fn embedded() -> Result<Self, FilesError> {
        let mut files = Self::default();
        for folder in EMBEDDED.dirs() {
            let dialect = folder.path().to_string_lossy();
            for file in folder.files() {
                let name = file.path().file_name().unwrap_or_default().to_string_lossy();
                let text = file.contents_utf8().map(str::to_owned);
                files.add(&dialect, &name, || text.ok_or_else(|| not_utf8(file.path())))?;
            }
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
                continue;
            }
            for (name, path) in entries(&folder).await? {
                let text = if name.ends_with(".sql") {
                    tokio::fs::read_to_string(&path)
                        .await
                        .map_err(|source| unreadable(&path, source))?
                } else {
                    String::new()
                };
                files.add(&dialect, &name, || Ok(text))?;
            }
        }
        if files.0.is_empty() {
            return Err(FilesError::Empty { path: root.to_owned() });
        }
        Ok(files)
    }

    /// Adds a file; one that is no SQL, such as a README, is passed over.
    fn add(
        &mut self,
        dialect: &str,
        name: &str,
        text: impl FnOnce() -> Result<String, FilesError>,
    ) -> Result<(), FilesError> {
        if !name.ends_with(".sql") {
            return Ok(());
        }
        let migration = Migration::new(dialect, name, text()?)?;
        match self.0.entry(dialect.to_owned()).or_default().entry(migration.version) {
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

    /// The files for one kind of database, in order; `None` where there is no folder for it.
    pub(super) fn of(&self, dialect: &str) -> Option<impl Iterator<Item = &Migration>> {
        self.0.get(dialect).map(BTreeMap::values)
    }
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

fn not_utf8(path: &Path) -> FilesError {
    unreadable(path, io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(file: &str, sql: &str) -> Result<Migration, FilesError> {
        Migration::new("sqlite", file, sql.to_owned())
    }

    #[test]
    fn a_name_tells_number_and_kind() {
        let create = migration("0001_create_users.sql", "").unwrap();
        assert_eq!(
            (create.version, create.name.as_str(), create.sample),
            (1, "0001_create_users", false)
        );
        let sample = migration("20260102_sample_users.sql", "").unwrap();
        assert_eq!((sample.version, sample.sample), (20_260_102, true));
        for wrong in [
            "create.sql",
            "1.sql",
            "1_.sql",
            "x_y.sql",
            "_y.sql",
            "+1_y.sql",
            "1_Y.sql",
            "1_a b.sql",
            "99999999999999999999_y.sql",
        ] {
            let error = migration(wrong, "").unwrap_err();
            assert!(error.to_string().contains(&format!("`sqlite/{wrong}`")), "{error}");
        }
    }

    #[test]
    fn a_checksum_is_of_the_text_whatever_ends_its_lines() {
        let checksum = |sql: &str| migration("1_x.sql", sql).unwrap().checksum;
        assert_eq!(checksum("a\nb\n"), checksum("a\r\nb\r\n"));
        assert_ne!(checksum("a\nb"), checksum("a\nc"));
        assert_eq!(
            checksum(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_tenant_s_name_stands_in_sample_rows_only_and_breaks_out_of_no_text() {
        let tenant: TenantId = "a_b-1".parse().unwrap();
        let sql = "INSERT '{{tenant}}'";
        assert_eq!(
            migration("2_sample_x.sql", sql).unwrap().script(&tenant),
            "INSERT 'a-b-1'"
        );
        assert_eq!(migration("2_x.sql", sql).unwrap().script(&tenant), sql);
        let odd = tenantry_core::TenantIdPattern::new(".*")
            .unwrap()
            .parse("x');DROP")
            .unwrap();
        assert_eq!(
            migration("2_sample_x.sql", sql).unwrap().script(&odd),
            "INSERT 'x---DROP'"
        );
    }

    #[test]
    fn every_dialect_inside_the_program_has_the_same_steps() {
        let files = Files::embedded().unwrap();
        let names = |dialect: &str| -> Vec<String> { files.of(dialect).unwrap().map(|m| m.name.clone()).collect() };
        let steps = names("postgresql");
        assert!(steps.len() >= 2);
        for dialect in files.0.keys() {
            assert_eq!(names(dialect), steps, "{dialect}");
        }
        assert!(files.of("sqlite").is_some() && files.of("mysql").is_some());
    }

    #[tokio::test]
    async fn a_folder_is_read_and_its_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Files::load(folder.path());
        assert!(matches!(load().await, Err(FilesError::Empty { .. })));
        let sqlite = folder.path().join("sqlite");
        std::fs::create_dir(&sqlite).unwrap();
        for (file, text) in [
            ("10_b.sql", "b"),
            ("9_a.sql", "a"),
            ("README.md", "x"),
            (".hidden.sql", "x"),
        ] {
            std::fs::write(sqlite.join(file), text).unwrap();
        }
        let files = load().await.unwrap();
        let order: Vec<i64> = files.of("sqlite").unwrap().map(|m| m.version).collect();
        assert_eq!(order, [9, 10]);
        assert!(files.of("oracle").is_none());
        std::fs::write(sqlite.join("009_c.sql"), "c").unwrap();
        let error = load().await.unwrap_err().to_string();
        assert!(
            error.contains("sqlite/009_c.sql") && error.contains("sqlite/9_a.sql"),
            "{error}"
        );
        let absent = Files::load(&folder.path().join("absent")).await.unwrap_err();
        assert!(matches!(absent, FilesError::Unreadable { .. }));
    }
}
