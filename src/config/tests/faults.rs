use super::*;

#[test]
fn every_fault_is_reported_with_place_and_nearest_name() {
    let yaml = "\
server:
  listne: canary
  request_timeout: canary
  trusted_proxies: [10.0.0.0/8, canary]
tenancy:
  resolver:
    type: haeder
    name: canary
  provider:
    type: static
    tenant: { a: canary }
  pools: { max: canary, max_connections: 0 }
  warm_up: al
logging: { level: loud-canary, format: jsn }
drivers: { sqlit: { root: canary } }
tenency: canary
";
    assert_eq!(
        faults_of(yaml, NOTHING),
        [
            "config.yaml:2:3: server.listne: unknown key; did you mean `listen`?",
            "config.yaml:3:20: server.request_timeout: is not a duration such as `30m` or `200ms`",
            "config.yaml:4:33: server.trusted_proxies[1]: is not an IP network such as `10.0.0.0/8` or `::1`",
            "config.yaml:7:11: tenancy.resolver.type: must be one of `chain`, `header`, `static`; did you mean `header`?",
            "config.yaml:9:3: tenancy.provider.tenants: is missing",
            "config.yaml:11:5: tenancy.provider.tenant: unknown key; did you mean `tenants`?",
            "config.yaml:12:17: tenancy.pools.max: expected a whole number, found a string",
            "config.yaml:12:42: tenancy.pools.max_connections: must be at least 1",
            "config.yaml:13:12: tenancy.warm_up: must be one of `none`, `all`, a list; did you mean `all`?",
            "config.yaml:14:19: logging.level: is not a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), also per \
             part of the program as in `info,tenantry_core=debug`",
            "config.yaml:14:40: logging.format: must be one of `text`, `json`; did you mean `json`?",
            "config.yaml:15:12: drivers.sqlit: unknown key; did you mean `sqlite`?",
            "config.yaml:16:1: tenency: unknown key; did you mean `tenancy`?",
        ]
    );
}

#[test]
fn a_provider_must_be_named() {
    for (yaml, expected) in [
        ("", "config.yaml: tenancy.provider: is missing"),
        ("app: {}\n", "config.yaml: tenancy.provider: is missing"),
        ("app: {}\ntenancy:\n", "config.yaml:2:1: tenancy.provider: is missing"),
        (
            "tenancy: { provider: }\n",
            "config.yaml:1:12: tenancy.provider.type: is missing",
        ),
        (
            "tenancy: { provider: { tenants: {} } }\n",
            "config.yaml:1:12: tenancy.provider.type: is missing",
        ),
        ("- canary\n", "config.yaml:1:1: the file must contain a mapping"),
        (
            "tenancy: canary\n",
            "config.yaml:1:10: tenancy: expected a mapping, found a string",
        ),
    ] {
        assert_eq!(faults_of(yaml, NOTHING), [expected], "{yaml}");
    }
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_was_found() {
    for (line, expected) in [
        (
            "app: { name: 5 }",
            "1:14: app.name: expected a string, found a number (put it in quotes)",
        ),
        ("app: [canary]", "1:6: app: expected a mapping, found a list"),
        (
            "docs: { enabled: yes }",
            "1:18: docs.enabled: expected `true` or `false`, found a string",
        ),
        (
            "server: { tls: canary }",
            "1:16: server.tls: expected a mapping, found a string",
        ),
        ("server: { tls: { cert: canary } }", "1:11: server.tls.key: is missing"),
        (
            "server: { admin_listen: 80 }",
            "1:25: server.admin_listen: expected a string, found a number (put it in quotes)",
        ),
        (
            "server: { request_timeout: [canary] }",
            "1:28: server.request_timeout: expected a string, found a list",
        ),
        (
            "server: { request_timeout: 30 lightyears }",
            "1:28: server.request_timeout: is not a duration such as `30m` or `200ms`",
        ),
        (
            "server: { body_limit: 1 canary }",
            "1:23: server.body_limit: is not a number of bytes such as `1MiB`, `500kB` or `1048576`",
        ),
        (
            "server: { body_limit: -1 }",
            "1:23: server.body_limit: must be at least 0",
        ),
        (
            "server: { listen: canary }",
            "1:19: server.listen: is not an IP address and port such as `127.0.0.1:8080` or `[::]:8080`",
        ),
        ("app: { name: \"\" }", "1:14: app.name: must not be empty"),
        (
            "observability: { trace: { sample: { rate: 1.5 } } }",
            "1:43: observability.trace.sample.rate: must be at most 1.0",
        ),
        (
            "observability: { trace: { endpoint: \"http://canary@x\" } }",
            "1:37: observability.trace.endpoint: is neither `stdout` nor an `http://` or `https://` URL without a user name",
        ),
        (
            "admin: { token: canary }",
            "1:17: admin.token: must have at least 16 characters, all of them visible ASCII, or be empty for none",
        ),
        (
            "drivers: { sqlite: { enabled: canary } }",
            "1:31: drivers.sqlite.enabled: expected `true` or `false`, found a string",
        ),
    ] {
        assert_eq!(
            faults_of(&format!("{line}\n{LEAST}"), NOTHING),
            [format!("config.yaml:{expected}")],
            "{line}"
        );
    }
}

#[test]
fn rules_over_several_keys_are_checked() {
    for (line, expected) in [
        (
            "server: { listen: \"[::]:80\", admin_listen: \"[::]:80\" }",
            "1:44: server.admin_listen: is the same address as `server.listen`",
        ),
        (
            "server: { request_timeout: 0s }",
            "1:28: server.request_timeout: must be at least 1ms, and at most 3650 days",
        ),
        (
            "server: { request_timeout: 30ns }",
            "1:28: server.request_timeout: must be at least 1ms, and at most 3650 days",
        ),
        (
            "migrations: { timeout: 0s }",
            "1:24: migrations.timeout: must be at least 1ms, and at most 3650 days",
        ),
        (
            "server: { shutdown_grace: 99years }",
            "1:27: server.shutdown_grace: must be at most 3650 days",
        ),
        (
            "server: { limits: { unread_answers: 0 } }",
            "1:37: server.limits.unread_answers: must be at least 1 byte",
        ),
        (
            "server: { body_limit: 0 }",
            "1:23: server.body_limit: must be at least 1 byte",
        ),
    ] {
        assert_eq!(
            faults_of(&format!("{line}\n{LEAST}"), NOTHING),
            [format!("config.yaml:{expected}")],
            "{line}"
        );
    }
    let yaml = format!("{LEAST}  id_pattern: \"(canary\"\n");
    assert_eq!(
        faults_of(&yaml, NOTHING),
        ["config.yaml:3:15: tenancy.id_pattern: is not a regular expression"]
    );
    let yaml = format!("{LEAST}  id_pattern: \"[0-9]+\"\n  warm_up: [\"1\", a-canary]\n");
    assert_eq!(
        faults_of(&yaml, NOTHING),
        ["config.yaml:4:18: tenancy.warm_up[1]: is no tenant id: it does not match the pattern for tenant ids"]
    );
}

#[test]
fn a_duplicate_key_is_told_with_both_lines() {
    let yaml = format!("app: {{ name: canary }}\n{LEAST}app:\n  name: canary\n");
    assert_eq!(
        faults_of(&yaml, NOTHING),
        ["config.yaml:4:1: app: duplicate key, first written on line 1"]
    );
}

#[test]
fn a_missing_variable_is_named_at_the_place_that_needs_it() {
    let yaml = format!("app: {{ name: \"canary ${{COMPANY}}\" }}\ndocs: {{ enabled: \"${{DOCS}}\" }}\n{LEAST}");
    assert_eq!(
        faults_of(&yaml, NOTHING),
        [
            "config.yaml:1:14: app.name: environment variable `COMPANY` is not set, and there is no default",
            "config.yaml:2:18: docs.enabled: environment variable `DOCS` is not set, and there is no default",
        ]
    );
    let yaml = "tenancy: { provider: \"${PROVIDER}\" }\n";
    assert_eq!(
        faults_of(yaml, NOTHING),
        ["config.yaml:1:22: tenancy.provider: environment variable `PROVIDER` is not set, and there is no default"]
    );
}

#[test]
fn a_wrong_variable_is_reported_at_the_place_that_uses_it() {
    let yaml = format!("docs: {{ enabled: \"${{DOCS}}\" }}\n{LEAST}");
    assert_eq!(
        faults_of(&yaml, [("DOCS", CANARY)]),
        ["config.yaml:1:18: docs.enabled: expected `true` or `false`, found a string"]
    );
}

#[test]
fn a_fault_within_a_reference_is_at_the_place_that_uses_it() {
    let yaml = format!("{LEAST}logging: \"${{LOGGING}}\"\n");
    let unknown = ["config.yaml:3:10: logging.formt: unknown key; did you mean `format`?"];
    let typo = ("LOGGING", "{formt: canary}");
    assert_eq!(faults_of(&yaml, [typo]), unknown);
    assert_eq!(faults_of(&yaml, [typo, ("LOG_LEVEL", "debug")]), unknown);
    assert_eq!(
        faults_of(&yaml, [("LOGGING", "{format: json, format: canary}")]),
        ["config.yaml:3:10: logging.format: duplicate key"]
    );
    let unclosed = faults_of(&yaml, [("LOGGING", "{format: canary"), ("LOG_LEVEL", "debug")]);
    assert_eq!(
        unclosed,
        ["config.yaml:3:10: logging: is not valid YAML: unclosed bracket '{'"]
    );
}

#[test]
fn a_stray_key_of_the_tables_file_hides_no_other_fault() {
    let folder = TempDir::new().unwrap();
    let yaml = format!("rest: {{ tables: tables.yaml }}\nserver: {{ listne: canary }}\n{LEAST}");
    std::fs::write(folder.path().join("config.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("tables.yaml"), "tables: {}\nserver: canary\n").unwrap();
    let faults = load_from(folder.path(), None, NOTHING).unwrap_err().to_string();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "config.yaml:2:11: server.listne: unknown key; did you mean `listen`?",
            "tables.yaml:2:1: server: unknown key beside `tables`",
        ]
    );
}

#[test]
fn a_fault_from_the_environment_names_its_variable() {
    let environment = [
        ("TENANTRY__SERVER__LISTNE", CANARY),
        ("TENANTRY__TENANCY__POOLS__MAX", CANARY),
        ("TENANTRY__TENANCY__RESOLVER__TYPE", "haeder"),
        ("TENANTRY__APP____NAME", CANARY),
        ("TENANTRY__DOCS__ENABLED", "true"),
        ("TENANTRY__docs__enabled", "false"),
        ("LOG_LEVEL", "loud"),
        ("TENANTRY__SERVER__TLS", "{cert: canary"),
    ];
    assert_eq!(
        faults_of(LEAST, environment),
        [
            "LOG_LEVEL: logging.level: is not a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), also per part of \
             the program as in `info,tenantry_core=debug`",
            "TENANTRY__APP____NAME: names no key: a level is empty",
            "TENANTRY__SERVER__LISTNE: server.listne: unknown key; did you mean `listen`?",
            "TENANTRY__SERVER__TLS: server.tls: is not valid YAML: unclosed bracket '{'",
            "TENANTRY__TENANCY__POOLS__MAX: tenancy.pools.max: expected a whole number, found a string",
            "TENANTRY__TENANCY__RESOLVER__TYPE: tenancy.resolver.type: must be one of `chain`, `header`, `static`; did you \
             mean `header`?",
            "TENANTRY__docs__enabled: sets the same key as `TENANTRY__DOCS__ENABLED`",
        ]
    );
}

#[test]
fn a_plugin_inside_a_plugin_is_checked_like_any_other() {
    let yaml = "\
tenancy:
  provider: { type: static, tenants: {} }
  resolver:
    type: chain
    resolvers:
      - { type: header, nmae: canary }
      - type: chain
        resolvers: [{ type: sttic, tenant: canary }, { tenant: canary }, canary]
      - { type: static, tenant: 5 }
";
    assert_eq!(
        faults_of(yaml, NOTHING),
        [
            "config.yaml:6:25: tenancy.resolver.resolvers[0].nmae: unknown key; did you mean `name`?",
            "config.yaml:8:29: tenancy.resolver.resolvers[1].resolvers[0].type: must be one of `chain`, `header`, `static`; \
             did you mean `static`?",
            "config.yaml:8:54: tenancy.resolver.resolvers[1].resolvers[1].type: is missing",
            "config.yaml:8:74: tenancy.resolver.resolvers[1].resolvers[2]: expected a mapping, found a string",
            "config.yaml:9:33: tenancy.resolver.resolvers[2].tenant: expected a string, found a number (put it in quotes)",
        ]
    );
}

#[test]
fn keys_that_are_no_plain_words_cannot_forge_a_line() {
    let yaml = format!("\"a\\nb.c\": canary\n\"x/~1\": canary\n{LEAST}");
    assert_eq!(
        faults_of(&yaml, NOTHING),
        [
            "config.yaml:1:1: \"a\\nb.c\": unknown key",
            "config.yaml:2:1: \"x/~1\": unknown key"
        ]
    );
}

#[test]
fn a_duration_without_a_unit_is_refused_with_a_hint() {
    let unitless = "has no unit: write `30s` for 30 seconds, or `200ms`";
    for written in ["30", "\"30\"", "1.5", "-1", "1000000000000"] {
        let yaml = format!(
            "server: {{ request_timeout: {written} }}\ntenancy:\n  provider: {{ type: static, tenants: {{}} }}\n  \
             pools: {{ defaults: {{ idle_time: {written} }} }}\n"
        );
        let expected = [
            format!("config.yaml:1:28: server.request_timeout: {unitless}"),
            format!("config.yaml:4:35: tenancy.pools.defaults.idle_time: {unitless}"),
        ];
        assert_eq!(faults_of(&yaml, NOTHING), expected, "{written}");
    }
}
