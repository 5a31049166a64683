//! The statements that a script, such as a migration's file, consists of.

use crate::sql::{self, Dialect};

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptStatement<'a> {
    /// The line of the script on which it begins, from 1.
    pub line: usize,
    /// Its text, without the delimiter after it.
    pub sql: &'a str,
    /// Its effect on the transaction and the session that it runs in.
    pub effect: StatementEffect,
}

impl ScriptStatement<'_> {
    /// Its words, names and symbols in lower case, as the driver of this `type` reads them, such as
    /// `mysql`. A literal text is `''`, a comment is a space, and a comment that MySQL runs is what
    /// it holds.
    #[must_use]
    pub fn code(&self, driver: &str) -> String {
        sql::code(self.sql, Dialect::of(driver))
    }
}

/// The effect of a statement on the transaction and the session that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementEffect {
    /// Its transaction can undo it, or the database refuses it within a transaction.
    Undoable,
    /// It changes nothing but its session: a setting, the default schema.
    Session,
    /// It begins a transaction.
    Begins,
    /// It commits the transaction.
    Commits,
    /// It ends the transaction in another way.
    EndsOtherwise,
    /// The database commits before and after it, so that no transaction undoes it.
    CommitsByItself,
    /// As [`Self::CommitsByItself`], and it may hold further statements, which the server parts. If
    /// it fails, those before the one that failed were done.
    Several,
}

/// Why a script cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptFault {
    /// The line, from 1.
    pub line: usize,
    /// The fault and the remedy. It repeats no literal of the script.
    pub reason: String,
}
