//! Requests that two servers in a row would cut at different places, so that the second part becomes another client's.

use super::{ACME, USERS};
use crate::raw::{exchange, start};

/// What is to be taken for a request of its own, and must not be.
const SMUGGLED: &str = "GET /api/v1/tenant/info HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: zeta\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn no_part_of_a_body_becomes_a_request() {
    let server = start("").await;
    let length = SMUGGLED.len();
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    let whole = format!("Content-Length: {}", chunked.len());
    for (framing, body) in [
        (format!("{whole}\r\nTransfer-Encoding: chunked"), chunked.as_str()),
        (format!("Transfer-Encoding: chunked\r\n{whole}"), &chunked),
        ("Content-Length: 0\r\nContent-Length: 9".to_owned(), SMUGGLED),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), SMUGGLED),
        (format!("Content-Length: {length}, 0"), SMUGGLED),
        (format!("Content-Length: +{length}"), SMUGGLED),
        (format!("Content-Length: -{length}"), SMUGGLED),
        (format!("Content-Length: 0x{length:x}"), SMUGGLED),
        ("Content-Length: 99999999999999999999".to_owned(), SMUGGLED),
        ("Content-Length:".to_owned(), SMUGGLED),
        ("Transfer-Encoding: xchunked".to_owned(), &chunked),
        ("Transfer-Encoding: chunked, identity".to_owned(), &chunked),
        (
            "Transfer-Encoding: identity, chunked\r\nTransfer-Encoding: x".to_owned(),
            &chunked,
        ),
        ("Transfer-Encoding : chunked".to_owned(), &chunked),
        ("Transfer-Encoding:\r\n chunked".to_owned(), &chunked),
        ("X: y\nTransfer-Encoding: chunked, x".to_owned(), &chunked),
    ] {
        let head = format!(
            "POST {USERS} HTTP/1.1\r\nHost: x\r\n{ACME}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        );
        let answer = exchange(&server, format!("{head}{body}").as_bytes()).await;
        assert_eq!(answer.status, 400, "{framing}: {answer:?}");
        let all = answer.head + &answer.body;
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{framing}: {all}");
        assert!(!all.contains("zeta"), "{framing}: {all}");
    }
}

#[tokio::test]
async fn a_chunk_whose_size_is_no_number_ends_the_connection() {
    let server = start("").await;
    for size in ["x", "-1", "0x5", "5 5", "ffffffffffffffffff", ""] {
        let request = format!(
            "POST {USERS} HTTP/1.1\r\nHost: x\r\n{ACME}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"
        );
        let answer = exchange(&server, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{size:?}: {answer:?}");
        assert!(!answer.body.contains("zeta"), "{size:?}: {answer:?}");
    }
}
