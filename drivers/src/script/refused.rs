//! Statements that would do something else than their file means, with the remedy.

use tenantry_core::{ScriptFault, ScriptStatement, StatementEffect};

use super::{
    Syntax,
    text::{Part, parts},
};

const COPY: &str = "`COPY` with its rows in the file is for psql; write the dump with `pg_dump --inserts`, or with \
                    `--schema-only`";

pub(super) const USE: &str = "`USE` leads out of the tenant's database; take it out, and in a dump `CREATE DATABASE` too (write the \
                   dump without `--databases`). The name of another database may stand before a table's: `other.t`";

/// PostgreSQL takes back every setting.
const RESET_ALL: &str = "reset all";

const DISCARD_ALL: &str = "`DISCARD ALL` also gives up the lock that keeps other runs from this database; write `RESET ALL`, \
                           `DISCARD TEMP` or `DEALLOCATE ALL`";

/// The encodings in which a file's characters are not changed on their way to the database. A
/// variable is what an earlier setting has replaced.
const UNCHANGED: [&str; 7] = ["utf8", "utf-8", "unicode", "binary", "sql_ascii", "default", "@"];

/// Why a statement with these first words is refused.
pub(super) fn of_words(words: &[String], copies: bool, syntax: Syntax) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (syntax, words.as_slice()) {
        (Syntax::Postgresql, _) if copies => Some(COPY),
        (Syntax::Postgresql, ["DISCARD", "ALL", ..]) => Some(DISCARD_ALL),
        (Syntax::Mysql, ["USE", ..]) => Some(USE),
        _ => None,
    }
}

/// Refuses a setting after which the server reads UTF-8 as another encoding, if characters that
/// this would change come after it.
pub(super) fn other_encoding(statements: &[ScriptStatement<'_>], syntax: Syntax) -> Result<(), ScriptFault> {
    let mut other = None;
    for statement in statements {
        if let Some(name) = sets(statement, syntax, encoding) {
            let is_unchanged = UNCHANGED.iter().any(|unchanged| name.starts_with(unchanged));
            other = Some(statement.line).filter(|_| !is_unchanged);
            continue;
        }
        let is_changed = |part: &Part<'_>| match part {
            Part::Comment => false,
            Part::Literal(text) => !text.is_ascii(),
            Part::Character(c) => !c.is_ascii(),
        };
        if let Some(line) = other
            && parts(statement.sql, syntax).iter().any(is_changed)
        {
            return Err(ScriptFault {
                line,
                reason: format!(
                    "it sets another encoding, and the file is UTF-8: the characters on line {} and after it would be \
                     stored wrongly; take the setting out, or set UTF-8",
                    statement.line
                ),
            });
        }
    }
    Ok(())
}

/// Refuses a setting after which a backslash in a literal means something else than the splitter
/// takes it for, if such a literal comes after it.
pub(super) fn other_backslash(statements: &[ScriptStatement<'_>], syntax: Syntax) -> Result<(), ScriptFault> {
    let mut other = None;
    for statement in statements {
        if let Some(is_other) = sets(statement, syntax, backslash) {
            other = other.or(Some(statement.line)).filter(|_| is_other);
            continue;
        }
        // PostgreSQL's `E'...'` and `$$ ... $$` are read as before.
        let is_changed = |part: &Part<'_>| matches!(part, Part::Literal(text) if text.starts_with(['\'', '"']) && text.contains('\\'));
        if let Some(line) = other
            && parts(statement.sql, syntax).iter().any(is_changed)
        {
            return Err(ScriptFault {
                line,
                reason: format!(
                    "it changes what the backslash in the statement on line {} means, and so where that statement ends; \
                     take the setting out, or write the statement without a backslash",
                    statement.line
                ),
            });
        }
    }
    Ok(())
}

/// What a statement sets, by the last of its settings for which `read` returns something.
fn sets<T>(statement: &ScriptStatement<'_>, syntax: Syntax, read: fn(&str) -> Option<T>) -> Option<T> {
    if statement.effect != StatementEffect::Session {
        return None;
    }
    let settings = settings(statement.sql, syntax);
    settings.iter().rev().find_map(|setting| read(setting))
}

/// The settings of a statement in lower case, without `SET` and comments. MySQL's `SET` may have
/// several; those of variables (`@a`) and of other sessions are left out.
fn settings(sql: &str, syntax: Syntax) -> Vec<String> {
    let (mut settings, mut depth) = (vec![String::new()], 0_usize);
    for part in parts(sql, syntax) {
        match part {
            Part::Character('(') => depth += 1,
            Part::Character(')') => depth = depth.saturating_sub(1),
            Part::Character(',') if depth == 0 => settings.push(String::new()),
            _ => {}
        }
        let Some(setting) = settings.last_mut() else { continue };
        match part {
            Part::Comment => setting.push(' '),
            Part::Literal(text) => setting.push_str(&text.to_lowercase()),
            Part::Character(c) => setting.extend(c.to_lowercase()),
        }
    }
    let settings = settings.into_iter().map(|setting| {
        let words: Vec<&str> = setting.trim_matches([' ', ',']).split_whitespace().collect();
        words.strip_prefix(&["set"]).unwrap_or(&words).join(" ")
    });
    // What is set for other sessions counts as little as a variable.
    let is_other = |setting: &String| {
        (setting.starts_with('@') && !setting.starts_with("@@"))
            || setting.starts_with("global ")
            || setting.starts_with("@@global")
    };
    settings.filter(|setting| !is_other(setting)).collect()
}

/// The encoding that a setting names.
fn encoding(setting: &str) -> Option<String> {
    if setting == RESET_ALL {
        return Some("default".to_owned());
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '.');
    let mut words = setting.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    let mut before = "";
    while let Some(word) = words.next() {
        let is_set = word.ends_with("client_encoding")
            || word.ends_with("character_set_client")
            || (word == "names" && matches!(before, "" | "session" | "local"))
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

/// Whether a setting gives the backslash another meaning, or `false` if it takes that back.
fn backslash(setting: &str) -> Option<bool> {
    const OFF: [&str; 4] = ["off", "false", "no", "0"];
    if setting == RESET_ALL {
        return Some(false);
    }
    if let Some((_, value)) = setting.split_once("standard_conforming_strings") {
        let is_part = |c: char| c.is_alphanumeric();
        let mut words = value.split(|c| !is_part(c)).filter(|word| !word.is_empty());
        return Some(words.find(|word| *word != "to").is_some_and(|word| OFF.contains(&word)));
    }
    let (name, value) = setting.split_once('=')?;
    if !name.trim_end_matches([' ', ':', '`']).ends_with("sql_mode") {
        return None;
    }
    let is_removed = value.trim_start().starts_with("replace");
    if value.contains("no_backslash_escapes") {
        return Some(!is_removed);
    }
    // It changes the modes that there are.
    (!value.contains("@@")).then_some(false)
}
