//! Reports changes in a folder.

use std::{path::PathBuf, sync::Arc, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
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
    _watcher: Option<RecommendedWatcher>,
}

impl FolderWatch {
    /// Begins to watch `folder`. If the system cannot watch it (a network file system, no watch
    /// left), that is logged and no change is ever reported.
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
            watcher.watch(&folder, mode)?;
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
            _watcher: watcher,
        }
    }

    /// Waits for a change, and until the folder has been quiet for a moment after it.
    pub(crate) async fn changed(&self) {
        self.touched.notified().await;
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            if timeout(QUIET, self.touched.notified()).await.is_err() {
                return;
            }
        }
        sleep(QUIET).await;
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
        let watch = FolderWatch::start(folder.path().to_owned(), RecursiveMode::NonRecursive).await;
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
        let watch = FolderWatch::start(folder.path().join("none"), RecursiveMode::NonRecursive).await;
        assert!(timeout(Duration::from_millis(200), watch.changed()).await.is_err());
    }
}
