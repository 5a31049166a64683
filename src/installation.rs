//! Everything the configuration names, built: whatever runs, runs on this.

use std::{future::Future, sync::Arc};

use serde_json::Value;
use tenantry_core::{
    BuildContext, DatabaseDriver, Registry, SecretProvider, TenantId, TenantIdPattern, TenantLocation, TenantResolver,
    TrustedProxies,
    engine::{OnConnect, Tenants, TenantsParts},
};
use tenantry_openapi::{ApiConflict, ApiDocument, ApiSet, DocumentSettings, TenantGate};

use crate::{
    config::{Fault, Faults, ListenAddress, Loaded, Network, Origin, WarmUp},
    migrations::{Migrations, MigrationsOnConnect},
    server::Certificate,
    telemetry::Telemetry,
};

/// The first segments of the server's own paths. A prefix before tenants' paths that began with one would take their place.
const SERVED: [&str; 7] = [
    "admin",
    "api",
    "docs",
    "health",
    "metrics",
    "openapi.json",
    "openapi.yaml",
];

/// A configuration with its plugins built and its engine started. Nothing is opened yet, and no socket bound.
pub struct Installation {
    loaded: Loaded,
    resolver: Arc<dyn TenantResolver>,
    id_pattern: TenantIdPattern,
    tenants: Tenants,
    migrations: Arc<Migrations>,
    /// The types of the drivers that are on.
    drivers: Vec<String>,
    /// What the server shows to clients, where it speaks TLS.
    certificate: Option<Certificate>,
    /// Who is named in `tenancy.warm_up`.
    warm_up: Vec<TenantId>,
    telemetry: Telemetry,
}

impl Installation {
    /// Builds what `loaded` names: providers, drivers, then the resolver. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// Everything that cannot be built, each at the place where it is written.
    pub async fn build(loaded: Loaded, registry: Arc<Registry>) -> Result<Self, Faults> {
        let telemetry = Telemetry::silent(&loaded.config);
        let telemetry = telemetry.map_err(|error| loaded.fault_at(&["observability"], error.to_string()))?;
        Self::build_with(loaded, registry, telemetry).await
    }

    /// As [`build`](Self::build), with telemetry that was started before.
    ///
    /// # Errors
    /// Everything that cannot be built, each at the place where it is written.
    pub async fn build_with(loaded: Loaded, registry: Arc<Registry>, telemetry: Telemetry) -> Result<Self, Faults> {
        let config = &loaded.config;
        let id_pattern = config.tenancy.id_pattern();
        let context = BuildContext {
            base_dir: loaded.base_dir.clone(),
            environment: config.app.environment.clone(),
            id_pattern: id_pattern.clone(),
            registry: registry.clone(),
        };
        let mut faults = Vec::new();
        let provider = registry
            .build_provider(config.tenancy.provider.mapping(), &context)
            .await;
        let provider: Option<Arc<dyn SecretProvider>> = provider
            .map_err(|error| faults.push(loaded.build_fault(&["tenancy", "provider"], &error)))
            .ok();
        let mut drivers: Vec<(String, Arc<dyn DatabaseDriver>)> = Vec::new();
        for (name, mapping) in config.drivers.enabled(&registry) {
            match registry.build_driver(mapping, &context).await {
                Ok(driver) => drivers.push((name.to_owned(), driver)),
                Err(error) => faults.push(loaded.build_fault(&["drivers", name], &error)),
            }
        }
        let resolver = registry
            .build_resolver(config.tenancy.resolver.mapping(), &context)
            .await;
        let resolver = resolver
            .map_err(|error| faults.push(loaded.build_fault(&["tenancy", "resolver"], &error)))
            .ok();
        faults.extend(
            resolver
                .as_ref()
                .and_then(|resolver| misplaced_prefix(&loaded, &resolver.location())),
        );
        let migrations = match &config.migrations.dir {
            None => Migrations::embedded(),
            Some(dir) => Migrations::load(&loaded.path(dir)).await,
        };
        let migrations = migrations
            .map_err(|error| faults.push(loaded.fault_at(&["migrations", "dir"], error.to_string())))
            .ok();
        let certificate = match &config.server.tls {
            None => None,
            Some(tls) => Certificate::load(&loaded, tls)
                .await
                .map_err(|wrong| faults.extend(wrong))
                .ok(),
        };
        let mut warm_up = Vec::new();
        if let WarmUp::Tenants(ids) = &config.tenancy.warm_up {
            for (index, id) in ids.iter().enumerate() {
                match id_pattern.parse(id) {
                    Ok(id) => warm_up.push(id),
                    Err(error) => {
                        let path = ["tenancy", "warm_up", &index.to_string()];
                        faults.push(loaded.fault_at(&path, format!("the tenant id {error}")));
                    }
                }
            }
        }
        Faults::check(faults)?;
        let (Some(provider), Some(resolver), Some(migrations)) = (provider, resolver, migrations) else {
            return Err(loaded.fault_at(&[], "a part of it could not be built").into());
        };
        let migrations = Arc::new(migrations);
        let on_connect: Option<Arc<dyn OnConnect>> = if config.migrations.on_connect {
            Some(Arc::new(MigrationsOnConnect::new(
                migrations.clone(),
                config.migrations.sample_data,
            )))
        } else {
            None
        };
        let names = drivers.iter().map(|(name, _)| name.clone()).collect();
        let tenants = Tenants::new(TenantsParts {
            provider,
            provider_type: config.tenancy.provider.type_name().to_owned(),
            drivers,
            settings: config.tenancy.engine(config.migrations.timeout),
            on_connect,
            observer: Some(telemetry.metrics().observer()),
        });
        telemetry.metrics().watch(&tenants);
        Ok(Self {
            loaded,
            resolver,
            id_pattern,
            tenants,
            migrations,
            drivers: names,
            certificate,
            warm_up,
            telemetry,
        })
    }

    /// The configuration.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The engine.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The migrations for tenants' databases.
    pub fn migrations(&self) -> &Migrations {
        &self.migrations
    }

    /// What is measured and sent.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// What the server shows to clients, where it speaks TLS.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The rule for tenant ids.
    pub fn id_pattern(&self) -> &TenantIdPattern {
        &self.id_pattern
    }

    /// The OpenAPI document of the built-in APIs and `apis`, as this configuration serves it.
    ///
    /// # Errors
    /// Two APIs claim the same path or the same name.
    pub fn document(&self, apis: &ApiSet) -> Result<ApiDocument, ApiConflict> {
        tenantry_openapi::document(&self.document_settings(), apis)
    }

    pub(crate) fn document_settings(&self) -> DocumentSettings {
        let config = &self.loaded.config;
        let scheme = if config.server.tls.is_some() { "https" } else { "http" };
        let port = config.server.listen.0.port();
        DocumentSettings {
            title: config.app.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            location: self.resolver.location(),
            id_pattern: self.id_pattern.clone(),
            origin: tenantry_openapi::Origin {
                scheme: scheme.to_owned(),
                port: Some(port).filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443))),
            },
            operator_server: config
                .server
                .admin_listen
                .map(|ListenAddress(address)| format!("{scheme}://{address}")),
        }
    }

    /// What was built, in one line.
    pub fn summary(&self) -> String {
        let file = match &self.loaded.origin {
            Origin::File(file) => file.display().to_string(),
            Origin::Shipped => "the configuration inside the program".to_owned(),
        };
        let tenancy = &self.loaded.config.tenancy;
        let drivers = self
            .drivers
            .iter()
            .map(|driver| format!("`{driver}`"))
            .collect::<Vec<_>>();
        format!(
            "{file} is valid: resolver `{}`, provider `{}`, drivers {}",
            tenancy.resolver.type_name(),
            tenancy.provider.type_name(),
            drivers.join(", ")
        )
    }

    /// Opens the tenants of `tenancy.warm_up` ahead of their first request.
    pub(crate) fn warming(&self) -> impl Future<Output = ()> + Send + 'static {
        let (tenants, named) = (self.tenants.clone(), self.warm_up.clone());
        let all = matches!(self.loaded.config.tenancy.warm_up, WarmUp::All);
        async move {
            let ids = if all { tenants.list().await } else { Ok(named) };
            match ids {
                Ok(ids) if ids.is_empty() => {}
                Ok(ids) => tenants.warm_up(ids).await,
                Err(error) => tracing::warn!(%error, "the tenants to be opened ahead cannot be listed"),
            }
        }
    }

    /// What resolves a request's tenant and opens its database.
    pub(crate) fn gate(&self) -> TenantGate {
        let trusted = self
            .loaded
            .config
            .server
            .trusted_proxies
            .iter()
            .map(|Network(network)| *network)
            .collect();
        TenantGate {
            resolver: self.resolver.clone(),
            resolver_type: self.loaded.config.tenancy.resolver.type_name().into(),
            tenants: self.tenants.clone(),
            trusted_proxies: TrustedProxies::new(trusted),
            id_pattern: self.id_pattern.clone(),
        }
    }
}

/// A prefix before tenants' paths that hides routes of the server.
fn misplaced_prefix(loaded: &Loaded, location: &TenantLocation) -> Option<Fault> {
    let first = location.path_prefix()?.trim_start_matches('/').split('/').next()?;
    let served = SERVED.iter().find(|served| **served == first)?;
    let mut path = vec!["tenancy".to_owned(), "resolver".to_owned()];
    path.extend(place_of_prefix(&loaded.config.tenancy.resolver.mapping()).unwrap_or_default());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(loaded.fault_at(
        &path,
        format!("begins with `/{served}`, where the server has routes of its own"),
    ))
}

/// Where in a resolver's mapping, or in those of the resolvers it is made of, the prefix is written.
fn place_of_prefix(mapping: &Value) -> Option<Vec<String>> {
    if mapping.get("prefix").is_some() {
        return Some(vec!["prefix".to_owned()]);
    }
    let parts = mapping.get("resolvers")?.as_array()?;
    parts.iter().enumerate().find_map(|(index, part)| {
        let below = place_of_prefix(part)?;
        Some([vec!["resolvers".to_owned(), index.to_string()], below].concat())
    })
}
