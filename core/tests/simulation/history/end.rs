//! The end of a history: everything is mended, every tenant is served again, and nothing is left.

use std::{sync::Arc, time::Duration};

use sea_orm::ConnectionTrait;
use tenantry_core::engine::{HealthQuery, Tenants};
use tokio::time::{Instant, sleep};

use super::{client::statement, trouble};
use crate::{
    checks::Invariant,
    world::{UNIT, World, tenant_id},
};

/// By when each client and operator has an answer, whatever happened.
const LONGEST_REQUEST: Duration = Duration::from_secs(240);
/// By when each tenant is served again.
const RECOVERY: Duration = Duration::from_secs(60);
/// By when what is being opened or closed is open or closed.
const SETTLED: Duration = Duration::from_secs(150);
/// How long a session that the engine closed counts at most after that.
const LINGERING: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(60);

pub(super) async fn end(world: &Arc<World>, engine: Tenants, count: usize, mends_first: bool) {
    let waits_for_clients = Instant::now();
    if mends_first {
        world.mend();
    }
    while world.lock().running > 0 && waits_for_clients.elapsed() < LONGEST_REQUEST {
        sleep(Duration::from_millis(50)).await;
    }
    let running = world.lock().running;
    if running > 0 {
        let what = format_args!("{running} clients or operators got no answer");
        return world.lock().violate(Invariant::Deadline, what);
    }
    world.mend();
    recover(world, &engine, count).await;
    settle(world, &engine).await;
    world.lock().check_every_effect();
    let drained = engine.shutdown(GRACE).await;
    world.lock().check_every_lease();
    let (sessions, counted) = (world.lock().sessions.len(), engine.cache_snapshot().pools.connections);
    if !drained || sessions > 0 || counted > 0 {
        let what =
            format_args!("after the shutdown {sessions} sessions are open and {counted} counted, drained: {drained}");
        world.lock().violate(Invariant::Leak, what);
    }
}

async fn recover(world: &Arc<World>, engine: &Tenants, count: usize) {
    let mended = Instant::now();
    for index in 0..count {
        let id = tenant_id(index);
        loop {
            let error = match serve(world, engine, index).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if mended.elapsed() > RECOVERY {
                let what = format_args!("{id} is not served again: {error}");
                world.lock().violate(Invariant::Recovery, what);
                break;
            }
            sleep(Duration::from_millis(250)).await;
        }
    }
}

async fn serve(world: &World, engine: &Tenants, index: usize) -> Result<(), String> {
    let resumed = trouble::resume(world, engine, index).await;
    resumed.map_err(|error| format!("resume: {error}"))?;
    let database = engine.acquire(&tenant_id(index)).await;
    let database = database.map_err(|error| format!("{error}: {error:?}"))?;
    let unit = world.lock().begin_unit();
    let sql = statement("SELECT tenant FROM items".to_owned());
    let answer = UNIT.scope(unit, database.query_all_raw(sql)).await;
    world.lock().units.remove(&unit);
    answer.map(drop).map_err(|error| error.to_string())
}

/// Every session that is open rests in a pool, and the engine counts as many.
async fn settle(world: &Arc<World>, engine: &Tenants) {
    let began = Instant::now();
    loop {
        sleep(LINGERING).await;
        let wrong = leaks(world, engine).await;
        match wrong {
            None => return,
            Some(wrong) if began.elapsed() > SETTLED => {
                return world.lock().violate(Invariant::Leak, format_args!("{wrong}"));
            }
            // What was open for long may be closed just now.
            Some(_) => {}
        }
    }
}

/// What is not as it should be while nothing runs.
async fn leaks(world: &World, engine: &Tenants) -> Option<String> {
    let health = engine.health(HealthQuery::all(false)).await.tenants;
    let counted = engine.cache_snapshot().pools.connections;
    let (mut open, mut in_use) = (0, 0);
    for tenant in &health {
        open += tenant.pool.open;
        in_use += tenant.pool.in_use;
    }
    let state = world.lock();
    let busy = state.sessions.iter().find(|(_, session)| !session.is_at_rest());
    let sessions = state.sessions.len();
    if let Some((id, session)) = busy {
        Some(format!("session {id} is not at rest: {session}"))
    } else if counted != sessions || open != sessions || in_use != 0 {
        Some(format!(
            "{sessions} sessions are open, {counted} counted, {open} in pools, {in_use} of them in use"
        ))
    } else {
        None
    }
}
