//! The provider `file`: all secrets in one YAML or JSON file.

mod text;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use notify::RecursiveMode;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, TenantId, TenantIdPattern,
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::folder_watch::FolderWatch;
use text::{Entry, Tenants, load};

/// How often the file is checked if the operating system reports no changes.
const POLL: Duration = Duration::from_secs(2);

/// A stamp is sure to differ after the next change only if the last change is longer ago than this:
/// file systems write down the time of a change in steps of up to two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(4);

/// All secrets in one YAML or JSON file, from tenant id to secret; a change to it is picked up
/// without a restart.
///
/// A secret is a mapping, or a database URL alone; anything else is that tenant's fault alone.
/// Replace the file by renaming another over it. A file that cannot be used stops the start; later
/// on it is logged, the last good content stays in force, and tenants that are not in it are 503.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file. It is read as JSON if its name ends in `.json`, else as YAML.
    pub path: PathBuf,
}

/// Holds the secrets of the last valid state of a file.
pub struct FileProvider {
    state: Arc<State>,
    changes: watch::Receiver<u64>,
    _following: AbortOnDropHandle<()>,
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileProvider")
            .field("path", &self.state.path)
            .finish_non_exhaustive()
    }
}

struct State {
    path: PathBuf,
    id_pattern: TenantIdPattern,
    tenants: ArcSwap<Tenants>,
    last: tokio::sync::Mutex<LastRead>,
    changes: watch::Sender<u64>,
}

/// The last time that the file was read.
struct LastRead {
    stamp: Option<Stamp>,
    /// Whether a change since then has another stamp for certain.
    is_settled: bool,
    /// Why it could not be used, if so: each reason is logged once.
    problem: Option<String>,
}

impl Plugin<dyn SecretProvider> for FileProvider {
    const TYPE: &'static str = "file";
    const EXAMPLE: &'static str = "\
type: file
path: tenants.yaml
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        let path = context.path(config.path);
        let id_pattern = context.id_pattern.clone();
        let last = LastRead::begin(Stamp::of(&path).await, SystemTime::now());
        let tenants = load(path.clone(), id_pattern.clone()).await.map_err(|problem| {
            let error = BuildError::key("path", format!("names a file that {}", problem.reason));
            match problem.source {
                Some(source) => error.with_source(source),
                None => error,
            }
        })?;
        warn_of_faults(&tenants);
        let (sender, changes) = watch::channel(0);
        let state = Arc::new(State {
            path,
            id_pattern,
            tenants: ArcSwap::from_pointee(tenants),
            last: tokio::sync::Mutex::new(last),
            changes: sender,
        });
        let following = tokio::spawn(follow(Arc::clone(&state)));
        Ok(Self {
            state,
            changes,
            _following: AbortOnDropHandle::new(following),
        })
    }
}

#[async_trait]
impl SecretProvider for FileProvider {
    /// The file is read again if it has changed: a refresh comes before the watch has noticed.
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let is_usable = self.state.read(false).await;
        let entry = self.state.tenants.load().get(tenant).cloned();
        match entry {
            Some(entry) => entry.map_err(ProviderError::invalid),
            None if is_usable => Err(ProviderError::NotFound),
            // The file may name the tenant by now.
            None => Err(ProviderError::Unavailable("the file of secrets cannot be used".into())),
        }
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        self.state.read(false).await;
        Ok(self.state.tenants.load().keys().copied().collect())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.clone())
    }
}

/// Reads the file again whenever it has changed. Its folder is watched and not the file: a file
/// renamed over it, or a link switched as Kubernetes does, is another file.
async fn follow(state: Arc<State>) {
    let folder = match state.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut watch = FolderWatch::start(folder, RecursiveMode::NonRecursive).await;
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and so sees what changed between the start and the watch.
    loop {
        let has_changed = tokio::select! {
            () = watch.changed() => true,
            _ = poll.tick() => false,
        };
        state.read(has_changed).await;
    }
}

impl State {
    /// Reads the file if it is another one than last time. `has_changed` says that something in
    /// its folder has changed. Returns whether the present file can be used.
    async fn read(&self, has_changed: bool) -> bool {
        let mut last = self.last.lock().await;
        // Taken before reading: a change while it is read is then seen at the next look.
        let stamp = Stamp::of(&self.path).await;
        if last.is_of(stamp, has_changed) {
            return last.problem.is_none();
        }
        let read = LastRead::begin(stamp, SystemTime::now());
        let loaded = load(self.path.clone(), self.id_pattern.clone()).await;
        // Not before: the caller may have given up meanwhile. A file that could not be read is
        // tried again, and one whose text is wrong is not.
        let was_read = loaded.as_ref().err().is_none_or(|problem| problem.source.is_none());
        last.stamp = read.stamp.filter(|_| was_read);
        last.is_settled = read.is_settled && was_read;
        match loaded {
            Ok(tenants) => {
                if last.problem.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file of secrets is good again");
                }
                if !same(&self.tenants.load(), &tenants) {
                    tracing::info!(path = %self.path.display(), tenants = tenants.len(), "the file of secrets has changed");
                    warn_of_faults(&tenants);
                    self.tenants.store(Arc::new(tenants));
                    self.changes.send_modify(|count| *count += 1);
                }
            }
            Err(problem) => {
                if last.problem.as_ref() != Some(&problem.reason) {
                    let reason = &problem.reason;
                    tracing::warn!(path = %self.path.display(), "the file of secrets {reason}; its last good content stays in force");
                    last.problem = Some(problem.reason);
                }
            }
        }
        last.problem.is_none()
    }
}

fn same(old: &Tenants, new: &Tenants) -> bool {
    let equal = |((id, old), (other, new)): ((&TenantId, &Entry), (&TenantId, &Entry))| {
        let same_entry = match (old, new) {
            (Ok(old), Ok(new)) => old.value == new.value,
            (Err(old), Err(new)) => old == new,
            _ => false,
        };
        id == other && same_entry
    };
    old.len() == new.len() && old.iter().zip(new).all(equal)
}

/// One line, however many there are: a request of each such tenant logs its own.
fn warn_of_faults(tenants: &Tenants) {
    let mut faults = tenants
        .iter()
        .filter_map(|(id, entry)| Some((id, entry.as_ref().err()?)));
    if let Some((tenant_id, reason)) = faults.next() {
        let more = faults.count();
        tracing::warn!(%tenant_id, reason, more, "the file of secrets holds a secret that is not valid");
    }
}

impl LastRead {
    fn begin(stamp: Option<Stamp>, now: SystemTime) -> Self {
        let changed = stamp.and_then(|stamp| stamp.changed);
        Self {
            stamp,
            is_settled: changed.and_then(|changed| now.duration_since(changed).ok()) > Some(SETTLED_AFTER),
            problem: None,
        }
    }

    /// Whether a file with this stamp is the one that was read. If something in its folder has
    /// changed, an equal stamp is enough only if the file had its stamp long before it was read:
    /// else a server's log beside a large file would have it read again and again.
    fn is_of(&self, stamp: Option<Stamp>, has_changed: bool) -> bool {
        stamp == self.stamp && (!has_changed || self.is_settled)
    }
}

/// Identifies a state of the file without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// When the file, its name or its times were changed last, which no program can set. `None`
    /// where the system does not report it.
    changed: Option<SystemTime>,
    file: u64,
}

impl Stamp {
    /// `None` if there is no file, or its metadata cannot be read; reading it then returns the
    /// reason.
    async fn of(path: &Path) -> Option<Self> {
        let metadata = tokio::fs::metadata(path).await.ok()?;
        #[cfg(unix)]
        let (changed, file) = {
            use std::os::unix::fs::MetadataExt as _;
            let part = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
            let changed = u64::try_from(metadata.ctime()).ok();
            let changed = changed.map(|whole| SystemTime::UNIX_EPOCH + Duration::new(whole, part));
            (changed, metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, file) = (None, 0);
        Some(Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            changed,
            file,
        })
    }
}

#[cfg(test)]
mod tests;
