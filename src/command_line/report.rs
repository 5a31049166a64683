//! What a command shows of its work.

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use tenantry_core::{TenantId, database_words};

use super::Stop;

/// Prints a line on standard output. A closed pipe (`tenantry tenants | head`) is not an error.
pub(super) fn print(line: impl fmt::Display) -> Result<(), Stop> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Stop::Failure(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line on standard error. A pipe that is closed (`tenantry migrate 2>&1 | head`) does not
/// end the command, which may be in the middle of its work.
pub(super) fn note(line: impl fmt::Display) {
    writeln!(io::stderr(), "{line}").ok();
}

/// Warns of a tenant that the provider lists but has no secret for, as after it was deleted in a
/// store that keeps the name. It is no failure.
pub(super) fn left_out(tenant: &TenantId) {
    note(format_args!(
        "warning: the provider names the tenant `{tenant}` and has no secret for it; it is left out"
    ));
}

/// An error and its causes, in one line. Some libraries repeat the cause in the error's own text;
/// it is printed once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = database_words(cause);
        let own = words.map_or_else(|| cause.to_string(), str::to_owned);
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        source = cause.source().filter(|_| words.is_none());
    }
    text
}

/// A progress bar if standard error is a terminal, else nothing.
pub(super) fn progress(steps: usize, what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The widest line of a table, in characters.
const TABLE_WIDTH: u16 = 100;

/// An empty table with these columns. A long cell takes several lines.
pub(super) fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TABLE_WIDTH)
        .set_header(columns);
    table
}
