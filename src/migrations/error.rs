//! Why a database could not be made ready.

use std::{fmt, time::Duration};

use sea_orm::DbErr;
use tenantry_core::{DatabaseError, DatabaseErrorKind, DriverError, ScriptFault, database_words};

use super::{TABLE, text::DIRECTIVE};

/// MySQL's codes of errors that name tables, columns and keys: they exist, are missing or unknown.
const MYSQL_NAMES: [&str; 7] = ["1050", "1051", "1054", "1060", "1061", "1072", "1091"];

/// PostgreSQL's `syntax_error`.
const POSTGRESQL_SYNTAX: &str = "42601";

/// What SQLite says before it quotes a statement. It has the same code for all mistakes.
const SQLITE_QUOTES: [&str; 3] = ["near \"", "unrecognized token", "string literal"];

/// Why a database could not be made ready. The connection is to be closed then: it may still hold
/// the lock.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// There is no folder for this kind of database.
    #[error("there are no migrations for this kind of database: {place} has no folder `{dialect}`")]
    NoDialect {
        /// The folder's name.
        dialect: String,
        /// What holds the folders.
        place: String,
    },
    /// A file is not the one that was applied.
    #[error("the migration `{name}` was changed after it had been applied")]
    Changed {
        /// Which one.
        name: String,
    },
    /// The statements of a file were applied under another version.
    #[error(
        "the migration `{name}` was applied as `{was}`, and there is no file of that name any more; name it `{was}` \
         again, or, if it is to be applied once more, add a comment to it and give it another title"
    )]
    Renumbered {
        /// The file.
        name: String,
        /// The name that was recorded.
        was: String,
    },
    /// The statements that an earlier run has applied of a file are not those that it begins with
    /// now.
    #[error(
        "the migration `{name}` was changed in its first {statements} statements, which an earlier run has applied; \
         undo that change"
    )]
    ChangedBefore {
        /// Which one.
        name: String,
        /// How many of its statements were applied.
        statements: usize,
    },
    /// A file cannot go on in a new session.
    #[error(
        "the migration `{name}` cannot go on{at}: this needs `{needs}` of a session that has ended; make it anew in a \
         statement of its own before that one, or write that one without it"
    )]
    SessionEnded {
        /// Which one.
        name: String,
        /// The statement that cannot run.
        at: Box<FailurePoint>,
        /// What it needs.
        needs: String,
    },
    /// A file cannot be run. None of its statements was executed.
    #[error("the migration `{name}` cannot be run: {fault}")]
    Refused {
        /// Which one.
        name: String,
        /// The fault and its line.
        fault: ScriptFault,
    },
    /// A file's SQL failed.
    #[error("the migration `{name}` failed{at}{aftermath}")]
    Failed {
        /// Which one.
        name: String,
        /// The statement that failed.
        at: Box<FailurePoint>,
        /// What is left of the file, and what to do.
        aftermath: Box<Aftermath>,
        /// How.
        #[source]
        source: DatabaseError,
    },
    /// A file ran to its end and is not among those that were applied.
    #[error(
        "the migration `{name}` ran to its end without being recorded: it leaves a transaction open, or removes the \
         table `{TABLE}`"
    )]
    Unrecorded {
        /// Which one.
        name: String,
    },
    /// Another instance migrates this database, and takes too long.
    #[error(
        "this run has waited {} s for another one that migrates the database{}; run it again when that one is over",
        waited.as_secs(),
        holder.as_ref().map(|holder| format!(", in its {holder}")).unwrap_or_default()
    )]
    Locked {
        /// How long this one has waited for it.
        waited: Duration,
        /// What the database says of the other's session.
        holder: Option<String>,
    },
    /// It is not known whether a table says what was applied to this tenant, or to another one.
    #[error(
        "the table `{TABLE}` is in the schema `{found}`, and this tenant's belongs in `{own}`, the first of its search \
         path; if it is this tenant's, move it to `{own}`; if it is another tenant's, create an empty one in `{own}`"
    )]
    Elsewhere {
        /// The schema with the table.
        found: String,
        /// The tenant's own schema.
        own: String,
    },
    /// Tables would be created in another schema than the tenant's own.
    #[error(
        "the schema `{schema}`, the first of the tenant's search path, does not exist, or its user may not use it; \
         create it, or grant its usage"
    )]
    NoSchema {
        /// The tenant's own schema.
        schema: String,
    },
    /// What was applied cannot be read or written down.
    #[error("the table `{TABLE}` cannot be used")]
    Table(#[source] DatabaseError),
    /// The table of applied files was changed.
    #[error("the table `{TABLE}` cannot be read")]
    Unreadable(#[source] DbErr),
    /// A database does not show that it has what is to be recorded as applied.
    #[error("nothing was recorded: {reason}")]
    NotAdopted {
        /// What is missing.
        reason: String,
    },
    /// Another tool has migrated the database, and nothing of it is recorded here.
    #[error(
        "the table `{table}` says that {tool} has migrated this database; record what it has with \
         `tenantry migrate adopt VERSION`"
    )]
    Foreign {
        /// The tool's table.
        table: String,
        /// The tool.
        tool: &'static str,
    },
    /// It is not known whether another tool has migrated the database.
    #[error(
        "the table `{table}` cannot be read, so it is not known whether {tool} has migrated this database; let the \
         tenant's user read it"
    )]
    ForeignUnreadable {
        /// The tool's table.
        table: String,
        /// The tool.
        tool: &'static str,
        /// Why not.
        #[source]
        source: DatabaseError,
    },
    /// The structure of a database cannot be read.
    #[error("what the database is made of cannot be read")]
    Structure(#[source] DatabaseError),
    /// The session that a file ran in could not be replaced by a new one.
    #[error("no new session could be opened after a migration")]
    NotRenewed(#[source] DriverError),
}

impl MigrationError {
    /// Why another tool's table could not be read.
    pub(super) fn of_foreign(table: String, tool: &'static str, source: DatabaseError) -> Self {
        match source.kind {
            DatabaseErrorKind::PermissionDenied => Self::ForeignUnreadable { table, tool, source },
            _ => Self::Structure(source),
        }
    }

    /// The file that it is about.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Changed { name }
            | Self::Renumbered { name, .. }
            | Self::ChangedBefore { name, .. }
            | Self::SessionEnded { name, .. }
            | Self::Refused { name, .. }
            | Self::Failed { name, .. }
            | Self::Unrecorded { name } => Some(name),
            _ => None,
        }
    }

    /// The line of the file, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Refused { fault, .. } => Some(fault.line),
            Self::Failed { at, .. } | Self::SessionEnded { at, .. } => match &**at {
                FailurePoint::Statement { line, .. } => Some(*line),
                FailurePoint::Commit => None,
            },
            _ => None,
        }
    }

    /// What the database said of a statement, for the server's log, unless its words may repeat a
    /// value. Of missing or existing tables and columns and of rights it names what the file names.
    /// Of wrong syntax it quotes the statement, which may hold a password.
    pub fn reason(&self) -> Option<String> {
        let Self::Failed { source, .. } = self else {
            return None;
        };
        let code = source.code.as_deref().unwrap_or_default();
        let names_only = match source.kind {
            DatabaseErrorKind::TableMissing | DatabaseErrorKind::PermissionDenied => true,
            // PostgreSQL's class 42 is `syntax error or access rule violation`, and SQLite's code
            // for all of these is 1.
            _ if code.len() == 5 => code.starts_with("42") && code != POSTGRESQL_SYNTAX,
            _ => code == "1" || MYSQL_NAMES.contains(&code),
        };
        let words = std::error::Error::source(source).filter(|_| names_only)?;
        let words = database_words(words).map_or_else(|| words.to_string(), str::to_owned);
        let quotes = code == "1" && SQLITE_QUOTES.iter().any(|quote| words.contains(quote));
        Some(words).filter(|_| !quotes)
    }

    /// The number of the statement in the file, from 1.
    pub fn statement(&self) -> Option<usize> {
        match self {
            Self::Failed { at, .. } | Self::SessionEnded { at, .. } => match &**at {
                FailurePoint::Statement { number, .. } => Some(*number),
                FailurePoint::Commit => None,
            },
            _ => None,
        }
    }
}

/// The place at which a file failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailurePoint {
    /// At a statement.
    Statement {
        /// The line on which it begins, from 1.
        line: usize,
        /// Its number in the file, from 1.
        number: usize,
        /// How many statements the file has.
        of: usize,
        /// Its first word.
        verb: String,
    },
    /// When its transaction was committed.
    Commit,
}

impl fmt::Display for FailurePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement { line, number, of, verb } => {
                write!(f, " at line {line} (statement {number} of {of}, `{verb}`)")
            }
            Self::Commit => f.write_str(" when it was committed"),
        }
    }
}

/// What a file that failed has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aftermath {
    /// Its transaction was rolled back.
    RolledBack {
        /// The statement needs to run outside a transaction.
        needs_no_transaction: bool,
    },
    /// Each statement before the one that failed is kept.
    Kept {
        /// The line at which the next run continues; `None` if that could not be recorded.
        resumes_at: Option<usize>,
        /// An earlier run was cut off in the middle of the statement that failed, which may have
        /// taken effect then.
        in_doubt: bool,
        /// Statements that remove what the failed one has left.
        remove: Vec<String>,
    },
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack { needs_no_transaction } => {
                f.write_str("; nothing of it was kept")?;
                if *needs_no_transaction {
                    write!(
                        f,
                        "; begin the file with the line `{DIRECTIVE}` to run it outside a transaction"
                    )?;
                }
                Ok(())
            }
            Self::Kept {
                resumes_at,
                in_doubt,
                remove,
            } => {
                f.write_str("; the statements before it were kept")?;
                if let Some(line) = resumes_at {
                    write!(f, ", and the next run goes on with line {line}")?;
                }
                if *in_doubt {
                    f.write_str("; an earlier run was cut off in this statement, which may have taken effect then")?;
                }
                for statement in remove {
                    write!(f, "; before that remove what it left: `{statement}`")?;
                }
                Ok(())
            }
        }
    }
}
