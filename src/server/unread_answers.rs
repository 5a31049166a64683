//! Bounds the memory of large answers that clients have not read yet. A client may read as slowly
//! as it likes, so without a bound its answers would fill the memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{Either, ready},
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use parking_lot::Mutex;
use poem::{Body, Endpoint, IntoResponse, Middleware, Request, Response, Result};
use tenantry_core::{TenantId, engine::RequestTally};
use tenantry_openapi::{CurrentRequest, Problem, ProblemCode};

/// Smaller answers are not counted.
const SMALL: u64 = 64 * 1024;

/// Which part of all bytes the answers of one tenant may take.
const TENANT_PART: u64 = 4;

/// Counts the large answers of tenants from when they are made until they are sent, and refuses
/// more of them. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct UnreadAnswers {
    most: u64,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    of_tenants: HashMap<TenantId, u64>,
}

/// Why an answer has no room.
#[derive(Debug, PartialEq, Eq)]
enum Full {
    Server,
    Tenant,
}

impl UnreadAnswers {
    /// At most about `most` bytes: the last answer that has room may take more than is left, so
    /// that any answer has room if no others are held.
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    fn hold(&self, tenant: TenantId, bytes: u64) -> Result<Arc<HeldRoom>, Full> {
        let mut held = self.held.lock();
        if held.bytes >= self.most {
            return Err(Full::Server);
        }
        let own = held.of_tenants.get(&tenant).copied().unwrap_or(0);
        if own > 0 && own >= self.most / TENANT_PART {
            return Err(Full::Tenant);
        }
        held.bytes += bytes;
        held.of_tenants.insert(tenant, own + bytes);
        let held = self.held.clone();
        Ok(Arc::new(HeldRoom { held, tenant, bytes }))
    }
}

/// The room of one answer, which is free when this is dropped.
#[derive(Debug)]
pub(super) struct HeldRoom {
    held: Arc<Mutex<Held>>,
    tenant: TenantId,
    bytes: u64,
}

impl HeldRoom {
    /// The same bytes, which take this room until the last of them is dropped.
    pub(super) fn around(self: Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(HeldBytes { bytes, _room: self })
    }
}

impl Drop for HeldRoom {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        held.bytes -= self.bytes;
        if let Entry::Occupied(mut own) = held.of_tenants.entry(self.tenant) {
            *own.get_mut() -= self.bytes;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

struct HeldBytes {
    bytes: Bytes,
    _room: Arc<HeldRoom>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl UnreadAnswers {
    /// The answer, if there is room for it. Its body is of a known size, and so in memory already.
    async fn counted(
        &self,
        mut response: Response,
        body: BoxBody<Bytes, io::Error>,
        size: u64,
        tally: Arc<RequestTally>,
    ) -> Result<Response> {
        let Some(tenant) = tally.tenant() else {
            response.set_body(Body::from(body));
            return Ok(response);
        };
        match self.hold(tenant, size) {
            Ok(room) => {
                let body = body.collect().await.map_err(|error| {
                    tracing::warn!(%error, "an answer that was made cannot be read");
                    Problem::internal()
                })?;
                response.set_data(room.clone());
                response.set_body(Body::from(room.around(body.to_bytes())));
                Ok(response)
            }
            Err(_) if tally.may_have_effect() => {
                let detail = "The write took effect, but its answer has no room now. Read before you repeat it.";
                Err(Problem::new(ProblemCode::OutcomeUnknown, detail).into())
            }
            Err(full) => Err(refusal(&full).into()),
        }
    }
}

impl<E: Endpoint> Middleware<E> for UnreadAnswers {
    type Output = UnreadAnswersEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        UnreadAnswersEndpoint {
            inner,
            answers: self.clone(),
        }
    }
}

/// The endpoint of [`UnreadAnswers`].
pub(super) struct UnreadAnswersEndpoint<E> {
    inner: E,
    answers: UnreadAnswers,
}

impl<E: Endpoint> Endpoint for UnreadAnswersEndpoint<E> {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        self.inner.call(request).then(|answer| {
            let mut response = match answer {
                Ok(answer) => answer.into_response(),
                Err(error) => return Either::Left(ready(Err(error))),
            };
            let body: BoxBody<Bytes, io::Error> = response.take_body().into();
            let size = body.size_hint().exact().filter(|size| *size >= SMALL);
            let tally = size.and_then(|_| CurrentRequest::read(|current| current.context().tally().clone()));
            match (size, tally) {
                (Some(size), Some(tally)) => Either::Right(Box::pin(self.answers.counted(response, body, size, tally))),
                _ => {
                    response.set_body(Body::from(body));
                    Either::Left(ready(Ok(response)))
                }
            }
        })
    }
}

fn refusal(full: &Full) -> Problem {
    let problem = match full {
        Full::Tenant => Problem::new(
            ProblemCode::TenantBusy,
            "Clients of this tenant have too many large answers that they have not read yet; try again later.",
        ),
        Full::Server => Problem::new(
            ProblemCode::Other(http::StatusCode::SERVICE_UNAVAILABLE),
            "Too many large answers have not been read yet; try again later.",
        ),
    };
    problem.with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_for_all_and_for_one_and_comes_back() {
        let answers = UnreadAnswers::new(100);
        let id = |name: &str| name.parse::<TenantId>().unwrap();
        let hold = |name: &str, bytes| answers.hold(id(name), bytes);
        let first = hold("a", 20).unwrap();
        let second = hold("a", 70).unwrap();
        assert_eq!(hold("a", 1).unwrap_err(), Full::Tenant);
        let other = hold("b", 50).unwrap();
        assert_eq!(hold("c", 1).unwrap_err(), Full::Server);
        drop(second);
        let bytes = first.around(Bytes::from_static(b"text"));
        let part = bytes.slice(1..2);
        drop((bytes, other));
        assert_eq!(answers.held.lock().of_tenants, HashMap::from([(id("a"), 20)]));
        drop(part);
        let held = answers.held.lock();
        assert!(held.bytes == 0 && held.of_tenants.is_empty(), "{held:?}");
    }

    #[test]
    fn one_answer_has_room_however_large_it_is() {
        let answers = UnreadAnswers::new(1);
        let tenant = "a".parse().unwrap();
        let _room = answers.hold(tenant, 1_000).unwrap();
        assert_eq!(answers.hold(tenant, 1).unwrap_err(), Full::Server);
    }
}
