//! One tenant: its secret at the provider, and its database server.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tenantry_core::TenantId;
use tokio::time::Instant;

use crate::dice::Dice;

/// How a tenant's server treats a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerMood {
    /// It answers.
    Well,
    /// It refuses at once, as a host without the service does.
    Refuses,
    /// It never answers, as behind a firewall that drops packets.
    DropsPackets,
}

/// One tenant of the simulation.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Decides what its server and the provider do.
    pub(crate) dice: Dice,
    pub(crate) index: usize,
    /// The version of the secret that the provider holds.
    pub(crate) version: u64,
    /// The versions whose password the server accepts, the first and the last.
    pub(crate) accepted: (u64, u64),
    /// The most connections that each version of the secret allows.
    pub(crate) limits: BTreeMap<u64, usize>,
    pub(crate) rotating: bool,
    pub(crate) mood: ServerMood,
    /// The most sessions that the server takes.
    pub(crate) server_limit: Option<usize>,
    pub(crate) provider_down: bool,
    /// Whether a fetch is never answered, rather than refused, while the provider is down.
    pub(crate) provider_silent: bool,
    pub(crate) fetches: usize,
    /// The secret that a refresh reported last, and when it was answered.
    pub(crate) refreshed: Option<(u64, Instant)>,
    /// How often an operator or a signal asked for the secret to be read anew.
    pub(crate) renewals: u32,
    pub(crate) suspension: Suspension,
    /// When the check of an idle connection failed or was cut off last, and since when it had been
    /// idle.
    pub(crate) found_dead: Option<(Instant, Instant)>,
    /// When a session refused a write as read-only last.
    pub(crate) read_only_at: Option<Instant>,
    /// How its secrets' leases are, if they have any.
    pub(crate) leasing: Option<Leasing>,
    /// The number of the last closing of its pool; databases with a smaller one may use the pool
    /// before.
    pub(crate) closed_at: u64,
}

/// How long leases last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leasing {
    /// From when the secret is read or the lease extended.
    pub(crate) lasts: Duration,
    /// From when the secret is read, however often the lease is extended.
    pub(crate) at_most: Duration,
    pub(crate) renewable: bool,
}

/// What operators did about a tenant's suspension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Suspension {
    /// Moves when a suspension or a resume begins and when it is answered.
    pub(crate) moves: u32,
    /// How many of them are under way, or failed so that their effect is not known.
    pub(crate) unsettled: u32,
    pub(crate) suspended: bool,
}

impl Tenant {
    pub(crate) fn new(index: usize, limit: usize, dice: Dice) -> Self {
        Self {
            dice,
            index,
            version: 1,
            accepted: (1, 1),
            limits: BTreeMap::from([(1, limit)]),
            rotating: false,
            mood: ServerMood::Well,
            server_limit: None,
            provider_down: false,
            provider_silent: false,
            fetches: 0,
            refreshed: None,
            renewals: 0,
            suspension: Suspension::default(),
            found_dead: None,
            read_only_at: None,
            leasing: None,
            closed_at: 0,
        }
    }

    pub(crate) fn mend(&mut self) {
        self.mood = ServerMood::Well;
        self.server_limit = None;
        self.provider_down = false;
        self.accepted = (self.version, self.version);
    }

    /// The secret as the provider holds it now. Its user name is the version, with the number of
    /// the lease if there is one, and its database the tenant.
    pub(crate) fn secret(&self, lease: Option<u64>) -> Value {
        json!({
            "type": "scripted",
            "host": "db.example",
            "database": name(self.index),
            "username": user_name(self.version, lease),
            "password": "none",
            "pool": {"max": {"connections": self.limits[&self.version]}},
        })
    }

    /// The most connections that any version from `oldest` on allows.
    pub(crate) fn limit_since(&self, oldest: u64) -> usize {
        self.limits.range(oldest..).map(|(_, limit)| *limit).max().unwrap_or(0)
    }
}

/// The user of a version and a lease; also what the engine has for a version.
pub(super) fn user_name(version: u64, lease: Option<u64>) -> String {
    match lease {
        Some(lease) => format!("{version}-{lease}"),
        None => version.to_string(),
    }
}

/// The version and the lease of a user.
pub(crate) fn version_and_lease(user: &str) -> (u64, Option<u64>) {
    let (version, lease) = user.split_once('-').unwrap_or((user, ""));
    (version.parse().unwrap_or_default(), lease.parse().ok())
}

fn name(index: usize) -> String {
    format!("tenant-{index}")
}

/// The id of the tenant with this index. The indices after the last tenant's are names that the
/// provider does not know.
pub(crate) fn tenant_id(index: usize) -> TenantId {
    name(index).parse().expect("the name is a valid tenant id")
}

/// The index in a tenant's or a database's name.
pub(super) fn index_of(name: &str) -> usize {
    let index = name.strip_prefix("tenant-").and_then(|index| index.parse().ok());
    index.expect("every name in the simulation has an index")
}

/// How long the provider is silent at most; the engine gives a fetch five seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
