//! `tenantry check`: validates the configuration, and with `--connect` also reaches everything that
//! it names.

use futures_util::StreamExt as _;
use tenantry_core::{
    Encryption,
    engine::{AcquireError, TenantSnapshot, TenantStatus},
};
use tenantry_openapi::ApiSet;

use super::{DONE, FAILED, Stop, listed, report};
use crate::{config::Faults, installation::Installation};

/// How many tenants are reached at once.
const AT_ONCE: usize = 10;

pub(super) async fn run(installation: &Installation, apis: ApiSet, connect: bool) -> Result<u8, Stop> {
    // Two APIs of the program itself that cannot be served together are no fault of its
    // configuration.
    installation
        .document(apis)
        .map_err(|error| Stop::Failure(report::chain(&error)))?;
    // With `--connect`, the table names them.
    if !connect {
        Faults::check(installation.secret_faults().to_vec())?;
    }
    report::print(format_args!("{}", installation.summary()))?;
    for warning in installation.warnings() {
        report::note(format_args!("warning: {warning}"));
    }
    if !connect {
        return Ok(DONE);
    }
    let tenants = installation.tenants();
    let ids = listed(installation).await?;
    let progress = report::progress(ids.len(), "connecting");
    let mut checked: Vec<_> = futures_util::stream::iter(ids)
        .map(|id| async move { (id, tenants.probe(&id).await) })
        .buffer_unordered(AT_ONCE)
        .inspect(|_| progress.inc(1))
        .collect()
        .await;
    progress.finish_and_clear();
    checked.sort_unstable_by_key(|(id, _)| *id);
    checked.retain(|(id, outcome)| {
        let is_deleted = matches!(outcome, Err(AcquireError::Unknown));
        if is_deleted {
            report::left_out(id);
        }
        !is_deleted
    });
    let mut table = report::table(["tenant", "driver", "outcome", "latency", "tls"]);
    let mut failed = 0;
    for (id, outcome) in &checked {
        let (driver, told, latency, tls) = match outcome {
            Ok(snapshot) => row(snapshot),
            Err(error) => (String::new(), error.to_string(), String::new(), String::new()),
        };
        if told != "ok" {
            failed += 1;
        }
        table.add_row([id.to_string(), driver, told, latency, tls]);
    }
    report::print(&table)?;
    report::print(format_args!("{} reached, {failed} failed", checked.len() - failed))?;
    Ok(if failed == 0 { DONE } else { FAILED })
}

/// The kind of the error, which the documentation explains, and its causes, unless the kind is
/// followed by one.
fn unhealthy(snapshot: &TenantSnapshot) -> String {
    let kind = snapshot.error.clone().unwrap_or_else(|| "unhealthy".to_owned());
    let Some(cause) = snapshot.cause.as_deref().filter(|_| !kind.contains(": ")) else {
        return kind;
    };
    // What comes before it only says that there is no connection.
    let own = cause.rsplit_once(&format!("({kind}): ")).map_or(cause, |(_, own)| own);
    format!("{kind} ({own})")
}

fn row(snapshot: &TenantSnapshot) -> (String, String, String, String) {
    let driver = snapshot.driver.clone().unwrap_or_default();
    let latency = snapshot
        .latency
        .map(|latency| format!("{:.1} ms", latency.as_secs_f64() * 1e3));
    let outcome = match snapshot.status {
        TenantStatus::Unhealthy | TenantStatus::Behind => unhealthy(snapshot),
        _ if snapshot.latency.is_none() => "no connection was free within `pools.max_connections`".to_owned(),
        _ => "ok".to_owned(),
    };
    let tls = snapshot.encryption.map_or("", Encryption::as_str).to_owned();
    (driver, outcome, latency.unwrap_or_default(), tls)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use poem_openapi::{OpenApi, payload::PlainText};
    use tenantry_core::Registry;

    use super::*;
    use crate::{
        config::{self, Environment},
        telemetry::Telemetry,
    };

    struct Hello;

    #[OpenApi]
    impl Hello {
        #[oai(path = "/hello", method = "get", operation_id = "hello")]
        async fn hello(&self) -> PlainText<String> {
            PlainText("hello".to_owned())
        }
    }

    #[tokio::test]
    async fn apis_that_conflict_are_a_failure_and_no_misuse() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config::SHIPPED).unwrap();
        let mut registry = Registry::new();
        crate::plugins::register(&mut registry);
        let loaded = config::load(Some(&file), &Environment::default(), &registry).unwrap();
        let telemetry = Telemetry::silent(&loaded).unwrap();
        let built = Installation::build(loaded, Arc::new(registry), telemetry, None).await;
        let apis = ApiSet::new().with(Hello).with(Hello);
        let stopped = run(&built.unwrap(), apis, false).await;
        assert!(matches!(stopped, Err(Stop::Failure(_))));
    }
}
