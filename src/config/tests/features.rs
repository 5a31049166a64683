//! What a configuration may need that the program is built without. These cases are different ones
//! with each set of features; `scripts/features` runs them with few.

use std::fs;

use tenantry_core::Registry;

use crate::{
    config::{Environment, load_in},
    plugins,
};

/// Each feature, whether this program has it, a configuration that needs it, and the key that does.
const CASES: [(&str, bool, &str, &str); 13] = [
    (
        "tls",
        cfg!(feature = "tls"),
        "server: { tls: { cert: a.pem, key: b.pem } }",
        "server.tls",
    ),
    (
        "otlp",
        cfg!(feature = "otlp"),
        "observability: { enabled: true }",
        "observability.enabled",
    ),
    (
        "jwt",
        cfg!(feature = "jwt"),
        "tenancy: { resolver: { type: jwt, secret: 0123456789abcdef0123456789abcdef } }",
        "tenancy.resolver.type",
    ),
    (
        "jwt",
        cfg!(feature = "jwt"),
        "tenancy: { resolver: { type: chain, resolvers: [{ type: header }, { type: jwt, secret: 0123456789abcdef0123456789abcdef }] } }",
        "tenancy.resolver.resolvers[1].type",
    ),
    (
        "aws",
        cfg!(feature = "aws"),
        "tenancy: { provider: { type: aws-secrets-manager } }",
        "tenancy.provider.type",
    ),
    (
        "aws-ssm",
        cfg!(feature = "aws-ssm"),
        "tenancy: { provider: { type: aws-ssm } }",
        "tenancy.provider.type",
    ),
    (
        "gcp",
        cfg!(feature = "gcp"),
        "tenancy: { provider: { type: gcp-secret-manager, project: p } }",
        "tenancy.provider.type",
    ),
    (
        "vault",
        cfg!(feature = "vault"),
        "tenancy: { provider: { type: vault, address: \"http://127.0.0.1:8200\", auth: { method: token, token: t }, \
         kv: { mount: secret, path: \"{tenant}\" } } }",
        "tenancy.provider.type",
    ),
    (
        "mysql",
        cfg!(feature = "mysql"),
        "drivers: { mysql: {} }",
        "drivers.mysql",
    ),
    (
        "oracle",
        cfg!(feature = "oracle"),
        "drivers: { oracle: {} }",
        "drivers.oracle",
    ),
    (
        "postgresql",
        cfg!(feature = "postgresql"),
        "drivers: { postgresql: {} }",
        "drivers.postgresql",
    ),
    (
        "sqlite",
        cfg!(feature = "sqlite"),
        "drivers: { sqlite: {} }",
        "drivers.sqlite",
    ),
    // It says no feature, since it is in every program.
    (
        "none",
        true,
        "tenancy: { resolver: { type: cookie } }",
        "tenancy.resolver",
    ),
];

#[test]
fn what_needs_a_feature_is_refused_at_its_key_without_it() {
    let mut registry = Registry::new();
    plugins::register(&mut registry);
    for (feature, is_built_in, yaml, key) in CASES {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join("config.yaml"), yaml).unwrap();
        let environment = match yaml.contains("provider:") {
            true => Environment::default(),
            false => Environment::from([("TENANTRY__TENANCY__PROVIDER__TYPE", "env")]),
        };
        let loaded = load_in(folder.path(), None, &environment, &registry);
        if is_built_in {
            assert!(loaded.is_ok(), "{yaml}\n{}", loaded.unwrap_err());
            continue;
        }
        let faults = loaded.expect_err(yaml).to_string();
        let expected = format!("{key}: needs the feature `{feature}`, which this program is built without");
        assert!(faults.contains(&expected), "{yaml}\n{faults}");
        assert_eq!(faults.matches("config.yaml:1:").count(), 1, "{faults}");
    }
}
