//! The text of a migration's file, however an editor or a checkout has saved it.

use std::path::Path;

use sha2::{Digest, Sha256};
use tenantry_core::{ScriptFault, ScriptStatement, StatementEffect};

use super::FilesError;

/// Makes a file run outside a transaction. It must be a separate line before the first statement.
pub(super) const DIRECTIVE: &str = "-- no-transaction";

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file's text, without a byte order mark.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<String, FilesError> {
    let refused = |reason: String| FilesError::Text {
        path: path.to_owned(),
        reason,
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(refused("is UTF-16; save it as UTF-8".to_owned()));
    }
    let line = |at: usize| 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let reason = format!("line {} holds a NUL character; save the file as UTF-8", line(at));
        return Err(refused(reason));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).to_owned()),
        Err(error) => {
            let reason = format!(
                "line {} is not UTF-8; save the file as UTF-8",
                line(error.valid_up_to())
            );
            Err(refused(reason))
        }
    }
}

/// The text without its line [`DIRECTIVE`], if it has one among the comments that it begins with.
pub(super) fn without_directive(text: &str) -> Option<String> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.eq_ignore_ascii_case(DIRECTIVE) {
            return Some(format!("{}{}", &text[..at], &text[at + line.len()..]));
        }
        if !trimmed.is_empty() && !trimmed.starts_with("--") {
            return None;
        }
        at += line.len();
    }
    None
}

/// Whether a text has nothing but comments, one to a line.
pub(super) fn is_comment(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with("--"))
}

/// A line that parts a file of dbmate (`-- migrate:up`), goose (`-- +goose Up`), sql-migrate (`--
/// +migrate Up`), micrate (`-- +micrate Up`), node-pg-migrate (`-- Up Migration`) or tern.
#[derive(Debug, PartialEq, Eq)]
enum Mark {
    Up,
    Down,
    /// What stands above it is `Up`, and what stands below it is `Down`.
    Between,
    /// It parts nothing.
    Nothing,
    Unknown,
}

impl Mark {
    /// Reads a line; `None` if it is of none of these tools. Also whether the file runs outside a
    /// transaction.
    fn read(line: &str) -> Option<(Self, bool)> {
        let line = line.trim().strip_prefix("--")?.trim_start().to_ascii_lowercase();
        match line.as_str() {
            "-- create above / drop below ----" => return Some((Self::Between, false)),
            "up migration" => return Some((Self::Up, false)),
            "down migration" => return Some((Self::Down, false)),
            _ => {}
        }
        let mut words = line.split_whitespace();
        let first = words.next()?;
        if let Some(mark) = first.strip_prefix("migrate:") {
            let mark = match mark {
                "up" => Self::Up,
                "down" => Self::Down,
                _ => return None,
            };
            return Some((mark, words.any(|option| option == "transaction:false")));
        }
        if !matches!(first, "+goose" | "+migrate" | "+micrate") {
            return None;
        }
        let words: Vec<&str> = words.collect();
        Some(match words.as_slice() {
            ["up", options @ ..] => (Self::Up, options.contains(&"notransaction")),
            ["down", ..] => (Self::Down, false),
            ["no", "transaction"] => (Self::Nothing, true),
            // The statement between these lines is split as any other.
            ["statementbegin" | "statementend"] | ["envsub", "off"] => (Self::Nothing, false),
            _ => (Self::Unknown, false),
        })
    }
}

/// A line with a mark.
struct Marked<'a> {
    mark: Mark,
    /// Whether the file runs outside a transaction.
    is_outside: bool,
    /// Its number, from 1.
    number: usize,
    before: &'a str,
    line: &'a str,
    after: &'a str,
}

impl Marked<'_> {
    fn fault<T>(&self, reason: &str) -> Result<T, ScriptFault> {
        Err(ScriptFault {
            line: self.number,
            reason: reason.to_owned(),
        })
    }
}

/// The lines of these tools. The line that begins the part to apply, or tern's between the parts,
/// is none within a comment or a literal.
fn marks<'a>(text: &'a str, dialect: &str) -> Vec<Marked<'a>> {
    let mut at = 0;
    let lines = text.split_inclusive('\n').enumerate().filter_map(|(index, line)| {
        let (before, rest) = text.split_at(at);
        at += line.len();
        let (mark, is_outside) = Mark::read(line)?;
        let is_mark = !matches!(mark, Mark::Up | Mark::Between) || is_code(before, dialect);
        is_mark.then(|| Marked {
            mark,
            is_outside,
            number: index + 1,
            before,
            line: line.trim(),
            after: &rest[line.len()..],
        })
    });
    lines.collect()
}

/// What a file of one of these tools applies: the text before its line `Down`. Also whether it runs
/// outside a transaction. `None` if the file is of none of these tools. Lines keep their numbers.
pub(super) fn up_section<'a>(text: &'a str, dialect: &str) -> Result<Option<(&'a str, bool)>, ScriptFault> {
    let marks = marks(text, dialect);
    if !marks.iter().any(|line| matches!(line.mark, Mark::Up | Mark::Between)) {
        let mut downs = marks.iter().filter(|line| line.mark == Mark::Down);
        let undoes = |line: &&Marked<'_>| is_code(line.before, dialect) && has_code(line.after, dialect);
        return match downs.find(undoes) {
            None => Ok(None),
            Some(down) => down.fault("it begins a part `Down`, and no line before it begins the part `Up`"),
        };
    }
    let (mut is_up, mut up) = (false, None);
    for line in &marks {
        match line.mark {
            Mark::Up if is_up => {
                return line.fault("it begins a second part to apply; write that in a file of its own");
            }
            Mark::Up => is_up = true,
            Mark::Down if !is_up => {
                return line.fault("it begins a part `Down`, and no line before it begins the part `Up`");
            }
            Mark::Down => up = up.or(Some(line.before)),
            Mark::Between => {
                is_up = true;
                up = up.or(Some(line.before));
            }
            Mark::Unknown => return line.fault(&format!("Tenantry does not know `{}`", line.line)),
            Mark::Nothing => {}
        }
    }
    let is_outside = |line: &Marked<'_>| line.is_outside && matches!(line.mark, Mark::Up | Mark::Nothing);
    Ok(Some((up.unwrap_or(text), marks.iter().any(is_outside))))
}

fn code(sql: &str, dialect: &str) -> String {
    // In doubt a comment of Oracle goes to the end of a statement. In a file it ends as SQLite's
    // does, and a mark stands behind it.
    let dialect = match dialect {
        "postgresql" | "mysql" => dialect,
        _ => "sqlite",
    };
    let statement = ScriptStatement {
        line: 1,
        sql,
        effect: StatementEffect::Undoable,
    };
    statement.code(dialect)
}

/// Whether what follows this text is in none of its comments and literals.
fn is_code(before: &str, dialect: &str) -> bool {
    const NEXT: &str = "tenantry";
    code(&format!("{before}{NEXT}"), dialect).ends_with(NEXT)
}

/// Whether a text has anything but comments.
fn has_code(text: &str, dialect: &str) -> bool {
    !code(text, dialect).trim().is_empty()
}

/// The checksum to write down, and those that may have been written down for the same statements:
/// the byte order mark and the directive counted once, and neither changes a statement.
pub(super) fn checksums(text: &str, bare: Option<&str>) -> (String, Vec<String>) {
    let with_mark = |text: &str| checksum(&format!("{BYTE_ORDER_MARK}{text}"));
    let Some(bare) = bare else {
        return (checksum(text), vec![with_mark(text)]);
    };
    (checksum(bare), vec![with_mark(bare), checksum(text), with_mark(text)])
}

/// SHA-256 in hexadecimal.
pub(super) fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_tool_applies_what_is_before_its_way_back() {
        for (up, down) in [
            ("-- migrate:up", "-- migrate:down"),
            ("--migrate:up", "-- migrate:down transaction:false"),
            ("-- +goose Up", "-- +goose Down"),
            (
                "--   +goose UP\n-- +goose StatementBegin",
                "-- +goose down\n-- +goose StatementBegin",
            ),
            ("-- +migrate Up", "-- +migrate Down notransaction"),
            ("-- +micrate Up", "-- +micrate Down"),
            ("-- Up Migration", "-- Down Migration"),
        ] {
            let section = format!("-- a comment\n/* another */\n{up}\nCREATE TABLE t (i int);\n\n");
            let file = format!("{section}{down}\nDROP TABLE t;\n");
            assert_eq!(
                up_section(&file, "postgresql"),
                Ok(Some((section.as_str(), false))),
                "{file}"
            );
            assert_eq!(
                up_section(&section, "postgresql"),
                Ok(Some((section.as_str(), false))),
                "{section}"
            );
        }
        let tern = "CREATE TABLE t (i int);\n---- create above / drop below ----\nDROP TABLE t;\n";
        assert_eq!(
            up_section(tern, "postgresql"),
            Ok(Some(("CREATE TABLE t (i int);\n", false)))
        );
        for outside in [
            "-- migrate:up transaction:false\nVACUUM",
            "-- +goose NO TRANSACTION\n-- +goose Up\nVACUUM",
            "-- +goose Up\n-- +goose NO TRANSACTION\nVACUUM",
            "-- +migrate Up notransaction\nVACUUM",
        ] {
            assert_eq!(
                up_section(outside, "postgresql"),
                Ok(Some((outside, true))),
                "{outside}"
            );
        }
        for other in [
            "",
            "SELECT 1",
            "-- migrate: the users",
            "-- a comment",
            "SELECT '+goose Down'",
            "-- +goose is not used\nSELECT 1;",
            "SELECT 1;\n-- migrate:down\n-- DROP TABLE t;\n/* DROP TABLE u; */\n",
            "/*\n-- +goose Up\nx\n-- +goose Down\ny\n*/\nSELECT 1;",
            "SELECT '\n-- migrate:up\n-- migrate:down\n';",
            "/*\n---- create above / drop below ----\n*/\nSELECT 1;",
            "SELECT $$\n-- Up Migration\n-- Down Migration\nx $$;",
        ] {
            assert_eq!(up_section(other, "postgresql"), Ok(None), "{other}");
        }
        let nested = "/* see db/*.sql */\n-- migrate:up\nSELECT 1;\n";
        for driver in ["oracle", "sqlite", "mysql", "another"] {
            let file = format!("{nested}-- migrate:down\nSELECT 2;\n");
            assert_eq!(up_section(&file, driver), Ok(Some((nested, false))), "{driver}");
        }
        for (refused, reason) in [
            ("SELECT 1;\n-- migrate:down\nx", "line 2: it begins a part `Down`"),
            ("-- +goose Down\nx\n-- +goose Up", "line 1: it begins a part `Down`"),
            (
                "-- migrate:up\n-- migrate:down\n-- migrate:up\n",
                "line 3: it begins a second part to apply",
            ),
            (
                "-- +goose Up\n-- +goose Dwon\n",
                "line 2: Tenantry does not know `-- +goose Dwon`",
            ),
            (
                "-- +goose Up\n-- +goose ENVSUB ON\n",
                "line 2: Tenantry does not know `-- +goose ENVSUB ON`",
            ),
        ] {
            let error = up_section(refused, "postgresql").unwrap_err().to_string();
            assert!(error.contains(reason), "{refused}: {error}");
        }
    }
}
