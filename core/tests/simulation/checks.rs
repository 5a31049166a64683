//! What must hold, whatever happens: each invariant and how it is checked.

use std::{fmt, time::Duration};

use tenantry_core::{DatabaseErrorKind, engine::AcquireError};
use tokio::time::Instant;

use crate::world::{Call, Expected, LeaseState, Phase, State};

/// How much later than its deadline a request may be answered, because of timers that count in
/// milliseconds.
const SLACK: Duration = Duration::from_millis(50);
/// How long the engine lets one fetch take; before it, a fetch may wait as long for its turn.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// How long after the end of a lease the engine may still use its connections, and keep them open:
/// its housekeeping comes once a second.
const LEASE_SLACK: Duration = Duration::from_millis(1_100);

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// At most one fetch runs for each tenant.
    OneFetch,
    /// No more sessions are open than `pools.max_connections` allows.
    Ceiling,
    /// No more sessions of one tenant are open than its limit allows.
    TenantLimit,
    /// No request waits past its deadline.
    Deadline,
    /// No connection is handed over inside a transaction, aborted or in the middle of a statement.
    HandOver,
    /// No connection and no permit leaks.
    Leak,
    /// Each write happens exactly once if it is acknowledged, and never if it is refused.
    Effect,
    /// No request fails for want of a connection while one of its tenant is idle.
    IdleConnection,
    /// No request fails at once for want of a connection while its tenant has another one.
    OtherConnection,
    /// After a refresh, no statement begins on a connection of an older secret.
    Refresh,
    /// Once every fault is mended, each tenant is served again.
    Recovery,
    /// A suspended tenant gets nothing and no other one is refused; a tenant that exists is never
    /// called unknown.
    Admission,
    /// Nothing begins on a connection whose lease is over and none stays open; a lease is given
    /// back once no connection uses it, and all are given back at the end.
    Lease,
    /// No task of the engine panics.
    Panic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
    /// The last events before it.
    pub(crate) events: String,
}

impl State {
    /// Before a fetch of this tenant's secret begins.
    pub(crate) fn check_one_fetch(&mut self, tenant: usize) {
        let running = self.tenants.get(tenant).map_or(0, |tenant| tenant.fetches);
        if running > 0 {
            let what = format_args!("a fetch of tenant {tenant} begins while {running} run");
            self.violate(Invariant::OneFetch, what);
        }
    }

    /// After a session began.
    pub(crate) fn check_ceiling(&mut self) {
        let (open, ceiling) = (self.sessions.len(), self.bounds.ceiling);
        if open > ceiling {
            self.violate(
                Invariant::Ceiling,
                format_args!("{open} of {ceiling} sessions are open"),
            );
        }
    }

    /// Whether requests run that got the tenant's database before its pool was closed.
    pub(crate) fn has_older_handles(&self, tenant: usize) -> bool {
        let closed_at = self.tenants[tenant].closed_at;
        self.handles
            .iter()
            .any(|(handle, of)| *of == tenant && *handle < closed_at)
    }

    /// The sessions that count against the tenant's limit: those of its pool that are not being
    /// closed.
    fn counted(&self, tenant: usize) -> (usize, usize) {
        let counts = |session: &&crate::world::Session| {
            session.tenant == tenant && session.phase != Phase::Closing && !session.is_probe && !session.maybe_retired
        };
        let counted = || self.sessions.values().filter(counts);
        let oldest = counted().map(|session| session.version).min();
        let limit = self.tenants[tenant].limit_since(oldest.unwrap_or_default());
        (counted().count(), limit)
    }

    /// A pool that is closed to make room ends when its requests do, and only the engine knows
    /// which that is.
    pub(crate) fn has_too_many(&self, tenant: usize) -> bool {
        let (open, limit) = self.counted(tenant);
        !self.bounds.evicts_pools && open > limit
    }

    pub(crate) fn check_tenant_limit(&mut self, tenant: usize) {
        if self.has_too_many(tenant) {
            let (open, limit) = self.counted(tenant);
            let what = format_args!("tenant {tenant} has {open} sessions and may have {limit}");
            self.violate(Invariant::TenantLimit, what);
        }
    }

    /// Before a call on a session begins.
    pub(crate) fn check_handed_over(&mut self, id: u64, call: Call<'_>, unit: Option<u64>) {
        let session = self.session(id);
        let same_unit = unit.is_some() && session.unit == unit;
        // The engine itself rolls back what a request left open, and checks whether an idle
        // connection lives.
        let expected = match (call, unit) {
            (Call::Rollback, None) => !session.levels.is_empty() && !session.running,
            (Call::Ping, _) => session.is_at_rest(),
            (Call::Script(script), None) if script.starts_with("MIGRATE") => session.is_at_rest(),
            (_, None) => false,
            (_, Some(_)) if same_unit => !session.running,
            (_, Some(_)) => session.is_at_rest(),
        };
        if !expected {
            let state = session.to_string();
            let what = format_args!("{call:?} of unit {unit:?} begins on session {id}: {state}");
            self.violate(Invariant::HandOver, what);
        }
    }

    /// Before a call on a session begins.
    pub(crate) fn check_refreshed(&mut self, id: u64, call: Call<'_>, unit: Option<u64>) {
        let session = self.session(id);
        // What a transaction has begun goes on where it began.
        if unit.is_none() || session.unit == unit || call == Call::Ping {
            return;
        }
        let (tenant, version, state) = (session.tenant, session.version, session.to_string());
        if let Some((refreshed, at)) = self.tenants[tenant].refreshed
            && version < refreshed
            && at < Instant::now()
        {
            let what = format_args!("{call:?} begins on session {id} after a refresh to version {refreshed}: {state}");
            self.violate(Invariant::Refresh, what);
        }
    }

    /// Before a call on a session begins.
    pub(crate) fn check_lease(&mut self, id: u64, call: Call<'_>, unit: Option<u64>) {
        let session = self.session(id);
        // What a transaction has begun goes on where it began.
        if unit.is_none() || session.unit == unit || call == Call::Ping {
            return;
        }
        let (lease, state) = (session.lease, session.to_string());
        let over = lease.and_then(|lease| self.leases[&lease].over_for());
        if let Some(over) = over.filter(|over| *over > LEASE_SLACK) {
            let what = format_args!("{call:?} begins on session {id}, whose lease is over for {over:?}: {state}");
            self.violate(Invariant::Lease, what);
        }
    }

    /// Before a lease is given back.
    pub(crate) fn check_release(&mut self, number: u64) {
        let uses = |session: &&crate::world::Session| session.lease == Some(number) && session.phase == Phase::Open;
        let session = self.sessions.values().find(uses).map(ToString::to_string);
        if let Some(session) = session {
            let what = format_args!("lease {number} is given back while it is used: {session}");
            self.violate(Invariant::Lease, what);
        }
    }

    /// Now and then: no connection of a lease that is over is kept.
    pub(crate) fn check_kept_leases(&mut self) {
        let is_kept = |session: &&crate::world::Session| {
            let over = session.lease.and_then(|lease| self.leases[&lease].over_for());
            let idle = session.idle_since.map(|since| since.elapsed());
            session.is_at_rest()
                // One that is being prepared is not idle.
                && (session.unit.is_some() || !self.bounds.migrates)
                && over.is_some_and(|over| over > LEASE_SLACK)
                && idle.is_some_and(|idle| idle > LEASE_SLACK)
        };
        let kept = self.sessions.values().find(is_kept).map(ToString::to_string);
        if let Some(kept) = kept {
            let what = format_args!("a session is kept after its lease: {kept}");
            self.violate(Invariant::Lease, what);
        }
    }

    /// At the end, after the shutdown.
    pub(crate) fn check_every_lease(&mut self) {
        let left = |lease: &crate::world::Lease| lease.state == LeaseState::Held && lease.over_for().is_none();
        let left = self.leases.iter().find(|(_, lease)| left(lease));
        if let Some((number, lease)) = left.map(|(number, lease)| (*number, *lease)) {
            let what = format_args!("lease {number} is left behind: {lease:?}");
            self.violate(Invariant::Lease, what);
        }
    }

    /// A write takes effect on a session of `tenant`.
    pub(crate) fn check_effect(&mut self, number: u64, tenant: usize) {
        let Some(effect) = self.effects.0.get_mut(&number) else {
            return self.violate(Invariant::Effect, format_args!("write {number} was never made"));
        };
        effect.count += 1;
        let effect = *effect;
        self.note(format_args!("tenant {tenant}: write {number} took effect"));
        if effect.tenant != tenant {
            let what = format_args!(
                "write {number} of tenant {} took effect at tenant {tenant}",
                effect.tenant
            );
            self.violate(Invariant::Effect, what);
        }
        if effect.count > 1 || effect.expected == Expected::Never {
            self.violate(
                Invariant::Effect,
                format_args!("write {number} took effect: {effect:?}"),
            );
        }
    }

    /// A write was answered, or its transaction is about to be committed.
    pub(crate) fn expect(&mut self, number: u64, expected: Expected) {
        let Some(effect) = self.effects.0.get_mut(&number) else {
            return;
        };
        effect.expected = expected;
        let effect = *effect;
        if effect.is_wrong() {
            self.violate(
                Invariant::Effect,
                format_args!("write {number} was answered: {effect:?}"),
            );
        }
    }

    /// Every write once more, at the end.
    pub(crate) fn check_every_effect(&mut self) {
        let wrong = self.effects.0.iter().find(|(_, effect)| effect.is_wrong());
        if let Some((number, effect)) = wrong.map(|(number, effect)| (*number, *effect)) {
            self.violate(Invariant::Effect, format_args!("write {number} at the end: {effect:?}"));
        }
    }

    /// After a call through the engine that took `elapsed`, of which the server worked for
    /// `served`.
    pub(crate) fn check_wait(&mut self, what: &str, elapsed: Duration, served: Duration) {
        let (waited, bound) = (elapsed.saturating_sub(served), self.bounds.acquire_timeout + SLACK);
        if waited > bound {
            let what = format_args!("{what} waited {waited:?} for a connection, {bound:?} at most");
            self.violate(Invariant::Deadline, what);
        }
    }

    /// After `Tenants::acquire`, during which the secret was asked for anew `renewals` times.
    pub(crate) fn check_acquire_wait(&mut self, tenant: usize, elapsed: Duration, renewals: u32) {
        let leasing = self.tenants.get(tenant).and_then(|tenant| tenant.leasing);
        // A lease that cannot be extended is tried first.
        let bound = FETCH_DEADLINE * (2 + renewals + u32::from(leasing.is_some())) + SLACK;
        if elapsed > bound {
            let what = format_args!("tenant {tenant} waited {elapsed:?} for its secret, {bound:?} at most");
            self.violate(Invariant::Deadline, what);
        }
    }

    /// A call of `tenant` that waited since `since` failed.
    pub(crate) fn check_idle_connection(&mut self, tenant: usize, since: Instant, kind: DatabaseErrorKind) {
        if !matches!(kind, DatabaseErrorKind::PoolTimeout | DatabaseErrorKind::Connect(_)) {
            return;
        }
        let bounds = &self.bounds;
        // Engines give a connection a little less than its lifetime, lest those opened together end
        // together.
        let lifetime = bounds.max_lifetime.mul_f64(0.8);
        // One that is found dead takes those with it that have been idle as long.
        let found_dead = self.tenants[tenant].found_dead;
        let found_dead = found_dead
            .filter(|(at, _)| at.elapsed() <= SLACK)
            .map(|(_, since)| since);
        let idle = self.sessions.iter().find(|(_, session)| {
            session.tenant == tenant
                && session.is_at_rest()
                && !(session.lost || session.silent || session.is_probe)
                && (session.unit.is_some() || !bounds.migrates)
                && session.opened_at.elapsed() < lifetime
                && Some(session.opened_at) > self.tenants[tenant].read_only_at
                && session
                    .idle_since
                    .is_some_and(|idle| idle < since && idle.elapsed() < bounds.idle_time && found_dead < Some(idle))
        });
        if let Some((id, session)) = idle {
            let what = format!("session {id}: {session}");
            let what = format_args!("tenant {tenant} was answered {} beside {what}", kind.as_str());
            self.violate(Invariant::IdleConnection, what);
        }
    }

    /// A call of `tenant` that waited since `since` failed.
    pub(crate) fn check_other_connection(&mut self, tenant: usize, since: Instant, kind: DatabaseErrorKind) {
        let in_time = since.elapsed() + SLACK < self.bounds.acquire_timeout;
        let has_none = matches!(kind, DatabaseErrorKind::Connect(_) | DatabaseErrorKind::Migrating);
        if !has_none || !in_time || self.bounds.evicts_pools {
            return;
        }
        let current = self.tenants[tenant].version;
        let other = self.sessions.iter().find(|(_, session)| {
            session.tenant == tenant
                && session.version == current
                && session.phase == Phase::Open
                // One whose statement just failed may be closed, so only one that runs on counts.
                && session.running
                && session.unit.is_some_and(|unit| self.units.contains_key(&unit))
                && session.aborted_at.is_none()
                && session.opened_at < since
                && !(session.lost || session.silent || session.is_probe || session.maybe_retired)
        });
        if let Some((id, session)) = other {
            let what = format!("session {id}: {session}");
            let what = format_args!("tenant {tenant} was answered {} beside {what}", kind.as_str());
            self.violate(Invariant::OtherConnection, what);
        }
    }

    /// After `Tenants::acquire`; `before` is what was known of the suspension when it began.
    pub(crate) fn check_admission(
        &mut self,
        tenant: usize,
        before: crate::world::Suspension,
        answer: Result<(), &AcquireError>,
    ) {
        let Some(known) = self.tenants.get(tenant) else {
            if answer.is_ok() {
                self.violate(
                    Invariant::Admission,
                    format_args!("tenant {tenant} does not exist and was served"),
                );
            }
            return;
        };
        let settled = before == known.suspension && before.unsettled == 0;
        let suspended = matches!(answer, Err(AcquireError::Suspended));
        if settled && suspended != before.suspended {
            let what = format_args!("tenant {tenant} was answered {answer:?} with {before:?}");
            self.violate(Invariant::Admission, what);
        }
        if matches!(answer, Err(AcquireError::Unknown)) {
            self.violate(
                Invariant::Admission,
                format_args!("tenant {tenant} exists and was called unknown"),
            );
        }
    }
}
