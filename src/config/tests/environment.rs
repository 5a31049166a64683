use serde_json::json;

use super::{super::*, *};

#[test]
fn the_environment_overrides_the_file_and_it_the_defaults() {
    let yaml = format!("app: {{ name: file, environment: file }}\n{LEAST}");
    let loaded = load_text(&yaml, [("TENANTRY__APP__NAME", "environment")])
        .unwrap()
        .config;
    assert_eq!(
        (loaded.app.name.as_str(), loaded.app.environment.as_str()),
        ("environment", "file")
    );
    assert_eq!(loaded.docs, Docs { enabled: true });
}

#[test]
fn text_from_the_environment_becomes_what_its_key_expects() {
    let environment = [
        ("TENANTRY__TENANCY__POOLS__MAX", "7"),
        ("TENANTRY__TENANCY__SECRETS__JITTER", "0.5"),
        ("TENANTRY__TENANCY__LIMITS__REQUESTS_PER_SECOND", ""),
        ("TENANTRY__DOCS__ENABLED", "false"),
        ("TENANTRY__APP__NAME", "123"),
        ("TENANTRY__SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("TENANTRY__SERVER__TLS", "{cert: a.pem, key: b.pem}"),
        ("TENANTRY__SERVER__BODY_LIMIT", "2048"),
        ("TENANTRY__TENANCY__WARM_UP", "[a, b]"),
        ("tenantry__app__name", "another program's"),
    ];
    let loaded = load_text(LEAST, environment).unwrap().config;
    assert_eq!(loaded.tenancy.pools.max, 7);
    assert_eq!(loaded.tenancy.secrets.jitter, 0.5);
    assert_eq!(loaded.tenancy.limits.requests_per_second, None);
    assert!(!loaded.docs.enabled);
    assert_eq!(loaded.app.name, "123");
    assert_eq!(loaded.server.trusted_proxies.len(), 2);
    assert!(loaded.server.tls.is_some_and(|tls| tls.key.ends_with("b.pem")));
    assert_eq!(loaded.server.body_limit, ByteSize(2048));
    assert_eq!(loaded.tenancy.warm_up, WarmUp::Tenants(vec!["a".into(), "b".into()]));
}

#[test]
fn keys_are_found_whatever_their_case() {
    let yaml = "tenancy:\n  provider: { type: static, tenants: { Big: { password: file } } }\n";
    let environment = [
        ("TENANTRY__Tenancy__Provider__TENANTS__BIG__PASSWORD", "environment"),
        ("TENANTRY__TENANCY__PROVIDER__TENANTS__NEW__PATH", "new.db"),
    ];
    let loaded = load_text(yaml, environment).unwrap().config;
    let tenants = json!({"Big": {"password": "environment"}, "new": {"path": "new.db"}});
    assert_eq!(loaded.tenancy.provider.mapping()["tenants"], tenants);
}

#[test]
fn a_whole_mapping_and_a_key_of_it_can_both_be_set() {
    let environment = [
        ("TENANTRY__TENANCY__RESOLVER", "{type: static, tenant: a}"),
        ("TENANTRY__TENANCY__RESOLVER__TENANT", "b"),
        ("TENANTRY__TENANCY__PROVIDER__TENANTS", "{x: {port: 1}}"),
        ("TENANTRY__TENANCY__PROVIDER__TENANTS__X__HOST", "h"),
    ];
    let loaded = load_text(LEAST, environment).unwrap().config;
    assert_eq!(
        loaded.tenancy.resolver.mapping(),
        json!({"type": "static", "tenant": "b"})
    );
    assert_eq!(
        loaded.tenancy.provider.mapping()["tenants"],
        json!({"x": {"port": 1, "host": "h"}})
    );
}

#[test]
fn another_type_drops_the_former_plugin_s_keys() {
    let environment = [
        ("TENANTRY__TENANCY__RESOLVER__TYPE", "static"),
        ("TENANTRY__TENANCY__RESOLVER__TENANT", "tenant1"),
        ("TENANTRY__TENANCY__PROVIDER__TYPE", "aws-secrets-manager"),
    ];
    let loaded = load_text(SHIPPED, environment).unwrap().config;
    assert_eq!(
        loaded.tenancy.resolver.mapping(),
        json!({"type": "static", "tenant": "tenant1"})
    );
    assert_eq!(
        loaded.tenancy.provider.mapping(),
        json!({"type": "aws-secrets-manager"})
    );
    let loaded = load_text(LEAST, [("MULTITENANT_RESOLVER_TYPE", "header")])
        .unwrap()
        .config;
    assert_eq!(
        loaded.tenancy.resolver.mapping(),
        json!({"type": "header", "name": "X-Tenant-ID"})
    );
    // Nothing that the environment itself says is dropped.
    let both = [
        ("TENANTRY__TENANCY__RESOLVER__TYPE", "static"),
        ("TENANTRY__TENANCY__RESOLVER__TENANT", "tenant1"),
        ("TENANTRY__TENANCY__RESOLVER__NAME", CANARY),
    ];
    assert_eq!(
        faults_of(SHIPPED, both),
        ["TENANTRY__TENANCY__RESOLVER__NAME: tenancy.resolver.name: unknown key"]
    );
}

#[test]
fn well_known_variables_set_their_keys() {
    let environment = [
        ("APP_ENV", "production"),
        ("APP_NAME", "shop"),
        ("LOG_LEVEL", "DEBUG"),
        ("MULTITENANT_RESOLVER_TYPE", "header"),
        ("MULTITENANT_RESOLVER_HEADER", "X-Org"),
        ("MULTITENANT_LIMITS_TENANTS", "12"),
        ("AWS_SECRETS_CACHE_TTL", "90s"),
        ("AWS_SECRETS_CACHE_MAX_SIZE", "50"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_SERVICE_NAME", "shop-api"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", ""),
    ];
    let loaded = load_text(SHIPPED, environment).unwrap().config;
    assert_eq!(
        (loaded.app.name.as_str(), loaded.app.environment.as_str()),
        ("shop", "production")
    );
    assert_eq!(loaded.logging.level.as_str(), "debug");
    assert_eq!(
        loaded.tenancy.resolver.mapping(),
        json!({"type": "header", "name": "X-Org"})
    );
    assert_eq!(loaded.tenancy.pools.max, 12);
    assert_eq!(loaded.tenancy.secrets.ttl.to_string(), "1m 30s");
    assert_eq!(loaded.tenancy.secrets.max_entries, 50);
    let endpoint: Endpoint = "http://collector:4317".parse().unwrap();
    assert_eq!(loaded.observability.trace.endpoint, endpoint);
    assert_eq!(loaded.observability.metrics.endpoint, endpoint);
    assert_eq!(loaded.observability.service.name, "shop-api");
    // The provider is another one, which has no region.
    assert!(loaded.tenancy.provider.mapping().get("region").is_none());
}

#[test]
fn aws_variables_reach_the_aws_provider() {
    let yaml = "tenancy: { provider: { type: aws-secrets-manager, region: file } }\n";
    let environment = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", "http://localhost:5000"),
    ];
    let mapping = load_text(yaml, environment).unwrap().config.tenancy.provider.mapping();
    assert_eq!(mapping["region"], "eu-central-1");
    assert_eq!(mapping["endpoint_url"], "http://localhost:5000");
    let more_exact = [("AWS_REGION", "a"), ("TENANTRY__TENANCY__PROVIDER__REGION", "b")];
    let mapping = load_text(yaml, more_exact).unwrap().config.tenancy.provider.mapping();
    assert_eq!(mapping["region"], "b");
}

#[test]
fn references_are_replaced_and_typed_by_their_key() {
    let yaml = "app: { name: \"${NAME}-$${NAME}\" }\n\
                docs: { enabled: \"${DOCS:-false}\" }\n\
                tenancy:\n  \
                  provider: { type: static, tenants: { a: { password: \"${PASSWORD}\" } } }\n  \
                  pools: { max: \"${MAX}\" }\n";
    let injected = "x\", type: other # {";
    let environment = [("NAME", "a: b"), ("PASSWORD", injected), ("MAX", "3")];
    let loaded = load_text(yaml, environment).unwrap().config;
    assert_eq!(loaded.app.name, "a: b-${NAME}");
    assert!(!loaded.docs.enabled);
    assert_eq!(loaded.tenancy.pools.max, 3);
    assert_eq!(loaded.tenancy.provider.mapping()["tenants"]["a"]["password"], injected);
}

#[test]
fn a_variable_for_one_key_leaves_the_others_of_a_reference() {
    let yaml = format!("logging: \"${{LOGGING}}\"\n{LEAST}");
    for variable in ["LOG_LEVEL", "TENANTRY__LOGGING__LEVEL"] {
        let environment = [("LOGGING", "{level: warn, format: json}"), (variable, "debug")];
        let logging = load_text(&yaml, environment).unwrap().config.logging;
        assert_eq!(
            (logging.level.as_str(), logging.format),
            ("debug", LogFormat::Json),
            "{variable}"
        );
    }
}

#[test]
fn a_variable_for_another_key_leaves_the_product_s_name() {
    let product = crate::product::Product {
        name: "notes".to_owned(),
        ..Default::default()
    };
    let environment = [
        ("APP_ENV", "production"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
    ];
    let shipped = load_from(TempDir::new().unwrap().path(), None, environment);
    for loaded in [load_text(LEAST, environment), shipped] {
        let config = loaded.unwrap().of_product(product.clone()).config;
        assert_eq!(config.app.environment, "production");
        assert_eq!(config.app.name, "notes");
        assert_eq!(config.observability.service.name, "notes");
    }
    let named = load_text(LEAST, [("APP_NAME", "shop")]).unwrap();
    assert_eq!(named.of_product(product).config.app.name, "shop");
}

#[test]
fn values_from_the_environment_hold_no_references() {
    let loaded = load_text(LEAST, [("TENANTRY__APP__NAME", "${HOME}")]).unwrap().config;
    assert_eq!(loaded.app.name, "${HOME}");
}

#[test]
fn a_missing_variable_of_an_overridden_value_is_ignored() {
    let yaml = format!("app: {{ name: \"${{NONE}}\" }}\n{LEAST}");
    let loaded = load_text(&yaml, [("TENANTRY__APP__NAME", "a")]).unwrap().config;
    assert_eq!(loaded.app.name, "a");
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_utf_8_is_reported() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    let value = OsString::from_vec(b"canary\xff".to_vec());
    for (name, expected) in [
        ("TENANTRY__APP__NAME", "TENANTRY__APP__NAME: its value is not UTF-8"),
        ("APP_NAME", "APP_NAME: its value is not UTF-8"),
        (
            "NAME",
            "config.yaml:1:21: app.environment: environment variable `NAME`: its value is not UTF-8",
        ),
    ] {
        let environment = Environment::from_iter([(name.to_owned(), value.clone())]);
        let yaml = format!("app: {{ environment: \"${{NAME:-x}}\" }}\n{LEAST}");
        let faults = faults_of(&yaml, environment);
        assert_eq!(faults, [expected], "{yaml}");
    }
}
