//! The driver `oracle` where Oracle's client library is not installed. In a program of its own: a
//! library that is loaded stays.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::json;
use tenantry_core::{BuildContext, DatabaseConfig, DriverErrorKind, Registry, SecretValue};
use tenantry_oracle::OracleDriver;

#[tokio::test]
async fn the_driver_is_built_without_the_client_library() {
    let empty = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    registry.driver::<OracleDriver>();
    let mapping = json!({"type": "oracle", "client_library": empty.path()});
    let driver = registry
        .build_driver(mapping, &BuildContext::for_tests(Registry::new()))
        .await
        .unwrap();
    let secret = json!({"type": "oracle", "host": "127.0.0.1", "database": "d", "username": "u", "password": "canary"});
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    // Again and again: it may be installed in the meantime.
    for _ in 0..2 {
        let error = driver.connect(&config).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::Unsupported);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("DPI-1047") && !source.contains("canary"), "{source}");
    }
}
