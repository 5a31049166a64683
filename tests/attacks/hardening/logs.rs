//! Attempts to forge lines of the log, or to make a terminal do something, with what a client sends.

use std::time::Duration;

use super::{ACME, INFO, ask};
use crate::raw::start;

/// What would begin a line of its own, or means something to a terminal.
const TEXTS: [&str; 7] = [
    "\u{1b}[2J\u{1b}[31mforged",
    "a\u{2028}forged",
    "a\u{85}forged",
    "a\tforged",
    "a\u{202e}forged",
    "{\"forged\":true}",
    "\u{7f}forged",
];

#[tokio::test]
async fn what_a_client_sends_begins_no_line_of_the_log() {
    for format in ["text", "json"] {
        let server = start(&format!("logging: {{ level: debug, format: {format} }}")).await;
        for text in TEXTS {
            for header in [
                "X-Request-ID",
                "X-Tenant-ID",
                "User-Agent",
                "Host",
                "Origin",
                "traceparent",
                "X-Forwarded-For",
                "Authorization",
            ] {
                let answer = ask(&server, INFO, &[&format!("{header}: {text}")]).await;
                assert!(matches!(answer.status, 400 | 401), "{header} {text:?}: {answer:?}");
                assert!(!answer.header("x-request-id").contains(&text), "{answer:?}");
            }
        }
        for path in [
            "/%0aforged",
            "/%0d%0aforged",
            "/%1b[2Jforged",
            "/%e2%80%a8forged",
            "/x?y=%0aforged",
        ] {
            ask(&server, &format!("GET {path}"), &[ACME])
                .await
                .is_refused(404, "not_found");
        }
        for id in [
            format!("X-Request-ID: {}", "forged".repeat(40)),
            "X-Request-ID: forged id".to_owned(),
        ] {
            let answer = ask(&server, INFO, &[ACME, &id]).await;
            assert_eq!(answer.status, 200);
            assert!(!answer.header("x-request-id")[0].contains("forged"), "{answer:?}");
        }
        let twice = ask(&server, INFO, &[ACME, "X-Request-ID: forged1", "X-Request-ID: forged2"]).await;
        assert!(!twice.header("x-request-id")[0].contains("forged"), "{twice:?}");

        let last = "X-Request-ID: the-last-of-the-tests";
        assert_eq!(ask(&server, INFO, &[ACME, last]).await.status, 200);
        let log = server
            .logs_with("the-last-of-the-tests", Duration::from_secs(10))
            .await
            .unwrap();
        for line in log.lines() {
            assert!(!line.starts_with("forged"), "{line}");
            let special = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
            assert!(!line.contains(special), "{line:?}");
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line.get("forged").is_none(), "{line}");
            }
        }
    }
}
