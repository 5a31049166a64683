//! The API.

use std::{io, sync::Arc};

use async_stream::try_stream;
use chrono::{Days, NaiveDate, Utc};
use futures_util::TryStreamExt as _;
use poem::Body;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::{Binary, Json},
};
use sea_orm::{ActiveValue::Set, QueryOrder, QuerySelect, entity::prelude::*, sea_query::Expr};
use tenantry::{Failure, Problem, Tenant, log_field, opentelemetry::metrics::Counter};

use crate::{
    Billing,
    entities::{customer, invoice},
};

/// A customer as clients write it.
#[derive(Object)]
struct CustomerInput {
    /// The customer's name; no two have the same.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
}

/// A customer.
#[derive(Object)]
struct Customer {
    /// The customer's number.
    id: i64,
    /// The customer's name.
    name: String,
}

/// An invoice as clients write it.
#[derive(Object)]
struct InvoiceInput {
    /// The customer's number.
    customer_id: i64,
    /// In the currency's smallest unit, such as cents.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000000")))]
    amount: i64,
    /// When it is due; by default as the configuration says.
    due: Option<NaiveDate>,
}

/// An invoice.
#[derive(Object)]
struct Invoice {
    /// The invoice's number.
    id: i64,
    /// The customer's number.
    customer_id: i64,
    /// In the currency's smallest unit.
    amount: i64,
    /// What the amount is in.
    currency: String,
    /// When it is due.
    due: NaiveDate,
    /// `open`, `paid` or `overdue`.
    state: String,
}

#[derive(ApiResponse)]
enum CustomerCreated {
    /// The customer.
    #[oai(status = 201)]
    Created(Json<Customer>),
}

#[derive(ApiResponse)]
enum InvoiceCreated {
    /// The invoice.
    #[oai(status = 201)]
    Created(Json<Invoice>),
}

pub struct Invoicing {
    pub billing: Arc<Billing>,
    pub made: Counter<u64>,
}

impl Invoicing {
    fn shown(&self, row: invoice::Model) -> Invoice {
        Invoice {
            id: row.id,
            customer_id: row.customer_id,
            amount: row.amount,
            currency: self.billing.currency.clone(),
            due: row.due,
            state: row.state,
        }
    }
}

fn no_such_invoice() -> Problem {
    Problem::not_found("There is no such invoice.")
}

#[OpenApi(prefix_path = "/api/v1")]
impl Invoicing {
    /// Add a customer
    #[oai(path = "/customers", method = "post", operation_id = "addCustomer")]
    async fn add_customer(&self, tenant: Tenant, input: Json<CustomerInput>) -> Result<CustomerCreated, Failure<409>> {
        let row = customer::ActiveModel {
            name: Set(input.0.name),
            ..Default::default()
        };
        // A name that is taken is answered 409 by itself.
        let row = row.insert(&*tenant).await?;
        Ok(CustomerCreated::Created(Json(Customer {
            id: row.id,
            name: row.name,
        })))
    }

    /// Make an invoice
    #[oai(path = "/invoices", method = "post", operation_id = "makeInvoice")]
    async fn make(&self, tenant: Tenant, input: Json<InvoiceInput>) -> Result<InvoiceCreated, Failure<404>> {
        let known = customer::Entity::find_by_id(input.0.customer_id)
            .count(&*tenant)
            .await?;
        if known == 0 {
            return Err(Problem::not_found("There is no such customer.").into());
        }
        let today = Utc::now().date_naive();
        let by_default = today + Days::new(self.billing.due_after_days.into());
        let row = invoice::ActiveModel {
            customer_id: Set(input.0.customer_id),
            amount: Set(input.0.amount),
            due: Set(input.0.due.unwrap_or(by_default)),
            state: Set("open".to_owned()),
            ..Default::default()
        };
        let row = row.insert(&*tenant).await?;
        self.made.add(1, &[]);
        log_field("invoice", row.id);
        Ok(InvoiceCreated::Created(Json(self.shown(row))))
    }

    /// List invoices
    #[oai(path = "/invoices", method = "get", operation_id = "listInvoices")]
    async fn list(
        &self,
        tenant: Tenant,
        /// Only those with a higher number: the last one of the page before.
        after: Query<Option<i64>>,
    ) -> Result<Json<Vec<Invoice>>, Failure> {
        let page = invoice::Entity::find()
            .filter(invoice::Column::Id.gt(after.0.unwrap_or_default()))
            .order_by_asc(invoice::Column::Id)
            .limit(100);
        let rows = page.all(&*tenant).await?;
        Ok(Json(rows.into_iter().map(|row| self.shown(row)).collect()))
    }

    /// Get an invoice
    #[oai(path = "/invoices/:id", method = "get", operation_id = "getInvoice")]
    async fn get(&self, tenant: Tenant, id: Path<i64>) -> Result<Json<Invoice>, Failure<404>> {
        let row = invoice::Entity::find_by_id(id.0).one(&*tenant).await?;
        Ok(Json(self.shown(row.ok_or_else(no_such_invoice)?)))
    }

    /// Note that an invoice is paid
    #[oai(path = "/invoices/:id/payment", method = "put", operation_id = "payInvoice")]
    async fn pay(&self, tenant: Tenant, id: Path<i64>) -> Result<Json<Invoice>, Failure<404>> {
        let paid = invoice::Entity::update_many()
            .col_expr(invoice::Column::State, Expr::value("paid"))
            .filter(invoice::Column::Id.eq(id.0))
            .exec(&*tenant)
            .await?;
        if paid.rows_affected == 0 {
            return Err(no_such_invoice().into());
        }
        self.get(tenant, id).await
    }

    /// Export invoices
    ///
    /// All invoices as CSV. They are sent as they are read, however many there are.
    #[oai(path = "/invoices.csv", method = "get", operation_id = "exportInvoices")]
    async fn export(&self, tenant: Tenant) -> Binary<Body> {
        let lines = try_stream! {
            yield "id,customer,amount,due,state\n".to_owned();
            let query = invoice::Entity::find().order_by_asc(invoice::Column::Id);
            let mut rows = query.stream(&*tenant).await.map_err(io::Error::other)?;
            while let Some(row) = rows.try_next().await.map_err(io::Error::other)? {
                yield format!("{},{},{},{},{}\n", row.id, row.customer_id, row.amount, row.due, row.state);
            }
        };
        // A database error in the middle cuts the answer off, so that it does not look whole.
        Binary(Body::from_bytes_stream::<_, String, io::Error>(lines))
    }
}
