//! Environment variables that look as if they were meant for the configuration, but that nothing
//! reads. A variable of another use, such as Kubernetes' `TENANTRY_SERVICE_HOST`, is left alone.

use serde_json::Value;
use tenantry_core::nearest;

use super::{Environment, FILE_VARIABLE, Fault, OF_LEFT_OUT_KEYS, OVERRIDE_PREFIX, Place, schema};

const PREFIX: &str = "TENANTRY_";

/// The most levels of a key.
const MOST_LEVELS: usize = 5;

/// One fault for each such variable; `text` is the configuration file's.
pub(super) fn unread(environment: &Environment, text: &str, schema: &Value) -> Vec<Fault> {
    let mut known: Vec<String> = references(text).map(str::to_owned).collect();
    known.push(FILE_VARIABLE.to_owned());
    known.extend(OF_LEFT_OUT_KEYS.iter().map(|(name, ..)| (*name).to_owned()));
    let of_keys = known.len();
    add_keys(schema, OVERRIDE_PREFIX.trim_end_matches('_'), 1, &mut known);
    let unread = environment.names().filter(|name| {
        name.starts_with(PREFIX) && !name.starts_with(OVERRIDE_PREFIX) && !known.iter().any(|known| known == name)
    });
    // The prefix is the same in all of them, and one `_` where two are meant is the usual mistake.
    let plain = |name: &str| {
        name[PREFIX.len()..]
            .replace("__", "_")
            .trim_start_matches('_')
            .to_uppercase()
    };
    let candidates: Vec<(String, &String)> = known
        .iter()
        .enumerate()
        .filter_map(|(index, name)| {
            let is_key = index >= of_keys;
            (is_key || name.starts_with(PREFIX)).then(|| (plain(name), name))
        })
        .collect();
    unread
        .filter_map(|name| {
            let meant = nearest(&plain(name), candidates.iter().map(|(plain, _)| plain.as_str()))?;
            let (_, known) = candidates.iter().find(|(plain, _)| plain == meant)?;
            let fault = Fault::new(Place::variable(name), &[], "nothing reads this variable");
            Some(fault.with_suggestion(Some(known.as_str())))
        })
        .collect()
}

/// The variables to which the values of a file refer.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// Adds the variables of the keys of `schema` from the second level on.
fn add_keys(schema: &Value, before: &str, level: usize, found: &mut Vec<String>) {
    for key in schema::keys(schema) {
        let name = format!("{before}__{}", key.to_uppercase());
        if level < MOST_LEVELS
            && let Some(inner) = schema::member(schema, key)
        {
            add_keys(inner, &name, level + 1, found);
        }
        if level > 1 {
            found.push(name);
        }
    }
}
