//! Rebuilds the program when a migration that is embedded in it changes or a new one appears.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=build.rs");
}
