//! A client: one request to the engine, as a handler makes it.

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::future::{BoxFuture, join_all, poll_fn};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, TransactionTrait};
use tenantry_core::{
    DatabaseErrorKind,
    engine::{TenantDatabase, Tenants},
};
use tokio::time::{Instant, sleep};

use crate::{
    checks::Invariant,
    dice::Dice,
    world::{Expected, UNIT, World, tenant_id},
};

/// When a client goes away though it has no answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum CutOff {
    Never,
    After(Duration),
    /// After its task was woken so often.
    Polls(u32),
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Read,
    Write,
    Charge,
    Several,
    AtOnce,
    Script,
    Ping,
    Transaction,
    SharedTransaction,
}

/// One client's request.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) tenants: Tenants,
    pub(super) tenant: usize,
    pub(super) dice: Arc<Dice>,
}

/// A tenant's database and its number among all that were handed out.
pub(super) struct Database {
    pub(super) database: TenantDatabase,
    number: u64,
    world: Arc<World>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.world.lock().handles.remove(&self.number);
    }
}

/// A unit of work; when it is dropped, nobody waits for it any more.
pub(super) struct UnitGuard {
    pub(super) id: u64,
    world: Arc<World>,
}

impl Drop for UnitGuard {
    fn drop(&mut self) {
        self.world.lock().units.remove(&self.id);
    }
}

pub(super) fn statement(sql: String) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

impl Client {
    /// Runs the request until it is answered or cut off.
    pub(super) async fn run(self, kind: Kind, cut_off: CutOff) {
        let world = self.world.clone();
        let _running = world.enter();
        let mut request = pin!(self.request(kind));
        let answered = match cut_off {
            CutOff::Never => {
                request.await;
                true
            }
            // The cut comes first: what was handed over in the same instant is not taken.
            CutOff::After(time) => tokio::select! {
                biased;
                () = sleep(time) => false,
                () = request => true,
            },
            CutOff::Polls(mut left) => {
                poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(false);
                    }
                    left -= 1;
                    request.as_mut().poll(context).map(|()| true)
                })
                .await
            }
        };
        if !answered {
            let mut state = world.lock();
            state.counts.cut_off += 1;
            state.note(format_args!("a {kind:?} was cut off"));
        }
    }

    async fn request(&self, kind: Kind) {
        let Some(database) = self.acquire().await else {
            return;
        };
        match kind {
            Kind::Read => self.read(&database).await,
            Kind::Write => self.write(&database).await,
            Kind::Charge => self.charge(&database).await,
            Kind::Several => {
                for _ in 0..3 {
                    self.any(&database).await;
                    self.linger().await;
                }
            }
            Kind::AtOnce => drop(join_all((0..3).map(|_| self.any(&database))).await),
            Kind::Script => self.script(&database).await,
            Kind::Ping => {
                let unit = self.unit();
                let answer = UNIT.scope(unit.id, database.database.ping()).await;
                drop(answer);
            }
            Kind::Transaction => self.transaction(&database).await,
            Kind::SharedTransaction => self.shared_transaction(Arc::new(database)).await,
        }
    }

    /// The tenant's database, and what must hold for the answer.
    pub(super) async fn acquire(&self) -> Option<Database> {
        let began = Instant::now();
        let (before, renewals) = {
            let state = self.world.lock();
            let tenant = state.tenants.get(self.tenant);
            tenant
                .map(|tenant| (tenant.suspension, tenant.renewals))
                .unwrap_or_default()
        };
        let acquired = self.tenants.acquire(&tenant_id(self.tenant)).await;
        let mut state = self.world.lock();
        let now = state.tenants.get(self.tenant).map_or(0, |tenant| tenant.renewals);
        state.check_acquire_wait(self.tenant, began.elapsed(), now - renewals);
        state.check_admission(self.tenant, before, acquired.as_ref().map(drop));
        match acquired {
            Ok(database) => {
                let number = state.next();
                state.handles.insert(number, self.tenant);
                let world = self.world.clone();
                Some(Database {
                    database,
                    number,
                    world,
                })
            }
            Err(error) => {
                state.counts.refused += 1;
                state.note(format_args!("tenant {}: a client is answered: {error}", self.tenant));
                None
            }
        }
    }

    pub(super) fn unit(&self) -> UnitGuard {
        let id = self.world.lock().begin_unit();
        UnitGuard {
            id,
            world: self.world.clone(),
        }
    }

    /// One call through the engine on behalf of a unit, and what must hold for its answer.
    pub(super) async fn ask<T>(
        &self,
        unit: u64,
        what: &str,
        call: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DatabaseErrorKind> {
        let began = Instant::now();
        let before = self.world.lock().units[&unit].served;
        let answer = UNIT.scope(unit, call).await;
        let answer = answer.map_err(|error| DatabaseErrorKind::of(&error));
        let mut state = self.world.lock();
        let served = state.units[&unit].served - before;
        let last_answer = state.units[&unit].last_answer;
        match &answer {
            Ok(_) => state.counts.answered += 1,
            Err(kind) => {
                state.counts.refused += 1;
                state.counts.unknown_outcomes += u64::from(*kind == DatabaseErrorKind::OutcomeUnknown);
                state.note(format_args!(
                    "tenant {}: {what} of unit {unit} fails: {}",
                    self.tenant,
                    kind.as_str()
                ));
                let since = began.max(last_answer);
                state.check_idle_connection(self.tenant, since, *kind);
                state.check_other_connection(self.tenant, since, *kind);
            }
        }
        let calls = state.units[&unit].calls;
        let what = format!("{what} with {calls} calls");
        state.check_wait(&what, began.elapsed(), served);
        answer
    }

    /// A new write; what is expected of it until it is answered.
    pub(super) fn issue(&self, expected: Expected) -> u64 {
        let mut state = self.world.lock();
        let number = state.next();
        state.effects.issue(number, self.tenant, expected);
        number
    }

    /// What the answer of a write outside of transactions means for it.
    fn resolve<T>(&self, number: u64, answer: &Result<T, DatabaseErrorKind>) {
        let expected = match answer {
            Ok(_) => Expected::Once,
            Err(DatabaseErrorKind::OutcomeUnknown) => Expected::AtMostOnce,
            Err(_) => Expected::Never,
        };
        self.world.lock().expect(number, expected);
    }

    fn any<'a>(&'a self, database: &'a Database) -> BoxFuture<'a, ()> {
        let choice = self.dice.roll(4);
        Box::pin(async move {
            match choice {
                0 => self.write(database).await,
                1 => self.charge(database).await,
                2 => self.transaction(database).await,
                _ => self.read(database).await,
            }
        })
    }

    /// Sometimes a handler does something else between its statements.
    pub(super) async fn linger(&self) {
        if self.dice.percent(20) {
            sleep(self.dice.millis(1..1_500)).await;
        }
    }

    async fn read(&self, database: &Database) {
        let unit = self.unit();
        let sql = statement("SELECT tenant FROM items".to_owned());
        let call = database.database.query_all_raw(sql);
        if let Ok(rows) = self.ask(unit.id, "a read", call).await {
            let tenant = rows.first().and_then(|row| row.try_get::<i64>("", "tenant").ok());
            if tenant != Some(self.tenant as i64) {
                let what = format_args!("a read of tenant {} returned rows of {tenant:?}", self.tenant);
                self.world.lock().violate(Invariant::Effect, what);
            }
        }
    }

    async fn write(&self, database: &Database) {
        let (unit, number) = (self.unit(), self.issue(Expected::AtMostOnce));
        let sql = statement(format!("INSERT INTO effects VALUES ({number})"));
        let answer = self.ask(unit.id, "a write", database.database.execute_raw(sql)).await;
        self.resolve(number, &answer);
    }

    /// A function with an effect, called by a statement that looks like a read.
    async fn charge(&self, database: &Database) {
        let (unit, number) = (self.unit(), self.issue(Expected::AtMostOnce));
        let sql = statement(format!("SELECT charge({number})"));
        let answer = self
            .ask(unit.id, "a charge", database.database.query_one_raw(sql))
            .await;
        self.resolve(number, &answer);
    }

    async fn script(&self, database: &Database) {
        let choice = self.dice.roll(4);
        let unit = self.unit();
        // What a script leaves uncommitted never happens.
        let uncommitted = Expected::Never;
        let (script, number) = match choice {
            0 => {
                let number = self.issue(uncommitted);
                let insert = format!("INSERT INTO effects VALUES ({number})");
                (
                    format!("BEGIN; {insert}; INSERT INTO effects VALUES (broken); COMMIT"),
                    None,
                )
            }
            1 => {
                let number = self.issue(uncommitted);
                (format!("BEGIN; INSERT INTO effects VALUES ({number})"), None)
            }
            2 => {
                let number = self.issue(Expected::AtMostOnce);
                (
                    format!("BEGIN; INSERT INTO effects VALUES ({number}); COMMIT"),
                    Some(number),
                )
            }
            _ => {
                let number = self.issue(Expected::AtMostOnce);
                (format!("INSERT INTO effects VALUES ({number})"), Some(number))
            }
        };
        let call = database.database.execute_unprepared(&script);
        let answer = self.ask(unit.id, "a script", call).await;
        if let Some(number) = number {
            self.resolve(number, &answer);
        }
    }

    pub(super) async fn begin(
        &self,
        unit: u64,
        database: &Database,
    ) -> Result<tenantry_core::engine::TenantTransaction, DatabaseErrorKind> {
        self.ask(unit, "a begin", database.database.begin()).await
    }
}
