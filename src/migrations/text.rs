//! The text of a migration's file, however an editor or a checkout has saved it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::FilesError;

/// Has a file run outside a transaction. It stands in a line of its own before the first statement.
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

/// The checksum to write down, and those that may have been written down for the same statements: the
/// byte order mark and the directive counted once, and neither changes a statement.
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
