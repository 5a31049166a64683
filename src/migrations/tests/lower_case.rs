//! A table of another tool that the database lists and no statement can name: Flyway's on Oracle,
//! where its name is in lower case.

use async_trait::async_trait;
use tenantry_core::{DriverError, MigrationLock, MigrationQueries, SecretInvalid};

use super::*;

/// A driver that calls itself Oracle's and lists Flyway's table.
struct Listing(Arc<dyn DatabaseDriver>);

#[async_trait]
impl DatabaseDriver for Listing {
    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        self.0.validate(config)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        self.0.connect(config).await
    }

    fn backend(&self) -> DbBackend {
        self.0.backend()
    }

    fn migration_dialect(&self) -> &str {
        "oracle"
    }

    fn migration_lock(&self, config: &DatabaseConfig) -> MigrationLock {
        self.0.migration_lock(config)
    }

    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries {
            tables: Some("SELECT 'flyway_schema_history', NULL"),
            ..MigrationQueries::default()
        }
    }
}

#[tokio::test]
async fn a_table_of_another_tool_in_lower_case_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let driver = Listing(target.driver.clone());
    let mut connection = driver.connect(&target.config).await.unwrap();
    let error = foreign::refuse(&driver, &mut *connection).await.unwrap_err();
    assert!(
        matches!(error, MigrationError::Foreign { tool: "Flyway", .. }),
        "{error:?}"
    );
    let trust = adopt::Trust {
        by_hand: true,
        is_named: true,
    };
    let error = adopt::check(&driver, &mut *connection, &[], trust).await.unwrap_err();
    assert!(error.to_string().contains("in lower case"), "{error}");
    connection.close().await;
}
