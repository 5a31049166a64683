use std::time::Duration;

use super::*;
use crate::engine::tests::histories;

const TTL: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(30);

/// A version at the provider, and the generation it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Secret {
    version: u64,
    generation: u64,
}

/// What is kept: its version, when it was read or extended, and how long its lease lasts.
#[derive(Debug, Clone, Copy)]
struct ModelSecret {
    version: u64,
    at: Instant,
    lease: Option<Duration>,
    /// Whether it was cleared, and whether the provider has failed since.
    cleared: bool,
    failed: bool,
}

impl ModelSecret {
    fn read(version: u64, at: Instant, lease: Option<Duration>) -> Self {
        Self {
            version,
            at,
            lease,
            cleared: false,
            failed: false,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        !self.cleared && now < times(self.at, self.lease).fresh_until
    }

    /// Whether it may still be served while it cannot be renewed, which is never after its lease.
    fn is_served(&self, now: Instant) -> bool {
        let fresh = self.lease.map_or(TTL, |lease| lease.mul_f64(0.8));
        now < self.at + fresh + STALE && self.lease.is_none_or(|lease| now < self.at + lease)
    }
}

#[derive(Default)]
struct Model {
    /// The version that the provider holds now.
    at_provider: u64,
    /// The oldest version that may be stored: what the provider held at the last refresh.
    oldest: u64,
    kept: Option<ModelSecret>,
    /// The version that the running fetch has read.
    fetch: Option<u64>,
}

fn times(now: Instant, lease: Option<Duration>) -> Times {
    let fresh = lease.map_or(TTL, |lease| lease.mul_f64(0.8));
    Times {
        fresh_until: now + fresh,
        old_from: now + fresh + TTL,
        serve_until: now + (fresh + STALE).min(lease.unwrap_or(Duration::MAX)),
    }
}

fn lease(random: &mut fastrand::Rng) -> Option<Duration> {
    let seconds = [0, 1, 5, 20, 200][random.usize(0..5)];
    random.bool().then(|| Duration::from_secs(seconds))
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut slot = SecretSlot::<Secret, ()>::default();
    let mut model = Model::default();
    let mut now = Instant::now();
    for step in 0..random.usize(5..60) {
        let at = || format!("seed {seed}, step {step}");
        now += Duration::from_millis(random.u64(0..4_000));
        match random.u8(0..10) {
            9 => {
                // What is known of failures stays.
                let pause = slot.pause(now);
                slot.let_go();
                model.kept = None;
                assert_eq!(slot.pause(now), pause, "{}", at());
            }
            0 | 1 => match slot.read(now) {
                Read::Fresh(secret) => {
                    let kept = model.kept.unwrap();
                    assert!(secret.version == kept.version && kept.is_fresh(now), "{}", at());
                }
                Read::Stale(secret) => {
                    let kept = model.kept.unwrap();
                    assert!(secret.version == kept.version && kept.is_served(now), "{}", at());
                    assert!(!kept.cleared || kept.failed, "{}: nobody asked for another", at());
                }
                Read::Fetch { fallback } => {
                    assert!(slot.fetch().is_some() || slot.may_fetch(now), "{}", at());
                    let is_kept = |secret: Secret| model.kept.is_some_and(|kept| kept.version == secret.version);
                    assert!(fallback.is_none_or(is_kept), "{}", at());
                }
                Read::Refused(error) => {
                    let retry_after = match error {
                        AcquireError::ProviderUnavailable { retry_after, .. } => retry_after,
                        _ => Duration::ZERO,
                    };
                    assert!(slot.pause(now).is_some() && retry_after > Duration::ZERO, "{}", at());
                }
            },
            2 if model.fetch.is_none() => {
                slot.begin_fetch(());
                model.fetch = Some(model.at_provider);
                assert!(!slot.may_fetch(now), "{}: two fetches at once", at());
            }
            3 => model.at_provider += 1,
            4 if model.kept.is_some() && model.fetch == Some(model.at_provider) && random.bool() => {
                // The lease of the secret that is kept was extended.
                let (kept, lease) = (model.kept.unwrap(), lease(&mut random));
                let same = slot.kept().copied();
                let stored = slot.store(now, times(now, lease), same, |_| None);
                assert!(stored.is_none_or(|(_, changed)| !changed), "{}", at());
                if stored.is_some() {
                    model.kept = Some(ModelSecret::read(kept.version, now, lease));
                    model.fetch = None;
                }
            }
            4 | 5 => {
                let Some(version) = model.fetch else { continue };
                let superseded = version < model.oldest;
                let landed = match random.u8(0..4) {
                    0 => {
                        let failed = slot.fail(AcquireError::lost("a failure"), now).is_some();
                        model.kept.iter_mut().for_each(|kept| kept.failed |= failed);
                        failed
                    }
                    1 => {
                        let known = slot.fail(AcquireError::Unknown, now).is_some();
                        model.kept = model.kept.filter(|_| !known);
                        known
                    }
                    _ => {
                        let same = slot.kept().copied().filter(|kept| kept.version == version);
                        let new = |generation| Some(Secret { version, generation });
                        let lease = lease(&mut random);
                        let stored = slot.store(now, times(now, lease), same, new);
                        if let Some((secret, changed)) = stored {
                            assert_eq!((secret.version, changed), (version, same.is_none()), "{}", at());
                            model.kept = Some(ModelSecret::read(version, now, lease));
                        }
                        stored.is_some()
                    }
                };
                assert!(!landed || !superseded, "{}: an older value was stored", at());
                // A fetch that did not land asks once more, unless it is given up.
                model.fetch = (!landed && random.u8(0..8) > 0).then_some(model.at_provider);
                if !landed && model.fetch.is_none() {
                    slot.give_up_fetch(|()| true);
                }
            }
            6 => {
                slot.refresh();
                model.oldest = model.at_provider;
            }
            7 => {
                let cached = model.kept.is_some_and(|kept| !kept.cleared);
                assert_eq!(slot.clear(now), cached, "{}", at());
                if let Some(kept) = &mut model.kept {
                    (kept.cleared, kept.failed) = (true, false);
                }
                model.oldest = model.at_provider;
                assert!(!slot.is_due(now), "{}: read before its next use", at());
            }
            8 if random.bool() => {
                slot.expire(now);
                model.oldest = model.at_provider;
                assert!(slot.fresh(now).is_none(), "{}: fresh after a change", at());
            }
            8 => {
                let generation = slot.generation;
                match slot.after_refusal(generation, now) {
                    AfterRefusal::Fetch => {}
                    AfterRefusal::TryAgain | AfterRefusal::GiveUp => assert!(model.fetch.is_none(), "{}", at()),
                }
                assert_eq!(
                    slot.after_refusal(generation + 1, now),
                    AfterRefusal::TryAgain,
                    "{}",
                    at()
                );
            }
            _ => {}
        }
        let expected = model.kept.map(|kept| kept.version);
        assert_eq!(slot.kept().map(|kept| kept.version), expected, "{}", at());
        let cached = model.kept.filter(|kept| !kept.cleared).map(|kept| kept.version);
        assert_eq!(slot.cached().map(|kept| kept.version), cached, "{}", at());
        let is_fresh = model.kept.is_some_and(|kept| kept.is_fresh(now));
        assert!(is_fresh || slot.fresh(now).is_none(), "{}: fresh for too long", at());
        assert_eq!(slot.fetch().is_some(), model.fetch.is_some(), "{}", at());
    }
}

#[test]
fn random_histories_match_the_model() {
    histories(history);
}

/// Else a corrected secret waits for the end of a back-off that is none of its own.
#[test]
fn a_changed_secret_is_read_at_once_after_failures() {
    let (mut slot, now) = (SecretSlot::<Secret, ()>::default(), Instant::now());
    for _ in 0..5 {
        slot.begin_fetch(());
        slot.fail(AcquireError::lost("a failure"), now);
    }
    assert!(!slot.may_fetch(now));
    slot.expire(now);
    assert!(slot.may_fetch(now));
}

/// When the secret is read after a refused login, in tenths of a second, if each try to log in is
/// refused until then.
fn reads_until(slot: &mut SecretSlot<Secret, ()>, start: Instant, tenths: u64) -> Vec<u64> {
    let is_read =
        |tenth: &u64| slot.after_refusal(0, start + Duration::from_millis(tenth * 100)) == AfterRefusal::Fetch;
    (0..tenths).filter(is_read).collect()
}

#[test]
fn a_refused_login_reads_it_soon_and_then_seldom() {
    let mut slot = SecretSlot::<Secret, ()>::default();
    let start = Instant::now();
    let reads = reads_until(&mut slot, start, 600);
    assert_eq!(reads, [0, 12, 36, 84, 144, 204, 264, 324, 384, 444, 504, 564]);
    let next = start + Duration::from_secs(60);
    assert_eq!(slot.after_refusal(0, next), AfterRefusal::GiveUp);
    // Until it is renewed in its time, or changes.
    let secret = Secret {
        version: 0,
        generation: 0,
    };
    for expected in [AfterRefusal::Fetch, AfterRefusal::TryAgain] {
        slot.store(next, times(next, None), Some(secret), |_| None);
        assert_eq!(slot.after_refusal(0, next), expected);
    }
}

#[test]
fn requests_wait_for_the_first_reads_and_fail_between_the_others() {
    let mut slot = SecretSlot::<Secret, ()>::default();
    let start = Instant::now();
    let gave_up = |tenth: &u64| {
        let now = start + Duration::from_millis(tenth * 100);
        slot.after_refusal(0, now) == AfterRefusal::GiveUp
    };
    assert_eq!((0..600).find(gave_up), Some(37));
}
