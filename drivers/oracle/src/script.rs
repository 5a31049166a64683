//! Splits scripts in Oracle's own SQL, such as migrations, into statements.
//!
//! A statement ends with a semicolon, a block of PL/SQL (`BEGIN`, `DECLARE`, `CREATE ... TRIGGER`
//! and its kin) with a line that holds nothing but `/`, as in SQL*Plus. `IF NOT EXISTS` after
//! `CREATE`, and `IF EXISTS` after `DROP`, are understood for every version of Oracle, though only
//! 23ai has them: they are left out, and the error that says so is none.

use tenantry_core::{ScriptStatement, StatementEffect};

/// One statement of a script, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) sql: String,
    /// The error that means it had been done before.
    pub(crate) tolerates: Option<i32>,
}

/// The statements of a script as they are sent.
pub(crate) fn steps(script: &str) -> Vec<Step> {
    split(script).map(|(_, statement)| step(statement)).collect()
}

/// The statements of a script with their lines and effects.
pub(crate) fn statements(script: &str) -> Vec<ScriptStatement<'_>> {
    let (mut place, mut line) = (0, 1);
    let mut statements = Vec::new();
    for (at, sql) in split(script) {
        line += script[place..at].matches('\n').count();
        place = at;
        statements.push(ScriptStatement {
            line,
            sql,
            effect: effect(sql),
        });
    }
    statements
}

/// The statements of a script with their positions, without the remarks around them.
fn split(script: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = script;
    std::iter::from_fn(move || {
        loop {
            rest = after_remarks(rest);
            if rest.is_empty() {
                return None;
            }
            let at = script.len() - rest.len();
            let (statement, next) = if is_block(rest) { block(rest) } else { statement(rest) };
            rest = next;
            if !statement.is_empty() {
                return Some((at, statement));
            }
        }
    })
}

/// Oracle commits before and after every definition, and a block may do anything.
fn effect(sql: &str) -> StatementEffect {
    let words: Vec<String> = words(sql).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "SELECT" | "WITH" | "SAVEPOINT" | "LOCK",
            ..,
        ]
        | ["ROLLBACK", "TO", ..]
        | ["ROLLBACK", "WORK", "TO", ..] => StatementEffect::Undoable,
        ["COMMIT", ..] => StatementEffect::Commits,
        ["ROLLBACK", ..] => StatementEffect::EndsOtherwise,
        ["SET", "TRANSACTION", ..] => StatementEffect::Begins,
        ["ALTER", "SESSION", ..] | ["SET", "ROLE", ..] => StatementEffect::Session,
        _ => StatementEffect::CommitsByItself,
    }
}

/// Skips blanks, remarks, and the ends of statements that there are not.
fn after_remarks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        match skipped(text) {
            Some(length) if text.starts_with("--") || text.starts_with("/*") => text = &text[length..],
            // The end of a block that has ended with a semicolon already.
            _ if line(text).trim() == "/" => text = &text[line(text).len()..],
            _ => return text,
        }
    }
}

fn line(text: &str) -> &str {
    text.split_inclusive('\n').next().unwrap_or_default()
}

/// How long the remark or quoted text is that begins here.
fn skipped(text: &str) -> Option<usize> {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("--") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    // q'[...]': Oracle's text in which a quote needs no other.
    if let Some(quoted) = text.strip_prefix("q'").or_else(|| text.strip_prefix("Q'")) {
        let open = quoted.chars().next()?;
        let close = match open {
            '[' => ']',
            '{' => '}',
            '(' => ')',
            '<' => '>',
            other => other,
        };
        return Some(until(2 + open.len_utf8(), &format!("{close}'")));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut at = 1;
    // A doubled quote is one of the text, and reads like two texts side by side.
    loop {
        at = until(at, &quote.to_string());
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// Splits after the first semicolon that is not within something else.
fn statement(text: &str) -> (&str, &str) {
    let mut at = 0;
    let mut in_word = false;
    while let Some(c) = text[at..].chars().next() {
        if c == ';' {
            return (text[..at].trim_end(), &text[at + 1..]);
        }
        // A q at the end of a word opens no text.
        let starts = !(in_word && c.eq_ignore_ascii_case(&'q'));
        in_word = c.is_alphanumeric() || matches!(c, '_' | '$' | '#');
        at += match skipped(&text[at..]) {
            Some(length) if starts => length,
            _ => c.len_utf8(),
        };
    }
    (text.trim_end(), "")
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .take(8)
        .map(str::to_ascii_uppercase)
}

/// Whether what begins here is PL/SQL, in which semicolons end nothing.
fn is_block(text: &str) -> bool {
    let words: Vec<String> = words(text).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["BEGIN" | "DECLARE", ..] => true,
        ["CREATE", rest @ ..] => {
            let rest = rest.strip_prefix(&["OR", "REPLACE"]).unwrap_or(rest);
            let rest = match rest {
                ["EDITIONABLE" | "NONEDITIONABLE", rest @ ..] => rest,
                rest => rest,
            };
            matches!(rest, ["FUNCTION" | "PROCEDURE" | "TRIGGER" | "PACKAGE" | "TYPE", ..])
        }
        _ => false,
    }
}

/// Splits after the line that is nothing but `/`.
fn block(text: &str) -> (&str, &str) {
    let mut at = 0;
    while at < text.len() {
        let line = line(&text[at..]);
        if line.trim() == "/" {
            return (text[..at].trim_end(), &text[at + line.len()..]);
        }
        at += line.len();
    }
    (text.trim_end(), "")
}

/// Takes `IF [NOT] EXISTS` out of a statement that has it in its place.
fn step(sql: &str) -> Step {
    let plain = || Step {
        sql: sql.to_owned(),
        tolerates: None,
    };
    let words: Vec<String> = words(sql).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (phrase, tolerates) = match words.as_slice() {
        [
            "CREATE",
            "TABLE" | "INDEX" | "SEQUENCE" | "VIEW",
            "IF",
            "NOT",
            "EXISTS",
            ..,
        ]
        | ["CREATE", "UNIQUE", "INDEX", "IF", "NOT", "EXISTS", ..] => (["IF", "NOT", "EXISTS"].as_slice(), 955),
        ["DROP", "TABLE" | "VIEW", "IF", "EXISTS", ..] => (["IF", "EXISTS"].as_slice(), 942),
        ["DROP", "INDEX", "IF", "EXISTS", ..] => (["IF", "EXISTS"].as_slice(), 1418),
        ["DROP", "SEQUENCE", "IF", "EXISTS", ..] => (["IF", "EXISTS"].as_slice(), 2289),
        _ => return plain(),
    };
    let upper = sql.to_ascii_uppercase();
    let Some(start) = upper.find("IF") else { return plain() };
    let mut end = start;
    for word in phrase {
        match upper[end..].find(word) {
            Some(at) => end += at + word.len(),
            None => return plain(),
        }
    }
    Step {
        sql: format!("{}{}", &sql[..start], sql[end..].trim_start()),
        tolerates: Some(tolerates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        steps(script).into_iter().map(|step| step.sql).collect()
    }

    #[test]
    fn a_semicolon_ends_a_statement_unless_it_is_within_something() {
        let script = "-- a remark; with a semicolon
            INSERT INTO t VALUES ('one; two', \"a;b\", q'[it's; here]'); ;
            /* another; */ UPDATE t SET a = 'it''s;' -- and; one
            WHERE b = 1";
        assert_eq!(
            texts(script),
            [
                "INSERT INTO t VALUES ('one; two', \"a;b\", q'[it's; here]')",
                "UPDATE t SET a = 'it''s;' -- and; one\n            WHERE b = 1",
            ]
        );
    }

    #[test]
    fn a_statement_has_the_line_on_which_it_begins() {
        let script = "-- a remark\n\nCREATE TABLE t (\n a INT);\nALTER SESSION SET NLS_DATE_FORMAT = 'YYYY';\n\
                      BEGIN\n NULL;\nEND;\n/\nINSERT INTO t VALUES (1); COMMIT;";
        let found: Vec<_> = statements(script)
            .into_iter()
            .map(|statement| (statement.line, statement.effect))
            .collect();
        use StatementEffect::{Commits, CommitsByItself, Session, Undoable};
        let expected = [
            (3, CommitsByItself),
            (5, Session),
            (6, CommitsByItself),
            (10, Undoable),
            (10, Commits),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_no_statement() {
        for script in ["", " \n", ";;", "-- x", "/* x", "/\n"] {
            assert!(steps(script).is_empty(), "{script}");
        }
    }

    #[test]
    fn a_block_ends_with_a_slash_on_a_line_of_its_own() {
        let script = "BEGIN a := 1; b := 2 / 3; END;\n/\nCREATE OR REPLACE TRIGGER t BEFORE INSERT ON u\nBEGIN NULL; END;\n / \nSELECT 1 FROM DUAL;";
        assert_eq!(
            texts(script),
            [
                "BEGIN a := 1; b := 2 / 3; END;",
                "CREATE OR REPLACE TRIGGER t BEFORE INSERT ON u\nBEGIN NULL; END;",
                "SELECT 1 FROM DUAL",
            ]
        );
    }

    #[test]
    fn what_may_be_there_already_is_no_error() {
        let cases = [
            (
                "create table if not exists t (a int)",
                "create table t (a int)",
                Some(955),
            ),
            (
                "CREATE UNIQUE INDEX IF  NOT\nEXISTS i ON t (a)",
                "CREATE UNIQUE INDEX i ON t (a)",
                Some(955),
            ),
            ("DROP TABLE IF EXISTS t", "DROP TABLE t", Some(942)),
            ("DROP INDEX IF EXISTS i", "DROP INDEX i", Some(1418)),
            ("DROP TABLE t", "DROP TABLE t", None),
            (
                "CREATE TABLE t (\"IF NOT EXISTS\" int)",
                "CREATE TABLE t (\"IF NOT EXISTS\" int)",
                None,
            ),
        ];
        for (given, sql, tolerates) in cases {
            assert_eq!(
                steps(given),
                [Step {
                    sql: sql.to_owned(),
                    tolerates
                }]
            );
        }
    }

    #[test]
    fn texts_in_any_language_are_left_as_they_are() {
        assert_eq!(
            texts("INSERT INTO t VALUES ('日本; 🦀é');é"),
            ["INSERT INTO t VALUES ('日本; 🦀é')", "é"]
        );
    }
}
