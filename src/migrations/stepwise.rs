//! Applies a file outside a transaction, statement by statement. Progress is recorded after each
//! statement, so the next run continues after the last one.

use sea_orm::TransactionOptions;
use tenantry_core::{DatabaseError, DatabaseErrorKind, MigrationLock, ScriptFault, ScriptStatement, StatementEffect};

use super::{
    applied::{Applied, Progress, Record, Recorded},
    error::{Aftermath, MigrationError},
    files::Migration,
    lost::{creates_temporary, is_computed_variable},
    run::{Outcome, Run},
    script::{Script, checksum_with},
    table_wait,
};

/// MySQL's ER_TABLE_NOT_LOCKED: the file has locked other tables. The next statement is recorded
/// with those before it.
const TABLE_NOT_LOCKED: &str = "1100";

impl Run<'_> {
    /// The lock is held. A transaction is open, unless it is a session's lock.
    pub(super) async fn step_by_step(
        &mut self,
        lock: &MigrationLock,
        migration: &Migration,
        script: &Script<'_>,
        before: Option<&Progress>,
    ) -> Result<Outcome, MigrationError> {
        let from = before.map_or(0, |progress| progress.statements);
        let begun = Progress {
            running: true,
            statements: from,
            checksum: script.checksum_of_first(from),
            run: Some(self.number),
        };
        if let Some(before) = before {
            script.begins_as_before(migration, before)?;
            if self.may_be_running(lock, before).await? {
                return Ok(Outcome::Busy);
            }
            script.may_continue(migration, from)?;
        }
        if matches!(lock, MigrationLock::EachTransaction { .. }) {
            refuse_settings(migration, script)?;
        }
        let record = Record::find(self.driver, self.connection).await?;
        let state = begun.to_string();
        let claimed = match before {
            None => {
                let inserted = record.insert(self.driver, self.connection, migration, &state);
                inserted.await.map(|()| true)
            }
            Some(before) => self.record(lock, &record, migration, (before, &state)).await,
        };
        if !claimed.map_err(MigrationError::Table)? {
            return Ok(Outcome::Busy);
        }
        if !matches!(lock, MigrationLock::Session { .. }) {
            self.connection.commit().await.map_err(MigrationError::Table)?;
        }
        let in_doubt = before.is_some_and(|progress| progress.running);
        self.steps(lock, migration, script, &record, begun, in_doubt).await
    }

    async fn steps(
        &mut self,
        lock: &MigrationLock,
        migration: &Migration,
        script: &Script<'_>,
        record: &Record,
        begun: Progress,
        in_doubt: bool,
    ) -> Result<Outcome, MigrationError> {
        let (from, count) = (begun.statements, script.statements.len());
        if from == count {
            let recorded = self.record(lock, record, migration, (&begun, &migration.checksum));
            return match recorded.await.map_err(MigrationError::Table)? {
                true => Ok(Outcome::Applied),
                false => Ok(Outcome::Overtaken),
            };
        }
        let mut recorded = begun;
        for (index, statement) in script.statements.iter().enumerate() {
            // The session is a new one, so it needs the settings again.
            let is_setting =
                statement.effect == StatementEffect::Session && !is_computed_variable(&statement.code(&script.driver));
            if index < from && !is_setting {
                continue;
            }
            let next = (index >= from).then(|| Progress {
                statements: index + 1,
                checksum: checksum_with(&recorded.checksum, statement.sql),
                ..recorded.clone()
            });
            let state = next.as_ref().map(|next| match next.statements == count {
                true => migration.checksum.clone(),
                false => next.to_string(),
            });
            let change = state.as_deref().map(|state| (&recorded, state));
            self.at = Some((migration.name.clone(), statement.line));
            let ran = self.step(lock, migration, script, record, statement.sql, change).await;
            self.at = None;
            match ran {
                Ok(true) => recorded = next.unwrap_or(recorded),
                Ok(false) => return Ok(Outcome::Overtaken),
                Err(error) => {
                    let in_doubt = in_doubt && index == from;
                    return Err(self.stopped(migration, script, index, in_doubt, error).await);
                }
            }
        }
        Ok(Outcome::Applied)
    }

    /// Runs one statement and records it with the states before and after it. Without these, an
    /// earlier run has recorded it. Returns false if another run has recorded something in the
    /// meantime.
    async fn step(
        &mut self,
        lock: &MigrationLock,
        migration: &Migration,
        script: &Script<'_>,
        record: &Record,
        sql: &str,
        change: Option<(&Progress, &str)>,
    ) -> Result<bool, DatabaseError> {
        let Some(change) = change else {
            return self.connection.execute_script(sql).await.map(|_| true);
        };
        if let MigrationLock::EachTransaction { prepare, mark, .. } = lock {
            let marked = format!("{mark}{sql}");
            // Between two transactions the session may be another one. What can run in one is
            // recorded in the same.
            self.connection.begin(&TransactionOptions::default()).await?;
            self.connection.execute_script(prepare).await?;
            if let Some(limit) = table_wait::of_statement(self.driver, script, sql, true) {
                self.connection.execute_script(limit).await?;
            }
            match self.connection.execute_script(&marked).await.map(drop) {
                Ok(()) => {
                    let is_recorded = self.record(lock, record, migration, change).await?;
                    match is_recorded {
                        true => self.connection.commit().await?,
                        false => self.roll_back().await,
                    }
                    return Ok(is_recorded);
                }
                Err(error) if self.needs_no_transaction(&error, sql) => self.roll_back().await,
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            }
            // Nothing undoes it, so it is not run if another run took this one for killed
            // meanwhile.
            let (before, _) = change;
            let same = before.to_string();
            if !self.record(lock, record, migration, (before, &same)).await? {
                return Ok(false);
            }
            self.connection.execute_script(&marked).await?;
            self.check_left_behind(sql).await?;
            return self.record(lock, record, migration, change).await;
        }
        if let Some(limit) = table_wait::of_statement(self.driver, script, sql, false) {
            self.connection.execute_script(limit).await?;
        }
        self.connection.execute_script(sql).await?;
        self.check_left_behind(sql).await?;
        match self.record(lock, record, migration, change).await {
            Err(error) if error.code.as_deref() == Some(TABLE_NOT_LOCKED) => Ok(true),
            recorded => recorded,
        }
    }

    /// Records the state `after` in place of `before`. Returns false if another run has recorded
    /// something since `before`, which only a lock that each transaction takes allows. With another
    /// lock `before` may never have been recorded, as within a transaction of the file that was
    /// rolled back.
    async fn record(
        &mut self,
        lock: &MigrationLock,
        record: &Record,
        migration: &Migration,
        (before, after): (&Progress, &str),
    ) -> Result<bool, DatabaseError> {
        let expected = matches!(lock, MigrationLock::EachTransaction { .. }).then_some(before);
        let updated = record.update(self.driver, self.connection, migration, expected, after);
        Ok(updated.await? || expected.is_none())
    }

    /// Records a file that has run to its end although its session's last record was lost, as after
    /// `SET autocommit = 0`. Returns whether nothing but settings and commits came after the last
    /// record that was kept.
    pub(super) async fn finish(&mut self, migration: &Migration) -> Result<bool, MigrationError> {
        let sql = migration.script(self.tenant);
        let script = Script::read(self.driver, migration, &sql)?;
        let applied = Applied::read(self.driver, self.connection).await?.unwrap_or_default();
        let Some(Recorded::Part(progress)) = applied.get(migration.version) else {
            return Ok(false);
        };
        let changes = |statement: &ScriptStatement<'_>| {
            !matches!(statement.effect, StatementEffect::Session | StatementEffect::Commits)
        };
        if script.statements.iter().skip(progress.statements).any(changes) {
            return Ok(false);
        }
        let record = Record::find(self.driver, self.connection).await?;
        let finished = record
            .update(
                self.driver,
                self.connection,
                migration,
                Some(progress),
                &migration.checksum,
            )
            .await;
        finished.map(|_| true).map_err(MigrationError::Table)
    }

    /// Marks the file as stopped, and says what is left. The old session may be in a transaction
    /// that failed, or have other settings.
    async fn stopped(
        &mut self,
        migration: &Migration,
        script: &Script<'_>,
        index: usize,
        in_doubt: bool,
        source: DatabaseError,
    ) -> MigrationError {
        let sql = script.statements.get(index).map_or("", |statement| statement.sql);
        let (mut resumes_at, mut remove) = (None, Vec::new());
        use DatabaseErrorKind::{AnswerTooLarge, ConnectionLost, NoAnswer};
        let may_have_effect = matches!(source.kind, ConnectionLost | NoAnswer | AnswerTooLarge);
        // A new session may look in another schema.
        let left = self.left_behind(sql).await;
        if self.renew().await.is_ok() {
            resumes_at = self.mark_stopped(migration, script, may_have_effect).await;
            remove = match left {
                Ok(left) => left,
                Err(_) => self.left_behind(sql).await.unwrap_or_default(),
            };
        }
        MigrationError::Failed {
            name: migration.name.clone(),
            at: Box::new(script.place(index)),
            aftermath: Box::new(Aftermath::Kept {
                resumes_at,
                in_doubt,
                remove,
            }),
            source,
        }
    }

    /// Returns the line at which the next run continues, according to the database; `None` if
    /// another run has continued already. The record of a statement that may have taken effect
    /// stays that of one that runs.
    async fn mark_stopped(
        &mut self,
        migration: &Migration,
        script: &Script<'_>,
        may_have_effect: bool,
    ) -> Option<usize> {
        let applied = Applied::read(self.driver, self.connection).await.ok()??;
        let Recorded::Part(running) = applied.get(migration.version)? else {
            return None;
        };
        if running.run != Some(self.number) {
            return None;
        }
        // An older program reads what has stopped only without the number, which nothing needs
        // then.
        let stopped = Progress {
            running: may_have_effect,
            run: running.run.filter(|_| may_have_effect),
            ..running.clone()
        };
        let record = Record::find(self.driver, self.connection).await.ok()?;
        let marked = record
            .update(
                self.driver,
                self.connection,
                migration,
                Some(running),
                &stopped.to_string(),
            )
            .await;
        if let Err(error) = marked {
            tracing::debug!(tenant_id = %self.tenant, %error, "a migration was not marked as stopped");
        }
        let next = script.statements.get(running.statements)?;
        Some(next.line)
    }
}

/// Behind a pooler each statement outside a transaction may run in another session.
pub(super) fn refuse_settings(migration: &Migration, script: &Script<'_>) -> Result<(), MigrationError> {
    let is_setting = |statement: &&ScriptStatement<'_>| {
        use StatementEffect::{Begins, Commits, EndsOtherwise, Session};
        matches!(statement.effect, Session | Begins | Commits | EndsOtherwise)
            || creates_temporary(&statement.code(&script.driver), &script.driver)
    };
    match script.statements.iter().find(is_setting) {
        None => Ok(()),
        Some(statement) => Err(MigrationError::Refused {
            name: migration.name.clone(),
            fault: ScriptFault {
                line: statement.line,
                reason: "outside a transaction no setting and no temporary table lasts behind a pooler in transaction \
                         mode; take it out, or migrate with a secret that leads to the server itself"
                    .to_owned(),
            },
        }),
    }
}
