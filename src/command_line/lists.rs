//! Commands that only print something: tenants, plugins, the schema, the OpenAPI document.

use serde_json::{Value, json};
use tenantry_core::{Registered, Registry};
use tenantry_openapi::ApiSet;

use super::{DONE, Stop, listed, report};
use crate::{config, installation::Installation};

pub(super) fn schema(registry: &Registry) -> Result<u8, Stop> {
    print_json(&config::schema(registry))
}

pub(super) fn openapi(installation: &Installation, apis: ApiSet, yaml: bool) -> Result<u8, Stop> {
    let document = installation
        .document(apis)
        .map_err(|error| Stop::Failure(report::chain(&error)))?;
    let text = if yaml { document.yaml() } else { document.json() };
    report::print(format_args!("{}", String::from_utf8_lossy(text).trim_end()))?;
    Ok(DONE)
}

pub(super) async fn tenants(installation: &Installation, json: bool) -> Result<u8, Stop> {
    let tenants = listed(installation).await?;
    if json {
        return print_json(&json!(tenants));
    }
    for tenant in tenants {
        report::print(tenant)?;
    }
    Ok(DONE)
}

pub(super) fn plugins(registry: &Registry, json: bool) -> Result<u8, Stop> {
    let mut all = Vec::new();
    all.extend(registry.resolvers().map(|plugin| describe("resolver", plugin)));
    all.extend(registry.providers().map(|plugin| describe("provider", plugin)));
    all.extend(registry.drivers().map(|plugin| describe("driver", plugin)));
    if json {
        return print_json(&Value::Array(all));
    }
    for plugin in &all {
        let text = |key: &str| plugin[key].as_str().unwrap_or_default().to_owned();
        report::print(format_args!(
            "{:<9} {:<20} {}",
            text("family"),
            text("type"),
            text("summary")
        ))?;
        for key in plugin["keys"].as_array().into_iter().flatten() {
            let name = key["name"].as_str().unwrap_or_default();
            let required = if key["required"] == true { " (required)" } else { "" };
            report::print(format_args!(
                "{:31}{name}{required}: {}",
                "",
                key["summary"].as_str().unwrap_or_default()
            ))?;
        }
    }
    Ok(DONE)
}

fn describe<T: ?Sized>(family: &str, plugin: &Registered<T>) -> Value {
    let schema = plugin.schema();
    let required = |name: &String| {
        let all = schema.get("required").and_then(Value::as_array);
        all.is_some_and(|all| all.iter().any(|required| required == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let keys = properties.into_iter().flatten().map(|(name, property)| {
        let description = property["description"].as_str().unwrap_or_default();
        json!({
            "name": name,
            "required": required(name),
            "default": property.get("default").cloned().unwrap_or_default(),
            "summary": description.split("\n\n").next().unwrap_or_default().replace('\n', " "),
        })
    });
    json!({
        "family": family,
        "type": plugin.type_name,
        "summary": plugin.summary(),
        "keys": keys.collect::<Vec<_>>(),
        "example": plugin.example.trim(),
    })
}

fn print_json(value: &Value) -> Result<u8, Stop> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Stop::Failure(error.to_string()))?;
    report::print(text)?;
    Ok(DONE)
}
