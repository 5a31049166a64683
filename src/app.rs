//! A program of your own on Tenantry.

use std::{
    borrow::Cow,
    future::Future,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use futures_util::future::BoxFuture;
use opentelemetry::metrics::Meter;
use poem::{Endpoint, IntoResponse, Middleware, endpoint::BoxEndpoint};
use poem_openapi::OpenApi;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tenantry_core::{
    BoxError, Registry, Sections,
    engine::{TenantDatabase, Tenants},
};
use tenantry_openapi::ApiSet;
use tokio_util::sync::CancellationToken;

use crate::{
    background::BackgroundWork,
    command_line,
    config::{self, Absent, Environment, Faults, Loaded},
    installation::{Installation, OwnMigrations},
    jobs::{self, Schedule},
    plugins,
    product::Product,
    server::{RunningServer, ServerError},
    telemetry::{Telemetry, TelemetryError},
};

/// A program before it reads its configuration: the built-in plugins and APIs, and yours.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     tenantry::App::new().main()
/// }
/// ```
pub struct App {
    pub(crate) registry: Registry,
    pub(crate) product: Product,
    setups: Vec<SetupStep>,
    parts: AppParts,
}

/// The parts of the server that do not come from the configuration.
#[derive(Default)]
pub(crate) struct AppParts {
    pub(crate) apis: ApiSet,
    pub(crate) background: BackgroundWork,
    pub(crate) migrations: Option<OwnMigrations>,
}

type SetupStep = Box<dyn FnOnce(App, Setup) -> BoxFuture<'static, Result<App, BoxError>> + Send>;

/// What [`App::setup`] works with: the configuration has been read, and nothing is served yet.
#[derive(Clone)]
pub struct Setup {
    sections: Sections,
    base_dir: PathBuf,
    meter: Meter,
}

impl Setup {
    /// The section that [`App::section`] registered with this type.
    ///
    /// # Errors
    /// No section has this type.
    pub fn section<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, NoSection> {
        let type_name = std::any::type_name::<T>();
        self.sections.get().ok_or(NoSection { type_name })
    }

    /// Makes instruments. `/metrics` shows their metrics, and OpenTelemetry sends them with the
    /// built-in ones. Use few values for an attribute, since each one is a time series; a tenant's
    /// id has too many.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// `path` if it is absolute, else `path` below the configuration file's folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// [`Setup::section`] found none.
#[derive(Debug, thiserror::Error)]
#[error("no section of the type `{type_name}` was added with `App::section`")]
pub struct NoSection {
    type_name: &'static str,
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
    /// A function of [`App::setup`] failed.
    #[error("the program could not be set up")]
    Setup(#[source] BoxError),
    /// The server could not be built, or could not bind its sockets.
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
            product: Product::default(),
            setups: Vec::new(),
            parts: AppParts::default(),
        }
    }

    /// The product's name: of the program on the command line, of the service in telemetry and of
    /// the OpenAPI document. The configuration's `app.name` and `observability.service.name` come
    /// first.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.product.name = name.into();
        self
    }

    /// The product's version, such as `env!("CARGO_PKG_VERSION")`, in the same places.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.product.version = version.into();
        self
    }

    /// What the product is, in a sentence or more: the OpenAPI document and `--help` begin with it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.product.description = Some(description.into());
        self
    }

    /// Adds plugins: `app.plugins(|registry| { registry.resolver::<MyResolver>(); })`. One of the
    /// same type as a built-in one takes its place.
    #[must_use]
    pub fn plugins(mut self, register: impl FnOnce(&mut Registry)) -> Self {
        register(&mut self.registry);
        self
    }

    /// Adds a section at the top of the configuration. It is checked like the built-in ones, with
    /// faults that name file and line. It can be set from the environment, and the JSON Schema
    /// includes it. If all its keys have defaults, it may be left out. `T` has
    /// `#[serde(deny_unknown_fields)]`, so that a misspelt key is a fault. [`App::setup`] reads it:
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// /// How invoices are made.
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// #[serde(deny_unknown_fields)]
    /// struct Billing {
    ///     /// The currency, such as `EUR`.
    ///     currency: String,
    ///     /// The largest logo of a customer.
    ///     largest_logo: tenantry::core::ByteSize,
    ///     /// The password of the payment service, which no log prints.
    ///     #[schemars(with = "String")]
    ///     password: secrecy::SecretString,
    /// }
    ///
    /// tenantry::App::new()
    ///     .section::<Billing>("billing")
    ///     .setup(|app, setup| async move {
    ///         let billing: Arc<Billing> = setup.section()?;
    ///         let sent = setup.meter().u64_counter("invoices.sent").build();
    ///         // Ok(app.api(Invoices { billing, sent }))
    /// #       let _ = (billing, sent);
    /// #       Ok(app)
    ///     })
    ///     .main();
    /// ```
    #[must_use]
    pub fn section<T>(mut self, name: &'static str) -> Self
    where
        T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    {
        self.registry.section::<T>(name);
        self
    }

    /// Adds what depends on the configuration or measures something: `setup` runs once the
    /// configuration has been read, and before anything is served. It can add APIs, jobs,
    /// middleware, readiness checks and work in the background. Plugins, sections and names are
    /// added outside of it, since the configuration is read with them.
    #[must_use]
    pub fn setup<F>(mut self, setup: impl FnOnce(App, Setup) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<App, BoxError>> + Send + 'static,
    {
        self.setups.push(Box::new(|app, context| Box::pin(setup(app, context))));
        self
    }

    /// Adds an API of poem-openapi's. Those of its operations that take a [`Tenant`](crate::Tenant)
    /// get that tenant's database, and those that take an [`Operator`](crate::Operator) are
    /// operators'. They are documented and served like the built-in ones.
    #[must_use]
    pub fn api<A: OpenApi + 'static>(mut self, api: A) -> Self {
        self.parts.apis = self.parts.apis.with(api);
        self
    }

    /// Leaves out the built-in users: their operations, and `/api/v1/tenant/stats`, which counts
    /// them.
    #[must_use]
    pub fn without_users(mut self) -> Self {
        self.parts.apis = self.parts.apis.without_users();
        self
    }

    /// Adds a poem middleware around the routes of the main listener, so not around those of
    /// operators if `server.admin_listen` is set. It runs inside the layers for the request's id,
    /// the time limit and the translation of errors, so an error that it returns is answered as a
    /// [`Problem`](crate::Problem). The last one added is the outermost.
    ///
    /// ```
    /// # let app = tenantry::App::new();
    /// use poem::middleware::SetHeader;
    /// app.middleware(SetHeader::new().overriding("Cache-Control", "private"));
    /// ```
    #[must_use]
    pub fn middleware<M, E>(mut self, middleware: M) -> Self
    where
        M: Middleware<BoxEndpoint<'static>, Output = E> + Send + 'static,
        E: Endpoint + 'static,
        E::Output: IntoResponse,
    {
        self.parts.apis = self.parts.apis.middleware(middleware);
        self
    }

    /// Takes the migrations from these files in place of the built-in ones: pairs of a path,
    /// `<database>/NNNN_name.sql`, and a text. They are part of the program; `migrations.dir` in
    /// the configuration comes first.
    ///
    /// ```
    /// # let app = tenantry::App::new();
    /// app.migrations([
    ///     ("sqlite/0001_create_invoices.sql", "CREATE TABLE invoices (id INTEGER PRIMARY KEY)"),
    ///     // ("postgresql/0001_create_invoices.sql", include_str!("../migrations/0001.sql")),
    /// ]);
    /// ```
    #[must_use]
    pub fn migrations<P, T>(mut self, files: impl IntoIterator<Item = (P, T)>) -> Self
    where
        P: Into<Cow<'static, str>>,
        T: Into<Cow<'static, str>>,
    {
        let files = files.into_iter().map(|(path, text)| (path.into(), text.into()));
        self.parts.migrations.get_or_insert_default().extend(files);
        self
    }

    /// Adds background work that runs on every instance while the server serves. It gets the
    /// tenants, and a token that is cancelled when the server begins to stop. After that it may run
    /// until the requests have ended, within `server.shutdown_grace`, and is then aborted.
    ///
    /// ```no_run
    /// # let app = tenantry::App::new();
    /// app.background("mail", |tenants, stop| async move {
    ///     let minute = std::time::Duration::from_secs(60);
    ///     while tokio::time::timeout(minute, stop.cancelled()).await.is_err() {
    ///         // let database = tenants.acquire(&tenant).await ...
    /// #       let _ = &tenants;
    ///     }
    /// });
    /// ```
    ///
    /// Each [`acquire`](Tenants::acquire) counts as a request of its tenant and keeps to its
    /// limits, so hold a database no longer than you need it. Work that only one instance may do
    /// asks [`claim`](crate::jobs::claim) first; for work on each tenant see
    /// [`each_tenant`](Self::each_tenant).
    #[must_use]
    pub fn background<F>(
        mut self,
        name: &'static str,
        work: impl FnOnce(Tenants, CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.parts.background.add(name, work);
        self
    }

    /// Adds a job that runs for each tenant when `schedule` says, on one instance at a time: each
    /// run is claimed in the tenant's own database, in the table `tenantry_jobs`. While the
    /// provider is away, it runs for the tenants that are known from before. A run that fails is
    /// logged and repeated; another tenant's run does not notice.
    ///
    /// ```no_run
    /// # use tenantry::jobs::Schedule;
    /// # let app = tenantry::App::new();
    /// app.each_tenant("close-month", Schedule::daily(2, 30), |database| async move {
    ///     // Invoice::update_many()...exec(&database).await?;
    /// #   let _ = database;
    ///     Ok(())
    /// });
    /// ```
    #[must_use]
    pub fn each_tenant<F>(
        mut self,
        name: &'static str,
        schedule: Schedule,
        job: impl Fn(TenantDatabase) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.parts.background.add(name, move |tenants, stop| {
            jobs::each_tenant(name, schedule, Arc::new(job), tenants, stop)
        });
        self
    }

    /// Adds a check that `/health/ready` depends on: it answers 503 until each check has passed,
    /// and again while one fails. Checks run every few seconds, and not with each request. A change
    /// is logged with the check's name.
    ///
    /// ```
    /// # let app = tenantry::App::new();
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// // Background work sets it.
    /// let loaded = Arc::new(AtomicBool::new(false));
    /// app.readiness("prices", move |_tenants| {
    ///     let loaded = loaded.load(Ordering::Relaxed);
    ///     async move { if loaded { Ok(()) } else { Err("the prices are not loaded yet") } }
    /// });
    /// ```
    #[must_use]
    pub fn readiness<F, E>(mut self, name: &'static str, check: impl Fn(Tenants) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.parts.background.add_check(name, check);
        self
    }

    /// Runs what the command line says: `serve`, `check`, `migrate` and the others.
    pub fn main(self) -> ExitCode {
        command_line::run(self)
    }

    /// Starts the server with a configuration file, in the runtime that this is called in; for
    /// tests and for programs with a command line of their own. The environment's variables count
    /// as they do for the program.
    ///
    /// If the configuration asks for traces, this starts the log of the process as well, since one
    /// subscriber does both. Otherwise the caller sets up logging; see
    /// [`start_logging`](crate::start_logging).
    ///
    /// # Errors
    /// See [`StartError`]. [`StartError::Telemetry`] is also returned if traces are configured and
    /// the process already has another log subscriber, which would make no traces.
    pub async fn start(mut self, file: impl AsRef<Path>) -> Result<RunningServer, StartError> {
        let file = file.as_ref().to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let loaded = self.load(Some(&file), Absent::Refused);
            (self, loaded)
        });
        let (mut app, loaded) = reading.await?;
        let loaded = loaded?;
        app.refuse_faults(&loaded).await?;
        let telemetry = Telemetry::within_process(&loaded)?;
        let (installation, parts) = app.build(loaded, telemetry).await?;
        Ok(installation.bind(parts).await?.start())
    }

    /// Reads the configuration for this program, as far as it can be read: see
    /// [`refuse_faults`](Self::refuse_faults). It blocks.
    pub(crate) fn load(&mut self, file: Option<&Path>, absent: Absent) -> Result<Loaded, Faults> {
        let loaded = config::read_all(file, &Environment::of_process(), &self.registry, absent)?;
        Ok(loaded.of_product(self.product.clone()))
    }

    /// Refuses a configuration with faults, after building what it names to find all of them.
    pub(crate) async fn refuse_faults(&mut self, loaded: &Loaded) -> Result<(), Faults> {
        if loaded.faults.is_empty() {
            return Ok(());
        }
        let registry = Arc::new(std::mem::take(&mut self.registry));
        Err(Installation::all_faults(loaded, registry, self.parts.migrations.take()).await)
    }

    /// Sets the program up and builds what the configuration names.
    pub(crate) async fn build(
        mut self,
        loaded: Loaded,
        telemetry: Telemetry,
    ) -> Result<(Installation, AppParts), StartError> {
        let registry = Arc::new(std::mem::take(&mut self.registry));
        let setup = Setup {
            sections: loaded.sections.clone(),
            base_dir: loaded.base_dir.clone(),
            meter: telemetry.metrics().meter_of(&self.product),
        };
        let mut app = self;
        while !app.setups.is_empty() {
            let step = app.setups.remove(0);
            app = step(app, setup.clone()).await.map_err(StartError::Setup)?;
        }
        if !app.registry.is_empty() {
            let late =
                "plugins and sections must be added before `App::setup`, which runs after the configuration was read";
            return Err(StartError::Setup(late.into()));
        }
        let mut parts = app.parts;
        let own = parts.migrations.take();
        let installation = Installation::build(loaded, registry, telemetry, own).await?;
        parts.apis = installation.with_tables(parts.apis)?;
        Ok((installation, parts))
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}
