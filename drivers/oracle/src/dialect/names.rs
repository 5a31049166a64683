//! Names of tables and columns.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::{
    Writer,
    refusal::{Result, refuse},
};

/// A name as Oracle keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) String);

impl Name {
    /// From a name in a statement of PostgreSQL's.
    pub(super) fn of(ident: &Ident) -> Result<Self> {
        let name = postgres(ident);
        if name.is_empty() || name.contains(['"', '\0']) {
            return refuse("a name that is empty or holds a quote or NUL");
        }
        let folds = name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'$' | b'#'));
        Ok(Self(if folds { name.to_ascii_uppercase() } else { name }))
    }

    /// The name for a statement.
    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// A name as PostgreSQL reads it.
pub(super) fn postgres(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The name that PostgreSQL would give a column of Oracle's.
pub(crate) fn from_oracle(name: &str) -> String {
    if name.chars().any(char::is_lowercase) {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

/// The parts of a name such as `schema.table`.
pub(super) fn parts(name: &ObjectName) -> Result<Vec<&Ident>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident),
            ObjectNamePart::Function(_) => refuse("a function in the place of a name"),
        })
        .collect()
}

/// A name with its schema, quoted for a statement.
pub(super) fn quoted(name: &ObjectName) -> Result<String> {
    let parts: Vec<String> = parts(name)?
        .into_iter()
        .map(|ident| Ok(Name::of(ident)?.quoted()))
        .collect::<Result<_>>()?;
    if parts.len() > 2 {
        return refuse("a name of more than two parts");
    }
    Ok(parts.join("."))
}

/// The last part of a name: the column of `table.column`, the table of `schema.table`.
pub(super) fn last(name: &ObjectName) -> Result<&Ident> {
    match parts(name)?.pop() {
        Some(ident) => Ok(ident),
        None => refuse("a name without parts"),
    }
}

impl Writer {
    pub(super) fn name(&mut self, ident: &Ident) -> Result<()> {
        let name = Name::of(ident)?.quoted();
        self.push(&name);
        Ok(())
    }

    pub(super) fn names<'a>(&mut self, idents: impl IntoIterator<Item = &'a Ident>) -> Result<()> {
        self.list(", ", idents, Self::name)
    }
}
