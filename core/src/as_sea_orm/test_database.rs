//! A tenant's database over a connection of SeaORM's own, for unit tests.

use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TransactionOptions, TransactionTrait,
};
use serde_json::json;

use crate::{
    Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError, MigrationLock,
    ProviderError, SecretDocument, SecretInvalid, SecretProvider, ServerVersion, TenantId,
    engine::{EngineSettings, TenantDatabase, Tenants, TenantsParts},
};

const DRIVER: &str = "sea-orm";

/// Returns the database of a tenant named `test` that runs on `connection`: one of SeaORM's
/// `MockDatabase`, or of SQLite in memory (`sea_orm::Database::connect("sqlite::memory:")`). Keep a
/// clone of the connection to look at it afterwards.
///
/// # Panics
/// There is no runtime of tokio.
pub async fn tenant_database(connection: DatabaseConnection) -> TenantDatabase {
    let driver = Driver { connection };
    let tenants = Tenants::new(TenantsParts {
        provider: Arc::new(OneTenant),
        provider_type: "test".to_owned(),
        drivers: vec![(DRIVER.to_owned(), Arc::new(driver))],
        settings: EngineSettings::default(),
        on_connect: None,
        observer: None,
    });
    let acquired = match "test".parse() {
        Ok(id) => tenants.acquire(&id).await,
        Err(error) => panic!("`test` is no tenant id: {error}"),
    };
    acquired.unwrap_or_else(|error| panic!("the database cannot be had: {error}"))
}

struct OneTenant;

#[async_trait]
impl SecretProvider for OneTenant {
    async fn fetch(&self, _tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        Ok(SecretDocument::from_value(json!({"type": DRIVER})))
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        Ok(Vec::new())
    }
}

/// "Opens" the one connection again and again: pooling is SeaORM's.
struct Driver {
    connection: DatabaseConnection,
}

#[async_trait]
impl DatabaseDriver for Driver {
    fn validate(&self, _config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        Ok(())
    }

    async fn connect(&self, _config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        Ok(Box::new(Session {
            connection: self.connection.clone(),
            transactions: Vec::new(),
        }))
    }

    fn backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    fn migration_dialect(&self) -> &str {
        DRIVER
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Transaction
    }
}

struct Session {
    connection: DatabaseConnection,
    /// From the outermost on.
    transactions: Vec<DatabaseTransaction>,
}

/// SeaORM's own error is what the caller gets back.
fn error(error: DbErr) -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::of(&error)).with_source(error)
}

impl Session {
    fn ending(&mut self) -> Result<DatabaseTransaction, DatabaseError> {
        let transaction = self.transactions.pop();
        transaction.ok_or_else(|| DatabaseError::new(DatabaseErrorKind::Other).with_source("there is no transaction"))
    }
}

#[async_trait]
impl Connection for Session {
    async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DatabaseError> {
        let statement = statement.clone();
        let executed = match self.transactions.last() {
            Some(transaction) => transaction.execute_raw(statement).await,
            None => self.connection.execute_raw(statement).await,
        };
        executed.map_err(error)
    }

    async fn execute_script(&mut self, sql: &str) -> Result<ExecResult, DatabaseError> {
        let executed = match self.transactions.last() {
            Some(transaction) => transaction.execute_unprepared(sql).await,
            None => self.connection.execute_unprepared(sql).await,
        };
        executed.map_err(error)
    }

    async fn query(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        let statement = statement.clone();
        let rows = match self.transactions.last() {
            Some(transaction) => transaction.query_all_raw(statement).await,
            None => self.connection.query_all_raw(statement).await,
        };
        rows.map_err(error)
    }

    async fn begin(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        let begun = match self.transactions.last() {
            Some(transaction) => transaction.begin_with_options(*options).await,
            None => self.connection.begin_with_options(*options).await,
        };
        self.transactions.push(begun.map_err(error)?);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.ending()?.commit().await.map_err(error)
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.ending()?.rollback().await.map_err(error)
    }

    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        self.connection.ping().await.map_err(error)?;
        Ok(ServerVersion("test".into()))
    }

    async fn close(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use sea_orm::{MockDatabase, MockExecResult, Transaction, Value};

    use super::*;

    fn select() -> Statement {
        Statement::from_string(DbBackend::Postgres, "SELECT n FROM t")
    }

    fn row(n: i64) -> std::collections::BTreeMap<&'static str, Value> {
        [("n", n.into())].into()
    }

    #[tokio::test]
    async fn a_mock_database_answers_as_a_tenant_s() {
        let mock = MockDatabase::new(DbBackend::Postgres)
            .append_query_results([[row(7)]])
            .append_query_errors([DbErr::Custom("no rows today".to_owned())])
            .append_exec_results([MockExecResult {
                last_insert_id: 0,
                rows_affected: 3,
            }]);
        let connection = mock.into_connection();
        let database = tenant_database(connection.clone()).await;
        let rows = database.query_all_raw(select()).await.unwrap();
        assert_eq!(rows[0].try_get::<i64>("", "n").unwrap(), 7);
        let error = database.query_all_raw(select()).await.unwrap_err();
        assert_eq!(error, DbErr::Custom("no rows today".to_owned()));
        let transaction = database.begin().await.unwrap();
        let executed = transaction.execute_raw(select()).await.unwrap();
        assert_eq!(executed.rows_affected(), 3);
        transaction.commit().await.unwrap();
        drop(database);
        let log = connection.into_transaction_log();
        assert_eq!(log.len(), 3);
        let in_transaction = [
            Statement::from_string(DbBackend::Postgres, "BEGIN"),
            select(),
            Statement::from_string(DbBackend::Postgres, "COMMIT"),
        ];
        assert_eq!(log[2], Transaction::many(in_transaction));
    }
}
