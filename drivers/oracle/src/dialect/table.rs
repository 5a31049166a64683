//! Translates the clause after FROM.

use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, SetExpr, TableAlias, TableFactor, TableWithJoins, Values,
};

use super::{
    Name, SourceColumn, Writer, names,
    query::check_query,
    refusal::{Result, refuse, refuse_if},
};

/// The names in a `SELECT`, each with its table if it names one.
pub(super) type Scope = Vec<(Name, Option<String>)>;

impl Writer {
    pub(super) fn scope(&self, from: &[TableWithJoins]) -> Result<Scope> {
        let mut scope = Scope::new();
        for table in from {
            for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
                match factor {
                    TableFactor::Table { name, alias, .. } => {
                        let known_as = alias.as_ref().map_or(names::last(name), |alias| Ok(&alias.name))?;
                        let is_query = name.0.len() == 1 && self.queries.contains(&Name::of(names::last(name)?)?);
                        let table = if is_query { None } else { Some(names::quoted(name)?) };
                        scope.push((Name::of(known_as)?, table));
                    }
                    TableFactor::Derived { alias: Some(alias), .. } => scope.push((Name::of(&alias.name)?, None)),
                    // Something that has no name: nothing is known of a column without a table
                    // then.
                    _ => scope.push((Name(String::new()), None)),
                }
            }
        }
        Ok(scope)
    }

    /// The table's column that a name refers to.
    pub(super) fn origin(&self, table: Option<&Ident>, column: &Ident) -> Result<Option<SourceColumn>> {
        let column = Name::of(column)?;
        let of = |table: &Option<String>| {
            table.clone().map(|table| SourceColumn {
                table,
                column: column.clone(),
            })
        };
        match table {
            Some(table) => {
                let table = Name::of(table)?;
                let found = self.scopes.iter().rev().flatten().find(|(name, _)| *name == table);
                Ok(found.and_then(|(_, table)| of(table)))
            }
            None => match self.scopes.last().map(Vec::as_slice) {
                Some([(_, table)]) => Ok(of(table)),
                _ => Ok(None),
            },
        }
    }

    pub(super) fn table_with_joins(&mut self, table: &TableWithJoins) -> Result<()> {
        self.table(&table.relation)?;
        for join in &table.joins {
            self.join(join)?;
        }
        Ok(())
    }

    fn join(&mut self, join: &Join) -> Result<()> {
        refuse_if(join.global, "`GLOBAL JOIN`")?;
        let (words, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => ("JOIN", constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => ("LEFT JOIN", constraint),
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => ("RIGHT JOIN", constraint),
            JoinOperator::FullOuter(constraint) => ("FULL JOIN", constraint),
            JoinOperator::CrossJoin(constraint) => ("CROSS JOIN", constraint),
            _ => return refuse("this kind of `JOIN`"),
        };
        self.push(" ");
        if matches!(constraint, JoinConstraint::Natural) {
            self.push("NATURAL ");
        }
        self.push(words);
        self.push(" ");
        self.table(&join.relation)?;
        match constraint {
            JoinConstraint::On(condition) => {
                self.push(" ON ");
                self.condition(condition)
            }
            JoinConstraint::Using(columns) => {
                self.push(" USING (");
                let columns: Vec<&Ident> = columns.iter().map(names::last).collect::<Result<_>>()?;
                self.names(columns)?;
                self.push(")");
                Ok(())
            }
            JoinConstraint::UsingAlias(..) => refuse("`USING` with a name"),
            JoinConstraint::Natural | JoinConstraint::None => Ok(()),
        }
    }

    /// A table or a sub-query. Oracle has no AS before the name of either.
    pub(super) fn table(&mut self, factor: &TableFactor) -> Result<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let plain = TableFactor::Table {
                    name: name.clone(),
                    alias: alias.clone(),
                    args: None,
                    with_hints: Vec::new(),
                    version: None,
                    with_ordinality: false,
                    partitions: Vec::new(),
                    json_path: None,
                    sample: None,
                    index_directives: Vec::new(),
                    inheritance: None,
                };
                refuse_if(*factor != plain, "an option of a table in `FROM`")?;
                let name = names::quoted(name)?;
                self.push(&name);
                self.alias(alias.as_ref())
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                if *lateral {
                    self.push("LATERAL ");
                }
                self.push("(");
                if let (SetExpr::Values(values), Some(alias)) = (&*subquery.body, alias)
                    && !alias.columns.is_empty()
                {
                    check_query(subquery)?;
                    let names: Vec<&Ident> = alias.columns.iter().map(|column| &column.name).collect();
                    self.rows(values, &names, &RowsOf::Query)?;
                    self.push(") ");
                    return self.name(&alias.name);
                }
                self.query(subquery)?;
                self.push(")");
                self.alias(alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                self.push("(");
                self.table_with_joins(table_with_joins)?;
                self.push(")");
                Ok(())
            }
            TableFactor::Table { .. } | TableFactor::Function { .. } | TableFactor::TableFunction { .. } => {
                refuse("a function in `FROM`")
            }
            TableFactor::Derived { .. } => refuse("`TABLESAMPLE`"),
            _ => refuse("this kind of table in `FROM`"),
        }
    }

    fn alias(&mut self, alias: Option<&TableAlias>) -> Result<()> {
        let Some(alias) = alias else { return Ok(()) };
        refuse_if(
            !alias.columns.is_empty(),
            "names for the columns of a table or sub-query",
        )?;
        self.push(" ");
        self.name(&alias.name)
    }

    /// `VALUES` as a query: Oracle before 23ai has no rows without a table.
    pub(super) fn rows(&mut self, values: &Values, columns: &[&Ident], of: &RowsOf<'_>) -> Result<()> {
        self.list(" UNION ALL ", &values.rows, |writer, row| {
            refuse_if(
                row.content.len() != columns.len(),
                "a row with more or fewer values than columns",
            )?;
            writer.push("SELECT ");
            let places = row.content.iter().zip(columns).enumerate();
            writer.list(", ", places, |writer, (place, (value, column))| {
                match of {
                    RowsOf::Query => writer.value(value)?,
                    RowsOf::Change { keys } => {
                        let first = writer.sql.binds.len();
                        writer.stored_in(column, value)?;
                        let is_compared = contains(keys, column)?;
                        for bind in writer.sql.binds.iter_mut().skip(first) {
                            bind.stored &= !is_compared;
                            bind.column = Some(place);
                        }
                    }
                }
                writer.push(" AS ");
                writer.name(column)
            })?;
            writer.push(" FROM DUAL");
            Ok(())
        })
    }
}

/// What the rows of `VALUES` are for.
pub(super) enum RowsOf<'a> {
    Query,
    /// They go into a table, in which they are looked up by these columns.
    Change {
        keys: &'a [Ident],
    },
}

fn contains(names: &[Ident], name: &Ident) -> Result<bool> {
    let name = Name::of(name)?;
    for other in names {
        if Name::of(other)? == name {
            return Ok(true);
        }
    }
    Ok(false)
}
