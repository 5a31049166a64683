use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

fn parse(value: Value) -> Result<DatabaseConfig, SecretInvalid> {
    DatabaseConfig::parse(&SecretValue::new(value))
}

#[test]
fn the_native_form_is_read() {
    let config = parse(json!({
        "type": "postgresql", "host": "h", "port": 5432, "database": "d", "username": "u", "password": "p",
        "pool": {"max": {"connections": 20}, "idle": {"connections": 5, "time": "30m"}, "lifetime": {"max": 3_600_000_000_000u64}},
        "query": {"slow": {"threshold": "100ms", "enabled": true}, "log": {"parameters": false}},
        "tls": {"mode": "verify-full", "ca": "/ca.pem"}, "unknown": [1]
    }))
    .unwrap();
    assert_eq!(config.driver, "postgresql");
    assert_eq!(config.port, Some(5432));
    assert_eq!(config.pool.max_connections, Some(20));
    assert_eq!(config.pool.idle_time, Some(Duration::from_secs(1800)));
    assert_eq!(config.pool.max_lifetime, Some(Duration::from_secs(3600)));
    assert_eq!(config.query.slow_threshold, Some(Duration::from_millis(100)));
    assert_eq!(config.tls.mode, Some(TlsMode::VerifyFull));
}

#[test]
fn the_rds_form_is_read() {
    let config = parse(json!({
        "engine": "aurora-postgresql", "host": "h", "port": "5432", "dbname": "d", "username": "u", "password": "p", "ssl": true
    }))
    .unwrap();
    assert_eq!(config.driver, "aurora-postgresql");
    assert_eq!((config.port, config.database.as_deref()), (Some(5432), Some("d")));
    assert_eq!(config.tls.mode, Some(TlsMode::Require));
}

#[test]
fn a_url_is_read() {
    let config = parse(json!({"url": "postgres://us%40er:p%2Fw@db.example:6543/data?sslmode=verify-ca"})).unwrap();
    assert_eq!(config.driver, "postgresql");
    assert_eq!(config.host.as_deref(), Some("db.example"));
    assert_eq!(config.port, Some(6543));
    assert_eq!(config.username.as_deref(), Some("us@er"));
    assert_eq!(config.password.unwrap().expose_secret(), "p/w");
    assert_eq!(config.tls.mode, Some(TlsMode::VerifyCa));
    let sqlite = parse(json!({"url": "sqlite://a/b.db"})).unwrap();
    assert_eq!(
        (sqlite.driver.as_str(), sqlite.path.as_deref()),
        ("sqlite", Some("a/b.db"))
    );
}

#[test]
fn a_host_is_a_name_an_address_or_a_folder() {
    for (written, read) in [
        ("db.example", "db.example"),
        ("::1", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("/run/postgresql", "/run/postgresql"),
        ("/run/a:1", "/run/a:1"),
        ("[db]", "[db]"),
        ("tcp:db", "tcp:db"),
    ] {
        let config = parse(json!({"type": "postgresql", "host": written})).unwrap();
        assert_eq!(config.host.as_deref(), Some(read));
    }
}

#[test]
fn a_driver_is_named_by_the_type_or_else_by_the_url() {
    let field = |secret| parse(secret).unwrap().driver_field();
    assert_eq!(field(json!({"engine": "postgres", "url": "postgres://h/d"})), "type");
    assert_eq!(field(json!({"type": null, "engine": "", "url": "oracel://h/d"})), "url");
}

#[test]
fn a_malformed_secret_names_the_field_and_never_its_value() {
    let canary = "canary-7";
    let cases = [
        (json!([canary]), "secret"),
        (json!({"host": canary}), "type"),
        (json!({"type": [canary]}), "type"),
        (json!({"type": "postgresql", "port": canary}), "port"),
        (json!({"type": "postgresql", "port": 70000}), "port"),
        (json!({"type": "postgresql", "host": "canary-7:5432"}), "host"),
        (json!({"type": "mysql", "host": "mysql://canary-7"}), "host"),
        (json!({"type": "mysql", "host": "[::1]:3306"}), "host"),
        (json!({"type": "postgresql", "port": 0}), "port"),
        (json!({"type": "postgresql", "password": {"x": canary}}), "password"),
        (json!({"type": "postgresql", "pool": canary}), "pool"),
        (
            json!({"type": "postgresql", "pool": {"max": {"connections": canary}}}),
            "pool.max.connections",
        ),
        (
            json!({"type": "postgresql", "pool": {"max": {"connections": 0}}}),
            "pool.max.connections",
        ),
        (
            json!({"type": "postgresql", "pool": {"idle": {"time": canary}}}),
            "pool.idle.time",
        ),
        (
            json!({"type": "postgresql", "pool": {"idle": {"time": "400000000000years"}}}),
            "pool.idle.time",
        ),
        (
            json!({"type": "postgresql", "pool": {"lifetime": {"max": "400000000000years"}}}),
            "pool.lifetime.max",
        ),
        (
            json!({"type": "postgresql", "pool": {"lifetime": {"max": u64::MAX}}}),
            "pool.lifetime.max",
        ),
        (
            json!({"type": "postgresql", "query": {"slow": {"threshold": canary}}}),
            "query.slow.threshold",
        ),
        (
            json!({"type": "postgresql", "query": {"timeout": "30"}}),
            "query.timeout",
        ),
        (json!({"type": "postgresql", "query": {"timeout": 30}}), "query.timeout"),
        (
            json!({"type": "postgresql", "query": {"timeout": "0s"}}),
            "query.timeout",
        ),
        (
            json!({"type": "postgresql", "query": {"timeout": "25d"}}),
            "query.timeout",
        ),
        (
            json!({"type": "postgresql", "limits": {"concurrent_requests": 0}}),
            "limits.concurrent_requests",
        ),
        (
            json!({"type": "postgresql", "limits": {"requests_per_second": canary}}),
            "limits.requests_per_second",
        ),
        (json!({"type": "postgresql", "pooler": canary}), "pooler"),
        (json!({"type": "postgresql", "tls": {"mode": canary}}), "tls.mode"),
        (json!({"url": format!("no url {canary}")}), "url"),
    ];
    for (secret, field) in cases {
        let error = parse(secret).unwrap_err();
        assert_eq!(error.field, field);
        assert!(!error.to_string().contains(canary), "{error}");
    }
}

#[test]
fn a_config_prints_neither_password_nor_key() {
    let config = parse(json!({
        "type": "postgresql", "password": "canary", "tls": {"key": "canary"}, "more": "canary"
    }))
    .unwrap();
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn every_key_of_tls_is_honoured_or_refused() {
    let tls = |keys: Value| {
        let mut secret = json!({"type": "postgresql"});
        secret
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        parse(secret).map(|config| config.tls).map_err(|error| error.field)
    };
    let modes = [
        (json!({}), None),
        (json!({"ssl": null, "tls": null}), None),
        (json!({"ssl": false}), None),
        (json!({"ssl": "", "tls": {}}), None),
        (json!({"ssl": true}), Some(TlsMode::Require)),
        (json!({"ssl": "true"}), Some(TlsMode::Require)),
        (json!({"ssl": 1}), Some(TlsMode::Require)),
        (json!({"ssl": "verify-full"}), Some(TlsMode::VerifyFull)),
        (json!({"sslmode": "verify-full"}), Some(TlsMode::VerifyFull)),
        (json!({"sslMode": "VERIFY_IDENTITY"}), Some(TlsMode::VerifyFull)),
        (json!({"ssl_mode": "REQUIRED"}), Some(TlsMode::Require)),
        (json!({"ssl-mode": "disable"}), Some(TlsMode::Disable)),
        (json!({"tls": true}), Some(TlsMode::Require)),
        (json!({"tls": "require"}), Some(TlsMode::Require)),
        (json!({"ssl": {"rejectUnauthorized": true}}), Some(TlsMode::VerifyFull)),
        (json!({"ssl": {"rejectUnauthorized": false}}), Some(TlsMode::Require)),
        (json!({"ssl": {"ca": "ca.pem"}}), Some(TlsMode::VerifyFull)),
        (
            json!({"ssl": true, "tls": {"mode": "verify-full"}}),
            Some(TlsMode::VerifyFull),
        ),
        (json!({"ssl": true, "tls": {"mode": "prefer"}}), Some(TlsMode::Require)),
        (
            json!({"sslmode": "require", "sslrootcert": "ca.pem"}),
            Some(TlsMode::VerifyCa),
        ),
        (
            json!({"tls": {"mode": "require", "ca": "ca.pem"}}),
            Some(TlsMode::VerifyCa),
        ),
    ];
    for (keys, mode) in modes {
        assert_eq!(tls(keys.clone()).map(|tls| tls.mode), Ok(mode), "{keys}");
    }
    let files = json!({"sslmode": "verify-full", "sslRootCert": "a", "ssl_cert": "b", "sslkey": "c"});
    let files = tls(files).unwrap();
    assert_eq!((files.ca.as_deref(), files.cert.as_deref()), (Some("a"), Some("b")));
    assert_eq!(files.key.unwrap().expose_secret(), "c");
    let others = json!({"access_level": "rw", "business_line": "b", "address_list": []});
    assert_eq!(tls(others).map(|tls| tls.mode), Ok(None), "keys that are not about TLS");
    let refused = [
        (json!({"ssl": "canary"}), "ssl"),
        (json!({"ssl": [true]}), "ssl"),
        (json!({"useSSL": true}), "useSSL"),
        (json!({"requireSSL": "true"}), "requireSSL"),
        (json!({"verifyServerCertificate": true}), "verifyServerCertificate"),
        (json!({"sslmode": "canary"}), "sslmode"),
        (json!({"sslmode": 7}), "sslmode"),
        (json!({"sslcrl": "canary"}), "sslcrl"),
        (json!({"sslpassword": "canary"}), "sslpassword"),
        (json!({"tlsCAFile": "canary"}), "tlsCAFile"),
        (json!({"tls": {"modus": "require"}}), "tls.modus"),
        (json!({"tls": {"min_version": "1.3"}}), "tls.min_version"),
        (json!({"tls": {"mode": ["require"]}}), "tls.mode"),
        (json!({"tls": ["require"]}), "tls"),
        (json!({"ssl": {"servername": "canary"}}), "ssl.servername"),
        (json!({"ssl": true, "tls": {"mode": "disable"}}), "tls.mode"),
        (
            json!({"tls": {"mode": "verify-full", "ca": "a"}, "sslrootcert": "b"}),
            "sslrootcert",
        ),
        (json!({"tls": {"ca": "ca.pem"}}), "tls.ca"),
        (json!({"tls": {"mode": "prefer", "ca": "ca.pem"}}), "tls.ca"),
        (json!({"tls": {"mode": "disable", "cert": "a", "key": "b"}}), "tls.cert"),
    ];
    for (keys, field) in refused {
        assert_eq!(tls(keys.clone()).err().as_deref(), Some(field), "{keys}");
    }
}

#[test]
fn a_token_takes_the_password_s_place_and_demands_tls() {
    let secret = |more: Value| {
        let mut secret = json!({"type": "postgresql", "host": "db.example", "username": "u", "auth": "rds-iam"});
        secret
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        DatabaseConfig::parse(&SecretValue::new(secret))
    };
    let config = secret(json!({"region": "eu-central-1"})).unwrap();
    assert_eq!(config.rds_iam.as_deref(), Some("eu-central-1"));
    assert_eq!(config.tls.mode, Some(TlsMode::Require));
    let config =
        secret(json!({"host": "db1.abc.eu-west-1.rds.amazonaws.com", "tls": {"mode": "verify-full"}})).unwrap();
    assert_eq!(
        (config.rds_iam.as_deref(), config.tls.mode),
        (Some("eu-west-1"), Some(TlsMode::VerifyFull))
    );
    assert_eq!(secret(json!({"auth": "password"})).unwrap().rds_iam, None);
    let cases = [
        (json!({}), "region"),
        (json!({"region": "r", "password": "canary"}), "password"),
        (json!({"region": "r", "tls": {"mode": "prefer"}}), "tls.mode"),
        (json!({"region": "r", "tls": {"mode": "disable"}}), "tls.mode"),
        (json!({"region": "r", "host": "/run/postgresql"}), "host"),
        (json!({"auth": "canary"}), "auth"),
    ];
    for (more, field) in cases {
        let error = secret(more).unwrap_err();
        assert_eq!(error.field, field);
        assert!(!error.to_string().contains("canary"));
    }
}
