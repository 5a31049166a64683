//! Resolvers that cannot be built, or that would hide what the server serves: it does not start.

use serde_json::Value;

use crate::tenants::{server, start};

/// Runs the program, which must end with 2 and say why on standard error, at this place.
async fn refuses_to_start(resolver: &str, key: &str) -> String {
    let finished = server(resolver, None).run(["serve"]).await.unwrap();
    assert_eq!(finished.code, 2, "{resolver}: {finished:?}");
    assert!(
        finished.stderr.contains("config.yaml:"),
        "{resolver}: {}",
        finished.stderr
    );
    let key = if key.is_empty() {
        "tenancy.resolver: ".to_owned()
    } else {
        format!("tenancy.resolver.{key}: ")
    };
    assert!(finished.stderr.contains(&key), "{resolver}: {}", finished.stderr);
    assert_eq!(finished.stdout, "", "{resolver}");
    finished.stderr
}

#[tokio::test]
async fn a_resolver_that_cannot_be_built_stops_the_start() {
    for (resolver, key) in [
        ("type: jwt\npublic_key: missing.pem", "public_key"),
        (
            "type: jwt\npublic_key: \"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n\"",
            "public_key",
        ),
        ("type: jwt\nsecret: \"\"", "secret"),
        ("type: jwt\njwks_url: ftp://example.com/keys", "jwks_url"),
        ("type: jwt\nsecret: x\nalgorithms: [RS256]", "algorithms"),
        ("type: jwt\nsecret: x\nalgorithms: [none]", "algorithms[0]"),
        ("type: jwt\nclaim: tenant", ""),
        ("type: subdomain\ndomain: \"\"", "domain"),
        ("type: subdomain\ndomain: 127.0.0.1", "domain"),
        ("type: host\nhosts: {}", "hosts"),
        ("type: host\nhosts: { example.com: ../x }", r#"hosts."example.com""#),
        ("type: header\nname: \"X Tenant\"", "name"),
        ("type: static\ntenant: Tenant1", "tenant"),
        ("type: path\nprefix: t", "prefix"),
        ("type: chain\nresolvers: []", "resolvers"),
        (
            "type: chain\nresolvers:\n  - type: header\n  - { type: subdomain, domain: \"a b\" }",
            "resolvers[1].domain",
        ),
    ] {
        refuses_to_start(resolver, key).await;
    }
}

#[tokio::test]
async fn a_missing_or_unknown_key_stops_the_start() {
    for (resolver, said) in [
        ("type: subdomain", "tenancy.resolver.domain: is missing"),
        ("type: static", "tenancy.resolver.tenant: is missing"),
        ("type: host", "tenancy.resolver.hosts: is missing"),
        ("type: header\nnmae: X-Tenant", "did you mean `name`?"),
        ("type: heder", "did you mean `header`?"),
    ] {
        let finished = server(resolver, None).run(["serve"]).await.unwrap();
        assert_eq!(finished.code, 2, "{resolver}: {finished:?}");
        assert!(finished.stderr.contains(said), "{resolver}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn what_is_said_of_a_bad_key_does_not_repeat_it() {
    let canary = "cAn4ry";
    for resolver in [
        format!("type: jwt\nsecret: {canary}\nissuer: [1, 2]"),
        format!("type: jwt\nsecret: [{canary}]"),
        format!("type: jwt\nsecret: {canary}\npublic_key: {canary}"),
        format!("type: jwt\npublic_key: \"-----BEGIN PRIVATE KEY-----\\n{canary}\\n-----END PRIVATE KEY-----\\n\""),
    ] {
        let finished = server(&resolver, None).run(["serve"]).await.unwrap();
        assert_eq!(finished.code, 2, "{finished:?}");
        assert!(!finished.stderr.contains(canary), "{}", finished.stderr);
    }
}

/// The first segments of all served paths, from the document and the pages' addresses.
async fn served_segments() -> Vec<String> {
    let server = start("type: header").await;
    let document = reqwest::get(format!("{}/openapi.json", server.base_url()))
        .await
        .unwrap();
    let document: Value = document.json().await.unwrap();
    let paths = document["paths"].as_object().unwrap().keys().map(String::as_str);
    let pages = ["/openapi.json", "/openapi.yaml", "/docs/redoc"];
    let mut segments: Vec<String> = paths
        .chain(pages)
        .map(|path| path.split('/').nth(1).unwrap().to_owned())
        .collect();
    segments.sort_unstable();
    segments.dedup();
    segments
}

#[tokio::test]
async fn a_prefix_that_hides_the_server_s_routes_stops_the_start() {
    let segments = served_segments().await;
    assert!(segments.len() >= 7, "{segments:?}");
    for segment in &segments {
        let said = refuses_to_start(&format!("type: path\nprefix: /{segment}"), "prefix").await;
        assert!(said.contains(&format!("`/{segment}`")), "{said}");
    }
    refuses_to_start("type: path\nprefix: /api/v1", "prefix").await;
    let nested =
        "type: chain\nresolvers:\n  - type: header\n  - type: chain\n    resolvers: [{ type: path, prefix: /docs }]";
    refuses_to_start(nested, "resolvers[1].resolvers[0].prefix").await;
    // A segment that only begins like one is another.
    start("type: path\nprefix: /apis").await;
}
