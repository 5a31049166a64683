//! Ends the sessions of statements that were left in the middle.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, Row as _, mysql::MySqlConnectOptions,
};

use super::{
    errors::number_of,
    session::{SERVER, SessionId},
};
use crate::{
    rds_iam::RdsIam,
    server_address::ServerAddress,
    sqlx_connection::{Watch, io_kind},
};

/// A user of one server.
pub(super) type Login = (String, u16, String);

pub(super) fn login(address: &ServerAddress<'_>) -> Login {
    (address.host.to_owned(), address.port, address.username.to_owned())
}

/// What took the place of logins that changed, for sessions that were opened with them.
#[derive(Debug, Default)]
pub(super) struct ChangedLogins(Mutex<HashMap<Login, (Login, SecretString)>>);

/// The most changed logins that are remembered; then all are forgotten. They only help to end a
/// session sooner.
const MOST_CHANGED: usize = 10_000;
/// How often in a row a login may have changed while a session lived.
const MOST_CHANGES: usize = 16;

impl ChangedLogins {
    pub(super) fn insert(&self, before: Login, now: Login, password: SecretString) {
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= MOST_CHANGED {
            logins.clear();
        }
        logins.insert(before, (now.clone(), password.clone()));
        // The end of the way, also if it was the beginning of another one before.
        logins.insert(now.clone(), (now, password));
    }

    /// The login that is used now instead of this one, if it changed.
    fn latest(&self, login: &Login) -> Option<(Login, SecretString)> {
        let logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = logins.get(login)?;
        for _ in 0..MOST_CHANGES {
            latest = logins.get(&latest.0).unwrap_or(latest);
        }
        Some(latest.clone())
    }
}

/// A lock for each server that connections lead to, so that a server that is silent delays no
/// other.
#[derive(Debug, Default)]
pub(super) struct Controls(Mutex<HashMap<(String, u16), Weak<Control>>>);

/// Held by the one connection that ends abandoned sessions on a server.
pub(super) type Control = tokio::sync::Mutex<()>;

impl Controls {
    /// The lock of a server, which is forgotten with the last connection that has it.
    pub(super) fn of(&self, address: &ServerAddress<'_>) -> Arc<Control> {
        let mut controls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let server = (address.host.to_owned(), address.port);
        if let Some(control) = controls.get(&server).and_then(Weak::upgrade) {
            return control;
        }
        controls.retain(|_, control| control.strong_count() > 0);
        let control = Arc::default();
        controls.insert(server, Arc::downgrade(&control));
        control
    }
}

/// Ends the session of an abandoned statement. MySQL and MariaDB notice a disconnected client only
/// when they send it an answer.
pub(super) struct EndsSession {
    pub(super) options: MySqlConnectOptions,
    /// What makes a token for another login, and its region.
    pub(super) by_token: Option<(RdsIam, String)>,
    pub(super) login: Login,
    pub(super) changed: Arc<ChangedLogins>,
    pub(super) id: SessionId,
    pub(super) opened: Instant,
    pub(super) control: Arc<Control>,
    /// How long the session can live on at most if it cannot be ended.
    pub(super) statement_timeout: Option<Duration>,
    pub(super) timeout_rolls_back: bool,
    /// The most bytes of one message.
    pub(super) largest_message: Option<usize>,
}

/// The longest that a statement without a time-out is waited for once its session should be ended.
const LONGEST_STATEMENT: Duration = Duration::from_secs(60);
/// How much later than its process a server may begin to count its uptime, and the fraction of a
/// second that it leaves out.
const UPTIME_TOLERANCE: Duration = Duration::from_secs(2);
/// The waits between tries to end a session.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest one try may take, the login included.
const ONE_TRY: Duration = Duration::from_secs(5);

impl Watch for EndsSession {
    fn largest_message(&self) -> Option<usize> {
        self.largest_message
    }

    async fn end_session(&self) {
        let limit = self.statement_timeout.unwrap_or(LONGEST_STATEMENT) + Duration::from_secs(1);
        let ended = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let tried = {
                    let _one_at_a_time = self.control.lock().await;
                    tokio::time::timeout(ONE_TRY, self.try_to_end()).await
                };
                match tried {
                    Ok(Ok(true)) => return,
                    Ok(Ok(false)) | Err(_) => {}
                    Ok(Err(error)) => tracing::debug!(error = io_kind(&error), "an abandoned session is not ended yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::debug!("an abandoned session could not be ended");
        }
    }
}

impl EndsSession {
    /// Ends the session; returns whether it is gone from the server.
    async fn try_to_end(&self) -> Result<bool, sqlx::Error> {
        let mut options = self.options.clone();
        if let Some(((.., user), password)) = self.changed.latest(&self.login) {
            options = options.username(&user).password(password.expose_secret());
        } else if let Some((rds_iam, region)) = &self.by_token {
            let (host, port, user) = &self.login;
            let token = rds_iam.token(Some(region), host, *port, user).await;
            let token = token.map_err(|error| sqlx::Error::Configuration(error.into()))?;
            options = options.password(token.as_ref().map_or("", |token| token.expose_secret()));
        }
        let mut connection = options.connect().await?;
        let ended = self.end_over(&mut connection).await;
        connection.close().await?;
        ended
    }

    async fn end_over(&self, connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
        // With the server that ran it, the session has ended, and the number may be another one's
        // by now.
        let uptime = sqlx::raw_sql("SHOW GLOBAL STATUS LIKE 'Uptime'")
            .fetch_one(&mut *connection)
            .await?;
        let uptime = uptime.try_get::<String, _>(1)?.parse().map(Duration::from_secs);
        if uptime.is_ok_and(|uptime| uptime + UPTIME_TOLERANCE < self.opened.elapsed()) {
            return Ok(true);
        }
        let number = self.id.number;
        let is_there =
            format!("SELECT {SERVER}, EXISTS (SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number})");
        // Without a pause there is one look before the KILL and one soon after it.
        for pause in [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)] {
            tokio::time::sleep(pause).await;
            let row = sqlx::raw_sql(AssertSqlSafe(is_there.clone()))
                .fetch_one(&mut *connection)
                .await?;
            // Behind one address there may be several servers, and on another one the number is
            // another session's.
            if row.try_get::<String, _>(0)? != self.id.server {
                return Ok(false);
            }
            if row.try_get::<i64, _>(1)? == 0 {
                return Ok(true);
            }
            if pause.is_zero() {
                let killed = sqlx::raw_sql(AssertSqlSafe(format!("KILL {number}")))
                    .execute(&mut *connection)
                    .await;
                match killed {
                    Ok(_) => {}
                    // No such session any more.
                    Err(sqlx::Error::Database(error)) if number_of(&*error) == 1094 => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_of_a_session_is_followed_through_every_change() {
        let changed = ChangedLogins::default();
        let login = |user: &str| ("host".to_owned(), 3306, user.to_owned());
        let latest = |user| {
            let found = changed.latest(&login(user));
            found.map(|(login, password)| (login.2, password.expose_secret().to_owned()))
        };
        let now = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(latest("a"), None);
        changed.insert(login("a"), login("a"), "2".into());
        assert_eq!(latest("a"), now("a", "2"));
        changed.insert(login("a"), login("b"), "3".into());
        changed.insert(login("b"), login("b"), "4".into());
        assert_eq!((latest("a"), latest("b")), (now("b", "4"), now("b", "4")));
        changed.insert(login("b"), login("a"), "5".into());
        assert_eq!((latest("a"), latest("b")), (now("a", "5"), now("a", "5")));
    }
}
