//! A note, and what clients may do with it.

use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use sea_orm::{ActiveValue::Set, entity::prelude::*};
use tenantry::{Failure, Tenant};

/// A row of the table `notes`, and what clients see of it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Object)]
#[sea_orm(table_name = "notes")]
#[oai(rename = "Note")]
pub struct Model {
    /// The note's number.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// What it says.
    pub text: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A note as clients write it.
#[derive(Object)]
struct NoteInput {
    /// What it says.
    #[oai(validator(min_length = 1, max_length = 200))]
    text: String,
}

#[derive(ApiResponse)]
enum Created {
    /// The note, as it was kept.
    #[oai(status = 201)]
    Created(Json<Model>),
}

pub struct Notes;

#[OpenApi(prefix_path = "/api/v1")]
impl Notes {
    /// List notes
    #[oai(path = "/notes", method = "get", operation_id = "listNotes")]
    async fn list(&self, tenant: Tenant) -> Result<Json<Vec<Model>>, Failure> {
        Ok(Json(Entity::find().order_by_id_asc().all(&*tenant).await?))
    }

    /// Write a note
    #[oai(path = "/notes", method = "post", operation_id = "writeNote")]
    async fn write(&self, tenant: Tenant, note: Json<NoteInput>) -> Result<Created, Failure> {
        let row = ActiveModel {
            text: Set(note.0.text),
            ..Default::default()
        };
        Ok(Created::Created(Json(row.insert(&*tenant).await?)))
    }
}
