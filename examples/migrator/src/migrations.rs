//! The migrator, and the entity of its table.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::Set};

/// The migrations in their order.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateCakes), Box::new(SeedCakes)]
    }
}

pub(crate) mod cake {
    use sea_orm_migration::sea_orm::{self, entity::prelude::*};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cakes")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) struct CreateCakes;

impl MigrationName for CreateCakes {
    fn name(&self) -> &str {
        "m20260101_000001_create_cakes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateCakes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(cake::Entity)
            .col(pk_auto(cake::Column::Id))
            .col(string_len(cake::Column::Name, 100))
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("cakes_name")
            .table(cake::Entity)
            .col(cake::Column::Name)
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(cake::Entity).to_owned()).await
    }
}

pub(crate) struct SeedCakes;

impl MigrationName for SeedCakes {
    fn name(&self) -> &str {
        "m20260101_000002_seed_cakes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SeedCakes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use sea_orm_migration::sea_orm::{ActiveModelTrait as _, ActiveValue::NotSet};
        let cake = cake::ActiveModel {
            id: NotSet,
            name: Set("Cheesecake".to_owned()),
        };
        cake.insert(manager.get_connection()).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use sea_orm_migration::sea_orm::EntityTrait as _;
        let all = cake::Entity::delete_many();
        all.exec(manager.get_connection()).await.map(drop)
    }
}
