//! `order=total.desc.nullslast,id`.

use super::scan::{Scan, Unexpected};

/// One term of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Term {
    /// The embedded row that has the column: `customer(name)`.
    pub(crate) relation: Option<String>,
    pub(crate) column: String,
    pub(crate) descending: bool,
    /// Whether NULL comes first, if the request says so.
    pub(crate) nulls_first: Option<bool>,
}

pub(crate) fn order(scan: &mut Scan<'_>) -> Result<Vec<Term>, Unexpected> {
    let mut terms = Vec::new();
    loop {
        scan.skip_spaces();
        terms.push(term(scan)?);
        scan.skip_spaces();
        if !scan.take(",") {
            break;
        }
    }
    scan.expect_end()?;
    Ok(terms)
}

fn term(scan: &mut Scan<'_>) -> Result<Term, Unexpected> {
    let mut column = scan.name()?;
    let mut relation = None;
    if scan.take("(") {
        relation = Some(column);
        column = scan.name()?;
        scan.expect(")")?;
    }
    let mut term = Term {
        relation,
        column,
        descending: false,
        nulls_first: None,
    };
    let mut direction_is_said = false;
    while scan.take(".") {
        let mut after = scan.clone();
        match after.take_while(|c| c.is_ascii_lowercase()) {
            "asc" if !direction_is_said && term.nulls_first.is_none() => {}
            "desc" if !direction_is_said && term.nulls_first.is_none() => term.descending = true,
            "nullsfirst" if term.nulls_first.is_none() => term.nulls_first = Some(true),
            "nullslast" if term.nulls_first.is_none() => term.nulls_first = Some(false),
            _ if term.nulls_first.is_some() => return Err(scan.unexpected("\",\" or end of input")),
            _ if direction_is_said => return Err(scan.unexpected("\"nullsfirst\" or \"nullslast\"")),
            _ => return Err(scan.unexpected("\"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"")),
        }
        direction_is_said = true;
        *scan = after;
    }
    match scan.peek() {
        None | Some(',' | ' ' | '\t') => Ok(term),
        _ => Err(scan.unexpected("delimiter (.), \",\" or end of input")),
    }
}
