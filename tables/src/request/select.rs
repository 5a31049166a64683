//! `select=id,sum:total,customer(name)`.

use super::scan::{Scan, Unexpected};

/// How deep tables may be embedded within one another.
pub(crate) const DEEPEST_EMBEDDING: usize = 6;

/// One item of `select`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// `*`: every column that the role may read.
    Star,
    Column {
        name: String,
        alias: Option<String>,
    },
    /// `count()` or `total.sum()`.
    Aggregate,
    Embedded(Embedded),
}

/// The rows of a relation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedded {
    /// The relation, or the other table.
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    /// Which of several relations is meant.
    pub(crate) hint: Option<String>,
    /// Whether only rows that have such a row are wanted.
    pub(crate) inner: bool,
    /// Whether its members become members of the row itself: `...customer(name)`.
    pub(crate) spread: bool,
    pub(crate) items: Vec<Item>,
}

impl Embedded {
    /// The member's name.
    pub(crate) fn key(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

pub(crate) fn select(scan: &mut Scan<'_>) -> Result<Vec<Item>, Unexpected> {
    let found = items(scan, 0)?;
    scan.expect_end()?;
    Ok(found)
}

fn items(scan: &mut Scan<'_>, depth: usize) -> Result<Vec<Item>, Unexpected> {
    let mut found = Vec::new();
    scan.skip_spaces();
    if matches!(scan.peek(), None | Some(')')) {
        return Ok(found);
    }
    loop {
        scan.skip_spaces();
        found.push(item(scan, depth)?);
        scan.skip_spaces();
        if !scan.take(",") {
            return Ok(found);
        }
    }
}

fn item(scan: &mut Scan<'_>, depth: usize) -> Result<Item, Unexpected> {
    if scan.take("*") {
        return Ok(Item::Star);
    }
    let spread = scan.take("...");
    let mut name = scan.name()?;
    let mut alias = None;
    if !spread && scan.peek() == Some(':') && !scan.rest().starts_with("::") {
        scan.take(":");
        alias = Some(name);
        name = scan.name()?;
    }
    if name == "count" && scan.take("()") {
        return Ok(Item::Aggregate);
    }
    let (mut hint, mut inner) = (None, false);
    let mut marked = false;
    while scan.take("!") {
        marked = true;
        match () {
            () if scan.take_word("inner") => inner = true,
            () if scan.take_word("left") => inner = false,
            () if hint.is_none() => hint = Some(scan.name()?),
            () => return Err(scan.unexpected("\"(\"")),
        }
    }
    if scan.peek() == Some('(') {
        if depth >= DEEPEST_EMBEDDING {
            return Err(scan.unexpected("fewer tables within one another"));
        }
        scan.take("(");
        let items = items(scan, depth + 1)?;
        scan.expect(")")?;
        return Ok(Item::Embedded(Embedded {
            name,
            alias,
            hint,
            inner,
            spread,
            items,
        }));
    }
    if marked || spread {
        return Err(scan.unexpected("\"(\""));
    }
    if scan.peek() == Some('.') {
        let mut after = scan.clone();
        after.take(".");
        for function in ["sum", "avg", "count", "max", "min"] {
            if after.take(function) && after.take("()") {
                *scan = after;
                return Ok(Item::Aggregate);
            }
        }
    }
    match scan.peek() {
        None | Some(',' | ')' | ' ' | '\t') => Ok(Item::Column { name, alias }),
        _ => Err(scan.unexpected("\",\", \"(\" or end of input")),
    }
}
