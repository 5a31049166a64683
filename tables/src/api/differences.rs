//! How databases differ from the declaration, for `tenantry tables check`.

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};
use tenantry_core::engine::SchemaVersion;

use super::Rest;
use crate::{
    catalogue::{Catalogue, CatalogueReader, compare, key_difference, unique_columns},
    model::Table,
    schemas::{Schemas, number},
    sql::Dialect,
};

impl Rest {
    /// Whether any column belongs to later versions of a schema alone, so that the version of a
    /// tenant's schema is needed to compare its catalogue.
    pub fn needs_version(&self) -> bool {
        let mut columns = self.model.tables.iter().flat_map(|table| &table.columns);
        columns.any(|column| column.since.is_some())
    }

    /// What a catalogue lacks, and has as another type, in words. `version` is that of the tenant's
    /// schema, if it is known: a column of a later one may be missing.
    pub fn differences(
        &self,
        driver: &str,
        backend: DbBackend,
        version: Option<&SchemaVersion>,
        catalogue: &Catalogue,
    ) -> Vec<String> {
        let facts = compare(&self.model, Dialect::of(driver, backend), number(version), catalogue);
        let missing = facts.missing.iter().map(|missing| format!("the {missing} is missing"));
        missing.chain(facts.drift.iter().cloned()).collect()
    }

    /// What reads the catalogues that [`differences`](Self::differences) compares: of the declared
    /// tables alone.
    pub fn catalogue_reader(&self, driver: &str, backend: DbBackend) -> CatalogueReader {
        Schemas::reader(&self.model, Dialect::of(driver, backend))
    }

    /// For each table with a declared key, the statement that returns what
    /// [`key_differences`](Self::key_differences) needs of it.
    pub fn key_statements(&self, driver: &str, backend: DbBackend) -> Vec<Statement> {
        let dialect = Dialect::of(driver, backend);
        self.keyed().map(|table| unique_columns(dialect, table)).collect()
    }

    /// Which declared keys are not unique in a database, or may be NULL, in words. `unique` has the
    /// rows of each statement.
    ///
    /// # Errors
    /// A row does not have the expected columns.
    pub fn key_differences(
        &self,
        driver: &str,
        backend: DbBackend,
        catalogue: &Catalogue,
        unique: &[Vec<QueryResult>],
    ) -> Result<Vec<String>, DbErr> {
        let dialect = Dialect::of(driver, backend);
        let each = self.keyed().zip(unique);
        let each = each.filter_map(|(table, unique)| key_difference(dialect, table, catalogue, unique).transpose());
        each.collect()
    }

    fn keyed(&self) -> impl Iterator<Item = &Table> {
        self.model.tables.iter().filter(|table| !table.key.is_empty())
    }
}
