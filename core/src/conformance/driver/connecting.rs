//! Opening connections, and failing to.

use std::time::{Duration, Instant};

use sea_orm::prelude::DateTimeUtc;

use super::{CANARY, Suite, config};
use crate::DriverErrorKind;

pub(super) async fn a_good_secret_opens_a_connection_that_answers(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let version = session.connection.ping().await.expect("the server answers");
    assert!(
        version.0.starts_with(|c: char| c.is_ascii_digit()),
        "the version is `{version}`"
    );
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_wrong_password_is_an_authentication_error(suite: &Suite<'_>) {
    let Some(secret) = suite.fixture.wrong_password() else {
        return suite.does_not_apply();
    };
    assert!(
        secret["password"]
            .as_str()
            .is_some_and(|password| password.contains(CANARY))
    );
    suite.refuses(secret, DriverErrorKind::Authentication).await;
}

pub(super) async fn a_server_that_does_not_answer_is_unreachable(suite: &Suite<'_>) {
    let Some(secret) = suite.fixture.unreachable() else {
        return suite.does_not_apply();
    };
    suite.refuses(secret, DriverErrorKind::Unreachable).await;
}

pub(super) async fn encryption_that_cannot_be_had_is_a_tls_error(suite: &Suite<'_>) {
    let Some(secret) = suite.fixture.tls_refused() else {
        return suite.does_not_apply();
    };
    suite.refuses(secret, DriverErrorKind::Tls).await;
}

pub(super) async fn a_missing_database_is_not_a_missing_server(suite: &Suite<'_>) {
    let Some(secret) = suite.fixture.database_missing() else {
        return suite.does_not_apply();
    };
    suite.refuses(secret, DriverErrorKind::DatabaseMissing).await;
}

pub(super) async fn a_secret_without_a_field_is_refused_by_its_name(suite: &Suite<'_>) {
    let whole = suite.fixture.secret();
    let mut checked = 0;
    for field in ["host", "database", "username", "path"] {
        let mut secret = whole.clone();
        if secret
            .as_object_mut()
            .is_some_and(|members| members.remove(field).is_some())
        {
            let error = suite
                .driver
                .validate(&config(secret.clone()))
                .expect_err("the secret lacks a field");
            assert_eq!(error.field, field);
            let Err(error) = suite.driver.connect(&config(secret)).await else {
                panic!("a connection was opened without `{field}`");
            };
            assert_eq!(error.kind, DriverErrorKind::Invalid);
            checked += 1;
        }
    }
    assert!(checked > 0, "the good secret has none of the fields that are known");
    // A setting of TLS is used, or refused by its name.
    let mut secret = whole;
    secret["tls"] = serde_json::json!({"ca": "/nowhere/canary.pem", "mode": "require"});
    match suite.driver.validate(&config(secret.clone())) {
        Ok(()) => suite.refuses(secret, DriverErrorKind::Invalid).await,
        Err(error) => assert!(error.field.starts_with("tls."), "{error}"),
    }
}

pub(super) async fn a_transaction_pooler_is_used_or_refused_by_its_name(suite: &Suite<'_>) {
    let mut secret = suite.fixture.secret();
    secret["pooler"] = serde_json::json!("transaction");
    let secret = config(secret);
    let Err(error) = suite.driver.validate(&secret) else {
        return;
    };
    assert_eq!(error.field, "pooler");
    let Err(error) = suite.driver.connect(&secret).await else {
        panic!("a connection was opened through a pooler that the driver refuses");
    };
    assert_eq!(error.kind, DriverErrorKind::Invalid);
}

pub(super) async fn a_connect_that_is_dropped_leaves_nothing_behind(suite: &Suite<'_>) {
    let config = config(suite.fixture.secret());
    for microseconds in (0..4000).step_by(200) {
        let connect = suite.driver.connect(&config);
        if let Ok(opened) = tokio::time::timeout(Duration::from_micros(microseconds), connect).await {
            opened.expect("the good secret opens a connection").close().await;
        }
    }
    let mut session = suite.connect().await;
    session.is_usable().await;
    session.close().await;
}

pub(super) async fn a_session_speaks_utc(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let rows = session
        .query_sql("SELECT CURRENT_TIMESTAMP AS at")
        .await
        .expect("the server has a clock");
    let at: DateTimeUtc = rows[0].try_get("", "at").expect("the time is one in UTC");
    let away = (chrono::Utc::now() - at).num_seconds().abs();
    assert!(away < 600, "the session's clock is {away} seconds away");
    let before = Instant::now();
    session.close().await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "an idle connection takes long to close"
    );
}
