//! A handler's parameters and body, read so that one answer reports every fault of a request. A
//! wrong parameter or body does not end the request by itself; the handler collects the faults of
//! all of them.

use std::borrow::Cow;

use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromParameter, ParseResult, ToJSON, Type},
};
use serde_json::{Map, Value};

use crate::{
    Fault, Problem,
    translate::{unreadable_body, unsupported_media_type},
};

/// A kind of path or query parameter.
pub(crate) trait Parameter: Sized + Send + Sync {
    /// Its name in poem-openapi.
    const NAME: &'static str;

    /// Its schema in the document.
    fn schema() -> MetaSchema;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, to follow "the parameter `x`": "is not a whole number".
    fn read(text: &str) -> Result<Self, String>;

    /// Its value as a default in the document.
    fn to_value(&self) -> Value;
}

/// A parameter of a request, valid or not.
#[derive(Debug, Clone)]
pub(crate) struct Parsed<P>(Result<P, String>);

impl<P> From<P> for Parsed<P> {
    fn from(value: P) -> Self {
        Self(Ok(value))
    }
}

impl<P: Parameter> Type for Parsed<P> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        P::NAME.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(P::schema()))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<P: Parameter> ParseFromParameter for Parsed<P> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        Ok(Self(P::read(text)))
    }

    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(values: I) -> ParseResult<Self> {
        let mut values = values.into_iter();
        Ok(Self(match (values.next(), values.next()) {
            (Some(only), None) => P::read(only.as_ref()),
            (Some(_), Some(_)) => Err("is given more than once".to_owned()),
            (None, _) => Err("is missing".to_owned()),
        }))
    }
}

impl<P: Parameter> ToJSON for Parsed<P> {
    fn to_json(&self) -> Option<Value> {
        self.0.as_ref().ok().map(P::to_value)
    }
}

/// A type that a body can be read into.
pub(crate) trait Input: Type {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong.
    fn read(value: Value) -> Result<Self, Vec<Fault>>
    where
        Self: Sized;
}

/// Takes a text out of an object's members. A missing member, or one that is not a text, is a
/// fault.
pub(crate) fn text(members: &mut Map<String, Value>, key: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let detail = match members.remove(key) {
        Some(Value::String(text)) => return Some(text),
        Some(_) => "is not a string",
        None => "is missing",
    };
    faults.push(Fault::pointer(format!("/{key}"), detail));
    None
}

/// The fault of a member that is not known.
pub(crate) fn unknown(key: &str) -> Fault {
    // A pointer that is cut off would point elsewhere.
    if key.len() > 100 {
        return Fault::pointer("", "has a member that is not known");
    }
    // RFC 6901 §3.
    let escaped = key.replace('~', "~0").replace('/', "~1");
    Fault::pointer(format!("/{escaped}"), "is not known")
}

/// A JSON body, valid or not. The request ends before its handler only if the `Content-Type` is not
/// JSON, or the body cannot be read.
#[derive(Debug)]
pub(crate) struct Body<T>(Result<T, Vec<Fault>>);

const JSON: &str = "application/json";

impl<'a, T: Input> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema: T::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        if !request.content_type().is_some_and(is_json) {
            return Err(unsupported_media_type().into());
        }
        let bytes = body
            .take()?
            .into_bytes()
            .await
            .map_err(|error| unreadable_body(&error))?;
        let value = serde_json::from_slice::<Value>(&bytes)
            .map_err(|error| vec![Fault::pointer("", format!("is not JSON: {error}"))]);
        Ok(Self(value.and_then(T::read)))
    }
}

/// Whether a content type is `application/json`, with or without parameters, or
/// `application/*+json` (RFC 6839 §3.1).
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = match essence.split_once('/') {
        Some((kind, subtype)) if kind.eq_ignore_ascii_case("application") => subtype,
        _ => return false,
    };
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

/// Everything that is wrong with a request, collected.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// The parameter's value, or `None` and one fault more.
    pub(crate) fn parameter<P>(&mut self, name: &str, given: Parsed<P>) -> Option<P> {
        match given.0 {
            Ok(value) => Some(value),
            Err(detail) => {
                self.0.push(Fault::parameter(name, detail));
                None
            }
        }
    }

    /// The same for an optional parameter; `None` if it is wrong.
    pub(crate) fn optional<P>(&mut self, name: &str, given: Option<Parsed<P>>) -> Option<Option<P>> {
        match given {
            Some(given) => self.parameter(name, given).map(Some),
            None => Some(None),
        }
    }

    /// The body, or `None` and its faults more.
    pub(crate) fn body<T>(&mut self, body: Body<T>) -> Option<T> {
        match body.0 {
            Ok(value) => Some(value),
            Err(mut faults) => {
                self.0.append(&mut faults);
                None
            }
        }
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        Self::invalid(faults.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_content_type() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/json", "application/xml", "json", "application/jsonx", ""] {
            assert!(!is_json(other), "{other}");
        }
    }
}
