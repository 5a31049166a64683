//! The provider `directory`: one file a tenant.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use notify::RecursiveMode;
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, TenantId, TenantIdPattern,
};
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{folder_watch::FolderWatch, secret_text};

/// The largest secret that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The most entries of the folder that are read.
const MAX_ENTRIES: usize = 100_000;

/// How often it is checked whether the folder is still the same one.
const POLL: Duration = Duration::from_secs(2);
/// How soon a watch that could not begin is tried again; secrets are then read anew, too.
const WATCH_AGAIN: Duration = Duration::from_secs(60);

/// One file a tenant, `{id}.json` or `{id}/database`, as Kubernetes and Docker mount secrets.
///
/// Each contains a JSON object or a database URL. If both files exist, `{id}.json` is used. They
/// are read at each fetch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder. It must be there at the start.
    pub path: PathBuf,
}

/// Reads each tenant's secret from its own file.
pub struct DirectoryProvider {
    path: Arc<Path>,
    id_pattern: TenantIdPattern,
    changes: watch::Receiver<u64>,
    _following: AbortOnDropHandle<()>,
}

impl fmt::Debug for DirectoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryProvider")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Plugin<dyn SecretProvider> for DirectoryProvider {
    const TYPE: &'static str = "directory";
    const EXAMPLE: &'static str = "\
type: directory
path: secrets
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        let path = context.path(config.path);
        let metadata = tokio::fs::metadata(&path)
            .await
            .map_err(|error| BuildError::key("path", "names a folder that cannot be read").with_source(error))?;
        if !metadata.is_dir() {
            return Err(BuildError::key("path", "is not a folder"));
        }
        let (sender, changes) = watch::channel(0);
        let following = tokio::spawn(follow(path.clone(), sender));
        Ok(Self {
            path: path.into(),
            id_pattern: context.id_pattern.clone(),
            changes,
            _following: AbortOnDropHandle::new(following),
        })
    }
}

/// Reports changes of the folder. The watch begins anew after each: the folder may be another one
/// now, and new folders below it are not watched if one of them may not be read.
async fn follow(folder: PathBuf, sender: watch::Sender<u64>) {
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let watched = identity(&folder).await;
        let mut watch = FolderWatch::start(folder.clone(), RecursiveMode::Recursive).await;
        // Also at the start, since nothing was watched before.
        sender.send_modify(|count| *count += 1);
        let began = Instant::now();
        loop {
            tokio::select! {
                () = watch.changed() => break,
                _ = poll.tick() => {
                    let is_due = !watch.is_watching() && began.elapsed() >= WATCH_AGAIN;
                    // A folder mounted over it, or a link to another one, is no change of the
                    // first.
                    if is_due || identity(&folder).await != watched {
                        break;
                    }
                }
            }
        }
    }
}

/// Identifies a folder; `None` if it is not there.
async fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = tokio::fs::metadata(folder).await.ok()?;
    #[cfg(unix)]
    let identity = {
        use std::os::unix::fs::MetadataExt as _;
        (metadata.dev(), metadata.ino())
    };
    #[cfg(not(unix))]
    let identity = (u64::from(metadata.is_dir()), 0);
    Some(identity)
}

#[async_trait]
impl SecretProvider for DirectoryProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        for file in files_of(&self.path, tenant) {
            if let Some(bytes) = read(&file).await? {
                return secret_text::parse_bytes(&bytes).map(SecretDocument::from_value);
            }
        }
        // A folder that is gone (not mounted any more) has no tenants, but says nothing of them.
        match tokio::fs::metadata(&*self.path).await {
            Ok(metadata) if metadata.is_dir() => Err(ProviderError::NotFound),
            Ok(_) => Err(ProviderError::Unavailable(
                "the folder of secrets is not a folder".into(),
            )),
            Err(error) => Err(failed(error)),
        }
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let path = Arc::clone(&self.path);
        let id_pattern = self.id_pattern.clone();
        tokio::task::spawn_blocking(move || list(&path, &id_pattern))
            .await
            .map_err(|error| ProviderError::Unavailable(error.into()))?
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.clone())
    }
}

/// The files that may hold a tenant's secret. An id holds neither `/` nor `.`, so they are below
/// `root`.
fn files_of(root: &Path, tenant: &TenantId) -> [PathBuf; 2] {
    [
        root.join(format!("{tenant}.json")),
        root.join(tenant.as_str()).join("database"),
    ]
}

/// The file's content, or `None` if there is no such file.
async fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, ProviderError> {
    // Looked at first: opening a pipe would wait for its writer.
    let metadata = match tokio::fs::metadata(path).await {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(ProviderError::invalid("is not a regular file"));
    }
    let too_large = || ProviderError::invalid(format!("is larger than {MAX_BYTES} bytes"));
    if metadata.len() > MAX_BYTES {
        return Err(too_large());
    }
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large());
    }
    Ok(Some(bytes))
}

fn list(root: &Path, id_pattern: &TenantIdPattern) -> Result<Vec<TenantId>, ProviderError> {
    let mut tenants = BTreeSet::new();
    for (count, entry) in std::fs::read_dir(root).map_err(failed)?.enumerate() {
        if count == MAX_ENTRIES {
            let reason = format!("the folder of secrets has more than {MAX_ENTRIES} entries");
            return Err(ProviderError::Unavailable(reason.into()));
        }
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        // Other names are not secrets: dot files, Kubernetes' `..data`, `README.md`.
        let Ok(id) = id_pattern.parse(name.strip_suffix(".json").unwrap_or(name)) else {
            continue;
        };
        for file in files_of(root, &id) {
            match std::fs::metadata(&file) {
                Ok(found) if !found.is_file() => {}
                Err(error) if is_absent(&error) => {}
                // A list without one that cannot be looked at would say that there is no such
                // tenant; `fetch` says what is wrong with it.
                Ok(_) | Err(_) => {
                    tenants.insert(id);
                }
            }
        }
    }
    Ok(tenants.into_iter().collect())
}

/// There is no file of that name, or a file has the name of its folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn failed(error: io::Error) -> ProviderError {
    match error.kind() {
        ErrorKind::PermissionDenied => ProviderError::Denied(error.into()),
        _ => ProviderError::Unavailable(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::{Value, json};
    use tempfile::TempDir;
    use tenantry_core::{
        Registry,
        conformance::provider::{ProviderFixture, check},
    };

    use super::*;

    async fn build(base_dir: &Path) -> Result<Arc<dyn SecretProvider>, BuildError> {
        let mut registry = Registry::new();
        registry.provider::<DirectoryProvider>();
        let mut context = BuildContext::for_tests(Registry::new());
        context.base_dir = base_dir.to_owned();
        let example = serde_saphyr::from_str(DirectoryProvider::EXAMPLE).unwrap();
        registry.build_provider(example, &context).await
    }

    struct Fixture {
        base: TempDir,
        provider: Arc<dyn SecretProvider>,
        nested: AtomicBool,
    }

    impl Fixture {
        async fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            std::fs::create_dir(base.path().join("secrets")).unwrap();
            let provider = build(base.path()).await.unwrap();
            Self {
                base,
                provider,
                nested: AtomicBool::new(false),
            }
        }

        fn root(&self) -> PathBuf {
            self.base.path().join("secrets")
        }

        fn write(&self, tenant: &TenantId, text: &str) {
            let [flat, nested] = files_of(&self.root(), tenant);
            // One form after the other, so that both are put to the test.
            let file = if flat.exists() || !(nested.exists() || self.nested.fetch_xor(true, Ordering::Relaxed)) {
                flat
            } else {
                nested
            };
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }

    #[async_trait]
    impl ProviderFixture for Fixture {
        async fn provider(&self) -> Arc<dyn SecretProvider> {
            Arc::clone(&self.provider)
        }

        async fn put(&self, tenant: &TenantId, secret: &Value) {
            self.write(tenant, &secret.to_string());
        }

        async fn remove(&self, tenant: &TenantId) {
            let [flat, nested] = files_of(&self.root(), tenant);
            if flat.exists() {
                std::fs::remove_file(flat).unwrap();
            } else {
                std::fs::remove_dir_all(nested.parent().unwrap()).unwrap();
            }
        }

        async fn put_text(&self, tenant: &TenantId, text: &str) -> bool {
            self.write(tenant, text);
            true
        }

        async fn put_strays(&self) -> bool {
            let root = self.root();
            for name in [
                ".hidden.json",
                "..data",
                "README.md",
                "Not An Id.json",
                "x.yaml",
                ".json",
                "a.b.json",
            ] {
                std::fs::write(root.join(name), "{}").unwrap();
            }
            for name in ["folder", "folder.json", ".git", "..2026_01_01"] {
                std::fs::create_dir(root.join(name)).unwrap();
            }
            std::fs::write(root.join("plain-file"), "{}").unwrap();
            true
        }

        async fn break_it(&self) -> bool {
            std::fs::rename(self.root(), self.base.path().join("gone")).unwrap();
            true
        }
    }

    fn tenant1() -> TenantId {
        "tenant1".parse().unwrap()
    }

    #[tokio::test]
    async fn it_is_a_provider() {
        check(&Fixture::new().await).await;
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_stops_the_start() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(build(base.path()).await.err().unwrap().path, ["path"]);
        std::fs::write(base.path().join("secrets"), "").unwrap();
        assert_eq!(build(base.path()).await.err().unwrap().path, ["path"]);
    }

    #[tokio::test]
    async fn a_large_secret_is_invalid() {
        let fixture = Fixture::new().await;
        fixture.write(
            &tenant1(),
            &format!("{{\"a\": \"{}\"}}", "a".repeat(MAX_BYTES as usize)),
        );
        let error = fixture.provider.fetch(&tenant1()).await.unwrap_err();
        assert!(matches!(error, ProviderError::Invalid { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_url_alone_is_a_secret() {
        let fixture = Fixture::new().await;
        fixture.write(&tenant1(), "postgres://u:p@h/d\n");
        let document = fixture.provider.fetch(&tenant1()).await.unwrap();
        assert_eq!(*document.value.expose(), json!({"url": "postgres://u:p@h/d"}));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_no_regular_file_is_not_waited_for() {
        let fixture = Fixture::new().await;
        let pipe = fixture.root().join("tenant1.json");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(pipe)
                .status()
                .unwrap()
                .success()
        );
        let fetched = tokio::time::timeout(Duration::from_secs(10), fixture.provider.fetch(&tenant1()))
            .await
            .unwrap();
        assert!(matches!(fetched, Err(ProviderError::Invalid { .. })));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_tenant_that_cannot_be_read_is_listed() {
        use std::os::unix::fs::symlink;
        let fixture = Fixture::new().await;
        fixture.write(&tenant1(), "{}");
        // A link to itself cannot be looked at, not even by root.
        for (name, target) in [("looping.json", "looping.json"), ("folder", "folder")] {
            symlink(target, fixture.root().join(name)).unwrap();
        }
        let ids = ["folder", "looping", "tenant1"].map(|id| id.parse::<TenantId>().unwrap());
        assert_eq!(fixture.provider.list().await.unwrap(), ids);
        for id in &ids[..2] {
            let fetched = fixture.provider.fetch(id).await.map(drop);
            assert!(matches!(fetched, Err(ProviderError::Unavailable(_))), "{fetched:?}");
        }
    }

    /// The watch has begun, and has reported everything that was written before.
    #[cfg(unix)]
    async fn settled(changes: &mut watch::Receiver<u64>) {
        changed(changes).await;
        while tokio::time::timeout(Duration::from_millis(500), changes.changed())
            .await
            .is_ok()
        {}
    }

    #[cfg(unix)]
    async fn changed(changes: &mut watch::Receiver<u64>) {
        tokio::time::timeout(Duration::from_secs(10), changes.changed())
            .await
            .unwrap()
            .unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_folder_that_takes_the_place_of_another_is_watched() {
        use std::os::unix::fs::symlink;
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("secrets");
        for name in ["one", "two", "three"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        symlink("one", &place).unwrap();
        let provider = build(base.path()).await.unwrap();
        let mut changes = provider.changes().unwrap();
        settled(&mut changes).await;
        // The system reports nothing of a link that is switched.
        symlink("two", base.path().join("next")).unwrap();
        std::fs::rename(base.path().join("next"), &place).unwrap();
        settled(&mut changes).await;
        std::fs::write(place.join("tenant1.json"), "{}").unwrap();
        settled(&mut changes).await;
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(base.path().join("three"), &place).unwrap();
        settled(&mut changes).await;
        std::fs::create_dir(place.join("tenant2")).unwrap();
        settled(&mut changes).await;
        std::fs::write(place.join("tenant2").join("database"), "{}").unwrap();
        changed(&mut changes).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_secret_that_kubernetes_swaps_is_followed() {
        use std::os::unix::fs::symlink;
        let fixture = Fixture::new().await;
        let root = fixture.root();
        for (folder, password) in [("..1", "old"), ("..2", "new")] {
            std::fs::create_dir(root.join(folder)).unwrap();
            let text = json!({"password": password}).to_string();
            std::fs::write(root.join(folder).join("tenant1.json"), text).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/tenant1.json", root.join("tenant1.json")).unwrap();
        let before = fixture.provider.fetch(&tenant1()).await.unwrap();
        assert_eq!(fixture.provider.list().await.unwrap(), [tenant1()]);
        let mut changes = fixture.provider.changes().unwrap();
        settled(&mut changes).await;
        symlink("..2", root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        changed(&mut changes).await;
        let after = fixture.provider.fetch(&tenant1()).await.unwrap();
        assert_eq!(*after.value.expose(), json!({"password": "new"}));
        assert_ne!(before.version, after.version);
    }
}
