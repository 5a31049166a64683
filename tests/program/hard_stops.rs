//! The end of a server that something outside of it could hold.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tenantry_test_support::{Certificates, TenantryProcess};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    client::Client,
    databases::{config, program},
};

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

#[tokio::test]
async fn a_collector_that_says_nothing_holds_a_stop_for_a_second_at_most() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = collector.local_addr().unwrap().port();
    let config = format!(
        "{}server: {{ shutdown_grace: 500ms }}\nobservability: {{ enabled: true, \
         trace: {{ endpoint: \"http://127.0.0.1:{port}\" }}, metrics: {{ endpoint: \"http://127.0.0.1:{port}\" }} }}\n",
        config(&secrets())
    );
    let server = program().config(config).start().await.unwrap();
    Client::of(&server).get("/health/live").await.expect(200);
    let took = stopped(&server, "INT").await;
    // The exporters would wait for ten seconds.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let logs = server.logs().await.unwrap();
    assert!(logs.contains("telemetry was not sent to its end"), "{logs}");
}

/// The first process of a container ignores signals that it does not listen to, and is killed later.
#[cfg(unix)]
#[tokio::test]
async fn a_server_that_still_starts_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("migrations/sqlite")).unwrap();
    // A reader of a pipe waits until something is written.
    let pipe = folder.path().join("migrations/sqlite/0001_slow.sql");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let file = folder.path().join("config.yaml");
    std::fs::write(
        &file,
        format!("{}server: {{ listen: \"127.0.0.1:0\" }}\n", config(&secrets()))
            .replace("migrations: { ", "migrations: { dir: migrations, "),
    )
    .unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_tenantry"))
        .args(["--config".as_ref(), file.as_os_str()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It opens once the server reads the other end.
    let opened = pipe.clone();
    let written = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(opened));
    let written = timeout(Duration::from_secs(50), written).await.unwrap().unwrap();
    let ended = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    assert!(ended.unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = server.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it did not stop");
        sleep(Duration::from_millis(20)).await;
    };
    drop(written);
    assert_eq!(status.code(), Some(0), "{status}");
}
