use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{DriverErrorKind, engine::tests::histories};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Connection {
    id: u64,
    facts: Facts,
}

impl HasFacts for Connection {
    fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// The pool as one would keep it on paper: where each connection is, and who waits.
struct Model {
    idle: BTreeSet<u64>,
    in_use: BTreeMap<u64, Connection>,
    closed: BTreeSet<u64>,
    /// Tickets, in order of arrival; each request is told by its ticket's number of arrival.
    waiting: Vec<(u64, u64)>,
    openings: usize,
    next: u64,
    requests: u64,
}

struct History {
    state: PoolState<Connection, u64>,
    model: Model,
    random: fastrand::Rng,
    now: Instant,
    at: String,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let limits = PoolDefaults {
            max_connections: random.usize(1..6),
            idle_connections: random.usize(0..3),
            ..PoolDefaults::default()
        };
        let model = Model {
            idle: BTreeSet::new(),
            in_use: BTreeMap::new(),
            closed: BTreeSet::new(),
            waiting: Vec::new(),
            openings: 0,
            next: 0,
            requests: 0,
        };
        Self {
            state: PoolState::new(limits, now),
            model,
            random,
            now,
            at: String::new(),
        }
    }

    fn closed(&mut self, connections: Vec<Connection>) {
        for connection in connections {
            self.model.idle.remove(&connection.id);
            assert!(self.model.closed.insert(connection.id), "{}: closed twice", self.at);
        }
    }

    fn next(&mut self, next: Next<Connection, u64>) {
        match next {
            Next::Deliver(request, connection) => {
                let (_, first) = self.model.waiting.remove(0);
                assert_eq!(request, first, "{}: not the first in line", self.at);
                assert!(self.model.idle.is_empty(), "{}: it waited beside an idle one", self.at);
                self.model.in_use.insert(connection.id, connection);
            }
            Next::Close(connection) => self.closed(vec![connection]),
            Next::Kept => {}
        }
    }

    fn request(&mut self) {
        let mut worn = Vec::new();
        if let Some((connection, check)) = self.state.take(self.now, &mut worn) {
            self.closed(worn);
            assert!(self.model.idle.remove(&connection.id), "{}: taken twice", self.at);
            let idle = self.now - connection.facts.used_at;
            assert!(check || idle < CHECK_AFTER, "{}: not checked after {idle:?}", self.at);
            assert_eq!(connection.facts.era, self.state.era(), "{}", self.at);
            self.model.in_use.insert(connection.id, connection);
            return;
        }
        self.closed(worn);
        assert!(self.model.idle.is_empty(), "{}: an idle one was not found", self.at);
        let open = self.model.in_use.len();
        match self.state.join(self.now, 5 * SECOND, self.model.requests, || None) {
            Ok(ticket) => self.model.waiting.push((ticket, self.model.requests)),
            Err(_) => assert_eq!(open, 0, "{}: refused although it has a connection", self.at),
        }
        self.model.requests += 1;
    }

    fn end_opening(&mut self) {
        if self.random.u8(0..3) > 0 {
            let facts = Facts {
                era: self.state.era() - u64::from(self.random.u8(0..8) == 0).min(self.state.era()),
                opened_at: self.now,
                opening: SECOND / 10,
                retire_at: self.now + self.random.u32(1..20) * SECOND,
                used_at: self.now,
            };
            let connection = Connection {
                id: self.model.next,
                facts,
            };
            self.model.next += 1;
            let outdated = connection.facts.era != self.state.era();
            let id = connection.id;
            let (next, _) = self.state.opened(connection, self.now);
            if !outdated {
                self.model.openings -= 1;
                assert!(!matches!(next, Next::Close(_)), "{}", self.at);
            }
            if matches!(next, Next::Kept) {
                self.model.idle.insert(id);
            }
            self.next(next);
            return;
        }
        let kind = match self.random.u8(0..2) {
            0 => DriverErrorKind::TooManyConnections,
            _ => DriverErrorKind::Unreachable,
        };
        let error = DatabaseError::new(DatabaseErrorKind::Connect(kind));
        let open = self.model.in_use.len() + self.model.idle.len();
        let mut pauses = Backoff::new(SECOND, SECOND);
        for _ in 1..self.random.u32(1..6) {
            pauses.fail(self.now);
        }
        let at_once = self.random.u8(0..4) == 0;
        let (failed, _) = self.state.opening_failed(error, at_once, &mut pauses, self.now);
        match failed {
            Ok(_) if self.random.bool() => {
                if self.state.withdraw() {
                    self.model.openings -= 1;
                }
            }
            Ok(_) => {}
            Err(told) => {
                assert_eq!(open, 0, "{}: requests failed beside an open connection", self.at);
                let is_last = self.model.openings == 1;
                let waiting = match is_last || at_once {
                    true => std::mem::take(&mut self.model.waiting),
                    false => Vec::new(),
                };
                assert_eq!(
                    told,
                    waiting.iter().map(|(_, request)| *request).collect::<Vec<_>>(),
                    "{}",
                    self.at
                );
                self.model.openings -= 1;
            }
        }
    }

    fn step(&mut self) {
        self.now += self.random.u32(0..1_500) * Duration::from_millis(1);
        match self.random.u8(0..12) {
            0..=3 => self.request(),
            4 | 5 if self.model.openings > 0 => self.end_opening(),
            6 | 7 if !self.model.in_use.is_empty() => {
                let at = self.random.usize(0..self.model.in_use.len());
                let id = *self.model.in_use.keys().nth(at).unwrap();
                let mut connection = self.model.in_use.remove(&id).unwrap();
                connection.facts.used_at = self.now;
                let fit = self.random.u8(0..4) > 0;
                let next = self.state.give_back(connection, self.now, fit);
                if matches!(next, Next::Kept) {
                    self.model.idle.insert(id);
                }
                assert!(fit || matches!(next, Next::Close(_)), "{}: used again", self.at);
                self.next(next);
            }
            8 if !self.model.waiting.is_empty() => {
                let gone = self.random.usize(0..self.model.waiting.len());
                let (ticket, request) = self.model.waiting.remove(gone);
                assert_eq!(self.state.leave(ticket), Some(request), "{}", self.at);
                // Its opening asks sooner or later.
                if self.random.bool() && self.state.opening > 0 && self.state.withdraw() {
                    self.model.openings -= 1;
                }
            }
            9 => {
                let closed = match self.random.u8(0..3) {
                    0 => self.state.begin_era(None),
                    1 => {
                        let closed = self.state.found_dead(self.now - SECOND, self.now);
                        let left = self.state.longest_idle().map(|idle| idle.since);
                        assert!(
                            left.is_none_or(|since| since > self.now - SECOND),
                            "{}: one is left",
                            self.at
                        );
                        closed
                    }
                    _ => self.state.sweep(self.now),
                };
                self.closed(closed);
            }
            11 => {
                let since = self.now - self.random.u32(0..12) * SECOND;
                self.state.preparing_since = Some(since).filter(|_| self.random.bool());
            }
            10 => {
                let since = self.state.longest_idle().map(|idle| idle.since);
                let closed = since.and_then(|since| self.state.take_idle_since(since));
                assert_eq!(closed.is_some(), !self.model.idle.is_empty(), "{}", self.at);
                self.closed(closed.into_iter().collect());
            }
            _ => {}
        }
        self.model.openings += self.state.begin_openings();
    }

    fn check(&self) {
        let (state, model, at) = (&self.state, &self.model, &self.at);
        let status = state.health().status;
        let counts = (status.idle, status.in_use, state.opening, state.waiting.len());
        let expected = (
            model.idle.len(),
            model.in_use.len(),
            model.openings,
            model.waiting.len(),
        );
        assert_eq!(counts, expected, "{at}: idle, in use, opening, waiting");
        assert!(
            state.open() <= state.limits.max_connections,
            "{at}: more than the maximum"
        );
        assert!(
            model.waiting.is_empty() || model.idle.is_empty(),
            "{at}: waits beside an idle one"
        );
        let in_order = state.idle.is_sorted_by_key(|connection| connection.facts.used_at);
        assert!(in_order, "{at}: the idle ones are not in the order of their last use");
        let hopeless = !model.waiting.is_empty() && model.in_use.is_empty() && model.openings == 0;
        assert!(!hopeless, "{at}: nothing will ever serve who waits");
        assert_eq!(
            state.unused_since().is_some(),
            expected.1 + expected.2 + expected.3 == 0,
            "{at}"
        );
    }
}

fn history(seed: u64) {
    let mut history = History::new(seed);
    for step in 0..history.random.usize(5..60) {
        history.at = format!("seed {seed}, step {step}");
        history.step();
        history.check();
    }
}

#[test]
fn random_histories_match_the_model() {
    histories(history);
}

#[test]
fn a_failed_opening_fails_no_request_while_another_runs() {
    let now = Instant::now();
    let mut state = PoolState::<Connection, u64>::new(PoolDefaults::default(), now);
    state.breaker.succeeded();
    for request in 0..3 {
        assert!(state.join(now, 5 * SECOND, request, || None).is_ok());
    }
    assert_eq!(state.begin_openings(), 3);
    let error = DatabaseError::new(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable));
    let mut pauses = Backoff::new(SECOND, SECOND);
    for told in [vec![], vec![], vec![0, 1, 2]] {
        let (failed, _) = state.opening_failed(error.clone(), false, &mut pauses, now);
        assert_eq!(failed.unwrap_err(), told);
    }
}

#[test]
fn read_only_connections_are_closed_once_a_second_at_most() {
    let start = Instant::now();
    let at = |tenths: u32| start + SECOND / 10 * tenths;
    let mut state = PoolState::<Connection, u64>::new(PoolDefaults::default(), start);
    // When the connection was opened, when another one turned out to be read-only, and whether the
    // first one goes with it.
    for (opened, found, closed) in [(0, 10, true), (12, 15, false), (12, 20, true), (25, 60, true)] {
        let facts = Facts {
            era: state.era(),
            opened_at: at(opened),
            opening: Duration::ZERO,
            retire_at: start + SECOND * 3600,
            used_at: at(opened),
        };
        state.idle.push(Connection { id: 0, facts });
        state.found_outdated(DatabaseErrorKind::ReadOnly, at(found));
        let mut worn = Vec::new();
        let taken = state.take(at(found), &mut worn);
        assert_eq!(taken.is_none(), closed, "opened at {opened}, found at {found}");
        assert_eq!(worn.len(), usize::from(closed));
    }
}

#[test]
fn a_database_is_looked_at_again_without_connections_and_after_a_while() {
    let mut now = Instant::now();
    let mut state: PoolState<Connection, u64> = PoolState::new(PoolDefaults::default(), now);
    let first = state.begin_preparation(now);
    assert!(first.is_some());
    // Nothing is open, so it may be another database.
    state.prepared = first;
    assert!(state.begin_preparation(now).is_some());
    state.in_use = 1;
    assert!(state.begin_preparation(now).is_none());
    now += TRUSTED;
    assert!(state.begin_preparation(now).is_some());
    state.prepared = state.begin_preparation(now);
    assert!(state.begin_preparation(now).is_none());
    // What ended well before another one was wanted does not count.
    let running = state.prepared;
    drop(state.begin_era(None));
    state.prepared = running;
    assert!(state.begin_preparation(now).is_some());
}
