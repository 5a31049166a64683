//! The transaction of a connection, and the save points within it.

use std::fmt;

use sea_orm::{AccessMode, TransactionOptions};
use sea_query_sqlx::SqlxValues;
use sqlx::{ColumnIndex, Database, Executor, IntoArguments};
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use super::{Aftermath, Dialect, SqlxConnection, errors::no_transaction};

/// A transaction or a save point that is open.
pub(super) struct Level {
    read_only: bool,
    /// What runs when it is over.
    end: Option<&'static str>,
}

struct SavePoint(usize);

impl fmt::Display for SavePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenantry_{}", self.0)
    }
}

impl<D: Dialect> SqlxConnection<D>
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    /// Begins a transaction, or a save point within one.
    pub(super) async fn begin_level(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        self.refuse_outside()?;
        if self.depth == 0 {
            self.open(&D::begin(options)).await?;
            self.levels.push(Level {
                read_only: options.access_mode == Some(AccessMode::ReadOnly),
                end: D::end(options),
            });
        } else {
            self.begin_within(options).await?;
        }
        self.depth += 1;
        Ok(())
    }

    /// Commits the innermost level.
    pub(super) async fn commit_level(&mut self) -> Result<(), DatabaseError> {
        match self.depth {
            0 => Err(no_transaction()),
            1 => self.commit_all().await,
            depth => {
                self.refuse_outside()?;
                self.control(&format!("RELEASE SAVEPOINT {}", SavePoint(depth - 1)))
                    .await?;
                self.depth -= 1;
                self.end_levels(self.depth).await
            }
        }
    }

    /// Rolls the innermost level back.
    pub(super) async fn rollback_level(&mut self) -> Result<(), DatabaseError> {
        match self.depth {
            0 => Err(no_transaction()),
            1 => self.rollback_all().await,
            depth => {
                if !matches!(self.broken, Some((Aftermath::Gone, _))) {
                    self.control(&format!("ROLLBACK TO SAVEPOINT {}", SavePoint(depth - 1)))
                        .await?;
                    self.broken = None;
                }
                self.depth -= 1;
                self.end_levels(self.depth).await
            }
        }
    }

    /// The outermost transaction is over, in whatever way.
    async fn over(&mut self) -> Result<(), DatabaseError> {
        self.depth = 0;
        self.broken = None;
        self.make_room().await;
        self.end_levels(0).await
    }

    /// Ends the levels above this depth.
    async fn end_levels(&mut self, depth: usize) -> Result<(), DatabaseError> {
        while self.levels.len() > depth {
            if let Some(Level { end: Some(sql), .. }) = self.levels.pop() {
                self.control(sql).await?;
            }
        }
        Ok(())
    }

    /// Begins a save point, if it can have these options in a transaction that has its own.
    async fn begin_within(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        let read_only = self.levels.last().is_some_and(|level| level.read_only);
        let wanted = options.access_mode.map(|mode| mode == AccessMode::ReadOnly);
        let mut options = *options;
        if wanted == Some(read_only) {
            options.access_mode = None;
        }
        let save_point = format!("SAVEPOINT {}", SavePoint(self.depth));
        let begin = match (read_only, options.access_mode) {
            (true, Some(_)) => None,
            _ => D::begin_within(&options, &save_point),
        };
        let Some(begin) = begin else {
            let source = "a save point has the isolation and the access mode of its transaction";
            return Err(DatabaseError::new(DatabaseErrorKind::Unsupported).with_source(source));
        };
        self.control(&begin).await?;
        self.levels.push(Level {
            read_only: wanted.unwrap_or(read_only),
            end: D::end(&options),
        });
        Ok(())
    }

    async fn rollback_all(&mut self) -> Result<(), DatabaseError> {
        let gone = matches!(self.broken, Some((Aftermath::Gone, _)));
        match self.control("ROLLBACK").await {
            Err(error) if gone && !error.kind.breaks_connection() => self.over().await,
            Err(error) => Err(error),
            Ok(()) => self.over().await,
        }
    }

    async fn commit_all(&mut self) -> Result<(), DatabaseError> {
        // PostgreSQL answers the COMMIT of a failed transaction with a roll back and no error.
        if let Some((_, first)) = self.broken.clone() {
            self.rollback_all().await?;
            return Err(first);
        }
        self.commits = true;
        let committed = self.control("COMMIT").await;
        self.commits = false;
        match committed {
            Ok(()) => self.over().await,
            Err(error) if error.kind.breaks_connection() => Err(error),
            Err(error) => {
                if D::OPEN_AFTER_FAILED_COMMIT {
                    self.rollback_all().await?;
                } else {
                    self.over().await?;
                }
                Err(error)
            }
        }
    }
}
