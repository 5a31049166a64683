//! What goes wrong while the clients work.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;
use tenantry_test_support::{CANARY, TenantDb};
use tokio::time::sleep;

use crate::{database::Database, proxy::Proxy, world::Secrets};

pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) database: TenantDb,
}

/// Makes things go wrong, at random, until its time is over; everything is well again then.
pub(super) struct Chaos<'a> {
    pub(super) database: Database<'a>,
    pub(super) tenants: &'a mut [Tenant],
    pub(super) secrets: &'a Secrets,
    pub(super) door: &'a Proxy,
    pub(super) until: Instant,
    pub(super) random: fastrand::Rng,
}

/// How often each fault happened.
#[derive(Debug, Default)]
pub(super) struct Happened {
    kills: u64,
    restarts: u64,
    rotations: u64,
    outages: u64,
}

impl Happened {
    pub(super) fn is_everything(&self) -> bool {
        self.kills > 0 && self.restarts > 0 && self.rotations > 0 && self.outages > 0
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            restarts,
            rotations,
            outages,
        } = self;
        write!(
            f,
            "{kills} times sessions were killed, {restarts} restarts, {rotations} passwords rotated, {outages} outages of the provider"
        )
    }
}

impl Chaos<'_> {
    pub(super) async fn run(&mut self) -> Result<Happened> {
        let mut happened = Happened::default();
        let (mut of_server, mut of_secrets) = (self.random.fork(), self.random.fork());
        let (database, until) = (self.database, self.until);
        let users: Vec<TenantDb> = self.tenants.iter().map(|tenant| tenant.database.clone()).collect();
        let server = async {
            let (mut kills, mut restarts) = (0, 0);
            // The first restart comes soon, so that also a short run has one.
            let mut next_restart = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                sleep(Duration::from_millis(of_server.u64(100..1_200))).await;
                if Instant::now() > next_restart {
                    database.stop().await?;
                    sleep(Duration::from_millis(of_server.u64(..1_500))).await;
                    database.start_again().await?;
                    restarts += 1;
                    next_restart = Instant::now() + Duration::from_secs(of_server.u64(5..20));
                } else {
                    let some = (0..of_server.usize(1..6))
                        .map(|_| &users[of_server.usize(..users.len())])
                        .collect::<Vec<_>>();
                    database.end_sessions(&some).await?;
                    kills += 1;
                }
            }
            anyhow::Ok((kills, restarts))
        };
        let (tenants, secrets, door) = (&mut *self.tenants, self.secrets, self.door);
        let provider = async {
            let (mut rotations, mut outages) = (0, 0);
            let mut next_outage = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                sleep(Duration::from_millis(of_secrets.u64(100..800))).await;
                if Instant::now() > next_outage {
                    outage(tenants, database, secrets, door, &mut of_secrets).await?;
                    outages += 1;
                    next_outage = Instant::now() + Duration::from_secs(of_secrets.u64(5..25));
                } else {
                    let tenant = &mut tenants[of_secrets.usize(..users.len())];
                    rotate(tenant, database, secrets, rotations, &mut of_secrets).await?;
                    rotations += 1;
                }
            }
            anyhow::Ok((rotations, outages))
        };
        (
            (happened.kills, happened.restarts),
            (happened.rotations, happened.outages),
        ) = tokio::try_join!(server, provider)?;
        Ok(happened)
    }
}

/// Gives the one user of a tenant another password, first in the database, then in the secret.
async fn rotate(
    tenant: &mut Tenant,
    database: Database<'_>,
    secrets: &Secrets,
    number: u64,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let password = format!("{CANARY}-rotated-{number}");
    // The server may be away at the moment.
    let began = Instant::now();
    while let Err(error) = database.set_password(&tenant.database, &password).await {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(error);
        }
        sleep(Duration::from_millis(100)).await;
    }
    tenant.database.password = password;
    sleep(Duration::from_millis(random.u64(..500))).await;
    secrets.put(&tenant.name, &database.secret(&tenant.database)).await
}

/// The provider hangs, is gone, and comes back.
async fn outage(
    tenants: &[Tenant],
    database: Database<'_>,
    secrets: &Secrets,
    door: &Proxy,
    random: &mut fastrand::Rng,
) -> Result<()> {
    secrets.moto.signal("STOP").await?;
    sleep(Duration::from_millis(random.u64(500..2_500))).await;
    if random.bool() {
        return secrets.moto.signal("CONT").await;
    }
    // It comes back empty, as AWS never does, so requests are turned away until its secrets are
    // there again.
    door.turn_away(true);
    secrets.kill().await?;
    sleep(Duration::from_millis(random.u64(500..2_500))).await;
    secrets.moto.start_again().await?;
    for tenant in tenants {
        secrets.put(&tenant.name, &database.secret(&tenant.database)).await?;
    }
    door.turn_away(false);
    Ok(())
}
