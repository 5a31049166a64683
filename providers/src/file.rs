//! The provider `file`: all secrets in one YAML or JSON file.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use notify::RecursiveMode;
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;
use tenantry_core::{
    BoxError, BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue,
    SecretVersion, TenantId, TenantIdPattern,
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::{folder_watch::FolderWatch, secret_text};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How often the file is checked if the operating system reports no changes.
const POLL: Duration = Duration::from_secs(2);

/// How long ago the file's last change is, for its stamp to tell every later one: file systems
/// write down the time of a change in steps of up to two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(4);

/// All secrets in one YAML or JSON file, from tenant id to secret; a change to it is picked up
/// without a restart.
///
/// A secret is a mapping, or a database URL alone. Replace the file by renaming another over it. A
/// file that cannot be used stops the start; later on it is logged, and the last good content stays
/// in force.
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

type Tenants = BTreeMap<TenantId, SecretDocument>;

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
        self.state.read(false).await;
        self.state
            .tenants
            .load()
            .get(tenant)
            .cloned()
            .ok_or(ProviderError::NotFound)
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
    let watch = FolderWatch::start(folder, RecursiveMode::NonRecursive).await;
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
    /// its folder has changed.
    async fn read(&self, has_changed: bool) {
        let mut last = self.last.lock().await;
        // Taken before reading: a change while it is read is then seen at the next look.
        let stamp = Stamp::of(&self.path).await;
        if last.is_of(stamp, has_changed) {
            return;
        }
        let problem = last.problem.take();
        *last = LastRead {
            problem,
            ..LastRead::begin(stamp, SystemTime::now())
        };
        match load(self.path.clone(), self.id_pattern.clone()).await {
            Ok(tenants) => {
                if last.problem.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file of secrets is good again");
                }
                if !same(&self.tenants.load(), &tenants) {
                    tracing::info!(path = %self.path.display(), tenants = tenants.len(), "the file of secrets has changed");
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
    }
}

fn same(old: &Tenants, new: &Tenants) -> bool {
    let equal = |((id, old), (other, new)): ((&TenantId, &SecretDocument), (&TenantId, &SecretDocument))| {
        id == other && old.value == new.value
    };
    old.len() == new.len() && old.iter().zip(new).all(equal)
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

/// Why the file cannot be used: the text after "the file ". It names a place in the file, and never
/// repeats its text.
#[derive(Debug)]
struct Problem {
    reason: String,
    source: Option<BoxError>,
}

impl Problem {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: None,
        }
    }

    fn io(error: std::io::Error) -> Self {
        Self {
            reason: format!("cannot be read ({})", error.kind()),
            source: Some(error.into()),
        }
    }
}

async fn load(path: PathBuf, id_pattern: TenantIdPattern) -> Result<Tenants, Problem> {
    let loaded = tokio::task::spawn_blocking(move || {
        // Looked at first: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(&path).map_err(Problem::io)?;
        if !metadata.is_file() {
            return Err(Problem::new("is not a regular file"));
        }
        let text = read(&path, metadata.len()).map_err(Problem::io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Problem::new(format!("is larger than {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&text).map_err(|_| Problem::new("is not UTF-8 text"))?;
        let is_json = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        parse(text, is_json, &id_pattern)
    });
    // A panic's message is not passed on: it may hold what was being read.
    loaded
        .await
        .unwrap_or_else(|_| Err(Problem::new("could not be read to its end")))
}

/// Reads at most one byte more than is allowed.
fn read(path: &Path, len: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.min(MAX_BYTES) as usize + 1));
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(text: &str, is_json: bool, id_pattern: &TenantIdPattern) -> Result<Tenants, Problem> {
    let mut said = None;
    let seed = TenantsSeed {
        id_pattern,
        said: &mut said,
    };
    let text = text.trim_start_matches('\u{feff}');
    // The parsers' messages may repeat the file's text, so only kind and place are used.
    let parsed = if is_json {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = seed.deserialize(&mut deserializer);
        let parsed = parsed.and_then(|tenants| deserializer.end().map(|()| tenants));
        parsed.map_err(|error| ("is not valid JSON", error.line() as u64))
    } else {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            seed.deserialize(deserializer)
        });
        parsed.map_err(|error| {
            let what = match error {
                serde_saphyr::Error::DuplicateMappingKey { .. } => "holds a key twice",
                _ => "is not valid YAML",
            };
            (what, error.location().map_or(0, |at| at.line()))
        })
    };
    parsed.map_err(|(what, ended)| {
        let said = said.unwrap_or(Said {
            reason: what.to_owned(),
            line: 0,
        });
        let line = if said.line == 0 { ended } else { said.line };
        Problem::new(if line == 0 {
            said.reason
        } else {
            format!("{} (line {line})", said.reason)
        })
    })
}

/// A fault of the entry that begins in `line`; 0 if the parser does not report the line.
struct Said {
    reason: String,
    line: u64,
}

/// Reads the mapping from tenant id to secret, and says in its own words what is wrong with it.
struct TenantsSeed<'a> {
    id_pattern: &'a TenantIdPattern,
    said: &'a mut Option<Said>,
}

impl<'de> DeserializeSeed<'de> for TenantsSeed<'_> {
    type Value = Tenants;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tenants, D::Error> {
        // As a map, an empty YAML file would be an empty mapping; it is more likely half of a file
        // that is being written.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TenantsSeed<'_> {
    type Value = Tenants;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from tenant id to secret")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tenants, A::Error> {
        let said = self.said;
        let mut tenants = Tenants::new();
        while let Some(Spanned {
            value: name,
            referenced,
            ..
        }) = map.next_key::<Spanned<String>>()?
        {
            let mut refuse = |reason: String| {
                let error = A::Error::custom(&reason);
                *said = Some(Said {
                    reason,
                    line: referenced.line(),
                });
                error
            };
            // A name that is not an id is not repeated, since in a file of another form it may be a
            // secret.
            let id = self
                .id_pattern
                .parse(&name)
                .map_err(|error| refuse(format!("holds a tenant id that {error}")))?;
            if tenants.contains_key(&id) {
                return Err(refuse(format!("names the tenant `{id}` twice")));
            }
            let secret = SecretValue::new(map.next_value()?);
            let value = match secret.expose() {
                Value::Object(_) => secret,
                Value::String(text) => SecretValue::new(
                    secret_text::from_url(text.trim())
                        .ok_or_else(|| refuse(format!("holds for `{id}` a text that is no URL")))?,
                ),
                _ => return Err(refuse(format!("holds for `{id}` neither a mapping nor a URL"))),
            };
            let version = SecretVersion::of_content(value.expose());
            tenants.insert(id, SecretDocument::new(value, version));
        }
        Ok(tenants)
    }
}

#[cfg(test)]
mod tests;
