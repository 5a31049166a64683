//! Statements with a fixed text.

use std::sync::OnceLock;

use sea_orm::{DbBackend, EntityTrait, QueryTrait, Select, Statement, Value, Values};

/// A query that SeaORM writes once for each kind of database; requests differ only in the values.
/// Writing it for each request would double the work for one row.
pub(super) struct Fixed<E: EntityTrait> {
    /// The query, with any values.
    query: fn() -> Select<E>,
    /// For MySQL, PostgreSQL and SQLite.
    texts: [OnceLock<String>; 3],
}

impl<E: EntityTrait> Fixed<E> {
    pub(super) const fn new(query: fn() -> Select<E>) -> Self {
        Self {
            query,
            texts: [const { OnceLock::new() }; 3],
        }
    }

    /// The statement with these values, which are those that SeaORM binds, in its order.
    pub(super) fn with<const N: usize>(&self, backend: DbBackend, values: [Value; N]) -> Statement {
        let write = || (self.query)().build(backend).sql;
        let kept = match backend {
            DbBackend::MySql => Some(&self.texts[0]),
            DbBackend::Postgres => Some(&self.texts[1]),
            DbBackend::Sqlite => Some(&self.texts[2]),
            // The enum may grow.
            _ => None,
        };
        Statement {
            sql: kept.map_or_else(write, |text| text.get_or_init(write).clone()),
            values: Some(Values(values.into())),
            db_backend: backend,
        }
    }
}
