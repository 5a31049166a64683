//! Passwords and user names, with libpq as the referee.

use serde_json::json;
use tenantry_core::DriverErrorKind;
use tenantry_test_support::PostgresServer;

use super::connect;

/// What becomes of a login that libpq accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    LogsIn,
    /// `secret_invalid`, at `password`.
    Refused,
}
use Outcome::{LogsIn, Refused};

const PASSWORDS: &[(&str, Outcome)] = &[
    ("canary plain", LogsIn),
    (" canary ", LogsIn),
    ("canary'\"\\;--%/@?#&=,:", LogsIn),
    ("canary \u{e9}\u{df}\u{4e2d}", LogsIn),
    ("canary\u{a0}no-break space", LogsIn),
    ("can\u{ad}ary soft hyphen", LogsIn),
    ("canary e\u{301} \u{fb01}", LogsIn),
    ("\u{627}\u{628}\u{627}", LogsIn),
    ("canary\u{feff}\u{200b}", LogsIn),
    ("canary \u{1f600}", Refused),
    ("canary \u{627}\u{644}\u{639}", Refused),
    ("canary\ttab", Refused),
    ("canary\r\n", Refused),
    ("canary\u{7f}", Refused),
    ("canary \u{e000}", Refused),
    ("canary a\u{340}", Refused),
    ("canary \u{2c7c}", Refused),
    ("\u{ad}", Refused),
];

const NAMES: &[&str] = &[
    "comma,x",
    "equals=x",
    "n=x,r=y",
    "emoji\u{1f600}",
    "with space",
    "quote'\"\\x",
    "\u{e9}t\u{e9}",
    "mixed\u{627}",
    "no\u{a0}break",
    "tab\tx",
    "at@slash/x",
];

struct Login<'a> {
    method: &'a str,
    name: &'a str,
    password: &'a str,
}

/// Makes the role, and sees that libpq logs in and what the driver does.
async fn check(server: &PostgresServer, login: &Login<'_>, expected: Outcome) {
    let quoted = |text: &str, quote: char| text.replace(quote, &format!("{quote}{quote}"));
    let role = quoted(login.name, '"');
    let (encryption, group) = match login.method {
        "scram" => ("scram-sha-256", None),
        "md5" => ("md5", Some("login_md5")),
        method => ("scram-sha-256", Some(method)),
    };
    let member = group.map_or(String::new(), |group| format!("IN ROLE {group}"));
    // psql reads backslashes only outside of quotes.
    let create = format!(
        "SET password_encryption = '{encryption}'; DROP ROLE IF EXISTS \"{role}\"; \
         CREATE ROLE \"{role}\" LOGIN PASSWORD '{}' {member}",
        quoted(login.password, '\'')
    );
    server.psql("postgres", &create).await.unwrap();
    let word = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let conninfo = format!(
        "host={} port={} dbname=postgres user='{}'",
        server.host(),
        server.port(),
        word(login.name)
    );
    let who = PostgresServer::psql_by(&conninfo, login.password, "SELECT current_user").await;
    assert_eq!(who.unwrap(), login.name, "libpq by {}", login.method);
    let secret = json!({
        "type": "postgresql", "host": server.host(), "port": server.port(), "database": "postgres",
        "username": login.name, "password": login.password,
    });
    let about = format!("{} {:?} {:?}", login.method, login.name, login.password);
    match (connect(secret.clone()).await, expected) {
        (Ok(mut connection), LogsIn) => {
            let who = super::text(&mut connection, "SELECT current_user::text").await;
            assert_eq!(who, login.name, "{about}");
            let application = super::text(&mut connection, "SHOW application_name").await;
            assert_eq!(application, "tenantry", "{about}");
            connection.close().await;
        }
        (Err(error), Refused) => {
            assert_eq!(error.kind, DriverErrorKind::Invalid, "{about}: {error:?}");
            let told = std::error::Error::source(&error).unwrap().to_string();
            assert!(told.starts_with("`password` "), "{told}");
            let all = format!("{error} {error:?} {told}");
            let odd = login.password.chars().filter(|c| !c.is_ascii() || c.is_control());
            assert!(
                !all.contains("canary") && odd.clone().all(|c| !all.contains(c)),
                "{all}"
            );
        }
        (Ok(_), Refused) => panic!("{about}: logged in"),
        (Err(error), LogsIn) => panic!("{about}: {error:?}"),
    }
    if expected == LogsIn {
        let mut wrong = secret;
        wrong["password"] = json!("wrong");
        let error = connect(wrong).await.err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::Authentication, "{about}");
    }
}

#[tokio::test]
async fn a_login_that_libpq_accepts_is_accepted_or_explained() {
    let server = PostgresServer::start().await.unwrap();
    let groups = "CREATE ROLE login_md5; CREATE ROLE login_password";
    server.psql("postgres", groups).await.unwrap();
    let long = format!("canary{}", "x\u{e9}".repeat(500));
    for method in ["scram", "md5", "login_password"] {
        for (password, by_scram) in PASSWORDS.iter().copied().chain([(long.as_str(), LogsIn)]) {
            let expected = if method == "scram" { by_scram } else { LogsIn };
            let name = "canary_user";
            check(&server, &Login { method, name, password }, expected).await;
        }
        for name in NAMES {
            let password = "canary plain";
            check(&server, &Login { method, name, password }, LogsIn).await;
        }
    }
}
