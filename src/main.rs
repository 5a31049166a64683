//! The program: the built-in plugins and APIs, run as the command line says.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenantry::App::new().main()
}
