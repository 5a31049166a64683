//! The effect of a statement, judged by its first words.

use tenantry_core::StatementEffect;

use super::Syntax;

fn first(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Whether a function or procedure of PostgreSQL begins with these words. Its body may be `BEGIN
/// ATOMIC ... END`.
pub(super) fn is_routine(words: &[String]) -> bool {
    matches!(
        first(words).as_slice(),
        ["CREATE", "FUNCTION" | "PROCEDURE", ..] | ["CREATE", "OR", "REPLACE", "FUNCTION" | "PROCEDURE", ..]
    )
}

/// Whether a stored program of MySQL or MariaDB begins so. Semicolons part the statements within
/// it.
pub(super) fn is_program(words: &[String]) -> bool {
    let words = first(words);
    match words.as_slice() {
        ["BEGIN", "NOT", ..] => true,
        ["CREATE" | "ALTER", rest @ ..] => {
            let other = |word: &&str| {
                matches!(
                    *word,
                    "TABLE" | "VIEW" | "INDEX" | "DATABASE" | "SCHEMA" | "USER" | "ROLE" | "SERVER" | "SEQUENCE"
                )
            };
            let program = |word: &&str| matches!(*word, "PROCEDURE" | "FUNCTION" | "TRIGGER" | "EVENT" | "PACKAGE");
            let decides = rest.iter().find(|word| other(word) || program(word));
            decides.is_some_and(program)
        }
        _ => false,
    }
}

/// Whether a trigger of SQLite begins so.
pub(super) fn is_trigger(words: &[String]) -> bool {
    matches!(
        first(words).as_slice(),
        ["CREATE", "TRIGGER", ..] | ["CREATE", "TEMP" | "TEMPORARY", "TRIGGER", ..]
    )
}

/// The effect of a statement with these first words.
pub(super) fn of(words: &[String], syntax: Syntax, sql: &str) -> StatementEffect {
    let words = first(words);
    match (syntax, words.as_slice()) {
        (Syntax::Mysql, words) => of_mysql(words, sql),
        (_, ["BEGIN", ..] | ["START", "TRANSACTION", ..]) => StatementEffect::Begins,
        (_, ["COMMIT", "PREPARED", ..] | ["ROLLBACK", "PREPARED", ..]) => StatementEffect::Undoable,
        (_, ["COMMIT" | "END", ..]) => StatementEffect::Commits,
        (_, ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", ..]) => StatementEffect::Undoable,
        (_, ["ROLLBACK" | "ABORT", ..] | ["PREPARE", "TRANSACTION", ..]) => StatementEffect::EndsOtherwise,
        (Syntax::Postgresql, ["SET" | "RESET", ..] | ["SELECT", "SET_CONFIG", ..])
        | (Syntax::Postgresql, ["SELECT", "PG_CATALOG", "SET_CONFIG", ..])
        | (Syntax::Sqlite, ["PRAGMA" | "ATTACH" | "DETACH", ..]) => StatementEffect::Session,
        _ => StatementEffect::Undoable,
    }
}

/// MySQL commits before and after most statements that are not named here (MySQL's manual,
/// "Statements That Cause an Implicit Commit").
fn of_mysql(words: &[&str], sql: &str) -> StatementEffect {
    match words {
        ["BEGIN", "NOT", ..] => StatementEffect::CommitsByItself,
        ["BEGIN", ..] | ["START", "TRANSACTION", ..] => StatementEffect::Begins,
        ["COMMIT", ..] => StatementEffect::Commits,
        ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK", "TO", ..] => StatementEffect::Undoable,
        ["ROLLBACK", ..] => StatementEffect::EndsOtherwise,
        ["SET", ..] if sql.to_ascii_lowercase().contains("autocommit") => StatementEffect::CommitsByItself,
        ["SET", "PASSWORD" | "ROLE" | "DEFAULT" | "STATEMENT", ..] => StatementEffect::CommitsByItself,
        ["SET", ..] => StatementEffect::Session,
        [
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "SELECT" | "WITH" | "DO" | "VALUES" | "SAVEPOINT" | "RELEASE"
            | "SHOW",
            ..,
        ] => StatementEffect::Undoable,
        // A comment that this server does not run.
        [] => StatementEffect::Session,
        _ => StatementEffect::CommitsByItself,
    }
}
