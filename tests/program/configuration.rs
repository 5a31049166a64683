//! Configurations that are wrong: one clear message each, with its place and without a value, and nothing is done.

use std::net::TcpListener;

use tenantry_test_support::{Certificates, Finished, TenantryBuilder};

use crate::{client::Client, databases::program};

/// A configuration that would do, to put a fault in; it says nothing of `server`.
const LEAST: &str = "tenancy:\n  provider: { type: static, tenants: { acme: { type: sqlite, path: acme.db, password: canary-secret } } }\n";

/// Starts it on a port that is taken, so that a server which binds before it looks says so instead; and validates it too.
async fn refused(make: impl Fn() -> TenantryBuilder) -> String {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let make = || make().env("TENANTRY__SERVER__LISTEN", &listen);
    let Finished { code, stdout, stderr } = make().run(["serve"]).await.unwrap();
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(!stderr.contains("canary"), "{stderr}");
    assert!(!stderr.contains("listen on"), "{stderr}");
    let checked = make().run(["check"]).await.unwrap();
    assert_eq!((checked.code, checked.stdout.as_str()), (2, ""), "{}", checked.stderr);
    // Each run has a folder of its own.
    let plain = |text: &str| {
        let parts = text
            .split("/tenantry-server-")
            .map(|part| part.split_once('/').map_or(part, |(_, rest)| rest));
        parts.collect::<Vec<_>>().join("/")
    };
    assert_eq!(plain(&stderr), plain(&checked.stderr));
    stderr
}

/// The one line that a file with this fault is refused with, from its line and column on.
async fn fault(config: &str) -> String {
    let stderr = refused(|| program().config(config)).await;
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let (file, fault) = stderr
        .trim_end()
        .split_once("/config.yaml:")
        .unwrap_or_else(|| panic!("{stderr}"));
    assert!(file.starts_with('/') && !file.contains(' '), "{stderr}");
    fault.to_owned()
}

#[tokio::test]
async fn an_unknown_key_is_told_with_the_nearest_one() {
    assert_eq!(
        fault(&format!("{LEAST}server:\n  request_timeut: canary\n")).await,
        "4:3: server.request_timeut: unknown key; did you mean `request_timeout`?"
    );
    assert_eq!(
        fault(&format!("{LEAST}  resolver: {{ type: header, nmae: canary }}\n")).await,
        "3:29: tenancy.resolver.nmae: unknown key; did you mean `name`?"
    );
}

#[tokio::test]
async fn an_unknown_plugin_type_is_told_with_the_nearest_one() {
    let told = fault(&format!("{LEAST}  resolver: {{ type: haeder, name: canary }}\n")).await;
    assert!(
        told.starts_with("3:21: tenancy.resolver.type: must be one of "),
        "{told}"
    );
    assert!(told.ends_with("; did you mean `header`?"), "{told}");
    let told = fault("tenancy:\n  provider: { type: aws-secret-manager, region: canary }\n").await;
    assert!(
        told.starts_with("2:21: tenancy.provider.type: must be one of ") && told.ends_with("`aws-secrets-manager`?"),
        "{told}"
    );
    assert_eq!(
        fault(&format!("{LEAST}drivers:\n  postgres: {{ enabled: false }}\n")).await,
        "4:3: drivers.postgres: unknown key; did you mean `postgresql`?"
    );
}

#[tokio::test]
async fn a_wrong_type_is_told_with_the_right_one() {
    assert_eq!(
        fault(&format!("{LEAST}docs:\n  enabled: canary\n")).await,
        "4:12: docs.enabled: expected `true` or `false`, found a string"
    );
    assert_eq!(
        fault(&format!("{LEAST}  pools: {{ max: [canary] }}\n")).await,
        "3:17: tenancy.pools.max: expected a whole number, found a list"
    );
    assert_eq!(
        fault("tenancy:\n  provider: { type: static, tenants: canary }\n").await,
        "2:38: tenancy.provider.tenants: expected a mapping, found a string"
    );
}

#[tokio::test]
async fn a_missing_environment_variable_is_named() {
    assert_eq!(
        fault(&format!(
            "{LEAST}admin:\n  token: \"canary${{TENANTRY_TOKEN_THAT_NOBODY_SET}}\"\n"
        ))
        .await,
        "4:10: admin.token: environment variable `TENANTRY_TOKEN_THAT_NOBODY_SET` is not set, and there is no default"
    );
}

#[tokio::test]
async fn a_duplicate_key_is_told_with_both_places() {
    assert_eq!(
        fault(&format!("app:\n  name: canary\n{LEAST}app:\n  name: canary-too\n")).await,
        "5:1: app: duplicate key, first written on line 1"
    );
}

#[tokio::test]
async fn text_that_is_no_yaml_is_told_with_its_place() {
    let told = fault("tenancy:\n  provider: { type: static, tenants: { canary: {\n").await;
    assert!(told.contains("is not valid YAML"), "{told}");
    let told = fault("tenancy: *canary\n").await;
    assert!(told.starts_with("1:"), "{told}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let cannot = |stderr: &str, path: &str| {
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with(&format!("{path}: the configuration file cannot be read: ")),
            "{stderr}"
        );
    };
    cannot(
        &refused(|| program().argument("--config=nowhere/config.yaml")).await,
        "nowhere/config.yaml",
    );
    cannot(
        &refused(|| program().file("folder/file", "").argument("--config=folder")).await,
        "folder",
    );
    cannot(
        &refused(|| program().env("TENANTRY_CONFIG", "nowhere.yaml")).await,
        "nowhere.yaml",
    );
    let huge = format!("{LEAST}# {}\n", "x".repeat(2 << 20));
    cannot(
        &refused(|| program().file("huge.yaml", &huge).argument("--config=huge.yaml")).await,
        "huge.yaml",
    );
}

#[tokio::test]
async fn a_missing_file_of_the_configuration_is_reported_by_its_key() {
    let told = fault("tenancy:\n  provider: { type: file, path: secrets.yaml }\n").await;
    assert!(told.starts_with("2:33: tenancy.provider.path: "), "{told}");
    let told = fault("tenancy:\n  provider: { type: directory, path: secrets }\n").await;
    assert!(told.starts_with("2:38: tenancy.provider.path: "), "{told}");
    let told = fault(&format!("{LEAST}migrations: {{ dir: nowhere }}\n")).await;
    assert!(told.starts_with("3:20: migrations.dir: "), "{told}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_with_its_key() {
    let (ours, others) = (Certificates::make().unwrap(), Certificates::make().unwrap());
    let config = format!("{LEAST}server:\n  tls: {{ cert: cert.pem, key: key.pem }}\n");
    let told = |cert: Option<&str>, key: Option<&str>| {
        let files = [("cert.pem", cert), ("key.pem", key)].map(|(path, text)| (path, text.map(str::to_owned)));
        let config = config.clone();
        async move {
            let stderr = refused(|| {
                let present = files.iter().filter_map(|(path, text)| Some((path, text.as_ref()?)));
                present.fold(program().config(&config), |program, (path, text)| {
                    program.file(path, text)
                })
            })
            .await;
            let lines = stderr
                .lines()
                .map(|line| line.split_once("/config.yaml:").unwrap().1.to_owned());
            lines.collect::<Vec<_>>()
        }
    };
    let (cert, key) = (Some(ours.server_cert_pem.as_str()), Some(ours.server_key_pem.as_str()));
    let (no_file, no_pem) = ("names a file that cannot be read: ", Some("canary"));
    let both = told(None, None).await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(
        both[0].starts_with(&format!("4:16: server.tls.cert: {no_file}")),
        "{both:?}"
    );
    assert!(
        both[1].starts_with(&format!("4:31: server.tls.key: {no_file}")),
        "{both:?}"
    );
    for (cert, key, expected) in [
        (no_pem, key, "4:16: server.tls.cert: contains no certificate in PEM"),
        (key, key, "4:16: server.tls.cert: contains no certificate in PEM"),
        (cert, no_pem, "4:31: server.tls.key: contains no private key in PEM"),
        (cert, cert, "4:31: server.tls.key: contains no private key in PEM"),
        (
            cert,
            Some(others.server_key_pem.as_str()),
            "4:31: server.tls.key: is not the certificate's key",
        ),
    ] {
        assert_eq!(told(cert, key).await, [expected]);
    }
}

#[tokio::test]
async fn every_fault_is_told_at_once() {
    let config = "server: { listne: canary, request_timeout: canary }\ntenancy:\n  provider: { type: sttic }\n  warm_up: canary\n";
    let stderr = refused(|| program().config(config).env("TENANTRY__DOCS__ENABLED", "canary")).await;
    let places: Vec<String> = stderr
        .lines()
        .map(|line| {
            line.split_once("/config.yaml:")
                .map_or(line, |(_, rest)| rest)
                .split(": ")
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let expected = [
        "1:11 server.listne",
        "1:44 server.request_timeout",
        "3:21 tenancy.provider.type",
        "4:12 tenancy.warm_up",
        "TENANTRY__DOCS__ENABLED docs.enabled",
    ];
    assert_eq!(places, expected, "{stderr}");
}

#[tokio::test]
async fn faults_of_every_step_are_told_at_once() {
    let config = "server: { request_timeout: canary, admin_listen: \"127.0.0.1:1\", tls: { cert: none.pem, key: none.pem } }
tenancy:
  resolver: { type: jwt, secret: canary-canary-canary-canary-canary, algorithms: [canary] }
  provider: { type: static, tenants: { acme: { type: sqlit, path: acme.db }, bad_port: { type: postgresql, host: h, port: canary } } }
  warm_up: [Canary]
drivers: { sqlite: { rot: canary } }
migrations: { dir: nowhere, require: canary }
rest:
  tables:
    a: { key: [id], columns: { id: { type: canary } } }
    b: { key: [canary], columns: { id: { type: int8 } }, relations: { a: { to: a, on: { id: id } }, c: { to: canary, on: { id: id } } } }
";
    let stderr = refused(|| program().config(config).env("TENANTRY_SERVER_LISTN", "canary")).await;
    let paths: Vec<&str> = stderr
        .lines()
        .map(|line| line.split_once("/config.yaml:").map_or(line, |(_, rest)| rest))
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    let expected = [
        "server.request_timeout",
        "server.tls.cert",
        "server.tls.key",
        "tenancy.resolver.algorithms[0]",
        "tenancy.provider.tenants.bad_port.port",
        "tenancy.warm_up[0]",
        "drivers.sqlite.rot",
        "migrations.dir",
        "migrations.require",
        "rest.tables.a.columns.id.type",
        "rest.tables.b.key[0]",
        "rest.tables.b.relations.c.to",
        "nothing reads this variable; did you mean `TENANTRY__SERVER__LISTEN`?",
    ];
    assert_eq!(paths, expected, "{stderr}");
}

#[tokio::test]
async fn secrets_in_the_configuration_are_checked() {
    let config = "tenancy:
  provider:
    type: static
    tenants:
      a: { type: postgress, host: canary, database: d, username: u, password: canary }
      b: { type: postgresql, host: h, port: canary, database: d, username: u, password: canary }
      c: { type: postgresql, database: d }
      d: { url: \"postgres://u:canary@h/d?nonsense=canary\" }
      e: { type: sqlite }
      f: { path: f.db }
      good: { type: sqlite, path: good.db }
";
    let checked = program().config(config).run(["check"]).await.unwrap();
    assert_eq!((checked.code, checked.stdout.as_str()), (2, ""), "{}", checked.stderr);
    assert!(!checked.stderr.contains("canary"), "{}", checked.stderr);
    let faults: Vec<&str> = checked
        .stderr
        .lines()
        .map(|line| line.split_once("/config.yaml:").unwrap().1)
        .collect();
    let begins = [
        "5:18: tenancy.provider.tenants.a.type: names no driver that is built in and enabled (",
        "6:45: tenancy.provider.tenants.b.port: is not a whole number",
        "7:7: tenancy.provider.tenants.c.host: is missing",
        "8:17: tenancy.provider.tenants.d.url",
        "9:7: tenancy.provider.tenants.e.path: is missing",
        "10:7: tenancy.provider.tenants.f.type: is missing",
    ];
    assert_eq!(faults.len(), begins.len(), "{faults:?}");
    for (fault, begin) in faults.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{fault}");
    }
    assert!(faults[0].ends_with("; did you mean `postgres`?"), "{}", faults[0]);
    // The other tenants are served.
    let server = program().config(config).start().await.unwrap();
    let client = Client::of(&server);
    client.tenant("good").get("/api/v1/tenant/info").await.expect(200);
    client
        .tenant("b")
        .get("/api/v1/tenant/info")
        .await
        .problem(503, "secret_invalid");
}

#[tokio::test]
async fn a_variable_that_nothing_reads_is_a_warning() {
    for (name, meant) in [
        ("TENANTRY_SERVER_LISTEN", Some("TENANTRY__SERVER__LISTEN")),
        ("TENANTRY_SERVER__LISTEN", Some("TENANTRY__SERVER__LISTEN")),
        ("TENANTRY_CONFG", Some("TENANTRY_CONFIG")),
        ("TENANTRY_ADMIN_TOKN", Some("TENANTRY_ADMIN_TOKEN")),
        // Kubernetes makes these for a service `tenantry`.
        ("TENANTRY_SERVICE_HOST", None),
        ("TENANTRY_PORT_8080_TCP_ADDR", None),
        ("TENANTRY_ADMIN_TOKEN", None),
    ] {
        let config = format!("{LEAST}admin: {{ token: \"${{TENANTRY_ADMIN_TOKEN:-}}\" }}\n");
        let checked = program()
            .config(config)
            .env(name, "canary-canary-canary")
            .run(["check"])
            .await
            .unwrap();
        assert_eq!(checked.code, 0, "{name}: {}", checked.stderr);
        let expected =
            meant.map(|meant| format!("warning: {name}: nothing reads this variable; did you mean `{meant}`?\n"));
        assert_eq!(checked.stderr, expected.unwrap_or_default(), "{name}");
    }
}

#[tokio::test]
async fn a_fault_in_the_environment_names_the_variable() {
    let stderr = refused(|| {
        program()
            .config(LEAST)
            .env("TENANTRY__TENANCY__RESOLVR__TYPE", "canary")
    })
    .await;
    assert_eq!(
        stderr.trim_end(),
        "TENANTRY__TENANCY__RESOLVR__TYPE: tenancy.resolvr: unknown key; did you mean `resolver`?"
    );
    let stderr = refused(|| program().config(LEAST).env("LOG_LEVEL", "canary")).await;
    assert!(stderr.starts_with("LOG_LEVEL: logging.level: "), "{stderr}");
    let stderr = refused(|| program().config(LEAST).env("TENANTRY__ADMIN__TOKEN", "canary-short")).await;
    assert!(stderr.starts_with("TENANTRY__ADMIN__TOKEN: admin.token: "), "{stderr}");
}

#[tokio::test]
async fn the_environment_overrides_the_file_and_it_the_defaults() {
    let config = format!("{LEAST}  resolver: {{ type: header, name: X-Company }}\n");
    let description = |stdout: String| {
        let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        document["components"]["securitySchemes"]["TenantHeader"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let from_file = program().config(&config).run(["openapi"]).await.unwrap();
    assert_eq!(description(from_file.stdout), "X-Company");
    for (name, value) in [
        ("TENANTRY__TENANCY__RESOLVER__NAME", "X-From-Env"),
        ("MULTITENANT_RESOLVER_HEADER", "X-From-Env"),
    ] {
        let from_env = program()
            .config(&config)
            .env(name, value)
            .run(["openapi"])
            .await
            .unwrap();
        assert_eq!(description(from_env.stdout), "X-From-Env", "{name}");
    }
    let default = program().config(LEAST).run(["openapi"]).await.unwrap();
    assert_eq!(description(default.stdout), "X-Tenant-ID");
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_failure_and_not_a_fault() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = program()
        .config(LEAST)
        .env("TENANTRY__SERVER__LISTEN", &address)
        .run(["serve"])
        .await
        .unwrap();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("cannot listen on {address}")),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn declared_tables_take_the_place_of_no_other_operation() {
    // No role may use the table: the document has none of its operations.
    let tables = "tables: { users: { key: [id], columns: { id: { type: int8 } }, allow: {} } }";
    for path in ["/api/v1/tenant", "/api/v1/tenant/users"] {
        let reported = fault(&format!("{LEAST}rest: {{ path: {path}, {tables} }}\n")).await;
        assert!(
            reported.starts_with("3:15: rest.path: a table would take the place of"),
            "{reported}"
        );
        assert!(reported.contains("/api/v1/tenant/users"), "{reported}");
    }
    let config = format!("{LEAST}rest: {{ path: /api/v1/tables, {tables} }}\n");
    let fine = program().config(config).run(["check"]).await.unwrap();
    assert_eq!(fine.code, 0, "{}", fine.stderr);
}
