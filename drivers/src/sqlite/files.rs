//! The files of SQLite's tenants: their places, their permissions, and the tenant that owns each.

use std::{
    collections::{HashMap, HashSet},
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tenantry_core::{DriverError, DriverErrorKind, SecretInvalid, TenantId};

/// The files below one folder.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: Arc<Path>,
    claims: Arc<Mutex<HashMap<FileId, Claim>>>,
    /// The files that were opened once. One that is missing later is not created again, as if it
    /// had never held anything.
    opened: Arc<Mutex<HashSet<PathBuf>>>,
}

/// The identity of a file, independent of the path, link or spelling that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// The owner of a file.
#[derive(Debug)]
struct Claim {
    tenant: TenantId,
    path: PathBuf,
    /// Whether it is the file of the tenant's present secret, as far as is known.
    current: bool,
    /// How many connections to it are open.
    open: usize,
}

impl Claim {
    /// Whether the file is still the tenant's. The system gives the number of a deleted file to
    /// another one.
    fn holds(&self, file: FileId) -> bool {
        let same = || std::fs::metadata(&self.path).is_ok_and(|found| FileId::of(&found) == file);
        self.open > 0 || (self.current && same())
    }
}

/// A file that a connection uses. The claim on it outlives the connection, until its tenant moves
/// to another file.
#[derive(Debug)]
pub(super) struct HeldFile {
    path: PathBuf,
    id: FileId,
    /// Whether nothing can be created beside it, and nothing is there that SQLite has left: then
    /// nothing changes it, and SQLite can read it without the files that it keeps beside it.
    pub(super) immutable: bool,
    /// The register of claims, if a tenant has claimed it.
    claims: Option<Files>,
}

impl HeldFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file was replaced or removed. SQLite would go on writing to the old one.
    pub(super) fn is_gone(&self) -> bool {
        !std::fs::metadata(&self.path).is_ok_and(|found| FileId::of(&found) == self.id)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let Some(files) = &self.claims else {
            return;
        };
        let mut claims = files.claims();
        if let Some(claim) = claims.get_mut(&self.id) {
            claim.open -= 1;
            if claim.open == 0 && !claim.current {
                claims.remove(&self.id);
            }
        }
    }
}

impl Files {
    pub(super) fn below(root: PathBuf) -> Self {
        Self {
            root: root.into(),
            claims: Arc::default(),
            opened: Arc::default(),
        }
    }

    /// Finds the file at `path` for a connection of `tenant`, and creates it if `create` is set.
    pub(super) fn open(&self, path: &Path, create: bool, tenant: Option<TenantId>) -> Result<HeldFile, DriverError> {
        let create = create && !self.opened().contains(path);
        let unreachable = |error| DriverError::new(DriverErrorKind::Unreachable, error);
        let found = place(&self.root, path, create)?;
        if create {
            create_file(&found).map_err(unreachable)?;
        }
        let id = match std::fs::metadata(&found) {
            Ok(found) => FileId::of(&found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DriverError::new(DriverErrorKind::DatabaseMissing, error));
            }
            Err(error) => return Err(unreachable(error)),
        };
        let claims = match tenant {
            Some(tenant) => {
                self.claim(&found, id, tenant)?;
                Some(self.clone())
            }
            None => None,
        };
        self.opened().insert(path.to_owned());
        Ok(HeldFile {
            path: found,
            id,
            immutable: false,
            claims,
        })
    }

    /// Finds the file at `path` for a connection of `tenant` that only looks. `None` is a missing
    /// file that [`open`](Self::open) would create: it is empty until then. A connection that
    /// `probes` is refused if one that serves requests could not write.
    pub(super) fn look(
        &self,
        path: &Path,
        create: bool,
        tenant: Option<TenantId>,
        probes: bool,
    ) -> Result<Option<HeldFile>, DriverError> {
        let mut found = match self.open(path, false, tenant) {
            Err(error) if error.kind == DriverErrorKind::DatabaseMissing && create && self.would_create(path) => None,
            found => Some(found?),
        };
        if probes {
            self.check_writable(path, found.as_ref().map(HeldFile::path))?;
        }
        if let Some(file) = &mut found {
            file.immutable = is_immutable(&file.path);
        }
        Ok(found)
    }

    /// Whether a missing file can be created: it was never opened, and no symbolic link on the way
    /// to it leads nowhere.
    fn would_create(&self, path: &Path) -> bool {
        let whole = self.root.join(path);
        let is_dangling = |part: &Path| part.is_symlink() && !part.exists();
        !self.opened().contains(path) && !whole.ancestors().any(is_dangling)
    }

    /// Checks that a connection could write the file at `path`, whose true path is `found`, or
    /// create it. Nothing is changed, and the file is not opened: a process that closes one loses
    /// the locks of its other connections to it (SQLite's "How To Corrupt An SQLite Database File",
    /// 2.2).
    fn check_writable(&self, path: &Path, found: Option<&Path>) -> Result<(), DriverError> {
        let whole = found.map_or_else(|| self.root.join(path), Path::to_owned);
        let folder = whole.ancestors().skip(1).find(|folder| folder.exists());
        for (what, path) in [("file", found), ("folder", folder)] {
            let Some(path) = path else { continue };
            if let Err(error) = is_writable(path) {
                let error = io::Error::new(
                    error.kind(),
                    format!("the database's {what} cannot be written: {error}"),
                );
                return Err(DriverError::new(DriverErrorKind::Unreachable, error));
            }
        }
        Ok(())
    }

    /// Makes the file this tenant's, unless it is another's. The file of the tenant's secret before
    /// this one is its own only until the connections to it are closed.
    fn claim(&self, path: &Path, file: FileId, tenant: TenantId) -> Result<(), DriverError> {
        let mut claims = self.claims();
        claims.retain(|known, claim| {
            claim.current &= claim.tenant != tenant || *known == file;
            claim.current || claim.open > 0
        });
        match claims.get_mut(&file) {
            Some(claim) if claim.tenant == tenant => {
                claim.current = true;
                claim.open += 1;
            }
            Some(claim) if claim.holds(file) => {
                let error = SecretInvalid::new("path", "leads to the file of another tenant");
                return Err(DriverError::new(DriverErrorKind::Invalid, error));
            }
            _ => {
                let claim = Claim {
                    tenant,
                    path: path.to_owned(),
                    current: true,
                    open: 1,
                };
                claims.insert(file, claim);
            }
        }
        Ok(())
    }

    fn opened(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<FileId, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates folders that only the server's user may enter.
fn private_folders(recursive: bool) -> DirBuilder {
    let mut folders = DirBuilder::new();
    folders.recursive(recursive).mode(0o700);
    folders
}

/// Creates a missing file that only the server's user may read. SQLite gives the files that it
/// keeps beside it the same permissions.
fn create_file(path: &Path) -> io::Result<()> {
    let created: io::Result<File> = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether nothing can be created beside a file, and SQLite has left nothing there.
fn is_immutable(path: &Path) -> bool {
    let is_beside = |end: &str| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(end);
        Path::new(&beside).exists()
    };
    path.parent().is_some_and(|folder| is_writable(folder).is_err()) && !["-wal", "-journal"].into_iter().any(is_beside)
}

#[cfg(unix)]
fn is_writable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

#[cfg(not(unix))]
fn is_writable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path)?.permissions().readonly() {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

/// Returns the file's true path below `root`, and creates its folders if `create` is set. Each step
/// is checked before the next is made, so that a symbolic link that leads out of `root` is not
/// followed.
fn place(root: &Path, path: &Path, create: bool) -> Result<PathBuf, DriverError> {
    let unreachable = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound if !create => DriverErrorKind::DatabaseMissing,
            _ => DriverErrorKind::Unreachable,
        };
        DriverError::new(kind, error)
    };
    let outside = || {
        let error = SecretInvalid::new("path", "leads out of the driver's `root`");
        DriverError::new(DriverErrorKind::Invalid, error)
    };
    if create {
        private_folders(true).create(root).map_err(unreachable)?;
    }
    let root = root.canonicalize().map_err(unreachable)?;
    let mut place = root.clone();
    if let Some(folders) = path.parent() {
        for folder in folders.components() {
            place.push(folder);
            if create
                && let Err(error) = private_folders(false).create(&place)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(unreachable(error));
            }
            place = place.canonicalize().map_err(unreachable)?;
            if !place.starts_with(&root) {
                return Err(outside());
            }
        }
    }
    let Some(name) = path.file_name() else {
        return Err(outside());
    };
    place.push(name);
    match std::fs::symlink_metadata(&place) {
        Ok(found) if found.is_symlink() => {
            // SQLite would create the missing target of a dangling link.
            let target = place.canonicalize().map_err(|error| match create {
                true => outside(),
                false => unreachable(error),
            })?;
            if target.starts_with(&root) {
                Ok(target)
            } else {
                Err(outside())
            }
        }
        Ok(found) if found.is_dir() => {
            let error = SecretInvalid::new("path", "names a folder");
            Err(DriverError::new(DriverErrorKind::Invalid, error))
        }
        Ok(_) => Ok(place),
        Err(error) if create && error.kind() == io::ErrorKind::NotFound => Ok(place),
        Err(error) => Err(unreachable(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Root may write everywhere, so this shows something for other users only.
    #[test]
    fn what_could_not_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path().join("data"));
        assert!(files.check_writable(Path::new("a/b.db"), None).is_ok());
        let mut permissions = std::fs::metadata(folder.path()).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(folder.path(), permissions).unwrap();
        if std::fs::create_dir(folder.path().join("data")).is_ok() {
            return;
        }
        let error = files.check_writable(Path::new("a/b.db"), None).unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::Unreachable);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.starts_with("the database's folder cannot be written"),
            "{source}"
        );
    }

    #[test]
    fn a_symbolic_link_out_of_the_root_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (folder.path().join("root"), folder.path().join("elsewhere"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir_all(&elsewhere).unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link(&elsewhere, "out");
        link(&elsewhere.join("absent.db"), "dangling.db");
        std::fs::write(elsewhere.join("other.db"), "").unwrap();
        link(&elsewhere.join("other.db"), "other.db");
        for path in ["out/x.db", "out/new/x.db", "dangling.db", "other.db"] {
            let error = place(&root, Path::new(path), true).unwrap_err();
            assert_eq!(error.kind, DriverErrorKind::Invalid, "{path}");
        }
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
        std::fs::create_dir(root.join("true")).unwrap();
        link(&root.join("true"), "alias");
        let inside = place(&root, Path::new("alias/x.db"), true).unwrap();
        assert_eq!(inside, root.canonicalize().unwrap().join("true/x.db"));
    }

    #[test]
    fn folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let file = place(&root, Path::new("a/b/c.db"), true).unwrap();
        assert!(file.parent().unwrap().is_dir());
        assert!(!file.exists());
    }

    #[test]
    fn only_the_server_s_user_may_read_what_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new/data");
        let files = Files::below(root.clone());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = files.open(Path::new("a/b.db"), true, None).unwrap();
        assert_eq!(mode(file.path()), 0o600);
        for created in [folder.path().join("new"), root.clone(), root.join("a")] {
            assert_eq!(mode(&created), 0o700, "{}", created.display());
        }
        // What was there stays as it was.
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        files.open(Path::new("a/b.db"), true, None).unwrap();
        assert_eq!(mode(file.path()), 0o640);
    }

    fn tenant(id: &str) -> Option<TenantId> {
        Some(id.parse().unwrap())
    }

    fn refused(outcome: Result<HeldFile, DriverError>) -> bool {
        outcome.is_err_and(|error| error.kind == DriverErrorKind::Invalid)
    }

    #[test]
    fn a_file_is_one_tenant_s_whatever_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path().to_owned());
        let open = |path: &str, id| files.open(Path::new(path), true, tenant(id));
        let first = open("a/x.db", "one").unwrap();
        std::fs::hard_link(first.path(), folder.path().join("hard.db")).unwrap();
        std::os::unix::fs::symlink("a/x.db", folder.path().join("soft.db")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("alias")).unwrap();
        let again = open("alias/x.db", "one").unwrap();
        drop((first, again));
        for path in ["a/x.db", "a//x.db", "a/./x.db", "hard.db", "soft.db", "alias/x.db"] {
            assert!(refused(open(path, "two")), "{path}");
        }
        assert!(open("hard.db", "one").is_ok());
    }

    #[test]
    fn a_file_is_free_after_its_tenant_has_moved_and_closed_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path().to_owned());
        let open = |path: &str, id| files.open(Path::new(path), true, tenant(id));
        let (before, other) = (open("1.db", "one").unwrap(), open("2.db", "two").unwrap());
        // Two tenants exchange their files, and neither has the other's while that has connections.
        assert!(refused(open("2.db", "one")));
        assert!(refused(open("1.db", "two")));
        drop(before);
        let moved = open("1.db", "two").unwrap();
        assert!(refused(open("2.db", "one")));
        drop(other);
        assert!(open("2.db", "one").is_ok());
        assert!(refused(open("1.db", "one")));
        drop(moved);
        assert_eq!(files.claims().len(), 1);
    }

    #[test]
    fn a_deleted_file_holds_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path().to_owned());
        let open = |path: &str, id| files.open(Path::new(path), true, tenant(id));
        let file = open("1.db", "one").unwrap();
        let id = FileId::of(&std::fs::metadata(file.path()).unwrap());
        drop(file);
        // The same number under another name, as the system gives it after the first was deleted.
        std::fs::rename(folder.path().join("1.db"), folder.path().join("2.db")).unwrap();
        assert!(open("2.db", "two").is_ok());
        assert_eq!(files.claims()[&id].tenant, tenant("two").unwrap());
    }
}
