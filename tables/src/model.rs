//! The declaration, compiled: names are looked up, relations and rules are resolved.

use std::{borrow::Cow, collections::HashMap};

use sea_orm::sea_query::{Alias, DynIden, IntoIden, IntoTableRef, TableRef};

use crate::{
    declaration::{AccessDeclaration, ColumnDeclaration, ColumnType, TableDeclaration, Tables, version},
    request::{filter::Tree, query::reserved, rule},
};

/// The tables that are served.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tables: Vec<Table>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in URLs.
    pub(crate) name: String,
    /// Its name in the database.
    pub(crate) source: String,
    pub(crate) schema: Option<String>,
    pub(crate) description: Option<String>,
    /// Places in `columns`.
    pub(crate) key: Vec<usize>,
    pub(crate) columns: Vec<Column>,
    pub(crate) relations: Vec<Relation>,
    pub(crate) roles: HashMap<String, Grant>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Column {
    /// Its name in URLs and JSON.
    pub(crate) name: String,
    /// Its name in the database.
    pub(crate) source: String,
    pub(crate) kind: ColumnType,
    pub(crate) nullable: bool,
    pub(crate) default: bool,
    pub(crate) generated: bool,
    pub(crate) read_only: bool,
    pub(crate) max: Option<u32>,
    /// The version of the schema that adds it.
    pub(crate) since: Option<i64>,
    pub(crate) description: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) name: String,
    /// The place of the other table.
    pub(crate) to: usize,
    /// Places of columns here and there.
    pub(crate) on: Vec<(usize, usize)>,
    pub(crate) many: bool,
}

/// What a role may do.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) read: Option<Access>,
    pub(crate) create: Option<Access>,
    pub(crate) update: Option<Access>,
    pub(crate) delete: Option<Access>,
}

#[derive(Debug)]
pub(crate) struct Access {
    /// For each column of the table, whether it may be used.
    columns: Vec<bool>,
    pub(crate) rows: Option<Vec<Tree>>,
}

impl Access {
    pub(crate) fn has(&self, column: usize) -> bool {
        self.columns.get(column).copied().unwrap_or(false)
    }
}

impl Model {
    /// Compiles a declaration that was checked. What breaks a rule nevertheless is left out.
    pub(crate) fn new(tables: &Tables) -> Self {
        let names: HashMap<String, usize> = tables.keys().cloned().zip(0..).collect();
        let compiled = tables
            .iter()
            .map(|(name, table)| Table::new(name, table, tables, &names));
        Self {
            tables: compiled.collect(),
            by_name: names,
        }
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.by_name.get(name).and_then(|place| self.tables.get(*place))
    }

    /// A table's place.
    pub(crate) fn place(&self, table: &Table) -> usize {
        self.by_name.get(&table.name).copied().unwrap_or(usize::MAX)
    }

    /// The table that a relation leads to.
    pub(crate) fn target(&self, relation: &Relation) -> &Table {
        &self.tables[relation.to]
    }
}

impl Table {
    fn new(name: &str, declared: &TableDeclaration, tables: &Tables, names: &HashMap<String, usize>) -> Self {
        let columns: Vec<Column> = declared
            .columns
            .iter()
            .map(|(name, column)| Column::new(name, column))
            .collect();
        let by_name: HashMap<String, usize> = columns.iter().map(|column| column.name.clone()).zip(0..).collect();
        let place = |columns: &[(String, ColumnDeclaration)], name: &String| {
            columns.iter().position(|(known, _)| known == name)
        };
        let relations = declared.relations.iter().filter_map(|(name, relation)| {
            let other = tables.get(&relation.to)?;
            let on = relation
                .on
                .iter()
                .map(|(here, there)| Some((place(&declared.columns, here)?, place(&other.columns, there)?)));
            Some(Relation {
                name: name.clone(),
                to: *names.get(&relation.to)?,
                on: on.collect::<Option<_>>()?,
                many: relation.many,
            })
        });
        let access = |access: &Option<AccessDeclaration>| access.as_ref().map(|access| compile(access, declared));
        let roles = declared.allow.iter().map(|(role, allowed)| {
            let grant = Grant {
                read: access(&allowed.read),
                create: access(&allowed.create),
                update: access(&allowed.update),
                delete: access(&allowed.delete),
            };
            (role.clone(), grant)
        });
        Self {
            name: name.to_owned(),
            source: declared.table.clone().unwrap_or_else(|| name.to_owned()),
            schema: declared.schema.clone(),
            description: declared.description.clone(),
            key: declared
                .key
                .iter()
                .filter_map(|name| by_name.get(name).copied())
                .collect(),
            relations: relations.collect(),
            roles: roles.collect(),
            columns,
            by_name,
        }
    }

    /// The place of a column of this table.
    pub(crate) fn place(&self, column: &Column) -> Option<usize> {
        self.columns.iter().position(|known| std::ptr::eq(known, column))
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// How statements name it.
    pub(crate) fn reference(&self) -> TableRef {
        match &self.schema {
            Some(schema) => (Alias::new(schema), Alias::new(&self.source)).into_table_ref(),
            None => Alias::new(&self.source).into_table_ref(),
        }
    }
}

/// A rule that cannot be read allows no row.
fn compile(access: &AccessDeclaration, table: &TableDeclaration) -> Access {
    let columns = table.columns.iter().map(|(name, _)| match &access.columns {
        None => true,
        Some(listed) => listed.contains(name),
    });
    Access {
        columns: columns.collect(),
        rows: access.rows.as_ref().map(|rows| rule::read(rows).unwrap_or_default()),
    }
}

impl Column {
    fn new(name: &str, declared: &ColumnDeclaration) -> Self {
        Self {
            name: name.to_owned(),
            source: declared.column.clone().unwrap_or_else(|| name.to_owned()),
            kind: declared.kind.clone(),
            nullable: declared.nullable,
            default: declared.default,
            generated: declared.generated,
            read_only: declared.read_only,
            max: declared.max,
            since: declared.since.as_deref().and_then(version),
            description: declared.description.clone(),
        }
    }

    /// The name of the parameter that filters it: in quotes if it has another meaning without them.
    pub(crate) fn parameter(&self) -> Cow<'_, str> {
        match reserved(&self.name) {
            true => format!("\"{}\"", self.name).into(),
            false => self.name.as_str().into(),
        }
    }

    /// Whether clients may write it.
    pub(crate) fn is_written(&self) -> bool {
        !self.generated && !self.read_only
    }

    /// How statements name it.
    pub(crate) fn iden(&self) -> DynIden {
        Alias::new(&self.source).into_iden()
    }
}
