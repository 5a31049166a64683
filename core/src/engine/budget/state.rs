//! The account of all connections: how many are free, which pools hold the others, and which wait.
//!
//! A plain data structure: it knows no clock and no task, and [`Budget`](super::Budget) keeps it
//! under one lock.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;
use tokio::time::Instant;

/// Names one pool.
pub(crate) type HolderId = u64;

/// `P` is what is kept of a pool that holds permits, `W` how a waiting one gets its permit.
pub(super) struct State<P, W> {
    capacity: usize,
    free: usize,
    /// How many of the last free permits are only for pools that hold none.
    reserved: usize,
    /// Connections that are being closed: their permits are on the way back, and belong to no pool.
    closing: usize,
    holders: HashMap<HolderId, (usize, P), RandomState>,
    /// The pools that wait, in order of arrival.
    line: BTreeMap<u64, Waiter<P, W>>,
    next_place: u64,
    /// When a waiting pool last looked for an idle connection.
    pub(super) looked: Option<Instant>,
}

pub(super) struct Waiter<P, W> {
    pub(super) since: Instant,
    pub(super) holder: HolderId,
    pool: P,
    tell: W,
}

impl<P: Clone, W> State<P, W> {
    pub(super) fn new(capacity: usize, reserved: usize) -> Self {
        Self {
            capacity,
            free: capacity,
            reserved,
            closing: 0,
            holders: HashMap::default(),
            line: BTreeMap::new(),
            next_place: 0,
            looked: None,
        }
    }

    /// Takes a permit if one is free for this pool. Then no pool waits that could have it.
    pub(super) fn take(&mut self, holder: HolderId, pool: &P) -> bool {
        let taken = self.has_free(holder);
        if taken {
            self.hold(holder, pool);
        }
        taken
    }

    fn has_free(&self, holder: HolderId) -> bool {
        let reserved = if self.held_by(holder) > 0 { self.reserved } else { 0 };
        self.free > reserved
    }

    fn hold(&mut self, holder: HolderId, pool: &P) {
        self.free -= 1;
        self.holders.entry(holder).or_insert_with(|| (0, pool.clone())).0 += 1;
    }

    /// Takes a place in the line.
    pub(super) fn line_up(&mut self, holder: HolderId, pool: &P, since: Instant, tell: W) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        let waiter = Waiter {
            since,
            holder,
            pool: pool.clone(),
            tell,
        };
        self.line.insert(place, waiter);
        place
    }

    /// Leaves the line; what is returned is dropped after the lock is free.
    pub(super) fn leave(&mut self, place: u64) -> Option<Waiter<P, W>> {
        self.line.remove(&place)
    }

    /// A connection is being closed: its pool no longer holds it, and its permit comes back soon.
    /// Returns the pool that has a free one now: one that holds none may have a reserved one.
    pub(super) fn begin_closing(&mut self, holder: HolderId) -> Option<(HolderId, W)> {
        self.closing += 1;
        if let Some((count, _)) = self.holders.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&holder);
            }
        }
        self.grant()
    }

    /// A permit is back. Returns the pool that has it now, if one waits: the one that holds the
    /// fewest.
    pub(super) fn give_back(&mut self) -> Option<(HolderId, W)> {
        self.closing -= 1;
        self.free += 1;
        self.grant()
    }

    /// Gives a free permit to the neediest, if that one may have it.
    pub(super) fn grant(&mut self) -> Option<(HolderId, W)> {
        let by_need = |(place, waiter): &(&u64, &Waiter<P, W>)| (self.held_by(waiter.holder), **place);
        let neediest = self.line.iter().min_by_key(by_need);
        let place = *neediest.filter(|(_, waiter)| self.has_free(waiter.holder))?.0;
        let waiter = self.line.remove(&place)?;
        self.hold(waiter.holder, &waiter.pool);
        Some((waiter.holder, waiter.tell))
    }
}

impl<P, W> State<P, W> {
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Connections that are open, opening or closing.
    pub(super) fn in_use(&self) -> usize {
        self.capacity - self.free
    }

    pub(super) fn closing(&self) -> usize {
        self.closing
    }

    pub(super) fn held_by(&self, holder: HolderId) -> usize {
        self.holders.get(&holder).map_or(0, |(count, _)| *count)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiter<P, W>> {
        self.line.values()
    }

    /// Whether more wait than will soon have a permit.
    pub(super) fn is_short(&self) -> bool {
        self.line.len() > self.closing
    }

    /// Whether no pool holds several.
    pub(super) fn is_one_each(&self) -> bool {
        self.in_use() <= self.closing + self.holders.len()
    }

    /// The pools that hold permits.
    pub(super) fn pools(&self) -> impl Iterator<Item = &P> {
        self.holders.values().map(|(_, pool)| pool)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
