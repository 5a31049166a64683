//! Turns errors into problem answers. The layers outside of it see no error.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use futures_util::{
    FutureExt,
    future::{Either, select},
};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};
use tenantry_core::{Timer, engine::RequestTally};
use tokio::sync::Notify;

use crate::{Problem, ProblemCode, RequestContext, RequestId, translate::problem_of};

/// Turns every error of the inner endpoint into a [`Problem`]: poem's own 404 and 405, unreadable
/// bodies, panics, and requests that take too long.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    /// How long a request may take before it is answered 504 `request_timeout`, or 503
    /// `outcome_unknown` if it may have changed something; `None` for as long as it wants.
    pub timeout: Option<Duration>,
    /// The path of the declared tables. Every problem below it has the members that their clients
    /// read, those of the router too.
    pub tables: Option<Arc<str>>,
}

impl Problems {
    /// Whether a path is that of the declared tables, or below it; a tenant may stand before it.
    fn is_of_tables(&self, path: &str) -> bool {
        let is_end = |at: usize| matches!(path.as_bytes().get(at), None | Some(b'/'));
        self.tables
            .as_deref()
            .is_some_and(|tables| path.match_indices(tables).any(|(at, _)| is_end(at + tables.len())))
    }
}

impl<E: Endpoint> Middleware<E> for Problems {
    type Output = ProblemsEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ProblemsEndpoint {
            inner,
            settings: self.clone(),
            timers: ArrayQueue::new(TIMERS),
        }
    }
}

/// Tells the requests of one connection of a server that stops to answer now. Clones share one.
#[derive(Debug, Clone, Default)]
pub struct LastCall(Arc<Called>);

#[derive(Debug, Default)]
struct Called {
    is_called: AtomicBool,
    notify: Notify,
    has_ended: AtomicBool,
}

impl LastCall {
    /// Requests that still run are answered 503.
    pub fn call(&self) {
        self.0.is_called.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    /// Whether a request was answered so.
    pub fn has_ended_a_request(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }

    async fn called(&self) {
        let mut notified = pin!(self.0.notify.notified());
        // Before the look, so that no call is missed between the two.
        notified.as_mut().enable();
        if !self.0.is_called.load(Ordering::Acquire) {
            notified.await;
        }
        self.0.has_ended.store(true, Ordering::Release);
    }
}

/// How many timers are kept for later requests. More requests than this rarely run at once.
const TIMERS: usize = 1024;

/// The endpoint of [`Problems`].
#[derive(Debug)]
pub struct ProblemsEndpoint<E> {
    inner: E,
    settings: Problems,
    timers: ArrayQueue<Timer>,
}

impl<E> ProblemsEndpoint<E> {
    /// The answer of `call`, unless it takes too long, panics, or is ended by the last call of a
    /// server that stops. A call that takes too long is dropped: the engine closes its connection
    /// if a statement was running on it, and otherwise rolls back the open transaction before
    /// another request gets the connection.
    async fn within<T: IntoResponse>(
        &self,
        tally: Option<Arc<RequestTally>>,
        last_call: Option<LastCall>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<Response> {
        // A panic leaves behind what unwinding leaves: values owned by this request alone, and
        // locks that recover.
        let call = pin!(AssertUnwindSafe(call).catch_unwind());
        let called = pin!(async {
            match &last_call {
                Some(last_call) => last_call.called().await,
                None => std::future::pending().await,
            }
        });
        let unknown = |why: &str| {
            let detail = format!("{why} during a write, which may have taken effect. Read before you repeat it.");
            Problem::new(ProblemCode::OutcomeUnknown, detail)
        };
        let may_have_effect = || tally.as_ref().is_some_and(|tally| tally.may_have_effect());
        let call = pin!(async {
            match select(call, called).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) if may_have_effect() => Ok(Err(unknown("The server stopped").into())),
                Either::Right(_) => Ok(Err(Problem::new(
                    ProblemCode::ShuttingDown,
                    "The server is shutting down; try again.",
                )
                .with_retry_after(Duration::from_secs(1))
                .into())),
            }
        });
        let outcome = match self.settings.timeout {
            None => Some(call.await),
            Some(timeout) => {
                let mut timer = self.timers.pop().unwrap_or_else(Timer::here);
                let outcome = timer.within(timeout, call).await;
                // If the queue is full, this timer is dropped.
                drop(self.timers.push(timer));
                outcome
            }
        };
        match outcome {
            Some(Ok(answer)) => answer.map(IntoResponse::into_response),
            Some(Err(_)) => {
                // A panic's message may repeat a value, so it is not logged.
                tracing::error!("a handler panicked");
                Err(Problem::internal().into())
            }
            None if may_have_effect() => Err(unknown("The request's time ran out").into()),
            None => Err(Problem::request_timeout().into()),
        }
    }
}

impl<E: Endpoint> Endpoint for ProblemsEndpoint<E> {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let id = RequestId::of(&request).cloned();
        let is_of_tables = self.settings.is_of_tables(request.uri().path());
        let tally = request.data::<RequestContext>().map(|context| context.tally().clone());
        let last_call = request.data().cloned();
        self.within(tally, last_call, self.inner.call(request))
            .map(move |answer| {
                Ok(match answer {
                    Ok(response) => response,
                    // A handler that made its own response gets it sent unchanged.
                    Err(error) if error.is_from_response() => error.into_response(),
                    Err(error) => {
                        let problem = match is_of_tables {
                            true => problem_of(&error).in_dialect(),
                            false => problem_of(&error),
                        };
                        let mut response = problem.to_response(&id.unwrap_or_else(RequestId::generate));
                        if let Some(pattern) = error.data::<poem::PathPattern>() {
                            response.set_data(pattern.clone());
                        }
                        response
                    }
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, Route, endpoint::make, get, handler, test::TestClient};
    use serde_json::Value;

    use super::*;
    use crate::RequestIds;

    #[handler]
    fn hello() -> &'static str {
        "hello"
    }

    async fn answer(endpoint: impl Endpoint + 'static, method: http::Method) -> (u16, Value) {
        let timeout = Some(Duration::from_secs(1));
        let client = TestClient::new(
            endpoint
                .with(Problems {
                    timeout,
                    ..Problems::default()
                })
                .with(RequestIds::default()),
        );
        let response = client
            .request(method, "/x")
            .header("x-request-id", "abc")
            .send()
            .await
            .0;
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.header("x-request-id"), Some("abc"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let status = response.status().as_u16();
        let body: Value = serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap();
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], "abc");
        (status, body["code"].clone())
    }

    #[tokio::test]
    async fn the_router_s_own_errors_are_problems() {
        let route = || Route::new().at("/x", get(hello));
        assert_eq!(
            answer(route(), http::Method::POST).await,
            (405, "method_not_allowed".into())
        );
        assert_eq!(answer(Route::new(), http::Method::GET).await, (404, "not_found".into()));
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_says_nothing() {
        #[handler]
        fn panics() {
            panic!("canary")
        }
        assert_eq!(answer(panics, http::Method::GET).await, (500, "internal".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_a_problem() {
        let hangs = make(|_| async {
            std::future::pending::<()>().await;
            Ok::<_, poem::Error>(())
        });
        assert_eq!(answer(hangs, http::Method::GET).await, (504, "request_timeout".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_call_answers_what_still_runs() {
        for method in [http::Method::GET, http::Method::POST] {
            let hangs = make(|_| async {
                std::future::pending::<()>().await;
                Ok::<_, poem::Error>(())
            });
            let problems = Problems {
                timeout: Some(Duration::from_secs(60)),
                ..Problems::default()
            };
            let client = TestClient::new(hangs.with(problems).with(RequestIds::default()));
            let last_call = LastCall::default();
            let asked = client.request(method, "/x").data(last_call.clone()).send();
            let calling = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!last_call.has_ended_a_request());
                last_call.call();
            };
            let (response, ()) = tokio::join!(asked, calling);
            assert!(last_call.has_ended_a_request());
            let response = response.0;
            assert_eq!(response.status(), 503);
            assert!(response.header("retry-after").is_some());
            let body: Value = serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap();
            assert_eq!(body["code"], "shutting_down");
        }
    }
}
