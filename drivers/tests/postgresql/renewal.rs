//! Certificates that are renewed on disk.

use serde_json::json;
use tenantry_core::{DatabaseConfig, DriverErrorKind, SecretValue};
use tenantry_test_support::{Certificates, PostgresServer};

use super::driver;

/// The files are read for each login, as the engine makes it.
#[tokio::test]
async fn a_renewed_certificate_is_used_for_the_next_connection() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("renewed").await.unwrap();
    let grant = format!("GRANT require_client_cert TO \"{}\"", tenant.user);
    server.psql("postgres", &grant).await.unwrap();
    let right = server.certificates().unwrap();
    let wrong = Certificates::make().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut secret = server.secret(&tenant);
    secret["host"] = json!("localhost");
    secret["tls"] = json!({"mode": "verify-full", "ca": path("ca"), "cert": path("cert"), "key": path("key")});
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    let driver = driver().await;
    let all_right = || {
        write("ca", &right.ca_pem);
        write("cert", &right.client_cert_pem);
        write("key", &right.client_key_pem);
    };
    all_right();
    let kept = driver.connect(&config).await.unwrap();
    let cases = [
        (vec![("ca", wrong.ca_pem.as_str())], DriverErrorKind::Tls, ""),
        (vec![("ca", "")], DriverErrorKind::Invalid, "`tls.ca` "),
        (
            vec![("ca", &right.ca_pem[..300])],
            DriverErrorKind::Invalid,
            "`tls.ca` ",
        ),
        (vec![("cert", "broken")], DriverErrorKind::Invalid, "`tls.cert` "),
        (
            vec![("key", &wrong.client_key_pem)],
            DriverErrorKind::Invalid,
            "`tls.key` is not the key of `tls.cert`",
        ),
        (
            vec![("cert", &wrong.client_cert_pem), ("key", &wrong.client_key_pem)],
            DriverErrorKind::Tls,
            "",
        ),
    ];
    for (files, kind, reason) in cases {
        for (name, text) in &files {
            write(name, text);
        }
        let error = driver.connect(&config).await.err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.kind == kind && source.starts_with(reason), "{files:?}: {error:?}");
        assert!(!source.contains("BEGIN"), "{source}");
        all_right();
        driver.connect(&config).await.unwrap().close().await;
    }
    kept.close().await;
}
