//! Attacks that the program has to stand without anything being set: on its names, paths, headers, tokens, bodies and files.

mod bodies;
mod files;
mod headers;
mod injections;
mod logs;
mod manifests;
mod pages;
mod paths;
mod providers;
mod smuggling;
mod statements;
mod tokens;

use tenantry_test_support::TenantryProcess;

use crate::raw::{Answer, exchange};

pub(crate) const INFO: &str = "GET /api/v1/tenant/info";
pub(crate) const USERS: &str = "/api/v1/tenant/users";
pub(crate) const ACME: &str = "X-Tenant-ID: acme";
pub(crate) const ZETA: &str = "X-Tenant-ID: zeta";

/// Sends a request with these lines in its head, and `Host`.
pub(crate) async fn ask(server: &TenantryProcess, line: &str, headers: &[&str]) -> Answer {
    send_body(server, line, headers, b"").await
}

/// As [`ask`], with a body.
pub(crate) async fn send_body(server: &TenantryProcess, line: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut head = format!("{line} HTTP/1.1\r\nHost: tenantry.example\r\nConnection: close\r\n");
    for header in headers {
        head += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let request = [head.as_bytes(), b"\r\n", body].concat();
    exchange(server, &request).await
}

/// Sends JSON as the tenant `acme`.
pub(crate) async fn send_json(server: &TenantryProcess, line: &str, body: &[u8]) -> Answer {
    send_body(server, line, &[ACME, "Content-Type: application/json"], body).await
}

impl Answer {
    /// Checks status and `code`, and that the answer shows nothing of the inside or of another tenant.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, code: &str) {
        assert_eq!(self.problem(), (status, code.to_owned()), "{self:?}");
        self.shows_nothing();
    }

    /// Checks that the answer shows nothing of the inside or of the tenant `zeta`.
    #[track_caller]
    pub(crate) fn shows_nothing(&self) {
        let inside = [
            "zeta.com",
            "zeta.db",
            "acme.db",
            "panicked",
            ".rs:",
            "SELECT",
            "sqlite_",
            "/tmp/",
            "outside-canary",
            "RSA",
        ];
        for word in inside {
            assert!(!self.body.contains(word), "`{word}` is shown: {self:?}");
        }
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}
