//! A handler's error type. Its parameters add statuses to the OpenAPI document.

use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type,
};

use crate::{
    Problem,
    problem::{PROBLEM_JSON, ProblemBody},
};

/// A [`Problem`], and the statuses that an operation adds: `Result<Json<Order>, Failure<404, 409>>`
/// documents 404 and 409. The document lists the answers of every operation of its kind (a bad
/// request, an unknown tenant, an outage) without this, so most operations need a plain `Failure`.
/// 0 means no status.
#[derive(Debug)]
pub struct Failure<const A: u16 = 0, const B: u16 = 0>(pub Problem);

impl<const A: u16, const B: u16, E: Into<Problem>> From<E> for Failure<A, B> {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl<const A: u16, const B: u16> From<Failure<A, B>> for poem::Error {
    fn from(failure: Failure<A, B>) -> Self {
        failure.0.into()
    }
}

impl<const A: u16, const B: u16> ApiResponse for Failure<A, B> {
    fn meta() -> MetaResponses {
        let responses = [A, B]
            .into_iter()
            .filter(|status| *status != 0)
            .map(|status| MetaResponse {
                description: "",
                status: Some(status),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: PROBLEM_JSON,
                    schema: ProblemBody::schema_ref(),
                }],
                headers: Vec::new(),
            });
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}
