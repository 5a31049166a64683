use std::collections::BTreeMap;

use super::*;
use crate::engine::tests::histories;

const TTL: Duration = Duration::from_secs(30);

fn id(n: u8) -> TenantId {
    format!("t{n}").parse().unwrap()
}

/// What is true of a tenant, and what the provider has answered.
#[derive(Default)]
struct Known {
    created_at: Option<Instant>,
    /// When the provider last answered that there is no such tenant, unless it was forgotten since.
    answered_at: Option<Instant>,
}

struct Model {
    tenants: BTreeMap<u8, Known>,
    /// When each tenant was asked for that the provider did not know, since all was forgotten.
    in_vain: Vec<Instant>,
    /// When the list was asked for, and the names it will hold.
    reading: Option<(Instant, HashSet<TenantId>)>,
    failures: u32,
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut now = start;
    let mut unknown = UnknownTenants::<u64>::new(TTL, now);
    let mut model = Model {
        tenants: BTreeMap::new(),
        in_vain: Vec::new(),
        reading: None,
        failures: 0,
    };
    for step in 0..random.u64(5..150) {
        let at = || format!("seed {seed}, step {step}");
        // Many are asked for in a short time, and then again much later.
        let longest = if random.u8(0..32) == 0 { 60_000 } else { 100 };
        now += Duration::from_millis(random.u64(0..longest));
        let tenant = random.u8(0..32);
        match random.u8(0..16) {
            0..=9 => {
                let known = model.tenants.entry(tenant).or_default();
                let exists = known.created_at.is_some();
                let old = known.created_at.is_some_and(|created| now >= created + TTL);
                let remembered = known.answered_at.is_some_and(|answered| now < answered + TTL);
                let contained = unknown.contains(&id(tenant), now);
                assert!(!contained || !old, "{}: a tenant that exists is unknown", at());
                assert!(contained || !remembered, "{}: it is not remembered", at());
                let many = model.in_vain.iter().filter(|vain| now < **vain + TTL).count() >= IN_VAIN as usize;
                let (verdict, read) = unknown.verdict(&id(tenant), now, step);
                assert_eq!(matches!(verdict, Verdict::Unknown), contained, "{}", at());
                assert!(
                    many || matches!(verdict, Verdict::Ask) || remembered,
                    "{}: they are few",
                    at()
                );
                if read {
                    assert!(model.reading.is_none(), "{}: two readings at once", at());
                    let exist = |(n, known): (&u8, &Known)| known.created_at.map(|_| id(*n));
                    model.reading = Some((now, model.tenants.iter().filter_map(exist).collect()));
                }
                match verdict {
                    Verdict::Ask if exists => {
                        unknown.forget(Some(&id(tenant)));
                        model.tenants.entry(tenant).or_default().answered_at = None;
                    }
                    Verdict::Ask => {
                        unknown.remember(id(tenant), now);
                        model.tenants.entry(tenant).or_default().answered_at = Some(now);
                        model.in_vain.push(now);
                    }
                    Verdict::Wait(_) => {
                        let is_fresh = |(asked_at, _): &(Instant, _)| now < *asked_at + LIST_PATIENCE;
                        assert!(
                            model.reading.as_ref().is_some_and(is_fresh),
                            "{}: it waits in vain",
                            at()
                        );
                    }
                    Verdict::TooMany(wait) => {
                        let is_slow = |(asked_at, _): &(Instant, _)| now >= *asked_at + LIST_PATIENCE;
                        let is_slow = model.reading.as_ref().is_some_and(is_slow);
                        assert!(
                            (model.failures > 0 || is_slow) && wait <= Duration::from_secs(1),
                            "{}",
                            at()
                        );
                    }
                    Verdict::Unknown => {}
                }
            }
            10 => {
                model.tenants.entry(tenant).or_default().created_at.get_or_insert(now);
            }
            11 | 12 => {
                let Some((asked_at, names)) = model.reading.take() else {
                    continue;
                };
                let names = (random.u8(0..3) > 0).then_some(names);
                let useful = names.is_some() && now < asked_at + TTL;
                model.failures = if useful { 0 } else { model.failures + 1 };
                unknown.listed(names, asked_at, now);
                assert_eq!(unknown.backoff.remaining(now).is_some(), !useful, "{}", at());
            }
            13 => {
                unknown.forget(Some(&id(tenant)));
                model.tenants.entry(tenant).or_default().answered_at = None;
                let listed_before = model.reading.is_some();
                assert!(
                    listed_before || !unknown.contains(&id(tenant), now),
                    "{}: it is not forgotten",
                    at()
                );
            }
            14 if random.u8(0..4) == 0 => {
                unknown.forget(None);
                model.in_vain.clear();
                model.tenants.values_mut().for_each(|known| known.answered_at = None);
                assert!(!unknown.contains(&id(tenant), now), "{}: it is not forgotten", at());
            }
            _ => {}
        }
        assert_eq!(unknown.reading.is_some(), model.reading.is_some(), "{}", at());
    }
}

#[test]
fn random_histories_match_the_model() {
    histories(history);
}

#[test]
fn without_a_list_a_hundred_a_second_are_asked_for() {
    let start = Instant::now();
    let mut unknown = UnknownTenants::<()>::new(TTL, start);
    (0..16).for_each(|n| unknown.remember(id(n), start));
    assert!(unknown.verdict(&id(100), start, ()).1);
    unknown.listed(None, start, start);
    let asked = (0..=255u8).filter(|n| {
        let (verdict, read) = unknown.verdict(&id(n.saturating_add(16)), start, ());
        assert!(!read, "the list is left alone after a failure");
        matches!(verdict, Verdict::Ask)
    });
    assert_eq!(asked.count(), UNLISTED_PER_SECOND as usize);
    let later = start + FIRST_BACKOFF;
    assert!(unknown.verdict(&id(100), later, ()).1);
}

#[test]
fn a_flood_is_noticed_though_nothing_is_remembered() {
    let start = Instant::now();
    let mut unknown = UnknownTenants::<()>::new(Duration::ZERO, start);
    for n in 0..16 {
        assert!(matches!(unknown.verdict(&id(n), start, ()), (Verdict::Ask, false)));
        unknown.remember(id(n), start);
    }
    assert!(unknown.verdict(&id(0), start, ()).1, "the list is read");
    unknown.listed(Some(HashSet::new()), start, start);
    let asked = (0..=255u8).filter(|n| matches!(unknown.verdict(&id(*n), start, ()).0, Verdict::Ask));
    assert_eq!(asked.count(), UNLISTED_PER_SECOND as usize);
    assert!(matches!(
        unknown.verdict(&id(0), start + COUNTED, ()),
        (Verdict::Ask, false)
    ));
}
