//! `${VAR}` and `${VAR:-default}` in values.
//!
//! They are replaced after the YAML is parsed, so a variable may contain any text.
//! `${VAR:-default}` is the default if the variable is not set or empty; the default may contain
//! references too. `$${` is the text `${`; any other `$` is a plain character. Keys are not
//! changed.

use super::{
    environment::Environment,
    fault::{Fault, Step, below},
    tree::{Kind, Node},
};

/// How deep defaults may hold references.
const MOST_NESTED: usize = 8;

/// Replaces every reference in the values of `node`; a value that had one is read as what the
/// schema expects there.
pub(crate) fn substitute(node: &mut Node, path: &[Step], environment: &Environment) {
    match &mut node.kind {
        Kind::Text(text) if text.contains("${") => match expand(text, environment, MOST_NESTED) {
            Ok(expanded) => {
                node.kind = if expanded.used_a_variable {
                    Kind::Loose(expanded.text)
                } else {
                    Kind::Text(expanded.text)
                }
            }
            Err(message) => node.kind = Kind::Broken(Box::new(Fault::new(node.place.clone(), path, message))),
        },
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                substitute(item, &below(path, Step::Index(index)), environment);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                substitute(&mut entry.value, &below(path, entry.key.as_str()), environment);
            }
        }
        _ => {}
    }
}

#[derive(Default)]
struct Expanded {
    text: String,
    used_a_variable: bool,
}

fn expand(text: &str, environment: &Environment, depth: usize) -> Result<Expanded, String> {
    let mut expanded = Expanded::default();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(dollar);
        expanded.text.push_str(before);
        if let Some(after) = from_dollar.strip_prefix("$${") {
            expanded.text.push_str("${");
            rest = after;
        } else if let Some(after) = from_dollar.strip_prefix("${") {
            let Some(end) = closing_brace(after) else {
                return Err("`${` has no `}`; `$${` stands for `${` as text".to_owned());
            };
            expanded.text.push_str(&reference(&after[..end], environment, depth)?);
            expanded.used_a_variable = true;
            rest = &after[end + 1..];
        } else {
            expanded.text.push('$');
            rest = &from_dollar[1..];
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// The position of the brace that closes the one before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    text.char_indices().find_map(|(index, c)| {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(index)
    })
}

fn reference(inside: &str, environment: &Environment, depth: usize) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(
            "`${...}` must hold a variable's name, or `NAME:-default`; `$${` stands for `${` as text".to_owned(),
        );
    }
    let value = environment
        .get(name)
        .map_err(|error| format!("environment variable `{name}`: {error}"))?;
    match (value, default) {
        (Some(value), None) => Ok(value.to_owned()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.to_owned()),
        (_, Some(_)) if depth == 0 => Err(format!("the default of `{name}` contains references nested too deep")),
        (_, Some(default)) => Ok(expand(default, environment, depth - 1)?.text),
        (None, None) => Err(format!(
            "environment variable `{name}` is not set, and there is no default"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment = Environment::from([("A", "a: {canary}"), ("EMPTY", ""), ("REF", "${A}")]);
        expand(text, &environment, MOST_NESTED).map(|expanded| expanded.text)
    }

    #[test]
    fn references_are_replaced_and_other_dollars_stay() {
        for (text, expected) in [
            ("x${A}y", "xa: {canary}y"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}${NONE:-e}", "de"),
            ("${NONE:-}", ""),
            ("${NONE:-${EMPTY:-${A}}}", "a: {canary}"),
            ("${NONE:-{\"a\":{}}}", "{\"a\":{}}"),
            ("pa$$word$", "pa$$word$"),
            ("$${A}", "${A}"),
            ("${REF}", "${A}"),
            ("$A", "$A"),
            ("é${NONE:-ü}", "éü"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_missing_variable_is_named_and_bad_text_not_repeated() {
        let missing = expanded("canary${NONE}").unwrap_err();
        assert_eq!(
            missing,
            "environment variable `NONE` is not set, and there is no default"
        );
        for text in [
            "${canary",
            "${canary-x}",
            "${}",
            "${1canary}",
            "${canary:?x}",
            "${NONE:-${canary}",
        ] {
            let message = expanded(text).unwrap_err();
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn defaults_nested_without_end_are_refused() {
        let text = format!("{}x{}", "${N:-".repeat(5000), "}".repeat(5000));
        assert!(expanded(&text).unwrap_err().contains("too deep"));
    }
}
