//! Log lines, on standard error: standard output belongs to what a command prints.

use std::{io, panic, sync::OnceLock};

use tenantry_core::TRACE_TARGET;
use tenantry_openapi::{AUDIT_TARGET, LogControl, LogControlLost, LogLevel};
use tracing::{Level, Metadata, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::Filtered,
    fmt,
    layer::{Context, Filter, Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use super::lines::RequestLines;
use crate::config::{LogFormat, Logging};

/// Parts of the program that log what they send and receive, secrets included, at their most
/// talkative levels. They are held at `warn` whatever level is configured; naming one in
/// `logging.level` does not lift that.
const HELD: &[&str] = &[
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_secretsmanager",
    "aws_sdk_ssm",
    "aws_sdk_sso",
    "aws_sdk_ssooidc",
    "aws_sdk_sts",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    // They report each change of a watched folder. If the log is in it, each line makes another.
    "mio",
    "notify",
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

/// Logs the text of a database server's warnings and notices, which may repeat values or be written
/// by a trigger.
const NOTICES: &str = "sqlx::postgres::notice";

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

/// The parts of the program whose warnings a command shows.
const COMMAND_PARTS: [&str; 3] = ["tenantry::migrations", "tenantry_core::leases", "tenantry_providers"];

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `logging.level` is not one.
    #[error("`logging.level` is not a level, nor a list such as `info,tenantry_core=debug`")]
    Level,
    /// Something in this process logs already.
    #[error("logging has already been started")]
    Started,
}

/// The log of this process, once it was started: a process has one.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sends every log line of this process to standard error. A panic's message may repeat a value, so
/// it is not logged; the line for a panic has only its place.
///
/// # Errors
/// See [`LoggingError`].
pub fn start_logging(settings: &Logging) -> Result<(), LoggingError> {
    start(settings, None::<NoLayer>)
}

/// Sends warnings about secrets and migrations to standard error, such as leases that could not be
/// given back, for a command that otherwise prints its results only. A process that logs already
/// has them there.
pub(super) fn start_for_command() {
    let shown = LineFilter {
        levels: LevelFilter::WARN,
        is_logged: |metadata| COMMAND_PARTS.iter().any(|part| metadata.target().starts_with(part)),
    };
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(is_terminal())
        .with_filter(shown);
    drop(tracing_subscriber::registry().with(lines).try_init());
}

/// Sends log lines to the output of tests, unless this process already has a log subscriber. `cargo
/// test` shows them for failed tests.
#[cfg(feature = "testing")]
pub(crate) fn start_in_test() {
    let lines = fmt::layer()
        .with_test_writer()
        .event_format(RequestLines::text(fmt::format().with_ansi(false)));
    if let Ok(levels) = levels("info") {
        // Another test of the same process may have been first.
        drop(
            tracing_subscriber::registry()
                .with(lines.with_filter(logged(levels)))
                .try_init(),
        );
    }
}

/// No layer in addition to the log's.
pub(crate) type NoLayer = Box<dyn Layer<Logged> + Send + Sync>;

/// Lines as they are filtered: a layer of its own filter, so that what traces are made of does not
/// concern it.
pub(crate) type Logged = Layered<
    Filtered<Box<dyn Layer<Registry> + Send + Sync>, LineFilter<reload::Layer<EnvFilter, Registry>>, Registry>,
    Registry,
>;

/// As [`start_logging`], with a layer that makes traces.
pub(super) fn start<L>(settings: &Logging, traces: Option<L>) -> Result<(), LoggingError>
where
    L: Layer<Logged> + Send + Sync,
{
    let (levels, handle) = reload::Layer::new(levels(settings.level.as_str())?);
    // Asked once, and not with a call to the system for each line.
    let ansi = is_terminal();
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        LogFormat::Text => fmt::layer()
            .with_writer(move || OneLine { to: io::stderr(), ansi })
            .with_ansi(ansi)
            .event_format(RequestLines::text(fmt::format().with_ansi(ansi)))
            .boxed(),
        LogFormat::Json => fmt::layer()
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(RequestLines::json(
                fmt::format()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            ))
            .with_writer(io::stderr)
            .boxed(),
    };
    let logged = tracing_subscriber::registry().with(lines.with_filter(logged(levels)));
    let started = match traces {
        Some(traces) => logged.with(traces).try_init(),
        // Without even an absent layer: one that filters nothing is taken for one that wants
        // everything, so every span would be made.
        None => logged.try_init(),
    };
    started.map_err(|_| LoggingError::Started)?;
    FILTER.get_or_init(|| handle);
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic: this is a defect");
    }));
    tracing::debug!(level = settings.level.as_str(), "the log has started");
    Ok(())
}

fn levels(level: &str) -> Result<EnvFilter, LoggingError> {
    let held = HELD.iter().map(|target| format!(",{target}=warn")).collect::<String>();
    let silenced = SILENCED.iter().chain([&TRACE_TARGET]);
    let silenced = silenced.map(|target| format!(",{target}=off")).collect::<String>();
    EnvFilter::try_new(format!("{level}{held}{silenced},{AUDIT_TARGET}=info")).map_err(|_| LoggingError::Level)
}

/// Selects the lines of a log: those of a kind that `is_logged`, at the levels that are set.
///
/// It is asked for each line, also if its answer is always the same. `tracing` keeps for each
/// thread what the filters answered last, and writes the next line by that answer. If it does not
/// ask before a line, the answer may be that for a span that was not wanted, and the line is lost
/// (<https://github.com/tokio-rs/tracing/issues/2519>).
///
/// It refuses spans before it looks through the levels: that look would cost a request that is not
/// traced more than the rest of its spans.
pub(crate) struct LineFilter<F> {
    levels: F,
    is_logged: fn(&Metadata<'_>) -> bool,
}

impl<F> LineFilter<F> {
    fn is_asked(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (self.is_logged)(metadata)
    }
}

impl<S, F: Filter<S>> Filter<S> for LineFilter<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.is_asked(metadata) && self.levels.enabled(metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_asked(metadata) && !self.levels.callsite_enabled(metadata).is_never() {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.levels.max_level_hint()
    }
}

/// The lines of a server's log.
fn logged<F>(levels: F) -> LineFilter<F> {
    LineFilter {
        levels,
        is_logged: may_be_logged,
    }
}

/// Whether lines of this kind may be logged, whatever `logging.level` says. The filter alone does
/// not hold the [`HELD`] parts: a longer target, such as `sqlx::query=debug`, takes precedence
/// there.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let part = target.split("::").next().unwrap_or_default();
    target != NOTICES && (*metadata.level() <= Level::WARN || !HELD.contains(&part))
}

/// Writes one line of text. It escapes control characters and line separators, which could forge
/// other lines or change what a terminal shows.
struct OneLine<W> {
    to: W,
    /// Whether the escape character is part of the format. It is never part of a value then.
    ansi: bool,
}

impl<W: io::Write> OneLine<W> {
    fn is_harmful(&self, character: char) -> bool {
        match character {
            '\u{1b}' => !self.ansi,
            // Line and paragraph separators, and what changes the direction of text.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            character => character.is_control(),
        }
    }
}

impl<W: io::Write> io::Write for OneLine<W> {
    /// Expects a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (content, end) = line.strip_suffix(b"\n").map_or((line, ""), |content| (content, "\n"));
        // Nearly all lines are printable ASCII, which is seen faster by its bytes.
        let is_plain = content.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let text = || String::from_utf8_lossy(content);
        if is_plain || !text().contains(|character| self.is_harmful(character)) {
            self.to.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = String::with_capacity(line.len() + 16);
        for character in text().chars() {
            match self.is_harmful(character) {
                true => escaped.extend(character.escape_default()),
                false => escaped.push(character),
            }
        }
        escaped.push_str(end);
        self.to.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Whether a span of this target may belong in a trace: those that say what they send and receive
/// do not.
#[cfg(feature = "otlp")]
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
        let levels = levels(level.as_str()).map_err(|_| LogControlLost)?;
        handle.reload(levels).map_err(|_| LogControlLost)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{Arc, Mutex},
    };

    use tracing::dispatcher;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of the text format.
    fn logged(level: &str, log: impl FnOnce()) -> String {
        let written = Written::default();
        let to = written.clone();
        let lines = fmt::layer()
            .with_writer(move || OneLine {
                to: to.clone(),
                ansi: false,
            })
            .with_ansi(false)
            .without_time()
            .with_filter(super::logged(levels(level).unwrap()));
        dispatcher::with_default(&tracing_subscriber::registry().with(lines).into(), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let lines = logged("info", || {
            let forged = "one\n ERROR two\r\u{1b}[31m\u{2028}\u{9b}three\u{202e}";
            tracing::info!(target: "tenantry", value = %forged, "{forged}");
        });
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let text = lines.strip_suffix('\n').unwrap();
        assert!(
            !text.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'),
            "{text:?}"
        );
        assert!(text.contains(r"one\n ERROR two\r"), "{text}");
    }

    #[test]
    fn an_ordinary_line_stays_as_it_is() {
        let mut line = OneLine {
            to: Vec::new(),
            ansi: true,
        };
        line.write_all("\u{1b}[32m INFO\u{1b}[0m ünï \"x\"\n".as_bytes())
            .unwrap();
        assert_eq!(line.to, "\u{1b}[32m INFO\u{1b}[0m ünï \"x\"\n".as_bytes());
    }

    #[test]
    fn the_audit_log_is_written_at_every_level() {
        for level in ["off", "error", "trace", "off,tenantry::audit=off", "off,tenantry=off"] {
            let lines = logged(level, || {
                tracing::info!(target: AUDIT_TARGET, "kept");
            });
            assert_eq!(lines.lines().count(), 1, "{level}");
        }
    }

    #[test]
    fn a_span_that_no_layer_wants_does_not_take_the_next_line() {
        let lines = logged("info", || {
            let span = tracing::info_span!(target: TRACE_TARGET, "unwanted");
            for _ in 0..4 {
                // As two threads do that come to a span for the first time at once.
                dispatcher::get_default(|log| log.enabled(span.metadata().unwrap()));
                tracing::info!("kept");
            }
        });
        assert_eq!(lines.lines().count(), 4, "{lines}");
    }

    #[test]
    fn a_held_part_is_not_lifted_by_a_longer_target() {
        let level = "trace,sqlx=trace,sqlx::query=trace,sqlx::postgres::notice=trace,hyper::proto=trace";
        let lines = logged(level, || {
            tracing::warn!(target: "sqlx::postgres::notice", "canary");
            tracing::debug!(target: "sqlx::query", "canary");
            tracing::trace!(target: "hyper::proto", "canary");
            tracing::warn!(target: "sqlx::query", "slow");
            tracing::trace!(target: "tenantry_core", "one");
        });
        assert!(!lines.contains("canary"), "{lines}");
        assert_eq!(lines.lines().count(), 2, "{lines}");
    }
}
