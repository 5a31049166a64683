//! The page that shows all tenants to an operator. It is one HTML file without any other: its style
//! and its script are in it, and it may send requests to this server alone.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::{
    api_set::RouteTable,
    pages::{Content, serve},
};

const HTML: &str = include_str!("fleet_page/page.html");
const STYLE: &str = include_str!("fleet_page/page.css");
const SCRIPT: &str = concat!(include_str!("fleet_page/charts.js"), include_str!("fleet_page/page.js"));

/// Adds the page, except if an API already has its path. It is static text, so every client of the
/// listener may read it. `asks` says whether operators present a token; the page then asks for it
/// before it reads anything.
pub(crate) fn add_route(table: &mut RouteTable, asks: bool) {
    let make = move || Some(Content::new(html(asks).into(), "text/html; charset=utf-8"));
    table.add_new("/admin", Method::GET, serve(Arc::new(OnceCell::new()), make, headers()));
}

fn html(asks: bool) -> String {
    HTML.replace("{{token}}", if asks { "true" } else { "false" })
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
}

fn headers() -> HeaderMap {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let mut headers = HeaderMap::new();
    // Hashes in base64 are visible ASCII.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let html = html(true);
        assert!(html.starts_with("<!doctype html>") && !html.contains("{{"));
        for outside in [
            "http://",
            "https://",
            "<link rel=\"stylesheet",
            " src=",
            " onclick=",
            " style=",
            "innerHTML",
        ] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_policy_allows_this_script_and_no_other() {
        let headers = headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
