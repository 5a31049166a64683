use sea_orm::{Statement, TransactionOptions};
use serde_json::{Value, json};
use tenantry_core::{Cause, Registry, SecretValue};
use tenantry_test_support::PostgresServer;

use super::*;

fn secret(value: Value) -> DatabaseConfig {
    DatabaseConfig::parse(&SecretValue::new(value)).unwrap()
}

async fn driver() -> PostgresqlDriver {
    let context = BuildContext::for_tests(Registry::new());
    PostgresqlDriver::build(PostgresqlConfig::default(), &context)
        .await
        .unwrap()
}

/// How `driver` logs in with a secret.
fn options(driver: &PostgresqlDriver, of: Value) -> PgConnectOptions {
    let config = secret(of);
    let address = ServerAddress::of(&config, DEFAULT_PORT).unwrap();
    let password = config.password.as_ref().unwrap().expose_secret();
    let options = driver.options(&address, &config, Certificates::default());
    options.password(password)
}

#[tokio::test]
async fn a_secret_without_what_is_needed_names_the_field() {
    let driver = driver().await;
    let whole = json!({"type": "postgresql", "host": "h", "database": "d", "username": "u"});
    assert!(driver.validate(&secret(whole.clone())).is_ok());
    for field in ["host", "database", "username"] {
        let mut secret_value = whole.clone();
        secret_value.as_object_mut().unwrap().remove(field);
        assert_eq!(driver.validate(&secret(secret_value.clone())).unwrap_err().field, field);
        secret_value[field] = json!("canary\0user\0postgres");
        let error = driver.validate(&secret(secret_value)).unwrap_err();
        assert_eq!(error.field, field);
        assert!(!error.to_string().contains("canary"));
    }
}

#[tokio::test]
async fn options_say_what_the_secret_says() {
    let config = secret(json!({
        "type": "postgres", "host": "h", "port": "6543", "database": "d", "username": "u", "password": "p",
        "tls": {"mode": "verify-full"}
    }));
    let address = ServerAddress::of(&config, DEFAULT_PORT).unwrap();
    let options = driver().await.options(&address, &config, Certificates::default());
    assert_eq!((options.get_host(), options.get_port()), ("h", 6543));
    assert_eq!((options.get_username(), options.get_database()), ("u", Some("d")));
    assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
    assert!(options.get_options().unwrap().ends_with("-c statement_timeout=30000"));
    let mut config = config;
    config.query.timeout = Some(Duration::from_millis(1500));
    let address = ServerAddress::of(&config, DEFAULT_PORT).unwrap();
    let options = driver().await.options(&address, &config, Certificates::default());
    assert!(options.get_options().unwrap().ends_with("-c statement_timeout=1500"));
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_left_out() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("refuses").await.unwrap();
    let driver = driver().await;
    let options = options(&driver, server.secret(&tenant));
    let refused = Some("SET LOCAL client_connection_check_interval = 'canary'");
    let per_transaction = PerTransaction::new("SET LOCAL statement_timeout = 1234".to_owned(), refused, None);
    let show = Statement::from_string(DbBackend::Postgres, "SHOW statement_timeout");
    for in_transaction in [false, true] {
        let mut connection = SqlxConnection::<Postgresql>::new(
            options.connect().await.unwrap(),
            EndsStatements::new(true, None),
            ServerVersion("1".into()),
            None,
            driver.max_answer,
        )
        .setting(Some(per_transaction.clone()));
        if in_transaction {
            connection.begin(&TransactionOptions::default()).await.unwrap();
        }
        let row = connection.query_one(&show).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "1234ms");
        if in_transaction {
            connection.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_variable_for_every_tenant_is_refused_by_name() {
    let mut driver = driver().await;
    let config = secret(json!({"type": "postgresql", "host": "127.0.0.1", "database": "d", "username": "u"}));
    for variable in FOR_EVERY_TENANT {
        driver.for_every_tenant = Some(variable);
        let refused = driver.connect(&config).await.err().unwrap();
        assert_eq!(refused.kind, DriverErrorKind::Unsupported);
        assert!(Cause(&refused).to_string().contains(variable), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_setting_still_says_if_it_encrypts() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("asked").await.unwrap();
    let driver = driver().await;
    let options = options(&driver, server.secret(&tenant));
    let mut connection = options.connect().await.unwrap();
    let refused = Some("SET client_connection_check_interval = 'canary'");
    let own = Some("SET client_connection_check_interval = '500ms'");
    for (notice, notices_lost_clients) in [(None, false), (refused, false), (own, true)] {
        for (asks_tls, is_encrypted) in [(false, None), (true, Some(false))] {
            let begun = session::begin_with(&mut connection, None, notice, asks_tls)
                .await
                .unwrap();
            let expected = Begun {
                is_encrypted,
                notices_lost_clients,
            };
            assert_eq!(begun, expected, "{notice:?}");
        }
    }
}

/// As with PostgreSQL 13, which does not look whether its client is still there.
#[tokio::test]
async fn a_close_waits_for_an_abandoned_statement_s_end() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("outlives").await.unwrap();
    let driver = driver().await;
    let options = options(&driver, server.secret(&tenant));
    let session = options.connect().await.unwrap();
    let watch = EndsStatements::new(false, None);
    let version = ServerVersion(version(&session).into());
    let mut connection = SqlxConnection::<Postgresql>::new(session, watch, version, None, driver.max_answer);
    let sleep = Statement::from_string(driver.backend(), "SELECT pg_sleep(5)");
    let abandoned = tokio::time::timeout(Duration::from_secs(1), connection.query(&sleep));
    assert!(abandoned.await.is_err());
    let started = std::time::Instant::now();
    Box::new(connection).close().await;
    let took = started.elapsed();
    assert!((1_000..30_000).contains(&took.as_millis()), "{took:?}");
}
