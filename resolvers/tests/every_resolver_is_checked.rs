//! Every resolver's file runs the suite of its family.

use std::{fs, path::Path};

use tenantry_core::{Plugin, TenantResolver};
use tenantry_resolvers::{
    ChainResolver, CookieResolver, HeaderResolver, HostResolver, PathResolver, QueryResolver, StaticResolver,
    SubdomainResolver,
};

fn file_name<P: Plugin<dyn TenantResolver>>() -> String {
    format!("{}.rs", P::TYPE)
}

#[test]
fn every_resolver_s_file_has_its_type_s_name_and_runs_the_suite() {
    let mut known = vec![
        file_name::<ChainResolver>(),
        file_name::<CookieResolver>(),
        file_name::<HeaderResolver>(),
        file_name::<HostResolver>(),
        file_name::<PathResolver>(),
        file_name::<QueryResolver>(),
        file_name::<StaticResolver>(),
        file_name::<SubdomainResolver>(),
    ];
    #[cfg(feature = "jwt")]
    known.push(file_name::<tenantry_resolvers::JwtResolver>());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    for entry in fs::read_dir(&sources).unwrap() {
        let path = entry.unwrap().path();
        let text = read(&path);
        if !text.contains("Plugin<dyn TenantResolver> for ") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "jwt.rs" && !cfg!(feature = "jwt") {
            continue;
        }
        assert!(
            known.contains(&name),
            "`{name}` is not named after its type, or is missing in this test"
        );
        known.retain(|known| *known != name);
        let tests = read(&path.with_extension("").join("tests.rs"));
        assert!(
            (text + &tests).contains("ResolverCase::new("),
            "`{name}` does not run the suite of resolvers"
        );
    }
    assert!(known.is_empty(), "{known:?} have no file of their own");
}
