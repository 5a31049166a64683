//! Every statement that was seen, for a parser of Oracle's SQL to read.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::Write,
    sync::{LazyLock, Mutex},
};

static FILE: LazyLock<Option<std::ffi::OsString>> = LazyLock::new(|| std::env::var_os("TENANTRY_TEST_ORACLE_SQL"));
static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Appends a statement to the file, once for each process. Failing to is a failure of the tests, and ends them.
///
/// # Panics
/// The file cannot be written.
pub(crate) fn record(sql: &str) {
    let Some(path) = &*FILE else { return };
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let Ok(mut seen) = SEEN.lock() else { return };
    if !seen.insert(line.clone()) {
        return;
    }
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        panic!("the statements cannot be written down: {error}");
    }
}
