//! One statement in a session: its values bound, its rows read.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use oracle::{Connection, SqlValue, Statement, sql_type::OracleType};
use sea_orm::Value;
use tenantry_core::{
    DatabaseErrorKind,
    driver_settings::{MaxAnswer, Room},
};

use crate::{
    bind::{AsLob, bind, needs_lob},
    dialect::{Bind, Kind, Output, Returning, SourceColumn, Sql, from_oracle},
    errors::Failure,
    read::{self, Reader},
    session::{Outcome, Rows, Session, locked},
};

/// How many rows come with one round trip.
const ROWS_AT_ONCE: u32 = 100;

/// How many answers of the database about its own columns are kept.
const KNOWN_COLUMNS: usize = 1000;

impl Session {
    pub(crate) fn query(
        &mut self,
        sql: &Sql,
        values: &[Value],
        outputs: &[Output],
        one: bool,
    ) -> Result<Rows, Failure> {
        self.autocommit(false);
        let connection = Arc::clone(&self.connection);
        let open = locked(&connection);
        let alone = self.depth == 0;
        let failed = |error| Failure::of(error, alone);
        let at_once = if one { 1 } else { ROWS_AT_ONCE };
        let mut builder = open.statement(&sql.text);
        let mut statement = builder
            .fetch_array_size(at_once)
            // One more, so that the end is known without another round trip.
            .prefetch_rows(at_once + 1)
            .lob_locator()
            .build()
            .map_err(failed)?;
        bind_all(&mut statement, &open, sql, values, alone)?;
        let results = statement.query(&[]).map_err(failed)?;
        let described: Vec<OracleType> = results
            .column_info()
            .iter()
            .map(|column| column.oracle_type().clone())
            .collect();
        let columns: Vec<String> = results
            .column_info()
            .iter()
            .enumerate()
            .map(
                |(index, column)| match outputs.get(index).and_then(|output| output.name.clone()) {
                    Some(name) => name,
                    None => from_oracle(column.name()),
                },
            )
            .collect();
        let readers = self.readers(outputs, &described)?;
        let mut rows = Vec::new();
        let mut room = self.max_answer.room();
        for row in results {
            let row = row.map_err(|error| Failure::of(error, alone && rows.is_empty()))?;
            rows.push(read_row(row.sql_values(), &readers, &described, &mut room)?);
            if one {
                break;
            }
        }
        settle(&mut rows, &readers)?;
        Ok(Rows { columns, rows })
    }

    pub(crate) fn change(
        &mut self,
        sql: &Sql,
        values: &[Value],
        returning: Option<&Returning>,
        autocommit: bool,
    ) -> Result<Outcome, Failure> {
        for (parameter, column) in &sql.stores {
            if let Some(value) = values.get(*parameter) {
                self.offsets.note(column, value);
            }
        }
        let types = match returning {
            Some(returning) => Some((returning, self.describe(&returning.describe)?)),
            None => None,
        };
        let readers = match &types {
            Some((returning, types)) => self.readers(&returning.columns, types)?,
            None => Vec::new(),
        };
        self.autocommit(autocommit);
        let open = locked(&self.connection);
        let alone = self.depth == 0;
        let failed = |error| Failure::of(error, alone);
        let mut statement = open.statement(&sql.text).build().map_err(failed)?;
        bind_all(&mut statement, &open, sql, values, alone)?;
        let first = sql.binds.len() + 1;
        if let Some((_, types)) = &types {
            for (place, oracle_type) in (first..).zip(types.iter()) {
                statement.bind(place, oracle_type).map_err(failed)?;
            }
        }
        statement.execute(&[]).map_err(|error| match autocommit {
            true => Failure::of_committing(error, alone),
            false => failed(error),
        })?;
        let touched = statement.row_count().map_err(failed)?;
        let Some((returning, types)) = types else {
            return Ok(Outcome {
                touched,
                rows: Rows::default(),
            });
        };
        let mut rows = vec![Vec::with_capacity(types.len()); usize::try_from(touched).unwrap_or_default()];
        let columns = readers.iter().copied().zip(types.iter());
        read_returned(&statement, first, columns, self.max_answer, &mut rows)?;
        settle(&mut rows, &readers)?;
        let columns = returning
            .columns
            .iter()
            .map(|output| output.name.clone().unwrap_or_default())
            .collect();
        Ok(Outcome {
            touched,
            rows: Rows { columns, rows },
        })
    }

    /// How to read each column of a result.
    fn readers(&mut self, outputs: &[Output], described: &[OracleType]) -> Result<Vec<Reader>, Failure> {
        let unknown = Output::default();
        let mut readers = Vec::with_capacity(described.len());
        for (index, oracle_type) in described.iter().enumerate() {
            let output = outputs.get(index).unwrap_or(&unknown);
            let (mut source, mut json) = (None, false);
            if output.kind.is_none()
                && let Some(kind) = self.calculated(output, oracle_type)?
            {
                readers.push(Reader::Kind(kind));
                continue;
            }
            if let Some(origin) = &output.origin
                && output.kind.is_none()
            {
                match oracle_type {
                    OracleType::Number(0, _) => source = self.source(origin)?,
                    OracleType::CLOB | OracleType::NCLOB | OracleType::BLOB => json = self.is_json(origin)?,
                    OracleType::TimestampTZ(_) => {
                        if let Some(zone) = self.offsets.of(origin) {
                            readers.push(Reader::Zoned(zone));
                            continue;
                        }
                    }
                    _ => {}
                }
            }
            readers.push(read::reader(output, oracle_type, source.as_ref(), json)?);
        }
        Ok(readers)
    }

    /// The type of a calculation, if it is one of whole numbers.
    fn calculated(&mut self, output: &Output, described: &OracleType) -> Result<Option<Kind>, Failure> {
        if output.operands.is_empty() || !matches!(described, OracleType::Number(0, _)) {
            return Ok(None);
        }
        let mut columns = Vec::new();
        for operand in &output.operands {
            columns.push(self.source(operand)?);
        }
        Ok(read::calculated(columns.iter().map(Option::as_ref)))
    }

    /// What Oracle says of a table's column.
    fn source(&mut self, origin: &SourceColumn) -> Result<Option<OracleType>, Failure> {
        let sql = format!(
            "SELECT {}.\"{}\" FROM {} WHERE 1 = 0",
            origin.table, origin.column.0, origin.table
        );
        Ok(self.describe(&sql)?.first().cloned())
    }

    /// The types of a query's columns.
    fn describe(&mut self, sql: &str) -> Result<Arc<Vec<OracleType>>, Failure> {
        if let Some(known) = self.described.get(sql) {
            return Ok(Arc::clone(known));
        }
        self.autocommit(false);
        let types = self.prepared(sql, |_, statement| {
            let results = statement.query(&[])?;
            Ok(results
                .column_info()
                .iter()
                .map(|column| column.oracle_type().clone())
                .collect::<Vec<_>>())
        })?;
        if self.described.len() >= KNOWN_COLUMNS {
            self.described.clear();
        }
        let types = Arc::new(types);
        self.described.insert(sql.to_owned(), Arc::clone(&types));
        Ok(types)
    }

    /// Whether a LOB column holds JSON, which only a constraint of its table says.
    fn is_json(&mut self, origin: &SourceColumn) -> Result<bool, Failure> {
        if let Some(known) = self.json.get(origin) {
            return Ok(*known);
        }
        let table = origin.table.trim_matches('"');
        let count = self.prepared_count(match table.split_once("\".\"") {
            None => (
                "SELECT COUNT(*) FROM USER_JSON_COLUMNS WHERE TABLE_NAME = :p1 AND COLUMN_NAME = :p2",
                vec![table, &origin.column.0],
            ),
            Some((owner, table)) => (
                "SELECT COUNT(*) FROM ALL_JSON_COLUMNS WHERE TABLE_NAME = :p1 AND COLUMN_NAME = :p2 AND OWNER = :p3",
                vec![table, &origin.column.0, owner],
            ),
        })?;
        if self.json.len() >= KNOWN_COLUMNS {
            self.json.clear();
        }
        self.json.insert(origin.clone(), count > 0);
        Ok(count > 0)
    }

    fn prepared_count(&self, (sql, names): (&str, Vec<&str>)) -> Result<i64, Failure> {
        self.autocommit(false);
        self.prepared(sql, |_, statement| {
            for (place, name) in (1..).zip(&names) {
                statement.bind(place, name)?;
            }
            statement.query_row_as::<i64>(&[])
        })
    }
}

fn bind_all(
    statement: &mut Statement,
    connection: &Connection,
    sql: &Sql,
    values: &[Value],
    alone: bool,
) -> Result<(), Failure> {
    let lobs = lobs(sql, values);
    for ((place, to_bind), lob) in (1..).zip(&sql.binds).zip(lobs) {
        let Some(value) = values.get(to_bind.parameter) else {
            return Err(Failure::here(
                DatabaseErrorKind::Other,
                "the statement has more parameters than values",
            ));
        };
        bind(statement, connection, place, value, lob, alone)?;
    }
    Ok(())
}

/// Which places are bound as LOBs. In a query of several rows, as an insert of several has one, the
/// values of a column have one type (ORA-01790).
fn lobs(sql: &Sql, values: &[Value]) -> Vec<AsLob> {
    let needs = |bind: &Bind| values.get(bind.parameter).is_some_and(needs_lob);
    let stored = sql.binds.iter().filter(|bind| bind.stored);
    let columns: HashSet<usize> = stored.filter_map(|bind| bind.column.filter(|_| needs(bind))).collect();
    let of = |bind: &Bind| match bind.column {
        _ if !bind.stored => AsLob::Never,
        Some(column) if columns.contains(&column) => AsLob::Always,
        _ => AsLob::IfNeeded,
    };
    sql.binds.iter().map(of).collect()
}

fn read_row(
    values: &[SqlValue<'_>],
    readers: &[Reader],
    described: &[OracleType],
    room: &mut Room,
) -> Result<Vec<Value>, Failure> {
    read::room_for(room.take_row(values.iter().map(|_| 0)))?;
    let columns = values.iter().zip(readers).zip(described);
    columns
        .map(|((value, reader), described)| read::value(*reader, value, described, room))
        .collect()
}

/// Reads what a change returned into its rows, column by column, as the library gives it.
fn read_returned<'a>(
    statement: &Statement,
    first: usize,
    columns: impl Iterator<Item = (Reader, &'a OracleType)>,
    max_answer: MaxAnswer,
    rows: &mut [Vec<Value>],
) -> Result<(), Failure> {
    let mut room = max_answer.room();
    for (place, (reader, oracle_type)) in (first..).zip(columns) {
        RETURNED.set(Some((reader, oracle_type.clone(), room)));
        let values = statement.returned_values(place);
        let values: Vec<Returned> = values.map_err(|error| Failure::of(error, false))?;
        room = RETURNED.take().map_or_else(|| max_answer.room(), |(_, _, room)| room);
        for (row, Returned(value)) in rows.iter_mut().zip(values) {
            row.push(value?);
        }
    }
    Ok(())
}

fn settle(rows: &mut [Vec<Value>], readers: &[Reader]) -> Result<(), Failure> {
    for (column, reader) in readers.iter().enumerate() {
        if *reader == Reader::Number {
            read::settle_numbers(rows, column)?;
        }
    }
    Ok(())
}

thread_local! {
    /// How [`Returned`] is to read: the crate `oracle` gives what a change returns only through a
    /// type, which knows of no column.
    static RETURNED: RefCell<Option<(Reader, OracleType, Room)>> = const { RefCell::new(None) };
}

/// A value that a change returned.
struct Returned(Result<Value, Failure>);

impl oracle::sql_type::FromSql for Returned {
    fn from_sql(value: &SqlValue<'_>) -> oracle::Result<Self> {
        RETURNED.with_borrow_mut(|how| match how {
            Some((reader, described, room)) => Ok(Self(read::value(*reader, value, described, room))),
            None => Err(oracle::Error::new(
                oracle::ErrorKind::InternalError,
                "no column to read",
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Plan, translate};

    fn inserted(values: &[Value]) -> Vec<AsLob> {
        match translate("INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)").unwrap() {
            Plan::Change { statements, .. } => lobs(&statements[0], values),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_values_of_a_column_are_lobs_if_one_has_to_be() {
        use AsLob::{Always, IfNeeded};
        let row = |a: &str, b: Option<&str>| [Value::from(a), Value::from(b.map(str::to_owned))];
        let values = |rows: [[Value; 2]; 2]| rows.concat();
        let plain = values([row("x", None), row("y", Some("z"))]);
        assert_eq!(inserted(&plain), [IfNeeded; 4]);
        let long = "x".repeat(4001);
        for other in ["", long.as_str()] {
            let mixed = values([row("x", None), row("y", Some(other))]);
            assert_eq!(inserted(&mixed), [IfNeeded, Always, IfNeeded, Always]);
        }
    }
}
