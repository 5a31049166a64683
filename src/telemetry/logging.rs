//! Log lines, on standard error: standard output belongs to what a command prints.

use std::{io, panic};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

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

/// Sends every log line of this process to standard error, and what a panic says nowhere: it may repeat a value, so the line that tells
/// of it names the place alone.
///
/// # Errors
/// See [`LoggingError`].
pub fn start_logging(settings: &Logging) -> Result<(), LoggingError> {
    let filter = filter(settings.level.as_str())?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(io::stderr).with_ansi(is_terminal()))
            .try_init(),
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            registry.with(layer.with_writer(io::stderr)).try_init()
        }
    };
    started.map_err(|_| LoggingError::Started)?;
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic: this is a defect");
    }));
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let held = HELD.iter().map(|target| format!(",{target}=warn")).collect::<String>();
    EnvFilter::try_new(format!("{level}{held}")).map_err(|_| LoggingError::Level)
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}
