//! Statements that would do something else than their file means, with the remedy.

use tenantry_core::{ScriptFault, ScriptStatement, StatementEffect};

use super::Syntax;

const COPY: &str = "`COPY` with its rows in the file is for psql; write the dump with `pg_dump --inserts`, or with \
                    `--schema-only`";

pub(super) const USE: &str = "`USE` leads out of the tenant's database; take it out, and in a dump `CREATE DATABASE` too (write the \
                   dump without `--databases`). The name of another database may stand before a table's: `other.t`";

/// The encodings in which a file's characters are not changed on their way to the database. A
/// variable is what an earlier setting has replaced.
const UNCHANGED: [&str; 7] = ["utf8", "utf-8", "unicode", "binary", "sql_ascii", "default", "@"];

/// Why a statement with these first words is refused.
pub(super) fn of_words(words: &[String], copies: bool, syntax: Syntax) -> Option<&'static str> {
    match (syntax, words.first().map(String::as_str)) {
        (Syntax::Postgresql, _) if copies => Some(COPY),
        (Syntax::Mysql, Some("USE")) => Some(USE),
        _ => None,
    }
}

/// Refuses a setting after which the server reads UTF-8 as another encoding, if characters that
/// this would change come after it.
pub(super) fn other_encoding(statements: &[ScriptStatement<'_>]) -> Result<(), ScriptFault> {
    let mut other = None;
    for statement in statements {
        let sets = encoding(statement).map(|name| !UNCHANGED.iter().any(|unchanged| name.starts_with(unchanged)));
        match (sets, other) {
            (Some(true), _) => other = Some(statement.line),
            (Some(false), _) => other = None,
            (None, Some(line)) if !statement.sql.is_ascii() => {
                return Err(ScriptFault {
                    line,
                    reason: format!(
                        "it sets another encoding, and the file is UTF-8: the characters on line {} and after it would be \
                         stored wrongly; take the setting out, or set UTF-8",
                        statement.line
                    ),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a setting after which a backslash in a literal means something else than the splitter
/// takes it for, if a backslash comes after it.
pub(super) fn other_backslash(statements: &[ScriptStatement<'_>]) -> Result<(), ScriptFault> {
    let is_setting = |statement: &&ScriptStatement<'_>| {
        let lower = statement.sql.to_ascii_lowercase();
        let is_off = lower.contains("standard_conforming_strings") && lower.contains("off");
        statement.effect == StatementEffect::Session && (is_off || lower.contains("no_backslash_escapes"))
    };
    let mut rest = statements.iter();
    let Some(setting) = rest.find(is_setting) else {
        return Ok(());
    };
    match rest.find(|statement| statement.sql.contains('\\')) {
        None => Ok(()),
        Some(statement) => Err(ScriptFault {
            line: setting.line,
            reason: format!(
                "it changes what the backslash in the statement on line {} means, and so where that statement ends; take the \
                 setting out, or write the statement without a backslash",
                statement.line
            ),
        }),
    }
}

/// The encoding that a setting names, in lower case.
fn encoding(statement: &ScriptStatement<'_>) -> Option<String> {
    if statement.effect != StatementEffect::Session {
        return None;
    }
    let lower = statement.sql.to_ascii_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '.');
    let mut words = lower.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    let mut before = "";
    while let Some(word) = words.next() {
        let is_set = word.ends_with("client_encoding")
            || word.ends_with("character_set_client")
            || (word == "names" && matches!(before, "set" | "session" | "local"))
            || word == "charset"
            || (word == "set" && before == "character");
        if is_set {
            // `RESET` names no other.
            return Some(words.find(|word| *word != "to").unwrap_or("default").to_owned());
        }
        before = word;
    }
    None
}
