//! Changes of rows: which columns are set to what, and whether the role may.

use std::collections::HashSet;

use crate::{
    caller::Caller,
    catalogue::Facts,
    model::{Access, Column, Table},
    plan::condition::refuse,
    refusal::{At, Refusal},
    request::{
        body::{Body, Row},
        head::Missing,
    },
    sql::{Assignment, Dialect},
    value::{Datum, Malformed},
};

/// New rows, or the values of changed ones.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Places of the columns that are set.
    pub(crate) columns: Vec<usize>,
    /// For each row, what they are set to.
    pub(crate) rows: Vec<Vec<Assignment>>,
}

/// Reads a body's rows.
pub(crate) struct Reader<'m, 'q> {
    pub(crate) table: &'m Table,
    /// The table's place in the model.
    pub(crate) table_place: usize,
    /// How the tenant's database differs from the declaration.
    pub(crate) facts: Option<&'q Facts>,
    pub(crate) access: &'m Access,
    pub(crate) caller: Caller<'q>,
    /// The parameter `columns`.
    pub(crate) columns: Option<&'q [String]>,
    pub(crate) missing: Option<Missing>,
    /// Columns that the body does not set, with their values: the key of a `PUT`.
    pub(crate) given: Option<(&'q [usize], &'q [Datum])>,
}

/// A row that is refused lists at most so many faults.
const MOST_PLACES: usize = 20;

impl Reader<'_, '_> {
    /// The rows to insert. Every column that has no default must be set, unless the tenant's schema
    /// is older than the column.
    pub(crate) fn new_rows(&self, body: &Body<'_>) -> Result<Rows, Refusal> {
        let mut columns = self.columns(body)?;
        let mut rows = self.assignments(&columns, body)?;
        for (place, value) in self
            .given
            .iter()
            .flat_map(|(places, values)| places.iter().zip(*values))
        {
            if !columns.contains(place) {
                let column = &self.table.columns[*place];
                columns.push(self.place(&column.name, At::Parameter(column.parameter().into_owned()))?);
                rows.iter_mut()
                    .for_each(|row| row.push(Assignment::Value(value.clone())));
            }
        }
        for (place, column) in self.table.columns.iter().enumerate() {
            let is_later = self.facts.is_some_and(|facts| facts.is_later(self.table_place, place));
            let needed = !column.nullable && !column.default && !column.generated && !is_later;
            if needed && !columns.contains(&place) && !body.rows.is_empty() {
                return Err(null(self.table, column, body, 0));
            }
        }
        Ok(Rows { columns, rows })
    }

    /// What the rows that are changed are set to.
    pub(crate) fn changes(&self, body: &Body<'_>) -> Result<Vec<(usize, Assignment)>, Refusal> {
        // An empty list changes nothing.
        if body.rows.len() > 1 {
            return Err(Refusal::bad("PGRST102", "A body that changes rows is one object")
                .at(At::Body(String::new()), "is not one object"));
        }
        let columns = self.columns(body)?;
        let rows = self.assignments(&columns, body)?;
        let values = rows.into_iter().next().unwrap_or_default();
        let values = columns.into_iter().zip(values);
        let value = |(place, value)| match value {
            Assignment::Default if !self.caller.dialect.has_default_value() => Ok((place, self.default(place)?)),
            value => Ok((place, value)),
        };
        values.map(value).collect()
    }

    /// What an update sets a column to, on a database that has no word for its default.
    fn default(&self, place: usize) -> Result<Assignment, Refusal> {
        let column = &self.table.columns[place];
        match column.default {
            false => Ok(Assignment::Value(Datum::Null)),
            true => Err(Refusal::bad(
                "0A000",
                format!(
                    "this kind of database cannot set column \"{}\" to its default",
                    column.name
                ),
            )
            .at(At::Body(format!("/{}", column.name)), "is missing")),
        }
    }

    /// The columns that are set: those of `columns`, else the members of the rows.
    fn columns(&self, body: &Body<'_>) -> Result<Vec<usize>, Refusal> {
        let Some(first) = body.rows.first() else {
            return Ok(Vec::new());
        };
        if let Some(names) = self.columns {
            let places = names
                .iter()
                .map(|name| self.place(name, At::Parameter("columns".to_owned())));
            let mut places = places.collect::<Result<Vec<_>, _>>()?;
            let mut known = HashSet::new();
            places.retain(|place| known.insert(*place));
            return Ok(places);
        }
        let names: HashSet<&str> = first.iter().map(|(name, _)| &**name).collect();
        for (index, row) in body.rows.iter().enumerate().skip(1) {
            if row.len() != names.len() || row.iter().any(|(name, _)| !names.contains(&**name)) {
                return Err(Refusal::bad("PGRST102", "All object keys must match")
                    .at(At::Body(format!("/{index}")), "has other members than the first row"));
            }
        }
        let places = first.iter().map(|(name, _)| self.place(name, pointer(body, 0, name)));
        places.collect()
    }

    fn place(&self, name: &str, at: At) -> Result<usize, Refusal> {
        let table = self.table;
        let unknown = || Refusal::no_column(table, name, Some(self.access)).at(at.clone(), "is no column of the table");
        let place = table.column(name).ok_or_else(unknown)?;
        let column = &table.columns[place];
        // The key of a `PUT` identifies the row, even if the database generates keys.
        if column.generated && self.given.is_some_and(|(key, _)| key.contains(&place)) {
            return Ok(place);
        }
        if !self.access.has(place) {
            // The error does not reveal a column that the role may not read.
            let grant = table.roles.get(self.caller.role);
            let reads = grant
                .and_then(|grant| grant.read.as_ref())
                .is_some_and(|read| read.has(place));
            return Err(match reads {
                true => Refusal::denied(&table.name, self.caller.has_token()).at(at, "may not be written by this role"),
                false => unknown(),
            });
        }
        if !column.is_written() {
            return Err(Refusal::bad(
                "428C9",
                format!("cannot write a non-DEFAULT value into column \"{name}\""),
            )
            .at(at, "is never written by clients"));
        }
        Ok(place)
    }

    fn assignments(&self, columns: &[usize], body: &Body<'_>) -> Result<Vec<Vec<Assignment>>, Refusal> {
        let mut rows = Vec::with_capacity(body.rows.len());
        let mut refused: Option<Refusal> = None;
        for (index, row) in body.rows.iter().enumerate() {
            let mut values = Vec::with_capacity(columns.len());
            for place in columns {
                match self.assignment(*place, row, index, body) {
                    Ok(value) => values.push(value),
                    Err(refusal) => match &mut refused {
                        None => refused = Some(refusal),
                        Some(first) if first.places.len() < MOST_PLACES => first.places.extend(refusal.places),
                        Some(_) => {}
                    },
                }
            }
            rows.push(values);
        }
        match refused {
            Some(refusal) => Err(refusal),
            None => Ok(rows),
        }
    }

    fn assignment(&self, place: usize, row: &Row<'_>, index: usize, body: &Body<'_>) -> Result<Assignment, Refusal> {
        let column = &self.table.columns[place];
        let given = row.iter().find(|(name, _)| *name == column.name);
        let value = match given {
            None if self.missing == Some(Missing::Default) && (column.default || column.nullable) => {
                return Ok(Assignment::Default);
            }
            None => Datum::Null,
            Some((_, json)) => Datum::of_json(&column.kind, json)
                .and_then(|value| fits(column, value, self.caller.dialect))
                .map_err(|malformed| {
                    let detail = match malformed {
                        Malformed::Syntax => format!("is not a valid {}", column.kind.word()),
                        Malformed::OutOfRange => format!("is out of the range of {}", column.kind.word()),
                        Malformed::TooLong => format!("is longer than {} characters", column.max.unwrap_or_default()),
                        Malformed::Nul => "holds a NUL".to_owned(),
                    };
                    refuse(column, malformed).at(pointer(body, index, &column.name), detail)
                })?,
        };
        match value {
            Datum::Null if !column.nullable => Err(null(self.table, column, body, index)),
            value => Ok(Assignment::Value(value)),
        }
    }
}

fn fits(column: &Column, value: Datum, dialect: Dialect) -> Result<Datum, Malformed> {
    match (&value, column.max) {
        (Datum::Text(text), Some(max)) if text.chars().count() > max as usize => Err(Malformed::TooLong),
        _ if !dialect.holds(&column.kind, &value) => Err(Malformed::Syntax),
        _ => Ok(value),
    }
}

fn null(table: &Table, column: &Column, body: &Body<'_>, index: usize) -> Refusal {
    let (table, name) = (&table.name, &column.name);
    Refusal::bad(
        "23502",
        format!("null value in column \"{name}\" of relation \"{table}\" violates not-null constraint"),
    )
    .at(pointer(body, index, name), "is null or missing")
}

/// A member of a row, as a JSON pointer (RFC 6901 §3).
fn pointer(body: &Body<'_>, index: usize, name: &str) -> At {
    let name = crate::refusal::shortened(name).replace('~', "~0").replace('/', "~1");
    At::Body(match body.is_object {
        true => format!("/{name}"),
        false => format!("/{index}/{name}"),
    })
}
