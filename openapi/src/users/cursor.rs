//! The cursor: the place at which the next page begins.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poem_openapi::registry::MetaSchema;
use serde_json::Value;

use crate::input::Parameter;

/// Which form a cursor has. A server that changes the form counts this up and refuses what others
/// wrote.
const VERSION: u8 = 1;

/// After which id the next page begins. To clients it is opaque: base64url of a version and of the
/// id in eight bytes, so that exactly the texts of the documented pattern are cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) after: i64,
}

/// Nine bytes: the first is [`VERSION`], and the first bit of the second is the id's sign, which is
/// never set.
const PATTERN: &str = "^A[Q-X][A-Za-z0-9_-]{10}$";

impl Cursor {
    /// As clients get it.
    pub(crate) fn to_text(self) -> String {
        let mut bytes = [VERSION; 9];
        bytes[1..].copy_from_slice(&self.after.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl Parameter for Cursor {
    const NAME: &'static str = "cursor";

    fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(12),
            max_length: Some(12),
            pattern: Some(PATTERN.to_owned()),
            // Swagger UI fills the field with it, and what is then listed begins with the first.
            example: Some(Self { after: 0 }.to_text().into()),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 9];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        let id = match (length, bytes) {
            (Ok(9), [VERSION, id @ ..]) => i64::from_be_bytes(id),
            _ => -1,
        };
        if id < 0 {
            return Err("is not a cursor of this server; use `next` of the previous page".to_owned());
        }
        Ok(Self { after: id })
    }

    fn to_value(&self) -> Value {
        self.to_text().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        for after in [0, 1, 50, 1 << 32, i64::MAX] {
            let text = Cursor { after }.to_text();
            assert!(pattern.is_match(&text), "{text}");
            assert_eq!(Cursor::read(&text), Ok(Cursor { after }));
        }
    }

    #[test]
    fn exactly_the_texts_of_the_pattern_are_cursors() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        let alphabet = "AZaz09_-QX=+ ";
        for first in alphabet.chars() {
            for second in alphabet.chars() {
                for last in alphabet.chars() {
                    let text = format!("{first}{second}AAAAAAAAA{last}");
                    assert_eq!(pattern.is_match(&text), Cursor::read(&text).is_ok(), "{text}");
                }
            }
        }
        for text in ["", "50", "AQAAAAAAAAA", "AQAAAAAAAAAAA", "ä"] {
            assert!(Cursor::read(text).is_err(), "{text}");
        }
    }
}
