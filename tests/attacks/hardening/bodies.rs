//! Bodies that are to exhaust a parser, or that two parsers read differently.

use super::{ACME, INFO, USERS, ask, send_body, send_json};
use crate::raw::start;

#[tokio::test]
async fn a_body_that_is_a_bomb_or_no_json_is_refused() {
    let server = start("").await;
    let post = format!("POST {USERS}");
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let bodies: [(&str, Vec<u8>); 14] = [
        ("arrays in arrays", nested("[", "]", 100_000).into()),
        ("objects in objects", nested("{\"name\":", "1}", 100_000).into()),
        ("an open end", "[".repeat(900_000).into()),
        ("a long number", format!("{{\"name\":{}}}", "9".repeat(500_000)).into()),
        ("a number beyond every type", b"{\"name\":1e999999}".to_vec()),
        (
            "a byte that is no UTF-8",
            b"{\"name\":\"\xff\",\"email\":\"a@b.example\"}".to_vec(),
        ),
        (
            "half a surrogate",
            br#"{"name":"\ud800","email":"a@b.example"}"#.to_vec(),
        ),
        ("a NUL", br#"{"name":"a\u0000b","email":"a@b.example"}"#.to_vec()),
        (
            "a byte order mark",
            "\u{feff}{\"name\":\"a\",\"email\":\"a@b.example\"}".into(),
        ),
        (
            "two documents",
            br#"{"name":"a","email":"a@b.example"}{"name":"b"}"#.to_vec(),
        ),
        ("a comment", br#"{"name":"a",/* */"email":"a@b.example"}"#.to_vec()),
        (
            "a member too many",
            br#"{"name":"a","email":"a@b.example","id":1,"tenant":"zeta"}"#.to_vec(),
        ),
        (
            "a prototype",
            br#"{"name":"a","email":"a@b.example","__proto__":{"admin":true}}"#.to_vec(),
        ),
        (
            "a header's end",
            br#"{"name":"a","email":"a@b.example\r\nBcc: x@y.example"}"#.to_vec(),
        ),
    ];
    for (what, body) in bodies {
        let answer = send_json(&server, &post, &body).await;
        assert_eq!(
            answer.problem(),
            (400, "request_invalid".to_owned()),
            "{what}: {answer:?}"
        );
        answer.shows_nothing();
    }
    assert_eq!(ask(&server, INFO, &[ACME]).await.status, 200);
}

#[tokio::test]
async fn a_body_of_another_type_or_coding_is_refused() {
    let server = start("").await;
    let post = format!("POST {USERS}");
    let user = br#"{"name":"a","email":"a@b.example"}"#;
    // What a page of another site may send without asking first.
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonx",
        "",
    ] {
        let header = format!("Content-Type: {content_type}");
        send_body(&server, &post, &[ACME, &header], user)
            .await
            .is_refused(415, "unsupported_media_type");
    }
    send_body(&server, &post, &[ACME], user)
        .await
        .is_refused(415, "unsupported_media_type");
    // The same member twice: the last one counts, as for nearly every reader of JSON, and nothing else happens.
    let twice = br#"{"name":"a","email":"a@b.example","name":"b"}"#;
    let answer = send_json(&server, &post, twice).await;
    assert!(
        answer.status == 201 && answer.body.contains("\"name\":\"b\""),
        "{answer:?}"
    );
}
