//! Invoicing: customers and invoices of each tenant, in a database of its own.

mod api;
mod api_key;
mod entities;
mod overdue;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Deserialize;
use tenantry::{App, jobs::Schedule};

/// How invoices are made.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// What amounts are in, such as `EUR`.
    #[schemars(length(equal = 3))]
    currency: String,
    /// How many days after it was made an invoice is due.
    #[serde(default = "two_weeks")]
    #[schemars(range(min = 0, max = 365))]
    due_after_days: u16,
}

fn two_weeks() -> u16 {
    14
}

/// The files that make a tenant's database, inside the program.
const MIGRATIONS: [(&str, &str); 2] = [
    (
        "sqlite/0001_create_invoices.sql",
        include_str!("../migrations/sqlite/0001_create_invoices.sql"),
    ),
    (
        "postgresql/0001_create_invoices.sql",
        include_str!("../migrations/postgresql/0001_create_invoices.sql"),
    ),
];

fn app(overdue: Schedule) -> App {
    App::new()
        .name("invoicing")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Customers and invoices of each tenant.")
        .without_users()
        .migrations(MIGRATIONS)
        .plugins(|registry| {
            registry.resolver::<api_key::ApiKey>();
        })
        .section::<Billing>("billing")
        .setup(|app, setup| async move {
            let billing = setup.section::<Billing>()?;
            let made = setup.meter().u64_counter("invoices.made").build();
            Ok(app.api(api::Invoicing { billing, made }))
        })
        .each_tenant("overdue", overdue, overdue::mark)
}

fn main() -> ExitCode {
    app(Schedule::daily(2, 30)).main()
}
