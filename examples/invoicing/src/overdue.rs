//! The nightly job: what is past its day is overdue.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use tenantry::core::{BoxError, engine::TenantDatabase};

use crate::entities::invoice;

pub async fn mark(database: TenantDatabase) -> Result<(), BoxError> {
    let today = chrono::Utc::now().date_naive();
    let marked = invoice::Entity::update_many()
        .col_expr(invoice::Column::State, Expr::value("overdue"))
        .filter(invoice::Column::State.eq("open"))
        .filter(invoice::Column::Due.lt(today))
        .exec(&database)
        .await?;
    tracing::info!(tenant_id = %database.tenant(), invoices = marked.rows_affected, "invoices are overdue");
    Ok(())
}
