//! An application's background work.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tenantry_core::{BoxError, Cause, engine::Tenants};
use tenantry_openapi::{Readiness, ReadinessCheck};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Work = Box<dyn FnOnce(Tenants, CancellationToken) -> BoxFuture<'static, ()> + Send>;
type Check = Box<dyn Fn(Tenants) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// How often a readiness check runs, and how long it may take.
const CHECKED_EVERY: Duration = Duration::from_secs(5);
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// The work and the readiness checks that an application has added.
#[derive(Default)]
pub(crate) struct BackgroundWork {
    work: Vec<(&'static str, Work)>,
    checks: Vec<(&'static str, Check)>,
}

impl BackgroundWork {
    pub(crate) fn add<F>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(Tenants, CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.work
            .push((name, Box::new(|tenants, stop| Box::pin(work(tenants, stop)))));
    }

    pub(crate) fn add_check<F, E>(&mut self, name: &'static str, check: impl Fn(Tenants) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let boxed =
            move |tenants| -> BoxFuture<'static, _> { Box::pin(check(tenants).map(|done| done.map_err(Into::into))) };
        self.checks.push((name, Box::new(boxed)));
    }

    /// Starts each work in its own task.
    pub(crate) fn start(self, tenants: &Tenants, readiness: &Readiness) -> RunningWork {
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (name, work) in self.work {
            let (tenants, stopping) = (tenants.clone(), stopping.clone());
            // Called within the task: the closure itself may panic as well.
            let running = async move { work(tenants, stopping).await };
            tasks.spawn(async move {
                if AssertUnwindSafe(running).catch_unwind().await.is_err() {
                    tracing::error!(name, "background work panicked");
                }
            });
        }
        for (name, check) in self.checks {
            let state = readiness.check();
            tasks.spawn(keep_checking(name, check, state, tenants.clone(), stopping.clone()));
        }
        RunningWork { tasks, stopping }
    }
}

/// Runs a readiness check until the server stops.
async fn keep_checking(
    name: &'static str,
    check: Check,
    state: ReadinessCheck,
    tenants: Tenants,
    stop: CancellationToken,
) {
    let mut passed_before = None;
    loop {
        let checking = AssertUnwindSafe(async { check(tenants.clone()).await }).catch_unwind();
        let error: Option<BoxError> = match tokio::time::timeout(LONGEST_CHECK, checking).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error),
            Ok(Err(_)) => Some("it ended by a panic".into()),
            Err(_) => Some("it took too long".into()),
        };
        match &error {
            None if passed_before == Some(false) => tracing::info!(name, "a readiness check passes again"),
            Some(error) if passed_before != Some(false) => {
                tracing::warn!(name, error = %Cause(&**error), "a readiness check fails");
            }
            _ => {}
        }
        passed_before = Some(error.is_none());
        state.set(error.is_none());
        if tokio::time::timeout(CHECKED_EVERY, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// Work that runs.
pub(crate) struct RunningWork {
    tasks: JoinSet<()>,
    stopping: CancellationToken,
}

impl RunningWork {
    /// Signals the background work that the server stops.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits for its end for `grace`, then cuts it off.
    pub(crate) async fn ended(mut self, grace: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "background work did not end in time and was aborted"
            );
            self.tasks.shutdown().await;
        }
    }
}
