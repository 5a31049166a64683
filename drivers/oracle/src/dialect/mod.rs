//! Translates the statements that SeaORM writes for PostgreSQL to Oracle's SQL.
//!
//! A statement is parsed as PostgreSQL's and rewritten clause by clause. An unknown clause is
//! refused by its name. It is never dropped or passed through, since that could return wrong rows
//! without an error.
//!
//! * **Names.** PostgreSQL folds a name that is not quoted to lower case, Oracle to upper case. A
//!   name in lower case is therefore written in upper case, quoted: the entity `users` finds the
//!   table that `CREATE TABLE users` makes on Oracle. A name with an upper-case letter in it is
//!   written as it is.
//! * **Parameters.** Each place that uses one has a name of its own, `:p1`, `:p2`, ... in the order
//!   of the text.
//! * **Booleans** are numbers: 1 and 0. A condition that is used as a value becomes a `CASE`, a
//!   value that is used as a condition is compared with 1.
//! * **The empty string** is NULL in a `VARCHAR2` column, as always on Oracle: a `NOT NULL` column
//!   refuses it, and another one reads it as NULL. A `CLOB` keeps it.
//! * **Types.** `CAST` gives a result its type if Oracle's own description does not, so `select_as`
//!   of SeaORM works.

mod change;
mod condition;
mod expression;
mod function;
mod literal;
mod merge;
mod names;
mod query;
mod refusal;
mod schema;
mod table;
#[cfg(test)]
mod tests;
mod types;

use sqlparser::{
    ast::{Expr, Ident, Statement},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

pub(crate) use names::{Name, from_oracle};
pub(crate) use refusal::DialectError;
use refusal::{Result, refuse};
use table::Scope;

/// How deep a statement may nest, against a stack that overflows.
const DEEPEST: usize = 80;

/// The steps on Oracle for one statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// Gives rows.
    Query {
        sql: Sql,
        columns: Vec<Output>,
        /// Whether it locks rows, and so opens a transaction that must be ended if there was none.
        locks: bool,
    },
    /// Changes rows by one statement, or by several as one unit, and may return rows.
    Change {
        statements: Vec<Sql>,
        returning: Option<Returning>,
        /// Whether a row with a unique value that is taken is left out, and no error.
        skips_taken: bool,
    },
    /// Inserts or updates rows, by several statements that stand or fall together.
    Merge {
        steps: Vec<Step>,
        /// The rows are read only if the step's first statement touched one.
        only_if_touched: bool,
    },
    /// Changes tables. Oracle commits before and after it.
    Definition {
        sql: String,
        /// The error that means it had been done before, for `IF NOT EXISTS` and `IF EXISTS`.
        tolerates: Option<i32>,
    },
}

/// Inserts or updates rows, and reads them again if they are to be returned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) sql: Sql,
    pub(crate) then: Option<(Sql, Vec<Output>)>,
}

/// A statement for Oracle, and what is to be bound in the order of its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) binds: Vec<Bind>,
    /// The columns into which values are written as they are, each with the value's place in the
    /// statement's values, from 0.
    pub(crate) stores: Vec<(usize, SourceColumn)>,
}

/// One place for a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bind {
    /// Which of the statement's values, from 0.
    pub(crate) parameter: usize,
    /// Whether it is written into a column as it is, and is not part of an expression.
    pub(crate) stored: bool,
    /// The column of a query of several rows that it stands in, which has one type in all of them.
    pub(crate) column: Option<usize>,
}

/// One column of a result.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Output {
    /// Its name in PostgreSQL; `None` if only Oracle knows it, as behind `*`.
    pub(crate) name: Option<String>,
    /// Its type, if the statement determines it.
    pub(crate) kind: Option<Kind>,
    /// The table's column that its value comes from, by Oracle's names.
    pub(crate) origin: Option<SourceColumn>,
    /// Whether it is the sum of that column's values, which PostgreSQL gives in a wider type.
    pub(crate) sum: bool,
    /// The columns of a calculation with whole numbers, if it is one.
    pub(crate) operands: Vec<SourceColumn>,
}

/// A column of a table, by Oracle's names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SourceColumn {
    /// As it is written in a statement, quoted, with its schema if one was given.
    pub(crate) table: String,
    pub(crate) column: Name,
}

/// The types that a statement can determine, in SeaORM's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Bool,
    SmallInt,
    Int,
    BigInt,
    Decimal,
    Float,
    Double,
    Text,
    Bytes,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    Json,
}

/// The values that a change returns, by out binds at the end of its statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Returning {
    pub(crate) columns: Vec<Output>,
    /// A query for the same columns without rows. Its description gives the types to bind.
    pub(crate) describe: String,
}

/// Translates one statement.
pub(crate) fn translate(sql: &str) -> Result<Plan> {
    let dialect = PostgreSqlDialect {};
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(DEEPEST)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(DialectError::Syntax)?;
    let statement = match (statements.pop(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => return Err(DialectError::Empty),
        _ => return refuse("several statements at once"),
    };
    match &statement {
        Statement::Query(query) => query::plan(query),
        Statement::Insert(insert) => change::insert(insert),
        Statement::Update(update) => change::update(update),
        Statement::Delete(delete) => change::delete(delete),
        other => schema::plan(other),
    }
}

/// The place of a value, which counts from 1. It begins with a letter: not every parser of Oracle's
/// SQL takes a number.
fn place(number: usize) -> String {
    format!(":p{number}")
}

/// Writes text, and keeps what is to be bound.
#[derive(Debug, Default)]
struct Writer {
    sql: Sql,
    scopes: Vec<Scope>,
    /// The names that `WITH` has defined so far; they are not tables of the database.
    queries: Vec<Name>,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.sql.text.push_str(text);
    }

    fn bind(&mut self, parameter: usize, stored: bool) {
        self.sql.binds.push(Bind {
            parameter,
            stored,
            column: None,
        });
        let number = self.sql.binds.len();
        self.push(&place(number));
    }

    /// Writes items with something between them.
    fn list<T>(
        &mut self,
        between: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<()>,
    ) -> Result<()> {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.push(between);
            }
            write(self, item)?;
        }
        Ok(())
    }

    /// A value that is written into this column of the innermost scope's table.
    fn stored_in(&mut self, column: &Ident, expr: &Expr) -> Result<()> {
        let table = self.scopes.last().and_then(|scope| scope.last());
        if let (Some(parameter), Some((_, Some(table)))) = (literal::placeholder(expr)?, table) {
            let (table, column) = (table.clone(), Name::of(column)?);
            self.sql.stores.push((parameter, SourceColumn { table, column }));
        }
        self.stored(expr)
    }

    /// A value that is written into a column.
    fn stored(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default") => {
                self.push("DEFAULT");
                Ok(())
            }
            _ => match literal::placeholder(expr)? {
                Some(parameter) => {
                    self.bind(parameter, true);
                    Ok(())
                }
                None => self.value(expr),
            },
        }
    }
}
