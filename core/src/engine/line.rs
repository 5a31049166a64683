//! Who waits for a connection of a pool, and the connections that nobody of them needed.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests that wait for a permit to open a connection, in order of arrival: one that comes back is handed to the first.
pub(crate) struct Line<T> {
    waiting: Mutex<VecDeque<oneshot::Sender<T>>>,
    /// How many wait, so that nobody takes the lock to learn that nobody does.
    count: AtomicUsize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }
}

impl<T> Line<T> {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Takes a place in the line for what comes back, kept for as long as the first of the two is.
    pub(crate) fn join(&self) -> (InLine<'_>, oneshot::Receiver<T>) {
        let (sender, returned) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        // Those who went away leave their places behind, and where nothing comes back nobody finds them.
        if waiting.len() > 16 + 2 * self.count.load(Ordering::Acquire) {
            waiting.retain(|sender| !sender.is_closed());
        }
        waiting.push_back(sender);
        (InLine::new(&self.count), returned)
    }

    /// The one who has waited longest and still does. What comes back is handed to it, so that none that comes later takes it away.
    pub(crate) fn first(&self) -> Option<oneshot::Sender<T>> {
        if self.is_empty() {
            return None;
        }
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.pop_front() {
            if !first.is_closed() {
                return Some(first);
            }
        }
        None
    }

    /// Hands something to the first in line; it comes back where there is none.
    pub(crate) fn hand_on(&self, mut item: T) -> Option<T> {
        while let Some(first) = self.first() {
            match first.send(item) {
                Ok(()) => return None,
                Err(unwanted) => item = unwanted,
            }
        }
        Some(item)
    }
}

/// Counts one who waits.
pub(crate) struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Connections that were opened for requests which had another one before: idle, as those in the pool, which takes none from outside.
pub(crate) struct Spares<T>(Mutex<Vec<T>>);

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spares<T> {
    pub(crate) fn put(&self, spare: T) {
        self.0.lock().push(spare);
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().pop()
    }

    pub(crate) fn retain(&self, mut keep: impl FnMut(&mut T) -> bool) {
        // Closed when the lock is free again.
        let closed: Vec<_> = self.0.lock().extract_if(.., |spare| !keep(spare)).collect();
        drop(closed);
    }
}

/// Whether this is the first that fits, of those that are asked about in turn.
pub(crate) fn is_first(fits: bool, found: &mut bool) -> bool {
    fits && !std::mem::replace(found, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_fit_one_is_taken_and_the_others_stay() {
        let mut found = false;
        let mut idle = vec![1, 2, 3, 2];
        let taken: Vec<_> = idle.extract_if(.., |n| is_first(*n == 2, &mut found)).collect();
        assert_eq!((taken, idle, found), (vec![2], vec![1, 3, 2], true));
    }

    #[test]
    fn what_comes_back_goes_to_who_came_first_and_still_waits() {
        let line = Line::default();
        assert_eq!(line.hand_on("nobody's"), Some("nobody's"));
        let (gone, _) = line.join();
        let (_first, mut first) = line.join();
        let (_second, mut second) = line.join();
        drop(gone);
        assert_eq!(line.hand_on("a"), None);
        assert_eq!((first.try_recv(), second.try_recv().ok()), (Ok("a"), None));
        assert_eq!(line.hand_on("b"), None);
        assert_eq!(second.try_recv(), Ok("b"));
        assert_eq!(line.hand_on("c"), Some("c"), "both have theirs");
    }

    #[test]
    fn those_who_went_away_do_not_pile_up() {
        let line = Line::<()>::default();
        for _ in 0..1000 {
            drop(line.join());
        }
        assert!(line.is_empty());
        assert!(line.waiting.lock().len() < 32);
    }
}
