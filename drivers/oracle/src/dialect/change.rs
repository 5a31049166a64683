//! Statements that change rows.

use std::sync::LazyLock;

use sqlparser::{
    ast::{
        Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, Insert, ObjectName, OnInsert, SelectItem,
        SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, Values,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Name, Plan, Returning, Sql, Writer, merge, names,
    refusal::{Result, refuse, refuse_if},
    table::{RowsOf, Scope},
};

fn plain(sql: &str) -> Option<Statement> {
    Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?.pop()
}

/// The plainest of each, to find what another one has besides the clauses that are known here.
static PLAIN: LazyLock<(Option<Statement>, Option<Statement>, Option<Statement>)> = LazyLock::new(|| {
    (
        plain("INSERT INTO t VALUES (1)"),
        plain("UPDATE t SET a = 1"),
        plain("DELETE FROM t"),
    )
});

pub(super) fn insert(insert: &Insert) -> Result<Plan> {
    check_insert(insert)?;
    let TableObject::TableName(table) = &insert.table else {
        return refuse("`INSERT` into a function or a query");
    };
    let columns: Vec<&Ident> = insert.columns.iter().map(names::last).collect::<Result<_>>()?;
    let Some(source) = &insert.source else {
        return refuse("`INSERT ... DEFAULT VALUES`");
    };
    let returning = insert.returning.as_deref();
    let target = Target { table, columns };
    let values = match &*source.body {
        SetExpr::Values(values) => {
            let limited = source.order_by.is_some() || source.limit_clause.is_some() || source.with.is_some();
            refuse_if(limited, "a clause after `VALUES`")?;
            values
        }
        _ => {
            refuse_if(insert.on.is_some(), "`INSERT ... SELECT ... ON CONFLICT`")?;
            // ORA-00933 before 23ai.
            refuse_if(returning.is_some(), "`INSERT ... SELECT ... RETURNING`")?;
            let mut writer = target.start()?;
            writer.push(" ");
            writer.query(source)?;
            return Ok(change(vec![writer.sql], None));
        }
    };
    match &insert.on {
        None => target.rows(values, returning),
        Some(OnInsert::OnConflict(conflict)) => merge::plan(&target, values, conflict, returning),
        Some(_) => refuse("`ON DUPLICATE KEY`"),
    }
}

fn change(statements: Vec<Sql>, returning: Option<Returning>) -> Plan {
    Plan::Change {
        statements,
        returning,
        skips_taken: false,
    }
}

/// The table and the columns of an insert.
pub(super) struct Target<'a> {
    pub(super) table: &'a ObjectName,
    pub(super) columns: Vec<&'a Ident>,
}

impl Target<'_> {
    fn start(&self) -> Result<Writer> {
        let mut writer = Writer::default();
        writer.scopes.push(table_scope(self.table, self.table)?);
        writer.push("INSERT INTO ");
        let table = names::quoted(self.table)?;
        writer.push(&table);
        if !self.columns.is_empty() {
            writer.push(" (");
            writer.names(self.columns.iter().copied())?;
            writer.push(")");
        }
        Ok(writer)
    }

    pub(super) fn rows(&self, values: &Values, returning: Option<&[SelectItem]>) -> Result<Plan> {
        let has_default = values.rows.iter().flat_map(|row| &row.content).any(is_default);
        if values.rows.len() > 1 && returning.is_none() && !has_default && !self.columns.is_empty() {
            let mut writer = self.start()?;
            writer.push(" ");
            writer.rows(values, &self.columns, &RowsOf::Change { keys: &[] })?;
            return Ok(change(vec![writer.sql], None));
        }
        let (statements, returning) = self.each_row(values, returning)?;
        Ok(change(statements, returning))
    }

    /// `ON CONFLICT DO NOTHING` without the columns of a key: what is taken may be a value of any.
    pub(super) fn rows_that_are_not_taken(&self, values: &Values, returning: Option<&[SelectItem]>) -> Result<Plan> {
        let (statements, returning) = self.each_row(values, returning)?;
        Ok(Plan::Change {
            statements,
            returning,
            skips_taken: true,
        })
    }

    /// A statement for each row. Oracle returns the values of one row only, and allows DEFAULT only
    /// in such an insert.
    fn each_row(&self, values: &Values, returning: Option<&[SelectItem]>) -> Result<(Vec<Sql>, Option<Returning>)> {
        let mut statements = Vec::new();
        let mut gives = None;
        for row in &values.rows {
            let mut writer = self.start()?;
            writer.push(" VALUES (");
            writer.list(
                ", ",
                row.content.iter().enumerate(),
                |writer, (place, value)| match self.columns.get(place) {
                    Some(column) => writer.stored_in(column, value),
                    None => writer.stored(value),
                },
            )?;
            writer.push(")");
            gives = writer.returning(returning, &names::quoted(self.table)?)?;
            statements.push(writer.sql);
        }
        Ok((statements, gives))
    }
}

fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn table_scope(known_as: &ObjectName, table: &ObjectName) -> Result<Scope> {
    Ok(vec![(Name::of(names::last(known_as)?)?, Some(names::quoted(table)?))])
}

pub(super) fn update(update: &Update) -> Result<Plan> {
    check_update(update)?;
    refuse_if(update.from.is_some(), "`UPDATE ... FROM`")?;
    let mut writer = Writer::default();
    writer.push("UPDATE ");
    let from = writer.target(&update.table)?;
    writer.push(" SET ");
    writer.assignments(&update.assignments)?;
    writer.matching(update.selection.as_ref())?;
    let returning = writer.returning(update.returning.as_deref(), &from)?;
    Ok(change(vec![writer.sql], returning))
}

pub(super) fn delete(delete: &Delete) -> Result<Plan> {
    check_delete(delete)?;
    refuse_if(delete.using.is_some(), "`DELETE ... USING`")?;
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    let [table] = tables.as_slice() else {
        return refuse("`DELETE` from several tables");
    };
    let mut writer = Writer::default();
    writer.push("DELETE FROM ");
    let from = writer.target(table)?;
    writer.matching(delete.selection.as_ref())?;
    let returning = writer.returning(delete.returning.as_deref(), &from)?;
    Ok(change(vec![writer.sql], returning))
}

impl Writer {
    /// Returns the changed table as it would be written after FROM.
    fn target(&mut self, table: &TableWithJoins) -> Result<String> {
        refuse_if(!table.joins.is_empty(), "a `JOIN` in a change of rows")?;
        let TableFactor::Table { name, alias, .. } = &table.relation else {
            return refuse("a change of something that is no table");
        };
        let known_as = match alias {
            Some(alias) => Name::of(&alias.name)?,
            None => Name::of(names::last(name)?)?,
        };
        self.scopes.push(vec![(known_as, Some(names::quoted(name)?))]);
        let start = self.sql.text.len();
        self.table(&table.relation)?;
        Ok(self.sql.text[start..].to_owned())
    }

    pub(super) fn assignments(&mut self, assignments: &[Assignment]) -> Result<()> {
        self.list(", ", assignments, |writer, assignment| {
            let AssignmentTarget::ColumnName(column) = &assignment.target else {
                return refuse("`SET` of several columns at once");
            };
            let column = names::last(column)?;
            writer.name(column)?;
            writer.push(" = ");
            writer.stored_in(column, &assignment.value)
        })
    }

    fn matching(&mut self, condition: Option<&Expr>) -> Result<()> {
        match condition {
            None => Ok(()),
            Some(condition) => {
                self.push(" WHERE ");
                self.condition(condition)
            }
        }
    }

    /// `RETURNING ... INTO`: the places for what comes back follow those for what goes in.
    fn returning(&mut self, items: Option<&[SelectItem]>, from: &str) -> Result<Option<Returning>> {
        let Some(items) = items else { return Ok(None) };
        let mut list = Writer {
            scopes: self.scopes.clone(),
            ..Writer::default()
        };
        let mut columns = Vec::new();
        list.list(", ", items, |writer, item| {
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
                _ => return refuse("`RETURNING *`"),
            };
            let mut output = writer.output(expr)?;
            if let Some(alias) = alias {
                output.name = Some(names::postgres(alias));
            }
            columns.push(output);
            writer.value(expr)
        })?;
        refuse_if(!list.sql.binds.is_empty(), "a parameter after `RETURNING`")?;
        let list = list.sql.text;
        let first = self.sql.binds.len() + 1;
        let places: Vec<String> = (first..first + columns.len()).map(super::place).collect();
        self.push(&format!(" RETURNING {list} INTO {}", places.join(", ")));
        Ok(Some(Returning {
            columns,
            describe: format!("SELECT {list} FROM {from} WHERE 1 = 0"),
        }))
    }
}

fn check_insert(insert: &Insert) -> Result<()> {
    let Some(Statement::Insert(plain)) = &PLAIN.0 else {
        return refuse("`INSERT`");
    };
    let rest = Insert {
        table: plain.table.clone(),
        columns: Vec::new(),
        source: plain.source.clone(),
        on: None,
        returning: None,
        ..insert.clone()
    };
    refuse_if(rest != *plain, "a clause of this `INSERT`")
}

fn check_update(update: &Update) -> Result<()> {
    let Some(Statement::Update(plain)) = &PLAIN.1 else {
        return refuse("`UPDATE`");
    };
    let rest = Update {
        table: plain.table.clone(),
        assignments: plain.assignments.clone(),
        from: None,
        selection: None,
        returning: None,
        ..update.clone()
    };
    refuse_if(rest != *plain, "a clause of this `UPDATE`")
}

fn check_delete(delete: &Delete) -> Result<()> {
    let Some(Statement::Delete(plain)) = &PLAIN.2 else {
        return refuse("`DELETE`");
    };
    let rest = Delete {
        from: plain.from.clone(),
        using: None,
        selection: None,
        returning: None,
        ..delete.clone()
    };
    refuse_if(rest != *plain, "a clause of this `DELETE`")
}
