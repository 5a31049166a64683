//! libpq's `options`: settings that the server's session begins with, such as `-c search_path=app`.

use super::super::{Refusal, UrlSettings};

/// Settings that are made after the session began, whatever the secret says.
const OURS: [&str; 11] = [
    "array_nulls",
    "bytea_output",
    "client_connection_check_interval",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
    "transform_null_equals",
];

/// Sets what each `-c name=value` or `--name=value` says.
pub(in super::super) fn set(settings: &mut UrlSettings, value: &str) -> Result<(), Refusal> {
    let mut words = words(value).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(Refusal::Value)?
        } else {
            let setting = word.strip_prefix("-c").or_else(|| word.strip_prefix("--"));
            setting.ok_or(SETTINGS_ONLY)?.to_owned()
        };
        let (name, value) = setting.split_once('=').ok_or(Refusal::Value)?;
        let name = name.replace('-', "_").to_ascii_lowercase();
        match name.as_str() {
            "search_path" => settings.session.schema = names(value).ok_or(Refusal::Value)?,
            "application_name" => settings.session.application_name = Some(value.to_owned()),
            "statement_timeout" => {
                return Err(Refusal::Because(
                    "has `statement_timeout`: write `query.timeout` in the secret instead",
                ));
            }
            name if OURS.contains(&name) || name == "xmloption" => {
                return Err(Refusal::Because("has a setting that Tenantry makes itself: remove it"));
            }
            name if name.is_empty()
                || !name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) =>
            {
                return Err(Refusal::Value);
            }
            // The server divides the text at all of these, and sqlx escapes none of them.
            _ if value.contains(['\t', '\n', '\r', '\x0b', '\x0c']) => return Err(Refusal::Value),
            _ => settings.session.settings.push((name, value.to_owned())),
        }
    }
    Ok(())
}

const SETTINGS_ONLY: Refusal =
    Refusal::Because("has more than settings such as `-c search_path=app`, which cannot be honoured");

/// Divides the text at spaces. A backslash takes the next character as it is (`pg_split_opts`).
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut escaped) = (Vec::new(), None::<String>, false);
    for c in text.chars() {
        if escaped || !(c.is_ascii_whitespace() || c == '\\') {
            word.get_or_insert_default().push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else {
            words.extend(word.take());
        }
    }
    words.extend(word);
    words
}

/// Reads names as SQL has them: those without quotes in lower case. They are given as `schema`
/// writes them; `None` if a name cannot be written there.
pub(super) fn names(text: &str) -> Option<Option<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut end = quoted.find('"')?;
                while quoted[end + 1..].starts_with('"') {
                    end += 2 + quoted[end + 2..].find('"')?;
                }
                (quoted[..end].replace("\"\"", "\""), quoted[end + 1..].trim_start())
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_lowercase(), &rest[end..])
            }
        };
        if name.is_empty() || name.trim() != name || name.contains(',') {
            return None;
        }
        names.push(name);
        rest = match behind.strip_prefix(',') {
            Some(more) if more.trim().is_empty() => return None,
            Some(more) => more.trim_start(),
            None if behind.is_empty() => "",
            None => return None,
        };
    }
    Some(Some(names.join(",")).filter(|names| !names.is_empty()))
}
