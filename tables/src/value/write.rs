//! Values as JSON and as CSV.

use std::io::Write as _;

use super::{Datum, time};

impl Datum {
    /// Writes it as JSON.
    pub(crate) fn write_json(&self, to: &mut Vec<u8>) {
        match self {
            Self::Null => to.extend_from_slice(b"null"),
            Self::Bool(true) => to.extend_from_slice(b"true"),
            Self::Bool(false) => to.extend_from_slice(b"false"),
            Self::Int(number) => write_number(to, *number),
            Self::Numeric(number) | Self::Json(number) => to.extend_from_slice(number.as_bytes()),
            Self::Float4(float) if !float.is_finite() => write_text(to, &self.to_text()),
            Self::Float8(float) if !float.is_finite() => write_text(to, &self.to_text()),
            Self::Float4(_) | Self::Float8(_) => to.extend_from_slice(self.to_text().as_bytes()),
            Self::Text(text) => write_text(to, text),
            // None of these has a character that JSON escapes but the backslash of bytes.
            Self::Bytes(_) => write_text(to, &self.to_text()),
            Self::Uuid(_) | Self::Date(_) | Self::Time(_) | Self::Timestamp(_) | Self::Timestamptz(_) => {
                to.push(b'"');
                self.write_letters(to);
                to.push(b'"');
            }
        }
    }

    /// Writes a value that has a notation of letters, digits and signs alone.
    fn write_letters(&self, to: &mut Vec<u8>) {
        match self {
            Self::Uuid(uuid) => to.extend_from_slice(
                uuid.hyphenated()
                    .encode_lower(&mut uuid::Uuid::encode_buffer())
                    .as_bytes(),
            ),
            Self::Date(date) => time::write_date(to, *date),
            Self::Time(time) => time::write_time(to, *time),
            Self::Timestamp(time) => time::write_timestamp(to, *time),
            Self::Timestamptz(time) => time::write_timestamptz(to, *time),
            _ => {}
        }
    }

    /// It as text: what a URL would write, and a CSV does. NULL is the empty text.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Float4(float) => shortest(float, f64::from(*float)),
            Self::Float8(float) => shortest(float, *float),
            Self::Numeric(text) | Self::Text(text) | Self::Json(text) => text.clone(),
            Self::Uuid(_) | Self::Date(_) | Self::Time(_) | Self::Timestamp(_) | Self::Timestamptz(_) => {
                let mut letters = Vec::new();
                self.write_letters(&mut letters);
                String::from_utf8(letters).unwrap_or_default()
            }
            Self::Bytes(bytes) => {
                let mut text = String::with_capacity(2 + 2 * bytes.len());
                text.push_str("\\x");
                for byte in bytes {
                    text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
                    text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
                }
                text
            }
        }
    }
}

/// As PostgreSQL writes it: the fewest digits that read back as the same number, and an exponent if
/// it is far from 1.
fn shortest(float: &(impl std::fmt::Display + std::fmt::LowerExp), as_double: f64) -> String {
    let size = as_double.abs();
    match () {
        () if as_double.is_nan() => "NaN".to_owned(),
        () if size.is_infinite() && as_double > 0.0 => "Infinity".to_owned(),
        () if size.is_infinite() => "-Infinity".to_owned(),
        // Not every database keeps the sign.
        () if size == 0.0 => "0".to_owned(),
        () if (1e-4..1e15).contains(&size) => float.to_string(),
        () => {
            let text = format!("{float:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
    }
}

fn write_number(to: &mut Vec<u8>, number: i64) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a text as JSON.
pub(crate) fn write_text(to: &mut Vec<u8>, text: &str) {
    let is_escaped = |byte: u8| byte < 32 || byte == b'"' || byte == b'\\';
    to.push(b'"');
    // Without a way out of the loop several bytes are compared at once.
    if !text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
        return;
    }
    let mut begin = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            0..32 => b"",
            _ => continue,
        };
        to.extend_from_slice(&text.as_bytes()[begin..at]);
        begin = at + 1;
        match escape {
            b"" => drop(write!(to, "\\u{byte:04x}")),
            escape => to.extend_from_slice(escape),
        }
    }
    to.extend_from_slice(&text.as_bytes()[begin..]);
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_as_serde_writes_them() {
        for text in [
            "",
            "a",
            "\"",
            "\\",
            "a\nb\t\u{1}\u{8}\u{c}\r",
            "äöü",
            "\u{7f}</script>",
            "\u{1f600}",
        ] {
            let mut written = Vec::new();
            write_text(&mut written, text);
            assert_eq!(
                String::from_utf8(written).unwrap(),
                serde_json::to_string(text).unwrap()
            );
        }
    }

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        for (float, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (1.5, "1.5"),
            (-0.1, "-0.1"),
            (1e15, "1e+15"),
            (123456789012345.0, "123456789012345"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
        ] {
            assert_eq!(Datum::Float8(float).to_text(), expected);
        }
        assert_eq!(Datum::Float4(0.1).to_text(), "0.1");
    }
}
