//! The simulated world around the engine: a secret provider, a driver, and the servers behind them.

mod connection;
mod driver;
mod effects;
mod lease;
mod provider;
mod session;
mod tenant;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::watch, time::Instant};

pub(crate) use self::{
    connection::Call,
    driver::{ScriptedDriver, ScriptedMigrations},
    effects::{Effects, Expected},
    lease::{Lease, LeaseState},
    provider::ScriptedProvider,
    session::{Phase, Session},
    tenant::{Leasing, ServerMood, Suspension, Tenant, tenant_id, version_and_lease},
};
use crate::checks::{Invariant, Violation};

tokio::task_local! {
    /// The unit of work on whose behalf the engine uses a connection now.
    pub(crate) static UNIT: u64;
}

/// The unit under which operators ask, so that their connections are known to be outside of every
/// pool.
pub(crate) const OPERATOR: u64 = 0;

/// What the checks must know of the engine's settings.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) ceiling: usize,
    pub(crate) acquire_timeout: Duration,
    pub(crate) idle_time: Duration,
    pub(crate) max_lifetime: Duration,
    /// Whether the engine may close a pool to make room for another.
    pub(crate) evicts_pools: bool,
    /// Whether a new connection may wait for migrations before its first use.
    pub(crate) migrates: bool,
}

/// How often things fail, in percent, and how slow they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) statements: u8,
    pub(crate) connects: u8,
    pub(crate) fetches: u8,
    pub(crate) migrations: u8,
    pub(crate) slow_migrations: bool,
    pub(crate) slow_fetches: bool,
    pub(crate) silent_closes: bool,
    /// How long a driver waits for the answer of a silent server.
    pub(crate) statement_timeout: Duration,
}

/// A unit of work: one statement outside of transactions, or one transaction with all of its
/// statements.
#[derive(Debug)]
pub(crate) struct Unit {
    /// How long the server worked for it so far.
    pub(crate) served: Duration,
    /// When the last of its calls ended.
    pub(crate) last_answer: Instant,
    /// How many calls were made for it.
    pub(crate) calls: u32,
}

pub(crate) struct State {
    pub(crate) bounds: Bounds,
    pub(crate) faults: Faults,
    pub(crate) tenants: Vec<Tenant>,
    /// Every session from the call of `connect` to the end of `close`.
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) units: BTreeMap<u64, Unit>,
    /// The databases that clients hold, by number, and whose each is.
    pub(crate) handles: BTreeMap<u64, usize>,
    pub(crate) effects: Effects,
    /// Every lease that was ever granted, by number.
    pub(crate) leases: BTreeMap<u64, Lease>,
    pub(crate) violations: Vec<Violation>,
    /// Clients and operators that have not finished.
    pub(crate) running: usize,
    pub(crate) counts: Counts,
    events: Vec<(Duration, String)>,
    start: Instant,
    next: u64,
}

/// What happened in a history, so that a summary shows that every path was taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) cut_off: u64,
    pub(crate) unknown_outcomes: u64,
    pub(crate) connects: u64,
    pub(crate) failed_connects: u64,
    pub(crate) lost: u64,
    pub(crate) leases: u64,
    pub(crate) extended: u64,
    pub(crate) released: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, more: &Self) {
        self.answered += more.answered;
        self.refused += more.refused;
        self.cut_off += more.cut_off;
        self.unknown_outcomes += more.unknown_outcomes;
        self.connects += more.connects;
        self.failed_connects += more.failed_connects;
        self.lost += more.lost;
        self.leases += more.leases;
        self.extended += more.extended;
        self.released += more.released;
    }
}

/// The world. The engine holds it as its provider and its driver.
pub(crate) struct World {
    state: Mutex<State>,
    /// Turns true once every fault is mended.
    mended: watch::Sender<bool>,
    /// The provider's change signal.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) signals_changes: bool,
}

impl World {
    pub(crate) fn new(bounds: Bounds, faults: Faults, tenants: Vec<Tenant>, signals_changes: bool) -> Arc<Self> {
        let state = State {
            bounds,
            faults,
            tenants,
            sessions: BTreeMap::new(),
            units: BTreeMap::new(),
            handles: BTreeMap::new(),
            effects: Effects::default(),
            leases: BTreeMap::new(),
            violations: Vec::new(),
            running: 0,
            counts: Counts::default(),
            events: Vec::new(),
            start: Instant::now(),
            next: OPERATOR + 1,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            mended: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            signals_changes,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        self.lock().note(event);
    }

    /// Ends every fault: the provider and the servers work, and what hung has ended.
    pub(crate) fn mend(&self) {
        {
            let mut state = self.lock();
            state.note(format_args!("every fault is mended"));
            let statement_timeout = state.faults.statement_timeout;
            state.faults = Faults {
                statement_timeout,
                ..Faults::default()
            };
            for tenant in &mut state.tenants {
                tenant.mend();
            }
            for session in state.sessions.values_mut() {
                // A connection whose packets were dropped is reset as soon as one goes through.
                session.lost |= session.silent;
            }
        }
        self.mended.send_replace(true);
    }

    /// Waits until every fault is mended.
    pub(crate) async fn mended(&self) {
        // The sender lives in this world, so the wait cannot fail.
        drop(self.mended.subscribe().wait_for(|mended| *mended).await);
    }

    /// Counts a client or an operator until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Running {
        self.lock().running += 1;
        Running(self.clone())
    }
}

/// A client or an operator that has not finished.
pub(crate) struct Running(Arc<World>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl State {
    /// A number that nothing else has.
    pub(crate) fn next(&mut self) -> u64 {
        let next = self.next;
        self.next += 1;
        next
    }

    pub(crate) fn note(&mut self, event: fmt::Arguments<'_>) {
        self.events.push((self.start.elapsed(), event.to_string()));
    }

    pub(crate) fn violate(&mut self, invariant: Invariant, what: fmt::Arguments<'_>) {
        self.note(format_args!("VIOLATION of {invariant}: {what}"));
        // The first of each kind says what went wrong; the events up to it explain why.
        if self.violations.iter().all(|violation| violation.invariant != invariant) {
            self.violations.push(Violation {
                invariant,
                what: what.to_string(),
                events: self.events(),
            });
        }
    }

    /// Every event so far, one a line.
    pub(crate) fn events(&self) -> String {
        let line = |(at, event): &(Duration, String)| format!("{:>10.3} s  {event}\n", at.as_secs_f64());
        self.events.iter().map(line).collect()
    }

    /// A tenant's pool is closed about now: what uses it goes on to its end, beside the next pool.
    pub(crate) fn note_closing(&mut self, tenant: usize) {
        self.tenants[tenant].closed_at = self.next();
        for session in self.sessions.values_mut().filter(|session| session.tenant == tenant) {
            session.maybe_retired = true;
        }
    }

    /// A session refused a write as read-only: those of its tenant that are open lead to the same
    /// server.
    pub(crate) fn note_read_only(&mut self, id: u64) {
        let tenant = self.session(id).tenant;
        self.tenants[tenant].read_only_at = Some(Instant::now());
    }

    pub(crate) fn begin_unit(&mut self) -> u64 {
        let unit = self.next();
        self.units.insert(
            unit,
            Unit {
                served: Duration::ZERO,
                last_answer: Instant::now(),
                calls: 0,
            },
        );
        unit
    }
}
