//! What is in the databases afterwards, and whether it is what the clients were answered.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use tenantry_test_support::TenantDb;

use super::clients::{AllWritten, Outcome};
use crate::database::Database;

/// The accounts of each tenant, numbered from 1.
pub(super) const ACCOUNTS: i64 = 8;
const OPENING_BALANCE: i64 = 1_000_000;
/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// Makes a tenant's accounts. Two users may have the same address, so that a write that is done
/// twice is kept twice.
pub(super) async fn open(database: Database<'_>, tenant: &TenantDb) -> Result<()> {
    let user = &tenant.user;
    let accounts: Vec<String> = (1..=ACCOUNTS).map(|id| format!("({id}, {OPENING_BALANCE})")).collect();
    let tables = format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE transfers (token varchar(60) NOT NULL, payer bigint NOT NULL, payee bigint NOT NULL, amount bigint NOT NULL);
         INSERT INTO accounts VALUES {};",
        accounts.join(", ")
    );
    let also = match database {
        Database::Postgresql(_) => {
            format!("DROP INDEX users_email_key; GRANT ALL ON accounts, transfers TO \"{user}\";")
        }
        Database::Mariadb(_) => "ALTER TABLE users DROP INDEX users_email_key;".to_owned(),
    };
    database.sql(tenant, &(tables + &also)).await.map(drop)
}

/// Everything that all tenants' databases hold.
pub(super) struct Books {
    /// By token: the tenants that it was found in, one for each row.
    rows: HashMap<String, Vec<Row>>,
    /// By tenant: what its accounts lack or have too much.
    wrong_sums: Vec<String>,
}

struct Row {
    /// Of the database.
    tenant: usize,
    /// Of the token.
    addressed_to: String,
}

impl Books {
    pub(super) async fn read(database: Database<'_>, tenants: &[&TenantDb]) -> Result<Self> {
        let mut books = Self {
            rows: HashMap::new(),
            wrong_sums: Vec::new(),
        };
        for (number, tenant) in tenants.iter().enumerate() {
            let tokens = "SELECT email, 'user' FROM users WHERE email NOT LIKE '%.com' \
                          UNION ALL SELECT token, 'transfer' FROM transfers";
            for (email, _) in database.pairs(tenant, tokens).await? {
                let (token, addressed_to) = email.split_once('@').context("a token without a tenant")?;
                let addressed_to = addressed_to.split('.').next().unwrap_or_default().to_owned();
                books.rows.entry(token.to_owned()).or_default().push(Row {
                    tenant: number,
                    addressed_to,
                });
            }
            books.add_up(number, database, tenant).await?;
        }
        Ok(books)
    }

    /// Checks that each account has what the transfers of its tenant say, and that all together have
    /// what they began with.
    async fn add_up(&mut self, number: usize, database: Database<'_>, tenant: &TenantDb) -> Result<()> {
        let balances = database
            .pairs(tenant, "SELECT id, balance FROM accounts ORDER BY id")
            .await?;
        ensure!(balances.len() == ACCOUNTS as usize, "{} accounts", balances.len());
        let by_transfers = format!(
            "SELECT a.id, {OPENING_BALANCE} + COALESCE((SELECT SUM(amount) FROM transfers WHERE payee = a.id), 0) \
             - COALESCE((SELECT SUM(amount) FROM transfers WHERE payer = a.id), 0) FROM accounts a ORDER BY a.id"
        );
        let expected = database.pairs(tenant, &by_transfers).await?;
        for ((account, has), (_, should_have)) in balances.iter().zip(&expected) {
            if has != should_have {
                self.wrong_sums.push(format!(
                    "account {account} of t{number} has {has} and not {should_have}"
                ));
            }
        }
        let sum = balances
            .iter()
            .map(|(_, balance)| balance.parse::<i64>())
            .sum::<Result<i64, _>>()?;
        if sum != ACCOUNTS * OPENING_BALANCE {
            self.wrong_sums
                .push(format!("the accounts of t{number} hold {sum} together"));
        }
        Ok(())
    }

    pub(super) fn compare(&self, written: &AllWritten) -> Verdict {
        let mut verdict = Verdict::default();
        let mut lists: [(&str, Vec<String>); 6] = [
            ("lost although acknowledged", Vec::new()),
            ("done more than once", Vec::new()),
            ("in another tenant", written.foreign_rows.clone()),
            ("done although refused", Vec::new()),
            ("answered with neither", Vec::new()),
            ("wrong sums", self.wrong_sums.clone()),
        ];
        let mut known: HashMap<&str, usize> = HashMap::new();
        for write in &written.writes {
            known.insert(&write.token, write.tenant);
            let rows = self.rows.get(&write.token).map_or(&[][..], Vec::as_slice);
            let own = rows.iter().filter(|row| row.tenant == write.tenant).count();
            let told = format!("{} of t{} ({:?}, {own} rows)", write.token, write.tenant, write.outcome);
            verdict.requests += 1;
            match &write.outcome {
                Outcome::Acknowledged => verdict.acknowledged += 1,
                Outcome::Refused(status, code) => {
                    *verdict.refusals.entry(format!("{status} {code}")).or_default() += 1;
                }
                Outcome::Unknown => verdict.unknown += 1,
                Outcome::CutOff => verdict.cut_off += 1,
                Outcome::Unexpected(..) => lists[4].1.push(told.clone()),
            }
            match &write.outcome {
                Outcome::Acknowledged if own == 0 => lists[0].1.push(told),
                Outcome::Refused(..) if own > 0 => lists[3].1.push(told),
                _ if own > 1 => lists[1].1.push(told),
                _ => {}
            }
        }
        for (token, rows) in &self.rows {
            for row in rows {
                let own = known.get(token.as_str()).copied();
                if own != Some(row.tenant) || row.addressed_to != format!("t{}", row.tenant) {
                    let to = &row.addressed_to;
                    lists[2].1.push(format!("{token} of {to} in t{}", row.tenant));
                }
            }
        }
        verdict.lost = lists[0].1.len();
        verdict.doubled = lists[1].1.len();
        verdict.foreign = lists[2].1.len();
        for (what, found) in &lists {
            if !found.is_empty() {
                let some = &found[..found.len().min(LISTED)];
                verdict
                    .findings
                    .push(format!("{} {what}: {}", found.len(), some.join("; ")));
            }
        }
        verdict
    }
}

/// How many requests there were of each kind, and what should not be.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    requests: u64,
    pub(super) acknowledged: u64,
    /// By status and code.
    refusals: BTreeMap<String, u64>,
    unknown: u64,
    pub(super) cut_off: u64,
    lost: usize,
    doubled: usize,
    foreign: usize,
    /// Empty if the books are right.
    pub(super) findings: Vec<String>,
}

impl Verdict {
    /// Each sort of refusal and how many there were.
    pub(super) fn refusals(&self) -> String {
        let one = |(answer, count): (&String, &u64)| format!("{count} {answer}");
        self.refusals.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn table(&self, database: &str) -> String {
        format!(
            "{:<12}{:>10}{:>14}{:>9}{:>9}{:>9}{:>6}{:>9}{:>9}\n{database:<12}{:>10}{:>14}{:>9}{:>9}{:>9}{:>6}{:>9}{:>9}",
            "database",
            "requests",
            "acknowledged",
            "refused",
            "unknown",
            "cut off",
            "lost",
            "doubled",
            "foreign",
            self.requests,
            self.acknowledged,
            self.refusals.values().sum::<u64>(),
            self.unknown,
            self.cut_off,
            self.lost,
            self.doubled,
            self.foreign,
        )
    }
}
