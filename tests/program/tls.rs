//! HTTPS.

use reqwest::Certificate;
use serde_json::json;
use tenantry_test_support::{Certificates, TenantryProcess};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::Client,
    databases::{config, program},
    users::USERS,
};

fn client(server: &TenantryProcess, ca: &str) -> Client {
    let certificate = Certificate::from_pem(ca.as_bytes()).unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .build()
        .unwrap();
    Client::with(http, server.base_url())
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_https_and_nothing_else() {
    let certificates = Certificates::make().unwrap();
    let secrets = json!({"acme": {"type": "sqlite", "path": "acme.db"}});
    let config = format!(
        "{}server: {{ tls: {{ cert: tls/server.pem, key: tls/server.key }} }}\nlogging: {{ level: trace }}\n",
        config(&secrets)
    );
    let server = program()
        .config(config)
        .file("tls/server.pem", &certificates.server_cert_pem)
        .file("tls/server.key", &certificates.server_key_pem)
        .tls()
        .start()
        .await
        .unwrap();
    let trusting = client(&server, &certificates.ca_pem);
    assert_eq!(
        trusting.get("/health/live").await.expect(200).json(),
        json!({"status": "up"})
    );
    assert_eq!(
        trusting.tenant("acme").get(USERS).await.expect(200).json()["items"],
        json!([])
    );
    trusting.get("/nope").await.problem(404, "not_found");

    let other = client(&server, &certificates.other_ca_pem);
    assert!(
        other
            .request(reqwest::Method::GET, "/health/live")
            .send()
            .await
            .is_err()
    );

    // A client that speaks plain HTTP to it gets no answer, and the server goes on.
    let mut plain = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    plain
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The server may end it with a reset.
    if plain.read_to_end(&mut answer).await.is_ok() {
        assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    }
    // A silent client does not delay the others.
    let _silent = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    trusting.get("/health/live").await.expect(200);

    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);
    let logs = server.logs().await.unwrap();
    let key: Vec<&str> = certificates
        .server_key_pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    assert!(!key.is_empty() && key.iter().all(|line| !logs.contains(line)));
}
