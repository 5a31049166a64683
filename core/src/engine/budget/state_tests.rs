use std::{collections::BTreeMap, time::Duration};

use super::{super::fairness::Returned, *};
use crate::engine::tests::histories;

/// The account as one would keep it on paper.
#[derive(Default)]
struct Model {
    held: BTreeMap<HolderId, usize>,
    closing: usize,
    /// Place and holder, in order of arrival.
    line: Vec<(u64, HolderId)>,
}

impl Model {
    fn in_use(&self) -> usize {
        self.held.values().sum::<usize>() + self.closing
    }

    fn count(&self, holder: HolderId) -> usize {
        self.held.get(&holder).copied().unwrap_or(0)
    }

    /// Whether a pool may have one of `free` permits, the last of which are `reserved`.
    fn may_have(&self, holder: HolderId, free: usize, reserved: usize) -> bool {
        free > if self.count(holder) > 0 { reserved } else { 0 }
    }

    /// Which place in the line must have the next permit, if the neediest may have one.
    fn next(&self, capacity: usize, reserved: usize) -> Option<usize> {
        let neediest = (0..self.line.len()).min_by_key(|at| (self.count(self.line[*at].1), self.line[*at].0));
        let free = capacity - self.in_use();
        neediest.filter(|at| self.may_have(self.line[*at].1, free, reserved))
    }

    fn grant(&mut self, at: Option<usize>) {
        if let Some(at) = at {
            let (_, holder) = self.line.remove(at);
            *self.held.entry(holder).or_default() += 1;
        }
    }
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let capacity = random.usize(1..6);
    let reserved = random.usize(0..=capacity / 2);
    let mut state = State::<HolderId, u64>::new(capacity, reserved);
    let mut model = Model::default();
    let start = Instant::now();
    let mut told = 0;
    for step in 0..random.usize(5..60) {
        let at = || format!("seed {seed}, step {step}");
        let holder = random.u64(0..4);
        match random.u8(0..6) {
            0 | 1 => {
                let taken = state.take(holder, &holder);
                let free = capacity - model.in_use();
                assert_eq!(taken, model.may_have(holder, free, reserved), "{}", at());
                if taken {
                    *model.held.entry(holder).or_default() += 1;
                } else {
                    let place = state.line_up(holder, &holder, start, told);
                    told += 1;
                    model.line.push((place, holder));
                }
            }
            2 if !model.line.is_empty() => {
                let gone = random.usize(0..model.line.len());
                let (place, _) = model.line.remove(gone);
                assert!(state.leave(place).is_some() && state.leave(place).is_none(), "{}", at());
            }
            3 if model.count(holder) > 0 => {
                model.closing += 1;
                *model.held.get_mut(&holder).unwrap() -= 1;
                let expected = model.next(capacity, reserved);
                let granted = state.begin_closing(holder).map(|(holder, _)| holder);
                assert_eq!(
                    granted,
                    expected.map(|at| model.line[at].1),
                    "{}: not the neediest",
                    at()
                );
                model.grant(expected);
            }
            4 if model.closing > 0 => {
                model.closing -= 1;
                let expected = model.next(capacity, reserved);
                let granted = state.give_back().map(|(holder, _)| holder);
                assert_eq!(
                    granted,
                    expected.map(|at| model.line[at].1),
                    "{}: not the neediest",
                    at()
                );
                model.grant(expected);
            }
            5 => {
                let returned = Returned {
                    open: model.count(holder),
                    held_for: Duration::from_millis(random.u64(0..2_000)),
                    opening: Duration::from_millis(random.u64(0..300)),
                    wanted_at_home: random.bool(),
                };
                let later = start + Duration::from_millis(random.u64(0..400));
                if state.wants_back(holder, returned, later) {
                    let others = model.line.iter().filter(|(_, other)| *other != holder).count();
                    assert!(others > model.closing, "{}: closed for nobody", at());
                }
            }
            _ => {}
        }
        assert_eq!(state.in_use(), model.in_use(), "{}", at());
        assert!(state.in_use() <= capacity, "{}: more than the ceiling", at());
        let free = capacity - model.in_use();
        let in_vain = |(_, holder): &(u64, HolderId)| model.may_have(*holder, free, reserved);
        assert!(!model.line.iter().any(in_vain), "{}: waits in vain", at());
        assert_eq!(state.is_short(), model.line.len() > model.closing, "{}", at());
        let holders: Vec<_> = model.held.iter().filter(|(_, count)| **count > 0).collect();
        assert_eq!(state.pools().count(), holders.len(), "{}", at());
        let mut walked: Vec<_> = state.pools().copied().collect();
        walked.sort_unstable();
        assert_eq!(
            walked,
            holders.iter().map(|(id, _)| **id).collect::<Vec<_>>(),
            "{}",
            at()
        );
    }
}

#[test]
fn random_histories_match_the_model() {
    histories(history);
}
