//! The parts of an installation. Each one that cannot be built leaves its faults behind, so that
//! one start reports all of them.

use std::sync::Arc;

use tenantry_core::{BuildContext, DatabaseDriver, Registry, TenantId, TenantIdPattern};

use super::OwnMigrations;
use crate::{
    config::{Fault, Loaded, WarmUp},
    migrations::Migrations,
    server::Certificate,
};

/// The value, or its fault beside the others.
pub(super) fn built<T>(outcome: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    outcome.map_err(|fault| faults.push(fault)).ok()
}

/// The enabled drivers, by type.
pub(super) async fn drivers(
    loaded: &Loaded,
    registry: &Registry,
    context: &BuildContext,
    faults: &mut Vec<Fault>,
) -> Vec<(String, Arc<dyn DatabaseDriver>)> {
    let mut drivers = Vec::new();
    for (name, mapping) in loaded.config.drivers.enabled(registry) {
        let driver = registry.build_driver(mapping, context).await;
        let driver = driver.map_err(|error| loaded.build_fault(&["drivers", name], &error));
        drivers.extend(built(driver, faults).map(|driver| (name.to_owned(), driver)));
    }
    drivers
}

/// The migrations of `migrations.dir`, or those inside the program.
pub(super) async fn migrations(loaded: &Loaded, own: Option<OwnMigrations>) -> Result<Migrations, Fault> {
    let migrations = match (&loaded.config.migrations.dir, own) {
        (Some(dir), _) => Migrations::load(&loaded.path(dir)).await,
        (None, Some(files)) => Migrations::of_texts(files),
        (None, None) => Migrations::embedded(),
    };
    migrations.map_err(|error| loaded.fault_at(&["migrations", "dir"], error.to_string()))
}

/// The version of `migrations.require`, as a number and as it is written.
pub(super) fn required_version(loaded: &Loaded) -> Result<Option<(i64, String)>, Fault> {
    let Some(text) = &loaded.config.migrations.require else {
        return Ok(None);
    };
    match text.parse() {
        Ok(version) => Ok(Some((version, text.clone()))),
        Err(_) => Err(loaded.fault_at(&["migrations", "require"], "is not a version such as `0004`")),
    }
}

/// The certificate of `server.tls`.
pub(super) async fn certificate(loaded: &Loaded, faults: &mut Vec<Fault>) -> Option<Arc<Certificate>> {
    let tls = loaded.config.server.tls.as_ref()?;
    let certificate = Certificate::load(loaded, tls).await;
    certificate.map_err(|wrong| faults.extend(wrong)).ok()
}

/// The tenants of `tenancy.warm_up`, if it names some.
pub(super) fn warm_up(loaded: &Loaded, id_pattern: &TenantIdPattern) -> Vec<TenantId> {
    match &loaded.config.tenancy.warm_up {
        // The check of the configuration has refused what is no id.
        WarmUp::Tenants(ids) => ids.iter().filter_map(|id| id_pattern.parse(id).ok()).collect(),
        WarmUp::None | WarmUp::All => Vec::new(),
    }
}
