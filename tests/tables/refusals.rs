//! What the database itself refuses, and answers that are too large: the client's fault, never the
//! server's.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::shop::{Answer, Role, Shop, secret};

const KINDS: [&str; 3] = ["sqlite", "postgresql", "mysql"];

async fn guarded() -> Shop {
    guarded_for("120s").await
}

/// With this time for each request.
async fn guarded_for(request_timeout: &str) -> Shop {
    let mut tenants = Map::new();
    for kind in KINDS {
        tenants.insert(kind.to_owned(), secret(kind, "guarded").await);
    }
    let limit = json!({"max_answer": "64KiB"});
    let config = json!({
        "drivers": {"sqlite": limit, "postgresql": limit, "mysql": limit},
        "server": {"request_timeout": request_timeout},
        // Times that a busy machine keeps.
        "tenancy": {"pools": {"acquire_timeout": "60s", "connect_timeout": "60s"}},
    });
    let migrations = [
        ("sqlite", include_str!("refusals/sqlite.sql")),
        ("postgresql", include_str!("refusals/postgresql.sql")),
        ("mysql", include_str!("refusals/mysql.sql")),
    ];
    Shop::over(tenants, config, include_str!("refusals/tables.yaml"), &migrations).await
}

async fn send(shop: &Shop, kind: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let headers = [("Prefer", "return=representation")];
    let body = body.map(|body| body.to_string());
    shop.send(kind, Role::Clerk, method, path, &headers, body).await
}

async fn no_error_is_logged(shop: &Shop) {
    let logs = shop.server.logs().await.unwrap();
    let errors: Vec<&str> = logs.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_too_large_is_undone() {
    let shop = guarded().await;
    let text = "x".repeat(1000);
    for kind in KINDS {
        let rows: Vec<Value> = (1..=200).map(|id| json!({"id": id, "body": text, "n": 0})).collect();
        let headers = [("Prefer", "return=minimal")];
        let body = Some(Value::from(rows).to_string());
        let made = shop
            .send(kind, Role::Clerk, Method::POST, "large", &headers, body)
            .await;
        assert_eq!(made.status, 201, "{kind}: {made:?}");
        let more: Vec<Value> = (201..=400).map(|id| json!({"id": id, "body": text, "n": 0})).collect();
        for (method, path, body) in [
            (Method::GET, "large", None),
            (Method::PATCH, "large?id=gt.0", Some(json!({"n": 1}))),
            (Method::DELETE, "large?id=gt.0", None),
            (Method::POST, "large", Some(more.into())),
        ] {
            let answer = send(&shop, kind, method, path, body).await;
            let problem = answer.json();
            assert_eq!(
                (answer.status, &problem["code"]),
                (400, &"54000".into()),
                "{kind}: {problem}"
            );
            assert!(problem["hint"].is_string(), "{problem}");
        }
        let left = send(&shop, kind, Method::GET, "large?select=id&n=eq.0", None).await;
        assert_eq!(left.json().as_array().map(Vec::len), Some(200), "{kind}");
    }
    no_error_is_logged(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_is_too_large_is_not_refused_after_it_was_changed() {
    let shop = guarded().await;
    let text = "x".repeat(65_500);
    for kind in KINDS {
        let row = Some(json!({"id": 1, "body": text, "n": 0}));
        let answer = send(&shop, kind, Method::POST, "large", row.clone()).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status, &problem["code"]),
            (400, &"54000".into()),
            "{kind}: {problem}"
        );
        let count = send(&shop, kind, Method::GET, "large?select=id", None).await;
        assert_eq!(count.json(), json!([]), "{kind}");
        let body = row.map(|row| row.to_string());
        let made = shop.send(kind, Role::Clerk, Method::POST, "large", &[], body).await;
        assert_eq!(made.status, 201, "{kind}: {made:?}");
        for (method, body) in [(Method::PATCH, Some(json!({"n": 1}))), (Method::DELETE, None)] {
            let answer = send(&shop, kind, method.clone(), "large?id=eq.1", body).await;
            let left = send(&shop, kind, Method::GET, "large?select=n", None).await;
            let said = format!("{kind}: {method}: {answer:?}, then {left:?}");
            match answer.status {
                400 => assert_eq!(left.json(), json!([{"n": 0}]), "{said}"),
                status => assert_eq!(
                    (status, &answer.json()["code"]),
                    (503, &"outcome_unknown".into()),
                    "{said}"
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_the_database_is_a_refusal() {
    let shop = guarded().await;
    let row = |id: i64| Some(json!({"id": id, "name": "a"}));
    for (kind, path, id, status, code) in [
        ("postgresql", "policed", 100, 403, "42501"),
        ("postgresql", "locked", 1, 403, "42501"),
        ("postgresql", "few", 100, 400, "44000"),
        ("mysql", "few", 100, 400, "44000"),
        ("postgresql", "watched", 1, 400, "P0001"),
        ("postgresql", "watched", 2, 400, "P0001"),
        ("postgresql", "watched", 3, 400, "P0001"),
        ("postgresql", "watched", 4, 403, "42501"),
        ("mysql", "watched", 1, 400, "P0001"),
        ("mysql", "watched", 2, 400, "P0001"),
        ("postgresql", "policed?on_conflict=name", 1, 400, "42P10"),
        ("postgresql", "deferred?on_conflict=name", 1, 400, "42P10"),
        ("postgresql", "deferred?on_conflict=id", 1, 400, "42P10"),
    ] {
        let headers = [("Prefer", "resolution=merge-duplicates")];
        let headers = if path.contains("on_conflict") {
            &headers[..]
        } else {
            &[]
        };
        let body = row(id).map(|row| row.to_string());
        let answer = shop.send(kind, Role::Clerk, Method::POST, path, headers, body).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status, &problem["code"]),
            (status, &code.into()),
            "{kind}: {path} {id}: {problem}"
        );
        assert!(!answer.body.contains("secret"), "{problem}");
    }
    let answer = shop.get("postgresql", Role::Anon, "unreadable").await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (401, "Bearer"),
        "{answer:?}"
    );
    // A missing right is the operator's matter, and so is a declared key that is deferrable.
    let logs = shop.server.logs().await.unwrap();
    let errors = logs.lines().filter(|line| line.contains("ERROR"));
    let others: Vec<&str> = errors
        .filter(|line| !line.contains("permission_denied") && !line.contains("code=\"55000\""))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// Text that cannot be compressed to fit an index.
fn random_text(length: usize) -> String {
    let mut state: u64 = 1;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    });
    letters.take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_beyond_the_limits_of_the_database_is_a_refusal() {
    let shop = guarded().await;
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!("{{\"id\": 1, \"info\": {nested}}}");
    // SQLite keeps the text as it is. MariaDB's JSON is a text with a check.
    for (kind, status, code) in [
        ("sqlite", 201, None),
        ("postgresql", 400, Some("54000")),
        ("mysql", 400, Some("23514")),
    ] {
        let body = Some(deep.clone());
        let answer = shop.send(kind, Role::Clerk, Method::POST, "indexed", &[], body).await;
        assert_eq!(answer.status, status, "{kind}: {answer:?}");
        if let Some(code) = code {
            assert_eq!(answer.json()["code"], code, "{kind}: {answer:?}");
        }
    }
    let large = Some(json!({"id": 2, "name": random_text(12_000)}));
    let answer = send(&shop, "postgresql", Method::POST, "indexed", large).await;
    let problem = answer.json();
    assert_eq!((answer.status, &problem["code"]), (400, &"54000".into()), "{problem}");
    no_error_is_logged(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_outlasts_its_request_has_an_unknown_outcome() {
    let shop = guarded_for("5s").await;
    let answer = send(&shop, "postgresql", Method::POST, "slow", Some(json!({"id": 1}))).await;
    let problem = answer.json();
    assert_eq!(
        (answer.status, &problem["code"]),
        (503, &"outcome_unknown".into()),
        "{problem}"
    );
    assert_eq!(answer.header("retry-after"), "");
    let read = send(&shop, "postgresql", Method::GET, "slowly", None).await;
    assert_eq!((read.status, &read.json()["code"]), (504, &"request_timeout".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_below_the_tables_has_the_members_that_clients_read() {
    let shop = Shop::of(
        &["sqlite"],
        1000,
        include_str!("refusals/tables.yaml"),
        &[("sqlite", include_str!("refusals/sqlite.sql"))],
    )
    .await;
    let is_read_by_clients = |answer: &Answer| {
        let problem = answer.json();
        problem["message"].is_string() && problem.get("details").is_some() && problem.get("hint").is_some()
    };
    let allow = "DELETE, GET, HEAD, PATCH, POST, PUT";
    for (method, path, status, code, allowed) in [
        (Method::POST, "", 405, "method_not_allowed", "GET, HEAD"),
        (Method::POST, "rpc/x", 404, "not_found", ""),
        (Method::OPTIONS, "large", 405, "method_not_allowed", allow),
        (Method::PUT, "large?n=eq.1", 405, "PGRST105", allow),
    ] {
        let answer = send(&shop, "sqlite", method, path, Some(json!({"id": 1}))).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &code.into()),
            "{answer:?}"
        );
        let mut methods: Vec<&str> = answer.header("allow").split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods.join(", "), allowed, "{answer:?}");
        assert!(is_read_by_clients(&answer), "{path}: {}", answer.body);
    }
    for (method, header, profile, status) in [
        (Method::GET, "Accept-Profile", "private", 406),
        (Method::GET, "Accept-Profile", "public", 200),
        (Method::GET, "Content-Profile", "private", 200),
        (Method::PATCH, "Content-Profile", "private", 406),
        (Method::PATCH, "Content-Profile", "public", 204),
    ] {
        let body = Some(json!({"n": 1}).to_string());
        let path = "large?id=eq.1";
        let answer = shop
            .send("sqlite", Role::Clerk, method, path, &[(header, profile)], body)
            .await;
        assert_eq!(answer.status, status, "{header}: {profile}: {answer:?}");
        if status == 406 {
            assert_eq!(answer.json()["code"], "PGRST106");
        }
    }
}
