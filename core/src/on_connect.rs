//! What comes before the first use of a tenant's database.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverErrorKind, TenantId,
};

/// How far the migrations of a database are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The highest version that was applied, such as `0004`.
    pub version: Option<String>,
    /// How many files are left.
    pub pending: usize,
}

/// A database is below the version that is served. An error of [`OnConnect::prepare`] that is one
/// of these is [`DatabaseErrorKind::SchemaBehind`](crate::DatabaseErrorKind::SchemaBehind).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema is at version `{}`, and `{required}` is required", found.version.as_deref().unwrap_or("none"))]
pub struct SchemaBehind {
    /// How far the database is.
    pub found: SchemaVersion,
    /// The lowest version that is served.
    pub required: String,
}

/// What is done on a tenant's first connection to a database, before anything else: migrations.
#[async_trait]
pub trait OnConnect: Send + Sync {
    /// Prepares the database. Returns how far its migrations are, if that is known.
    ///
    /// # Errors
    /// Why it cannot be used; the connection is closed, and the next one tries again. A
    /// [`DatabaseError`], not within another error, of a connection that was
    /// [lost](DatabaseErrorKind::is_lost), or ended before its use, says nothing about the
    /// database: the next one is opened at once, while requests wait.
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError>;

    /// Returns how far the database's migrations are, for a health check. It changes nothing. By
    /// default that is not known.
    ///
    /// # Errors
    /// Why requests would be refused, such as [`SchemaBehind`]; a [`DatabaseError`], not within
    /// another error, if the database could not be asked.
    async fn look(
        &self,
        _driver: &dyn DatabaseDriver,
        _connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        Ok(None)
    }
}

/// How far a database's migrations were when they were looked at last.
#[derive(Debug, Default)]
pub(crate) struct LastSchema(Mutex<Option<SchemaVersion>>);

impl LastSchema {
    pub(crate) fn get(&self) -> Option<SchemaVersion> {
        self.0.lock().clone()
    }

    /// Takes over what is known of the same database.
    pub(crate) fn inherit(&self, before: &Self) {
        *self.0.lock() = before.get();
    }

    /// Looks at the database, and notes what is found.
    ///
    /// # Errors
    /// [`DatabaseErrorKind::SchemaBehind`], [`DatabaseErrorKind::Migration`], or the error of the
    /// connection.
    pub(crate) async fn look(
        &self,
        on_connect: &dyn OnConnect,
        driver: &dyn DatabaseDriver,
        connection: &mut dyn Connection,
    ) -> Result<(), DatabaseError> {
        match on_connect.look(driver, connection).await {
            Ok(found) => self.note(Ok(found)),
            Err(source) => match source.downcast::<DatabaseError>() {
                Ok(error) => Err(*error),
                Err(source) => self.prepared(Err(source)),
            },
        }
    }

    /// Notes what [`OnConnect::prepare`] returned.
    ///
    /// # Errors
    /// [`DatabaseErrorKind::SchemaBehind`], [`DatabaseErrorKind::Migration`], or
    /// [`DriverErrorKind::SessionEnded`].
    pub(crate) fn prepared(&self, prepared: Result<Option<SchemaVersion>, BoxError>) -> Result<(), DatabaseError> {
        match prepared.map_err(|source| source.downcast::<SchemaBehind>()) {
            Ok(found) => self.note(Ok(found)),
            Err(Ok(behind)) => self.note(Err(*behind)),
            Err(Err(source)) => {
                let error = source.downcast_ref::<DatabaseError>();
                let ended = DatabaseErrorKind::Connect(DriverErrorKind::SessionEnded);
                let kind = match error.is_some_and(|error| error.kind.is_lost() || error.kind == ended) {
                    true => ended,
                    false => DatabaseErrorKind::Migration,
                };
                Err(DatabaseError::new(kind).with_source(source))
            }
        }
    }

    fn note(&self, looked: Result<Option<SchemaVersion>, SchemaBehind>) -> Result<(), DatabaseError> {
        match looked {
            Ok(found) => {
                if found.is_some() {
                    *self.0.lock() = found;
                }
                Ok(())
            }
            Err(behind) => {
                *self.0.lock() = Some(behind.found.clone());
                Err(DatabaseError::new(DatabaseErrorKind::SchemaBehind).with_source(behind))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_last_is_noted_and_passed_on() {
        let at = |version: &str| SchemaVersion {
            version: Some(version.to_owned()),
            pending: 1,
        };
        let schema = LastSchema::default();
        assert_eq!(
            schema.prepared(Ok(Some(at("0002")))).map_err(|error| error.kind),
            Ok(())
        );
        assert_eq!(schema.get(), Some(at("0002")));
        let behind = SchemaBehind {
            found: at("0001"),
            required: "0002".to_owned(),
        };
        let refused = schema.prepared(Err(behind.into())).map_err(|error| error.kind);
        assert_eq!(refused, Err(DatabaseErrorKind::SchemaBehind));
        assert_eq!(schema.get(), Some(at("0001")));
        let failed = schema.prepared(Err("a file fails".into())).map_err(|error| error.kind);
        assert_eq!(failed, Err(DatabaseErrorKind::Migration));
        let unknown = schema.prepared(Ok(None)).map_err(|error| error.kind);
        assert_eq!((unknown, schema.get()), (Ok(()), Some(at("0001"))));
        let next = LastSchema::default();
        next.inherit(&schema);
        assert_eq!(next.get(), Some(at("0001")));
    }
}
