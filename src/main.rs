//! The program: the built-in plugins and APIs, run as the command line says.

use std::process::ExitCode;

/// A request takes some fifty pieces of memory and gives them back; with the system's allocator
/// that was a sixth of its instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tenantry::App::new().main()
}
