//! What the tenants' databases were made to do: each write has a number of its own.

use std::collections::BTreeMap;

/// How often a write may be found in its tenant's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It was refused, or its transaction was not committed.
    Never,
    /// Its client does not know: it was cut off, or its outcome is unknown.
    AtMostOnce,
    /// It was acknowledged.
    Once,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Effect {
    pub(crate) tenant: usize,
    pub(crate) expected: Expected,
    pub(crate) count: u32,
}

impl Effect {
    /// Whether what was found contradicts what is expected. A write that is acknowledged has
    /// happened already.
    pub(crate) fn is_wrong(&self) -> bool {
        match self.expected {
            Expected::Never => self.count > 0,
            Expected::AtMostOnce => self.count > 1,
            Expected::Once => self.count != 1,
        }
    }
}

/// Every write of a history by its number.
#[derive(Default)]
pub(crate) struct Effects(pub(crate) BTreeMap<u64, Effect>);

impl Effects {
    pub(crate) fn issue(&mut self, number: u64, tenant: usize, expected: Expected) {
        let effect = Effect {
            tenant,
            expected,
            count: 0,
        };
        self.0.insert(number, effect);
    }
}
