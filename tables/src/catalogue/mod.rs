//! A tenant's own catalogue: which tables and columns its database has.

mod compare;
mod kinds;
mod pull;
mod statements;
mod unique;

use std::collections::BTreeMap;

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use crate::{declaration::ColumnType, sql::Dialect};
use compare::same;

pub(crate) use compare::{Facts, compare, key_difference};
pub use pull::{Pulled, pull};
pub(crate) use unique::{is_unique, unique_columns};

/// What a database has.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub(crate) dialect: Dialect,
    pub(crate) tables: Vec<FoundTable>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundTable {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
    /// Whether it is found without its schema.
    pub(crate) visible: bool,
    /// Whether PostgreSQL does not return the system columns of a changed row: it is a view, or its
    /// rows are in other tables.
    lacks_system_columns: bool,
    pub(crate) comment: Option<String>,
    pub(crate) columns: Vec<FoundColumn>,
    /// The columns of its primary key.
    pub(crate) key: Vec<String>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
}

impl FoundTable {
    /// Puts foreign keys in the order of their columns. Each kind of database lists them in another
    /// order, and of several to one table the first gets the plain name.
    fn sort_foreign_keys(&mut self, dialect: Dialect) {
        let columns = &self.columns;
        let place = |name: &String| columns.iter().position(|column| same(dialect, &column.name, name));
        self.foreign_keys
            .sort_by_cached_key(|key| key.columns.iter().map(place).collect::<Vec<_>>());
    }
}

#[derive(Debug, Clone)]
pub(crate) struct FoundColumn {
    pub(crate) name: String,
    /// The database's own word for its type.
    pub(crate) type_name: String,
    /// The type as declarations have it; `None` if they have none for it.
    pub(crate) kind: Option<ColumnType>,
    pub(crate) nullable: bool,
    pub(crate) default: bool,
    pub(crate) generated: bool,
    pub(crate) max: Option<u32>,
    pub(crate) comment: Option<String>,
    /// PostgreSQL's name of an enumeration, quoted.
    pub(crate) enum_type: Option<String>,
    /// Its collation on PostgreSQL, if it is not the database's own, and on MySQL.
    pub(crate) collation: Option<String>,
}

impl FoundColumn {
    /// Whether the database cannot compare it with another column, because of their collations, or
    /// finds texts equal that are not the same.
    fn is_mixed_with(&self, other: &Self) -> bool {
        let is_lax = |collation: &String| collation.ends_with(statements::LAX);
        match (&self.collation, &other.collation) {
            (Some(one), Some(other)) => one != other || is_lax(one),
            (Some(only), None) | (None, Some(only)) => is_lax(only),
            (None, None) => false,
        }
    }
}

/// A foreign key: columns here, and the table and its columns that they refer to.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// The schema of the other table, on PostgreSQL.
    pub(crate) to_schema: Option<String>,
    pub(crate) to: String,
    pub(crate) to_columns: Vec<String>,
}

impl Catalogue {
    /// How many tables and views there are.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }
}

/// The statements that read a catalogue, in the order in which [`read`](Self::read) takes their
/// rows.
#[derive(Debug)]
pub struct CatalogueReader {
    dialect: Dialect,
    /// The tables that are looked for; all of them if `None`.
    tables: Option<Vec<Named>>,
}

/// A declared table by its name in the database.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl CatalogueReader {
    /// For the driver of this `type`, which speaks this SQL; of all tables.
    pub fn of_all(driver: &str, backend: DbBackend) -> Self {
        Self {
            dialect: Dialect::of(driver, backend),
            tables: None,
        }
    }

    /// The statement that returns the names of views that [`columns`](Self::columns) leaves out.
    /// Each of them is read by itself, since one that refers to something missing cannot be read.
    pub fn views(&self) -> Option<Statement> {
        let is_left_out = self.dialect == Dialect::Sqlite && self.tables.is_none();
        is_left_out.then(|| Statement::from_string(DbBackend::Sqlite, statements::SQLITE_VIEWS))
    }

    /// The statement that returns the columns of one such view.
    pub fn columns_of_view(&self, name: &str) -> Statement {
        let view = Named {
            schema: None,
            table: name.to_owned(),
        };
        statements::columns(self.dialect, Some(&[view]))
    }

    pub(crate) fn of_tables(dialect: Dialect, tables: Vec<Named>) -> Self {
        Self {
            dialect,
            tables: Some(tables),
        }
    }

    /// The statement that returns the columns, one a row.
    pub fn columns(&self) -> Statement {
        statements::columns(self.dialect, self.tables.as_deref())
    }

    /// The statement that returns the columns of keys, one a row.
    pub fn keys(&self) -> Statement {
        statements::keys(self.dialect)
    }

    /// Builds the catalogue from the rows of both statements.
    ///
    /// # Errors
    /// There are more columns than are read, or a row does not have the expected ones.
    pub fn read(&self, columns: &[QueryResult], keys: &[QueryResult]) -> Result<Catalogue, DbErr> {
        if columns.len() > statements::MOST_COLUMNS {
            let most = statements::MOST_COLUMNS;
            return Err(DbErr::Custom(format!("the database has more than {most} columns")));
        }
        let mut tables: BTreeMap<(Option<String>, String), FoundTable> = BTreeMap::new();
        for row in columns {
            let row = statements::Column::read(self.dialect, row)?;
            let name = (row.schema.clone(), row.table.clone());
            let table = tables.entry(name).or_insert_with(|| FoundTable {
                schema: row.schema.clone(),
                name: row.table.clone(),
                visible: row.visible,
                lacks_system_columns: row.lacks_system_columns,
                comment: row.table_comment.clone(),
                columns: Vec::new(),
                key: Vec::new(),
                foreign_keys: Vec::new(),
            });
            table.columns.push(row.found);
        }
        for row in keys {
            let row = statements::KeyColumn::read(self.dialect, row)?;
            let same = |table: &&mut FoundTable| {
                table.name == row.table && (row.schema.is_none() || table.schema == row.schema)
            };
            if let Some(table) = tables.values_mut().find(same) {
                row.add_to(table);
            }
        }
        let mut tables: Vec<FoundTable> = tables.into_values().collect();
        for table in &mut tables {
            table.sort_foreign_keys(self.dialect);
        }
        Ok(Catalogue {
            dialect: self.dialect,
            tables,
        })
    }
}
