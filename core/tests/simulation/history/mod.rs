//! A history: settings, clients, troubles and operators, all drawn from one seed.

mod client;
mod end;
mod transaction;
mod trouble;

use std::{sync::Arc, time::Duration};

use tenantry_core::{
    HumanDuration,
    engine::{EngineSettings, LimitsSettings, PoolDefaults, PoolsSettings, SecretsSettings, Tenants, TenantsParts},
};
use tokio::time::sleep;

use self::{
    client::{Client, CutOff, Kind},
    trouble::{Action, Order, Rotation, Trouble},
};
use crate::{
    checks::Violation,
    dice::Dice,
    world::{
        Bounds, Counts, Faults, Leasing, ScriptedDriver, ScriptedMigrations, ScriptedProvider, ServerMood, Tenant,
        World,
    },
};

/// What came of one history.
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: Counts,
    pub(crate) events: String,
}

/// Which kinds of things go wrong in a history. Each is left out of some, so that none hides what
/// another does.
struct Mix {
    cut_offs: u8,
    troubles: usize,
    actions: usize,
    ghosts: u8,
}

/// Runs the history of a seed, within a runtime whose time is paused.
pub(crate) async fn run(seed: u64) -> Report {
    // The engine draws its jitter from the thread's own generator.
    fastrand::seed(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let count = rng.usize(1..=4);
    let settings = settings(&mut rng, count);
    let migrates = rng.u8(0..3) == 0;
    let faults = faults(&mut rng);
    let bounds = Bounds {
        ceiling: settings.pools.max_connections,
        acquire_timeout: settings.pools.acquire_timeout.into(),
        idle_time: settings.pools.defaults.idle_time.into(),
        max_lifetime: settings.pools.defaults.max_lifetime.into(),
        evicts_pools: settings.pools.max < count,
        migrates,
    };
    let mix = Mix {
        cut_offs: [0, 10, 40][rng.usize(0..3)],
        troubles: [0, 2, 6, 12][rng.usize(0..4)],
        actions: [0, 2, 8][rng.usize(0..3)],
        ghosts: [0, 5][rng.usize(0..2)],
    };
    let tenants = (0..count)
        .map(|index| Tenant {
            leasing: leasing(&mut rng),
            ..Tenant::new(index, rng.usize(1..=4), Dice::new(&mut rng))
        })
        .collect();
    let signals = rng.bool();
    let world = World::new(bounds, faults.clone(), tenants, signals);
    world.note(format_args!(
        "seed {seed}: {settings:?}, {faults:?}, migrates: {migrates}, {count} tenants"
    ));
    let engine = engine(&world, settings);
    let length = play(&world, &engine, count, &mix, &mut rng);
    let looking = tokio::spawn({
        let world = world.clone();
        async move {
            loop {
                sleep(Duration::from_millis(300)).await;
                world.lock().check_kept_leases();
            }
        }
    });
    sleep(length).await;
    // In half of the histories, the last clients run into the faults to the end.
    end::end(&world, engine, count, rng.bool()).await;
    looking.abort();
    let mut state = world.lock();
    Report {
        violations: std::mem::take(&mut state.violations),
        counts: state.counts,
        events: state.events(),
    }
}

fn engine(world: &Arc<World>, settings: EngineSettings) -> Tenants {
    let migrates = world.lock().bounds.migrates;
    Tenants::new(TenantsParts {
        provider: Arc::new(ScriptedProvider(world.clone())),
        provider_type: "scripted".to_owned(),
        drivers: vec![("scripted".to_owned(), Arc::new(ScriptedDriver(world.clone())))],
        settings,
        on_connect: migrates.then(|| Arc::new(ScriptedMigrations(world.clone())) as _),
        observer: None,
    })
}

/// Ends a history in which nothing was asked of the engine.
pub(crate) async fn end_alone(world: &Arc<World>, count: usize) {
    let engine = engine(world, EngineSettings::default());
    end::end(world, engine, count, true).await;
}

fn seconds(rng: &mut fastrand::Rng, choices: &[u64]) -> HumanDuration {
    HumanDuration::from_secs(choices[rng.usize(0..choices.len())])
}

fn settings(rng: &mut fastrand::Rng, tenants: usize) -> EngineSettings {
    EngineSettings {
        secrets: SecretsSettings {
            ttl: seconds(rng, &[1, 3, 10, 30]),
            max_entries: if rng.u8(0..3) == 0 {
                rng.usize(1..=tenants + 1)
            } else {
                100
            },
            stale_if_error: seconds(rng, &[1, 10, 60]),
            not_found_ttl: seconds(rng, &[1, 5]),
            ..SecretsSettings::default()
        },
        pools: PoolsSettings {
            max: if rng.u8(0..3) == 0 { rng.usize(1..=tenants) } else { 100 },
            max_connections: rng.usize(1..=6),
            max_per_tenant: None,
            idle_timeout: seconds(rng, &[20, 60]),
            connect_timeout: seconds(rng, &[1, 3]),
            acquire_timeout: seconds(rng, &[1, 2, 5]),
            defaults: PoolDefaults {
                idle_connections: rng.usize(0..=3),
                idle_time: seconds(rng, &[2, 30]),
                max_lifetime: seconds(rng, &[5, 3_600]),
                ..PoolDefaults::default()
            },
        },
        limits: LimitsSettings {
            concurrent_requests: if rng.u8(0..6) == 0 { 3 } else { 1_000 },
            requests_per_second: None,
        },
        migrations_timeout: seconds(rng, &[5, 600]),
    }
}

/// Half of the tenants have secrets that expire.
fn leasing(rng: &mut fastrand::Rng) -> Option<Leasing> {
    let seconds = [5, 8, 20, 60][rng.usize(0..4)];
    rng.bool().then(|| Leasing {
        lasts: Duration::from_secs(seconds),
        at_most: Duration::from_secs(seconds * rng.u64(1..=4)),
        renewable: rng.u8(0..4) > 0,
    })
}

fn faults(rng: &mut fastrand::Rng) -> Faults {
    Faults {
        statements: [0, 3, 15][rng.usize(0..3)],
        connects: [0, 5, 30][rng.usize(0..3)],
        fetches: [0, 0, 20][rng.usize(0..3)],
        migrations: [0, 30][rng.usize(0..2)],
        slow_migrations: rng.bool(),
        slow_fetches: rng.u8(0..4) == 0,
        silent_closes: rng.u8(0..4) == 0,
        statement_timeout: Duration::from_secs(rng.u64(1..5)),
    }
}

/// Starts everything that happens in a history, each at a moment of its own; returns how long that
/// lasts.
fn play(world: &Arc<World>, engine: &Tenants, count: usize, mix: &Mix, rng: &mut fastrand::Rng) -> Duration {
    // Requests that come within a short time meet; others find what earlier ones left.
    let length = [200, 2_000, 10_000, 30_000][rng.usize(0..4)];
    let at = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(0..length));
    for _ in 0..rng.usize(5..40) {
        let ghost = rng.u8(0..100) < mix.ghosts;
        let client = Client {
            world: world.clone(),
            tenants: engine.clone(),
            tenant: if ghost {
                count + rng.usize(0..3)
            } else {
                rng.usize(0..count)
            },
            dice: Arc::new(Dice::new(rng)),
        };
        let (at, kind, cut_off) = (at(rng), kind(rng), cut_off(rng, mix.cut_offs));
        tokio::spawn(async move {
            sleep(at).await;
            client.run(kind, cut_off).await;
        });
    }
    for _ in 0..rng.usize(0..=mix.troubles) {
        let (world, at, tenant, kind) = (world.clone(), at(rng), rng.usize(0..count), trouble(rng));
        tokio::spawn(async move {
            sleep(at).await;
            trouble::trouble(world, tenant, kind).await;
        });
    }
    for _ in 0..rng.usize(0..=mix.actions) {
        let (world, engine, at) = (world.clone(), engine.clone(), at(rng));
        let (tenant, action) = (rng.usize(0..count), action(rng));
        tokio::spawn(async move {
            sleep(at).await;
            trouble::act(world, engine, tenant, action).await;
        });
    }
    Duration::from_millis(length)
}

fn kind(rng: &mut fastrand::Rng) -> Kind {
    match rng.u8(0..20) {
        0..4 => Kind::Read,
        4..7 => Kind::Write,
        7 => Kind::Charge,
        8 | 9 => Kind::Several,
        10 | 11 => Kind::AtOnce,
        12 => Kind::Script,
        13 => Kind::Ping,
        14..17 => Kind::Transaction,
        _ => Kind::SharedTransaction,
    }
}

fn cut_off(rng: &mut fastrand::Rng, percent: u8) -> CutOff {
    if rng.u8(0..100) >= percent {
        return CutOff::Never;
    }
    match rng.u8(0..3) {
        0 => CutOff::Polls(rng.u32(1..12)),
        1 => CutOff::After(Duration::from_millis(rng.u64(0..60))),
        _ => CutOff::After(Duration::from_millis(rng.u64(0..3_000))),
    }
}

fn trouble(rng: &mut fastrand::Rng) -> Trouble {
    let time = Duration::from_millis(rng.u64(1..8_000));
    match rng.u8(0..14) {
        0 => Trouble::KillAll,
        1 => Trouble::KillOne,
        2 => Trouble::Silence,
        3 => Trouble::Server(ServerMood::Refuses, time),
        4 => Trouble::Server(ServerMood::DropsPackets, time),
        5 | 6 => Trouble::FullServer(rng.usize(0..3), time),
        7 | 8 => Trouble::Outage {
            silent: rng.bool(),
            time,
        },
        _ => Trouble::Rotation(Rotation {
            order: [Order::Overlapping, Order::ServerFirst, Order::ProviderFirst][rng.usize(0..3)],
            gap: Duration::from_millis(rng.u64(0..3_000)),
            kills: rng.bool(),
            signals: rng.bool(),
            limit: rng.bool().then(|| rng.usize(1..=4)),
        }),
    }
}

fn action(rng: &mut fastrand::Rng) -> Action {
    match rng.u8(0..12) {
        0..4 => Action::Refresh,
        4 => Action::ClearSecret,
        5 => Action::ClearAllSecrets,
        6 | 7 => Action::ClosePool,
        8 => Action::Suspend,
        9 => Action::Resume,
        10 => Action::Probe,
        _ => Action::Signal,
    }
}
