//! Connecting to one of several servers, as libpq does: the first that answers and is of the kind
//! that is wanted (`target_session_attrs`).

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};
use tenantry_core::{DatabaseConfig, DriverError, DriverErrorKind, SessionTarget};

use super::DEFAULT_PORT;
use crate::{server_address::ServerAddress, sqlx_connection::connect_error};

/// How long one of several servers may take if the secret does not say it: a server that does not
/// answer must not use up the time of the next one.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(2);

/// Connects to the first server that suits, by `connect`.
pub(super) async fn connect_to_one<'a, F>(
    config: &'a DatabaseConfig,
    address: &ServerAddress<'a>,
    connect: impl Fn(ServerAddress<'a>) -> F,
) -> Result<PgConnection, DriverError>
where
    F: Future<Output = Result<PgConnection, DriverError>>,
{
    let other = |(host, port): &'a (String, Option<u16>)| (host.as_str(), port.unwrap_or(DEFAULT_PORT));
    let mut servers = vec![(address.host, address.port)];
    servers.extend(config.other_servers.iter().map(other));
    if config.load_balanced {
        fastrand::shuffle(&mut servers);
    }
    let limit = config.connect_timeout.or((servers.len() > 1).then_some(ONE_OF_SEVERAL));
    let targets: &[SessionTarget] = match config.session.target {
        SessionTarget::PreferStandby => &[SessionTarget::Standby, SessionTarget::Any],
        ref one => std::slice::from_ref(one),
    };
    let mut last = DriverError::new(DriverErrorKind::Unreachable, "no server is named");
    for target in targets {
        for (host, port) in &servers {
            let address = ServerAddress {
                host,
                port: *port,
                ..*address
            };
            let opening = async { suits(connect(address).await?, *target).await };
            match within(limit, opening).await {
                Ok(connection) => return Ok(connection),
                // The others would be asked with what this one refused.
                Err(error) if !is_elsewhere_different(error.kind) => return Err(error),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

async fn within(
    limit: Option<Duration>,
    opening: impl Future<Output = Result<PgConnection, DriverError>>,
) -> Result<PgConnection, DriverError> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|elapsed| Err(DriverError::new(DriverErrorKind::Unreachable, elapsed))),
        None => opening.await,
    }
}

/// Whether another server may take what one did not.
fn is_elsewhere_different(kind: DriverErrorKind) -> bool {
    kind.is_full() || matches!(kind, DriverErrorKind::Unreachable | DriverErrorKind::SessionEnded)
}

/// Returns the connection if its server is of the kind that is wanted.
async fn suits(mut connection: PgConnection, target: SessionTarget) -> Result<PgConnection, DriverError> {
    if target == SessionTarget::Any {
        return Ok(connection);
    }
    let failed = |error| connect_error(error, super::errors::connect_kind);
    let asked = sqlx::raw_sql("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'");
    let row = asked.fetch_one(&mut connection).await.map_err(failed)?;
    let in_recovery: bool = row.try_get(0).map_err(failed)?;
    let read_only: bool = row.try_get(1).map_err(failed)?;
    let suits = match target {
        SessionTarget::Any | SessionTarget::PreferStandby => true,
        SessionTarget::ReadWrite => !read_only,
        SessionTarget::ReadOnly => read_only,
        SessionTarget::Primary => !in_recovery,
        SessionTarget::Standby => in_recovery,
    };
    if suits {
        return Ok(connection);
    }
    // It is closed in either case.
    if let Err(error) = connection.close().await {
        tracing::debug!(
            error = crate::sqlx_connection::io_kind(&error),
            "a session that does not suit did not close"
        );
    }
    let reason = "no server is of the kind that `target_session_attrs` names";
    Err(DriverError::new(DriverErrorKind::Unreachable, reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlx::postgres::{PgConnectOptions, PgSslMode};
    use tenantry_core::SecretValue;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A server that lets everyone in and then says nothing more.
    async fn silent_after_login() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 1024];
            assert!(client.read(&mut bytes).await.unwrap() > 0, "it asks to log in");
            client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            while client.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        port
    }

    #[tokio::test]
    async fn a_server_that_does_not_say_what_it_is_is_given_up() {
        let port = silent_after_login().await;
        let url = format!("postgres://u@127.0.0.1:{port}/d?target_session_attrs=read-write");
        let mut config = DatabaseConfig::parse(&SecretValue::new(json!({"url": url}))).unwrap();
        config.connect_timeout = Some(Duration::from_millis(500));
        let address = ServerAddress::of(&config, DEFAULT_PORT).unwrap();
        let log_in = |address: ServerAddress<'_>| {
            let options = PgConnectOptions::new().host(address.host).port(address.port);
            let options = options.username("u").ssl_mode(PgSslMode::Disable);
            async move {
                let opened = PgConnection::connect_with(&options).await;
                Ok(opened.expect("the login itself succeeds"))
            }
        };
        let connected = tokio::time::timeout(Duration::from_secs(10), connect_to_one(&config, &address, log_in)).await;
        let error = connected.expect("it is waited for without end").err().unwrap();
        assert_eq!(error.kind, DriverErrorKind::Unreachable);
    }
}
