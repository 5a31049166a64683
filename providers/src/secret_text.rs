//! A secret that is held as text: a JSON object, or a database URL alone.

use serde_json::{Map, Value, error::Category};
use tenantry_core::ProviderError;

/// Reads `text`. A URL becomes `{"url": ...}`, so what comes out is always an object.
///
/// # Errors
/// [`ProviderError::Invalid`], which names line and column but repeats nothing of the text.
pub(crate) fn parse(text: &str) -> Result<Value, ProviderError> {
    // Editors on Windows begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return match serde_json::from_str(text) {
            Ok(object) => Ok(Value::Object(object)),
            Err(error) => Err(ProviderError::invalid(malformed(&error))),
        };
    }
    from_url(text).ok_or_else(|| ProviderError::invalid("is neither a JSON object nor a URL"))
}

/// Reads bytes as [`parse`] does.
///
/// # Errors
/// Those of [`parse`]; also if the bytes are not UTF-8.
pub(crate) fn parse_bytes(bytes: &[u8]) -> Result<Value, ProviderError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProviderError::invalid("is not UTF-8 text"))?;
    parse(text)
}

/// The object that a database URL stands for; `None` if `text` does not begin with a scheme (RFC
/// 3986 §3.1).
pub(crate) fn from_url(text: &str) -> Option<Value> {
    let (scheme, rest) = text.split_once(':')?;
    let mut letters = scheme.bytes();
    let begins = letters.next().is_some_and(|b| b.is_ascii_alphabetic());
    let goes_on = letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let one_line = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if !(begins && goes_on && one_line) || rest.is_empty() {
        return None;
    }
    Some(Value::Object(Map::from_iter([(
        "url".to_owned(),
        Value::String(text.to_owned()),
    )])))
}

/// The fault and its position. serde's own message can repeat the text.
fn malformed(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => "is JSON that ends too early",
        Category::Io | Category::Syntax | Category::Data => "is not valid JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_or_a_url_is_read() {
        assert_eq!(parse(" {\"a\": 1}\n").unwrap(), json!({"a": 1}));
        assert_eq!(parse("\u{feff}{\"a\": 1}").unwrap(), json!({"a": 1}));
        for url in [
            "postgres://u:p@h/d",
            "sqlite:tenant1.db",
            "mysql://h:3306/d?ssl-mode=required",
        ] {
            assert_eq!(parse(&format!("{url}\n")).unwrap(), json!({"url": url}));
        }
    }

    #[test]
    fn anything_else_is_invalid_and_not_repeated() {
        for text in [
            "",
            "canary",
            "canary:",
            "{\"canary\"",
            "{canary}",
            "[{\"canary\": 1}]",
            "\"canary\"",
            "1",
            "null",
            ":canary",
            "postgres://u:canary@h/d\nmore",
            "a canary: b",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, ProviderError::Invalid { .. }), "{text}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let error = parse("{\"a\": 1,\n \"b\" 2}").unwrap_err();
        assert!(
            error.to_string().ends_with("is not valid JSON (line 2, column 6)"),
            "{error}"
        );
        assert!(parse_bytes(&[b'{', 0xff]).is_err());
    }
}
