//! The text of a migration's file, however an editor or a checkout has saved it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::FilesError;

/// Makes a file run outside a transaction. It must be a separate line before the first statement.
pub(super) const DIRECTIVE: &str = "-- no-transaction";

/// The lines between which a file of dbmate holds what it applies.
const UP: &str = "-- migrate:up";
const DOWN: &str = "-- migrate:down";

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

/// What a file of dbmate applies: the text before its line `-- migrate:down`, if it has a line `--
/// migrate:up` among the comments that it begins with. Also whether it runs outside a transaction.
/// Lines keep their numbers.
pub(super) fn up_section(text: &str) -> Option<(&str, bool)> {
    let is_empty = |line: &&str| line.is_empty() || (line.starts_with("--") && !line.starts_with(UP));
    let first = text.lines().map(str::trim).find(|line| !is_empty(line))?;
    let options = first.strip_prefix(UP)?;
    let outside = options.split_whitespace().any(|option| option == "transaction:false");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with(DOWN) {
            break;
        }
        at += line.len();
    }
    Some((&text[..at], outside))
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
    fn a_file_of_dbmate_applies_what_is_before_its_way_back() {
        let file = "-- a comment\n\n-- migrate:up\nCREATE TABLE t (i int);\n\n-- migrate:down\nDROP TABLE t;\n";
        let (up, outside) = up_section(file).unwrap();
        assert!(
            up.contains("CREATE TABLE t") && !up.contains("DROP") && !outside,
            "{up}"
        );
        assert_eq!(
            up_section("-- migrate:up transaction:false\nVACUUM"),
            Some(("-- migrate:up transaction:false\nVACUUM", true))
        );
        for other in ["", "-- migrate:down\nx", "SELECT 1;\n-- migrate:up\n", "-- a comment"] {
            assert_eq!(up_section(other), None, "{other}");
        }
    }
}
