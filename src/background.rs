//! Work that an application does beside its requests, such as a nightly report over all tenants.

use std::{future::Future, time::Duration};

use futures_util::future::BoxFuture;
use tenantry_core::engine::Tenants;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What work in the background is given.
#[derive(Clone)]
pub struct Background {
    tenants: Tenants,
    stopping: CancellationToken,
}

impl Background {
    /// The tenants. Each [`acquire`](Tenants::acquire) counts as a request of its tenant and keeps to
    /// its limits, so hold a database no longer than you need it.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Waits until the server begins to stop. Work that goes on after that has until requests have
    /// ended, within `server.shutdown_grace`, and is then cut off.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }
}

type Work = Box<dyn FnOnce(Background) -> BoxFuture<'static, ()> + Send>;

/// The work that an application has added.
#[derive(Default)]
pub(crate) struct BackgroundWork(Vec<Work>);

impl BackgroundWork {
    pub(crate) fn add<F>(&mut self, work: impl FnOnce(Background) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.push(Box::new(|background| Box::pin(work(background))));
    }

    /// Starts all of it, each in a task of its own.
    pub(crate) fn start(self, tenants: &Tenants) -> RunningWork {
        let background = Background {
            tenants: tenants.clone(),
            stopping: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        for work in self.0 {
            tasks.spawn(work(background.clone()));
        }
        RunningWork {
            tasks,
            stopping: background.stopping,
        }
    }
}

/// Work that runs.
pub(crate) struct RunningWork {
    tasks: JoinSet<()>,
    stopping: CancellationToken,
}

impl RunningWork {
    /// Tells the work that the server stops.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits for its end for `grace`, then cuts it off.
    pub(crate) async fn ended(mut self, grace: Duration) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "work in the background ended by a panic");
                }
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "work in the background did not end in time and is cut off"
            );
            self.tasks.shutdown().await;
        }
    }
}
