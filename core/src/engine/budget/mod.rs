//! The connections that may be open at once over all tenants: a ceiling by construction, and a
//! fair share of it for each tenant.
//!
//! [`State`] is the account under one lock, and `fairness` says which pool gives way to which. A
//! permit is held from before a connection is opened until its session has ended at the server.

mod fairness;
mod state;

use std::{
    future::pending,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, timeout},
};

use fairness::{BETWEEN_LOOKS, LOOK_AGAIN, RESERVED_PART, SPARE_AFTER, patience};
pub(crate) use fairness::{Idle, Returned};
use state::{HolderId, State};

use crate::{
    TenantId,
    engine::{measure::cache::PoolMetrics, secrets::Secret},
};

/// Which part of all connections may be probes of databases that failed before.
const PROBES_PART: usize = 4;

/// A pool as its neighbours see it.
pub(crate) trait Neighbour: Send + Sync {
    /// Its tenant.
    fn tenant(&self) -> TenantId;
    /// Its idle connection that has been idle longest, if it is at the server of a secret.
    fn longest_idle(&self, at: Option<&Secret>) -> Option<Idle>;
    /// Closes an idle connection that was not used after `since`; returns whether there was one.
    fn close_idle(&self, since: Instant) -> bool;
    /// When it was last used, if nothing uses it now.
    fn unused_since(&self) -> Option<Instant>;
    /// Closes all of its connections unless it was used after `since`.
    fn close_unused(&self, since: Instant) -> bool;
    /// Closes what is worn out or too many.
    fn sweep(&self, now: Instant);
}

/// A pool that holds permits; `None` for a permit that is no pool's, such as a health check's.
pub(crate) type PoolRef = Option<Weak<dyn Neighbour>>;

/// A pool in the budget's books.
#[derive(Clone)]
pub(crate) struct Member {
    id: HolderId,
    pool: PoolRef,
}

pub(crate) struct Budget {
    state: Mutex<State<PoolRef, oneshot::Sender<ConnectionPermit>>>,
    /// A copy of [`State::is_short`], so that a connection that comes back need not take the lock.
    short: AtomicBool,
    /// How many databases that failed before may be tried at once: so many connections may hang.
    probes: Arc<Semaphore>,
    /// The most tenants that keep connections which nothing uses.
    most_holders: usize,
    evictions: AtomicU64,
    next_id: AtomicU64,
    given_back: Notify,
    /// Closes and opens connections, whichever thread wants it: a handler may drop a transaction on
    /// one of its own.
    pub(crate) runtime: Handle,
}

/// The right to try a database that failed before.
pub(crate) type ProbePermit = OwnedSemaphorePermit;

impl Budget {
    /// Connections are opened and closed on the runtime that this is called in.
    pub(crate) fn new(capacity: usize, most_holders: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(capacity, capacity / RESERVED_PART)),
            short: AtomicBool::new(false),
            probes: Arc::new(Semaphore::new((capacity / PROBES_PART).max(1))),
            most_holders,
            evictions: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            given_back: Notify::new(),
            runtime: Handle::current(),
        })
    }

    /// Enters a pool in the books, or nothing for a permit that is no pool's.
    pub(crate) fn member(&self, pool: PoolRef) -> Member {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Member { id, pool }
    }

    /// Changes the account; nothing that is dropped in `change` may come back to it.
    fn with<T>(&self, change: impl FnOnce(&mut State<PoolRef, oneshot::Sender<ConnectionPermit>>) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.short.store(state.is_short(), Ordering::Release);
        result
    }

    /// The right to try a database that failed before, unless too many are being tried.
    pub(crate) fn try_probe(&self) -> Option<ProbePermit> {
        self.probes.clone().try_acquire_owned().ok()
    }

    /// Reports how many connections there are.
    pub(crate) fn report(&self, metrics: &mut PoolMetrics) {
        let state = self.state.lock();
        metrics.open = state.pools().flatten().count();
        metrics.capacity = self.most_holders;
        metrics.connections = state.in_use();
        metrics.connections_capacity = state.capacity();
        metrics.evictions = self.evictions.load(Ordering::Relaxed);
    }

    /// How many permits a pool holds.
    pub(crate) fn held_by(&self, member: &Member) -> usize {
        self.state.lock().held_by(member.id)
    }

    /// Every pool that has connections.
    pub(crate) fn pools(&self) -> Vec<Arc<dyn Neighbour>> {
        let state = self.state.lock();
        state.pools().flatten().filter_map(Weak::upgrade).collect()
    }

    /// A permit, if one is free.
    pub(crate) fn try_acquire(self: &Arc<Self>, member: &Member) -> Option<ConnectionPermit> {
        let taken = self.with(|state| state.take(member.id, &member.pool));
        taken.then(|| self.permit(member.id))
    }

    /// Waits for a permit until `wanted` says no. That is asked now and then, and never again after
    /// a no: the caller may count its opening as ended then. A pool that `has_others`, which took
    /// `opening` to open, waits for one of them first: fast statements end sooner than a login. It
    /// waits longer before it takes another tenant's: that costs one opening, and mostly two.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        member: &Member,
        wanted: impl Fn() -> bool,
        has_others: bool,
        opening: Duration,
        longest: Duration,
    ) -> Option<ConnectionPermit> {
        let waits = has_others.then(|| patience(opening, longest));
        if let Some((first, ..)) = waits {
            sleep(first).await;
            if !wanted() {
                return None;
            }
        }
        if let Some(permit) = self.try_acquire(member) {
            return Some(permit);
        }
        if let Some((_, short, long)) = waits {
            sleep(short).await;
            if !wanted() {
                return None;
            }
            // Not in the line while it waits for its own: what others give back would be closed
            // for this one.
            if let Some(permit) = self.spare(member).await {
                return Some(permit);
            }
            sleep(long).await;
        }
        // In the line before the search: a connection that comes back meanwhile is seen by one of
        // the two.
        let mut place = self.line_up(member);
        while wanted() {
            if self.may_look(Instant::now()) {
                self.make_room(Duration::ZERO, self.held_by(member) == 0, None);
            }
            if let Ok(permit) = timeout(LOOK_AGAIN, place.permit()).await {
                return Some(permit);
            }
        }
        None
    }

    /// A permit that is free or that another tenant can do without.
    async fn spare(self: &Arc<Self>, member: &Member) -> Option<ConnectionPermit> {
        let mut place = self.line_up(member);
        if !self.make_room(SPARE_AFTER, false, None) {
            return place.receiver.try_recv().ok();
        }
        timeout(LOOK_AGAIN, place.permit()).await.ok()
    }

    fn permit(self: &Arc<Self>, holder: HolderId) -> ConnectionPermit {
        ConnectionPermit {
            budget: self.clone(),
            holder: Some(holder),
            lingers: Duration::ZERO,
        }
    }

    fn line_up(self: &Arc<Self>, member: &Member) -> QueueTicket {
        let (sender, receiver) = oneshot::channel();
        let (place, granted) = self.with(|state| {
            let place = state.line_up(member.id, &member.pool, Instant::now(), sender);
            // A permit may have come back just before.
            (place, state.grant())
        });
        self.tell(granted);
        QueueTicket {
            budget: self.clone(),
            place,
            receiver,
        }
    }

    fn tell(self: &Arc<Self>, granted: Option<(HolderId, oneshot::Sender<ConnectionPermit>)>) {
        if let Some((holder, sender)) = granted {
            // If that pool no longer waits, the permit comes back by being dropped.
            drop(sender.send(self.permit(holder)));
        }
    }

    /// Whether a waiting pool may look now. Each look goes through all pools, so they must not all
    /// look at once.
    fn may_look(&self, now: Instant) -> bool {
        self.with(|state| {
            let may = state.looked.is_none_or(|last| now - last >= BETWEEN_LOOKS);
            if may {
                state.looked = Some(now);
            }
            may
        })
    }

    /// Whether more wait for a permit than will have one soon.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Whether a connection that comes back is closed for the sake of another pool.
    pub(crate) fn wants_back(&self, member: &Member, returned: Returned, now: Instant) -> bool {
        self.state.lock().wants_back(member.id, returned, now)
    }

    /// The best of the pools by `rank`, of those that have a rank. It passes over all of them,
    /// without the budget's lock: pools take it under their own.
    fn best<R: Ord>(&self, rank: impl Fn(&dyn Neighbour) -> Option<R>) -> Option<(R, Arc<dyn Neighbour>)> {
        let ranked = self.pools().into_iter().filter_map(|pool| Some((rank(&*pool)?, pool)));
        ranked.max_by(|(a, _), (b, _)| a.cmp(b))
    }

    /// Closes the idle connection that is missed least, if it was unused for `unused`, unless as
    /// many are closing already as wait. `none` is whether the pool that asks has no connection. If
    /// a server has none left, the connection is one `at` the server of that secret, whether or not
    /// pools wait. Returns false if none could be closed.
    pub(crate) fn make_room(&self, unused: Duration, none: bool, at: Option<&Secret>) -> bool {
        while at.is_some() || self.is_short() {
            let now = Instant::now();
            let best = self.best(|pool| {
                let idle = pool.longest_idle(at).filter(|idle| idle.may_go(now, unused, none))?;
                Some((idle.rank(now), idle.since))
            });
            let Some(((_, since), pool)) = best else { return false };
            // A request may have taken it meanwhile: then the next one is looked for.
            if pool.close_idle(since) {
                return true;
            }
        }
        true
    }

    /// Closes unused pools, the least recently used first, while more have connections than should.
    pub(crate) fn trim(&self) {
        let with_connections = self.state.lock().pools().flatten().count();
        for _ in self.most_holders..with_connections {
            let Some((since, pool)) = self.best(|pool| pool.unused_since().map(std::cmp::Reverse)) else {
                return;
            };
            if pool.close_unused(since.0) {
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until every connection is closed.
    pub(crate) async fn drained(&self) {
        loop {
            let mut given_back = std::pin::pin!(self.given_back.notified());
            given_back.as_mut().enable();
            if self.state.lock().in_use() == 0 {
                return;
            }
            given_back.await;
        }
    }
}

/// How long a session that is let go in the middle of its opening may live on at the server.
pub(crate) const LINGERING: Duration = Duration::from_millis(100);

/// The right to have one connection open, from before it is opened until its session has ended.
pub(crate) struct ConnectionPermit {
    budget: Arc<Budget>,
    /// Its pool; `None` while its connection is being closed.
    holder: Option<HolderId>,
    /// For how long after this is dropped the server may still count the session.
    pub(crate) lingers: Duration,
}

impl ConnectionPermit {
    /// The runtime on which its connection is closed.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.budget.runtime
    }

    /// Its connection is being closed: a waiting pool will soon have the permit.
    pub(crate) fn begin_closing(&mut self) {
        if let Some(holder) = self.holder.take() {
            let granted = self.budget.with(|state| state.begin_closing(holder));
            self.budget.tell(granted);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.begin_closing();
        let lingers = std::mem::take(&mut self.lingers);
        if !lingers.is_zero() {
            let permit = Self {
                budget: self.budget.clone(),
                holder: None,
                lingers: Duration::ZERO,
            };
            self.budget.runtime.spawn(async move {
                sleep(lingers).await;
                drop(permit);
            });
            return;
        }
        let granted = self.budget.with(State::give_back);
        match granted {
            Some(_) => self.budget.tell(granted),
            None => self.budget.given_back.notify_waiters(),
        }
    }
}

/// A place in the line, given up when the waiting ends, however it ends.
struct QueueTicket {
    budget: Arc<Budget>,
    place: u64,
    receiver: oneshot::Receiver<ConnectionPermit>,
}

impl QueueTicket {
    async fn permit(&mut self) -> ConnectionPermit {
        match (&mut self.receiver).await {
            Ok(permit) => permit,
            // The sender is in the line until a permit is sent, so this does not happen.
            Err(_) => pending().await,
        }
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        drop(self.budget.with(|state| state.leave(self.place)));
    }
}

#[cfg(test)]
mod tests;
