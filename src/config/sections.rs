//! The sections of the configuration and what they say.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use tenantry_core::{
    ByteSize, ForwardedHeader, HumanDuration,
    engine::{DEFAULT_MIGRATIONS_TIMEOUT, EngineSettings, LimitsSettings, PoolsSettings, SecretsSettings},
};
use tenantry_tables::Tables;

use super::{
    plugins::{Drivers, PluginConfig},
    values::{Endpoint, IdPattern, ListenAddress, LogFilter, Network},
    warm_up::WarmUp,
};

/// The configuration of Tenantry. Relative paths start from the file's folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name and environment of this installation.
    #[serde(default)]
    pub app: App,
    /// The server's addresses, and its limits for requests.
    #[serde(default)]
    pub server: Server,
    /// Which requests are an operator's.
    #[serde(default)]
    pub admin: Admin,
    /// How tenants are found and reached, and what they are allowed.
    pub tenancy: Tenancy,
    /// Settings per database driver. Every driver that is built in is on unless it says `enabled:
    /// false`.
    #[serde(default)]
    pub drivers: Drivers,
    /// What is applied to tenants' databases.
    #[serde(default)]
    pub migrations: Migrations,
    /// Declared tables as a REST API. If this is absent, no table is served.
    pub rest: Option<Rest>,
    /// What is logged, and how.
    #[serde(default)]
    pub logging: Logging,
    /// Traces and metrics sent with OpenTelemetry.
    #[serde(default)]
    pub observability: Observability,
    /// The documentation pages.
    #[serde(default)]
    pub docs: Docs,
}

/// Declared tables as a REST API in the dialect of PostgREST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rest {
    /// The path before the tables' names.
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9_.~-]+)+$"))]
    pub path: String,
    /// The most rows of one answer.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_rows: u64,
    /// The claim of a verified token that names the role; dots go deeper. Requests without it have
    /// the role `anon`.
    #[schemars(length(min = 1))]
    pub role_claim: String,
    /// The tables by their names in URLs, or the path of a file with the key `tables`. No other
    /// table is served.
    pub tables: Tables,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            path: "/rest/v1".to_owned(),
            max_rows: 1000,
            role_claim: "role".to_owned(),
            tables: Tables::new(),
        }
    }
}

/// The name and environment of this installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which of its environments this is, such as `production`. It is part of the names of secrets.
    #[schemars(length(min = 1))]
    pub environment: String,
}

impl Default for App {
    fn default() -> Self {
        Self {
            name: "tenantry".to_owned(),
            environment: "development".to_owned(),
        }
    }
}

/// The server's addresses, and its limits for requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The address and port it listens on.
    pub listen: ListenAddress,
    /// A second address and port. If it is set, operator routes answer only there.
    pub admin_listen: Option<ListenAddress>,
    /// How long a request may take; one that takes longer is answered 504 `request_timeout`, or 503
    /// `outcome_unknown` if a write may have taken effect.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub request_timeout: HumanDuration,
    /// The most bytes a request's body may have; a larger one is answered 413 `body_too_large`.
    pub body_limit: ByteSize,
    /// How long running requests may take to end after SIGTERM.
    pub shutdown_grace: HumanDuration,
    /// The networks or single addresses of trusted proxies, such as `10.0.0.0/8`.
    pub trusted_proxies: Vec<Network>,
    /// The header in which a trusted proxy writes the host that the client asked for. It must be
    /// the one that the proxy overwrites: a client can send the others through it.
    pub forwarded: Forwarded,
    /// Serves HTTPS with this certificate; `null` for plain HTTP.
    pub tls: Option<ServerTls>,
    /// What clients may ask of the server's connections.
    pub limits: ServerLimits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: ListenAddress::default(),
            admin_listen: None,
            request_timeout: HumanDuration::from_secs(15),
            body_limit: ByteSize::mebibytes(1),
            shutdown_grace: HumanDuration::from_secs(20),
            trusted_proxies: Vec::new(),
            forwarded: Forwarded::default(),
            tls: None,
            limits: ServerLimits::default(),
        }
    }
}

/// The header in which a proxy writes the host that the client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    /// None: `Host` reaches this server as the client sent it.
    #[default]
    None,
    /// `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl From<Forwarded> for ForwardedHeader {
    fn from(forwarded: Forwarded) -> Self {
        match forwarded {
            Forwarded::None => Self::None,
            Forwarded::XForwarded => Self::XForwarded,
            Forwarded::Forwarded => Self::Forwarded,
        }
    }
}

/// What clients may ask of the server's connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// The most connections that each listener serves at once; more of them wait until one ends.
    /// `null` for no limit.
    #[schemars(range(min = 1))]
    pub connections: Option<usize>,
    /// How long the head of a request may take to arrive, and before the first one the TLS
    /// handshake. The connection of a slower client is closed.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub head_timeout: HumanDuration,
    /// The most requests that run at once on one HTTP/2 connection; a client sends more of them
    /// later.
    #[schemars(range(min = 1))]
    pub streams: u32,
    /// How many bytes of large answers clients may leave unread, over all connections. One tenant's
    /// may be a quarter of them. More are refused with 429 `tenant_busy` or 503.
    pub unread_answers: ByteSize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: None,
            head_timeout: HumanDuration::from_secs(10),
            streams: 100,
            unread_answers: ByteSize::mebibytes(512),
        }
    }
}

/// The server's certificate. Both files are read again within a minute after they change, and on
/// SIGHUP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// A PEM file: the certificate, then those that lead to its root.
    pub cert: PathBuf,
    /// A PEM file: the certificate's private key.
    pub key: PathBuf,
}

/// Which requests are an operator's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The token that makes a request an operator's: at least 16 characters, all of them visible
    /// ASCII. Empty for none. If the key is left out, it is the environment variable
    /// `TENANTRY_ADMIN_TOKEN`, if that is set.
    #[serde(deserialize_with = "token")]
    #[schemars(with = "Option<String>", extend("format" = "admin-token"))]
    pub token: Option<SecretString>,
    /// Whether, if there is no token, a local request is an operator's: one from a loopback
    /// address, with a local `Host` and `Origin`, that no proxy has forwarded. If this is `false`
    /// and there is no token, there are no operators.
    pub loopback: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            token: None,
            loopback: true,
        }
    }
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let token = Option::<String>::deserialize(deserializer)?;
    Ok(token.filter(|token| !token.is_empty()).map(SecretString::from))
}

/// How tenants are found and reached, and what they are allowed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenancy {
    /// A regular expression that a whole tenant id must match. Whatever it says, an id has at most
    /// 64 bytes and holds no `/`, `.`, `%`, `\`, white space, control or non-ASCII character.
    /// `null` for `^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$`.
    #[serde(default)]
    pub id_pattern: Option<IdPattern>,
    /// Finds the tenant of a request. `type` chooses the plugin, the other keys are that plugin's.
    #[serde(default = "PluginConfig::default_resolver")]
    pub resolver: PluginConfig,
    /// Holds the tenants' secrets. `type` chooses the plugin, the other keys are that plugin's.
    pub provider: PluginConfig,
    /// How long secrets are cached, and what happens when they cannot be read.
    #[serde(default)]
    pub secrets: SecretsSettings,
    /// How many databases and connections are open at once, and for how long.
    #[serde(default)]
    pub pools: PoolsSettings,
    /// The tenants with pools that are opened after the start, before a request needs them: `none`,
    /// `all`, or a list of tenant ids. They are opened in small batches, and readiness does not
    /// wait for them.
    #[serde(default)]
    pub warm_up: WarmUp,
    /// The limits of one tenant.
    #[serde(default)]
    pub limits: LimitsSettings,
}

impl Tenancy {
    /// The engine's part, with `migrations.timeout`.
    pub fn engine(&self, migrations_timeout: HumanDuration) -> EngineSettings {
        EngineSettings {
            secrets: self.secrets.clone(),
            pools: self.pools.clone(),
            limits: self.limits.clone(),
            migrations_timeout,
        }
    }

    /// The rule for tenant ids: the configured one, or the default.
    pub fn id_pattern(&self) -> tenantry_core::TenantIdPattern {
        self.id_pattern.as_ref().map(IdPattern::rule).unwrap_or_default()
    }
}

/// What is applied to tenants' databases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Migrations {
    /// The folder that holds `<driver>/NNNN_name.sql`; `null` for the migrations inside the
    /// program.
    pub dir: Option<PathBuf>,
    /// Whether they are applied when a tenant's database is first connected to, and not only by
    /// `tenantry migrate`.
    pub on_connect: bool,
    /// Whether sample rows are written as well.
    pub sample_data: bool,
    /// How long the migrations of one tenant may take on its first connection. Requests do not wait
    /// for them that long: they get 503 `tenant_migrating` meanwhile. And how long a run waits for
    /// another one on the same database.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub timeout: HumanDuration,
    /// The lowest version that is served, such as `"0004"`: requests of a tenant below it are
    /// answered 503 `tenant_schema_behind`. `null` to serve every tenant.
    #[schemars(regex(pattern = "^[0-9]+$"))]
    pub require: Option<String>,
    /// A file to which `tenantry migrate` appends what it does, as lines of JSON; `null` for none.
    pub report: Option<PathBuf>,
}

impl Default for Migrations {
    fn default() -> Self {
        Self {
            dir: None,
            on_connect: false,
            sample_data: false,
            timeout: DEFAULT_MIGRATIONS_TIMEOUT,
            require: None,
            report: None,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// The least level that is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`; also per
    /// part of the program, such as `info,tenantry_core=debug`.
    pub level: LogFilter,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Traces and metrics sent with OpenTelemetry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Observability {
    /// Whether anything is sent at all.
    pub enabled: bool,
    /// How this service calls itself.
    pub service: Service,
    /// Traces.
    pub trace: Trace,
    /// Metrics. `/metrics` is served whatever is said here.
    pub metrics: Metrics,
}

/// How this service calls itself in traces and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// `service.name`.
    #[schemars(length(min = 1))]
    pub name: String,
    /// `service.version`; `null` for the program's own.
    pub version: Option<String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: "tenantry".to_owned(),
            version: None,
        }
    }
}

/// Which traces are sent, and to which endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// Whether traces are sent.
    pub enabled: bool,
    /// The collector's URL, or `stdout`.
    pub endpoint: Endpoint,
    /// How the collector is spoken to.
    pub protocol: OtlpProtocol,
    /// Which of them are sent.
    pub sample: Sample,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            enabled: true,
            endpoint: Endpoint::default(),
            protocol: OtlpProtocol::default(),
            sample: Sample::default(),
        }
    }
}

/// Which traces are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    /// The fraction of traces that is sent, from 0 to 1; a trace that a caller began follows the
    /// caller's choice.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rate: f64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { rate: 1.0 }
    }
}

/// How metrics are sent, and to which endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether metrics are sent.
    pub enabled: bool,
    /// The collector's URL, or `stdout`.
    pub endpoint: Endpoint,
    /// How the collector is spoken to.
    pub protocol: OtlpProtocol,
    /// How often they are sent.
    #[schemars(extend("format" = HumanDuration::POSITIVE_FORM))]
    pub interval: HumanDuration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            endpoint: Endpoint::default(),
            protocol: OtlpProtocol::default(),
            interval: HumanDuration::from_secs(10),
        }
    }
}

/// The forms of OTLP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP, in protobuf.
    Http,
}

/// The documentation pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Docs {
    /// Whether `/docs`, `/openapi.json` and `/openapi.yaml` are served.
    pub enabled: bool,
}

impl Default for Docs {
    fn default() -> Self {
        Self { enabled: true }
    }
}
