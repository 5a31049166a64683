//! What SeaORM's own connection has beside its traits, on a tenant's database.

mod lent;
#[cfg(any(test, feature = "conformance"))]
mod test_database;

use std::fmt;

use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, IsolationLevel, Schema, SchemaBuilder, TransactionError,
    TransactionSession, TransactionTrait,
};

#[cfg(any(test, feature = "conformance"))]
pub use test_database::tenant_database;

use crate::engine::{TenantConnection, TenantDatabase, TenantTransaction};

/// Gives a type the methods that SeaORM's `DatabaseConnection` has of its own.
macro_rules! like_sea_orm {
    ($type:ty) => {
        impl $type {
            /// The SQL that SeaORM writes for this database.
            pub fn get_database_backend(&self) -> DbBackend {
                ConnectionTrait::get_database_backend(self)
            }

            /// Builds tables from entities: `register` each, then `apply`.
            pub fn get_schema_builder(&self) -> SchemaBuilder {
                Schema::new(self.get_database_backend()).builder()
            }

            /// Builds the tables of all entities in modules with a path that begins with `prefix`.
            #[cfg(feature = "entity-registry")]
            pub fn get_schema_registry(&self, prefix: &str) -> SchemaBuilder {
                let schema = Schema::new(self.get_database_backend());
                sea_orm::EntityRegistry::build_schema(schema, prefix)
            }

            /// Runs an async closure in a transaction, which is committed if it succeeds and rolled
            /// back if it fails.
            ///
            /// # Errors
            /// The closure's, or that the transaction did not begin or end.
            pub async fn transaction_async<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
            where
                F: for<'c> AsyncFnOnce(&'c TenantTransaction) -> Result<T, E> + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                self.transaction_with_config_async(callback, None, None).await
            }

            /// As [`transaction_async`](Self::transaction_async), with an isolation level or an
            /// access mode.
            ///
            /// # Errors
            /// The closure's, or that the transaction did not begin or end.
            pub async fn transaction_with_config_async<F, T, E>(
                &self,
                callback: F,
                isolation_level: Option<IsolationLevel>,
                access_mode: Option<AccessMode>,
            ) -> Result<T, TransactionError<E>>
            where
                F: for<'c> AsyncFnOnce(&'c TenantTransaction) -> Result<T, E> + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                let begun = self.begin_with_config(isolation_level, access_mode).await;
                let transaction = begun.map_err(TransactionError::Connection)?;
                match callback(&transaction).await {
                    Ok(value) => {
                        transaction.commit().await.map_err(TransactionError::Connection)?;
                        Ok(value)
                    }
                    Err(error) => {
                        transaction
                            .rollback()
                            .await
                            .map_err(TransactionError::Connection)?;
                        Err(TransactionError::Transaction(error))
                    }
                }
            }
        }
    };
}

like_sea_orm!(TenantDatabase);
like_sea_orm!(TenantConnection);
like_sea_orm!(TenantTransaction);

impl TenantTransaction {
    /// Commits the transaction, or releases the save point.
    ///
    /// # Errors
    /// It was not committed, or that is not known.
    pub async fn commit(self) -> Result<(), DbErr> {
        TransactionSession::commit(self).await
    }

    /// Rolls the transaction, or the save point, back.
    ///
    /// # Errors
    /// The roll back did not reach the database, which then does it when the connection ends.
    pub async fn rollback(self) -> Result<(), DbErr> {
        TransactionSession::rollback(self).await
    }
}
