//! Which tenants have a name in the metrics.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tenantry_core::{
    TenantId,
    engine::{KnownTenant, TenantUsage, Usage, UsageSnapshot},
};

/// The most tenants that are named; all others are counted together.
pub(super) const NAMED_TENANTS: usize = 50;
/// The name of all others.
pub(super) const OTHERS: &str = "other";
/// How much busier than the least busy named tenant another must be to take its name: names that
/// come and go are of no use in a graph.
const BUSIER: u64 = 2;

/// Gives names to the busiest tenants, and keeps every count: what a tenant used while it had no
/// name stays among the others'.
#[derive(Default)]
pub(super) struct TenantLabels {
    named: HashMap<TenantId, Named>,
    /// What each tenant that was known at the last look had used by then.
    seen: HashMap<TenantId, TenantUsage>,
    /// What was counted under names that were taken away.
    formerly_named: TenantUsage,
    others: TenantUsage,
}

struct Named {
    /// What it had used when it got the name.
    base: TenantUsage,
    /// What is counted under the name.
    counted: TenantUsage,
    /// Its [`activity`] since the last look.
    busy: u64,
}

impl TenantLabels {
    /// Compares the tenants' usage. Returns the counts of each label, with its tenant unless it is
    /// `other`.
    pub(super) fn look(&mut self, snapshot: &UsageSnapshot) -> Vec<(Option<TenantId>, TenantUsage)> {
        let known: HashMap<TenantId, &KnownTenant> = snapshot.known.iter().map(|tenant| (tenant.id, tenant)).collect();
        let mut total = snapshot.forgotten;
        for tenant in &snapshot.known {
            total += tenant.usage;
        }
        // A tenant that the engine has forgotten loses its label.
        let gone: Vec<TenantId> = self
            .named
            .keys()
            .filter(|id| !known.contains_key(*id))
            .copied()
            .collect();
        for id in gone {
            self.take_name(&id);
        }
        let mut unnamed: Vec<(u64, TenantId)> = Vec::new();
        for tenant in &snapshot.known {
            let before = self.seen.get(&tenant.id).copied().unwrap_or_default();
            let busy = activity(&tenant.usage).saturating_sub(activity(&before));
            match self.named.get_mut(&tenant.id) {
                Some(named) => named.busy = busy,
                None if busy > 0 => unnamed.push((busy, tenant.id)),
                None => {}
            }
        }
        unnamed.sort_unstable_by(|a, b| b.cmp(a));
        for (busy, id) in unnamed {
            if self.named.len() >= NAMED_TENANTS {
                let least = self.named.iter().min_by_key(|(id, named)| (named.busy, **id));
                match least.map(|(id, named)| (*id, named.busy)) {
                    Some((least, least_busy)) if busy > least_busy.saturating_mul(BUSIER) => self.take_name(&least),
                    _ => break,
                }
            }
            // What was counted among the others stays there.
            let base = self.seen.get(&id).copied().unwrap_or_default();
            self.named.insert(
                id,
                Named {
                    base,
                    counted: TenantUsage::default(),
                    busy,
                },
            );
        }
        let mut apart = self.formerly_named;
        let mut labels = Vec::with_capacity(self.named.len() + 1);
        for (id, named) in &mut self.named {
            if let Some(tenant) = known.get(id) {
                named.counted = at_least(less(&tenant.usage, &named.base), &named.counted);
            }
            apart += named.counted;
            labels.push((Some(*id), named.counted));
        }
        self.others = at_least(less(&total, &apart), &self.others);
        labels.push((None, self.others));
        self.seen = known.into_iter().map(|(id, tenant)| (id, tenant.usage)).collect();
        labels
    }

    /// The tenants that are named.
    pub(super) fn named(&self) -> HashSet<TenantId> {
        self.named.keys().copied().collect()
    }

    fn take_name(&mut self, id: &TenantId) {
        if let Some(named) = self.named.remove(id) {
            self.formerly_named += named.counted;
        }
    }
}

/// How busy a tenant is: its requests, statements and secret fetches. A job has no requests.
fn activity(usage: &TenantUsage) -> u64 {
    usage.requests.count + usage.statements.count + usage.secret_fetches.count
}

fn each(
    a: &TenantUsage,
    b: &TenantUsage,
    count: fn(u64, u64) -> u64,
    time: fn(Duration, Duration) -> Duration,
) -> TenantUsage {
    let both = |a: &Usage, b: &Usage| Usage {
        count: count(a.count, b.count),
        failed: count(a.failed, b.failed),
        time: time(a.time, b.time),
    };
    TenantUsage {
        requests: both(&a.requests, &b.requests),
        secret_hits: count(a.secret_hits, b.secret_hits),
        secret_fetches: both(&a.secret_fetches, &b.secret_fetches),
        connection_waits: both(&a.connection_waits, &b.connection_waits),
        statements: both(&a.statements, &b.statements),
        slow_statements: count(a.slow_statements, b.slow_statements),
    }
}

fn less(a: &TenantUsage, b: &TenantUsage) -> TenantUsage {
    each(a, b, u64::saturating_sub, Duration::saturating_sub)
}

/// A counter never falls: what was read while it was being changed may.
fn at_least(a: TenantUsage, b: &TenantUsage) -> TenantUsage {
    each(&a, b, u64::max, Duration::max)
}

#[cfg(test)]
mod tests {
    use tenantry_core::engine::TenantStatus;

    use super::*;

    fn tenant(n: usize, requests: u64) -> KnownTenant {
        let mut usage = TenantUsage::default();
        usage.requests.count = requests;
        KnownTenant {
            id: format!("t{n}").parse().unwrap(),
            usage,
            pool: None,
            encryption: None,
            secret_breaker_open: false,
            connection_breaker_open: false,
            status: TenantStatus::Healthy,
            schema_version: None,
        }
    }

    fn snapshot(requests: impl IntoIterator<Item = (usize, u64)>, forgotten: u64) -> UsageSnapshot {
        let mut snapshot = UsageSnapshot {
            known: requests.into_iter().map(|(n, requests)| tenant(n, requests)).collect(),
            ..UsageSnapshot::default()
        };
        snapshot.forgotten.requests.count = forgotten;
        snapshot
    }

    fn counted(labels: &[(Option<TenantId>, TenantUsage)], name: Option<usize>) -> Option<u64> {
        let id = name.map(|n| format!("t{n}").parse().unwrap());
        let found = labels.iter().find(|(label, _)| *label == id)?;
        Some(found.1.requests.count)
    }

    fn sum(labels: &[(Option<TenantId>, TenantUsage)]) -> u64 {
        labels.iter().map(|(_, usage)| usage.requests.count).sum()
    }

    #[test]
    fn the_busiest_have_names_and_the_rest_are_counted_together() {
        let mut labels = TenantLabels::default();
        let first = labels.look(&snapshot((0..1_000).map(|n| (n, n as u64)), 0));
        assert_eq!(first.len(), NAMED_TENANTS + 1);
        assert_eq!(counted(&first, Some(999)), Some(999));
        assert_eq!(counted(&first, Some(950)), Some(950));
        assert_eq!(counted(&first, Some(949)), None);
        assert_eq!(sum(&first), 999 * 1_000 / 2);
    }

    #[test]
    fn a_name_that_changes_hands_loses_no_count_and_lets_none_fall() {
        let mut labels = TenantLabels::default();
        labels.look(&snapshot((0..60).map(|n| (n, 100)), 0));
        let mut usage: Vec<u64> = vec![100; 60];
        let named = labels.named();
        let newcomer = (0..60)
            .find(|n| !named.contains(&format!("t{n}").parse().unwrap()))
            .unwrap();
        let others = counted(&labels.look(&snapshot((0..60).map(|n| (n, 100)), 0)), None).unwrap();
        usage[newcomer] += 1_000;
        let after = labels.look(&snapshot(usage.iter().copied().enumerate(), 0));
        assert_eq!(
            counted(&after, Some(newcomer)),
            Some(1_000),
            "what it used before it was named stays"
        );
        assert!(counted(&after, None).unwrap() >= others);
        assert_eq!(after.len(), NAMED_TENANTS + 1);
    }

    #[test]
    fn who_is_forgotten_is_counted_on_among_the_others() {
        let mut labels = TenantLabels::default();
        assert_eq!(counted(&labels.look(&snapshot([(1, 10)], 0)), Some(1)), Some(10));
        let gone = labels.look(&snapshot([], 12));
        assert_eq!(gone.len(), 1);
        // Ten were reported under its name.
        assert_eq!(counted(&gone, None), Some(2));
        let back = labels.look(&snapshot([(1, 5)], 12));
        assert_eq!(counted(&back, Some(1)), Some(5));
        assert_eq!(counted(&back, None), Some(2));
    }

    #[test]
    fn counters_never_fall_while_many_come_and_go() {
        let mut labels = TenantLabels::default();
        let mut usage = vec![0u64; 300];
        let mut last: HashMap<Option<TenantId>, u64> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            for _ in 0..100 {
                let n = random.usize(0..300);
                usage[n] += random.u64(0..50);
            }
            let reported = labels.look(&snapshot(usage.iter().copied().enumerate(), 0));
            assert!(reported.len() <= NAMED_TENANTS + 1);
            let now: HashMap<_, _> = reported.iter().map(|(id, usage)| (*id, usage.requests.count)).collect();
            for (label, count) in &now {
                assert!(last.get(label).is_none_or(|before| before <= count), "{label:?}");
            }
            last = now;
        }
        let reported = labels.look(&snapshot(usage.iter().copied().enumerate(), 0));
        assert!(sum(&reported) <= usage.iter().sum());
    }
}
