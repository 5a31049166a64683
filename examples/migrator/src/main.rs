//! Cakes: their tables come from a migrator of `sea-orm-migration`.

mod migrations;
#[cfg(test)]
mod tests;

use std::{process::ExitCode, time::Duration};

use migrations::{Migrator, cake};
use poem_openapi::{OpenApi, payload::Json};
use sea_orm_migration::{MigratorTrait as _, sea_orm::EntityTrait as _};
use tenantry::{
    App, Failure, Tenant,
    core::{BoxError, engine::TenantDatabase},
    jobs::Schedule,
};

struct Cakes;

#[OpenApi(prefix_path = "/api/v1")]
impl Cakes {
    /// List cakes
    #[oai(path = "/cakes", method = "get", operation_id = "listCakes")]
    async fn list(&self, tenant: Tenant) -> Result<Json<Vec<String>>, Failure> {
        let cakes = cake::Entity::find().all(&*tenant).await?;
        Ok(Json(cakes.into_iter().map(|cake| cake.name).collect()))
    }
}

async fn migrate(database: TenantDatabase) -> Result<(), BoxError> {
    database
        .with_sea_orm(async |connection| Migrator::up(&connection, None).await)
        .await?;
    Ok(())
}

const EVERY_MINUTE: Schedule = Schedule::every(Duration::from_secs(60));

fn app() -> App {
    App::new()
        .name("cakes")
        .without_users()
        .api(Cakes)
        .each_tenant("sea-orm-migrations", EVERY_MINUTE, migrate)
}

fn main() -> ExitCode {
    app().main()
}
