//! A program of your own on Tenantry.

use std::{future::Future, path::Path, process::ExitCode, sync::Arc};

use poem_openapi::OpenApi;
use tenantry_core::Registry;
use tenantry_openapi::ApiSet;

use crate::{
    background::{Background, BackgroundWork},
    command_line,
    config::{self, Environment, Faults},
    installation::Installation,
    plugins,
    server::{RunningServer, ServerError},
    telemetry::{Telemetry, TelemetryError},
};

/// Everything the program is made of before it reads its configuration: the built-in plugins and APIs, and yours.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     tenantry::App::new().main()
/// }
/// ```
pub struct App {
    pub(crate) registry: Registry,
    pub(crate) apis: ApiSet,
    pub(crate) background: BackgroundWork,
}

/// Why an [`App`] could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong, or names what cannot be built.
    #[error(transparent)]
    Configuration(#[from] Faults),
    /// What is measured could not be set up, or not what sends it.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The server could not be put together, or not bound.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The task that reads the configuration was lost.
    #[error("the configuration could not be read")]
    Lost(#[from] tokio::task::JoinError),
}

impl App {
    /// The built-in resolvers, providers, drivers and APIs.
    pub fn new() -> Self {
        let mut registry = Registry::new();
        plugins::register(&mut registry);
        Self {
            registry,
            apis: ApiSet::new(),
            background: BackgroundWork::default(),
        }
    }

    /// Adds plugins: `app.plugins(|registry| { registry.resolver::<MyResolver>(); })`. One of the same type as a built-in one takes its
    /// place.
    #[must_use]
    pub fn plugins(mut self, register: impl FnOnce(&mut Registry)) -> Self {
        register(&mut self.registry);
        self
    }

    /// Adds an API of poem-openapi's. Those of its operations that take a [`Tenant`](crate::Tenant) get that tenant's database; they are
    /// documented and served like the built-in ones.
    #[must_use]
    pub fn api<A: OpenApi + 'static>(mut self, api: A) -> Self {
        self.apis = self.apis.with(api);
        self
    }

    /// Adds work that runs beside the requests while the server serves. It is given the tenants, and
    /// is told when the server stops:
    ///
    /// ```no_run
    /// # let app = tenantry::App::new();
    /// app.background(|background| async move {
    ///     let hour = std::time::Duration::from_secs(3600);
    ///     while tokio::time::timeout(hour, background.stopping()).await.is_err() {
    ///         for tenant in background.tenants().list().await.unwrap_or_default() {
    ///             // let database = background.tenants().acquire(&tenant).await ...
    /// #           let _ = tenant;
    ///         }
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn background<F>(mut self, work: impl FnOnce(Background) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.background.add(work);
        self
    }

    /// Runs what the command line says: `serve`, `check`, `migrate` and the others.
    pub fn main(self) -> ExitCode {
        command_line::run(self)
    }

    /// Starts the server with a configuration file, in the runtime that this is called in; for tests and for programs with a command line
    /// of their own. The environment's variables count as they do for the program.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self, file: impl AsRef<Path>) -> Result<RunningServer, StartError> {
        let Self {
            registry,
            apis,
            background,
        } = self;
        let registry = Arc::new(registry);
        let file = file.as_ref().to_owned();
        let reading = {
            let registry = registry.clone();
            tokio::task::spawn_blocking(move || config::load(Some(&file), &Environment::of_process(), &registry))
        };
        let loaded = reading.await??;
        let telemetry = Telemetry::sending(&loaded.config)?;
        let installation = Installation::build_with(loaded, registry, telemetry).await?;
        Ok(installation.bind(apis).await?.with_background(background).start())
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}
