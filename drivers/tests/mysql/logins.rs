//! Passwords and user names, with MariaDB's own client as the referee.

use serde_json::json;
use tenantry_core::DriverErrorKind;
use tenantry_test_support::MariadbServer;

use super::connect;

const PASSWORDS: &[&str] = &[
    "canary plain",
    " canary ",
    "canary'\"\\;--%/@?#&=,:",
    "canary \u{e9}\u{df}\u{4e2d}",
    "canary\u{a0}no-break space",
    "can\u{ad}ary soft hyphen",
    "canary e\u{301} \u{fb01}",
    "canary \u{1f600}",
    "canary \u{627}\u{644}\u{639}",
    "canary\ttab",
    "canary\r\n",
    "canary\u{7f}",
];

const NAMES: &[&str] = &[
    "comma,x",
    "equals=x",
    "with space",
    "quote'\"\\x",
    "\u{e9}t\u{e9}",
    "mixed\u{627}",
    "no\u{a0}break",
    "tab\tx",
    "at@slash/x",
];

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!("'{}'", text.replace('\r', "\\r").replace('\n', "\\n"))
}

/// Makes the user, and sees that MariaDB's client logs in and what the driver does.
async fn check(server: &MariadbServer, name: &str, password: &str, identified: &str) -> Result<(), DriverErrorKind> {
    let user = format!("{}@'%'", quoted(name));
    let create = format!("CREATE OR REPLACE USER {user} {identified}");
    server.sql("mysql", &create).await.unwrap();
    let who = server.sql_as(name, password, "SELECT CURRENT_USER()").await;
    let who = who.unwrap_or_else(|error| panic!("the client as {name:?} with {password:?}: {error:#}"));
    assert_eq!(who, format!("{name}@%"));
    let secret = json!({
        "type": "mysql", "host": server.host(), "port": server.port(), "database": "information_schema",
        "username": name, "password": password,
    });
    let mut connection = connect(secret.clone()).await.map_err(|error| {
        let told = std::error::Error::source(&error).unwrap().to_string();
        assert!(!format!("{error} {error:?} {told}").contains("canary"), "{told}");
        error.kind
    })?;
    let who = super::text(&mut connection, "SELECT CURRENT_USER()").await;
    assert_eq!(who, format!("{name}@%"));
    connection.close().await;
    let mut wrong = secret;
    wrong["password"] = json!("wrong");
    let error = connect(wrong).await.err().unwrap();
    assert_eq!(error.kind, DriverErrorKind::Authentication);
    Ok(())
}

#[tokio::test]
async fn a_login_that_the_client_accepts_is_accepted() {
    let server = MariadbServer::start().await.unwrap();
    let long = format!("canary{}", "x\u{e9}".repeat(500));
    for password in PASSWORDS.iter().copied().chain([long.as_str()]) {
        let identified = format!("IDENTIFIED BY {}", quoted(password));
        let outcome = check(&server, "canary_user", password, &identified).await;
        assert_eq!(outcome, Ok(()), "{password:?}");
    }
    for name in NAMES {
        let outcome = check(&server, name, "canary", "IDENTIFIED BY 'canary'").await;
        assert_eq!(outcome, Ok(()), "{name:?}");
    }
}

#[tokio::test]
async fn an_account_with_an_unknown_plugin_is_refused_by_name() {
    let server = MariadbServer::start().await.unwrap();
    server.sql("mysql", "INSTALL SONAME 'auth_ed25519'").await.unwrap();
    let identified = "IDENTIFIED VIA ed25519 USING PASSWORD('canary')";
    let outcome = check(&server, "canary_user", "canary", identified).await;
    assert_eq!(outcome, Err(DriverErrorKind::Invalid));
}
