//! How a secret that says only a part is completed.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};
use tenantry_core::{DatabaseConfig, SecretValue};

/// The names that one setting has in the two forms of a secret. A default under one name must not
/// be added to a secret that has the other name, since it could take precedence.
const SAME: [&[&str]; 3] = [&["type", "engine"], &["database", "dbname"], &["username", "user"]];

/// What a `url` says by its place. Defaults for these would take the place of the URL's, so that a
/// tenant reached another's database.
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
        said || has_url && IN_URL.contains(&name)
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
    if let Some(url) = object.get("url").and_then(read_url) {
        leave_to_url(&mut missing, &url);
    }
    merge(object, missing);
    secret
}

/// What a URL says by itself; `None` if it cannot be read, which the whole secret then fails for.
fn read_url(url: &Value) -> Option<DatabaseConfig> {
    let parse = |alone| DatabaseConfig::parse(&SecretValue::new(alone)).ok();
    // A URL with an authority may leave the mode to the rest of the secret.
    parse(json!({"url": url})).or_else(|| parse(json!({"url": url, "tls": {"mode": "verify-full"}})))
}

/// Removes the defaults that would take the place of the parameters of a secret's URL.
fn leave_to_url(missing: &mut Map<String, Value>, url: &DatabaseConfig) {
    let named = [
        ("schema", url.session.schema.is_some()),
        ("pooler", url.pooler.is_some()),
        ("create", url.create.is_some()),
    ];
    for (name, _) in named.iter().filter(|(_, is_said)| *is_said) {
        missing.remove(*name);
    }
    if url.pool.max_connections.is_some()
        && let Some(Value::Object(pool)) = missing.get_mut("pool")
        && let Some(Value::Object(max)) = pool.get_mut("max")
    {
        max.remove("connections");
    }
    let tls = &url.tls;
    // A certificate and its key belong together.
    let has_pair = tls.cert.is_some() || tls.key.is_some();
    let is_said = |name: &String| {
        let name = name.to_ascii_lowercase().replace(['-', '_'], "");
        let file = name.strip_prefix("ssl").or_else(|| name.strip_prefix("tls"));
        match file.unwrap_or(&name) {
            "ca" | "rootcert" => tls.ca.is_some(),
            "cert" | "key" => has_pair,
            _ => false,
        }
    };
    missing.retain(|name, _| !is_said(name));
    for section in ["tls", "ssl"] {
        if let Some(Value::Object(members)) = missing.get_mut(section) {
            members.retain(|name, _| !is_said(name));
        }
    }
}

/// Whether the secret says which database of its server it is, for Oracle also by service or SID.
fn names_database(object: &Map<String, Value>) -> bool {
    let says = |object: &Map<String, Value>, names: &[&str]| names.iter().any(|name| is_said(object, name));
    let oracle = object.get("oracle").and_then(Value::as_object);
    let service = oracle.and_then(|oracle| oracle.get("service")?.as_object());
    says(object, &["url", "database", "dbname"])
        || oracle.is_some_and(|oracle| says(oracle, &["sid"]))
        || service.is_some_and(|service| says(service, &["name", "sid"]))
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
    use secrecy::ExposeSecret as _;

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
        for url in [
            "postgres://u:p@h/d?schema=acme",
            "postgres://u:p@h/d?sslmode=require&currentSchema=acme",
            "postgres://u:p@h/d?search_path=acme",
            "postgres://u:p@h/d?search%5Fpath=acme",
            "postgres://u:p@h/d?options=-c%20search_path%3Dacme",
            "postgres://u:p@h/d?schema=acme&sslrootcert=ca.pem",
            "postgres://u:p?q@h/d?schema=acme",
        ] {
            let secret = json!({"url": url});
            let kept = completed(secret.clone(), json!({"schema": "public"}));
            assert_eq!(kept, secret, "{url}");
        }
        for url in [
            "postgres://u:p@h/d?sslmode=require",
            "postgres://u:p@h/d?schema=",
            "postgres://u:p@h/d?options=-c%20default_text_search_config%3Denglish",
        ] {
            let secret = completed(json!({"url": url}), json!({"schema": "public"}));
            assert_eq!(secret, json!({"url": url, "schema": "public"}));
        }
    }

    #[test]
    fn a_default_does_not_replace_a_parameter_of_a_url() {
        let url = "postgres://u:p@h/d?pgbouncer=true&connection_limit=3&sslmode=verify-full&sslrootcert=acme.pem\
                   &sslcert=acme.crt&sslkey=acme.key";
        let tls = json!({"ca": "other", "cert": "other", "key": "other"});
        for (name, tls) in [
            ("tls", tls),
            ("ssl-root-cert", json!("other")),
            ("sslKey", json!("other")),
        ] {
            let mut defaults =
                json!({"pooler": "none", "pool": {"max": {"connections": 9}, "idle": {"connections": 2}}});
            defaults[name] = tls;
            let secret = completed(json!({"url": url}), defaults);
            let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
            assert_eq!(config.pooler, Some(tenantry_core::Pooler::Transaction));
            assert_eq!(config.pool.max_connections, Some(3));
            assert_eq!(config.pool.idle_connections, Some(2));
            assert_eq!(config.tls.ca.as_deref(), Some("acme.pem"));
            assert_eq!(config.tls.cert.as_deref(), Some("acme.crt"));
            assert_eq!(config.tls.key.unwrap().expose_secret(), "acme.key");
        }
        let secret = completed(json!({"url": "sqlite:a.db?mode=rw"}), json!({"create": true}));
        assert_eq!(secret, json!({"url": "sqlite:a.db?mode=rw"}));
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
    fn an_oracle_section_that_is_left_open_is_completed() {
        let defaults = json!({"oracle": {"service": {"name": "ACME"}}});
        for open in [json!({}), json!({"name": "", "sid": ""}), json!({"name": null})] {
            let secret = completed(json!({"oracle": {"service": open}}), defaults.clone());
            assert_eq!(secret["oracle"]["service"]["name"], "ACME", "{secret}");
        }
        let secret = completed(json!({"oracle": {"service": {"sid": "OWN"}}}), defaults);
        assert_eq!(secret, json!({"oracle": {"service": {"sid": "OWN"}}}));
    }

    #[test]
    fn a_default_never_leads_a_url_to_another_database() {
        let defaults = json!({"type": "mysql", "host": "other", "port": 1, "dbname": "other", "username": "other",
            "password": "other", "tls": {"mode": "require"}});
        let secret = completed(json!({"url": "postgres://u:p@h/d"}), defaults);
        assert_eq!(secret, json!({"url": "postgres://u:p@h/d", "tls": {"mode": "require"}}));
    }
}
