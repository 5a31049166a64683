//! Checks the secrets that the configuration itself holds, without a connection.

use std::sync::Arc;

use serde_json::Value;
use tenantry_core::{DatabaseConfig, DatabaseDriver, SecretInvalid, SecretValue, driver_named, nearest};

use crate::config::{Fault, Loaded};

/// The provider whose secrets are in the configuration.
const PROVIDER: &str = "static";

/// The first fault of each such secret. A secret of a driver whose settings have a fault is taken
/// for valid.
pub(super) fn faults(loaded: &Loaded, drivers: &[(String, Arc<dyn DatabaseDriver>)]) -> Vec<Fault> {
    let provider = &loaded.config.tenancy.provider;
    let mapping = provider.mapping();
    let tenants = mapping.get("tenants").and_then(Value::as_object);
    let is_static = provider.type_name() == PROVIDER;
    let secrets = tenants.into_iter().flatten().filter(|_| is_static);
    let fault = |(tenant, secret): (&String, &Value)| {
        let invalid = check(secret, drivers, loaded.has_fault_at(&["drivers"])).err()?;
        let place = ["tenancy", "provider", "tenants", tenant];
        let path: Vec<&str> = place.into_iter().chain(invalid.field.split('.')).collect();
        Some(loaded.fault_at(&path, invalid.reason))
    };
    secrets.filter_map(fault).collect()
}

fn check(
    secret: &Value,
    drivers: &[(String, Arc<dyn DatabaseDriver>)],
    drivers_have_faults: bool,
) -> Result<(), SecretInvalid> {
    let config = DatabaseConfig::parse(&SecretValue::new(secret.clone()))?;
    match driver_named(drivers, &config.driver) {
        Some((_, driver)) => driver.validate(&config),
        None if drivers_have_faults => Ok(()),
        None => Err(unknown_driver(&config, drivers)),
    }
}

/// The word itself is not repeated, since it is a part of the secret.
fn unknown_driver(config: &DatabaseConfig, drivers: &[(String, Arc<dyn DatabaseDriver>)]) -> SecretInvalid {
    let names: Vec<String> = drivers.iter().map(|(name, _)| format!("`{name}`")).collect();
    let known = drivers.iter().flat_map(|(name, driver)| {
        let aliases = driver.aliases().iter().copied();
        std::iter::once(name.as_str()).chain(aliases)
    });
    let meant = nearest(&config.driver, known).map(|meant| format!("; did you mean `{meant}`?"));
    let reason = format!(
        "names no driver that is built in and enabled ({}){}",
        names.join(", "),
        meant.unwrap_or_default()
    );
    SecretInvalid::new(config.driver_field(), reason)
}
