//! The URLs that answers name, and the parameters that belong to something else.

use serde_json::json;
use tenantry_test_support::{TenantryBuilder, TenantryProcess};

const TABLES: &str = "\
tables:
  notes:
    key: [id]
    columns: { id: { type: int8 }, body: { type: text } }
    allow: { anon: { read: {}, create: {}, update: {} } }
";

/// A server whose clients name their tenant in the query.
fn program(parameter: &str) -> TenantryBuilder {
    let config = json!({
        "tenancy": {
            "resolver": {"type": "query", "name": parameter},
            "provider": {"type": "static", "tenants": {"acme": {"type": "sqlite", "path": "acme.db"}}},
        },
        "migrations": {"on_connect": true, "dir": "migrations"},
        "rest": {"tables": "tables.yaml"},
    });
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .file("tables.yaml", TABLES)
        .file(
            "migrations/sqlite/0001_tables.sql",
            "CREATE TABLE notes (id integer NOT NULL PRIMARY KEY, body text NOT NULL);",
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_of_an_answer_names_the_tenant_and_each_parameter_once() {
    let server = program("tenant").start().await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}/rest/v1/{path}", server.base_url());
    for id in 1..=3 {
        let post = http
            .post(url("notes?tenant=acme"))
            .json(&json!({"id": id, "body": "a"}));
        let answer = post.header("Prefer", "return=headers-only").send().await.unwrap();
        assert_eq!(answer.status(), 201);
        assert_eq!(
            answer.headers()["location"],
            format!("/rest/v1/notes?tenant=acme&id=eq.{id}")
        );
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let found = http
            .get(format!("{}{location}", server.base_url()))
            .send()
            .await
            .unwrap();
        assert_eq!(found.status(), 200);
        assert_eq!(found.text().await.unwrap(), format!("[{{\"id\":{id},\"body\":\"a\"}}]"));
    }
    let link = |answer: &reqwest::Response| {
        let link = answer.headers()["link"].to_str().unwrap();
        link.trim_start_matches('<').split('>').next().unwrap().to_owned()
    };
    let first = http
        .get(url("notes?tenant=acme&select=id&limit=1"))
        .send()
        .await
        .unwrap();
    let second = link(&first).replace("after=", "%61fter=");
    let second = http.get(format!("{}{second}", server.base_url())).send().await.unwrap();
    let third = link(&second);
    assert_eq!(
        (third.matches("after=").count(), third.contains("%61")),
        (1, false),
        "{third}"
    );
    let third = http.get(format!("{}{third}", server.base_url())).send().await.unwrap();
    assert_eq!(third.text().await.unwrap(), "[{\"id\":3}]");
}

#[tokio::test]
async fn a_resolver_that_hides_a_parameter_is_reported() {
    let checked = program("select").run(["check"]).await.unwrap();
    let said = format!("{checked:?}");
    assert!(said.contains("no request can use `select`"), "{said}");
    let checked = program("tenant").run(["check"]).await.unwrap();
    let said = format!("{checked:?}");
    assert!(!said.contains("no request can use"), "{said}");
}
