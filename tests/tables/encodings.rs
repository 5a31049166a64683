//! Tables and databases that are not in UTF-8.

use reqwest::Method;
use serde_json::{Map, Value, json};
use tenantry_test_support::PostgresServer;

use crate::shop::{Answer, Role, Shop, secret};

const TABLES: &str = "\
tables:
  names:
    key: [name]
    columns: { name: { type: text }, n: { type: int4, default: true } }
    allow: { clerk: { read: {}, create: {}, update: {}, delete: {} } }
";

const MYSQL: &str = "\
CREATE TABLE names (name varchar(20) PRIMARY KEY, n integer NOT NULL DEFAULT 0) CHARACTER SET latin1;
INSERT INTO names (name, n) VALUES ('cave', 1), ('plain', 3);
INSERT INTO names (name, n) VALUES (_utf8mb4 0x636166c3a9, 2);
";

/// Databases whose texts are in latin1: a table of MySQL, and a whole database of PostgreSQL.
async fn latin() -> Shop {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("latin").await.unwrap();
    let (name, owner) = (&tenant.database, &tenant.user);
    for sql in [
        format!("DROP DATABASE \"{name}\""),
        format!("CREATE DATABASE \"{name}\" OWNER \"{owner}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"),
    ] {
        server.psql("postgres", &sql).await.unwrap();
    }
    let mut tenants = Map::new();
    tenants.insert("postgresql".to_owned(), server.secret(&tenant));
    tenants.insert("mysql".to_owned(), secret("mysql", "latin").await);
    let postgresql = MYSQL
        .replace(" CHARACTER SET latin1", "")
        .replace("_utf8mb4 0x636166c3a9", "'caf' || chr(233)");
    let migrations = [("mysql", MYSQL), ("postgresql", postgresql.as_str())];
    Shop::over(tenants, json!({}), TABLES, &migrations).await
}

const KINDS: [&str; 2] = ["postgresql", "mysql"];

async fn send(shop: &Shop, kind: &str, method: Method, path: &str, prefer: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string());
    let prefer = [("Prefer", prefer)];
    shop.send(kind, Role::Clerk, method, path, &prefer, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_latin1_is_found_changed_and_merged() {
    let shop = latin().await;
    let all = "return=representation";
    for kind in KINDS {
        for (path, expected) in [
            ("names?select=n&name=eq.café", json!([{"n": 2}])),
            ("names?select=n&name=neq.café&order=n", json!([{"n": 1}, {"n": 3}])),
            (
                "names?select=n&name=in.(café,plain)&order=n",
                json!([{"n": 2}, {"n": 3}]),
            ),
            ("names?select=n&name=like.*é", json!([{"n": 2}])),
            (
                "names?select=n&name=isdistinct.café&order=n",
                json!([{"n": 1}, {"n": 3}]),
            ),
        ] {
            let answer = send(&shop, kind, Method::GET, path, "", None).await;
            assert_eq!((answer.status, answer.json()), (200, expected), "{kind}: {path}");
        }
        let changed = json!([{"name": "café", "n": 5}]);
        let body = || Some(json!({"n": 5}));
        let answer = send(&shop, kind, Method::PATCH, "names?name=eq.café", all, body()).await;
        assert_eq!((answer.status, answer.json()), (200, changed), "{kind}");
        let row = json!([{"name": "été", "n": 6}]);
        let answer = send(&shop, kind, Method::POST, "names", all, Some(row.clone())).await;
        assert_eq!((answer.status, answer.json()), (201, row), "{kind}");
        let row = json!([{"name": "café", "n": 7}]);
        let merge = "resolution=merge-duplicates, return=representation";
        let answer = send(&shop, kind, Method::POST, "names", merge, Some(row.clone())).await;
        assert_eq!((answer.status, answer.json()), (200, row.clone()), "{kind}");
        let answer = send(&shop, kind, Method::DELETE, "names?name=eq.café", all, None).await;
        assert_eq!((answer.status, answer.json()), (200, row), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_character_that_an_encoding_lacks_is_a_clients_fault() {
    let shop = latin().await;
    for kind in KINDS {
        for test in [
            "eq.😀",
            "neq.😀",
            "gt.😀",
            "in.(😀,a)",
            "like.😀*",
            "ilike.😀*",
            "isdistinct.😀",
        ] {
            let answer = send(&shop, kind, Method::GET, &format!("names?name={test}"), "", None).await;
            match answer.status {
                200 => {}
                status => assert_eq!(
                    (status, &answer.json()["code"]),
                    (400, &"22P05".into()),
                    "{kind}: {answer:?}"
                ),
            }
        }
        let body = Some(json!({"name": "😀"}));
        let answer = send(&shop, kind, Method::POST, "names", "", body).await;
        assert_eq!(answer.status, 400, "{kind}: {answer:?}");
    }
}
