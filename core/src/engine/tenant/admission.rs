//! Whether a request may enter its tenant: suspended, forgotten, or as many requests running as
//! may.

use std::sync::atomic::{AtomicU64, Ordering};

/// Set while an operator has suspended the tenant.
const SUSPENDED: u64 = 1 << 63;
/// Set once the tenant was taken from the directory: what still refers to it looks its id up again.
const FORGOTTEN: u64 = 1 << 62;
/// One hold: something other than a request that uses the tenant, such as a fetch of its secret or
/// an operator's action.
const ONE_HOLD: u64 = 1 << 32;
const REQUESTS: u64 = ONE_HOLD - 1;

/// Why a request may not enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// An operator suspended the tenant.
    Suspended,
    /// As many requests are running as may.
    Busy,
    /// The tenant was taken from the directory meanwhile: look its id up again.
    Forgotten,
}

/// Everything that decides whether a tenant may be entered or forgotten, in one atomic word, so
/// that each decision and its effect are one step: a tenant that is in use or suspended cannot be
/// forgotten, and one that is forgotten cannot be entered.
#[derive(Debug, Default)]
pub(crate) struct Admission(AtomicU64);

impl Admission {
    /// Counts a request in; [`leave`](Self::leave) counts it out.
    pub(crate) fn enter(&self, limit: usize) -> Result<(), Refused> {
        let limit = u64::try_from(limit).unwrap_or(REQUESTS).min(REQUESTS);
        self.change(|word| {
            if word & FORGOTTEN != 0 {
                Err(Refused::Forgotten)
            } else if word & SUSPENDED != 0 {
                Err(Refused::Suspended)
            } else if word & REQUESTS >= limit {
                Err(Refused::Busy)
            } else {
                Ok(word + 1)
            }
        })
    }

    /// Keeps the tenant from being forgotten until [`leave`](Self::leave). A suspended tenant can
    /// be held.
    pub(crate) fn hold(&self) -> Result<(), Refused> {
        self.change(|word| match word & FORGOTTEN {
            0 => Ok(word + ONE_HOLD),
            _ => Err(Refused::Forgotten),
        })
    }

    /// Ends what began by [`enter`](Self::enter), or by [`hold`](Self::hold).
    pub(crate) fn leave(&self, is_request: bool) {
        let one = if is_request { 1 } else { ONE_HOLD };
        self.0.fetch_sub(one, Ordering::AcqRel);
    }

    /// Suspends or resumes a tenant that is held; running requests go on.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        match suspended {
            true => self.0.fetch_or(SUSPENDED, Ordering::AcqRel),
            false => self.0.fetch_and(!SUSPENDED, Ordering::AcqRel),
        };
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.0.load(Ordering::Acquire) & SUSPENDED != 0
    }

    /// Whether nothing uses the tenant.
    pub(crate) fn is_unused(&self) -> bool {
        self.0.load(Ordering::Acquire) & !SUSPENDED == 0
    }

    /// Whether nothing uses the tenant and it is not suspended.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// Forgets the tenant if nothing uses it and it is not suspended; returns whether it did.
    pub(super) fn forget(&self) -> bool {
        let forgotten = self
            .0
            .compare_exchange(0, FORGOTTEN, Ordering::AcqRel, Ordering::Acquire);
        forgotten.is_ok()
    }

    fn change(&self, next: impl Fn(u64) -> Result<u64, Refused>) -> Result<(), Refused> {
        let changed = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| next(word).ok());
        changed.map_or_else(|word| next(word).map(drop), |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_in_use_or_suspended_is_not_forgotten() {
        let admission = Admission::default();
        admission.enter(1).unwrap();
        assert_eq!(admission.enter(1), Err(Refused::Busy));
        assert!(!admission.forget());
        admission.hold().unwrap();
        admission.leave(true);
        assert!(!admission.forget());
        admission.set_suspended(true);
        admission.leave(false);
        assert_eq!(admission.enter(1), Err(Refused::Suspended));
        assert!(!admission.forget() && admission.is_suspended());
        admission.set_suspended(false);
        assert!(admission.forget());
        assert_eq!(admission.enter(1), Err(Refused::Forgotten));
        assert_eq!(admission.hold(), Err(Refused::Forgotten));
    }
}
