//! The text of the file that `tenantry init` writes, and of the files it names.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tenantry_core::{Registered, Registry};

use crate::config::SHIPPED;

/// How wide a comment may be.
const WIDTH: usize = 116;

const HEADER: &str = "\
# The configuration of Tenantry. `tenantry check` validates it, and `tenantry plugins` lists what `type` can be. An editor
# completes, explains and checks every key with the output of `tenantry schema` in config.schema.json and this as first line:
#     # yaml-language-server: $schema=./config.schema.json
#
# Any key can be set from the environment instead: TENANTRY__SERVER__LISTEN=0.0.0.0:8080. In values, ${VAR} and
# ${VAR:-default} are replaced. Relative paths are taken from this file's folder.
";

/// What the file is for.
pub(super) struct Choices {
    pub(super) resolver: &'static str,
    pub(super) provider: &'static str,
    pub(super) drivers: Vec<&'static str>,
}

/// A file in addition to the configuration.
pub(super) struct Extra {
    /// From the configuration's folder.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Extra {
    /// The folder for this kind of file, below `base`; `None` if the file is in `base` itself.
    pub(super) fn folder(&self, base: &Path) -> Option<PathBuf> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
        Some(base.join(parent))
    }
}

/// The shipped configuration with these plugins in it.
///
/// # Errors
/// The shipped file has not the form that this builds on.
pub(super) fn configuration(registry: &Registry, choices: &Choices) -> Result<String, String> {
    let (_, body) = SHIPPED.split_once("\n\n").ok_or("the shipped file has no heading")?;
    let resolver = registry.resolvers().find(|plugin| plugin.type_name == choices.resolver);
    let provider = registry.providers().find(|plugin| plugin.type_name == choices.provider);
    let (Some(resolver), Some(provider)) = (resolver, provider) else {
        return Err("a plugin is not there".to_owned());
    };
    let text = format!("{HEADER}\n{body}");
    let text = replaced(
        &text,
        "  resolver:",
        &indented(&plugin(resolver, resolver.example, &[]), 4),
    )?;
    let text = replaced(&text, "  provider:", &indented(&of_provider(provider, choices), 4))?;
    let text = replaced(&text, "drivers:", &indented(&of_drivers(registry, choices), 2))?;
    let samples = "  sample_data: true\n";
    if !text.contains(samples) {
        return Err("the shipped file does not say `sample_data: true`".to_owned());
    }
    Ok(text.replace(
        samples,
        "  sample_data: false                # whether sample rows are written as well\n",
    ))
}

/// The files that the provider reads, with a tenant for each kind of database.
pub(super) fn extras(choices: &Choices) -> Vec<Extra> {
    let secrets = || {
        (1..)
            .zip(&choices.drivers)
            .map(|(number, driver)| (number, secret(driver, number, PLACEHOLDER)))
    };
    match choices.provider {
        "file" => {
            let mut text = "# From tenant id to secret. A change is picked up without a restart; replace the file by renaming another over \
                            it.\n"
                .to_owned();
            for (number, secret) in secrets() {
                text.push_str(&format!("tenant{number}:\n{}", indented(&mapping(&secret), 2)));
            }
            vec![Extra {
                path: "tenants.yaml".into(),
                text,
            }]
        }
        "directory" => secrets()
            .map(|(number, secret)| Extra {
                path: format!("secrets/tenant{number}.json").into(),
                text: format!("{:#}\n", Value::Object(secret)),
            })
            .collect(),
        _ => Vec::new(),
    }
}

const PLACEHOLDER: &str = "change-me";

/// What reaches the database of `tenant{number}`, to be filled in.
fn secret(driver: &str, number: usize, password: &str) -> Map<String, Value> {
    let name = format!("tenant{number}");
    let secret = match driver {
        "sqlite" => json!({"type": driver, "path": format!("{name}.db")}),
        "oracle" => json!({
            "type": driver, "host": "localhost", "port": 1521, "username": name, "password": password,
            "oracle": {"service": {"name": "FREEPDB1"}},
        }),
        _ => {
            let mut secret = json!({"type": driver, "host": "localhost"});
            match driver {
                "postgresql" => secret["port"] = 5432.into(),
                "mysql" => secret["port"] = 3306.into(),
                _ => {}
            }
            for (key, value) in [("database", name.as_str()), ("username", &name), ("password", password)] {
                secret[key] = value.into();
            }
            secret
        }
    };
    match secret {
        Value::Object(secret) => secret,
        _ => Map::new(),
    }
}

fn of_provider<T: ?Sized>(provider: &Registered<T>, choices: &Choices) -> String {
    match provider.type_name {
        "static" => {
            let mut example = "type: static\ntenants:\n".to_owned();
            for (number, driver) in (1..).zip(&choices.drivers) {
                let password = format!("${{TENANT{number}_PASSWORD:-{PLACEHOLDER}}}");
                let secret = mapping(&secret(driver, number, &password));
                example.push_str(&format!("  tenant{number}:\n{}", indented(&secret, 4)));
            }
            plugin(provider, &example, &[])
        }
        "file" => plugin(provider, "type: file\npath: tenants.yaml\n", &[]),
        "directory" => plugin(provider, "type: directory\npath: secrets\n", &[]),
        // The example's prefix and database settings belong to one installation, and here they
        // would apply to all tenants.
        "aws-secrets-manager" | "aws-ssm" => plugin(provider, provider.example, &["type", "region"]),
        "gcp-secret-manager" => plugin(provider, provider.example, &["type", "project"]),
        _ => plugin(provider, provider.example, &[]),
    }
}

/// What is set of each driver; those not chosen are off, so that no secret can name them.
fn of_drivers(registry: &Registry, choices: &Choices) -> String {
    let mut text = String::new();
    for driver in registry.drivers() {
        text.push_str(&format!("{}:\n", driver.type_name));
        if choices.drivers.contains(&driver.type_name) {
            text.push_str("  enabled: true\n");
            let keys = plugin(driver, &format!("type: {}\n", driver.type_name), &[]);
            let below_type = keys.split_once(&format!("type: {}\n", driver.type_name));
            text.push_str(&indented(below_type.map_or("", |(_, keys)| keys), 2));
        } else {
            text.push_str("  enabled: false\n");
        }
    }
    text
}

/// A plugin's mapping: its example with what each key is for, then the keys that the example has
/// not, as comments. With `active`, other keys of the example are comments too.
fn plugin<T: ?Sized>(plugin: &Registered<T>, example: &str, active: &[&str]) -> String {
    let schema = plugin.schema();
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let mut text = comment(&plugin.summary());
    let mut shown: Vec<&str> = Vec::new();
    let mut quiet = false;
    for line in example.lines() {
        if let Some(key) = top_level_key(line) {
            quiet = !active.is_empty() && !active.contains(&key);
            shown.push(key);
            if let Some(property) = properties.get(key) {
                text.push_str(&comment(&summary(property)));
            }
        }
        text.push_str(if quiet { "# " } else { "" });
        text.push_str(line);
        text.push('\n');
    }
    for (key, property) in properties.iter().filter(|(key, _)| !shown.contains(&key.as_str())) {
        text.push_str(&comment(&summary(property)));
        match property.get("default").filter(|default| !default.is_null()) {
            Some(default) => text.push_str(&format!("# {key}: {default}\n")),
            None => text.push_str(&format!("# {key}:\n")),
        }
    }
    text
}

fn top_level_key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    (!key.is_empty() && !key.starts_with([' ', '-', '#'])).then_some(key)
}

fn summary(property: &Value) -> String {
    let description = property["description"].as_str().unwrap_or_default();
    description.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}

/// As lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH - 2 {
            lines.push_str(&format!("# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push_str(&format!("# {line}\n"));
    }
    lines
}

/// A secret as a block of YAML. A value that is not a plain word is written as JSON, which is valid
/// YAML.
fn mapping(secret: &Map<String, Value>) -> String {
    let plain = |value: &Value| match value {
        Value::String(text)
            if text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) =>
        {
            text.clone()
        }
        other => other.to_string(),
    };
    secret
        .iter()
        .map(|(key, value)| format!("{key}: {}\n", plain(value)))
        .collect()
}

fn indented(text: &str, columns: usize) -> String {
    text.lines().map(|line| format!("{:columns$}{line}\n", "")).collect()
}

/// `text` with other lines below its line that begins with `head`.
fn replaced(text: &str, head: &str, block: &str) -> Result<String, String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut result = String::new();
    let mut lines = text.lines().peekable();
    let mut found = 0;
    while let Some(line) = lines.next() {
        result.push_str(line);
        result.push('\n');
        if line.starts_with(head) {
            found += 1;
            while lines
                .next_if(|next| !next.is_empty() && depth(next) > depth(head))
                .is_some()
            {}
            result.push_str(block);
        }
    }
    if found == 1 {
        Ok(result)
    } else {
        Err(format!("the shipped file has {found} lines that begin with `{head}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(resolver: &'static str, provider: &'static str, drivers: &[&'static str]) -> String {
        let mut registry = Registry::new();
        crate::plugins::register(&mut registry);
        let drivers = drivers.to_vec();
        configuration(
            &registry,
            &Choices {
                resolver,
                provider,
                drivers,
            },
        )
        .unwrap()
    }

    #[test]
    fn every_key_of_the_chosen_plugins_is_there_with_what_it_is_for() {
        let mut registry = Registry::new();
        crate::plugins::register(&mut registry);
        let text = text("jwt", "aws-secrets-manager", &["postgresql", "sqlite"]);
        let resolver = registry
            .resolvers()
            .find(|plugin| plugin.type_name == "jwt")
            .unwrap()
            .schema();
        let provider = registry
            .providers()
            .find(|plugin| plugin.type_name == "aws-secrets-manager")
            .unwrap()
            .schema();
        for schema in [resolver, provider] {
            for (key, property) in schema.get("properties").unwrap().as_object().unwrap() {
                let line = text
                    .lines()
                    .any(|line| line.trim_start_matches([' ', '#']).starts_with(&format!("{key}:")));
                assert!(line, "{key}\n{text}");
                let words = |text: &str| text.replace('#', " ").split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words(&text).contains(&words(&summary(property))), "{key}\n{text}");
            }
        }
        assert!(
            text.contains("\n    region: eu-central-1\n") && text.contains("\n    # prefix: "),
            "{text}"
        );
        assert!(text.contains("\n  mysql:\n    enabled: false\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 132), "{text}");
    }

    #[test]
    fn passwords_can_be_kept_out_of_the_file() {
        let text = text("header", "static", &["sqlite", "mysql"]);
        assert!(text.contains("password: \"${TENANT2_PASSWORD:-change-me}\""), "{text}");
        assert!(text.contains("path: tenant1.db"), "{text}");
    }

    #[test]
    fn the_rest_is_the_shipped_file() {
        let text = text("header", "static", &["sqlite"]);
        for section in [
            "app:",
            "server:",
            "admin:",
            "  secrets:",
            "  pools:",
            "logging:",
            "observability:",
            "docs:",
        ] {
            let line = SHIPPED.lines().find(|line| line.starts_with(section)).unwrap();
            assert!(text.contains(&format!("\n{line}\n")), "{section}\n{text}");
        }
        assert!(
            !text.starts_with("# yaml-language-server"),
            "the schema it names is not beside the file"
        );
    }

    #[test]
    fn a_block_is_replaced_with_all_below_it() {
        let text = "a:\n  b: # c\n    d: 1\n    # e\n      f: 2\n  g: 3\nh:\n";
        assert_eq!(
            replaced(text, "  b:", "    x: 1\n").unwrap(),
            "a:\n  b: # c\n    x: 1\n  g: 3\nh:\n"
        );
        assert!(replaced(text, "  z:", "").is_err());
    }
}
