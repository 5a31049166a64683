//! Log lines that say which request and which tenant they belong to.

use std::fmt::{self, Write as _};

use tenantry_openapi::CurrentRequest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::requests::ACCESS_TARGET;

/// The fields that the format gives every line, beside those of its event.
const OF_EVERY_LINE: [&str; 3] = ["timestamp", "level", "target"];

/// Adds to each line of `format` the ids of the request that the task works on and of its tenant.
/// The line that reports the request itself gets the fields that its handler added.
pub(super) struct RequestLines<F> {
    format: F,
    is_json: bool,
}

impl<F> RequestLines<F> {
    pub(super) fn text(format: F) -> Self {
        Self { format, is_json: false }
    }

    pub(super) fn json(format: F) -> Self {
        Self { format, is_json: true }
    }

    /// Puts the fields at the end of a line.
    fn complete(&self, line: &mut String, metadata: &Metadata<'_>, current: &CurrentRequest) -> fmt::Result {
        let end = if self.is_json { "}\n" } else { "\n" };
        let Some(kept) = line.strip_suffix(end).map(str::len) else {
            return Ok(());
        };
        line.truncate(kept);
        let mut result = Ok(());
        let mut add = |name: &str, value: &str| {
            // What the line says itself stays.
            let is_known = OF_EVERY_LINE.contains(&name) || metadata.fields().field(name).is_some();
            if result.is_err() || is_known {
                return;
            }
            result = match self.is_json {
                true => write!(
                    line,
                    ",{}:{}",
                    serde_json::Value::from(name),
                    serde_json::Value::from(value)
                ),
                false if value.bytes().all(is_plain) => write!(line, " {name}={value}"),
                false => write!(line, " {name}={value:?}"),
            };
        };
        if metadata.target() == ACCESS_TARGET {
            current.each_field(&mut add);
        }
        add("request_id", current.context().id().as_str());
        if let Some(tenant) = current.context().tally().tenant() {
            add("tenant_id", tenant.as_str());
        }
        result?;
        line.push_str(end);
        Ok(())
    }
}

/// Whether a value of such characters is written without quotes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')
}

impl<S, N, F> FormatEvent<S, N> for RequestLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let written = CurrentRequest::read(|current| {
            let mut line = String::new();
            self.format.format_event(context, Writer::new(&mut line), event)?;
            self.complete(&mut line, event.metadata(), current)?;
            writer.write_str(&line)
        });
        written.unwrap_or_else(|| self.format.format_event(context, writer, event))
    }
}
