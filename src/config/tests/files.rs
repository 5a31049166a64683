use std::{fs, path::PathBuf};

use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;

use super::{super::*, *};

#[test]
fn the_shipped_file_says_the_defaults() {
    let folder = TempDir::new().unwrap();
    let shipped = load_from(folder.path(), None, NOTHING).unwrap();
    assert_eq!(shipped.origin, Origin::Shipped);
    assert_eq!(shipped.base_dir, folder.path());
    let shipped = shipped.config;
    let defaults = load_text(LEAST, NOTHING).unwrap().config;
    assert_eq!(shipped.app, defaults.app);
    assert_eq!(shipped.server, defaults.server);
    assert!(shipped.admin.token.is_none() && defaults.admin.token.is_none());
    assert_eq!(
        shipped.tenancy.engine(shipped.migrations.timeout),
        defaults.tenancy.engine(defaults.migrations.timeout)
    );
    assert_eq!(shipped.tenancy.warm_up, defaults.tenancy.warm_up);
    assert_eq!(shipped.tenancy.resolver.mapping(), defaults.tenancy.resolver.mapping());
    assert!(shipped.tenancy.id_pattern.is_none() && defaults.tenancy.id_pattern.is_none());
    assert_eq!(shipped.logging, defaults.logging);
    assert_eq!(shipped.observability, defaults.observability);
    assert_eq!(shipped.docs, defaults.docs);
    // The two that differ, and the provider.
    assert!(shipped.migrations.on_connect && shipped.migrations.sample_data);
    assert!(!defaults.migrations.on_connect && !defaults.migrations.sample_data);
    let tenants = json!({"type": "static", "tenants": {"tenant1": {"type": "sqlite", "path": "tenant1.db"}}});
    assert_eq!(shipped.tenancy.provider.mapping(), tenants);
    let drivers = vec![("sqlite", json!({"root": "data", "type": "sqlite"}))];
    assert_eq!(shipped.drivers.enabled(&registry()), drivers);
}

#[test]
fn the_token_of_a_file_that_leaves_it_out_is_the_shipped_file_s_variable() {
    let token = |text: &str, value: &str| {
        let environment = Environment::from([("TENANTRY_ADMIN_TOKEN", value)]);
        let token = load_text(text, environment).map(|loaded| loaded.config.admin.token);
        token.map(|token| token.map(|token| token.expose_secret().to_owned()))
    };
    let set = "from-the-variable";
    let left_out = format!("admin: {{ loopback: true }}\n{LEAST}");
    for text in [LEAST, &left_out] {
        assert_eq!(token(text, set).unwrap().as_deref(), Some(set));
        assert_eq!(token(text, "").unwrap(), None);
        assert!(token(text, "short").is_err());
    }
    // A section that comes from the environment.
    let section = "admin: \"${ADMIN}\"\n";
    let token_of = |admin: &str| {
        let environment = Environment::from([("TENANTRY_ADMIN_TOKEN", set), ("ADMIN", admin)]);
        let loaded = load_text(&format!("{section}{LEAST}"), environment);
        loaded.map(|loaded| {
            let token = loaded.config.admin.token.unwrap();
            (token.expose_secret().to_owned(), loaded.config.admin.loopback)
        })
    };
    let own = "{token: a-token-of-the-section, loopback: false}";
    assert_eq!(token_of(own).unwrap(), ("a-token-of-the-section".to_owned(), false));
    assert_eq!(token_of("{loopback: false}").unwrap(), (set.to_owned(), false));
    assert!(token_of("5").is_err());
    let environment = Environment::from([("TENANTRY_ADMIN_TOKEN", set), ("TENANTRY__ADMIN", "{loopback: false}")]);
    let admin = load_text(LEAST, environment).unwrap().config.admin;
    assert_eq!(admin.token.unwrap().expose_secret(), set);
    assert!(!admin.loopback);
    for (said, expected) in [("\"\"", None), ("a-token-of-the-file", Some("a-token-of-the-file"))] {
        let text = format!("admin: {{ token: {said} }}\n{LEAST}");
        assert_eq!(token(&text, set).unwrap().as_deref(), expected, "{said}");
    }
}

#[test]
fn the_command_line_overrides_the_variable_and_the_folder() {
    let folder = TempDir::new().unwrap();
    for name in ["config.yaml", "variable.yaml", "option.yaml"] {
        fs::write(folder.path().join(name), format!("app: {{ name: {name} }}\n{LEAST}")).unwrap();
    }
    let name_of = |source, environment: &[(&str, &str)]| {
        let variables = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = load_from(folder.path(), source, variables.collect::<Environment>()).unwrap();
        (loaded.config.app.name, loaded.origin)
    };
    let variable = [(FILE_VARIABLE, "variable.yaml")];
    let expected = |name: &str| (name.to_owned(), Origin::File(PathBuf::from(name)));
    assert_eq!(name_of(Some("option.yaml"), &variable), expected("option.yaml"));
    assert_eq!(name_of(None, &variable), expected("variable.yaml"));
    assert_eq!(name_of(None, &[(FILE_VARIABLE, "")]), expected("config.yaml"));
}

#[test]
fn relative_paths_are_taken_from_the_folder_of_the_file() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/x.yaml"), LEAST).unwrap();
    let loaded = load_from(folder.path(), Some("etc/x.yaml"), NOTHING).unwrap();
    assert_eq!(loaded.base_dir, folder.path().join("etc"));
    assert_eq!(loaded.path("data"), folder.path().join("etc/data"));
    assert_eq!(loaded.path("/srv"), PathBuf::from("/srv"));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let folder = TempDir::new().unwrap();
    let faults = load_from(folder.path(), Some("absent.yaml"), NOTHING)
        .unwrap_err()
        .to_string();
    assert!(
        faults.starts_with("absent.yaml: the configuration file cannot be read: "),
        "{faults}"
    );
    let faults = load_from(folder.path(), None, [(FILE_VARIABLE, "gone.yaml")])
        .unwrap_err()
        .to_string();
    assert!(
        faults.starts_with("gone.yaml: the configuration file cannot be read: "),
        "{faults}"
    );
    fs::create_dir(folder.path().join("config.yaml")).unwrap();
    let faults = load_from(folder.path(), None, NOTHING).unwrap_err().to_string();
    assert!(
        faults.starts_with("config.yaml: the configuration file cannot be read: "),
        "{faults}"
    );
}

#[test]
fn a_file_too_large_or_not_of_text_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, format!("{LEAST}#{}", "x".repeat(1 << 20))).unwrap();
    let faults = load_from(folder.path(), None, NOTHING).unwrap_err().to_string();
    assert!(faults.ends_with("it is larger than 1 MiB"), "{faults}");
    fs::write(&path, b"a: 1\nb: canary\xff\n").unwrap();
    let faults = load_from(folder.path(), None, NOTHING).unwrap_err().to_string();
    assert!(faults.ends_with("line 2 is not UTF-8"), "{faults}");
}

#[test]
fn a_large_file_full_of_faults_is_told_soon() {
    let started = std::time::Instant::now();
    let yaml: String = (0..45_000).map(|n| format!("unknown-{n}: 1\n")).collect();
    let faults = load_text(&format!("{yaml}{LEAST}"), NOTHING).unwrap_err();
    assert_eq!(faults.iter().count(), 45_000);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn a_section_without_keys_is_one_with_defaults() {
    let loaded = load_text(&format!("server:\n  # listen: 0.0.0.0:80\nlogging:\n{LEAST}"), NOTHING).unwrap();
    assert_eq!(loaded.config.server, Server::default());
    assert_eq!(loaded.config.logging, Logging::default());
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let yaml = "admin: { token: canary-canary-canary }\n\
                tenancy: { provider: { type: static, tenants: { a: { password: canary } } } }\n\
                drivers: { sqlite: { root: canary } }\n";
    let loaded = load_text(yaml, [("X", CANARY)]).unwrap();
    let token = loaded
        .config
        .admin
        .token
        .as_ref()
        .map(|token| token.expose_secret().len());
    assert_eq!(token, Some(20));
    let shown = format!("{loaded:?} {:?}", Environment::from([("X", CANARY)]));
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_driver_is_on_unless_it_is_switched_off() {
    let off = load_text(
        &format!("drivers: {{ sqlite: {{ enabled: false }} }}\n{LEAST}"),
        NOTHING,
    )
    .unwrap();
    assert!(!off.config.drivers.is_enabled("sqlite"));
    assert!(off.config.drivers.enabled(&registry()).is_empty());
    let on = load_text(LEAST, NOTHING).unwrap();
    assert_eq!(
        on.config.drivers.enabled(&registry()),
        [("sqlite", json!({"type": "sqlite"}))]
    );
}

#[test]
fn what_shows_later_is_told_at_its_place() {
    let yaml = "tenancy:\n  provider:\n    type: static\n    tenants:\n      a: {}\n  \
                resolver:\n    type: chain\n    resolvers:\n      - type: header\n";
    let loaded = load_text(yaml, NOTHING).unwrap();
    let error = BuildError::key("name", "is no header").below(["resolvers", "0"]);
    let fault = loaded.build_fault(&["tenancy", "resolver"], &error);
    assert_eq!(
        fault.to_string(),
        "config.yaml:9:9: tenancy.resolver.resolvers[0].name: is no header"
    );
    let fault = loaded.fault_at(&["tenancy", "provider", "tenants", "a"], "is empty");
    assert_eq!(
        fault.to_string(),
        "config.yaml:5:10: tenancy.provider.tenants.a: is empty"
    );
    let fault = loaded.fault_at(&["server", "tls"], "is no certificate");
    assert_eq!(fault.to_string(), "config.yaml: server.tls: is no certificate");
}
