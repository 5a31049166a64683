use std::time::Duration;

use super::*;
use crate::engine::histories;

const TTL: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(30);

/// A version at the provider, and the generation it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Secret {
    version: u64,
    generation: u64,
}

#[derive(Default)]
struct Model {
    /// The version that the provider holds now.
    at_provider: u64,
    /// The oldest version that may be stored: what the provider held at the last refresh.
    oldest: u64,
    kept: Option<(u64, Instant)>,
    /// The version that the running fetch has read.
    fetch: Option<u64>,
}

fn times(now: Instant) -> Times {
    Times {
        fresh_until: now + TTL,
        old_from: now + 2 * TTL,
        serve_until: now + TTL + STALE,
    }
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut slot = SecretSlot::<Secret, ()>::default();
    let mut model = Model::default();
    let mut now = Instant::now();
    for step in 0..random.usize(5..60) {
        let at = || format!("seed {seed}, step {step}");
        now += Duration::from_millis(random.u64(0..4_000));
        match random.u8(0..9) {
            0 | 1 => match slot.read(now) {
                Read::Fresh(secret) => {
                    let (version, read_at) = model.kept.unwrap();
                    assert!(secret.version == version && now < read_at + TTL, "{}", at());
                }
                Read::Stale(secret) => {
                    let (version, read_at) = model.kept.unwrap();
                    assert!(secret.version == version && now < read_at + TTL + STALE, "{}", at());
                }
                Read::Fetch { fallback } => {
                    assert!(slot.fetch().is_some() || slot.may_fetch(now), "{}", at());
                    assert!(
                        fallback.is_none_or(|kept| Some(kept.version) == model.kept.map(|kept| kept.0)),
                        "{}",
                        at()
                    );
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
            4 | 5 => {
                let Some(version) = model.fetch else { continue };
                let superseded = version < model.oldest;
                let landed = match random.u8(0..4) {
                    0 => slot.fail(AcquireError::lost("a failure"), now).is_some(),
                    1 => {
                        let known = slot.fail(AcquireError::Unknown, now).is_some();
                        model.kept = model.kept.filter(|_| !known);
                        known
                    }
                    _ => {
                        let same = slot.kept().copied().filter(|kept| kept.version == version);
                        let new = |generation| Some(Secret { version, generation });
                        let stored = slot.store(now, times(now), same, new);
                        if let Some((secret, changed)) = stored {
                            assert_eq!((secret.version, changed), (version, same.is_none()), "{}", at());
                            model.kept = Some((version, now));
                        }
                        stored.is_some()
                    }
                };
                assert!(!landed || !superseded, "{}: an older value was stored", at());
                // A fetch that did not land asks once more, unless it is given up.
                model.fetch = (!landed && random.u8(0..8) > 0).then_some(model.at_provider);
                if model.fetch.is_none() {
                    slot.end_fetch();
                }
            }
            6 => {
                slot.refresh();
                model.oldest = model.at_provider;
            }
            7 => {
                assert_eq!(slot.clear(), model.kept.take().is_some(), "{}", at());
                model.oldest = model.at_provider;
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
        assert_eq!(
            slot.kept().map(|kept| kept.version),
            model.kept.map(|kept| kept.0),
            "{}",
            at()
        );
        let expected = model.kept.is_some_and(|(_, read_at)| now < read_at + TTL);
        assert!(expected || slot.fresh(now).is_none(), "{}: fresh for too long", at());
        assert_eq!(slot.fetch().is_some(), model.fetch.is_some(), "{}", at());
    }
}

#[test]
fn random_histories_match_the_model() {
    histories(history);
}

#[test]
fn after_a_refused_login_it_is_read_anew_three_times_in_a_minute() {
    let mut slot = SecretSlot::<Secret, ()>::default();
    let start = Instant::now();
    let fetches = (0..600).filter(|tenth| {
        let now = start + Duration::from_millis(tenth * 100);
        slot.after_refusal(0, now) == AfterRefusal::Fetch
    });
    assert_eq!(fetches.count(), 3);
    assert_eq!(
        slot.after_refusal(0, start + REFUSED_WINDOW * 3 / 4),
        AfterRefusal::GiveUp
    );
}
