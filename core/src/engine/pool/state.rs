//! The state of one tenant's pool: its idle connections, waiting requests, and openings.
//!
//! A plain data structure: it opens and closes nothing, and the time is a parameter. Its methods
//! return what is to be done, and connections to close, so that nothing is dropped under the lock
//! that [`Pool`](super::Pool) keeps it under.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    breaker::Breaker,
    connection::{Facts, HasFacts},
};
use crate::{
    DatabaseError, DatabaseErrorKind,
    engine::{
        budget::{Idle, ProbePermit},
        pace::Backoff,
        settings::PoolDefaults,
    },
    health::{PoolHealth, PoolStatus},
};

/// How many connections one tenant opens at once. Many at once are all slow, and the first is
/// needed first.
const OPENINGS_AT_ONCE: usize = 4;
/// A connection that was not used for this long is checked before it is used again.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// Connections beyond `idle_connections` are kept this long, so that a burst does not open them
/// again and again.
const EXCESS_KEPT: Duration = Duration::from_secs(10);
/// After more failures to connect in a row, the database is left alone for a while.
const FAILURES_TOLERATED: u32 = 2;
/// After an outdated connection was found, no other one is called outdated for this long. So a
/// server that refuses every write is not logged in to again and again.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(1);
/// The same for a missing table: a program that asks for one that never was does not cost its
/// tenants their connections.
const TABLE_MISSING_PAUSE: Duration = Duration::from_secs(60);
/// How long a database that was prepared is trusted to be the same while connections are opened.
const TRUSTED: Duration = Duration::from_secs(10);
/// How often an opening is tried again for a tenant without a connection while its server is full.
const FULL_TRIES: u32 = 3;

/// `C` is a connection, `W` how a waiting request gets its answer.
pub(super) struct PoolState<C, W> {
    limits: PoolDefaults,
    /// Rises with each secret and each time the pool is closed: connections of an earlier era are
    /// closed as they come back.
    era: u64,
    /// In the order of their last use. The one that was used last is used next: those not needed
    /// grow old and go.
    idle: Vec<C>,
    /// Requests that wait, in order of arrival.
    waiting: BTreeMap<u64, W>,
    next_ticket: u64,
    in_use: usize,
    /// Openings that were begun and have not ended.
    opening: usize,
    breaker: Breaker,
    /// The right to probe, while an opening does so.
    probe: Option<ProbePermit>,
    /// Connections last used before this are checked before use.
    suspect_before: Option<Instant>,
    /// Connections opened before this are closed: they may lead to a server that became a standby,
    /// or to another database of the same name.
    outdated_before: Option<Instant>,
    /// Since when the database is being prepared, if it is.
    pub(super) preparing_since: Option<Instant>,
    /// The preparation that counts; it rises if another one is wanted.
    pub(super) preparation: u64,
    /// The last preparation that ended well, and when it began.
    pub(super) prepared: Option<(u64, Instant)>,
    /// How long the last opening took.
    pub(super) opening_time: Duration,
    used_at: Instant,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Next<C, W> {
    /// The request that has waited longest has it.
    Deliver(W, C),
    Kept,
    Close(C),
}

impl<C: HasFacts, W> PoolState<C, W> {
    pub(super) fn new(limits: PoolDefaults, now: Instant) -> Self {
        Self {
            limits,
            era: 0,
            idle: Vec::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            in_use: 0,
            opening: 0,
            breaker: Breaker::default(),
            probe: None,
            suspect_before: None,
            outdated_before: None,
            preparing_since: None,
            preparation: 0,
            prepared: None,
            opening_time: Duration::ZERO,
            used_at: now,
        }
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }

    /// The connections that are open.
    pub(super) fn open(&self) -> usize {
        self.idle.len() + self.in_use
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How the pool is now.
    pub(super) fn health(&self) -> PoolHealth {
        PoolHealth {
            status: PoolStatus {
                max: self.limits.max_connections,
                open: self.open(),
                idle: self.idle.len(),
                in_use: self.in_use,
            },
            is_open: self.open() + self.opening > 0,
            is_broken: self.breaker.is_open(),
            is_preparing: self.preparing_since.is_some(),
            last_error: self.breaker.last_error().cloned(),
        }
    }

    /// A login was refused, and is tried again with another secret.
    pub(super) fn doubt(&mut self) {
        self.breaker.doubt();
    }

    fn is_current(&self, facts: &Facts, now: Instant) -> bool {
        let outdated = self.outdated_before.is_some_and(|moment| facts.opened_at <= moment);
        facts.era == self.era && now < facts.retire_at && !outdated
    }

    fn is_kept(&self, facts: &Facts, now: Instant) -> bool {
        let idle = now.saturating_duration_since(facts.used_at);
        self.is_current(facts, now) && idle < Duration::from(self.limits.idle_time)
    }

    /// Takes the idle connection that was used last, and whether it must be checked before use.
    /// What is worn out goes to `worn`.
    pub(super) fn take(&mut self, now: Instant, worn: &mut Vec<C>) -> Option<(C, bool)> {
        while let Some(connection) = self.idle.pop() {
            let facts = connection.facts();
            if self.is_kept(facts, now) {
                let suspect = self.suspect_before.is_some_and(|before| facts.used_at <= before);
                let check = suspect || now.saturating_duration_since(facts.used_at) >= CHECK_AFTER;
                self.in_use += 1;
                return Some((connection, check));
            }
            worn.push(connection);
        }
        None
    }

    /// Lets a request wait that found no idle connection; `longest` is how long a request waits.
    ///
    /// # Errors
    /// Why it would wait in vain: the tenant has no connection, and its breaker is open, or its
    /// database is being prepared for longer than a request waits.
    pub(super) fn join(
        &mut self,
        now: Instant,
        longest: Duration,
        waiter: W,
        probe: impl FnOnce() -> Option<ProbePermit>,
    ) -> Result<u64, DatabaseError> {
        if self.open() == 0 && self.preparing_since.is_some_and(|since| now - since >= longest) {
            return Err(DatabaseError::new(DatabaseErrorKind::Migrating));
        }
        if self.open() == 0
            && self.breaker.is_open()
            && let Some(error) = self.breaker.last_error()
        {
            if self.opening > 0 || !self.breaker.pause(now).is_zero() {
                return Err(error.clone());
            }
            self.probe = Some(probe().ok_or_else(|| error.clone())?);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, waiter);
        Ok(ticket)
    }

    /// A request no longer waits. Returns what it left behind.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<W> {
        self.waiting.remove(&ticket)
    }

    /// How many openings are to be begun now, and counts them as begun: as many as requests wait,
    /// within the pool's maximum, and one at a time until one has succeeded.
    pub(super) fn begin_openings(&mut self) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
        let at_once = if self.breaker.is_proven() { OPENINGS_AT_ONCE } else { 1 };
        let room = self.limits.max_connections.saturating_sub(self.open());
        let wanted = self.waiting.len().min(at_once).min(room);
        let begin = wanted.saturating_sub(self.opening);
        self.opening += begin;
        begin
    }

    /// Whether an opening that does not log in at the moment is no longer wanted, or no longer
    /// allowed because a secret has lowered the maximum; then it counts as ended.
    pub(super) fn withdraw(&mut self) -> bool {
        let excess = self.open() + self.opening > self.limits.max_connections;
        let unwanted = excess || self.opening > self.waiting.len();
        if unwanted {
            self.end_opening();
        }
        unwanted
    }

    fn end_opening(&mut self) {
        self.opening -= 1;
        if self.opening == 0 {
            self.probe = None;
        }
    }

    /// A connection is open. Returns what becomes of it, and how many openings had failed before.
    /// One of an earlier era is closed, and its opening is tried again.
    pub(super) fn opened(&mut self, connection: C, now: Instant) -> (Next<C, W>, u32) {
        if connection.facts().era != self.era {
            return (Next::Close(connection), 0);
        }
        self.end_opening();
        let failures = self.breaker.succeeded();
        (self.used_at, self.opening_time) = (now, connection.facts().opening);
        (self.hand_on(connection), failures)
    }

    fn hand_on(&mut self, connection: C) -> Next<C, W> {
        match self.waiting.pop_first() {
            Some((_, waiter)) => {
                self.in_use += 1;
                Next::Deliver(waiter, connection)
            }
            None => {
                let used_at = connection.facts().used_at;
                let at = self.idle.partition_point(|other| other.facts().used_at <= used_at);
                self.idle.insert(at, connection);
                Next::Kept
            }
        }
    }

    /// An opening failed. While the tenant has a connection it is tried again after a pause, and
    /// the requests wait for the others; returns the pause, or else the requests that fail with it,
    /// and the failures in a row if they are worth a line in the log. While other openings run, the
    /// requests wait for those, unless it failed `at_once`: then another try would cost as much.
    pub(super) fn opening_failed(
        &mut self,
        error: DatabaseError,
        at_once: bool,
        pauses: &mut Backoff,
        now: Instant,
    ) -> (Result<Duration, Vec<W>>, Option<u32>) {
        let pause = pauses.fail(now);
        let full = matches!(error.kind, DatabaseErrorKind::Connect(kind) if kind.is_full());
        let again = self.open() > 0 || (full && pauses.failures() <= FULL_TRIES);
        let tolerated = match at_once {
            // A server that has no connection left can be reached.
            _ if full && again => u32::MAX,
            true => 0,
            false => FAILURES_TOLERATED,
        };
        let noteworthy = self.breaker.failed(error, tolerated, now);
        if again {
            return (Ok(pause.max(self.breaker.pause(now))), noteworthy);
        }
        let is_last = self.opening == 1;
        self.end_opening();
        if !is_last && !at_once {
            return (Err(Vec::new()), noteworthy);
        }
        let waiting = std::mem::take(&mut self.waiting);
        (Err(waiting.into_values().collect()), noteworthy)
    }

    /// A connection comes back. `fit` is whether it may be used again. It was last used at the time
    /// in its facts.
    pub(super) fn give_back(&mut self, connection: C, now: Instant, fit: bool) -> Next<C, W> {
        self.in_use -= 1;
        self.used_at = self.used_at.max(connection.facts().used_at);
        if fit && self.is_current(connection.facts(), now) {
            self.hand_on(connection)
        } else {
            Next::Close(connection)
        }
    }

    /// A connection was found dead that was last used at `used_at`. Returns the idle ones that are
    /// idle as long: the same became of them.
    pub(super) fn found_dead(&mut self, used_at: Instant, now: Instant) -> Vec<C> {
        self.suspect_idle(now);
        let alive = self.idle.partition_point(|other| other.facts().used_at <= used_at);
        self.idle.drain(..alive).collect()
    }

    /// A connection broke: every idle one may be broken too, since the server restarted, or
    /// sessions were ended.
    pub(super) fn suspect_idle(&mut self, now: Instant) {
        self.suspect_before = Some(now);
    }

    /// A connection refused a write as read-only, as after a failover, or has no table of that
    /// name, as after its database was made anew: the other ones that are open lead to the same
    /// server. Returns whether the others count as outdated from now on: idle ones are closed when
    /// they are next looked at, used ones as they come back.
    pub(super) fn found_outdated(&mut self, kind: DatabaseErrorKind, now: Instant) -> bool {
        let pause = match kind {
            DatabaseErrorKind::ReadOnly => READ_ONLY_PAUSE,
            _ => TABLE_MISSING_PAUSE,
        };
        let is_over = |moment| now.saturating_duration_since(moment) >= pause;
        let outdated = self.outdated_before.is_none_or(is_over);
        self.outdated_before = if outdated { Some(now) } else { self.outdated_before };
        outdated
    }

    /// Begins a new era, with other limits if a secret says so. Returns the idle connections of the
    /// old one.
    pub(super) fn begin_era(&mut self, limits: Option<PoolDefaults>) -> Vec<C> {
        self.era += 1;
        self.preparation += 1;
        self.limits = limits.unwrap_or(self.limits.clone());
        // What was said of the old secret is not said of the new one.
        self.breaker.forgive();
        std::mem::take(&mut self.idle)
    }

    /// Begins to prepare the database, unless that was done a moment ago and there were connections
    /// ever since: another database may have taken its place, such as a backup of an earlier
    /// version. Returns what `prepared` is to be afterwards.
    pub(super) fn begin_preparation(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let is_recent = |(number, at): (u64, Instant)| number == self.preparation && now - at < TRUSTED;
        if self.open() > 0 && self.prepared.is_some_and(is_recent) {
            return None;
        }
        self.preparing_since = Some(now);
        Some((self.preparation, now))
    }

    /// Takes out what is worn out, and what is beyond `idle_connections` for a while.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<C> {
        let mut excess = self.idle.len().saturating_sub(self.limits.idle_connections);
        let idle = std::mem::take(&mut self.idle);
        let (kept, closed) = idle.into_iter().partition(|connection| {
            let facts = connection.facts();
            let too_many = excess > 0 && now.saturating_duration_since(facts.used_at) >= EXCESS_KEPT;
            excess -= usize::from(too_many);
            self.is_kept(facts, now) && !too_many
        });
        self.idle = kept;
        closed
    }

    /// The idle connection that has been idle longest.
    pub(super) fn longest_idle(&self) -> Option<Idle> {
        let since = self.idle.first()?.facts().used_at;
        let several = self.open() > 1;
        Some(Idle { since, several })
    }

    /// Takes out the connection that has been idle longest, if it was not used after `since`.
    pub(super) fn take_idle_since(&mut self, since: Instant) -> Option<C> {
        self.longest_idle().filter(|idle| idle.since <= since)?;
        Some(self.idle.remove(0))
    }

    /// When it was last used, if nothing uses it now.
    pub(super) fn unused_since(&self) -> Option<Instant> {
        let unused = self.in_use == 0 && self.opening == 0 && self.waiting.is_empty();
        unused.then_some(self.used_at)
    }

    /// Begins a new era unless it was used after `since`. Returns the idle connections of the old
    /// one.
    pub(super) fn close_unused(&mut self, since: Instant) -> Option<Vec<C>> {
        self.unused_since().filter(|at| *at <= since)?;
        Some(self.begin_era(None))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
