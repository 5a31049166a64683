//! Errors as a client sees them: RFC 9457 problem details.

use std::time::Duration;

use http::{HeaderValue, header};
use poem::{Body, IntoResponse, Response, error::ResponseError};
use poem_openapi::Object;
use serde::Serialize;

use crate::{ProblemCode, RequestId, body_coding::ACCEPTED};

/// The media type of every error (RFC 9457 §3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The most faults that one answer lists; a body could be made to have a million.
const MAX_FAULTS: usize = 20;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct Fault {
    /// For the body: the place in it, as a JSON pointer (RFC 6901). The empty pointer is the whole
    /// body.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// For a path, query or header parameter: its name.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The fault; it never repeats the value.
    pub detail: String,
}

impl Fault {
    /// In the body, at this JSON pointer.
    pub fn pointer(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
        }
    }

    /// In the parameter of this name.
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(name.into()),
            detail: detail.into(),
        }
    }
}

/// An error answer. Handlers return it as an error (`Result<_, Problem>` or
/// [`Failure`](crate::Failure)); [`Problems`](crate::Problems) writes it out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.detail)]
pub struct Problem(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    code: ProblemCode,
    detail: String,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
    challenge: Option<HeaderValue>,
    allow: Option<HeaderValue>,
    content_range: Option<HeaderValue>,
    accept_encoding: Option<HeaderValue>,
    dialect: Option<Dialect>,
}

/// Additional members of a problem, for clients of another API's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Takes the place of the problem's own `code`; `None` if that stays.
    pub code: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// More about it.
    pub details: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of this kind. `detail` is for the client's developer: a sentence that says nothing
    /// of the server's inside.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            retry_after: None,
            challenge: None,
            allow: None,
            content_range: None,
            accept_encoding: None,
            dialect: None,
        }))
    }

    /// 404 `not_found`.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    /// 409 `conflict`.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::Conflict, detail)
    }

    /// 500 `internal`. It says nothing: what happened belongs in the log.
    pub fn internal() -> Self {
        Self::new(ProblemCode::Internal, "The server failed to answer this request.")
    }

    /// 504 `request_timeout`.
    pub fn request_timeout() -> Self {
        Self::new(
            ProblemCode::RequestTimeout,
            "The request took longer than the server allows.",
        )
    }

    /// 415 `unsupported_media_type` for the body's coding, with those that are known (RFC 9110
    /// §12.5.3).
    pub(crate) fn unsupported_coding() -> Self {
        let detail = "The server does not support the body's `Content-Encoding`.";
        let mut problem = Self::new(ProblemCode::UnsupportedMediaType, detail);
        problem.0.accept_encoding = Some(ACCEPTED);
        problem
    }

    /// 400 `request_invalid`, with everything that is wrong.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => match (&only.parameter, only.pointer.as_deref()) {
                (Some(name), _) => format!("The parameter `{name}` {}.", only.detail),
                (None, Some("") | None) => format!("The body {}.", only.detail),
                (None, Some(pointer)) => format!("The body's `{pointer}` {}.", only.detail),
            },
            all => format!("The request has {} faults.", all.len()),
        };
        Self::new(ProblemCode::RequestInvalid, detail).with_faults(faults)
    }

    /// 401 `unauthenticated`. `error` is a code of RFC 6750 §3.1, and `None` if no credential was
    /// sent.
    pub fn unauthenticated(error: Option<&str>, description: impl Into<String>) -> Self {
        Self::challenge("Bearer", error, description)
    }

    /// The same, with another scheme to authenticate in.
    pub(crate) fn challenge(scheme: &str, error: Option<&str>, description: impl Into<String>) -> Self {
        let description = description.into();
        let challenge = match error {
            None => scheme.to_owned(),
            Some(error) => {
                // RFC 6750 §3: no quote, backslash or control character in the description.
                let words: String = description
                    .chars()
                    .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
                    .collect();
                format!("{scheme} error=\"{error}\", error_description=\"{words}\"")
            }
        };
        let challenge = HeaderValue::from_str(&challenge).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        let mut problem = Self::new(ProblemCode::Unauthenticated, sentence(&description));
        problem.0.challenge = Some(challenge);
        problem
    }

    /// 405 `method_not_allowed`, with the methods that are.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        let mut problem = Self::new(
            ProblemCode::MethodNotAllowed,
            "This route does not support this method; see the header `Allow`.",
        );
        problem.0.allow = Some(allow);
        problem
    }

    /// With what exactly is wrong.
    #[must_use]
    pub fn with_faults(mut self, mut faults: Vec<Fault>) -> Self {
        faults.truncate(MAX_FAULTS);
        self.0.faults = faults;
        self
    }

    /// With when asking again may help; whole seconds, at least one, go into `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// With the members of another dialect.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.0.dialect = Some(dialect);
        self
    }

    /// With the members that clients of the declared tables read, if it has none yet.
    pub(crate) fn in_dialect(mut self) -> Self {
        let message = &self.0.detail;
        self.0.dialect.get_or_insert_with(|| Dialect {
            code: None,
            message: message.clone(),
            details: None,
            hint: None,
        });
        self
    }

    /// With the methods that a 405 allows (RFC 9110 §15.5.6).
    #[must_use]
    pub fn with_allow(mut self, allow: HeaderValue) -> Self {
        self.0.allow = Some(allow);
        self
    }

    /// With how many rows there are, in the `Content-Range` of a 416 (RFC 9110 §15.5.17).
    #[must_use]
    pub fn with_content_range(mut self, rows: u64) -> Self {
        self.0.content_range = HeaderValue::from_str(&format!("*/{rows}")).ok();
        self
    }

    /// With what says that a token would help, if it has none yet.
    #[must_use]
    pub fn with_challenge(mut self) -> Self {
        self.0.challenge.get_or_insert(HeaderValue::from_static("Bearer"));
        self
    }

    /// What happened, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Its kind.
    pub fn code(&self) -> ProblemCode {
        self.0.code
    }

    /// The faults of the request.
    pub fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// Writes the answer to the request of this id.
    pub fn to_response(&self, request_id: &RequestId) -> Response {
        let dialect = self.0.dialect.as_ref();
        let code = dialect
            .and_then(|dialect| dialect.code)
            .unwrap_or_else(|| self.0.code.as_str());
        let body = ProblemBody {
            r#type: "about:blank".to_owned(),
            title: self.0.code.title().to_owned(),
            status: self.0.code.status().as_u16(),
            code: code.to_owned(),
            detail: self.0.detail.clone(),
            request_id: request_id.as_str().to_owned(),
            errors: (!self.0.faults.is_empty()).then(|| self.0.faults.clone()),
        };
        let written = match dialect {
            None => Body::from_json(&body),
            Some(dialect) => Body::from_json(DialectBody { body, dialect }),
        };
        let mut response = match written {
            Ok(body) => body.into_response(),
            // Serializing texts and a number cannot fail. If it did, the status would still be
            // right.
            Err(_) => Response::default(),
        };
        response.set_status(self.0.code.status());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(after) = self.0.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(challenge) = &self.0.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        if let Some(allow) = &self.0.allow {
            headers.insert(header::ALLOW, allow.clone());
        }
        if let Some(range) = &self.0.content_range {
            headers.insert(header::CONTENT_RANGE, range.clone());
        }
        if let Some(accepted) = &self.0.accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, accepted.clone());
        }
        response.set_data(self.0.code);
        response
    }
}

impl ResponseError for Problem {
    fn status(&self) -> http::StatusCode {
        self.0.code.status()
    }

    /// Used outside of [`Problems`](crate::Problems), with a request id of its own.
    fn as_response(&self) -> Response {
        self.to_response(&RequestId::generate())
    }
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, Object)]
#[oai(rename = "Problem")]
pub(crate) struct ProblemBody {
    /// Always `about:blank`; `code` identifies the kind of problem.
    r#type: String,
    /// The kind of problem in words; the same whenever `code` is the same.
    title: String,
    /// The HTTP status.
    #[oai(validator(minimum(value = "400"), maximum(value = "599")))]
    status: u16,
    /// The kind of problem in one word, for programs.
    code: String,
    /// What happened this time, for people.
    detail: String,
    /// The request's id, as in the header `X-Request-ID`: what to ask the operator about.
    request_id: String,
    /// Each fault of the request, if it has a place in the request.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Fault>>,
}

/// An error with the members of another dialect; `details` and `hint` are present even if they are
/// null, since its clients look for them.
#[derive(Serialize)]
struct DialectBody<'a> {
    #[serde(flatten)]
    body: ProblemBody,
    #[serde(flatten, serialize_with = "members")]
    dialect: &'a Dialect,
}

fn members<S: serde::Serializer>(dialect: &&Dialect, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(Some(3))?;
    map.serialize_entry("message", &dialect.message)?;
    map.serialize_entry("details", &dialect.details)?;
    map.serialize_entry("hint", &dialect.hint)?;
    map.end()
}

/// `text` as a sentence: errors are written in lower case and without a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string());
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), characters.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn body(response: Response) -> Value {
        serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_the_contract() {
        let id = RequestId::generate();
        let problem = Problem::invalid(vec![Fault::pointer("/email", "is not an email address")]);
        let response = problem.to_response(&id);
        assert_eq!(response.status(), 400);
        assert_eq!(response.content_type(), Some(PROBLEM_JSON));
        assert_eq!(
            body(response).await,
            json!({
                "type": "about:blank", "title": "Invalid request", "status": 400, "code": "request_invalid",
                "detail": "The body's `/email` is not an email address.", "request_id": id.as_str(),
                "errors": [{"pointer": "/email", "detail": "is not an email address"}],
            })
        );
    }

    #[tokio::test]
    async fn headers_say_what_a_client_should_do() {
        let id = RequestId::generate();
        let busy = Problem::new(ProblemCode::TenantBusy, "x").with_retry_after(Duration::from_millis(1500));
        assert_eq!(busy.to_response(&id).header("retry-after"), Some("2"));
        let now = Problem::new(ProblemCode::TenantBusy, "x").with_retry_after(Duration::ZERO);
        assert_eq!(now.to_response(&id).header("retry-after"), Some("1"));
        let absent = Problem::unauthenticated(None, "no token");
        assert_eq!(absent.to_response(&id).header("www-authenticate"), Some("Bearer"));
        let bad = Problem::unauthenticated(Some("invalid_token"), "the token's \"exp\"\r\nis over");
        assert_eq!(
            bad.to_response(&id).header("www-authenticate"),
            Some("Bearer error=\"invalid_token\", error_description=\"the token's expis over\"")
        );
        let method = Problem::method_not_allowed(HeaderValue::from_static("GET, HEAD"));
        assert_eq!(method.to_response(&id).header("allow"), Some("GET, HEAD"));
    }

    #[test]
    fn an_answer_lists_a_bounded_number_of_faults() {
        let many = (0..1000)
            .map(|n| Fault::pointer(format!("/{n}"), "is unknown"))
            .collect();
        assert_eq!(Problem::invalid(many).faults().len(), MAX_FAULTS);
    }

    #[test]
    fn every_code_has_the_status_that_leads_back_to_its_class() {
        let statuses = [400, 401, 404, 405, 409, 413, 415, 429, 500, 504, 403, 418, 502];
        for status in statuses {
            let status = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(ProblemCode::of_status(status).status(), status);
        }
    }
}
