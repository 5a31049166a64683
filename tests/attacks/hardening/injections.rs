//! SQL in places that reach a statement, and cursors that the server did not make for this tenant.

use serde_json::{Value, json};

use super::{ACME, USERS, ZETA, ask, send_json};
use crate::raw::start;

const SQL: [&str; 8] = [
    "' OR '1'='1",
    "1; DROP TABLE users; --",
    "') UNION SELECT sql FROM sqlite_master --",
    "\\'; DELETE FROM users; --",
    "x' AND 1=(SELECT load_extension('evil'))--",
    "$1 ?1 :id @id",
    "/**/OR/**/1=1",
    "\"; ATTACH DATABASE 'zeta.db' AS z; --",
];

async fn count(server: &tenantry_test_support::TenantryProcess, tenant: &str) -> usize {
    let answer = ask(server, &format!("GET {USERS}?limit=200"), &[tenant]).await;
    let page: Value = serde_json::from_str(&answer.body).unwrap();
    page["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn sql_in_a_value_is_a_value() {
    let server = start("").await;
    for (number, sql) in SQL.iter().enumerate() {
        let user = json!({"name": sql, "email": format!("sql{number}@acme.example")});
        let answer = send_json(&server, &format!("POST {USERS}"), user.to_string().as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let created: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(created["name"], *sql);
    }
    assert_eq!(
        (count(&server, ACME).await, count(&server, ZETA).await),
        (3 + SQL.len(), 3)
    );
    for sql in SQL {
        let user = json!({"name": "x", "email": sql});
        send_json(&server, &format!("POST {USERS}"), user.to_string().as_bytes())
            .await
            .is_refused(400, "request_invalid");
    }
}

#[tokio::test]
async fn sql_in_a_path_or_a_query_is_refused() {
    let server = start("").await;
    for id in [
        "1%20OR%201=1",
        "1;DELETE%20FROM%20users",
        "1'",
        "-1",
        "0x1",
        "1e3",
        "1.0",
        "%201",
        "NaN",
        "9223372036854775808",
        "99999999999999999999999999",
        "%F0%9F%92%A9",
        "null",
    ] {
        for method in ["GET", "DELETE"] {
            ask(&server, &format!("{method} {USERS}/{id}"), &[ACME])
                .await
                .is_refused(400, "request_invalid");
        }
    }
    ask(&server, &format!("GET {USERS}/9223372036854775807"), &[ACME])
        .await
        .is_refused(404, "not_found");
    for query in [
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=1e2",
        "limit=999999999999999999999",
        "limit=1;DROP",
        "limit=",
        "limit=1&limit=200",
        "limit=10%00",
        "after=",
        "after=1",
        "after=%27%20OR%201=1",
        "after=../../etc/passwd",
    ] {
        ask(&server, &format!("GET {USERS}?{query}"), &[ACME])
            .await
            .is_refused(400, "request_invalid");
    }
    assert_eq!(count(&server, ACME).await, 3);
}

#[tokio::test]
async fn a_forged_cursor_shows_no_other_tenant() {
    let server = start("").await;
    let first = ask(&server, &format!("GET {USERS}?limit=1"), &[ZETA]).await;
    let page: Value = serde_json::from_str(&first.body).unwrap();
    let cursor = page["next"].as_str().unwrap();
    // A cursor is a place in a list and no right: with another tenant's, a tenant gets its own rows.
    let own = ask(&server, &format!("GET {USERS}?after={cursor}"), &[ACME]).await;
    assert!(own.status == 200 && own.body.contains("jane@acme.com"), "{own:?}");
    own.shows_nothing();
    let far = ask(&server, &format!("GET {USERS}?after=AX{}", &cursor[2..]), &[ACME]).await;
    assert_eq!((far.status, far.body.as_str()), (200, r#"{"items":[],"next":null}"#));
    for forged in [
        cursor.to_lowercase(),
        format!("{cursor}A"),
        format!("{cursor}="),
        cursor[1..].to_owned(),
        "Af__________".to_owned(),
        "AgAAAAAAAAAA".to_owned(),
        "A".repeat(5_000),
        "%00".to_owned(),
    ] {
        let answer = ask(&server, &format!("GET {USERS}?after={forged}"), &[ACME]).await;
        answer.is_refused(400, "request_invalid");
    }
}
