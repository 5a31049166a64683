//! A clock that a test moves on.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::programs::temporary_folder;

/// Where Debian and others keep libfaketime: the one for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The time of day of the programs that are started with its [`environment`](Self::environment), by
/// libfaketime. It runs like the machine's, and only forwards from it. What counts how long something
/// takes is not moved.
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A clock that shows the machine's time.
    ///
    /// # Errors
    /// libfaketime is not installed.
    pub fn new() -> Result<Self> {
        let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
        let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = folders
            .into_iter()
            .chain(architectures.map(|entry| entry.path()))
            .map(|folder| folder.join(LIBRARY))
            .find(|library| library.exists())
            .context("libfaketime not found: install faketime (`./scripts/test` does it; on Debian and Ubuntu `apt-get install faketime`)")?;
        let clock = Self {
            library,
            folder: temporary_folder("clock")?,
        };
        clock.set(Duration::ZERO)?;
        Ok(clock)
    }

    /// Makes a program use this clock.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), self.file().into()),
            // It is asked at each look at the clock.
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("NO_FAKE_STAT".into(), "1".into()),
        ]
    }

    /// Sets it so far ahead of the machine's.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn set(&self, ahead: Duration) -> Result<()> {
        // In one step, for a program that reads it meanwhile.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("+{}", ahead.as_secs())).context("can't write the clock's file")?;
        fs::rename(new, self.file()).context("can't set the clock")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}
