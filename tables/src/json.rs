//! Rows as JSON and as CSV. An answer is written whole before any of it is sent, so a value that
//! cannot be read is an error answer, and never one that ends in the middle.

use std::{cell::Cell, collections::HashMap, ops::Range};

use foldhash::quality::RandomState;
use sea_orm::{DbErr, QueryResult};

use crate::{
    plan::{Child, Output, Read},
    refusal::{Failure, Refusal},
    request::head::Form,
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

/// At most so many bytes are written again and again for one answer. An embedded row that several
/// rows refer to is written for each of them, and again for each row around these, so that a few
/// rows of two tables that refer to one another would fill the memory. So would a column under many
/// aliases.
const MOST_REPEATED: usize = 32 << 20;

/// How long a row often is, written.
const LIKELY_ROW: usize = 128;

/// What writes one answer.
struct Answer<'w> {
    writer: &'w Writer,
    /// How many more bytes may be written that are not written for the first time.
    left: Cell<usize>,
}

/// The rows of a relation, written, by the row that they belong to.
struct Groups {
    text: Vec<u8>,
    by_key: HashMap<Vec<u8>, Rows, RandomState>,
}

/// The rows of one key.
#[derive(Default)]
struct Rows {
    /// Their positions in the text, in their order.
    places: Vec<Range<usize>>,
    /// Whether they are in the answer already.
    are_written: Cell<bool>,
}

impl Writer {
    /// A column of a row.
    pub(crate) fn read(&self, read: &Read<'_>, row: &QueryResult, slot: usize) -> Result<Datum, DbErr> {
        let column = &read.table.columns[read.columns[slot]];
        self.dialect.read(row, read.index(slot), &column.kind)
    }

    /// Writes a column of a row as JSON, and returns whether it has a value.
    fn write(&self, read: &Read<'_>, row: &QueryResult, slot: usize, to: &mut Vec<u8>) -> Result<bool, DbErr> {
        let column = &read.table.columns[read.columns[slot]];
        self.dialect.write_json(row, read.index(slot), &column.kind, to)
    }

    /// The values of some columns, in a form in which equal ones are the same.
    pub(crate) fn key(&self, read: &Read<'_>, row: &QueryResult, slots: &[usize]) -> Result<Option<Vec<u8>>, DbErr> {
        let mut key = Vec::new();
        Ok(self.write_key(read, row, slots, &mut key)?.then_some(key))
    }

    /// Writes a [`key`](Self::key) in place of another one, and returns whether there is one.
    fn write_key(&self, read: &Read<'_>, row: &QueryResult, slots: &[usize], key: &mut Vec<u8>) -> Result<bool, DbErr> {
        key.clear();
        for slot in slots {
            if !self.write(read, row, *slot, key)? {
                return Ok(false);
            }
            key.push(b',');
        }
        Ok(true)
    }

    /// Writes rows in one of the forms of an answer.
    pub(crate) fn body(&self, form: Form, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, Failure> {
        let answer = Answer {
            writer: self,
            left: Cell::new(MOST_REPEATED),
        };
        match form {
            Form::Rows => answer.array(read, fetched),
            Form::Object => answer.first(read, fetched),
            Form::Csv => answer.csv(read, fetched),
        }
    }
}

impl Answer<'_> {
    /// Writes rows as an array.
    fn array(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, Failure> {
        let children = self.groups(read, fetched, false)?;
        let embedded: usize = children.iter().map(|groups| groups.text.len()).sum();
        let mut to = Vec::with_capacity(LIKELY_ROW * fetched.rows.len() + embedded);
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
    fn first(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, Failure> {
        let children = self.groups(read, fetched, false)?;
        let mut to = Vec::new();
        if let Some(row) = fetched.rows.first() {
            self.object(read, row, &children, &mut to)?;
        }
        Ok(to)
    }

    fn object(&self, read: &Read<'_>, row: &QueryResult, children: &[Groups], to: &mut Vec<u8>) -> Result<(), Failure> {
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
    fn members(
        &self,
        read: &Read<'_>,
        row: &QueryResult,
        children: &[Groups],
        to: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        for output in &read.outputs {
            match output {
                Output::Column { key, begin, slot } => {
                    let at = to.len();
                    to.extend_from_slice(begin);
                    let written = self.writer.write(read, row, *slot, to);
                    if !written.map_err(Failure::Database)? && self.writer.without_nulls {
                        to.truncate(at);
                        continue;
                    }
                    to.push(b',');
                    if read.repeats {
                        self.repeat(key, to.len() - at)?;
                    }
                }
                Output::Child(place) => self.child(read, row, &read.children[*place], &children[*place], to)?,
            }
        }
        Ok(())
    }

    /// Where the rows of an embedded table are that belong to a row.
    fn places<'g>(
        &self,
        read: &Read<'_>,
        row: &QueryResult,
        child: &Child<'_>,
        groups: &'g Groups,
    ) -> Result<&'g [Range<usize>], Failure> {
        let key = self.writer.key(read, row, &child.here).map_err(Failure::Database)?;
        let Some(rows) = key.and_then(|key| groups.by_key.get(&key)) else {
            return Ok(&[]);
        };
        let mut places = rows.places.as_slice();
        if !child.relation.many {
            places = &places[..places.len().min(1)];
        }
        if rows.are_written.replace(true) {
            self.repeat(&child.key, places.iter().map(|place| place.len() + 1).sum())?;
        }
        Ok(places)
    }

    fn child(
        &self,
        read: &Read<'_>,
        row: &QueryResult,
        child: &Child<'_>,
        groups: &Groups,
        to: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let places = self.places(read, row, child, groups)?;
        if child.spread {
            match places.first() {
                Some(place) => to.extend_from_slice(&groups.text[place.clone()]),
                None => spread_nulls(&child.read, self.writer.without_nulls, to),
            }
            return Ok(());
        }
        if self.writer.without_nulls && places.is_empty() && !child.relation.many {
            return Ok(());
        }
        write_text(to, &child.key);
        to.push(b':');
        write_rows(child, groups, places, to);
        to.push(b',');
        Ok(())
    }

    /// Counts what is written again.
    fn repeat(&self, key: &str, bytes: usize) -> Result<(), Failure> {
        let Some(left) = self.left.get().checked_sub(bytes) else {
            let message = format!(
                "more than {} MiB would be repeated in the answer, at '{key}'",
                MOST_REPEATED >> 20
            );
            let hint = "Ask for fewer rows or columns, or embed fewer tables within one another.";
            return Err(Refusal::too_much(message).hint(hint).into());
        };
        self.left.set(left);
        Ok(())
    }

    /// The embedded rows, written. Those that are spread are fields if `fields` are wanted.
    fn groups(&self, read: &Read<'_>, fetched: &Fetched, fields: bool) -> Result<Vec<Groups>, Failure> {
        let pairs = read.children.iter().zip(&fetched.children);
        pairs
            .map(|(child, fetched)| self.group(child, fetched, fields && child.spread))
            .collect()
    }

    fn group(&self, child: &Child<'_>, fetched: &Fetched, fields: bool) -> Result<Groups, Failure> {
        let below = self.groups(&child.read, fetched, fields)?;
        let mut groups = Groups {
            text: Vec::with_capacity(LIKELY_ROW * fetched.rows.len()),
            by_key: HashMap::default(),
        };
        let mut key = Vec::new();
        for row in &fetched.rows {
            let has_key = self.writer.write_key(&child.read, row, &child.there, &mut key);
            if !has_key.map_err(Failure::Database)? {
                continue;
            }
            let begin = groups.text.len();
            match child.spread {
                true if fields => self.fields(&child.read, row, &below, &mut groups.text)?,
                true => self.members(&child.read, row, &below, &mut groups.text)?,
                false => self.object(&child.read, row, &below, &mut groups.text)?,
            }
            let place = begin..groups.text.len();
            match groups.by_key.get_mut(&key) {
                Some(rows) => rows.places.push(place),
                None => groups.by_key.entry(key.clone()).or_default().places.push(place),
            }
        }
        Ok(groups)
    }

    /// Writes rows as CSV (RFC 4180), with the members' names first. Embedded rows are JSON,
    /// unless they are spread.
    fn csv(&self, read: &Read<'_>, fetched: &Fetched) -> Result<Vec<u8>, Failure> {
        let children = self.groups(read, fetched, true)?;
        let mut to = Vec::new();
        for (count, name) in read.members().into_iter().enumerate() {
            separate(&mut to, count);
            field(&mut to, name);
        }
        for row in &fetched.rows {
            to.push(b'\n');
            self.fields(read, row, &children, &mut to)?;
        }
        Ok(to)
    }

    /// Writes the fields of a line, or a part of them.
    fn fields(&self, read: &Read<'_>, row: &QueryResult, children: &[Groups], to: &mut Vec<u8>) -> Result<(), Failure> {
        for (count, output) in read.outputs.iter().enumerate() {
            separate(to, count);
            match output {
                Output::Column { key, slot, .. } => {
                    let at = to.len();
                    match self.writer.read(read, row, *slot).map_err(Failure::Database)? {
                        Datum::Null => {}
                        Datum::Text(text) if text.is_empty() => to.extend_from_slice(b"\"\""),
                        value => field(to, &value.to_text()),
                    }
                    if read.repeats {
                        self.repeat(key, to.len() - at)?;
                    }
                }
                Output::Child(place) => {
                    let (child, groups) = (&read.children[*place], &children[*place]);
                    let places = self.places(read, row, child, groups)?;
                    match places.first() {
                        Some(place) if child.spread => to.extend_from_slice(&groups.text[place.clone()]),
                        None if child.spread => {
                            to.resize(to.len() + child.read.members().len().saturating_sub(1), b',')
                        }
                        _ => {
                            let mut json = Vec::new();
                            write_rows(child, groups, places, &mut json);
                            field(to, &String::from_utf8_lossy(&json));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes embedded rows as the value of their member.
fn write_rows(child: &Child<'_>, groups: &Groups, places: &[Range<usize>], to: &mut Vec<u8>) {
    if !child.relation.many {
        match places.first() {
            Some(place) => to.extend_from_slice(&groups.text[place.clone()]),
            None => to.extend_from_slice(b"null"),
        }
        return;
    }
    to.push(b'[');
    for (count, place) in places.iter().enumerate() {
        separate(to, count);
        to.extend_from_slice(&groups.text[place.clone()]);
    }
    to.push(b']');
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
