//! Rows as JSON and as CSV, written as they are read.

use std::collections::HashMap;

use sea_orm::{DbErr, QueryResult};

use crate::{
    plan::{Child, Output, Read},
    sql::Dialect,
    value::{Datum, write_text},
};

/// The rows of a read, and the rows that are embedded in them.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) rows: Vec<QueryResult>,
    pub(crate) children: Vec<Fetched>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) dialect: Dialect,
    pub(crate) without_nulls: bool,
}

/// The rows of a relation, written, by the row that they belong to.
struct Groups {
    text: Vec<u8>,
    /// For each key, where its rows are in the text, in their order.
    places: HashMap<Vec<u8>, Vec<std::ops::Range<usize>>>,
}

impl Writer {
    /// A column of a row.
    pub(crate) fn read(&self, read: &Read<'_>, row: &QueryResult, slot: usize) -> Result<Datum, DbErr> {
        let column = &read.table.columns[read.columns[slot]];
        self.dialect.read(row, slot, &column.kind)
    }

    /// The values of some columns, in a form in which equal ones are the same.
    pub(crate) fn key(&self, read: &Read<'_>, row: &QueryResult, slots: &[usize]) -> Result<Option<Vec<u8>>, DbErr> {
        let mut key = Vec::new();
        for slot in slots {
            let value = self.read(read, row, *slot)?;
            if value == Datum::Null {
                return Ok(None);
            }
            value.write_json(&mut key);
            key.push(b',');
        }
        Ok(Some(key))
    }

    /// Writes `count` rows as an array.
    pub(crate) fn array(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, DbErr> {
        let children = self.groups(read, fetched)?;
        let mut to = Vec::with_capacity(64 * fetched.rows.len() + 2);
        to.push(b'[');
        for (count, row) in fetched.rows.iter().enumerate() {
            if count > 0 {
                to.push(b',');
            }
            self.object(read, row, &children, &mut to)?;
        }
        to.push(b']');
        Ok(to)
    }

    /// Writes the first row as an object.
    pub(crate) fn first(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, DbErr> {
        let children = self.groups(read, fetched)?;
        let mut to = Vec::new();
        if let Some(row) = fetched.rows.first() {
            self.object(read, row, &children, &mut to)?;
        }
        Ok(to)
    }

    fn object(&self, read: &Read<'_>, row: &QueryResult, children: &[Groups], to: &mut Vec<u8>) -> Result<(), DbErr> {
        to.push(b'{');
        let begin = to.len();
        self.members(read, row, children, to)?;
        if to.len() > begin {
            // The comma after the last member.
            to.pop();
        }
        to.push(b'}');
        Ok(())
    }

    /// Writes the members of an object, each with a comma after it.
    fn members(&self, read: &Read<'_>, row: &QueryResult, children: &[Groups], to: &mut Vec<u8>) -> Result<(), DbErr> {
        for output in &read.outputs {
            match output {
                Output::Column { key, slot } => {
                    let value = self.read(read, row, *slot)?;
                    if self.without_nulls && value == Datum::Null {
                        continue;
                    }
                    write_text(to, key);
                    to.push(b':');
                    value.write_json(to);
                    to.push(b',');
                }
                Output::Child(place) => self.child(read, row, &read.children[*place], &children[*place], to)?,
            }
        }
        Ok(())
    }

    fn child(
        &self,
        read: &Read<'_>,
        row: &QueryResult,
        child: &Child<'_>,
        groups: &Groups,
        to: &mut Vec<u8>,
    ) -> Result<(), DbErr> {
        let key = self.key(read, row, &child.here)?;
        let places = key
            .and_then(|key| groups.places.get(&key))
            .map(Vec::as_slice)
            .unwrap_or_default();
        if child.spread {
            match places.first() {
                Some(place) => to.extend_from_slice(&groups.text[place.clone()]),
                None => spread_nulls(&child.read, self.without_nulls, to),
            }
            return Ok(());
        }
        if self.without_nulls && places.is_empty() && !child.relation.many {
            return Ok(());
        }
        write_text(to, &child.key);
        to.push(b':');
        if child.relation.many {
            to.push(b'[');
            for (count, place) in places.iter().enumerate() {
                if count > 0 {
                    to.push(b',');
                }
                to.extend_from_slice(&groups.text[place.clone()]);
            }
            to.push(b']');
        } else {
            match places.first() {
                Some(place) => to.extend_from_slice(&groups.text[place.clone()]),
                None => to.extend_from_slice(b"null"),
            }
        }
        to.push(b',');
        Ok(())
    }

    fn groups(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<Groups>, DbErr> {
        let pairs = read.children.iter().zip(&fetched.children);
        pairs.map(|(child, fetched)| self.group(child, fetched)).collect()
    }

    fn group(&self, child: &Child<'_>, fetched: &Fetched) -> Result<Groups, DbErr> {
        let below = self.groups(&child.read, fetched)?;
        let mut groups = Groups {
            text: Vec::with_capacity(64 * fetched.rows.len()),
            places: HashMap::new(),
        };
        for row in &fetched.rows {
            let Some(key) = self.key(&child.read, row, &child.there)? else {
                continue;
            };
            let begin = groups.text.len();
            match child.spread {
                true => self.members(&child.read, row, &below, &mut groups.text)?,
                false => self.object(&child.read, row, &below, &mut groups.text)?,
            }
            groups.places.entry(key).or_default().push(begin..groups.text.len());
        }
        Ok(groups)
    }

    /// Writes rows as CSV (RFC 4180), with the members' names first. Embedded rows are JSON.
    pub(crate) fn csv(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, DbErr> {
        let children = self.groups(read, fetched)?;
        let mut to = Vec::new();
        let names = read.outputs.iter().map(|output| match output {
            Output::Column { key, .. } => key.as_str(),
            Output::Child(place) => read.children[*place].key.as_str(),
        });
        for (count, name) in names.enumerate() {
            separate(&mut to, count);
            field(&mut to, name);
        }
        for row in &fetched.rows {
            to.push(b'\n');
            for (count, output) in read.outputs.iter().enumerate() {
                separate(&mut to, count);
                match output {
                    Output::Column { slot, .. } => match self.read(read, row, *slot)? {
                        Datum::Null => {}
                        Datum::Text(text) if text.is_empty() => to.extend_from_slice(b"\"\""),
                        value => field(&mut to, &value.to_text()),
                    },
                    Output::Child(place) => {
                        let mut json = Vec::new();
                        self.child(read, row, &read.children[*place], &children[*place], &mut json)?;
                        let json = String::from_utf8_lossy(&json);
                        // Without the member's name and the comma.
                        let value = json
                            .split_once(':')
                            .map_or("", |(_, value)| value.trim_end_matches(','));
                        field(&mut to, value);
                    }
                }
            }
        }
        Ok(to)
    }
}

/// The members of a row that is not there.
fn spread_nulls(read: &Read<'_>, without_nulls: bool, to: &mut Vec<u8>) {
    for output in &read.outputs {
        let (key, value): (&str, &[u8]) = match output {
            Output::Column { key, .. } => (key, b"null"),
            Output::Child(place) => {
                let child = &read.children[*place];
                if child.spread {
                    spread_nulls(&child.read, without_nulls, to);
                    continue;
                }
                match child.relation.many {
                    true => (&child.key, b"[]"),
                    false => (&child.key, b"null"),
                }
            }
        };
        if without_nulls && value == b"null" {
            continue;
        }
        write_text(to, key);
        to.push(b':');
        to.extend_from_slice(value);
        to.push(b',');
    }
}

fn separate(to: &mut Vec<u8>, count: usize) {
    if count > 0 {
        to.push(b',');
    }
}

fn field(to: &mut Vec<u8>, text: &str) {
    let quotes = text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ');
    if !quotes {
        to.extend_from_slice(text.as_bytes());
        return;
    }
    to.push(b'"');
    to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    to.push(b'"');
}
