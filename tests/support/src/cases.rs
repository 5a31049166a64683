//! What was found to hold of each kind of database, for the table in the documentation.

use std::{env, fs::OpenOptions, io::Write};

use crate::CASES;

/// Records that a case of a group ran on a kind of database: appends one line, with fields
/// separated by tabs, to the file that [`CASES`] names, if it is set. `outcome` is `ok`, or the
/// reason why there was nothing to check.
///
/// # Panics
/// The file can't be written.
pub fn record_case(driver: &str, group: &str, case: &str, outcome: &str) {
    let Some(path) = env::var_os(CASES) else { return };
    let line = format!("{driver}\t{group}\t{case}\t{outcome}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        // In one piece, for tests of several programs write here.
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("the file of `{CASES}` can't be written: {error}");
    }
}
