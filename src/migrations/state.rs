//! How far a database is.

use super::{
    Choice,
    applied::{Applied, Recorded},
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
    /// The highest version that was applied or has a file.
    last: Option<i64>,
}

impl State {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Migration>, applied: &Applied, choice: Choice) -> Self {
        let mut state = Self {
            version: applied.version(),
            ..Self::default()
        };
        let mut known = Vec::new();
        for migration in files {
            known.push(migration.version);
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
                None if choice.includes(migration) => {}
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
        let applied_last = applied.0.last_key_value().map(|(version, _)| *version);
        state.last = known.last().copied().max(applied_last);
        // Both are in the order of their versions.
        let without_file = applied
            .0
            .iter()
            .filter(|(version, _)| known.binary_search(version).is_err());
        state.ahead = without_file.map(|(_, row)| row.name.clone()).collect();
        state
    }

    /// Whether the database has what the files say, and nothing else.
    pub fn is_current(&self) -> bool {
        self.pending.is_empty() && self.changed.is_empty() && self.ahead.is_empty()
    }

    /// Whether every file up to this version was applied. A version that no file has is reached if
    /// a newer program has applied it.
    pub fn reaches(&self, version: i64) -> bool {
        self.next.is_none_or(|next| next > version) && self.last.is_some_and(|last| last >= version)
    }
}
