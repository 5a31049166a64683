//! JSON answers.

use poem::{IntoResponse, Response};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

/// A JSON answer that serde writes directly from the value. poem-openapi's own `Json` first makes a
/// tree, with a map and field names for every object; for a page of rows that costs more than the
/// rows. The document is the same for both, as long as the type has the same attributes for serde
/// and poem-openapi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        poem::web::Json(self.0).into_response()
    }
}

impl<T: Type + Serialize> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Object, payload, types::Example};

    use super::*;
    use crate::{Nullable, Timestamp};

    #[derive(Object, Serialize)]
    #[oai(example)]
    struct Thing {
        name: String,
        next: Nullable<String>,
        made_at: Timestamp,
    }

    impl Example for Thing {
        fn example() -> Self {
            Self {
                name: "a \"b\"\u{1}ü".to_owned(),
                next: Nullable(None),
                made_at: Timestamp(chrono::DateTime::from_timestamp(1_767_323_045, 120_000_000).unwrap_or_default()),
            }
        }
    }

    #[tokio::test]
    async fn it_answers_and_documents_as_poem_openapi_s_own_does() {
        let (ours, theirs) = (Json(Thing::example()), payload::Json(Thing::example()));
        let (ours, theirs) = (ours.into_response(), theirs.into_response());
        assert_eq!(ours.content_type(), theirs.content_type());
        let text = |response: Response| response.into_body().into_string();
        assert_eq!(text(ours).await.unwrap(), text(theirs).await.unwrap());
        assert_eq!(
            <Json<Thing> as Payload>::CONTENT_TYPE,
            <payload::Json<Thing> as Payload>::CONTENT_TYPE
        );
        assert_eq!(
            format!("{:?}", <Json<Thing> as ApiResponse>::meta()),
            format!("{:?}", <payload::Json<Thing> as ApiResponse>::meta())
        );
    }
}
