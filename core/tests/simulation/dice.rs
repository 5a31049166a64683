//! Random choices.

use std::{ops::Range, time::Duration};

use parking_lot::Mutex;

/// A generator of its own for each client and each tenant. So the choices of one do not depend on
/// the order in which the engine turns to several at the same moment, which is the order of a hash
/// map and differs from run to run.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    /// Dice that fall as the next numbers of `rng` decide.
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        Self(Mutex::new(rng.fork()))
    }

    pub(crate) fn flip(&self) -> bool {
        self.0.lock().bool()
    }

    /// A number below `sides`.
    pub(crate) fn roll(&self, sides: u8) -> u8 {
        self.0.lock().u8(0..sides)
    }

    pub(crate) fn percent(&self, chance: u8) -> bool {
        self.roll(100) < chance
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.0.lock().u64(range))
    }
}
