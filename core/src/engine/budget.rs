//! The connections that may be open at once over all tenants: a ceiling by construction, and a fair share of it for each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

/// How long a request for a connection to another database waits before a connection that comes back is closed for its sake though
/// its own tenant has use for it.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a connection stays with a tenant that has use for it though another has none: several times what opening it took, lest all
/// that is done is opening, and no longer than a request can wait.
const SHORTEST_TENURE: Duration = Duration::from_millis(250);
const LONGEST_TENURE: Duration = Duration::from_secs(1);
/// The shortest time between two looks for idle connections by those who wait.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Which part of all connections may be probes of databases that failed before.
const PROBES_PART: usize = 4;
/// How long a session may live on that was let go in the middle of its opening.
const LINGERING: Duration = Duration::from_millis(100);

/// How many connections one pool holds: those that are open and those that are being opened.
#[derive(Clone, Default)]
pub(crate) struct Holder(Arc<AtomicUsize>);

impl Holder {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The right to have one connection open, from before it is opened until it is closed.
pub(crate) struct ConnectionPermit {
    budget: Arc<Budget>,
    /// Whose it is; nobody's while its connection is being closed.
    holder: Option<Holder>,
}

impl ConnectionPermit {
    fn new(budget: &Arc<Budget>, holder: &Holder) -> Self {
        if holder.0.fetch_add(1, Ordering::AcqRel) == 0 {
            budget.holders.fetch_add(1, Ordering::AcqRel);
        }
        Self {
            budget: budget.clone(),
            holder: Some(holder.clone()),
        }
    }

    /// Its connection is being opened, or is to be used once and let go.
    pub(crate) fn lingering(self) -> LingeringPermit {
        LingeringPermit(Some(self))
    }

    /// Its connection is being closed.
    pub(crate) fn leave(mut self) -> LeavingPermit {
        self.let_go();
        self.budget.leaving.fetch_add(1, Ordering::AcqRel);
        LeavingPermit(self)
    }

    fn let_go(&mut self) {
        if let Some(holder) = self.holder.take()
            && holder.0.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.budget.holders.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.let_go();
        self.budget.give_back();
    }
}

/// A permit while its connection is being opened. Where that does not come to an end the server may have the session all the same, until
/// it notices that nobody is there: so long the permit is kept.
pub(crate) struct LingeringPermit(Option<ConnectionPermit>);

impl LingeringPermit {
    /// The permit; it is there once.
    pub(crate) fn take(&mut self) -> Option<ConnectionPermit> {
        self.0.take()
    }
}

impl Drop for LingeringPermit {
    fn drop(&mut self) {
        if let (Some(mut permit), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            // Its tenant has nothing of it, and may have another meanwhile.
            permit.let_go();
            runtime.spawn(async move {
                tokio::time::sleep(LINGERING).await;
                drop(permit);
            });
        }
    }
}

/// The permit of a connection that is being closed: somebody who waits will soon have it.
pub(crate) struct LeavingPermit(ConnectionPermit);

impl Drop for LeavingPermit {
    fn drop(&mut self) {
        self.0.budget.leaving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to try a database that failed before.
pub(crate) type ProbePermit = OwnedSemaphorePermit;

pub(crate) struct Budget {
    capacity: usize,
    /// How many databases that failed before may be tried at once: what hangs on them is then a part of all connections.
    probes: Arc<Semaphore>,
    state: Mutex<State>,
    /// How many wait, so that nobody takes the lock to learn that nobody does.
    waiting: AtomicUsize,
    /// Connections that are being closed.
    leaving: AtomicUsize,
    /// Pools that have any.
    holders: AtomicUsize,
    /// When somebody who waits looked again for a connection that is idle.
    looked: Mutex<Option<Instant>>,
    given_back: Notify,
}

struct State {
    free: usize,
    /// Who waits, in order of arrival.
    line: BTreeMap<u64, Waiter>,
    next: u64,
}

struct Waiter {
    since: Instant,
    holder: Holder,
    sender: oneshot::Sender<ConnectionPermit>,
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let state = State {
            free: capacity,
            line: BTreeMap::new(),
            next: 0,
        };
        Arc::new(Self {
            capacity,
            probes: Arc::new(Semaphore::new((capacity / PROBES_PART).max(1))),
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            looked: Mutex::new(None),
            given_back: Notify::new(),
        })
    }

    /// The right to try a database that failed before, if no more are tried than may be.
    pub(crate) fn try_probe(&self) -> Option<ProbePermit> {
        self.probes.clone().try_acquire_owned().ok()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Connections that are open, opening or closing.
    pub(crate) fn in_use(&self) -> usize {
        self.capacity - self.state.lock().free
    }

    /// A permit, where one is free and so nobody waits for it.
    pub(crate) fn try_acquire(self: &Arc<Self>, holder: &Holder) -> Option<ConnectionPermit> {
        let mut state = self.state.lock();
        state.free = state.free.checked_sub(1)?;
        Some(ConnectionPermit::new(self, holder))
    }

    /// Takes a place in the line for a permit.
    pub(crate) fn line_up(self: &Arc<Self>, holder: &Holder) -> Place {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        let waiter = Waiter {
            since: Instant::now(),
            holder: holder.clone(),
            sender,
        };
        state.line.insert(number, waiter);
        self.waiting.store(state.line.len(), Ordering::Release);
        let permit = state.free.checked_sub(1);
        if let Some(free) = permit {
            // It came back just before.
            state.free = free;
        }
        drop(state);
        if permit.is_some() {
            self.give_back();
        }
        Place {
            budget: self.clone(),
            number,
            receiver,
        }
    }

    /// Whether one of those who wait may look again for a connection that is idle: not all of them at once, since each looks through every
    /// pool.
    pub(crate) fn may_look_again(&self) -> bool {
        let (mut looked, now) = (self.looked.lock(), Instant::now());
        let may = looked.is_none_or(|last| now - last >= BETWEEN_LOOKS);
        if may {
            *looked = Some(now);
        }
        may
    }

    /// Whether more wait for a permit than will have one soon.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > self.leaving.load(Ordering::Acquire)
    }

    /// Whether a connection of `holder`, which has `open`, must be closed for the sake of another when it comes back: where it is not the
    /// only one, when its own pool has no use for it and somebody waits; where it is, when no pool has several, or somebody who has none has
    /// waited longer than patience allows; and though there is use for it when such a one has none, or two less. `opening` is what opening
    /// it took. Only as many are closed as there are others who wait.
    pub(crate) fn wants_back(
        self: &Arc<Self>,
        holder: &Holder,
        open: usize,
        held_for: Duration,
        opening: Duration,
        wanted_at_home: impl FnOnce() -> bool,
    ) -> bool {
        if !self.is_short() {
            return false;
        }
        let leaving = self.leaving.load(Ordering::Acquire);
        let wanted_at_home = wanted_at_home();
        if wanted_at_home && held_for < (opening * 4).clamp(SHORTEST_TENURE, LONGEST_TENURE) {
            return false;
        }
        let own = holder.count();
        let state = self.state.lock();
        let others = state.line.values().filter(|waiter| !waiter.holder.is(holder));
        if !wanted_at_home {
            let held = self.capacity - state.free;
            let one_each = held <= leaving + self.holders.load(Ordering::Acquire);
            let needier = others.filter(|waiter| {
                let needs_it = waiter.holder.count() == 0 && (one_each || waiter.since.elapsed() > PATIENCE);
                open > 1 || needs_it
            });
            return needier.count() > leaving;
        }
        let mut entitled: Vec<&Holder> = Vec::new();
        for waiter in others.filter(|waiter| waiter.since.elapsed() > PATIENCE) {
            let theirs = waiter.holder.count();
            let first = || !entitled.iter().any(|holder| holder.is(&waiter.holder));
            if (theirs == 0 || theirs + 1 < own) && first() {
                entitled.push(&waiter.holder);
                if entitled.len() > leaving {
                    return true;
                }
            }
        }
        false
    }

    /// Waits until every connection is closed.
    pub(crate) async fn drained(&self) {
        loop {
            let mut given_back = std::pin::pin!(self.given_back.notified());
            given_back.as_mut().enable();
            if self.in_use() == 0 {
                return;
            }
            given_back.await;
        }
    }

    /// Gives a permit to whoever has the fewest connections, of those to who came first.
    fn give_back(self: &Arc<Self>) {
        let (waiter, permit) = {
            let mut state = self.state.lock();
            let neediest = state
                .line
                .iter()
                .min_by_key(|(number, waiter)| (waiter.holder.count(), **number));
            let Some(number) = neediest.map(|(number, _)| *number) else {
                state.free += 1;
                drop(state);
                self.given_back.notify_waiters();
                return;
            };
            let waiter = state.line.remove(&number);
            self.waiting.store(state.line.len(), Ordering::Release);
            // Made under the lock, so that the next one is given by the new count.
            let permit = waiter
                .as_ref()
                .map(|waiter| ConnectionPermit::new(self, &waiter.holder));
            (waiter, permit)
        };
        if let (Some(waiter), Some(permit)) = (waiter, permit) {
            // Where nobody waits there any more, the permit comes back by being dropped.
            drop(waiter.sender.send(permit));
        }
    }
}

/// A place in the line, given up when the waiting ends, however it ends.
pub(crate) struct Place {
    budget: Arc<Budget>,
    number: u64,
    receiver: oneshot::Receiver<ConnectionPermit>,
}

impl Place {
    /// Waits for a permit.
    pub(crate) async fn permit(&mut self) -> Option<ConnectionPermit> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        let left = state.line.remove(&self.number);
        self.budget.waiting.store(state.line.len(), Ordering::Release);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::ZERO;

    fn has_waited(budget: &Budget) -> bool {
        budget.waiting.load(Ordering::Acquire) > 0
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_goes_to_another_tenant_when_it_is_not_wanted_at_home_or_patience_ends() {
        let budget = Budget::new(1);
        let (own, other) = (Holder::default(), Holder::default());
        let held = budget.try_acquire(&own).unwrap();
        assert!(budget.try_acquire(&other).is_none());
        assert!(
            !budget.wants_back(&own, 1, LONGEST_TENURE, QUICK, || false),
            "nobody waits"
        );
        let mut place = budget.line_up(&other);
        assert!(
            !budget.wants_back(&other, 0, LONGEST_TENURE, QUICK, || false),
            "the only one who waits is at home"
        );
        assert!(budget.wants_back(&own, 2, QUICK, QUICK, || false));
        assert!(budget.wants_back(&own, 1, QUICK, QUICK, || false), "nobody has two");
        assert!(!budget.wants_back(&own, 1, LONGEST_TENURE, QUICK, || true));
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(!budget.wants_back(&own, 1, QUICK, QUICK, || true), "it was just opened");
        assert!(budget.wants_back(&own, 1, SHORTEST_TENURE, QUICK, || true));
        assert!(
            !budget.wants_back(&own, 1, SHORTEST_TENURE, SHORTEST_TENURE, || true),
            "it was slow to open"
        );
        assert!(budget.wants_back(&own, 1, LONGEST_TENURE, LONGEST_TENURE, || true));
        let leaving = held.leave();
        assert!(
            !budget.wants_back(&own, 1, LONGEST_TENURE, QUICK, || false),
            "a permit is on its way already"
        );
        drop(leaving);
        drop(place.permit().await.unwrap());
        assert_eq!((budget.in_use(), own.count(), other.count()), (0, 0, 0));
        assert!(!has_waited(&budget));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_the_fewest_gets_the_next_and_takes_from_who_has_two_more() {
        let budget = Budget::new(4);
        let (rich, poor, none) = (Holder::default(), Holder::default(), Holder::default());
        let first = budget.try_acquire(&rich).unwrap();
        let second = budget.try_acquire(&rich).unwrap();
        let _third = budget.try_acquire(&rich).unwrap();
        let fourth = budget.try_acquire(&poor).unwrap();
        let rich_waits = budget.line_up(&rich);
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(
            !budget.wants_back(&poor, 1, LONGEST_TENURE, QUICK, || true),
            "the rich take nothing"
        );
        assert!(
            !budget.wants_back(&poor, 1, LONGEST_TENURE, QUICK, || false),
            "nor the only one that it does not use just now"
        );
        let mut poor_waits = budget.line_up(&poor);
        let mut none_waits = budget.line_up(&none);
        assert!(
            !budget.wants_back(&poor, 1, LONGEST_TENURE, QUICK, || false),
            "the rich can spare one sooner"
        );
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(budget.wants_back(&poor, 1, LONGEST_TENURE, QUICK, || false));
        assert!(budget.wants_back(&rich, 3, LONGEST_TENURE, QUICK, || true));
        drop(first);
        let for_none = none_waits.permit().await.unwrap();
        assert_eq!((rich.count(), poor.count(), none.count()), (2, 1, 1));
        assert!(
            !budget.wants_back(&rich, 3, LONGEST_TENURE, QUICK, || true),
            "one more is no injustice"
        );
        drop(second);
        // One each, and the rich came first.
        drop(rich_waits);
        let for_poor = poor_waits.permit().await.unwrap();
        drop((for_none, for_poor, fourth));
        assert_eq!(budget.in_use(), 1);
        assert!(!has_waited(&budget));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_for_who_went_away_goes_to_the_next_and_all_come_back() {
        let budget = Budget::new(1);
        let (one, other) = (Holder::default(), Holder::default());
        let held = budget.try_acquire(&one).unwrap();
        let (gone, mut stays) = (budget.line_up(&one), budget.line_up(&other));
        drop(held);
        // It was given to the first, which never looked.
        drop(gone);
        let got = stays.permit().await.unwrap();
        let drained = tokio::spawn({
            let budget = budget.clone();
            async move { budget.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(got.lingering());
        drained.await.unwrap();
        assert_eq!(budget.in_use(), 0);
    }
}
