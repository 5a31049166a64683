//! Log lines, on standard error: standard output belongs to what a command prints.

use std::{io, panic, sync::OnceLock};

use tenantry_core::TRACE_TARGET;
use tenantry_openapi::{LogControl, LogControlLost, LogLevel};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, Logging};

/// Parts of the program that log what they send and receive, secrets included, at their most talkative levels. They are held at `warn`
/// whatever level is configured; naming one in `logging.level` does not lift that.
const HELD: &[&str] = &[
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_secretsmanager",
    "aws_sdk_sso",
    "aws_sdk_ssooidc",
    "aws_sdk_sts",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "sea_orm",
    "sqlx",
    "sqlx_core",
    "sqlx_mysql",
    "sqlx_postgres",
    "sqlx_sqlite",
    "tonic",
    "tower",
];

/// Parts that repeat with every failure what the exporters' own warning says once.
const SILENCED: &[&str] = &[
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-sdk",
    "opentelemetry_otlp",
    "opentelemetry-otlp",
    "opentelemetry_http",
    "opentelemetry-http",
    "opentelemetry_prometheus",
    "opentelemetry-prometheus",
];

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `logging.level` is not one.
    #[error("`logging.level` is not a level, nor a list such as `info,tenantry_core=debug`")]
    Level,
    /// Something in this process logs already.
    #[error("logging was started before")]
    Started,
}

/// The log of this process, once it was started: a process has one.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sends every log line of this process to standard error, and what a panic says nowhere: it may repeat a value, so the line that tells
/// of it names the place alone.
///
/// # Errors
/// See [`LoggingError`].
pub fn start_logging(settings: &Logging) -> Result<(), LoggingError> {
    start(settings, None::<NoLayer>)
}

/// No layer beside the log's.
pub(crate) type NoLayer = Box<dyn Layer<Logged> + Send + Sync>;

/// Lines as they are filtered: a layer of its own filter, so that what traces are made of does not concern it.
pub(crate) type Logged = tracing_subscriber::layer::Layered<
    tracing_subscriber::filter::Filtered<
        Box<dyn Layer<Registry> + Send + Sync>,
        reload::Layer<EnvFilter, Registry>,
        Registry,
    >,
    Registry,
>;

/// As [`start_logging`], with a layer that makes traces.
pub(super) fn start<L>(settings: &Logging, traces: Option<L>) -> Result<(), LoggingError>
where
    L: Layer<Logged> + Send + Sync,
{
    let (filter, handle) = reload::Layer::new(filter(settings.level.as_str())?);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        LogFormat::Text => fmt::layer().with_writer(io::stderr).with_ansi(is_terminal()).boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(io::stderr)
            .boxed(),
    };
    let logged = tracing_subscriber::registry().with(lines.with_filter(filter));
    let started = match traces {
        Some(traces) => logged.with(traces).try_init(),
        // Without even an absent layer: one that filters nothing is taken for one that wants everything, so every span would be made.
        None => logged.try_init(),
    };
    started.map_err(|_| LoggingError::Started)?;
    FILTER.get_or_init(|| handle);
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic: this is a defect");
    }));
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let held = HELD.iter().map(|target| format!(",{target}=warn")).collect::<String>();
    let silenced = SILENCED.iter().chain([&TRACE_TARGET]);
    let silenced = silenced.map(|target| format!(",{target}=off")).collect::<String>();
    EnvFilter::try_new(format!("{level}{held}{silenced}")).map_err(|_| LoggingError::Level)
}

/// Whether a span of this target may belong in a trace: those that say what they send and receive do not.
pub(crate) const TRACED: fn(&str) -> bool = |target| {
    let part = target.split("::").next().unwrap_or_default();
    !HELD.contains(&part) && !SILENCED.contains(&part)
};

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// The log of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningLog;

impl LogControl for RunningLog {
    fn set(&self, level: LogLevel) -> Result<(), LogControlLost> {
        let handle = FILTER.get().ok_or(LogControlLost)?;
        let filter = filter(level.as_str()).map_err(|_| LogControlLost)?;
        handle.reload(filter).map_err(|_| LogControlLost)
    }
}
