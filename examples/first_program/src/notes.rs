//! A note, and what clients may do with it.

use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use sea_orm::{ActiveValue::Set, entity::prelude::*};
use tenantry::{Failure, Tenant};

/// A row of the table `notes`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notes")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub text: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A note as clients see it.
#[derive(Object)]
struct Note {
    /// The note's number.
    id: i64,
    /// What it says.
    text: String,
}

impl From<Model> for Note {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            text: row.text,
        }
    }
}

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
    Created(Json<Note>),
}

pub struct Notes;

#[OpenApi(prefix_path = "/api/v1")]
impl Notes {
    /// List notes
    #[oai(path = "/notes", method = "get", operation_id = "listNotes")]
    async fn list(&self, tenant: Tenant) -> Result<Json<Vec<Note>>, Failure> {
        let rows = Entity::find().order_by_id_asc().all(&*tenant).await?;
        Ok(Json(rows.into_iter().map(Note::from).collect()))
    }

    /// Write a note
    #[oai(path = "/notes", method = "post", operation_id = "writeNote")]
    async fn write(&self, tenant: Tenant, note: Json<NoteInput>) -> Result<Created, Failure> {
        let row = ActiveModel {
            text: Set(note.0.text),
            ..Default::default()
        };
        let row = row.insert(&*tenant).await?;
        Ok(Created::Created(Json(row.into())))
    }
}
