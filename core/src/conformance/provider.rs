//! The suite of cases that every provider must pass.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{Lease, ProviderError, SecretDocument, SecretProvider, TenantId};

/// The longest time until a change is seen, or an outage reported.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A part of every secret of this suite that no error may repeat.
pub const CANARY: &str = "canary-6f1c2a9e";

/// A provider and its store of secrets, which the suite changes without using the provider. It
/// starts empty. A failure in the fixture itself panics.
#[async_trait]
pub trait ProviderFixture: Send + Sync {
    /// A provider on the present state of the store.
    async fn provider(&self) -> Arc<dyn SecretProvider>;

    /// Creates or replaces a tenant's secret.
    async fn put(&self, tenant: &TenantId, secret: &Value);

    /// Takes a tenant's secret away.
    async fn remove(&self, tenant: &TenantId);

    /// Waits until the provider has seen the last change. For a provider that reads its place at
    /// each fetch: nothing.
    async fn settle(&self) {}

    /// Replaces a tenant's secret by a text that is not a JSON object; false if the store cannot
    /// contain one, or if the provider keeps using the former secret.
    async fn put_text(&self, _tenant: &TenantId, _text: &str) -> bool {
        false
    }

    /// Puts secrets under names that are not tenant ids, such as `..data` or `Not An Id`; false if
    /// the store cannot contain them.
    async fn put_strays(&self) -> bool {
        false
    }

    /// Makes the store unavailable, as an outage does; false if it cannot have an outage. The store
    /// does not come back.
    async fn break_it(&self) -> bool {
        false
    }

    /// A provider over a place that answers but does not do what it should; `None` if there is
    /// nothing between the provider and its place that could misbehave so.
    async fn misbehaving(&self, _how: Misbehaviour) -> Option<Arc<dyn SecretProvider>> {
        None
    }
}

/// How the place of secrets misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// The store answers "too many requests", with a retry after seven seconds.
    Throttles,
    /// Each answer is cut in the middle. It would hold [`CANARY`].
    CutsAnswers,
    /// A list's first page is whole and the second one cut.
    CutsPages,
}

/// A provider of secrets with leases, and the server that grants them.
#[async_trait]
pub trait LeaseFixture: Send + Sync {
    /// The provider.
    async fn provider(&self) -> Arc<dyn SecretProvider>;

    /// Creates a tenant. Its secrets have renewable leases of a minute.
    async fn put(&self, tenant: &TenantId);

    /// Whether the place still counts the lease.
    async fn is_there(&self, lease: &Lease) -> bool;
}

/// Checks the promises about leases in [`SecretProvider`]'s documentation.
///
/// # Panics
/// At the first promise that is broken.
pub async fn check_leases(fixture: &dyn LeaseFixture) {
    let tenant = id("leased");
    fixture.put(&tenant).await;
    let provider = fixture.provider().await;
    let fetch = async || match soon(provider.fetch(&tenant)).await {
        Ok(SecretDocument {
            lease: Some(lease),
            version,
            ..
        }) => (lease, version),
        Ok(_) => panic!("the secret has no lease"),
        Err(error) => panic!("the secret is {error:?}"),
    };
    let (first, second) = (fetch().await, fetch().await);
    assert_ne!(first.0.id, second.0.id, "two secrets have the same lease");
    assert_ne!(first.1, second.1, "two secrets have the same version");
    let minute = Duration::from_secs(60);
    for (lease, _) in [&first, &second] {
        assert!(lease.renewable, "the lease cannot be extended");
        let lasts = lease.duration;
        assert!(lasts <= minute && lasts > minute / 2, "the lease lasts {lasts:?}");
        assert!(fixture.is_there(lease).await, "the lease is not there");
    }
    match soon(provider.renew(&first.0)).await {
        Ok(granted) => assert!(
            granted <= minute && granted > minute / 2,
            "the lease is extended by {granted:?}"
        ),
        Err(error) => panic!("the lease is not extended: {error:?}"),
    }
    for _ in 0..2 {
        let released = soon(provider.release(first.0.clone())).await;
        assert!(
            released.is_ok(),
            "a lease cannot be released, or not twice: {released:?}"
        );
        let deadline = Instant::now() + PATIENCE;
        while fixture.is_there(&first.0).await {
            assert!(Instant::now() < deadline, "a released lease is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    match soon(provider.renew(&first.0)).await {
        Ok(_) => panic!("a lease that is gone is extended"),
        Err(error) => {
            repeats_nothing(&error);
            assert!(
                matches!(error, ProviderError::NotFound | ProviderError::Denied(_)),
                "to extend a lease that is gone is {error:?}"
            );
        }
    }
    assert!(fixture.is_there(&second.0).await, "another lease is gone as well");
}

/// Checks every sentence of [`SecretProvider`]'s documentation.
///
/// # Panics
/// At the first promise that is broken.
pub async fn check(fixture: &dyn ProviderFixture) {
    an_unknown_tenant_is_not_found(fixture).await;
    a_secret_is_fetched_whole(fixture).await;
    the_version_moves_with_the_content_only(fixture).await;
    tenants_of_like_names_have_secrets_of_their_own(fixture).await;
    the_list_names_each_tenant_once(fixture).await;
    a_change_is_announced(fixture).await;
    a_text_that_is_no_object_is_invalid_and_not_repeated(fixture).await;
    a_removed_tenant_is_not_found(fixture).await;
    throttling_is_told_with_its_time(fixture).await;
    half_an_answer_is_none(fixture).await;
    an_outage_is_unavailable(fixture).await;
}

async fn throttling_is_told_with_its_time(fixture: &dyn ProviderFixture) {
    let Some(provider) = fixture.misbehaving(Misbehaviour::Throttles).await else {
        return;
    };
    let fetched = soon(provider.fetch(&id("tenant1"))).await.map(drop);
    let listed = soon(provider.list()).await.map(drop);
    for answer in [fetched, listed] {
        let expected = Some(Duration::from_secs(7));
        assert!(
            matches!(&answer, Err(ProviderError::Throttled { retry_after, .. }) if *retry_after == expected),
            "throttling is {answer:?}"
        );
    }
}

async fn half_an_answer_is_none(fixture: &dyn ProviderFixture) {
    for how in [Misbehaviour::CutsAnswers, Misbehaviour::CutsPages] {
        let Some(provider) = fixture.misbehaving(how).await else {
            continue;
        };
        let mut answers = vec![soon(provider.list()).await.map(drop)];
        if how == Misbehaviour::CutsAnswers {
            answers.push(soon(provider.fetch(&id("tenant1"))).await.map(drop));
        }
        for answer in answers {
            match answer {
                Err(error @ ProviderError::Unavailable(_)) => repeats_nothing(&error),
                other => panic!("half an answer is {other:?}"),
            }
        }
    }
}

async fn an_unknown_tenant_is_not_found(fixture: &dyn ProviderFixture) {
    let error = fails(fixture, "unknown").await;
    assert!(
        matches!(error, ProviderError::NotFound),
        "an unknown tenant is {error:?}"
    );
    let listed = list(fixture).await;
    assert!(listed.is_empty(), "an empty place lists {listed:?}");
}

async fn a_secret_is_fetched_whole(fixture: &dyn ProviderFixture) {
    let secret = json!({
        "type": "postgresql", "host": "db.example", "port": 5432, "username": "u\"\\ü\n", "password": CANARY,
        "pool": {"max": {"connections": 3}}, "unknown": [1, null, true, 2.5],
    });
    put(fixture, "tenant1", &secret).await;
    let document = fetch(fixture, "tenant1").await;
    assert!(
        *document.value.expose() == secret,
        "the secret differs from what was put"
    );
    assert!(
        !format!("{document:?}").contains(CANARY),
        "a document prints its secret"
    );
}

async fn the_version_moves_with_the_content_only(fixture: &dyn ProviderFixture) {
    put(fixture, "tenant1", &secret("first")).await;
    let first = fetch(fixture, "tenant1").await;
    let again = fetch(fixture, "tenant1").await;
    assert_eq!(first.version, again.version, "the same content has another version");
    put(fixture, "tenant1", &secret("second")).await;
    let second = fetch(fixture, "tenant1").await;
    assert!(
        *second.value.expose() == secret("second"),
        "a changed secret is not seen: the provider keeps a copy"
    );
    assert_ne!(first.version, second.version, "a changed content has the same version");
    assert!(
        !second.version.as_str().contains(CANARY),
        "the version repeats a part of the secret"
    );
}

async fn tenants_of_like_names_have_secrets_of_their_own(fixture: &dyn ProviderFixture) {
    let names = ["a", "a-b", "a_b", "ab", "a--b", "a-b-c"];
    for (position, name) in names.iter().enumerate() {
        for later in &names[position..] {
            let error = fails(fixture, later).await;
            assert!(
                matches!(error, ProviderError::NotFound),
                "`{later}` has no secret yet, but is {error:?}"
            );
        }
        put(fixture, name, &secret(name)).await;
    }
    for name in names {
        let document = fetch(fixture, name).await;
        assert!(
            *document.value.expose() == secret(name),
            "`{name}` has another tenant's secret"
        );
    }
    for name in names {
        remove(fixture, name).await;
    }
}

async fn the_list_names_each_tenant_once(fixture: &dyn ProviderFixture) {
    put(fixture, "tenant2", &secret("2")).await;
    put(fixture, "tenant-3", &secret("3")).await;
    fixture.put_strays().await;
    fixture.settle().await;
    let mut listed = list(fixture).await;
    listed.sort();
    assert_eq!(listed, ["tenant-3", "tenant1", "tenant2"], "the list");
    for name in listed {
        fetch(fixture, &name).await;
    }
}

async fn a_change_is_announced(fixture: &dyn ProviderFixture) {
    let provider = fixture.provider().await;
    let Some(mut changes) = provider.changes() else {
        return;
    };
    changes.mark_unchanged();
    put(fixture, "tenant2", &secret("changed")).await;
    let changed = tokio::time::timeout(PATIENCE, changes.changed()).await;
    assert!(matches!(changed, Ok(Ok(()))), "a change is not announced");
    let document = fetch(fixture, "tenant2").await;
    assert!(
        *document.value.expose() == secret("changed"),
        "a change is announced before it is seen"
    );
}

async fn a_text_that_is_no_object_is_invalid_and_not_repeated(fixture: &dyn ProviderFixture) {
    let bad = id("bad");
    for text in [
        format!("{{\"password\": \"{CANARY}\""),
        format!("{{\"password\": {CANARY}}}"),
        format!("[\"{CANARY}\"]"),
        format!("\"{CANARY}\""),
        CANARY.to_owned(),
        "17".to_owned(),
    ] {
        if !fixture.put_text(&bad, &text).await {
            return;
        }
        fixture.settle().await;
        let error = fails(fixture, "bad").await;
        assert!(
            matches!(error, ProviderError::Invalid { .. }),
            "a secret that is no object is {error:?}"
        );
        fetch(fixture, "tenant1").await;
    }
    remove(fixture, "bad").await;
}

async fn a_removed_tenant_is_not_found(fixture: &dyn ProviderFixture) {
    remove(fixture, "tenant2").await;
    let error = fails(fixture, "tenant2").await;
    assert!(
        matches!(error, ProviderError::NotFound),
        "a removed tenant is {error:?}"
    );
    let listed = list(fixture).await;
    assert!(!listed.contains(&"tenant2".to_owned()), "a removed tenant is listed");
    fetch(fixture, "tenant1").await;
}

async fn an_outage_is_unavailable(fixture: &dyn ProviderFixture) {
    if !fixture.break_it().await {
        return;
    }
    for name in ["tenant1", "unknown"] {
        let error = fails(fixture, name).await;
        assert!(
            matches!(error, ProviderError::Unavailable(_)),
            "in an outage `{name}` is {error:?}"
        );
    }
    let provider = fixture.provider().await;
    match soon(provider.list()).await {
        Err(error) => {
            repeats_nothing(&error);
            assert!(
                matches!(error, ProviderError::Unavailable(_)),
                "in an outage the list is {error:?}"
            );
        }
        Ok(listed) => panic!("in an outage the list is {listed:?}"),
    }
}

fn id(name: &str) -> TenantId {
    match name.parse() {
        Ok(id) => id,
        Err(error) => panic!("`{name}` {error}"),
    }
}

fn secret(mark: &str) -> Value {
    json!({"type": "postgresql", "host": mark, "password": format!("{CANARY}-{mark}")})
}

async fn put(fixture: &dyn ProviderFixture, name: &str, secret: &Value) {
    fixture.put(&id(name), secret).await;
    fixture.settle().await;
}

async fn remove(fixture: &dyn ProviderFixture, name: &str) {
    fixture.remove(&id(name)).await;
    fixture.settle().await;
}

async fn fetch(fixture: &dyn ProviderFixture, name: &str) -> SecretDocument {
    match soon(fixture.provider().await.fetch(&id(name))).await {
        Ok(document) => document,
        Err(error) => panic!("`{name}` has a secret, but is {error:?}"),
    }
}

async fn fails(fixture: &dyn ProviderFixture, name: &str) -> ProviderError {
    match soon(fixture.provider().await.fetch(&id(name))).await {
        Ok(_) => panic!("`{name}` has no good secret, but one was fetched"),
        Err(error) => {
            repeats_nothing(&error);
            error
        }
    }
}

async fn list(fixture: &dyn ProviderFixture) -> Vec<String> {
    match soon(fixture.provider().await.list()).await {
        Ok(listed) => listed.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("the list is {error:?}"),
    }
}

async fn soon<T>(answer: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("no answer within {PATIENCE:?}"),
    }
}

fn repeats_nothing(error: &ProviderError) {
    assert!(
        !format!("{error:?}").contains(CANARY),
        "an error's Debug repeats a part of the secret"
    );
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(at) = cause {
        assert!(
            !at.to_string().contains(CANARY),
            "an error repeats a part of the secret"
        );
        cause = at.source();
    }
}
