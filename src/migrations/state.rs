//! How far a database is.

use super::{
    Choice, MigrationError,
    applied::{Applied, Recorded, Row},
    files::Migration,
};

/// How far a database is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The highest version that was applied, such as `0004`.
    pub version: Option<String>,
    /// The files that are left, in their order.
    pub pending: Vec<String>,
    /// The file among them that failed when it was tried last.
    pub failed: Option<String>,
    /// The files that were changed after they had been applied.
    pub changed: Vec<String>,
    /// What was applied and has no file: a newer program did it.
    pub ahead: Vec<String>,
    /// How many files were applied.
    pub already: usize,
    /// The lowest version that is left, sample rows aside.
    next: Option<i64>,
    /// The highest version that was applied, or that a file of any kind of database has.
    last: i64,
    /// A pending file, and the name under which its statements were applied.
    pub(super) renumbered: Option<(String, String)>,
}

impl State {
    /// `last` is the highest version that a file of any kind of database has.
    pub(super) fn of<'a>(
        files: impl Iterator<Item = &'a Migration>,
        applied: &Applied,
        choice: Choice,
        last: i64,
    ) -> Self {
        let files: Vec<&Migration> = files.collect();
        // They are in the order of their versions.
        let has_file = |version: i64| files.binary_search_by_key(&version, |file| file.version).is_ok();
        let applied_last = applied.0.last_key_value().map_or(0, |(version, _)| *version);
        let without_file = applied.0.iter().filter(|(version, _)| !has_file(**version));
        let without_file: Vec<&Row> = without_file.map(|(_, row)| row).collect();
        let mut state = Self {
            version: applied.version(),
            ahead: without_file.iter().map(|row| row.name.clone()).collect(),
            last: last.max(applied_last),
            ..Self::default()
        };
        for migration in files {
            let recorded = applied.get(migration.version);
            match recorded {
                Some(Recorded::Whole(checksum)) => {
                    state.already += 1;
                    if !migration.is(checksum) {
                        state.changed.push(migration.name.clone());
                    }
                    continue;
                }
                Some(Recorded::Part(_)) if choice.reaches(migration) => {}
                None if choice.includes(migration) => {
                    let former = without_file.iter().find(|row| migration.was_applied_as(row));
                    let renumbered = former.map(|row| (migration.name.clone(), row.name.clone()));
                    state.renumbered = state.renumbered.or(renumbered);
                }
                _ => continue,
            }
            let was_stopped = matches!(recorded, Some(Recorded::Part(progress)) if !progress.running);
            if was_stopped && state.failed.is_none() {
                state.failed = Some(migration.name.clone());
            }
            if !migration.sample {
                state.next = state.next.or(Some(migration.version));
            }
            state.pending.push(migration.name.clone());
        }
        state
    }

    /// Whether the database has what the files say, and nothing else.
    pub fn is_current(&self) -> bool {
        self.pending.is_empty() && self.changed.is_empty() && self.ahead.is_empty()
    }

    /// Whether every file up to this version was applied. A version above those of all files, also
    /// of those for other kinds of database, is reached if a newer program has applied it.
    pub fn reaches(&self, version: i64) -> bool {
        self.next.is_none_or(|next| next > version) && self.last >= version
    }

    /// Why a run would apply nothing.
    pub(crate) fn refused(&self) -> Option<MigrationError> {
        if let Some(name) = self.changed.first().cloned() {
            return Some(MigrationError::Changed { name });
        }
        let (name, was) = self.renumbered.clone()?;
        Some(MigrationError::Renumbered { name, was })
    }
}
