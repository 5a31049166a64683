//! Reports changes in a folder.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How long a folder must be quiet before a change counts as complete: a file may be written in
/// several steps.
const QUIET: Duration = Duration::from_millis(100);

/// The longest that changes without a pause are waited for.
const LONGEST: Duration = Duration::from_secs(1);

/// A folder that the operating system watches for us. It watches until it is dropped.
pub(crate) struct FolderWatch {
    touched: Arc<Notify>,
    /// Whether there was a change that is not reported yet.
    has_changed: bool,
    _watcher: Option<RecommendedWatcher>,
}

impl FolderWatch {
    /// Begins to watch `folder`. If the system cannot watch it (a network file system, no watch
    /// left), that is logged and no change is ever reported. A folder below it that may not be read
    /// is left out. If there is one, folders that are made later are not watched.
    pub(crate) async fn start(folder: PathBuf, mode: RecursiveMode) -> Self {
        let touched = Arc::new(Notify::new());
        let handler = Arc::clone(&touched);
        // Walks the folder and waits for the watcher's own thread, so it has no place on an async
        // one.
        let started = tokio::task::spawn_blocking(move || {
            let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
                // An error (events were lost) counts as a change: looking once too often does no
                // harm.
                if event.is_ok_and(|event| !is_change(event.kind)) {
                    return;
                }
                handler.notify_one();
            })?;
            match mode {
                RecursiveMode::Recursive => watch_below(&folder, |path, mode| watcher.watch(path, mode))?,
                RecursiveMode::NonRecursive => watcher.watch(&folder, mode)?,
            }
            Ok::<_, notify::Error>(watcher)
        });
        let watcher = match started.await {
            Ok(Ok(watcher)) => Some(watcher),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a folder of secrets cannot be watched for changes");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "watching a folder of secrets ended");
                None
            }
        };
        Self {
            touched,
            has_changed: false,
            _watcher: watcher,
        }
    }

    /// Whether the system watches the folder.
    pub(crate) fn is_watching(&self) -> bool {
        self._watcher.is_some()
    }

    /// Waits for a change, and until the folder has been quiet for a moment after it. If the wait
    /// is given up, the next one reports the change.
    pub(crate) async fn changed(&mut self) {
        if !self.has_changed {
            self.touched.notified().await;
            self.has_changed = true;
        }
        let end = Instant::now() + LONGEST;
        while timeout(QUIET, self.touched.notified()).await.is_ok() {
            if Instant::now() >= end {
                sleep(QUIET).await;
                break;
            }
        }
        self.has_changed = false;
    }
}

/// Watches a folder and all folders below it, by `watch`. It leaves out those that may not be read,
/// such as the `lost+found` of a mounted volume; the watcher itself would end at the first of them.
fn watch_below(folder: &Path, mut watch: impl FnMut(&Path, RecursiveMode) -> notify::Result<()>) -> notify::Result<()> {
    match watch(folder, RecursiveMode::Recursive) {
        Err(error) if is_left_out(&error) => {}
        watched => return watched,
    }
    watch(folder, RecursiveMode::NonRecursive)?;
    for entry in std::fs::read_dir(folder).map_err(notify::Error::io)? {
        let path = entry.map_err(notify::Error::io)?.path();
        if !path.is_dir() {
            continue;
        }
        match watch(&path, RecursiveMode::Recursive) {
            Err(error) if is_left_out(&error) => {
                tracing::debug!(path = %path.display(), %error, "a folder is not watched for changes");
            }
            watched => watched?,
        }
    }
    Ok(())
}

/// Whether a folder may not be read, or has gone away meanwhile.
fn is_left_out(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::Io(error) => matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound),
        kind => matches!(kind, ErrorKind::PathNotFound),
    }
}

/// Whether the folder's content may have changed. Our own reading opens and closes files, which
/// must not wake us again.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_change_is_told_and_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "1").unwrap();
        let mut watch = FolderWatch::start(folder.path().to_owned(), RecursiveMode::NonRecursive).await;
        std::fs::read(&file).unwrap();
        assert!(timeout(Duration::from_millis(500), watch.changed()).await.is_err());
        std::fs::write(&file, "2").unwrap();
        timeout(PATIENCE, watch.changed()).await.unwrap();
        std::fs::rename(&file, folder.path().join("b")).unwrap();
        timeout(PATIENCE, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_watched() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = FolderWatch::start(folder.path().join("none"), RecursiveMode::NonRecursive).await;
        assert!(timeout(Duration::from_millis(200), watch.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_though_a_wait_was_given_up() {
        let mut watch = FolderWatch {
            touched: Arc::new(Notify::new()),
            has_changed: false,
            _watcher: None,
        };
        watch.touched.notify_one();
        assert!(timeout(QUIET / 2, watch.changed()).await.is_err());
        timeout(PATIENCE, watch.changed()).await.unwrap();
        assert!(timeout(PATIENCE, watch.changed()).await.is_err());
    }

    #[test]
    fn a_folder_that_may_not_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "lost+found"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        let denied = folder.path().join("lost+found");
        let mut watched = Vec::new();
        let watch = |path: &Path, mode: RecursiveMode| {
            if mode == RecursiveMode::Recursive && denied.starts_with(path) {
                return Err(notify::Error::io(io::ErrorKind::PermissionDenied.into()));
            }
            watched.push(path.to_owned());
            Ok(())
        };
        watch_below(folder.path(), watch).unwrap();
        watched.sort();
        let expected = [
            folder.path().to_owned(),
            folder.path().join("a"),
            folder.path().join("b"),
        ];
        assert_eq!(watched, expected);
        let full = watch_below(folder.path(), |_, _| Err(notify::Error::new(ErrorKind::MaxFilesWatch)));
        assert!(full.is_err());
    }
}
