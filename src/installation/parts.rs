//! The parts of an installation. Each one that cannot be built leaves its faults behind, so that
//! one start reports all of them.

use std::sync::Arc;

use tenantry_core::{
    BuildContext, DatabaseDriver, Registry, SecretProvider, TenantId, TenantIdPattern, TenantResolver,
};

use super::{OwnMigrations, misplaced};
use crate::{
    config::{Fault, Loaded, WarmUp},
    migrations::Migrations,
    server::Certificate,
};

/// What an installation is built of. A part with a fault is absent.
pub(super) struct Parts {
    pub(super) provider: Option<Arc<dyn SecretProvider>>,
    pub(super) drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
    pub(super) resolver: Option<Arc<dyn TenantResolver>>,
    pub(super) migrations: Option<Migrations>,
    /// The version of `migrations.require`, as a number and as it is written.
    pub(super) require: Option<(i64, String)>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) id_pattern: TenantIdPattern,
}

impl Parts {
    /// Builds all parts, but those with a fault in their settings.
    pub(super) async fn build(
        loaded: &Loaded,
        registry: Arc<Registry>,
        own_migrations: Option<OwnMigrations>,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let config = &loaded.config;
        let id_pattern = config.tenancy.id_pattern();
        let context = BuildContext {
            base_dir: loaded.base_dir.clone(),
            environment: config.app.environment.clone(),
            id_pattern: id_pattern.clone(),
            registry: registry.clone(),
        };
        let is_valid = |part| !loaded.has_fault_at(&["tenancy", part]);
        let failed = |part, error| loaded.build_fault(&["tenancy", part], &error);
        let mut provider = None;
        if is_valid("provider") && is_valid("id_pattern") {
            let built_provider = registry
                .build_provider(config.tenancy.provider.mapping(), &context)
                .await;
            provider = built(built_provider.map_err(|error| failed("provider", error)), faults);
        }
        let drivers = drivers(loaded, &registry, &context, faults).await;
        let mut resolver = None;
        if is_valid("resolver") && is_valid("id_pattern") {
            let built_resolver = registry
                .build_resolver(config.tenancy.resolver.mapping(), &context)
                .await;
            resolver = built(built_resolver.map_err(|error| failed("resolver", error)), faults);
        }
        let location = resolver.as_ref().map(|resolver| resolver.location());
        faults.extend(location.and_then(|location| misplaced::prefix(loaded, &location)));
        faults.extend(misplaced::tables(loaded));
        Self {
            provider,
            drivers,
            resolver,
            migrations: built(migrations(loaded, own_migrations).await, faults),
            require: built(required_version(loaded), faults).flatten(),
            certificate: certificate(loaded, faults).await,
            id_pattern,
        }
    }
}

/// The value, or its fault beside the others.
fn built<T>(outcome: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    outcome.map_err(|fault| faults.push(fault)).ok()
}

/// The enabled drivers, by type.
async fn drivers(
    loaded: &Loaded,
    registry: &Registry,
    context: &BuildContext,
    faults: &mut Vec<Fault>,
) -> Vec<(String, Arc<dyn DatabaseDriver>)> {
    let mut drivers = Vec::new();
    let enabled = loaded.config.drivers.enabled(registry);
    let is_valid = |(name, _): &(&str, _)| !loaded.has_fault_at(&["drivers", name]);
    for (name, mapping) in enabled.into_iter().filter(is_valid) {
        let driver = registry.build_driver(mapping, context).await;
        let driver = driver.map_err(|error| loaded.build_fault(&["drivers", name], &error));
        drivers.extend(built(driver, faults).map(|driver| (name.to_owned(), driver)));
    }
    drivers
}

/// The migrations of `migrations.dir`, or those inside the program.
async fn migrations(loaded: &Loaded, own: Option<OwnMigrations>) -> Result<Migrations, Fault> {
    let migrations = match (&loaded.config.migrations.dir, own) {
        (Some(dir), _) => Migrations::load(&loaded.path(dir)).await,
        (None, Some(files)) => Migrations::of_texts(files),
        (None, None) => Migrations::embedded(),
    };
    migrations.map_err(|error| loaded.fault_at(&["migrations", "dir"], error.to_string()))
}

/// The version of `migrations.require`, as a number and as it is written.
fn required_version(loaded: &Loaded) -> Result<Option<(i64, String)>, Fault> {
    let Some(text) = &loaded.config.migrations.require else {
        return Ok(None);
    };
    match text.parse() {
        Ok(version) => Ok(Some((version, text.clone()))),
        Err(_) => Err(loaded.fault_at(&["migrations", "require"], "is not a version such as `0004`")),
    }
}

/// The certificate of `server.tls`.
async fn certificate(loaded: &Loaded, faults: &mut Vec<Fault>) -> Option<Arc<Certificate>> {
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
