//! Converts errors of poem and poem-openapi to problems. Their texts repeat values, so they are
//! never sent to clients.

use std::{error::Error as _, sync::Arc};

use poem::error::{
    Error, MethodNotAllowedError, NotFoundError, ParseCookieError, ParseFormError, ParseJsonError, ParsePathError,
    ParseQueryError, ParseTypedHeaderError, ReadBodyError,
};
use poem_openapi::error::{
    AuthorizationError, ContentTypeError, ParseMultipartError, ParseParamError, ParsePathError as OpenApiPathError,
    ParseRequestPayloadError,
};
use sea_orm::DbErr;
use tenantry_core::Cause;

use crate::{
    Fault, Problem, ProblemCode,
    body_coding::CodingError,
    body_limit::{BodyTooLarge, cause_of},
};

/// The path parameters of an operation in order, as documented: poem-openapi calls them `param0`,
/// `param1`.
#[derive(Debug, Clone)]
pub(crate) struct PathNames(pub(crate) Arc<[String]>);

impl PathNames {
    fn get(&self, internal: &str) -> Option<&str> {
        let index: usize = internal.strip_prefix("param")?.parse().ok()?;
        self.0.get(index).map(String::as_str)
    }

    /// The name in the router of the parameter that is documented as `name`.
    pub(crate) fn routed(&self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|known| known == name)?;
        Some(format!("param{index}"))
    }

    /// The documented path, `/users/{id}`, of poem-openapi's route `/users/:param0`.
    pub(crate) fn documented(&self, routed: &str) -> Arc<str> {
        let segments = routed.split('/').map(|segment| match segment.strip_prefix(':') {
            Some(internal) => format!("{{{}}}", self.get(internal).unwrap_or(internal)),
            None => segment.to_owned(),
        });
        segments.collect::<Vec<_>>().join("/").into()
    }
}

/// The problem for an error.
pub fn problem_of(error: &Error) -> Problem {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.clone();
    }
    if let Some(error) = error.downcast_ref::<DbErr>() {
        return error.into();
    }
    if error.is::<NotFoundError>() {
        return Problem::not_found("There is no such route.");
    }
    if error.is::<MethodNotAllowedError>() {
        return Problem::new(ProblemCode::MethodNotAllowed, "This route has no such method.");
    }
    if error.is::<AuthorizationError>() {
        return Problem::unauthenticated(None, "the request carries no valid credential");
    }
    bad_request(error).unwrap_or_else(|| by_status(error))
}

fn bad_request(error: &Error) -> Option<Problem> {
    if let Some(error) = error.downcast_ref::<ParseParamError>() {
        return Some(Problem::invalid(vec![Fault::parameter(
            error.name,
            without_value(&error.reason),
        )]));
    }
    if let Some(path) = error.downcast_ref::<OpenApiPathError>() {
        let name = error.data::<PathNames>().and_then(|names| names.get(path.name));
        let fault = Fault::parameter(name.unwrap_or("path"), without_value(&path.reason));
        return Some(Problem::invalid(vec![fault]));
    }
    if let Some(error) = error.downcast_ref::<ParseRequestPayloadError>() {
        return Some(Problem::invalid(vec![body_fault(&error.reason)]));
    }
    if let Some(error) = error.downcast_ref::<ReadBodyError>() {
        return Some(unreadable_body(error));
    }
    if error.is::<ContentTypeError>() {
        return Some(unsupported_media_type());
    }
    let body = error.is::<ParseMultipartError>() || error.is::<ParseJsonError>() || error.is::<ParseFormError>();
    if body {
        return Some(Problem::invalid(vec![Fault::pointer("", "is not valid")]));
    }
    let place = if error.is::<ParseQueryError>() {
        "query"
    } else if error.is::<ParsePathError>() {
        "path"
    } else if error.is::<ParseTypedHeaderError>() {
        "header"
    } else if error.is::<ParseCookieError>() {
        "cookie"
    } else {
        return None;
    };
    Some(Problem::invalid(vec![Fault::parameter(place, "is not valid")]))
}

/// 415 for a body without a `Content-Type`, or with one that the operation does not accept.
pub(crate) fn unsupported_media_type() -> Problem {
    Problem::new(
        ProblemCode::UnsupportedMediaType,
        "The body's `Content-Type` is missing, or is not one that this operation accepts.",
    )
}

/// The problem of a body that could not be read to its end.
pub(crate) fn unreadable_body(error: &ReadBodyError) -> Problem {
    let cause = match error {
        ReadBodyError::Io(error) => Some(error),
        _ => None,
    };
    if let Some(BodyTooLarge { limit }) = cause.and_then(cause_of) {
        let detail = format!("The body is longer than the {limit} bytes that the server accepts.");
        return Problem::new(ProblemCode::BodyTooLarge, detail);
    }
    if matches!(error, ReadBodyError::PayloadTooLarge) {
        return Problem::new(ProblemCode::BodyTooLarge, "The body is longer than the server accepts.");
    }
    match cause.and_then(cause_of::<CodingError>) {
        Some(CodingError::Unsupported) => return Problem::unsupported_coding(),
        Some(CodingError::Broken) => {
            let detail = "is not in the coding that `Content-Encoding` names";
            return Problem::invalid(vec![Fault::pointer("", detail)]);
        }
        None => {}
    }
    match error {
        ReadBodyError::BodyHasBeenTaken => {
            tracing::error!("a handler reads the request's body twice");
            Problem::internal()
        }
        ReadBodyError::Utf8(_) => Problem::invalid(vec![Fault::pointer("", "is not UTF-8")]),
        _ => Problem::invalid(vec![Fault::pointer("", "could not be read to its end")]),
    }
}

/// The problem for an error with a known status only. A client error keeps its message, but not 400
/// and 401: poem's own messages for those may repeat a value. A server error reveals nothing.
fn by_status(error: &Error) -> Problem {
    let status = error.status();
    let code = ProblemCode::of_status(status);
    match code {
        ProblemCode::RequestInvalid => Problem::new(code, "The request is not valid."),
        ProblemCode::Unauthenticated => Problem::unauthenticated(None, "the request carries no valid credential"),
        _ if status.is_client_error() => Problem::new(code, error.to_string()),
        _ => {
            tracing::error!(status = status.as_u16(), error = cause(error), "a request failed");
            Problem::new(code, "The server failed to answer this request.")
        }
    }
}

/// What a handler's own error says in the log.
fn cause(error: &Error) -> String {
    match error.source() {
        Some(source) => Cause(source).to_string(),
        None => error.to_string(),
    }
}

/// Which field a validator of poem-openapi refused, or what the JSON parser says.
fn body_fault(reason: &str) -> Fault {
    // "failed to parse "X": field `name` verification failed. maxLength(5)", nested ones being
    // followed by a trail of types.
    let refused = reason
        .split_once(": field `")
        .and_then(|(_, rest)| rest.split_once("` verification failed. "));
    if let Some((field, rule)) = refused {
        let nested = reason.contains("(occurred while parsing");
        let rule = rule.split(" (occurred").next().unwrap_or(rule);
        let pointer = if nested { String::new() } else { format!("/{field}") };
        return Fault::pointer(pointer, format!("breaks the rule {rule}"));
    }
    // serde_json's own syntax errors end like this, and repeat nothing of the text.
    if !reason.starts_with("failed to parse") && reason.contains(" at line ") {
        return Fault::pointer("", format!("is not JSON: {reason}"));
    }
    Fault::pointer("", without_value(reason))
}

/// A message of poem-openapi without the value that it repeats.
fn without_value(reason: &str) -> String {
    let expected = reason
        .strip_prefix("Expected input type \"")
        .and_then(|rest| rest.split_once('"'));
    if let Some((type_name, _)) = expected {
        return format!("is not of type {type_name}");
    }
    if reason.contains("expects an input value") {
        return "is missing".to_owned();
    }
    "is not valid".to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::StatusCode;

    use super::*;

    #[test]
    fn no_value_that_poem_repeats_is_passed_on() {
        let errors: Vec<Error> = vec![
            ParseRequestPayloadError {
                reason: "Expected input type \"string\", found \"canary\".".to_owned(),
            }
            .into(),
            ParseRequestPayloadError {
                reason: "failed to parse \"E\": canary is no E".to_owned(),
            }
            .into(),
            ParseParamError {
                name: "limit",
                reason: "failed to parse \"integer\": canary".to_owned(),
            }
            .into(),
            ContentTypeError::NotSupported {
                content_type: "canary/x".to_owned(),
            }
            .into(),
        ];
        for error in errors {
            let problem = problem_of(&error);
            assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
            assert!(problem.code().status().is_client_error());
        }
    }

    #[test]
    fn a_refused_field_is_pointed_at() {
        let reason = "failed to parse \"Order\": field `count` verification failed. minimum(1, exclusive: false)";
        let problem = problem_of(
            &ParseRequestPayloadError {
                reason: reason.to_owned(),
            }
            .into(),
        );
        assert_eq!(
            problem.faults(),
            [Fault::pointer("/count", "breaks the rule minimum(1, exclusive: false)")]
        );
    }

    #[test]
    fn a_path_parameter_has_its_documented_name() {
        let mut error: Error = OpenApiPathError {
            name: "param1",
            reason: String::new(),
        }
        .into();
        error.set_data(PathNames(Arc::from(["tenant".to_owned(), "id".to_owned()])));
        assert_eq!(problem_of(&error).faults(), [Fault::parameter("id", "is not valid")]);
    }

    #[test]
    fn a_body_over_the_limit_is_413_and_a_broken_one_400() {
        let code = |error: ReadBodyError| problem_of(&error.into()).code();
        assert_eq!(
            code(ReadBodyError::Io(io::Error::other(BodyTooLarge { limit: 1 }))),
            ProblemCode::BodyTooLarge
        );
        assert_eq!(
            code(ReadBodyError::Io(io::Error::other("reset"))),
            ProblemCode::RequestInvalid
        );
    }

    #[test]
    fn a_failure_s_log_line_does_not_repeat_a_database_s_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("the invoice could not be stored")]
        struct Unstored(#[source] DbErr);
        let stored = Unstored(DbErr::Custom("canary".to_owned()));
        let text = cause(&Error::new(stored, StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(text, "the invoice could not be stored: database error: other");
        let boxed: tenantry_core::BoxError = Box::new(DbErr::Custom("canary".to_owned()));
        let text = cause(&Error::from((StatusCode::INTERNAL_SERVER_ERROR, boxed)));
        assert!(!text.contains("canary"), "{text}");
        let plain = Error::from_string("no paper", StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(cause(&plain), "no paper");
    }

    #[test]
    fn a_failure_tells_nothing() {
        let error = Error::from_string("canary", StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!problem_of(&error).to_string().contains("canary"));
        let error = Error::from_string("no tea here", StatusCode::IM_A_TEAPOT);
        assert_eq!(problem_of(&error).to_string(), "no tea here");
    }
}
