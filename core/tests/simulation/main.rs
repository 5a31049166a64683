//! The whole engine in a simulated world: seeded random histories under paused time, and what must
//! hold in each.
//!
//! A history draws its settings, clients, troubles and operators from its seed. Within one moment
//! the engine may turn to several tasks and tenants in any order (tokio wakes at random, hash maps
//! are seeded), so a seed is a few histories that are nearly the same; `TENANTRY_SEED` runs one
//! seed again and again until it fails, and prints what happened.
//!
//! `TENANTRY_SIMULATIONS` is how many histories run, and `TENANTRY_FIRST_SEED` the seed of the
//! first. `./scripts/simulate` runs many.

mod checks;
mod dice;
mod history;
mod proof;
mod world;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use self::{
    checks::{Invariant, Violation},
    history::Report,
    world::Counts,
};

/// How many histories run by default.
const HISTORIES: u64 = 2_000;
/// How many violations of each invariant are printed.
const PRINTED: u64 = 20;
/// How many of the events before a violation are printed.
const EVENTS_PRINTED: usize = 80;
/// How often one seed runs until it fails.
const SAME_SEED: u32 = 200;
/// How many histories run between two lines of progress.
const PROGRESS: u64 = 10_000;

thread_local! {
    /// The panics of the history that this thread runs: those of spawned tasks reach nobody else.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Runs one history from its beginning to its end.
fn simulate(seed: u64) -> Report {
    watched(history::run(seed))
}

/// Runs a history on paused time, and reports the panics of its tasks.
fn watched(history: impl Future<Output = Report>) -> Report {
    record_panics();
    PANICS.take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O starts");
    let mut report = runtime.block_on(history);
    drop(runtime);
    report
        .violations
        .extend(PANICS.take().into_iter().map(|what| Violation {
            invariant: Invariant::Panic,
            what,
            events: report.events.clone(),
        }));
    report
}

/// Notes each panic for the history of its thread, beside printing it as usual.
fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            usual(panic);
        }));
    });
}

/// What all histories add up to.
#[derive(Default)]
struct Summary {
    histories: u64,
    counts: Counts,
    /// For each invariant that was violated, how often, and the first seeds.
    violated: BTreeMap<Invariant, (u64, Vec<u64>)>,
}

impl Summary {
    fn add(&mut self, seed: u64, report: &Report) {
        self.histories += 1;
        self.counts.add(&report.counts);
        for violation in &report.violations {
            let (count, seeds) = self.violated.entry(violation.invariant).or_default();
            *count += 1;
            if seeds.len() < 10 {
                seeds.push(seed);
            }
            let Violation {
                invariant,
                what,
                events,
            } = violation;
            if *count == 1 {
                let lines: Vec<_> = events.lines().collect();
                let last = lines.len().saturating_sub(EVENTS_PRINTED);
                eprintln!("{}", lines[last..].join("\n"));
            }
            if *count <= PRINTED {
                eprintln!("seed {seed} violates {invariant}: {what}");
            }
        }
    }
}

/// Runs one seed until it fails, and prints what happened.
fn examine(seed: u64) {
    let mut last = None;
    for _ in 0..SAME_SEED {
        let report = simulate(seed);
        let failed = !report.violations.is_empty();
        last = Some(report);
        if failed {
            break;
        }
    }
    let Report {
        violations,
        counts,
        events,
    } = last.expect("it ran at least once");
    eprintln!("{events}{counts:?}");
    let violated: Vec<_> = violations
        .iter()
        .map(|violation| (violation.invariant, &violation.what))
        .collect();
    assert!(violated.is_empty(), "seed {seed} violates {violated:?}");
}

#[test]
fn every_invariant_holds_in_every_history() {
    if let Some(seed) = number("TENANTRY_SEED") {
        return examine(seed);
    }
    let count = number("TENANTRY_SIMULATIONS").unwrap_or(HISTORIES);
    let first = number("TENANTRY_FIRST_SEED").unwrap_or(0);
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let summary = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let report = simulate(seed);
                    let mut summary = summary.lock();
                    summary.add(seed, &report);
                    if summary.histories % PROGRESS == 0 {
                        let (histories, violated) = (summary.histories, &summary.violated);
                        eprintln!(
                            "{histories} of {count} histories, {:.0?}, {violated:?}",
                            began.elapsed()
                        );
                    }
                }
            });
        }
    });
    let summary = summary.into_inner();
    eprintln!(
        "{} histories in {:.1?}: {:?}",
        summary.histories,
        began.elapsed(),
        summary.counts
    );
    assert!(
        summary.violated.is_empty(),
        "violated, how often and with which seeds: {:?}",
        summary.violated
    );
}
