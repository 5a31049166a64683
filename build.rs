//! Rebuilds the program when a migration that is embedded in it changes or a new one appears, and has the linker put the functions together
//! that requests run.

use std::{env, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(script) = layout() {
        println!("cargo:rerun-if-changed={script}");
        println!("cargo:rustc-link-arg-bin=tenantry=-Wl,-T,{script}");
    }
}

/// The linker's script that puts the functions together which requests run (`link/hot.ld`, written by `./scripts/bench layout`). They are
/// names without versions: those that are not there, or are called otherwise by another compiler, are passed over, and cost only the time
/// that they were to save. It is left out where it may not be understood: GNU ld and lld take it, gold does not.
fn layout() -> Option<String> {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let own_linker = env::var_os("RUSTC_LINKER").is_some() || flags.contains("link");
    let script = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("link/hot.ld");
    let script = script.to_str().filter(|path| !path.contains(',') && script.is_file())?;
    (linux && !own_linker && is("PROFILE", "release")).then(|| script.to_owned())
}
