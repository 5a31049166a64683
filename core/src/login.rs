//! A driver as the engine uses it. Each login, also that of a session that is renewed, has the
//! password that the provider makes for it, if it makes one, and a deadline.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::DbBackend;
use tokio::time::timeout;

use crate::{
    Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind, MigrationLock, MigrationQueries,
    ScriptFault, ScriptStatement, SecretInvalid, SecretProvider,
};

/// How much longer than a login renewing a session may take: the old one ends first, and the server
/// may count it for a while.
const RENEWING: Duration = Duration::from_secs(10);

pub(crate) struct LoginDriver {
    pub(crate) driver: Arc<dyn DatabaseDriver>,
    pub(crate) provider: Arc<dyn SecretProvider>,
    pub(crate) connect_timeout: Duration,
}

impl LoginDriver {
    /// The configuration with the password of the next login.
    async fn for_login<'a>(&self, config: &'a DatabaseConfig) -> Result<Cow<'a, DatabaseConfig>, DriverError> {
        let Some(tenant) = &config.tenant else {
            return Ok(Cow::Borrowed(config));
        };
        match self.provider.password(tenant, config).await {
            Ok(None) => Ok(Cow::Borrowed(config)),
            Ok(password) => Ok(Cow::Owned(DatabaseConfig {
                password,
                ..config.clone()
            })),
            Err(error) => Err(DriverError::new(DriverErrorKind::Unreachable, error)),
        }
    }
}

async fn within<T>(limit: Duration, login: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
    let ended = timeout(limit, login).await;
    ended.unwrap_or_else(|elapsed| Err(DriverError::new(DriverErrorKind::Unreachable, elapsed)))
}

#[async_trait]
impl DatabaseDriver for LoginDriver {
    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        within(self.connect_timeout, async {
            self.driver.connect(&*self.for_login(config).await?).await
        })
        .await
    }

    async fn renew(&self, config: &DatabaseConfig, connection: &mut dyn Connection) -> Result<(), DriverError> {
        within(self.connect_timeout + RENEWING, async {
            self.driver.renew(&*self.for_login(config).await?, connection).await
        })
        .await
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.driver.aliases()
    }

    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        self.driver.validate(config)
    }

    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        self.driver.port(config)
    }

    fn wants_encryption(&self, config: &DatabaseConfig) -> bool {
        self.driver.wants_encryption(config)
    }

    fn secret_changed(&self, before: &DatabaseConfig, now: &DatabaseConfig) {
        self.driver.secret_changed(before, now);
    }

    fn backend(&self) -> DbBackend {
        self.driver.backend()
    }

    fn migration_dialect(&self) -> &str {
        self.driver.migration_dialect()
    }

    fn migration_lock(&self, config: &DatabaseConfig) -> MigrationLock {
        self.driver.migration_lock(config)
    }

    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        self.driver.statements(script)
    }

    fn migration_queries(&self) -> MigrationQueries {
        self.driver.migration_queries()
    }
}

#[cfg(test)]
mod tests {
    /// A method that is not passed on would have the trait's default for every driver.
    #[test]
    fn every_method_of_a_driver_is_passed_on() {
        let driver = include_str!("driver.rs");
        let (_, body) = driver.split_once("pub trait DatabaseDriver").unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let names = body.lines().filter_map(|line| {
            let line = line.strip_prefix("    ")?;
            let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
            line.split(['(', '<']).next()
        });
        let names: Vec<&str> = names.collect();
        assert!(names.len() >= 11, "{names:?}");
        let passed_on = include_str!("login.rs");
        for name in names {
            assert!(passed_on.contains(&format!("self.driver.{name}(")), "`{name}`");
        }
    }
}
