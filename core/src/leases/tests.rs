use async_trait::async_trait;

use super::*;
const SECOND: Duration = Duration::from_secs(1);

/// Answers as its script says, one answer after the other.
#[derive(Default)]
struct Scripted {
    renewals: Mutex<Vec<Result<Duration, ProviderError>>>,
    releases: Mutex<Vec<Result<(), ProviderError>>>,
    released: AtomicUsize,
    release_takes: Duration,
}

#[async_trait]
impl SecretProvider for Scripted {
    async fn fetch(&self, _: &TenantId) -> Result<SecretDocument, ProviderError> {
        Err(ProviderError::NotFound)
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        Ok(Vec::new())
    }

    async fn renew(&self, _: &Lease) -> Result<Duration, ProviderError> {
        self.renewals.lock().remove(0)
    }

    async fn release(&self, _: Lease) -> Result<(), ProviderError> {
        sleep(self.release_takes).await;
        self.released.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.releases.lock();
        if answers.is_empty() { Ok(()) } else { answers.remove(0) }
    }
}

fn down() -> ProviderError {
    ProviderError::Unavailable("told to be down".into())
}

fn hold(leases: &Arc<Leases>, seconds: u64) -> HeldLease {
    let lease = Lease {
        id: "creds/1".into(),
        duration: SECOND * seconds as u32,
        renewable: true,
        series: 0,
    };
    leases.hold("t1".parse().unwrap(), lease, Instant::now())
}

#[test]
fn a_lease_is_renewed_at_four_fifths_of_its_time() {
    for (lasts, expected) in [(3_600, 2_880.0), (20, 16.0), (10, 8.0), (5, 3.0), (3, 1.5), (0, 0.0)] {
        let after = renew_after(SECOND * lasts);
        assert!((after.as_secs_f64() - expected).abs() < 1e-6, "{lasts}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_near_its_maximum_is_not_worth_extending() {
    let provider = Arc::new(Scripted::default());
    *provider.renewals.lock() = vec![Ok(SECOND * 5), Ok(SECOND * 4)];
    let leases = Leases::new(provider);
    let held = hold(&leases, 5);
    assert_eq!(held.extend().await.unwrap(), Some(SECOND * 5));
    assert_eq!(held.extend().await.unwrap(), None);
    assert_eq!(held.left(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn a_second_failed_renewal_asks_for_another_secret() {
    let provider = Arc::new(Scripted::default());
    *provider.renewals.lock() = vec![
        Err(down()),
        Err(down()),
        Ok(SECOND * 60),
        Err(down()),
        Err(ProviderError::Denied("the lease is gone".into())),
    ];
    let leases = Leases::new(provider);
    let held = hold(&leases, 60);
    assert!(held.extend().await.is_err());
    assert_eq!(held.extend().await.unwrap(), None);
    assert_eq!(held.extend().await.unwrap(), Some(SECOND * 60));
    assert!(held.extend().await.is_err());
    assert_eq!(held.extend().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_tried_again_and_ends_with_the_lease() {
    let cases = [
        (vec![], 60, 1, 0),
        (vec![Err(ProviderError::NotFound)], 60, 1, 0),
        (vec![Err(ProviderError::Denied("no".into()))], 60, 1, 0),
        (vec![Err(down()), Err(down())], 60, 3, 5),
        (vec![Err(down()), Err(down()), Err(down()), Err(down())], 60, 4, 21),
        (vec![Err(down()), Err(down()), Err(down())], 4, 2, 1),
    ];
    for (answers, lasts, tries, took) in cases {
        let provider = Arc::new(Scripted::default());
        *provider.releases.lock() = answers;
        let leases = Leases::new(provider.clone());
        let started = Instant::now();
        drop(hold(&leases, lasts));
        assert_eq!(leases.tenants().len(), 1);
        assert!(leases.end(started + SECOND * 60, || {}).await);
        let released = provider.released.load(Ordering::SeqCst);
        assert_eq!((released, started.elapsed().as_secs()), (tries, took));
        assert!(leases.tenants().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_releases_within_its_bound() {
    let provider = Arc::new(Scripted {
        release_takes: SECOND / 2,
        ..Scripted::default()
    });
    let leases = Leases::new(provider.clone());
    let started = Instant::now();
    for _ in 0..3 * RELEASED_AT_ONCE {
        drop(hold(&leases, 60));
    }
    assert!(leases.end(started + SECOND * 10, || {}).await);
    assert_eq!(started.elapsed().as_secs(), 1);
    assert_eq!(provider.released.load(Ordering::SeqCst), 3 * RELEASED_AT_ONCE);

    let kept = Mutex::new(Some(hold(&leases, 60)));
    let started = Instant::now();
    assert!(!leases.end(started + SECOND * 2, || {}).await);
    assert_eq!(started.elapsed().as_secs(), 2);
    // A second is there also if nothing of the time is left.
    assert!(leases.end(started, || drop(kept.lock().take())).await);
}
