//! The leases that the provider grants: each is a user of its own at the server, until it ends.

use std::time::Duration;

use tenantry_core::ProviderError;
use tokio::time::Instant;

use super::State;

/// One lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) tenant: usize,
    pub(crate) ends_at: Instant,
    latest: Instant,
    pub(crate) state: LeaseState,
}

/// What the engine did with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// It has the lease, or its answer is on its way.
    Held,
    /// It gave up waiting for the answer, and does not know of the lease.
    Lost,
    /// It gave the lease back.
    Released,
    /// It tried to, and the provider failed or did not answer in time.
    NotReleased,
}

impl Lease {
    /// For how long its user has been gone at the server.
    pub(crate) fn over_for(&self) -> Option<Duration> {
        Instant::now().checked_duration_since(self.ends_at)
    }
}

impl State {
    /// Grants a lease with a tenant's secret, if it has leases.
    pub(super) fn grant(&mut self, tenant: usize) -> Option<u64> {
        let leasing = self.tenants[tenant].leasing?;
        let (number, now) = (self.next(), Instant::now());
        let lease = Lease {
            tenant,
            ends_at: now + leasing.lasts,
            latest: now + leasing.at_most,
            state: LeaseState::Held,
        };
        self.leases.insert(number, lease);
        self.counts.leases += 1;
        self.note(format_args!("tenant {tenant}: lease {number} is granted"));
        Some(number)
    }

    /// Extends a lease as far as its maximum allows.
    pub(super) fn extend(&mut self, number: u64) -> Result<Duration, ProviderError> {
        let Some(lease) = self.leases.get_mut(&number).filter(|lease| lease.over_for().is_none()) else {
            return Err(ProviderError::Denied("there is no such lease".into()));
        };
        let Some(leasing) = self.tenants[lease.tenant].leasing else {
            return Err(ProviderError::Denied("there are no leases".into()));
        };
        lease.ends_at = (Instant::now() + leasing.lasts).min(lease.latest);
        let left = lease.ends_at - Instant::now();
        self.counts.extended += 1;
        self.note(format_args!("lease {number} is extended to {left:?}"));
        Ok(left)
    }

    /// The engine gives a lease back.
    pub(super) fn begin_release(&mut self, number: u64) {
        self.check_release(number);
        if let Some(lease) = self.leases.get_mut(&number) {
            lease.state = LeaseState::NotReleased;
        }
    }

    /// Ends a lease that the engine gives back.
    pub(super) fn release(&mut self, number: u64, fails: bool) -> Result<(), ProviderError> {
        self.note(format_args!("lease {number} is given back, fails: {fails}"));
        let Some(lease) = self.leases.get_mut(&number) else {
            return Err(ProviderError::NotFound);
        };
        if fails {
            return Err(ProviderError::Unavailable("it was told to fail".into()));
        }
        lease.state = LeaseState::Released;
        lease.ends_at = lease.ends_at.min(Instant::now());
        self.counts.released += 1;
        Ok(())
    }
}
