//! The table `users`, as every tenant's database has it.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// The user's number, given by the database, from 1.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The name.
    pub name: String,
    /// The email address, as it was given; unique in the tenant whatever its case.
    pub email: String,
    /// When the row was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
}

/// `users` refers to no other table.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
