use secrecy::ExposeSecret;
use serde_json::json;

use crate::{DatabaseConfig, Pooler, SecretInvalid, SecretValue, SessionTarget, TlsMode};

fn parse(url: &str) -> Result<DatabaseConfig, SecretInvalid> {
    DatabaseConfig::parse(&SecretValue::new(json!({"url": url})))
}

/// Driver, host, port, database, user and password, as one text.
fn place(config: &DatabaseConfig) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
    let servers = config
        .other_servers
        .iter()
        .map(|(host, port)| format!(",{host}:{port:?}"));
    format!(
        "{} {} {} {} {} {}{}",
        config.driver,
        text(&config.host),
        config.port.map_or("-".to_owned(), |port| port.to_string()),
        text(&config.database),
        text(&config.username),
        config
            .password
            .as_ref()
            .map_or("-", |password| password.expose_secret()),
        servers.collect::<String>(),
    )
}

#[test]
fn a_url_says_where_the_database_is() {
    let cases = [
        ("postgres://u:p@h:1/d", "postgresql h 1 d u p"),
        ("POSTGRESQL://u:p@h/d", "postgresql h - d u p"),
        (" postgres://u:p@h/d\n", "postgresql h - d u p"),
        ("postgres://h/d", "postgresql h - d - -"),
        ("postgres://u@h", "postgresql h - u u -"),
        ("postgres://u@h/", "postgresql h - u u -"),
        ("postgres://h?user=u&password=p&dbname=d", "postgresql h - d u p"),
        ("postgres:///d?host=h&port=7&user=u", "postgresql h 7 d u -"),
        ("postgres://u@a:1/d?host=b", "postgresql b 1 d u -"),
        ("postgres://u@[::1]:6/d", "postgresql ::1 6 d u -"),
        ("postgres://u@[fe80::1%25eth0]/d", "postgresql fe80::1%eth0 - d u -"),
        ("postgres:///d?hostaddr=::1&user=u", "postgresql ::1 - d u -"),
        ("postgres://u@%2Fvar%2Frun/d", "postgresql /var/run - d u -"),
        (
            "postgres://u@/d?host=/cloudsql/p:r:i",
            "postgresql /cloudsql/p:r:i - d u -",
        ),
        ("postgres://h/d?user=sa@p.iam", "postgresql h - d sa@p.iam -"),
        (
            "postgres://u@h1:1,h2,[::1]:3/d",
            "postgresql h1 1 d u -,h2:None,::1:Some(3)",
        ),
        (
            "postgres://u@/d?host=h1,h2&port=1,2",
            "postgresql h1 1 d u -,h2:Some(2)",
        ),
        ("postgres://u@/d?host=h1,h2&port=7", "postgresql h1 7 d u -,h2:Some(7)"),
        ("postgres://u%40x:p%2Fw%25@h/d%20e", "postgresql h - d e u@x p/w%"),
        ("postgres://h/a+b?user=c+d", "postgresql h - a+b c+d -"),
        // As they were generated, without escapes.
        ("postgres://u:a#b@h/d", "postgresql h - d u a#b"),
        ("postgres://u:a?b@h/d", "postgresql h - d u a?b"),
        ("postgres://u:a:b@h/d", "postgresql h - d u a:b"),
        ("postgres://u:a[b]@h/d", "postgresql h - d u a[b]"),
        ("postgres://u:p@x@h/d", "postgresql h - d u p@x"),
        ("postgres://u:p?@x@h/d", "postgresql h - d u p?@x"),
        ("mysql://u:a#b@h/d", "mysql h - d u a#b"),
        // Other clients'.
        ("postgresql+psycopg2://u:p@h/d", "postgresql h - d u p"),
        (
            "postgresql+pg8000://u:p@/d?unix_sock=/cloudsql/i/.s.PGSQL.5432",
            "postgresql /cloudsql/i - d u p",
        ),
        ("jdbc:postgresql://h:1/d?user=u&password=p", "postgresql h 1 d u p"),
        ("pgsql://u:p@h/d", "postgresql h - d u p"),
        ("mysql2://u:p@h/d", "mysql h - d u p"),
        ("mariadb://u:p@h:3/d", "mysql h 3 d u p"),
        (
            "mysql+pymysql://u:p@/d?unix_socket=/cloudsql/p:r:i",
            "mysql /cloudsql/p:r:i - d u p",
        ),
        (
            "mysql://u:p@localhost/d?socket=/run/s.sock",
            "mysql /run/s.sock - d u p",
        ),
        ("jdbc:mysql://h:3/d?user=u&password=p", "mysql h 3 d u p"),
        ("oracle://u:p@h:1521/XE", "oracle h 1521 XE u p"),
        ("other://u:p@h/d", "other h - d u p"),
    ];
    for (url, expected) in cases {
        assert_eq!(
            parse(url).map(|config| place(&config)).as_deref(),
            Ok(expected),
            "{url}"
        );
    }
}

#[test]
fn a_url_says_how_the_connection_is_encrypted() {
    use TlsMode::*;
    let cases = [
        ("postgres://h/d", None),
        ("postgres://h/d?sslmode=disable", Some(Disable)),
        ("postgres://h/d?sslmode=allow", Some(Prefer)),
        ("postgres://h/d?sslmode=require", Some(Require)),
        ("postgres://h/d?sslmode=verify-ca", Some(VerifyCa)),
        ("postgres://h/d?sslmode=verify-full", Some(VerifyFull)),
        ("postgres://h/d?sslmode=no-verify", Some(Require)),
        ("postgres://h/d?ssl=true", Some(Require)),
        ("postgres://h/d?ssl=1", Some(Require)),
        ("postgres://h/d?ssl=false", None),
        ("postgresql+asyncpg://h/d?ssl=require", Some(Require)),
        ("postgres://h/d?sslrootcert=system", Some(VerifyFull)),
        ("postgres://h/d?sslmode=require&sslrootcert=ca.pem", Some(VerifyCa)),
        ("postgres://h/d?sslmode=require&sslaccept=strict", Some(VerifyFull)),
        ("postgres://h/d?sslaccept=accept_invalid_certs", Some(Require)),
        ("postgres://h/d?sslmode=verify-full&sslmode=require", Some(VerifyFull)),
        ("jdbc:postgresql://h/d?ssl=true", Some(VerifyFull)),
        ("jdbc:postgresql://h/d?ssl=", Some(VerifyFull)),
        ("jdbc:postgresql://h/d?ssl=true&sslmode=require", Some(VerifyFull)),
        ("mysql://h/d?ssl-mode=REQUIRED", Some(Require)),
        ("mysql://h/d?ssl_mode=verify_identity", Some(VerifyFull)),
        ("mysql://h/d?sslMode=VERIFY_CA", Some(VerifyCa)),
        ("mysql://h/d?sslMode=verify-full", Some(VerifyFull)),
        ("mysql://h/d?sslaccept=strict", Some(VerifyFull)),
        ("mysql://h/d?ssl={\"rejectUnauthorized\":true}", Some(VerifyFull)),
        ("mysql://h/d?ssl=%7B%22rejectUnauthorized%22%3Afalse%7D", Some(Require)),
        ("mysql://h/d?ssl={}", Some(VerifyFull)),
        ("mysql://h/d?ssl=true", Some(Require)),
        ("mysql://h/d?tls=true", Some(VerifyFull)),
        ("mysql://h/d?tls=skip-verify", Some(Require)),
        ("mysql://h/d?tls=preferred", Some(Prefer)),
        ("mysql://h/d?sslverify=true", Some(VerifyFull)),
        ("mysql+pymysql://h/d?ssl_ca=c.pem&ssl_verify_cert=true", Some(VerifyCa)),
        ("jdbc:mysql://h/d?useSSL=true", Some(Require)),
        ("jdbc:mysql://h/d?useSSL=true&requireSSL=true", Some(Require)),
        (
            "jdbc:mysql://h/d?useSSL=true&verifyServerCertificate=true",
            Some(VerifyCa),
        ),
        (
            "jdbc:mysql://h/d?useSSL=false&allowPublicKeyRetrieval=true&serverTimezone=UTC",
            Some(Disable),
        ),
        ("jdbc:mariadb://h/d?sslMode=trust", Some(Require)),
        ("oracle://h/d?sslmode=require", Some(Require)),
    ];
    for (url, expected) in cases {
        assert_eq!(parse(url).map(|config| config.tls.mode), Ok(expected), "{url}");
    }
    let files = parse("postgres://h/d?sslmode=verify-full&sslrootcert=%2Fa&sslcert=b&sslkey=c").unwrap();
    assert_eq!(
        (files.tls.ca.as_deref(), files.tls.cert.as_deref()),
        (Some("/a"), Some("b"))
    );
    assert_eq!(files.tls.key.unwrap().expose_secret(), "c");
    let files = parse("mysql://h/d?ssl-mode=VERIFY_CA&ssl-ca=a&ssl-cert=b&ssl-key=c").unwrap();
    assert_eq!(
        (files.tls.ca.as_deref(), files.tls.cert.as_deref()),
        (Some("a"), Some("b"))
    );
}

#[test]
fn a_url_says_how_a_session_begins() {
    let schema = |query: &str| parse(&format!("postgres://h/d?{query}")).unwrap().session.schema;
    let schemas = [
        ("options=-c%20search_path%3Dapp", Some("app")),
        ("options=-c search_path=app", Some("app")),
        ("options=-csearch_path%3DApp,public", Some("app,public")),
        (
            "options=--search-path%3D%22App%22,%5C%20%22%24user%22",
            Some("App,$user"),
        ),
        ("options=-c%20geqo%3Doff", None),
        ("schema=App", Some("App")),
        ("currentSchema=App,public", Some("app,public")),
        ("search_path=a", Some("a")),
        ("schema=", None),
    ];
    for (query, expected) in schemas {
        assert_eq!(schema(query).as_deref(), expected, "{query}");
    }
    let config = parse(
        "postgres://h1,h2/d?options=-c%20lock_timeout%3D5s%20-c%20role%3Da%5C%20b&application_name=app&connect_timeout=7\
         &target_session_attrs=read-write&load_balance_hosts=random&connection_limit=3&pgbouncer=true&client_encoding=UTF8",
    )
    .unwrap();
    let settings: Vec<_> = config
        .session
        .settings
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    assert_eq!(settings, [("lock_timeout", "5s"), ("role", "a b")]);
    assert_eq!(config.session.application_name.as_deref(), Some("app"));
    assert_eq!(config.session.target, SessionTarget::ReadWrite);
    assert_eq!(config.connect_timeout.unwrap().as_secs(), 7);
    assert!(config.load_balanced);
    assert_eq!(config.pool.max_connections, Some(3));
    assert_eq!(config.pooler, Some(Pooler::Transaction));
    let config = parse("jdbc:mysql://h/d?connectTimeout=1500&characterEncoding=UTF-8&autoReconnect=true").unwrap();
    assert_eq!(config.connect_timeout.unwrap().as_millis(), 1500);
    let config = parse("postgres://h/d?connect_timeout=0").unwrap();
    assert_eq!(config.connect_timeout, None);
}

#[test]
fn a_parameter_that_cannot_be_honoured_is_refused_by_name() {
    let cases = [
        ("postgres://h/d?foo=canary", "foo"),
        ("postgres://h/d?sslmode=canary", "sslmode"),
        ("postgres://h/d?ssl=canary", "ssl"),
        ("postgres://h/d?sslmode=", "sslmode"),
        ("postgres://h/d?ssl=", "ssl"),
        ("postgres://h/d?sslrootcert=", "sslrootcert"),
        ("postgres://h/d?sslcrl=canary", "sslcrl"),
        ("postgres://h/d?sslpassword=canary", "sslpassword"),
        (
            "postgres://h/d?ssl_min_protocol_version=TLSv1.3",
            "ssl_min_protocol_version",
        ),
        ("postgres://h/d?sslmode=disable&sslmode=require", "sslmode"),
        ("postgres://h/d?channel_binding=require", "channel_binding"),
        ("postgres://h/d?gssencmode=require", "gssencmode"),
        ("postgres://h/d?require_auth=scram-sha-256", "require_auth"),
        ("postgres://h/d?service=canary", "service"),
        ("postgres://h/d?passfile=canary", "passfile"),
        ("postgres://h/d?options=-c%20statement_timeout%3D1", "options"),
        ("postgres://h/d?options=-c%20TimeZone%3DAsia/Tokyo", "options"),
        ("postgres://h/d?options=endpoint%3Dcanary", "options"),
        ("postgres://h/d?options=-c", "options"),
        ("postgres://h/d?options=-c%20role%3Da%5C%09canary", "options"),
        ("postgres://h/d?options=-c%20role%3Da%5C%0Acanary", "options"),
        ("postgres://h/d?options=-c%20role%3Da%0Bcanary", "options"),
        ("postgres://h/d?client_encoding=LATIN1", "client_encoding"),
        ("postgres://h/d?target_session_attrs=canary", "target_session_attrs"),
        ("postgres://h/d?connect_timeout=canary", "connect_timeout"),
        ("postgres://h1,h2/d?port=1,2,3", "port"),
        ("postgres://h/d?port=canary", "port"),
        ("postgres://h/d?host=can%20ary", "host"),
        ("postgres://h/d?hostaddr=1.2.3.4", "hostaddr"),
        ("postgres:///d?hostaddr=canary", "hostaddr"),
        ("postgres://h/d?prepareThreshold=0", "prepareThreshold"),
        ("jdbc:postgresql://h/d?sslfactory=canary", "sslfactory"),
        ("jdbc:postgresql:///d?socketFactory=canary", "socketFactory"),
        ("mysql://h/d?foo=canary", "foo"),
        ("mysql://h/d?sslMode=canary", "sslMode"),
        ("mysql://h/d?sslcert=canary", "sslcert"),
        ("mysql://h/d?sslidentity=canary", "sslidentity"),
        ("mysql://h/d?charset=latin1", "charset"),
        ("mysql://h/d?ssl={\"rejectUnauthorized\":\"canary\"}", "ssl"),
        ("mysql://h/d?ssl={\"canary\":true}", "ssl"),
        ("mysql://h/d?ssl=Amazon RDS", "ssl"),
        ("jdbc:mysql://h/d?useSSL=canary", "useSSL"),
        ("jdbc:mysql://h/d?useSSL=false&requireSSL=true", "requireSSL"),
        ("jdbc:mysql://h/d?serverTimezone=Asia/Tokyo", "serverTimezone"),
        (
            "jdbc:mysql://h/d?trustCertificateKeyStoreUrl=canary",
            "trustCertificateKeyStoreUrl",
        ),
        ("oracle://h/d?wallet=canary", "wallet"),
        ("other://h/d?foo=canary", "foo"),
        ("sqlite:x.db?mode=ro", "mode"),
        ("sqlite:x.db?mode=memory", "mode"),
        ("sqlite:x.db?cache=shared", "cache"),
        ("sqlite:x.db?vfs=canary", "vfs"),
    ];
    for (url, name) in cases {
        let error = parse(url).expect_err(url);
        assert_eq!(error.field, "url", "{url}");
        assert!(
            error.reason.contains(&format!("the parameter `{name}`, ")),
            "{url}: {error}"
        );
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

/// No part of such a URL is taken for a host, or shown.
#[test]
fn a_url_that_is_malformed_is_refused_as_a_whole() {
    let cases = [
        "",
        "canary",
        "://canary",
        "postgres:canary",
        "postgres:/canary",
        "postgres://canary:p@x/y@h/d",
        "postgres://canary:77/..@h:5432/d",
        "postgres://canary:/x@h/d",
        "postgres://canary:p/canary?x=1@h/d",
        "postgres://canary:p@x/canary?y@h/d",
        "postgres://canary:p@x?canary=y@h/d",
        "postgres://canary:p@canary/x?canary=1&z@h/d",
        "mysql://canary:77/..@h:3306/d",
        "oracle://canary:77/..@h:1521/d",
        "other://canary:77/..@h/d",
        "jdbc:mysql://canary:77/..@h:3306/d",
        "jdbc:oracle:thin:canary/canary@//h:1521/XE",
        "postgres://canary:50%@h/d",
        "postgres://canary:5%0g@h/d",
        "postgres://canary:%ff@h/d",
        "postgres://canary:%00@h/d",
        "postgres://u:p@h:canary/d",
        "postgres://u:p@h:0/d",
        "postgres://u:p@h:65536/d",
        "postgres://u:p@[::1/d",
        "postgres://u:p@[::1]canary/d",
        "postgres://u:p@can ary/d",
        "postgres://u:p@canary#x/d",
        "postgres://u:p@h,/d",
        "postgres://:7/d",
        "postgres://h/d?canary",
        "mysql://u:p@h1,h2/d",
        "sqlite:50%.db",
        &format!("postgres://h/d?{}=1", "canary".repeat(20)),
        "postgres://h/d?can%20ary%2F=1",
    ];
    for url in cases {
        let error = match url {
            "" => DatabaseConfig::parse(&SecretValue::new(json!({"type": "x", "url": ":"}))).unwrap_err(),
            url => parse(url).expect_err(url),
        };
        assert_eq!(error.field, "url", "{url}");
        assert!(!error.to_string().contains("canary"), "{url}: {error}");
    }
}

#[test]
fn a_file_s_url_is_its_path_and_its_mode() {
    let read = |url: &str| parse(url).map(|config| (config.path.unwrap(), config.create)).unwrap();
    assert_eq!(read("sqlite:x.db"), ("x.db".to_owned(), None));
    assert_eq!(read("sqlite://a/b.db"), ("a/b.db".to_owned(), None));
    assert_eq!(read("sqlite3:a%20b.db?mode=rw"), ("a b.db".to_owned(), Some(false)));
    assert_eq!(
        read("sqlite:x.db?mode=rwc&cache=private"),
        ("x.db".to_owned(), Some(true))
    );
    assert_eq!(read("sqlite:a@b.db"), ("a@b.db".to_owned(), None));
}

#[test]
fn what_the_secret_says_itself_goes_before_its_url() {
    let read = |mut secret: serde_json::Value, url: &str| {
        secret["url"] = json!(url);
        DatabaseConfig::parse(&SecretValue::new(secret))
    };
    let own = json!({"type": "aurora-postgresql", "host": "own", "username": "me", "schema": "mine", "pooler": "none"});
    let config = read(own, "postgres://u:p@h1:7,h2/d?schema=s&pgbouncer=true").unwrap();
    assert_eq!(place(&config), "aurora-postgresql own 7 d me p");
    assert_eq!(config.session.schema.as_deref(), Some("mine"));
    assert_eq!(config.pooler, Some(Pooler::None));
    let strict = read(
        json!({"tls": {"mode": "verify-full"}}),
        "postgres://h/d?sslmode=require",
    )
    .unwrap();
    assert_eq!(strict.tls.mode, Some(TlsMode::VerifyFull));
    let refused = [
        (json!({"type": "mysql"}), "postgres://h/d", "type"),
        (json!({"type": "postgresql"}), "sqlite:x.db", "type"),
        (
            json!({"tls": {"mode": "verify-full"}}),
            "postgres://h/d?sslmode=disable",
            "url",
        ),
        (
            json!({"tls": {"mode": "disable"}}),
            "postgres://h/d?sslmode=verify-full",
            "url",
        ),
        (json!({}), "postgres://h/d?sslrootcert=ca.pem", "tls.ca"),
    ];
    for (secret, url, field) in refused {
        assert_eq!(read(secret.clone(), url).unwrap_err().field, field, "{secret} {url}");
    }
}
