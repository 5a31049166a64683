//! Tenant ids that are to leave a provider's folder, prefix or map.

use tenantry_test_support::{TenantryBuilder, TenantryProcess};

use super::{INFO, ask};

/// Ids that lead elsewhere if they become a part of a path, of a name or of a URL.
const IDS: [&str; 22] = [
    "../outside",
    "..",
    ".",
    "../../etc/passwd",
    "..%2foutside",
    "%2e%2e%2foutside",
    "..%5coutside",
    "%252e%252e%252foutside",
    "..\\outside",
    "/etc/passwd",
    "//etc/passwd",
    "inside/../../outside",
    "acme/database",
    "acme.json",
    "acme%00",
    "acme%00.json",
    "~root",
    "C:outside",
    "file:///etc/passwd",
    "acme*",
    "acme?x=y",
    "-",
];

fn program(provider: &str, more: &str) -> TenantryBuilder {
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(format!(
            "tenancy:\n  {more}\n  provider: {provider}\nmigrations: {{ on_connect: true }}\n"
        ))
        // Beside the provider's folder, in the forms that it reads.
        .file("outside.json", r#"{"type": "sqlite", "path": "outside-canary.db"}"#)
        .file("outside/database", r#"{"type": "sqlite", "path": "outside-canary.db"}"#)
}

/// Attacks a provider by every id, by a header, a query and a path, also if the pattern of ids
/// allows all that it may.
async fn attack(provider: &str, start: impl Fn(TenantryBuilder) -> TenantryBuilder, found: bool) {
    for pattern in ["id_pattern: null", "id_pattern: \".*\""] {
        for (resolver, line, header) in [
            ("{ type: header }", "GET /api/v1/tenant/info", true),
            ("{ type: query }", "GET /api/v1/tenant/info?tenant=", false),
        ] {
            let builder = program(provider, &format!("{pattern}\n  resolver: {resolver}"));
            let server = start(builder).start().await.unwrap();
            for id in IDS {
                let answer = match header {
                    true => ask(&server, line, &[&format!("X-Tenant-ID: {id}")]).await,
                    false => {
                        ask(
                            &server,
                            &format!("{line}{}", id.replace('\\', "%5c").replace('?', "%3f")),
                            &[],
                        )
                        .await
                    }
                };
                // With any pattern some of them are ids, but of no tenant.
                let is_id = pattern.contains(".*") && matches!(id, "-" | "~root" | "C:outside" | "acme*" | "acme?x=y");
                match (is_id, found) {
                    (false, _) => answer.is_refused(400, "tenant_malformed"),
                    (true, true) => answer.is_refused(404, "tenant_unknown"),
                    (true, false) => answer.is_refused(503, "provider_unavailable"),
                }
                assert!(!answer.body.contains("root:"), "{id}: {answer:?}");
            }
            if found && header {
                let acme = ask(&server, INFO, &["X-Tenant-ID: acme"]).await;
                assert_eq!(acme.status, 200, "{acme:?}");
            }
            let data = server.folder().join("data/outside-canary.db");
            assert!(!data.exists(), "{provider} read what is outside");
        }
    }
}

const SECRET: &str = r#"{"type": "sqlite", "path": "acme.db"}"#;

#[tokio::test]
async fn no_id_leaves_the_folder_of_directory() {
    let start = |builder: TenantryBuilder| {
        builder
            .file("tenants/acme.json", SECRET)
            .file("tenants/inside/database", SECRET)
    };
    attack("{ type: directory, path: tenants }", start, true).await;
}

#[tokio::test]
async fn no_id_leaves_the_map_of_file() {
    let start = |builder: TenantryBuilder| builder.file("tenants.yaml", format!("acme: {SECRET}\n"));
    attack("{ type: file, path: tenants.yaml }", start, true).await;
}

#[tokio::test]
async fn no_id_leaves_the_map_of_static() {
    let start = |builder: TenantryBuilder| builder;
    attack(
        &format!("{{ type: static, tenants: {{ acme: {SECRET} }} }}"),
        start,
        true,
    )
    .await;
}

#[tokio::test]
async fn no_id_reads_another_variable_of_env() {
    let start = |builder: TenantryBuilder| {
        builder
            .env("TENANT_ACME_DATABASE", SECRET)
            .env("OUTSIDE_DATABASE", SECRET)
    };
    attack("{ type: env }", start, true).await;
    // Two ids never share a variable.
    let server = program("{ type: env }", "id_pattern: \".*\"")
        .env("TENANT_A__B_DATABASE", SECRET)
        .start()
        .await
        .unwrap();
    for other in ["a__b", "A-B", "a_b", "a_-b", "A__B"] {
        ask(&server, INFO, &[&format!("X-Tenant-ID: {other}")])
            .await
            .is_refused(404, "tenant_unknown");
    }
    assert_eq!(ask(&server, INFO, &["X-Tenant-ID: a-b"]).await.status, 200);
}

#[tokio::test]
async fn no_id_leaves_the_prefix_of_aws() {
    // Nothing listens there: an id that is refused was not looked up, and one that is looked up is
    // an outage.
    let start = |builder: TenantryBuilder| {
        builder
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_MAX_ATTEMPTS", "1")
    };
    attack(
        "{ type: aws-secrets-manager, region: eu-central-1, endpoint_url: \"http://127.0.0.1:9\" }",
        start,
        false,
    )
    .await;
}
