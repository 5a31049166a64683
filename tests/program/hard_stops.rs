//! The end of a server that something outside of it could hold.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tenantry_test_support::{Certificates, TenantryProcess};
use tokio::{net::TcpStream, time::timeout};

use crate::databases::{config, program};

fn secrets() -> serde_json::Value {
    json!({"acme": {"type": "sqlite", "path": "acme.db"}})
}

/// Stops the server, and returns how long it took.
async fn stopped(server: &TenantryProcess, signal: &str) -> Duration {
    let began = Instant::now();
    server.signal(signal).await.unwrap();
    let code = timeout(Duration::from_secs(50), server.wait()).await.unwrap().unwrap();
    assert_eq!(code, 0, "{}", server.logs().await.unwrap());
    began.elapsed()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_without_file_descriptors_stops_within_its_grace() {
    let config = format!("{}server: {{ shutdown_grace: 4s }}\n", config(&secrets()));
    let server = program().config(config).start().await.unwrap();
    let pid = server.pid().await.unwrap().to_string();
    let limited = Command::new("prlimit").args(["--nofile=3:3", "--pid", &pid]).status();
    assert!(limited.unwrap().success());
    // The kernel accepts it, the server cannot.
    let waiting = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let failed = "a connection could not be accepted";
    server.logs_with(failed, Duration::from_secs(20)).await.unwrap();
    assert!(stopped(&server, "INT").await < Duration::from_secs(15));
    drop(waiting);
}

#[tokio::test]
async fn a_tls_client_that_says_nothing_does_not_hold_a_stop() {
    let certificates = Certificates::make().unwrap();
    let config = format!(
        "{}server: {{ shutdown_grace: 40s, limits: {{ head_timeout: 60s }}, tls: {{ cert: cert.pem, key: key.pem }} }}\n",
        config(&secrets())
    );
    let server = program()
        .config(config)
        .file("cert.pem", &certificates.server_cert_pem)
        .file("key.pem", &certificates.server_key_pem)
        .tls()
        .start()
        .await
        .unwrap();
    let silent = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    assert!(stopped(&server, "INT").await < Duration::from_secs(15));
    drop(silent);
}
