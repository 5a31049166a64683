//! Wrong bodies: each fault is reported, no value is repeated, and nothing is written.

use reqwest::Method;
use serde_json::{Value, json};

use super::{USERS, on_every_database, path, user};
use crate::{client::send, databases::Database};

/// The place of each fault, and the beginning of its message.
type Faults = &'static [(&'static str, &'static str)];

on_every_database!(every_fault_of_a_body_is_reported_and_nothing_is_written);

async fn every_fault_of_a_body_is_reported_and_nothing_is_written(database: Database) {
    let (_server, client) = database.serve(&["acme"]).await;
    let client = client.tenant("acme");
    let kept = client
        .post(USERS, &user("Kept", "kept@x.example"))
        .await
        .expect(201)
        .json();
    let long_name = json!({"name": "c".repeat(201), "email": "canary@x.example"}).to_string();
    let long_email = json!({"name": "canary", "email": format!("{}@x.example", "c".repeat(260))}).to_string();
    let cases: &[(&[u8], Faults)] = &[
        (b"{}", &[("/name", "is missing"), ("/email", "is missing")]),
        (br#"{"name": "canary"}"#, &[("/email", "is missing")]),
        (
            br#"{"name": "", "email": ""}"#,
            &[("/name", "is empty"), ("/email", "is not an email address")],
        ),
        (br#"{"name": "  ", "email": "a@x.example"}"#, &[("/name", "is empty")]),
        (
            br#"{"name": 5, "email": null}"#,
            &[("/name", "is not a string"), ("/email", "is not a string")],
        ),
        (
            br#"{"name": ["canary"], "email": {"canary": 1}}"#,
            &[("/name", "is not a string"), ("/email", "is not a string")],
        ),
        (
            br#"{"name": "canary\u0000", "email": "a@x.example"}"#,
            &[("/name", "holds a control character")],
        ),
        (
            br#"{"name": "canary\n", "email": "a@x.example"}"#,
            &[("/name", "holds a control character")],
        ),
        (
            br#"{"name": "canary", "email": "a@x.example", "role": "canary", "id": 7}"#,
            &[("/role", "is not known"), ("/id", "is not known")],
        ),
        (
            br#"{"name": "canary", "email": "a@x.example", "a/b~c": 1}"#,
            &[("/a~1b~0c", "is not known")],
        ),
        (
            br#"{"Name": "canary", "email": "canary"}"#,
            &[
                ("/name", "is missing"),
                ("/email", "is not an email"),
                ("/Name", "is not known"),
            ],
        ),
        (long_name.as_bytes(), &[("/name", "is longer than 200 characters")]),
        (long_email.as_bytes(), &[("/email", "is longer than 254 characters")]),
        (b"[]", &[("", "is not an object")]),
        (b"null", &[("", "is not an object")]),
        (b"\"canary\"", &[("", "is not an object")]),
        (b"", &[("", "is not JSON")]),
        (b"{", &[("", "is not JSON")]),
        (
            br#"{"name": "canary", "email": "a@x.example"} canary"#,
            &[("", "is not JSON")],
        ),
        (
            br#"{"name": "canary", "email": "a@x.example",}"#,
            &[("", "is not JSON")],
        ),
        (
            b"{\"name\": \"\xff\xfe\", \"email\": \"a@x.example\"}",
            &[("", "is not JSON")],
        ),
        (br#"{"name": "\ud800", "email": "a@x.example"}"#, &[("", "is not JSON")]),
    ];
    for (body, expected) in cases {
        for (method, path) in [(Method::POST, USERS.to_owned()), (Method::PUT, path(&kept))] {
            let shown = String::from_utf8_lossy(body);
            let request = client
                .request(method, &path)
                .header("Content-Type", "application/json")
                .body(body.to_vec());
            let answer = send(request).await;
            let faults = answer.faults("request_invalid");
            assert_eq!(
                (answer.status, faults.len()),
                (400, expected.len()),
                "{shown}: {faults:?}"
            );
            for (place, detail) in *expected {
                let told = faults.iter().any(|(at, told)| at == place && told.starts_with(detail));
                assert!(told, "{shown}: {faults:?} lacks {place} {detail}");
            }
            assert!(!answer.text().contains("canary"), "{}", answer.text());
        }
    }
    for email in [
        "canary",
        "@x.example",
        "canary@",
        "canary@localhost",
        "a b@x.example",
        "a@b@x.example",
        "a@x..example",
        ".a@x.example",
        "a.@x.example",
        "a@-x.example",
        "\"a b\"@x.example",
        "a@[127.0.0.1]",
        "Ann <a@x.example>",
        "é@x.example",
        "a@exämple.com",
        " a@x.example",
        "a@x.example ",
    ] {
        let answer = client.post(USERS, &user("Ann", email)).await;
        assert_eq!(
            answer.faults("request_invalid"),
            [("/email".to_owned(), "is not an email address".to_owned())],
            "{email}"
        );
    }
    let listed = client.get(USERS).await.expect(200).json();
    assert_eq!(listed["items"], Value::Array(vec![kept]));
}
