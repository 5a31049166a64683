//! Transactions: with save points, with statements in several tasks, and without a proper end.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sea_orm::{ConnectionTrait, TransactionTrait};
use tenantry_core::{DatabaseErrorKind, engine::TenantTransaction};
use tokio::task::JoinSet;

use super::client::{Client, Database, statement};
use crate::world::Expected;

/// How deep save points are nested.
const DEEPEST: usize = 2;

/// The writes of one level that may become those of the transaction, and whether each was certainly
/// done on it.
#[derive(Clone)]
struct Writes {
    list: Arc<Mutex<Vec<(u64, bool)>>>,
    /// Whether only one task uses the transaction. Otherwise another task's save point may be open
    /// within this level; a write then belongs to that one, and may be rolled back with it.
    alone: bool,
}

impl Writes {
    fn new(alone: bool) -> Self {
        Self {
            list: Arc::default(),
            alone,
        }
    }

    /// Notes the answer of a write, or of the release of the save point that it was in.
    fn settle<T>(&self, number: u64, answer: &Result<T, DatabaseErrorKind>, certain: bool) {
        let mut list = self.list.lock();
        match answer {
            Ok(_) => {
                let write = list.iter_mut().find(|(other, _)| *other == number);
                write.into_iter().for_each(|write| write.1 = certain && self.alone);
            }
            // The server may have done it, and a commit whose answer is lost as well may follow.
            Err(kind) if kind.breaks_connection() => {}
            Err(_) => list.retain(|(other, _)| *other != number),
        }
    }
}

/// How a level ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Commit,
    Rollback,
    Dropped,
}

impl Client {
    fn end(&self) -> End {
        match self.dice.roll(10) {
            0..6 => End::Commit,
            6..8 => End::Rollback,
            _ => End::Dropped,
        }
    }

    pub(super) async fn transaction(&self, database: &Database) {
        let unit = self.unit();
        let Ok(transaction) = self.begin(unit.id, database).await else {
            return;
        };
        let writes = Writes::new(true);
        self.steps(unit.id, &transaction, &writes, 0).await;
        self.finish(unit.id, transaction, &writes).await;
    }

    /// Ends the outermost level.
    async fn finish(&self, unit: u64, transaction: TenantTransaction, writes: &Writes) {
        match self.end() {
            End::Commit => self.commit(unit, transaction, writes).await,
            // Its writes are expected never to happen, whatever the answer.
            End::Rollback => drop(self.ask(unit, "a rollback", transaction.rollback()).await),
            End::Dropped => {
                self.world.note(format_args!("unit {unit} drops its transaction"));
                drop(transaction);
            }
        }
    }

    async fn commit(&self, unit: u64, transaction: TenantTransaction, writes: &Writes) {
        let writes = writes.list.lock().clone();
        self.expect_all(&writes, Expected::AtMostOnce);
        let answer = self.ask(unit, "a commit", transaction.commit()).await;
        match answer {
            Ok(()) => {
                let certain: Vec<_> = writes.into_iter().filter(|(_, certain)| *certain).collect();
                self.expect_all(&certain, Expected::Once);
            }
            Err(DatabaseErrorKind::OutcomeUnknown) => {}
            Err(_) => self.expect_all(&writes, Expected::Never),
        }
    }

    fn expect_all(&self, writes: &[(u64, bool)], expected: Expected) {
        let mut state = self.world.lock();
        for (number, _) in writes {
            state.expect(*number, expected);
        }
    }

    /// A few statements and save points on one level.
    fn steps<'a>(
        &'a self,
        unit: u64,
        transaction: &'a TenantTransaction,
        writes: &'a Writes,
        depth: usize,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let count = 1 + self.dice.roll(3);
            for _ in 0..count {
                let choice = self.dice.roll(10);
                match choice {
                    0..5 => self.write_within(unit, transaction, writes).await,
                    5 => {
                        let sql = statement("INSERT INTO effects VALUES (broken)".to_owned());
                        drop(self.ask(unit, "a broken write", transaction.execute_raw(sql)).await);
                    }
                    6..9 if depth < DEEPEST => self.save_point(unit, transaction, writes, depth + 1).await,
                    _ => {
                        let sql = statement("SELECT tenant FROM items".to_owned());
                        drop(self.ask(unit, "a read", transaction.query_all_raw(sql)).await);
                    }
                }
                self.linger().await;
            }
        })
    }

    async fn write_within(&self, unit: u64, transaction: &TenantTransaction, writes: &Writes) {
        let number = self.issue(Expected::Never);
        writes.list.lock().push((number, false));
        let sql = statement(format!("INSERT INTO effects VALUES ({number})"));
        let answer = self.ask(unit, "a write", transaction.execute_raw(sql)).await;
        writes.settle(number, &answer, true);
    }

    async fn save_point(&self, unit: u64, outer: &TenantTransaction, writes: &Writes, depth: usize) {
        let Ok(inner) = self.ask(unit, "a save point", outer.begin()).await else {
            return;
        };
        let own = Writes::new(writes.alone);
        self.steps(unit, &inner, &own, depth).await;
        match self.end() {
            End::Commit => {
                let own = own.list.lock().clone();
                writes
                    .list
                    .lock()
                    .extend(own.iter().map(|(number, _)| (*number, false)));
                let answer = self.ask(unit, "a release", inner.commit()).await;
                for (number, certain) in own {
                    writes.settle(number, &answer, certain);
                }
            }
            End::Rollback => drop(self.ask(unit, "a rollback", inner.rollback()).await),
            End::Dropped => {
                self.world.note(format_args!("unit {unit} drops a save point"));
                drop(inner);
            }
        }
    }

    /// Several tasks use one transaction; it may be dropped while they do, and they may outlive the
    /// request.
    pub(super) async fn shared_transaction(&self, database: Arc<Database>) {
        let unit = Arc::new(self.unit());
        let Ok(transaction) = self.begin(unit.id, &database).await else {
            return;
        };
        let (save_points, detached, waits) = (self.dice.flip(), self.dice.roll(4) == 0, self.dice.roll(4) > 0);
        let (transaction, writes) = (Arc::new(transaction), Writes::new(!save_points));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let (client, unit, database) = (self.clone(), unit.clone(), database.clone());
            let (transaction, writes) = (transaction.clone(), writes.clone());
            let task = async move {
                let _held = database;
                let _running = client.world.enter();
                if save_points {
                    client.save_point(unit.id, &transaction, &writes, DEEPEST).await;
                }
                client.write_within(unit.id, &transaction, &writes).await;
            };
            if detached {
                drop(tokio::spawn(task));
            } else {
                tasks.spawn(task);
            }
        }
        if waits {
            while tasks.join_next().await.is_some() {}
        } else {
            // They are in the middle of something when their request goes on.
            self.linger().await;
            tasks.abort_all();
            while tasks.join_next().await.is_some() {}
        }
        match Arc::try_unwrap(transaction) {
            Ok(transaction) => self.finish(unit.id, transaction, &writes).await,
            // The last of the detached tasks drops it.
            Err(shared) => drop(shared),
        }
    }
}
