//! What goes wrong around the engine, and what operators do meanwhile.

use std::{future::Future, sync::Arc, time::Duration};

use tenantry_core::{
    TenantId,
    engine::{AcquireError, Tenants},
};
use tokio::time::{Instant, sleep};

use crate::{
    checks::Invariant,
    world::{OPERATOR, ServerMood, State, Suspension, UNIT, World, tenant_id, version_and_lease},
};

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// The server ends every session of the tenant, as when it restarts.
    KillAll,
    /// The server ends one idle session.
    KillOne,
    /// Something between drops the packets of every idle connection.
    Silence,
    /// The server does not answer logins as it should, for a while.
    Server(ServerMood, Duration),
    /// The server takes only so many sessions, for a while.
    FullServer(usize, Duration),
    /// The provider fails for this tenant, at once or by not answering.
    Outage {
        silent: bool,
        time: Duration,
    },
    Rotation(Rotation),
}

/// How the secret and the password at the server change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    pub(super) order: Order,
    pub(super) gap: Duration,
    pub(super) kills: bool,
    pub(super) signals: bool,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Both passwords are accepted until the old one ends.
    Overlapping,
    /// The server changes, and the provider follows.
    ServerFirst,
    /// The provider changes, and the server follows.
    ProviderFirst,
}

/// What an operator does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Refresh,
    ClearSecret,
    ClearAllSecrets,
    ClosePool,
    Suspend,
    Resume,
    Probe,
    Signal,
}

/// Does one of the troubles to a tenant.
pub(super) async fn trouble(world: Arc<World>, tenant: usize, trouble: Trouble) {
    let _running = world.enter();
    world.note(format_args!("tenant {tenant}: trouble: {trouble:?}"));
    match trouble {
        Trouble::KillAll => world.lock().kill(tenant, |_| true),
        Trouble::KillOne => world.lock().kill_one(tenant),
        Trouble::Silence => {
            let mut state = world.lock();
            let of_tenant = |session: &&mut crate::world::Session| session.tenant == tenant && session.is_at_rest();
            state
                .sessions
                .values_mut()
                .filter(of_tenant)
                .for_each(|session| session.silent = true);
        }
        Trouble::Server(mood, time) => {
            world.lock().tenants[tenant].mood = mood;
            sleep(time).await;
            world.lock().tenants[tenant].mood = ServerMood::Well;
        }
        Trouble::FullServer(limit, time) => {
            world.lock().tenants[tenant].server_limit = Some(limit);
            sleep(time).await;
            world.lock().tenants[tenant].server_limit = None;
        }
        Trouble::Outage { silent, time } => {
            let set = |down| {
                let mut state = world.lock();
                let tenant = &mut state.tenants[tenant];
                (tenant.provider_down, tenant.provider_silent) = (down, silent);
            };
            set(true);
            sleep(time).await;
            set(false);
        }
        Trouble::Rotation(rotation) => rotate(&world, tenant, rotation).await,
    }
    world.note(format_args!("tenant {tenant}: trouble is over: {trouble:?}"));
}

async fn rotate(world: &World, index: usize, rotation: Rotation) {
    let next = {
        let mut state = world.lock();
        let tenant = &mut state.tenants[index];
        if std::mem::replace(&mut tenant.rotating, true) {
            return;
        }
        let limit = rotation.limit.unwrap_or(tenant.limits[&tenant.version]);
        let next = tenant.version + 1;
        tenant.limits.insert(next, limit);
        next
    };
    let at_provider = || world.lock().tenants[index].version = next;
    let at_server = |from| world.lock().tenants[index].accepted = (from, next);
    match rotation.order {
        Order::Overlapping => {
            at_server(next - 1);
            at_provider();
            sleep(rotation.gap).await;
            at_server(next);
        }
        Order::ServerFirst => {
            at_server(next);
            sleep(rotation.gap).await;
            at_provider();
        }
        Order::ProviderFirst => {
            at_provider();
            sleep(rotation.gap).await;
            at_server(next);
        }
    }
    if rotation.kills {
        world.lock().kill(index, |session| session.version < next);
    }
    if rotation.signals {
        signal(world);
    }
    world.lock().tenants[index].rotating = false;
}

impl State {
    fn kill(&mut self, tenant: usize, which: impl Fn(&crate::world::Session) -> bool) {
        let of_tenant = self.sessions.values_mut().filter(|session| session.tenant == tenant);
        of_tenant
            .filter(|session| which(session))
            .for_each(|session| session.lost = true);
    }

    fn kill_one(&mut self, tenant: usize) {
        let idle = |session: &&mut crate::world::Session| session.tenant == tenant && session.is_at_rest();
        if let Some(session) = self.sessions.values_mut().find(idle) {
            session.lost = true;
        }
    }
}

fn signal(world: &World) {
    let mut state = world.lock();
    state.tenants.iter_mut().for_each(|tenant| tenant.renewals += 1);
    drop(state);
    world.changes.send_modify(|number| *number += 1);
}

/// Does what an operator does.
pub(super) async fn act(world: Arc<World>, tenants: Tenants, index: usize, action: Action) {
    let _running = world.enter();
    world.note(format_args!("tenant {index}: an operator asks: {action:?}"));
    let tenant = tenant_id(index);
    match action {
        Action::Refresh => refresh(&world, &tenants, index).await,
        Action::ClearSecret | Action::ClearAllSecrets => {
            let all = matches!(action, Action::ClearAllSecrets);
            world.lock().tenants.iter_mut().for_each(|tenant| tenant.renewals += 1);
            tenants.clear_secrets(Some(&tenant).filter(|_| !all));
        }
        Action::ClosePool => {
            world.lock().note_closing(index);
            drop(tenants.close_pool(&tenant).await);
            world.lock().note_closing(index);
        }
        Action::Suspend => suspend(&world, index, true, tenants.suspend(&tenant)).await,
        Action::Resume => suspend(&world, index, false, tenants.resume(&tenant)).await,
        Action::Probe => drop(UNIT.scope(OPERATOR, tenants.probe(&tenant)).await),
        Action::Signal => signal(&world),
    }
    world.note(format_args!("tenant {index}: the operator is answered: {action:?}"));
}

async fn refresh(world: &World, tenants: &Tenants, index: usize) {
    let (began, wanted) = {
        let mut state = world.lock();
        state.tenants[index].renewals += 1;
        (Instant::now(), state.tenants[index].version)
    };
    let refreshed = tenants.refresh(&tenant_id(index)).await;
    let mut state = world.lock();
    let renewals = state.tenants[index].renewals;
    state.check_acquire_wait(index, began.elapsed(), renewals);
    let Ok(snapshot) = refreshed else {
        return;
    };
    // Another operator may have cleared it again meanwhile.
    if let Some(secret) = snapshot.secret {
        let (read, _) = version_and_lease(&secret.version);
        if read < wanted {
            let what = format_args!("tenant {index} was refreshed to version {read}, requested at version {wanted}");
            state.violate(Invariant::Refresh, what);
        }
    }
    let before = state.tenants[index].refreshed.map_or(0, |(version, _)| version);
    if wanted > before {
        state.tenants[index].refreshed = Some((wanted, Instant::now()));
    }
}

async fn suspend(world: &World, index: usize, suspended: bool, answer: impl Future<Output = Result<(), AcquireError>>) {
    let change = |change: &dyn Fn(&mut Suspension)| {
        let suspension = &mut world.lock().tenants[index].suspension;
        suspension.moves += 1;
        change(suspension);
    };
    change(&|suspension| suspension.unsettled += 1);
    let done = answer.await.is_ok();
    change(&|suspension| {
        suspension.unsettled -= 1;
        if done {
            suspension.suspended = suspended;
        }
        // The order in which two that overlap were done is not known.
        if suspension.unsettled > 0 {
            suspension.unsettled += 1_000;
        }
    });
}

/// Resumes a tenant for good.
pub(super) async fn resume(world: &World, tenants: &Tenants, index: usize) -> Result<(), AcquireError> {
    let id: TenantId = tenant_id(index);
    let resumed = tenants.resume(&id).await;
    if resumed.is_ok() {
        let suspension = &mut world.lock().tenants[index].suspension;
        *suspension = Suspension {
            moves: suspension.moves + 1,
            ..Suspension::default()
        };
    }
    resumed
}
