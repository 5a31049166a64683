//! Each check fires when its invariant is broken: here the tests misuse the simulated world as a
//! wrong engine would.

use std::{sync::Arc, time::Duration};

use sea_orm::{DbBackend, Statement, TransactionOptions};
use tenantry_core::{
    Connection, DatabaseConfig, DatabaseDriver as _, DatabaseErrorKind, DriverErrorKind, SecretProvider as _,
    SecretValue,
};
use tokio::time::{Instant, sleep};

use crate::{
    checks::Invariant,
    dice::Dice,
    history::{self, Report},
    watched,
    world::{
        Bounds, Counts, Expected, Faults, OPERATOR, ScriptedDriver, ScriptedProvider, Suspension, Tenant, UNIT, World,
        tenant_id,
    },
};

/// Two tenants that may have one connection each, below a ceiling of two, and nothing that fails.
fn world() -> Arc<World> {
    let mut rng = fastrand::Rng::with_seed(0);
    let bounds = Bounds {
        ceiling: 2,
        acquire_timeout: Duration::from_secs(1),
        idle_time: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        evicts_pools: false,
        migrates: false,
    };
    let tenants = (0..2).map(|index| Tenant::new(index, 1, Dice::new(&mut rng))).collect();
    World::new(bounds, Faults::default(), tenants, false)
}

async fn connect(world: &Arc<World>, tenant: usize) -> Box<dyn Connection> {
    let secret = SecretValue::new(world.lock().tenants[tenant].secret(None));
    let config = DatabaseConfig::parse(&secret).expect("the secret is valid");
    let driver = ScriptedDriver(world.clone());
    driver.connect(&config).await.expect("nothing fails")
}

fn unit(world: &World) -> u64 {
    world.lock().begin_unit()
}

async fn write(world: &World, connection: &mut dyn Connection, unit: u64, number: u64) {
    let sql = format!("INSERT INTO effects VALUES ({number})");
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let done = UNIT.scope(unit, connection.execute(&statement)).await;
    done.expect("nothing fails");
    assert!(world.lock().units.contains_key(&unit));
}

fn issue(world: &World, tenant: usize, expected: Expected) -> u64 {
    let mut state = world.lock();
    let number = state.next();
    state.effects.issue(number, tenant, expected);
    number
}

/// Exactly this invariant was violated.
#[track_caller]
fn assert_fires(world: &World, invariant: Invariant) {
    let state = world.lock();
    let fired: Vec<_> = state.violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(fired, [invariant], "{}", state.events());
}

#[tokio::test(start_paused = true)]
async fn correct_use_violates_nothing() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    for _ in 0..2 {
        let (unit, number) = (unit(&world), issue(&world, 0, Expected::AtMostOnce));
        write(&world, &mut *connection, unit, number).await;
        world.lock().expect(number, Expected::Once);
    }
    connection.close().await;
    world.lock().check_every_effect();
    assert!(world.lock().violations.is_empty() && world.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_fetch_of_one_tenant_fires() {
    let world = world();
    let provider = ScriptedProvider(world.clone());
    let (one, other) = (tenant_id(0), tenant_id(0));
    drop(tokio::join!(provider.fetch(&one), provider.fetch(&other)));
    assert_fires(&world, Invariant::OneFetch);
}

#[tokio::test(start_paused = true)]
async fn one_session_above_the_ceiling_fires() {
    let world = world();
    world.lock().bounds.ceiling = 1;
    let _first = connect(&world, 0).await;
    let _second = connect(&world, 1).await;
    assert_fires(&world, Invariant::Ceiling);
}

#[tokio::test(start_paused = true)]
async fn one_session_above_the_tenants_limit_fires() {
    let world = world();
    let _first = connect(&world, 0).await;
    let _second = connect(&world, 0).await;
    sleep(Duration::from_millis(5)).await;
    assert_fires(&world, Invariant::TenantLimit);
}

#[tokio::test(start_paused = true)]
async fn a_wait_past_the_deadline_fires() {
    let world = world();
    let (elapsed, served) = (Duration::from_millis(1_500), Duration::from_millis(400));
    world
        .lock()
        .check_wait("a read", elapsed, served + Duration::from_millis(100));
    assert!(world.lock().violations.is_empty());
    world.lock().check_wait("a read", elapsed, served);
    assert_fires(&world, Invariant::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_connection_handed_over_inside_a_transaction_fires() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    let (options, one, other) = (TransactionOptions::default(), unit(&world), unit(&world));
    let begun = UNIT.scope(one, connection.begin(&options)).await;
    assert!(begun.is_ok());
    let number = issue(&world, 0, Expected::Never);
    write(&world, &mut *connection, other, number).await;
    assert_fires(&world, Invariant::HandOver);
}

#[tokio::test(start_paused = true)]
async fn a_connection_handed_over_in_the_middle_of_a_statement_fires() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT tenant FROM items");
    let one = unit(&world);
    let cut_off = tokio::time::timeout(Duration::ZERO, UNIT.scope(one, connection.query(&statement))).await;
    assert!(cut_off.is_err());
    drop(UNIT.scope(unit(&world), connection.query(&statement)).await);
    assert_fires(&world, Invariant::HandOver);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_repeated_fires() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    let number = issue(&world, 0, Expected::AtMostOnce);
    write(&world, &mut *connection, unit(&world), number).await;
    write(&world, &mut *connection, unit(&world), number).await;
    assert_fires(&world, Invariant::Effect);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_lost_or_refused_in_vain_fires() {
    let world = world();
    let number = issue(&world, 0, Expected::AtMostOnce);
    world.lock().expect(number, Expected::Once);
    assert_fires(&world, Invariant::Effect);

    let world = self::world();
    let mut connection = connect(&world, 0).await;
    let number = issue(&world, 0, Expected::AtMostOnce);
    write(&world, &mut *connection, unit(&world), number).await;
    world.lock().expect(number, Expected::Never);
    assert_fires(&world, Invariant::Effect);
}

#[tokio::test(start_paused = true)]
async fn a_write_at_another_tenant_fires() {
    let world = world();
    let mut connection = connect(&world, 1).await;
    let number = issue(&world, 0, Expected::AtMostOnce);
    write(&world, &mut *connection, unit(&world), number).await;
    assert_fires(&world, Invariant::Effect);
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_an_idle_connection_fires() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    let number = issue(&world, 0, Expected::AtMostOnce);
    write(&world, &mut *connection, unit(&world), number).await;
    let began = Instant::now();
    world
        .lock()
        .check_idle_connection(0, began, DatabaseErrorKind::PoolTimeout);
    assert!(world.lock().violations.is_empty(), "it became idle just now");
    sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    world
        .lock()
        .check_idle_connection(1, began, DatabaseErrorKind::PoolTimeout);
    assert!(world.lock().violations.is_empty(), "it is another tenant's");
    world
        .lock()
        .check_idle_connection(0, began, DatabaseErrorKind::PoolTimeout);
    assert_fires(&world, Invariant::IdleConnection);
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_beside_a_usable_connection_is_found() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    let busy = unit(&world);
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT tenant FROM items");
    let mut running = std::pin::pin!(UNIT.scope(busy, connection.query(&statement)));
    sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    assert!(futures_util::poll!(running.as_mut()).is_pending());
    let unreachable = DatabaseErrorKind::Connect(DriverErrorKind::Unreachable);
    world
        .lock()
        .check_other_connection(0, began - Duration::from_secs(1), unreachable);
    assert!(world.lock().violations.is_empty(), "it waited until its deadline");
    world.lock().check_other_connection(0, began, unreachable);
    assert_fires(&world, Invariant::OtherConnection);
}

#[tokio::test(start_paused = true)]
async fn an_older_secret_after_a_refresh_fires() {
    let world = world();
    let mut connection = connect(&world, 0).await;
    world.lock().tenants[0].refreshed = Some((2, Instant::now()));
    sleep(Duration::from_millis(1)).await;
    let number = issue(&world, 0, Expected::AtMostOnce);
    write(&world, &mut *connection, unit(&world), number).await;
    assert_fires(&world, Invariant::Refresh);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_admission_fires() {
    let suspended = Suspension {
        suspended: true,
        ..Suspension::default()
    };
    let served: Result<(), _> = Ok(());
    let world = world();
    world.lock().tenants[0].suspension = suspended;
    world.lock().check_admission(0, suspended, served);
    assert_fires(&world, Invariant::Admission);

    let world = self::world();
    world.lock().check_admission(7, Suspension::default(), served);
    assert_fires(&world, Invariant::Admission);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_closes_fires() {
    let world = world();
    world.lock().bounds.ceiling = 10;
    // As a check of an operator opens one, outside of the pool and its limit.
    let _forgotten = UNIT.scope(OPERATOR, connect(&world, 0)).await;
    history::end_alone(&world, 2).await;
    assert_fires(&world, Invariant::Leak);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_not_served_again_fires() {
    let world = world();
    // The third tenant's secret is gone.
    history::end_alone(&world, 3).await;
    assert_fires(&world, Invariant::Recovery);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_an_answer_fires() {
    let world = world();
    let _waits = world.enter();
    history::end_alone(&world, 2).await;
    assert_fires(&world, Invariant::Deadline);
}

#[test]
fn a_panic_in_a_task_fires() {
    let report = watched(async {
        drop(tokio::spawn(async { panic!("a task of this test panics") }).await);
        Report {
            violations: Vec::new(),
            counts: Counts::default(),
            events: String::new(),
        }
    });
    let fired: Vec<_> = report.violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(fired, [Invariant::Panic]);
}
