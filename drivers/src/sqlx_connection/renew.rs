//! A new session in the place of an old one.

use std::time::Duration;

use sqlx::Connection as _;
use tenantry_core::{Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind};
use tokio::time::{Instant, sleep, timeout};

use super::{Dialect, SqlxConnection};

/// How long the old session may take to end.
const END: Duration = Duration::from_secs(5);
/// How long the server may still count the old session while it has no room for another one.
const COUNTED: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the connection's session and then opens another one in its place: a server may have no room
/// for both.
pub(crate) async fn renew<D: Dialect>(
    driver: &dyn DatabaseDriver,
    config: &DatabaseConfig,
    connection: &mut dyn Connection,
) -> Result<(), DriverError> {
    let current = own::<D>(connection)?;
    if let Some(old) = current.connection.take() {
        // Without a goodbye the server notices by itself.
        drop(timeout(END, old.close()).await);
    }
    let give_up = Instant::now() + COUNTED;
    loop {
        match driver.connect(config).await {
            Ok(mut opened) => {
                std::mem::swap(current, own::<D>(&mut *opened)?);
                return Ok(());
            }
            Err(error) if error.kind.is_full() && Instant::now() < give_up => {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn own<D: Dialect>(connection: &mut dyn Connection) -> Result<&mut SqlxConnection<D>, DriverError> {
    let own = connection.as_any().and_then(|any| any.downcast_mut());
    own.ok_or_else(|| DriverError::new(DriverErrorKind::Other, "the connection is another driver's"))
}
