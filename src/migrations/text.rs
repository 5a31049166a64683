//! The text of a migration's file, however an editor or a checkout has saved it.

use std::path::Path;

use sha2::{Digest, Sha256};

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

/// What a file of one of these tools applies: the text before its line `Down`. Also whether it runs
/// outside a transaction. `None` if it has no line of these tools. Lines keep their numbers.
pub(super) fn up_section(text: &str) -> Result<Option<(&str, bool)>, String> {
    let (mut at, mut is_up, mut end, mut is_outside) = (0, false, None, false);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let read = Mark::read(line);
        is_outside |= matches!(read, Some((Mark::Up | Mark::Nothing, true)));
        match read.map(|(mark, _)| mark) {
            Some(Mark::Up) if is_up => {
                return Err(format!(
                    "has a second part to apply on line {number}; write it in a file of its own"
                ));
            }
            Some(Mark::Up) => is_up = true,
            Some(Mark::Down) if !is_up => {
                return Err(format!(
                    "has a part `Down` on line {number}, and no line before it that begins the part `Up`"
                ));
            }
            Some(Mark::Down) => end = end.or(Some(at)),
            Some(Mark::Between) => {
                is_up = true;
                end = end.or(Some(at));
            }
            Some(Mark::Unknown) => {
                return Err(format!(
                    "has on line {number} `{}`, which Tenantry does not know",
                    line.trim()
                ));
            }
            Some(Mark::Nothing) | None => {}
        }
        at += line.len();
    }
    Ok(is_up.then(|| (&text[..end.unwrap_or(text.len())], is_outside)))
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
            assert_eq!(up_section(&file), Ok(Some((section.as_str(), false))), "{file}");
            assert_eq!(up_section(&section), Ok(Some((section.as_str(), false))), "{section}");
        }
        let tern = "CREATE TABLE t (i int);\n---- create above / drop below ----\nDROP TABLE t;\n";
        assert_eq!(up_section(tern), Ok(Some(("CREATE TABLE t (i int);\n", false))));
        for outside in [
            "-- migrate:up transaction:false\nVACUUM",
            "-- +goose NO TRANSACTION\n-- +goose Up\nVACUUM",
            "-- +goose Up\n-- +goose NO TRANSACTION\nVACUUM",
            "-- +migrate Up notransaction\nVACUUM",
        ] {
            assert_eq!(up_section(outside), Ok(Some((outside, true))), "{outside}");
        }
        for other in [
            "",
            "SELECT 1",
            "-- migrate: the users",
            "-- a comment",
            "SELECT '+goose Down'",
        ] {
            assert_eq!(up_section(other), Ok(None), "{other}");
        }
        for (refused, reason) in [
            ("SELECT 1;\n-- migrate:down\nx", "a part `Down` on line 2"),
            ("-- +goose Down\nx\n-- +goose Up", "a part `Down` on line 1"),
            (
                "-- migrate:up\n-- migrate:down\n-- migrate:up\n",
                "a second part to apply on line 3",
            ),
            ("-- +goose Up\n-- +goose Dwon\n", "line 2 `-- +goose Dwon`"),
            ("-- +goose Up\n-- +goose ENVSUB ON\n", "line 2 `-- +goose ENVSUB ON`"),
        ] {
            let error = up_section(refused).unwrap_err();
            assert!(error.contains(reason), "{refused}: {error}");
        }
    }
}
