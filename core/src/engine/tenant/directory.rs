//! Every tenant that is known, by its id.

use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;

use super::Tenant;
use crate::TenantId;

/// A map from ids to tenants. A tenant is created exactly once, and it is taken out only while
/// nothing uses it: creating and taking out are each one step under the lock of the tenant's part.
#[derive(Default)]
pub(crate) struct Directory(DashMap<TenantId, Arc<Tenant>, RandomState>);

impl Directory {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<Tenant>> {
        self.0.get(tenant).map(|found| found.clone())
    }

    /// The tenant, created by `create` if there is none; however many ask at once, it is created
    /// once.
    pub(crate) fn get_or_create(&self, tenant: &TenantId, create: impl FnOnce() -> Tenant) -> Arc<Tenant> {
        let entry = self.0.entry(*tenant);
        entry.or_insert_with(|| Arc::new(create())).clone()
    }

    /// Takes a tenant out unless something uses it, it is suspended, or `keep` says so; returns
    /// whether it is out. What still refers to it then looks the id up again.
    pub(crate) fn forget(&self, tenant: &TenantId, keep: impl FnOnce(&Tenant) -> bool) -> bool {
        let gone = self
            .0
            .remove_if(tenant, |_, found| !keep(found) && found.admission.forget());
        gone.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every tenant. It passes over the map part by part.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.0.iter().map(|found| found.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::time::Instant;

    use super::{
        super::{Admission, Refused},
        *,
    };
    use crate::engine::settings::LimitsSettings;

    fn new(id: &TenantId) -> Tenant {
        let limits = LimitsSettings::default();
        Tenant::new(*id, Instant::now(), &limits, None, Arc::default())
    }

    /// Serial, running requests, holds and whether it is suspended.
    type Known = (usize, usize, usize, bool);

    #[derive(Default)]
    struct Model {
        created: Vec<Arc<Tenant>>,
        known: BTreeMap<u8, Known>,
    }

    impl Model {
        fn check(&self, directory: &Directory, context: &dyn Fn() -> String) {
            assert_eq!(directory.len(), self.known.len(), "{}", context());
            for (tenant, (serial, running, holds, suspended)) in &self.known {
                let found = directory.get(&id(*tenant)).unwrap();
                assert!(Arc::ptr_eq(&found, &self.created[*serial]), "{}", context());
                let seen = (found.admission.is_idle(), found.admission.is_suspended());
                let idle = *running == 0 && *holds == 0 && !suspended;
                assert_eq!(seen, (idle, *suspended), "{}", context());
            }
        }
    }

    fn id(n: u8) -> TenantId {
        format!("t{n}").parse().unwrap()
    }

    const LIMIT: usize = 3;

    /// One random history of requests, holds, suspensions and evictions, each step of which may use
    /// a reference that was looked up any number of steps before.
    fn history(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = Directory::default();
        let mut model = Model::default();
        let mut looked_up: Vec<(u8, Arc<Tenant>)> = Vec::new();
        for step in 0..random.usize(5..60) {
            let tenant = random.u8(0..3);
            let context = || format!("seed {seed}, step {step}");
            let at = (!looked_up.is_empty()).then(|| random.usize(0..looked_up.len()));
            match (random.u8(0..8), at) {
                (0 | 1, _) => {
                    let serial = model.created.len();
                    let found = directory.get_or_create(&id(tenant), || new(&id(tenant)));
                    let known = model.known.entry(tenant).or_insert_with(|| {
                        model.created.push(found.clone());
                        (serial, 0, 0, false)
                    });
                    let same = Arc::ptr_eq(&found, &model.created[known.0]);
                    assert!(same, "{}: another one was created", context());
                    looked_up.push((tenant, found));
                }
                (2, _) => {
                    let idle = model
                        .known
                        .get(&tenant)
                        .is_some_and(|(_, running, holds, suspended)| *running == 0 && *holds == 0 && !suspended);
                    assert_eq!(directory.forget(&id(tenant), |_| false), idle, "{}", context());
                    if idle {
                        model.known.remove(&tenant);
                    }
                }
                (action, Some(at)) => {
                    let (tenant, found) = &looked_up[at];
                    let known = model.known.get_mut(tenant);
                    let known = known.filter(|known| Arc::ptr_eq(found, &model.created[known.0]));
                    use_reference(action, &found.admission, known, random.bool(), &context);
                }
                (_, None) => {}
            }
            model.check(&directory, &context);
        }
    }

    /// Does something with a reference that was looked up before; `known` is the model's entry if
    /// the tenant was not forgotten meanwhile.
    fn use_reference(
        action: u8,
        admission: &Admission,
        known: Option<&mut Known>,
        suspended: bool,
        context: &dyn Fn() -> String,
    ) {
        match (action, known) {
            (3, None) => assert_eq!(admission.enter(LIMIT), Err(Refused::Forgotten), "{}", context()),
            (3, Some(known)) => {
                let expected = match *known {
                    (.., true) => Err(Refused::Suspended),
                    (_, running, ..) if running >= LIMIT => Err(Refused::Busy),
                    _ => Ok(()),
                };
                assert_eq!(admission.enter(LIMIT), expected, "{}", context());
                known.1 += usize::from(expected.is_ok());
            }
            (4, Some(known)) if known.1 > 0 => {
                admission.leave(true);
                known.1 -= 1;
            }
            (5, None) => assert_eq!(admission.hold(), Err(Refused::Forgotten), "{}", context()),
            (5, Some(known)) => {
                assert_eq!(admission.hold(), Ok(()), "{}", context());
                known.2 += 1;
            }
            (6, Some(known)) if known.2 > 0 => {
                admission.leave(false);
                known.2 -= 1;
            }
            (7, Some(known)) if known.2 > 0 => {
                admission.set_suspended(suspended);
                known.3 = suspended;
            }
            _ => {}
        }
    }

    #[test]
    fn random_histories_match_the_model() {
        crate::engine::tests::histories(history);
    }

    /// Two threads that look a new id up at the same moment find the same tenant.
    #[test]
    fn of_two_threads_one_creates_a_tenant() {
        const ROUNDS: usize = 20_000;
        let directory = Directory::default();
        let created = AtomicUsize::new(0);
        let barrier = Barrier::new(2);
        let run = || -> Vec<Arc<Tenant>> {
            let of_round = |round: usize| {
                let id: TenantId = format!("t{round}").parse().unwrap();
                barrier.wait();
                directory.get_or_create(&id, || {
                    created.fetch_add(1, Ordering::Relaxed);
                    new(&id)
                })
            };
            (0..ROUNDS).map(of_round).collect()
        };
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(run);
            (run(), other.join().unwrap())
        });
        assert!(first.iter().zip(&second).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert_eq!(created.load(Ordering::Relaxed), ROUNDS);
    }
}
