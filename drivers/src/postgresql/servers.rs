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
            let opening = within(
                limit,
                connect(ServerAddress {
                    host,
                    port: *port,
                    ..*address
                }),
            )
            .await;
            match opening {
                Ok(connection) => match suits(connection, *target).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                },
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
    matches!(
        kind,
        DriverErrorKind::Unreachable | DriverErrorKind::SessionEnded | DriverErrorKind::TooManyConnections
    )
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
