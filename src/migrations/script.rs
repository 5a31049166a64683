//! A migration's file as the statements that are sent one by one.

use tenantry_core::{DatabaseDriver, ScriptFault, ScriptStatement, StatementEffect};

use super::{
    applied::Progress,
    error::{FailurePoint, MigrationError},
    files::Migration,
    lost::{counts_rows, lost},
    text::{DIRECTIVE, checksum},
};

/// A file's statements, and how they are run.
pub(super) struct Script<'a> {
    /// The driver that has split them.
    pub(super) driver: String,
    pub(super) statements: Vec<ScriptStatement<'a>>,
    /// Whether all of them run in one transaction. Otherwise each is run and recorded by itself.
    pub(super) in_transaction: bool,
}

impl<'a> Script<'a> {
    pub(super) fn read(
        driver: &dyn DatabaseDriver,
        migration: &Migration,
        sql: &'a str,
    ) -> Result<Self, MigrationError> {
        let refused = |fault| MigrationError::Refused {
            name: migration.name.clone(),
            fault,
        };
        if let Some(fault) = migration.fault.clone() {
            return Err(refused(fault));
        }
        let statements = driver.statements(sql).map_err(refused)?;
        if let Some(fault) = placeholder(migration, sql) {
            return Err(refused(fault));
        }
        let commits = |statement: &ScriptStatement<'_>| {
            matches!(
                statement.effect,
                StatementEffect::CommitsByItself | StatementEffect::Several
            )
        };
        let in_transaction = !migration.no_transaction && !statements.iter().any(commits);
        let mut script = Self {
            driver: driver.migration_dialect().to_owned(),
            statements,
            in_transaction,
        };
        if in_transaction {
            script.leave_out_its_transaction().map_err(refused)?;
        } else {
            script.refuse_count_of_rows().map_err(refused)?;
        }
        Ok(script)
    }

    /// A file that is one transaction, as a dump of SQLite is, runs in Tenantry's own, in which it
    /// is also recorded. Any other statement that ends a transaction is refused.
    fn leave_out_its_transaction(&mut self) -> Result<(), ScriptFault> {
        let is_setting = |statement: &&ScriptStatement<'_>| statement.effect == StatementEffect::Session;
        let first = self.statements.iter().take_while(is_setting).count();
        let last = self.statements.len() - self.statements.iter().rev().take_while(is_setting).count();
        let effect = |at: usize| self.statements.get(at).map(|statement| statement.effect);
        let begins = effect(first) == Some(StatementEffect::Begins);
        let commits = last > 0 && effect(last - 1) == Some(StatementEffect::Commits);
        if commits && last - 1 > first {
            self.statements.remove(last - 1);
        }
        if begins && commits {
            self.statements.remove(first);
        }
        let ends = |effect| {
            use StatementEffect::{Begins, Commits, EndsOtherwise};
            matches!(effect, Begins | Commits | EndsOtherwise)
        };
        match self.statements.iter().find(|statement| ends(statement.effect)) {
            None => Ok(()),
            Some(statement) => Err(ScriptFault {
                line: statement.line,
                reason: format!(
                    "`{}` begins or ends a transaction, and the file runs in one of Tenantry's; take it out, or begin the \
                     file with the line `{DIRECTIVE}`",
                    verb(statement.sql)
                ),
            }),
        }
    }

    /// After each statement Tenantry records it, which changes a row.
    fn refuse_count_of_rows(&self) -> Result<(), ScriptFault> {
        for statement in &self.statements {
            if let Some(function) = counts_rows(&statement.code(&self.driver), &self.driver) {
                return Err(ScriptFault {
                    line: statement.line,
                    reason: format!(
                        "`{function}()` would count the row of Tenantry's record, which is made after each statement of this \
                         file; count with a query, or in a stored program"
                    ),
                });
            }
        }
        Ok(())
    }

    /// How many settings it begins with.
    pub(super) fn leading_settings(&self) -> usize {
        let is_setting = |statement: &&ScriptStatement<'_>| statement.effect == StatementEffect::Session;
        self.statements.iter().take_while(is_setting).count()
    }

    /// The statement at `index`, for a message.
    pub(super) fn place(&self, index: usize) -> FailurePoint {
        let (line, sql) = self.statements.get(index).map_or((1, ""), |one| (one.line, one.sql));
        FailurePoint::Statement {
            line,
            number: index + 1,
            of: self.statements.len(),
            verb: verb(sql),
        }
    }

    /// Checks that a file still begins with the statements that an earlier run has applied.
    pub(super) fn begins_as_before(&self, migration: &Migration, before: &Progress) -> Result<(), MigrationError> {
        let from = before.statements;
        if from <= self.statements.len() && before.checksum == self.checksum_of_first(from) {
            return Ok(());
        }
        Err(MigrationError::ChangedBefore {
            name: migration.name.clone(),
            statements: from,
        })
    }

    /// Checks that the statements from `from` on can run in another session than those before.
    pub(super) fn may_continue(&self, migration: &Migration, from: usize) -> Result<(), MigrationError> {
        match lost(&self.statements, &self.driver, from) {
            None => Ok(()),
            Some(lost) => Err(MigrationError::SessionEnded {
                name: migration.name.clone(),
                at: Box::new(self.place(lost.needed_by)),
                needs: lost.name,
            }),
        }
    }

    /// A checksum of the first statements.
    pub(super) fn checksum_of_first(&self, count: usize) -> String {
        let first = self.statements.iter().take(count);
        first.fold(String::new(), |before, one| checksum_with(&before, one.sql))
    }
}

/// Refuses `${name}` in a file of Flyway, which writes a value in its place.
fn placeholder(migration: &Migration, sql: &str) -> Option<ScriptFault> {
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        !name.is_empty() && name.chars().all(is_part)
    };
    let mut found = sql.match_indices("${").filter(|_| migration.is_of_flyway());
    let (at, name) = found.find_map(|(at, _)| {
        let (name, _) = sql[at + 2..].split_once('}')?;
        is_name(name).then_some((at, name))
    })?;
    Some(ScriptFault {
        line: 1 + sql[..at].matches('\n').count(),
        reason: format!(
            "`${{{name}}}` is a placeholder of Flyway; write its value, or name the file `{:04}_...` if these characters are meant",
            migration.version
        ),
    })
}

/// A checksum of the statements that `before` is one of, and of another one after them.
pub(super) fn checksum_with(before: &str, sql: &str) -> String {
    checksum(&format!("{before};{sql}"))[..32].to_owned()
}

/// The first word of a statement, in upper case. It can be no secret: longer ones are cut.
pub(super) fn verb(sql: &str) -> String {
    let sql = sql.strip_prefix("/*M!").unwrap_or(sql);
    let word = sql.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let word = word.chars().take_while(char::is_ascii_alphabetic).take(12);
    word.collect::<String>().to_ascii_uppercase()
}
