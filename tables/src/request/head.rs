//! The headers that change what a request means.

use http::{HeaderMap, HeaderName, Method, header};

use crate::refusal::{At, Refusal, shortened};

static PREFER: HeaderName = HeaderName::from_static("prefer");
static ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
static CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");

/// `Prefer` (RFC 7240), as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    pub(crate) resolution: Option<Resolution>,
    pub(crate) representation: Option<Representation>,
    pub(crate) count: Option<Count>,
    pub(crate) missing: Option<Missing>,
    pub(crate) handling: Option<Handling>,
    pub(crate) max_affected: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    Merge,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    Full,
    HeadersOnly,
    Minimal,
}

/// How many rows there are besides those of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Exact,
    /// Counted exactly too: not every kind of database estimates.
    Planned,
    Estimated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Default,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    Strict,
    Lenient,
}

impl Preferences {
    /// Reads every `Prefer`. Of two for the same thing the first counts.
    ///
    /// # Errors
    /// A change is to be undone, or `handling=strict` is given beside an unknown preference.
    pub(crate) fn read(headers: &HeaderMap, is_read: bool) -> Result<Self, Refusal> {
        let mut read = Self::default();
        let mut unknown = Vec::new();
        for line in headers.get_all(&PREFER) {
            for preference in line.to_str().unwrap_or("?").split(',').map(str::trim) {
                // A client that only tries a change out must not get one that is committed.
                if preference == "tx=rollback" && !is_read {
                    return Err(Refusal::bad("PGRST122", "A change cannot be rolled back")
                        .hint("Leave out 'Prefer: tx=rollback' to make the change.")
                        .at(At::Header("Prefer"), "asks for tx=rollback, which is not supported"));
                }
                if !preference.is_empty() && !read.add(preference) {
                    unknown.push(shortened(preference).into_owned());
                }
            }
        }
        if read.handling == Some(Handling::Strict) && !unknown.is_empty() {
            return Err(
                Refusal::bad("PGRST122", "Invalid preferences given with handling=strict")
                    .details(format!("Invalid preferences: {}", unknown.join(", ")))
                    .at(At::Header("Prefer"), "holds a preference that is not known"),
            );
        }
        Ok(read)
    }

    fn add(&mut self, preference: &str) -> bool {
        match preference {
            "resolution=merge-duplicates" => first(&mut self.resolution, Resolution::Merge),
            "resolution=ignore-duplicates" => first(&mut self.resolution, Resolution::Ignore),
            "return=representation" => first(&mut self.representation, Representation::Full),
            "return=headers-only" => first(&mut self.representation, Representation::HeadersOnly),
            "return=minimal" => first(&mut self.representation, Representation::Minimal),
            "count=exact" => first(&mut self.count, Count::Exact),
            "count=planned" => first(&mut self.count, Count::Planned),
            "count=estimated" => first(&mut self.count, Count::Estimated),
            "missing=default" => first(&mut self.missing, Missing::Default),
            "missing=null" => first(&mut self.missing, Missing::Null),
            "handling=strict" => first(&mut self.handling, Handling::Strict),
            "handling=lenient" => first(&mut self.handling, Handling::Lenient),
            // What is always done.
            "tx=commit" => {}
            _ => match preference.strip_prefix("max-affected=").map(str::parse) {
                Some(Ok(most)) => first(&mut self.max_affected, most),
                _ => return false,
            },
        }
        true
    }

    /// `Preference-Applied`: those that have a meaning for this method.
    pub(crate) fn applied(&self, method: &Method) -> Option<String> {
        let is_write = !matches!(*method, Method::GET | Method::HEAD);
        let mut applied: Vec<String> = Vec::new();
        let mut add = |text: &str| applied.push(text.to_owned());
        // `PUT` always merges.
        if *method == Method::POST {
            match self.resolution {
                Some(Resolution::Merge) => add("resolution=merge-duplicates"),
                Some(Resolution::Ignore) => add("resolution=ignore-duplicates"),
                None => {}
            }
        }
        if is_write && *method != Method::DELETE {
            match self.missing {
                Some(Missing::Default) => add("missing=default"),
                Some(Missing::Null) => add("missing=null"),
                None => {}
            }
        }
        if is_write {
            match self.representation {
                Some(Representation::Full) => add("return=representation"),
                Some(Representation::HeadersOnly) => add("return=headers-only"),
                Some(Representation::Minimal) => add("return=minimal"),
                None => {}
            }
        }
        match self.count {
            Some(Count::Exact) => add("count=exact"),
            Some(Count::Planned) => add("count=planned"),
            Some(Count::Estimated) => add("count=estimated"),
            None => {}
        }
        match self.handling {
            Some(Handling::Strict) => add("handling=strict"),
            Some(Handling::Lenient) => add("handling=lenient"),
            None => {}
        }
        if let Some(most) = self.max_affected
            && matches!(*method, Method::PATCH | Method::DELETE)
        {
            add(&format!("max-affected={most}"));
        }
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

fn first<T>(place: &mut Option<T>, value: T) {
    if place.is_none() {
        *place = Some(value);
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JSON array of rows.
    Rows,
    /// Exactly one row, as an object.
    Object,
    /// Rows as CSV (RFC 4180).
    Csv,
}

/// The form that is wanted, and whether members that are null are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) form: Form,
    pub(crate) without_nulls: bool,
    array_by_name: bool,
}

impl Accepted {
    /// Whether the answer is exactly one row.
    pub(crate) fn is_single(self) -> bool {
        self.form == Form::Object
    }

    /// The best of those that `Accept` lists (RFC 9110 §12.5.1).
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let lines: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        let listed = lines.join(",");
        let mut best: Option<(f32, Self)> = None;
        let mut any = false;
        for range in listed.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            any = true;
            let mut parameters = range.split(';').map(str::trim);
            let essence = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut without_nulls) = (1.0, false);
            for parameter in parameters {
                if let Some(given) = parameter.strip_prefix("q=") {
                    quality = given.parse().unwrap_or(0.0);
                }
                without_nulls |= parameter.eq_ignore_ascii_case("nulls=stripped");
            }
            let (form, array_by_name) = match essence.as_str() {
                "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object" => (Form::Object, false),
                "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array" => (Form::Rows, true),
                "application/json" | "application/*" | "*/*" => (Form::Rows, false),
                "text/csv" | "text/*" => (Form::Csv, false),
                _ => continue,
            };
            let accepted = Self {
                form,
                without_nulls,
                array_by_name,
            };
            if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
                best = Some((quality, accepted));
            }
        }
        match best {
            Some((_, accepted)) => Ok(accepted),
            None if !any => Ok(Self {
                form: Form::Rows,
                without_nulls: false,
                array_by_name: false,
            }),
            None => {
                let listed = shortened(&listed).into_owned();
                Err(Refusal::new(
                    http::StatusCode::NOT_ACCEPTABLE,
                    "PGRST107",
                    format!("None of these media types are available: {listed}"),
                )
                .at(At::Header("Accept"), "names no media type that is available"))
            }
        }
    }

    /// The answer's `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match (self.form, self.without_nulls) {
            (Form::Csv, _) => "text/csv; charset=utf-8",
            (Form::Object, true) => "application/vnd.pgrst.object+json; nulls=stripped; charset=utf-8",
            (Form::Object, false) => "application/vnd.pgrst.object+json; charset=utf-8",
            (Form::Rows, true) => "application/vnd.pgrst.array+json; nulls=stripped; charset=utf-8",
            (Form::Rows, false) if self.array_by_name => "application/vnd.pgrst.array+json; charset=utf-8",
            (Form::Rows, false) => "application/json; charset=utf-8",
        }
    }
}

/// The only schema: tables are named without theirs.
const SCHEMA: &str = "public";

/// Refuses a schema that a client asks for by `Accept-Profile`, or by `Content-Profile` for a
/// change.
pub(crate) fn check_profile(headers: &HeaderMap, is_read: bool) -> Result<(), Refusal> {
    let name = if is_read { &ACCEPT_PROFILE } else { &CONTENT_PROFILE };
    let Some(profile) = headers.get(name) else {
        return Ok(());
    };
    let profile = profile.to_str().unwrap_or("?").trim();
    if profile == SCHEMA {
        return Ok(());
    }
    let message = format!("Invalid schema: {}", shortened(profile));
    Err(Refusal::new(http::StatusCode::NOT_ACCEPTABLE, "PGRST106", message)
        .hint(format!("Only the following schemas are exposed: {SCHEMA}")))
}

/// The page that `Range` names: the first row and how many, if that is said.
pub(crate) fn range(headers: &HeaderMap) -> Result<Option<(u64, Option<u64>)>, Refusal> {
    let Some(text) = headers.get(header::RANGE).and_then(|line| line.to_str().ok()) else {
        return Ok(None);
    };
    // Without its unit too, and with that of RFC 9110 if it counts items.
    let text = text.trim();
    let text = text.strip_prefix("items=").unwrap_or(text);
    let Some((first, last)) = text.split_once('-') else {
        return Ok(None);
    };
    let (Ok(first), last) = (first.trim().parse::<u64>(), last.trim()) else {
        return Ok(None);
    };
    if last.is_empty() {
        return Ok(Some((first, None)));
    }
    let Ok(last) = last.parse::<u64>() else {
        return Ok(None);
    };
    match last.checked_sub(first) {
        None => Err(Refusal::range(
            "The lower boundary must be lower than or equal to the upper boundary in the Range header.",
        )),
        Some(beyond_first) => Ok(Some((first, Some(beyond_first.saturating_add(1))))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferences(text: &str, is_read: bool) -> Result<Preferences, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(&PREFER, text.parse().unwrap());
        Preferences::read(&headers, is_read)
    }

    #[test]
    fn only_preferences_of_the_method_are_applied() {
        let all = "resolution=ignore-duplicates, missing=default, return=minimal, count=exact, max-affected=3";
        for (method, expected) in [
            (Method::GET, "count=exact"),
            (
                Method::POST,
                "resolution=ignore-duplicates, missing=default, return=minimal, count=exact",
            ),
            (
                Method::PATCH,
                "missing=default, return=minimal, count=exact, max-affected=3",
            ),
            (Method::PUT, "missing=default, return=minimal, count=exact"),
            (Method::DELETE, "return=minimal, count=exact, max-affected=3"),
        ] {
            let applied = preferences(all, method == Method::GET).unwrap().applied(&method);
            assert_eq!(applied.as_deref(), Some(expected), "{method}");
        }
    }

    #[test]
    fn only_a_read_may_be_rolled_back() {
        for text in ["tx=rollback", "return=minimal, tx=rollback", "tx=commit,tx=rollback"] {
            assert_eq!(preferences(text, false).unwrap_err().code, "PGRST122", "{text}");
            assert!(preferences(text, true).is_ok(), "{text}");
        }
        assert!(preferences("tx=commit", false).is_ok());
    }

    #[test]
    fn a_range_may_end_at_the_largest_number() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            range(&headers)
        };
        let most = u64::MAX;
        assert_eq!(of("0-24").unwrap(), Some((0, Some(25))));
        assert_eq!(of(&format!("0-{most}")).unwrap(), Some((0, Some(most))));
        assert_eq!(of(&format!("{most}-{most}")).unwrap(), Some((most, Some(1))));
        assert_eq!(of("5-").unwrap(), Some((5, None)));
        assert_eq!(of("items=5-4").unwrap_err().code, "PGRST103");
    }
}
