//! The query of a URL, read completely or refused.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::{
    filter::{self, Filter, Tree},
    order::{self, Term},
    scan::{Scan, Unexpected},
    select::{self, Item},
};
use crate::refusal::{Refusal, shortened};

/// The most bytes of a query.
pub(crate) const LONGEST_QUERY: usize = 16 * 1024;
/// The most parameters.
const MOST_PARAMETERS: usize = 200;

/// The names from the requested table to an embedded one.
pub(crate) type Path = Vec<String>;

/// A query that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query {
    /// `None` without `select`.
    pub(crate) select: Option<Vec<Item>>,
    pub(crate) filters: Vec<(Path, Filter)>,
    pub(crate) groups: Vec<(Path, Tree)>,
    pub(crate) orders: Vec<(Path, Vec<Term>)>,
    pub(crate) limits: Vec<(Path, u64)>,
    pub(crate) offsets: Vec<(Path, u64)>,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) on_conflict: Option<Vec<String>>,
    pub(crate) after: Option<String>,
}

/// Whether a parameter of this name has another meaning than a filter of a column. In double quotes
/// the name is always that of a column, as in PostgREST.
pub(crate) fn reserved(name: &str) -> bool {
    matches!(
        name,
        "select" | "columns" | "on_conflict" | "after" | "order" | "limit" | "offset" | "and" | "or" | "not"
    )
}

/// Reads a query. A parameter named in `ignored` belongs to something else, such as the resolver.
pub(crate) fn query(text: &str, ignored: &[String]) -> Result<Query, Refusal> {
    if text.len() > LONGEST_QUERY {
        return Err(Refusal::too_much("the query is longer than 16 KiB"));
    }
    let mut query = Query::default();
    for (count, parameter) in text.split('&').filter(|parameter| !parameter.is_empty()).enumerate() {
        if count >= MOST_PARAMETERS {
            return Err(Refusal::too_much(format!(
                "the query has more than {MOST_PARAMETERS} parameters"
            )));
        }
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let key = decoded(key).ok_or_else(|| not_text(""))?;
        if ignored.iter().any(|name| *name == key) {
            continue;
        }
        let value = decoded(value).ok_or_else(|| not_text(&key))?;
        query.add(&key, &value)?;
    }
    Ok(query)
}

fn not_text(key: &str) -> Refusal {
    Refusal::bad("PGRST100", "a parameter is no UTF-8 text without NUL").at_parameter(key, "is no text")
}

/// A text of a query or of a form; `None` if it is not UTF-8, or has a NUL.
pub(crate) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let spaced: Cow<'_, str> = match text.contains('+') {
        true => text.replace('+', " ").into(),
        false => text.into(),
    };
    if !spaced.contains('%') {
        return Some(spaced).filter(|text| !text.contains('\0'));
    }
    let bytes: Vec<u8> = percent_decode(spaced.as_bytes()).collect();
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.into())
}

impl Query {
    /// The tables that its parts are for, of each part.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let filters = self.filters.iter().map(|(path, _)| path);
        let groups = self.groups.iter().map(|(path, _)| path);
        let orders = self.orders.iter().map(|(path, _)| path);
        let limits = self.limits.iter().map(|(path, _)| path);
        let offsets = self.offsets.iter().map(|(path, _)| path);
        filters.chain(groups).chain(orders).chain(limits).chain(offsets)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "select" => once(
                &mut self.select,
                key,
                read("select parameter", key, value, select::select)?,
            ),
            "columns" => once(&mut self.columns, key, read("columns parameter", key, value, names)?),
            "on_conflict" => once(
                &mut self.on_conflict,
                key,
                read("on_conflict parameter", key, value, names)?,
            ),
            "after" => once(&mut self.after, key, value.to_owned()),
            _ => self.add_at(key, value),
        }
    }

    fn add_at(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        let mut path = read("tree path", key, key, path)?;
        let Some(last) = path.pop() else {
            return Err(Refusal::bad("PGRST100", "a parameter has no name"));
        };
        // As it is written, so that a name in quotes is none of these words.
        let word = key.rsplit('.').next().unwrap_or_default();
        match word {
            "order" => {
                let order = read("order", key, value, order::order)?;
                once_at(&mut self.orders, path, key, order)
            }
            "limit" => once_at(&mut self.limits, path, key, limit(key, value)?),
            "offset" => once_at(&mut self.offsets, path, key, number(key, value)?.max(0).unsigned_abs()),
            "and" | "or" => {
                let negated = path.last().is_some_and(|name| name == "not");
                if negated {
                    path.pop();
                }
                let any = word == "or";
                let group = read("logic tree", key, value, |scan| filter::group(negated, any, scan))?;
                self.groups.push((path, group));
                Ok(())
            }
            _ if path.is_empty() && reserved(word) => {
                let name = shortened(&last);
                Err(Refusal::bad("PGRST100", format!("'{name}' is no parameter")).at_parameter(key, "is not known"))
            }
            _ => {
                let filter = read("filter", key, value, |scan| filter::filter(last.clone(), scan))?;
                self.filters.push((path, filter));
                Ok(())
            }
        }
    }
}

/// Parses a text, or returns the position of the first error.
fn read<T>(
    what: &str,
    key: &str,
    text: &str,
    parser: impl FnOnce(&mut Scan<'_>) -> Result<T, Unexpected>,
) -> Result<T, Refusal> {
    parser(&mut Scan::new(text)).map_err(|unexpected| unexpected.refusal(what, text, key))
}

fn once<T>(place: &mut Option<T>, key: &str, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice(key)),
    }
}

fn once_at<T>(places: &mut Vec<(Path, T)>, path: Path, key: &str, value: T) -> Result<(), Refusal> {
    if places.iter().any(|(known, _)| *known == path) {
        return Err(twice(key));
    }
    places.push((path, value));
    Ok(())
}

/// A parameter that is there more than once.
pub(crate) fn twice(key: &str) -> Refusal {
    Refusal::bad(
        "PGRST100",
        format!("the parameter '{}' is given more than once", shortened(key)),
    )
    .at_parameter(key, "is given more than once")
}

fn path(scan: &mut Scan<'_>) -> Result<Path, Unexpected> {
    let mut path = vec![scan.name()?];
    while scan.take(".") {
        path.push(scan.name()?);
    }
    scan.expect_end()?;
    Ok(path)
}

fn names(scan: &mut Scan<'_>) -> Result<Vec<String>, Unexpected> {
    let mut names = Vec::new();
    loop {
        scan.skip_spaces();
        names.push(scan.name()?);
        scan.skip_spaces();
        if !scan.take(",") {
            break;
        }
    }
    scan.expect_end()?;
    Ok(names)
}

fn limit(key: &str, value: &str) -> Result<u64, Refusal> {
    let limit = number(key, value)?;
    u64::try_from(limit).map_err(|_| Refusal::range("Limit should be greater than or equal to zero."))
}

fn number(key: &str, value: &str) -> Result<i64, Refusal> {
    value.parse().map_err(|_| {
        let message = format!(
            "\"failed to parse {} ({})\" (line 1, column 1)",
            shortened(key),
            shortened(value)
        );
        Refusal::bad("PGRST100", message)
            .details("expecting a whole number")
            .at_parameter(key, "is not a whole number")
    })
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn a_name_in_quotes_is_a_column() {
        for name in ["order", "limit", "offset", "select", "and", "or", "not", "after"] {
            let read = query(&format!("%22{name}%22=eq.1&select=id"), &[]).unwrap();
            assert_eq!(read.filters[0].1.field, name);
            let within = query(&format!("items.%22{name}%22=eq.1&select=items(id)"), &[]).unwrap();
            assert_eq!(within.filters[0].0, ["items"]);
        }
        assert!(query("not=eq.1", &[]).is_err() && query("select=id&select=id", &[]).is_err());
    }
}
