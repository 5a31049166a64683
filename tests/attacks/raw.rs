//! Requests as an attacker writes them, byte by byte: no client library sends two `Host` lines.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use tenantry_test_support::{TenantryBuilder, TenantryProcess};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The program with two tenants, and `more` in its configuration.
pub(crate) fn program(resolver: &str, more: &str) -> TenantryBuilder {
    let tenants = "{ acme: { type: sqlite, path: acme.db }, zeta: { type: sqlite, path: zeta.db } }";
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry")).config(format!(
        "tenancy:\n  resolver: {resolver}\n  provider: {{ type: static, tenants: {tenants} }}\n\
         migrations: {{ on_connect: true, sample_data: true }}\n{more}\n"
    ))
}

/// The program under the resolver `header`.
pub(crate) async fn start(more: &str) -> TenantryProcess {
    program("{ type: header }", more).start().await.unwrap()
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The status, and the `code` of a problem.
    pub(crate) fn problem(&self) -> (u16, String) {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        (self.status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends the head of a request: its first line without the version, then `headers` as they are
/// written. `Connection: close` is added.
pub(crate) async fn send(server: &TenantryProcess, line: &str, headers: &[&str]) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    exchange(server, request.as_bytes()).await
}

/// Sends these bytes and reads the answer until the server closes the connection.
pub(crate) async fn exchange(server: &TenantryProcess, request: &[u8]) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(LIMIT, exchange).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
