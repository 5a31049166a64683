//! How a secret that says only a part is completed.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use tenantry_core::SecretValue;

/// The names that one setting has in the two forms of a secret. A default under one name must not
/// be added to a secret that has the other name, since it could take precedence.
const SAME: [&[&str]; 3] = [&["type", "engine"], &["database", "dbname"], &["username", "user"]];

/// What a `url` says by its place. Defaults for these would take the place of the URL's, so that a
/// tenant reached another's database. Its parameters may name a schema too.
const IN_URL: [&str; 10] = [
    "type", "engine", "host", "port", "database", "dbname", "path", "username", "user", "password",
];

/// Reads an object, or nothing. An error does not repeat the value.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretValue>, D::Error> {
    let value = SecretValue::new(Value::deserialize(deserializer)?);
    match value.expose() {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(value)),
        _ => Err(D::Error::custom("is not a mapping")),
    }
}

/// `secret` with what it does not say taken from `defaults`, also inside objects such as `pool`.
pub(crate) fn complete(mut secret: Value, defaults: &SecretValue) -> Value {
    let (Some(object), Some(defaults)) = (secret.as_object_mut(), defaults.expose().as_object()) else {
        return secret;
    };
    let has_url = is_said(object, "url");
    let said_otherwise = |object: &Map<String, Value>, name: &str| {
        let named_alike = SAME.iter().find(|names| names.contains(&name));
        let said = named_alike.is_some_and(|names| names.iter().any(|other| is_said(object, other)));
        said || has_url && IN_URL.contains(&name) || name == "schema" && names_schema(object)
    };
    let mut missing: Map<String, Value> = defaults
        .iter()
        .filter(|(name, _)| !said_otherwise(object, name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if names_database(object)
        && let Some(Value::Object(oracle)) = missing.get_mut("oracle")
    {
        oracle.remove("service");
        oracle.remove("sid");
    }
    merge(object, missing);
    secret
}

/// Whether the secret's URL names a schema in its parameters, in any of their spellings.
fn names_schema(object: &Map<String, Value>) -> bool {
    let url = object.get("url").and_then(Value::as_str).unwrap_or_default();
    let Some((_, parameters)) = url.split_once('?') else {
        return false;
    };
    let parameters = parameters.to_ascii_lowercase().replace(['-', '_'], "");
    let names = ["schema=", "currentschema=", "searchpath=", "schemasearchpath="];
    let mut parameters = parameters.split('&');
    parameters.any(|parameter| {
        let in_options = parameter.starts_with("options=") && parameter.contains("search");
        in_options || names.iter().any(|name| parameter.starts_with(name))
    })
}

/// Whether the secret says which database of its server it is, for Oracle also by service or SID.
fn names_database(object: &Map<String, Value>) -> bool {
    let oracle = object.get("oracle").and_then(Value::as_object);
    let in_oracle = |name| oracle.is_some_and(|oracle| is_said(oracle, name));
    let said = ["url", "database", "dbname"].iter().any(|name| is_said(object, name));
    said || in_oracle("service") || in_oracle("sid")
}

/// `template` with each `{tenant}` and `{environment}` in its texts replaced.
#[cfg(feature = "vault")]
pub(crate) fn of_tenant(template: &Value, tenant: &str, environment: &str) -> Value {
    let inner = |value: &Value| of_tenant(value, tenant, environment);
    match template {
        Value::String(text) => Value::String(fill_in(text, tenant, environment)),
        Value::Array(items) => items.iter().map(inner).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), inner(value)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// Whether a text of `template` holds `{tenant}`, so that tenants differ.
#[cfg(feature = "vault")]
pub(crate) fn name_tenants(template: &Value) -> bool {
    match template {
        Value::String(text) => text.contains("{tenant}"),
        Value::Array(items) => items.iter().any(name_tenants),
        Value::Object(members) => members.values().any(name_tenants),
        _ => false,
    }
}

/// `text` with each `{tenant}` and `{environment}` replaced.
#[cfg(feature = "vault")]
pub(crate) fn fill_in(text: &str, tenant: &str, environment: &str) -> String {
    // What takes a name's place may look like the other name.
    let mut parts = text
        .split("{tenant}")
        .map(|part| part.replace("{environment}", environment));
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |filled, part| filled + tenant + &part)
}

fn merge(object: &mut Map<String, Value>, defaults: Map<String, Value>) {
    for (name, default) in defaults {
        if !is_said(object, &name) {
            object.insert(name, default);
        } else if let (Some(Value::Object(inner)), Value::Object(default)) = (object.get_mut(&name), default) {
            merge(inner, default);
        }
    }
}

/// Whether the secret says it. `null` and an empty text are how a form leaves a field open.
fn is_said(object: &Map<String, Value>, name: &str) -> bool {
    match object.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry_core::DatabaseConfig;

    use super::*;

    fn completed(secret: Value, defaults: Value) -> Value {
        complete(secret, &SecretValue::new(defaults))
    }

    #[cfg(feature = "vault")]
    #[test]
    fn a_name_that_looks_like_another_is_not_replaced() {
        let filled = fill_in("{tenant}/{environment}/{other}/{tenant", "{environment}", "{tenant}");
        assert_eq!(filled, "{environment}/{tenant}/{other}/{tenant");
    }

    #[test]
    fn what_rds_manages_is_completed() {
        let defaults = json!({"engine": "postgres", "host": "h", "port": 5432, "dbname": "d", "pool": {"max": {"connections": 7}}});
        let secret = completed(json!({"username": "u", "password": "p"}), defaults);
        let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
        assert_eq!(
            (config.driver.as_str(), config.host.as_deref()),
            ("postgres", Some("h"))
        );
        assert_eq!(
            (config.username.as_deref(), config.database.as_deref()),
            (Some("u"), Some("d"))
        );
        assert_eq!(config.pool.max_connections, Some(7));
    }

    #[test]
    fn what_the_secret_says_wins_under_either_name() {
        let defaults = json!({"type": "postgresql", "database": "other", "username": "other", "host": "other", "port": 1,
            "pool": {"max": {"connections": 1}, "idle": {"connections": 2}}});
        let secret = json!({"engine": "mysql", "dbname": "d", "user": "u", "host": "h", "port": null, "password": "",
            "pool": {"max": {"connections": 9}}});
        let expected = json!({"engine": "mysql", "dbname": "d", "user": "u", "host": "h", "port": 1, "password": "",
            "pool": {"max": {"connections": 9}, "idle": {"connections": 2}}});
        assert_eq!(completed(secret, defaults), expected);
    }

    #[test]
    fn a_default_schema_does_not_replace_that_of_a_url() {
        let names = [
            "schema=acme",
            "sslmode=require&currentSchema=acme",
            "search_path=acme",
            "options=-c%20search_path%3Dacme",
        ];
        for parameters in names {
            let secret = json!({"url": format!("postgres://u:p@h/d?{parameters}")});
            let kept = completed(secret.clone(), json!({"schema": "public"}));
            assert_eq!(kept, secret, "{parameters}");
        }
        let url = "postgres://u:p@h/d?sslmode=require";
        let secret = completed(json!({"url": url}), json!({"schema": "public"}));
        assert_eq!(secret, json!({"url": url, "schema": "public"}));
    }

    #[test]
    fn a_default_service_does_not_replace_the_database() {
        let defaults = json!({"oracle": {"service": {"name": "OTHER"}, "sid": "OTHER"}, "port": 1521});
        for said in [
            json!({"url": "oracle://u:p@h/ACME"}),
            json!({"dbname": "ACME"}),
            json!({"oracle": {"sid": "ACME"}}),
        ] {
            let secret = completed(said.clone(), defaults.clone()).to_string();
            assert!(!secret.contains("OTHER"), "{said} {secret}");
        }
        let secret = completed(json!({"username": "u"}), defaults).to_string();
        assert!(secret.contains("OTHER"), "{secret}");
    }

    #[test]
    fn a_default_never_leads_a_url_to_another_database() {
        let defaults = json!({"type": "mysql", "host": "other", "port": 1, "dbname": "other", "username": "other",
            "password": "other", "tls": {"mode": "require"}});
        let secret = completed(json!({"url": "postgres://u:p@h/d"}), defaults);
        assert_eq!(secret, json!({"url": "postgres://u:p@h/d", "tls": {"mode": "require"}}));
    }
}
