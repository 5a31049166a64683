//! The whole engine in a simulated world: seeded random histories under paused time, and what must hold in each of them.
//!
//! A history draws settings, clients, troubles and operators from its seed. The same seed is the same history for the same
//! engine. `TENANTRY_SIMULATIONS` is how many histories run, `TENANTRY_FIRST_SEED` the first one's seed; with `TENANTRY_SEED`
//! one history runs and prints what happened. `./scripts/simulate` runs many.

mod checks;
mod history;
mod world;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
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
fn simulate(seed: u64, keeps_events: bool) -> Report {
    PANICS.take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O starts");
    let mut report = runtime.block_on(history::run(seed, keeps_events));
    drop(runtime);
    let panics = PANICS.take();
    report.violations.extend(panics.into_iter().map(|what| Violation {
        invariant: Invariant::Panic,
        what,
        events: report.events.clone(),
    }));
    report
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
        for violation in report.violations.iter().take(1) {
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
            if *count <= PRINTED {
                // The first of each kind with all that came before it, the others in a line.
                let events = if *count == 1 { events } else { "" };
                eprintln!("seed {seed} violates {invariant}: {what}\n{events}");
            }
        }
    }
}

#[test]
fn every_invariant_holds_in_every_history() {
    record_panics();
    if let Some(seed) = number("TENANTRY_SEED") {
        let report = simulate(seed, true);
        eprintln!("{}{:?}", report.events, report.counts);
        let violation = report.violations.first();
        assert!(
            violation.is_none(),
            "seed {seed} violates an invariant: {:?}",
            violation.map(|v| &v.what)
        );
        return;
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
                    let report = simulate(seed, false);
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

/// Notes each panic for the history of its thread, beside printing it as usual.
fn record_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
        usual(panic);
    }));
}
