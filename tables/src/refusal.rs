//! Why a request is refused, in the words that the dialect's clients read.

use std::borrow::Cow;

use http::StatusCode;
use sea_orm::DbErr;

use crate::model::{Access, Table};

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// One of PostgREST's codes, a SQLSTATE, or a code of the server itself.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// More about it.
    pub details: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The places of a body or of a query that are wrong, as JSON pointers or names of parameters.
    pub places: Vec<InvalidInput>,
    /// Whether a token could make a difference: the answer has `WWW-Authenticate`.
    pub challenges: bool,
}

/// A place in a request, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidInput {
    /// The place in the request.
    pub at: At,
    /// What is wrong, to follow the place: "is missing".
    pub detail: String,
}

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A JSON pointer into the body (RFC 6901).
    Body(String),
    /// A query parameter.
    Parameter(String),
    /// A header.
    Header(&'static str),
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The request is refused.
    Refused(Box<Refusal>),
    /// A page begins after the last row: it is refused, and the answer says how many rows there
    /// are.
    Beyond {
        /// The refusal.
        refusal: Box<Refusal>,
        /// How many.
        rows: u64,
    },
    /// The tenant's database could not be used.
    Database(DbErr),
    /// The tenant's database does not have what the request needs yet.
    Behind {
        /// What is missing, as the database calls it: "table `orders`".
        missing: String,
    },
}

impl Failure {
    /// The failure of a request with or without a token: if what is forbidden may be allowed with a
    /// token, the answer asks for one.
    pub(crate) fn with_challenge(mut self, has_token: bool) -> Self {
        if let Self::Refused(refusal) = &mut self
            && refusal.status == StatusCode::FORBIDDEN
            && !has_token
        {
            (refusal.status, refusal.challenges) = (StatusCode::UNAUTHORIZED, true);
        }
        self
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: None,
            hint: None,
            places: Vec::new(),
            challenges: false,
        }
    }

    /// 400.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, at: At, detail: impl Into<String>) -> Self {
        self.places.push(InvalidInput {
            at,
            detail: detail.into(),
        });
        self
    }

    /// What is wrong with a filter that is refused so, to follow its name.
    pub(crate) fn misfit(&self) -> String {
        match self.code {
            "54000" => format!("is too much: {}", self.message),
            _ => "does not fit its column".to_owned(),
        }
    }

    /// Names the parameters among the places in full: with the embedded tables on the way to it.
    pub(crate) fn in_parameter(mut self, path: &[String], name: &str) -> Self {
        let names: Vec<&str> = path.iter().map(String::as_str).chain([name]).collect();
        let name = names.join(".");
        for place in &mut self.places {
            if let At::Parameter(known) = &mut place.at {
                *known = shortened(&name).into_owned();
            }
        }
        self
    }

    pub(crate) fn at_parameter(self, name: &str, detail: impl Into<String>) -> Self {
        self.at(At::Parameter(shortened(name).into_owned()), detail)
    }

    /// PGRST204. `readable` are the columns that the role knows; it knows all of them if `None`.
    pub(crate) fn no_column(table: &Table, column: &str, readable: Option<&Access>) -> Self {
        let known = table.columns.iter().enumerate();
        let known = known.filter(|(place, _)| readable.is_none_or(|access| access.has(*place)));
        let nearest = tenantry_core::nearest(column, known.map(|(_, column)| column.name.as_str()));
        let (table, column) = (&table.name, shortened(column));
        let refusal = Self::bad(
            "PGRST204",
            format!("Could not find the '{column}' column of '{table}' in the schema cache"),
        );
        match nearest {
            Some(nearest) => refusal.hint(format!("Perhaps you meant the column '{nearest}'")),
            None => refusal,
        }
    }

    /// PGRST205.
    pub(crate) fn no_table(name: &str, nearest: Option<&str>) -> Self {
        let name = shortened(name);
        let refusal = Self::new(
            StatusCode::NOT_FOUND,
            "PGRST205",
            format!("Could not find the table '{name}' in the schema cache"),
        );
        match nearest {
            Some(nearest) => refusal.hint(format!("Perhaps you meant the table '{nearest}'")),
            None => refusal,
        }
    }

    /// PGRST200.
    pub(crate) fn no_relation(table: &str, name: &str, nearest: Option<&str>) -> Self {
        let name = shortened(name);
        let refusal = Self::bad(
            "PGRST200",
            format!("Could not find a relationship between '{table}' and '{name}' in the schema cache"),
        )
        .details(format!(
            "Searched for a relationship between '{table}' and '{name}' in the declaration, but no matches were found."
        ));
        match nearest {
            Some(nearest) => refusal.hint(format!("Perhaps you meant '{nearest}' instead of '{name}'.")),
            None => refusal,
        }
    }

    /// PGRST108.
    pub(crate) fn not_embedded(name: &str, alias: Option<&str>) -> Self {
        let name = shortened(name);
        let refusal = Self::bad(
            "PGRST108",
            format!("'{name}' is not an embedded resource in this request"),
        );
        match alias {
            None => refusal.hint(format!(
                "Verify that '{name}' is included in the 'select' query parameter."
            )),
            Some(alias) => refusal
                .details("Target names are not allowed in filters if they have an alias")
                .hint(format!("Change '{name}' to '{alias}' in filters, orders or limits.")),
        }
    }

    /// 42501: the role may not do it.
    pub(crate) fn denied(table: &str, with_token: bool) -> Self {
        Self::forbidden(format!("permission denied for table {table}"), with_token)
    }

    /// 42501: the rows that would be left behind are not the role's.
    pub(crate) fn row_rule(table: &str, with_token: bool) -> Self {
        Self::forbidden(
            format!("new row violates row-level security policy for table \"{table}\""),
            with_token,
        )
    }

    pub(crate) fn forbidden(message: String, with_token: bool) -> Self {
        let status = match with_token {
            true => StatusCode::FORBIDDEN,
            false => StatusCode::UNAUTHORIZED,
        };
        let mut refusal = Self::new(status, "42501", message);
        refusal.challenges = !with_token;
        refusal
    }

    /// 22P02: a text that is not a value of the type.
    pub(crate) fn malformed(kind: &'static str) -> Self {
        Self::bad("22P02", format!("invalid input syntax for type {kind}"))
    }

    /// PGRST116: the answer is not one row.
    pub(crate) fn not_single(rows: u64) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
        )
        .details(format!("The result contains {rows} rows"))
    }

    /// PGRST103: a page that cannot be.
    pub(crate) fn range(details: impl Into<String>) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "PGRST103",
            "Requested range not satisfiable",
        )
        .details(details)
    }

    /// 54000: more than the server does for one request.
    pub(crate) fn too_much(message: impl Into<String>) -> Self {
        Self::bad("54000", message)
    }
}

/// At most so many bytes of a client's own text are repeated.
const LONGEST: usize = 100;

/// A client's own text for a message, shortened if it is long.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end]).into()
}
