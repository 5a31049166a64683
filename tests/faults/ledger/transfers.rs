//! The server of the transfers: the program's APIs, and one operation that is a transaction of
//! several statements.

use std::time::Duration;

use poem_openapi::{Object, OpenApi, payload::Json};
use sea_orm::{
    ConnectionTrait, ExprTrait, TransactionTrait,
    sea_query::{Expr, Query},
};
use tenantry::{App, Failure, Problem, Tenant, config::Logging};
use tokio::signal::unix::{SignalKind, signal};

/// The test below that is the server.
pub(super) const SERVER: &str = "ledger::transfers::serve";

/// An amount that goes from one account of a tenant to another.
#[derive(Debug, Object)]
struct Transfer {
    /// What no other transfer has.
    token: String,
    /// The account that pays.
    payer: i64,
    /// The account that receives.
    payee: i64,
    /// How much.
    amount: i64,
}

struct Transfers;

#[OpenApi]
impl Transfers {
    /// Transfer an amount
    #[oai(path = "/api/v1/tenant/transfers", method = "post", operation_id = "transfer")]
    async fn transfer(&self, tenant: Tenant, transfer: Json<Transfer>) -> Result<Json<bool>, Failure> {
        let Json(transfer) = transfer;
        let transaction = tenant.begin().await?;
        let mut changes = [(transfer.payer, -transfer.amount), (transfer.payee, transfer.amount)];
        // Always in the same order, so that two transfers never wait for each other.
        changes.sort_unstable();
        for (account, change) in changes {
            let update = Query::update()
                .table("accounts")
                .value("balance", Expr::col("balance").add(change))
                .and_where(Expr::col("id").eq(account))
                .to_owned();
            if transaction.execute(&update).await?.rows_affected() != 1 {
                return Err(Problem::internal().into());
            }
            // Time for something to go wrong between two statements.
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
        }
        let entry = transaction.begin().await?;
        let insert = Query::insert()
            .into_table("transfers")
            .columns(["token", "payer", "payee", "amount"])
            .values_panic([
                transfer.token.into(),
                transfer.payer.into(),
                transfer.payee.into(),
                transfer.amount.into(),
            ])
            .to_owned();
        entry.execute(&insert).await?;
        entry.commit().await?;
        transaction.commit().await?;
        Ok(Json(true))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the server that the ledger starts"]
async fn serve() {
    let Some(file) = std::env::var_os("TENANTRY_CONFIG") else {
        return;
    };
    let logging: Logging = serde_json::from_value(serde_json::json!({"level": "info", "format": "json"})).unwrap();
    tenantry::start_logging(&logging).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let server = App::new().api(Transfers).start(file).await.unwrap();
    terminated.recv().await;
    server.stop().await.unwrap();
}
