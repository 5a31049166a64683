//! Builds the provider, drivers, resolver and engine that the configuration names. The server and
//! all commands use it.

mod misplaced;
mod parts;
mod secrets;
mod warnings;

use std::{borrow::Cow, future::Future, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tenantry_core::{
    BoxError, Registry, TenantId, TenantIdPattern, TenantResolver, TrustedProxies,
    engine::{OnConnect, Tenants, TenantsParts},
};
use tenantry_openapi::{ApiConflict, ApiDocument, ApiSet, DocumentSettings, TenantGate};
use tenantry_tables::Rest;

use crate::{
    config::{Fault, Faults, ListenAddress, Loaded, Network, Origin, WarmUp, add_news},
    migrations::{Migrations, MigrationsOnConnect},
    rest,
    server::Certificate,
    telemetry::Telemetry,
};
use parts::Parts;

/// Migrations inside a program of your own: paths, `<database>/NNNN_name.sql`, and texts.
pub(crate) type OwnMigrations = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// A configuration with its plugins built and its engine started. No connection is opened yet, and
/// no socket bound.
pub(crate) struct Installation {
    loaded: Loaded,
    resolver: Arc<dyn TenantResolver>,
    id_pattern: TenantIdPattern,
    tenants: Tenants,
    migrations: Arc<Migrations>,
    /// The types of the enabled drivers.
    drivers: Vec<String>,
    /// The server's certificate, if it speaks TLS.
    certificate: Option<Arc<Certificate>>,
    /// The tenants in `tenancy.warm_up`.
    warm_up: Vec<TenantId>,
    /// The declared tables.
    rest: Option<Arc<Rest>>,
    telemetry: Telemetry,
    /// What is allowed and yet unsafe in the provider's configuration and in `migrations`.
    warnings: Vec<String>,
    /// What is said of folders of migrations that no driver applies.
    unread_folders: Vec<String>,
    /// What is wrong with secrets in the configuration itself. Their tenants are not served.
    secret_faults: Vec<Fault>,
}

impl Installation {
    /// Builds the plugins that `loaded` names: provider, drivers, then the resolver. It must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// Everything that cannot be built, each with its place in the configuration.
    pub(crate) async fn build(
        loaded: Loaded,
        registry: Arc<Registry>,
        telemetry: Telemetry,
        own_migrations: Option<OwnMigrations>,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let built = Parts::build(&loaded, registry, own_migrations, &mut faults).await;
        Faults::check(faults)?;
        let config = &loaded.config;
        let Parts {
            provider: Some(provider),
            resolver: Some(resolver),
            migrations: Some(migrations),
            drivers,
            require,
            certificate,
            id_pattern,
        } = built
        else {
            return Err(loaded.fault_at(&[], "a part of it could not be built").into());
        };
        let migrations = migrations.waiting_at_most(config.migrations.timeout.into());
        let warm_up = parts::warm_up(&loaded, &id_pattern);
        let secret_faults = secrets::faults(&loaded, &drivers);
        let migrations = Arc::new(migrations);
        let mut warnings = provider.warnings();
        let beyond = |(version, text): &(i64, String)| warnings::beyond_the_last(&migrations, *version, text);
        warnings.extend(require.as_ref().and_then(beyond));
        if let Some((version, text)) = &require {
            warnings.extend(warnings::below_required(&migrations, *version, text));
        }
        let each_driver = drivers.iter().map(|(_, driver)| &**driver);
        warnings.extend(warnings::unreadable(&migrations, each_driver));
        let dialects = drivers.iter().map(|(_, driver)| driver.migration_dialect());
        let unread_folders = warnings::unread_folders(&migrations, dialects);
        let rest = config.rest.as_ref();
        let rest = rest.map(|rest| rest::tables(rest, &resolver.location()));
        let names = drivers.iter().map(|(name, _)| name.clone()).collect();
        let tenants = Tenants::new(TenantsParts {
            provider,
            provider_type: config.tenancy.provider.type_name().to_owned(),
            drivers,
            settings: config.tenancy.engine(config.migrations.timeout),
            on_connect: Some(on_connect(&loaded, &migrations, require, rest.as_ref(), &telemetry)),
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
            rest,
            telemetry,
            warnings,
            unread_folders,
            secret_faults,
        })
    }

    /// Everything that is wrong with a configuration that has faults already: also what cannot be
    /// built by it.
    pub(crate) async fn all_faults(
        loaded: &Loaded,
        registry: Arc<Registry>,
        own_migrations: Option<OwnMigrations>,
    ) -> Faults {
        let mut found = Vec::new();
        let parts = Parts::build(loaded, registry, own_migrations, &mut found).await;
        if parts.provider.is_some() {
            found.extend(secrets::faults(loaded, &parts.drivers));
        }
        let mut faults = loaded.faults.clone();
        add_news(&mut faults, found);
        Faults::check(faults)
            .err()
            .unwrap_or_else(|| loaded.fault_at(&[], "has faults").into())
    }

    /// The configuration.
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What is wrong with secrets in the configuration itself.
    pub(crate) fn secret_faults(&self) -> &[Fault] {
        &self.secret_faults
    }

    /// The engine.
    pub(crate) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The migrations for tenants' databases.
    pub(crate) fn migrations(&self) -> &Migrations {
        &self.migrations
    }

    /// What is measured and sent.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The server's certificate, if it speaks TLS.
    pub(crate) fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()
    }

    /// The rule for tenant ids.
    pub(crate) fn id_pattern(&self) -> &TenantIdPattern {
        &self.id_pattern
    }

    /// The OpenAPI document of the built-in APIs and `apis`, as this configuration serves it.
    ///
    /// # Errors
    /// Two APIs claim the same path or the same name.
    pub(crate) fn document(&self, apis: ApiSet) -> Result<ApiDocument, ApiConflict> {
        tenantry_openapi::document(&self.document_settings(), &apis)
    }

    /// The APIs with the declared tables.
    ///
    /// # Errors
    /// A table has the path of another operation.
    pub(crate) fn with_tables(&self, apis: ApiSet) -> Result<ApiSet, Faults> {
        let (Some(config), Some(rest)) = (&self.loaded.config.rest, &self.rest) else {
            return Ok(apis);
        };
        let apis = rest::with_tables(apis, config, rest);
        let taken = tenantry_openapi::repeated_operation(&apis);
        match taken.filter(|(_, path)| path.starts_with(&format!("{}/", config.path))) {
            Some((method, path)) => {
                let message = format!("a table would take the place of another operation, `{method} {path}`");
                Err(self.loaded.fault_at(&["rest", "path"], message).into())
            }
            None => Ok(apis),
        }
    }

    /// The declared tables, if there are any.
    pub(crate) fn rest(&self) -> Option<&Arc<Rest>> {
        self.rest.as_ref()
    }

    pub(crate) fn document_settings(&self) -> DocumentSettings {
        let config = &self.loaded.config;
        let scheme = if config.server.tls.is_some() { "https" } else { "http" };
        let port = config.server.listen.0.port();
        DocumentSettings {
            title: config.app.name.clone(),
            version: self.loaded.product.version.clone(),
            description: self.loaded.product.description.clone(),
            location: self.resolver.location(),
            authenticates: self.resolver.authenticates(),
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
    pub(crate) fn summary(&self) -> String {
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
                Ok(ids) => open_ahead(&tenants, ids).await,
                Err(error) => tracing::warn!(%error, "the tenants for `tenancy.warm_up` cannot be listed"),
            }
        }
    }

    /// The proxies that may set forwarded headers.
    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        let server = &self.loaded.config.server;
        let networks = server.trusted_proxies.iter().map(|Network(network)| *network);
        TrustedProxies::new(networks.collect(), server.forwarded.into())
    }

    /// What resolves a request's tenant and opens its database.
    pub(crate) fn gate(&self) -> TenantGate {
        TenantGate {
            resolver: self.resolver.clone(),
            resolver_type: self.loaded.config.tenancy.resolver.type_name().into(),
            tenants: self.tenants.clone(),
            trusted_proxies: self.trusted_proxies(),
            id_pattern: self.id_pattern.clone(),
        }
    }
}

/// What a tenant's first connection does before it serves: migrations, then the comparison of the
/// declared tables.
fn on_connect(
    loaded: &Loaded,
    migrations: &Arc<Migrations>,
    require: Option<(i64, String)>,
    rest: Option<&Arc<Rest>>,
    telemetry: &Telemetry,
) -> Arc<dyn OnConnect> {
    let settings = &loaded.config.migrations;
    let metrics = telemetry.metrics().clone();
    let mut on_connect = MigrationsOnConnect::new(migrations.clone(), settings.on_connect, settings.sample_data)
        .counted(move |applied, is_failed| metrics.migrated(applied, is_failed));
    if let Some((version, text)) = require {
        on_connect = on_connect.require(version, text);
    }
    match rest {
        Some(rest) => Arc::new(rest::ComparedOnConnect::new(Arc::new(on_connect), rest.clone())),
        None => Arc::new(on_connect),
    }
}

/// Opens a first connection for each of these tenants, a few at a time. A failure stops no other.
async fn open_ahead(tenants: &Tenants, ids: Vec<TenantId>) {
    const AT_ONCE: usize = 8;
    let opened: Vec<_> = stream::iter(ids)
        .map(|id| async move { Ok::<_, BoxError>(tenants.acquire(&id).await?.ping().await?) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed = opened.iter().filter(|opened| opened.is_err()).count();
    let opened = opened.len() - failed;
    tracing::info!(opened, failed, "tenants were opened ahead of their first request");
}
