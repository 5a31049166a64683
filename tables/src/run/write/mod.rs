//! Changes: all rows of one request in one transaction, or in the only statement.

mod answered;
mod steps;
mod upsert;

use sea_orm::{
    AccessMode, ConnectionTrait, QueryResult, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use tenantry_core::engine::{TenantDatabase, TenantTransaction};

use self::upsert::Seen;
use crate::{
    json::Fetched,
    plan::{ColumnTest, Comparison, Condition, Read, write::Rows},
    refusal::{Failure, Refusal},
    request::head::Accepted,
    run::failure,
    sql::{self, Assignment, Dialect, Target},
    value::Datum,
};

/// An upsert of more rows than these is not tried again row by row.
const MOST_ONE_BY_ONE: usize = 200;

/// The row of a longer body may be larger than an answer may be, so that it must be possible to
/// undo its change.
const LONGEST_ALONE: usize = 16 * 1024;

/// A change that is planned.
pub(crate) struct Job<'j, 'm> {
    pub(crate) database: &'j TenantDatabase,
    pub(crate) target: Target<'m>,
    /// What is answered of the changed rows.
    pub(crate) representation: Option<&'j Read<'m>>,
    /// Whether the answer has an order of its own.
    pub(crate) is_ordered: bool,
    /// The form of the answer.
    pub(crate) accepted: Accepted,
    /// Whether the keys of the changed rows are wanted.
    pub(crate) wants_keys: bool,
    pub(crate) max_affected: Option<u64>,
    /// The most rows that are answered, and the most embedded ones of one relation.
    pub(crate) most_rows: u64,
    pub(crate) most_embedded: u64,
    /// Whether the request has a token.
    pub(crate) has_token: bool,
    /// The length of the request's body.
    pub(crate) body: usize,
}

/// What became of a change.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) affected: u64,
    /// How many of the rows are new.
    pub(crate) new: u64,
    pub(crate) keys: Vec<Vec<Datum>>,
    /// The rows of the representation.
    pub(crate) fetched: Option<Fetched>,
}

/// What one statement, or several of a kind, did.
#[derive(Default)]
struct Step {
    affected: u64,
    new: u64,
    /// The keys of the changed rows, if they are known.
    keys: Vec<Vec<Datum>>,
    /// For each of these keys, whether its row is new, if the statement says so.
    is_new: Vec<bool>,
    /// The rows as the statement returned them.
    rows: Vec<QueryResult>,
}

impl Step {
    fn add(&mut self, other: Self) {
        self.affected += other.affected;
        self.new += other.new;
        self.keys.extend(other.keys);
        self.is_new.extend(other.is_new);
        self.rows.extend(other.rows);
    }

    /// The keys of the changed rows, if a rule must be checked.
    fn all_keys(&self, rule: &Condition<'_>) -> Result<&[Vec<Datum>], Failure> {
        match *rule == Condition::Always || self.keys.len() as u64 == self.affected {
            true => Ok(&self.keys),
            false => Err(no_keys()),
        }
    }

    /// Sorts what is known of each row by the row's place in the body.
    fn sort(&mut self, places: &[usize]) {
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|index| places[*index]);
        if self.keys.len() == places.len() {
            let mut keys = std::mem::take(&mut self.keys);
            self.keys = order.iter().map(|index| std::mem::take(&mut keys[*index])).collect();
        }
        if self.rows.len() == places.len() {
            let mut rows: Vec<Option<QueryResult>> = std::mem::take(&mut self.rows).into_iter().map(Some).collect();
            self.rows = order.iter().filter_map(|index| rows[*index].take()).collect();
        }
    }
}

/// What an insert does with rows that are there already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upsert<'a, 'm> {
    /// The columns by which they are found.
    pub(crate) target: &'a [usize],
    /// The columns that are changed then; `None` if such rows stay as they are.
    pub(crate) update: Option<&'a [usize]>,
    /// The rows that may be changed, and what must hold of them afterwards.
    pub(crate) before: &'a Condition<'m>,
    pub(crate) after: &'a Condition<'m>,
}

impl<'m> Job<'_, 'm> {
    /// Inserts rows; `rule` must hold of each afterwards.
    pub(crate) async fn insert(
        &self,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Option<Upsert<'_, 'm>>,
    ) -> Result<Changed, Failure> {
        if rows.rows.is_empty() {
            return self.nothing();
        }
        if upsert.is_none() && self.is_alone(rule, rows.rows.len() == 1) && self.pieces(rows).len() == 1 {
            let step = self.insert_rows(self.database, rows, None, true).await?;
            return Ok(self.direct(step));
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let one_by_one = attempts > 1 && rows.rows.len() <= MOST_ONE_BY_ONE;
            let done = self.insert_in_transaction(rows, rule, upsert, one_by_one).await;
            match done {
                // Another request inserted the row between the look and the insert, or a unique
                // value moves from one row of the body to another.
                Err(Failure::Refused(refusal)) if upsert.is_some() && refusal.code == "23505" && attempts < 3 => {}
                done => return done,
            }
        }
    }

    async fn insert_in_transaction(
        &self,
        rows: &Rows,
        rule: &Condition<'m>,
        upsert: Option<Upsert<'_, 'm>>,
        one_by_one: bool,
    ) -> Result<Changed, Failure> {
        let transaction = self.begin().await?;
        let on = &transaction;
        if let Some(upsert) = upsert {
            self.check_target(on, upsert.target).await?;
        }
        let step = match upsert {
            None => {
                let step = self.insert_rows(on, rows, None, false).await?;
                self.check_rule(on, step.all_keys(rule)?, rule).await?;
                step
            }
            Some(upsert) if self.takes_conflicts() => self.upsert_at_once(on, rows, rule, upsert).await?,
            Some(upsert) if one_by_one => {
                let (mut step, mut seen) = (Step::default(), Seen::default());
                for row in rows.rows.chunks(1) {
                    let row = Rows {
                        columns: rows.columns.clone(),
                        rows: row.to_vec(),
                    };
                    step.add(self.upsert_in_steps(on, &row, rule, upsert, &mut seen).await?);
                }
                step
            }
            Some(upsert) => {
                let mut seen = Seen::default();
                self.upsert_in_steps(on, rows, rule, upsert, &mut seen).await?
            }
        };
        self.finish(transaction, step).await
    }

    /// Changes the rows that `wanted` holds of; `rule` must hold of each afterwards.
    pub(crate) async fn update(
        &self,
        values: &[(usize, Assignment)],
        wanted: &Condition<'m>,
        rule: &Condition<'m>,
    ) -> Result<Changed, Failure> {
        if values.is_empty() || *wanted == Condition::Never {
            return self.nothing();
        }
        if self.is_alone(rule, self.is_of_one_row(wanted)) {
            let step = self.update_rows(self.database, values, wanted, true).await?;
            return Ok(self.direct(step));
        }
        let transaction = self.begin().await?;
        let step = self.update_rows(&transaction, values, wanted, false).await?;
        self.check_rule(&transaction, step.all_keys(rule)?, rule).await?;
        self.finish(transaction, step).await
    }

    /// Removes the rows that `wanted` holds of.
    pub(crate) async fn delete(&self, wanted: &Condition<'m>) -> Result<Changed, Failure> {
        if *wanted == Condition::Never {
            return self.nothing();
        }
        if self.is_alone(&Condition::Always, self.is_of_one_row(wanted)) {
            let step = self.delete_rows(self.database, wanted, true).await?;
            return Ok(self.direct(step));
        }
        let transaction = self.begin().await?;
        let on = &transaction;
        if self.target.dialect.returns_rows() && !self.reselects() {
            let step = self.delete_rows(on, wanted, false).await?;
            return self.finish(transaction, step).await;
        }
        // What is answered of them is read while they are there.
        let keys = self.locked(on, &self.target.table.key, wanted).await?;
        self.check_count(keys.len() as u64)?;
        let fetched = self.reselect(on, &keys).await?;
        let mut affected = 0;
        // In one statement if they fit into one, since rows may refer to one another.
        for some in keys.chunks(self.most_keys()) {
            let these = sql::has_one_of(self.target.table, &self.target.table.key, some);
            let removed = sql::delete(&self.target, &these, None);
            affected += on.execute_raw(removed).await.map_err(failure)?.rows_affected();
        }
        self.check_count(affected)?;
        let changed = Changed {
            affected,
            new: 0,
            keys,
            fetched,
        };
        self.commit(transaction, changed).await
    }

    /// Whether one statement needs no transaction of its own: nothing is refused after it. With a
    /// representation that is so if it changes one row at most, since the size of the answer is
    /// known only afterwards. A single row that is too large, because of what was stored otherwise,
    /// is an [unknown outcome](steps::failure_alone).
    fn is_alone(&self, rule: &Condition<'m>, is_of_one_row: bool) -> bool {
        *rule == Condition::Always
            // A trigger may leave the row out, and an object is of exactly one.
            && !self.accepted.is_single()
            && self.max_affected.is_none()
            && (self.target.dialect.returns_rows() || !self.wants_keys())
            && !self.reselects()
            && !self.repeats()
            && (self.representation.is_none() || (is_of_one_row && self.body <= LONGEST_ALONE))
    }

    /// Whether one row fits at most, since its whole key is given.
    fn is_of_one_row(&self, wanted: &Condition<'m>) -> bool {
        let table = self.target.table;
        let tests = match wanted {
            Condition::All(each) => each.as_slice(),
            one => std::slice::from_ref(one),
        };
        let is_given = |place: &usize| {
            tests.iter().any(|test| match test {
                Condition::Column(column, ColumnTest::Compare(Comparison::Equal, _)) => {
                    std::ptr::eq(*column, &raw const table.columns[*place])
                }
                _ => false,
            })
        };
        !table.key.is_empty() && table.key.iter().all(is_given)
    }

    /// Whether one statement inserts new rows, and changes those that are there. It says which are
    /// new by a system column, which views and partitioned tables do not return.
    fn takes_conflicts(&self) -> bool {
        let place = self.target.model.place(self.target.table);
        let facts = self.target.facts.as_ref();
        self.target.dialect == Dialect::Postgresql && !facts.is_some_and(|facts| facts.lacks_system_columns(place))
    }

    /// Whether the answer has a column under several names, so that it may grow too large.
    fn repeats(&self) -> bool {
        self.representation.is_some_and(|read| read.repeats)
    }

    fn wants_keys(&self) -> bool {
        self.wants_keys || self.representation.is_some()
    }

    /// Whether the answer is read after the change, and not returned by it.
    fn reselects(&self) -> bool {
        self.representation.is_some_and(|read| {
            !self.target.dialect.returns_rows()
                || !read.is_flat()
                || read.condition != Condition::Always
                || self.is_ordered
        })
    }

    async fn begin(&self) -> Result<TenantTransaction, Failure> {
        let options = TransactionOptions {
            // A transaction that reads before it writes would fail if another one writes in
            // between.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            access_mode: Some(AccessMode::ReadWrite).filter(|_| self.target.dialect != Dialect::Sqlite),
            ..TransactionOptions::default()
        };
        self.database
            .begin_with_options(options)
            .await
            .map_err(Failure::Database)
    }

    /// No row fits.
    fn nothing(&self) -> Result<Changed, Failure> {
        self.check_count(0)?;
        let none = Fetched {
            rows: Vec::new(),
            children: self.representation.map(no_children).unwrap_or_default(),
        };
        Ok(Changed {
            fetched: self.representation.map(|_| none),
            ..Changed::default()
        })
    }

    fn check_count(&self, affected: u64) -> Result<(), Failure> {
        if let Some(most) = self.max_affected
            && affected > most
        {
            return Err(
                Refusal::bad("PGRST124", "Query result exceeds max-affected preference constraint")
                    .details(format!("The query affects {affected} rows"))
                    .into(),
            );
        }
        if self.accepted.is_single() && affected != 1 {
            return Err(Refusal::not_single(affected).into());
        }
        self.answers(affected)
    }

    /// Refuses an answer with more rows than are answered.
    fn answers(&self, rows: u64) -> Result<(), Failure> {
        if self.representation.is_none() || rows <= self.most_rows {
            return Ok(());
        }
        let message = format!("more than {} rows would be answered", self.most_rows);
        let hint = "Ask for 'Prefer: return=minimal', or change fewer rows.";
        Err(Refusal::too_much(message).hint(hint).into())
    }

    fn keys_at_once(&self) -> usize {
        (1000 / self.target.table.key.len().max(1)).max(1)
    }

    /// The most keys of one statement. A text is compared twice on MySQL.
    fn most_keys(&self) -> usize {
        (self.target.dialect.most_parameters() / (2 * self.target.table.key.len().max(1))).max(1)
    }
}

fn no_keys() -> Failure {
    let message = "the database does not say which key it gave to the new rows";
    Refusal::bad("0A000", message)
        .hint("Give the key, or ask for 'Prefer: return=minimal'.")
        .into()
}

/// Values as a text in which equal ones are the same.
fn text_of(values: &[Datum]) -> Vec<u8> {
    let mut text = Vec::new();
    for value in values {
        value.write_json(&mut text);
        text.push(b',');
    }
    text
}

fn no_children(read: &Read<'_>) -> Vec<Fetched> {
    let each = read.children.iter().map(|child| Fetched {
        rows: Vec::new(),
        children: no_children(&child.read),
    });
    each.collect()
}
