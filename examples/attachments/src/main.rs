//! Attachments: files that a tenant keeps, with a bound of their size.

use std::{process::ExitCode, sync::Arc};

use poem_openapi::{
    ApiResponse, OpenApi,
    param::Path,
    payload::{Attachment, Binary},
};
use schemars::JsonSchema;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};
use serde::Deserialize;
use tenantry::{App, Failure, Problem, Tenant, core::ByteSize, openapi::ProblemCode};

/// Which files are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Files {
    /// The size of the largest file; `server.body_limit` must be at least as much.
    max_size: ByteSize,
}

/// A row of the table `files`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub content: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

#[derive(ApiResponse)]
enum Kept {
    /// The file is kept.
    #[oai(status = 204)]
    Kept,
}

struct Api {
    files: Arc<Files>,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Api {
    /// Keep a file
    ///
    /// The body is the file. One of the same name is replaced.
    #[oai(path = "/files/:name", method = "put", operation_id = "keepFile")]
    async fn keep(
        &self,
        tenant: Tenant,
        /// The file's name.
        #[oai(validator(max_length = 100, pattern = "^[A-Za-z0-9._-]+$"))]
        name: Path<String>,
        content: Binary<Vec<u8>>,
    ) -> Result<Kept, Failure> {
        let largest = self.files.max_size;
        if content.0.len() as u64 > largest.0 {
            let detail = format!("A file has at most {largest}.");
            return Err(Problem::new(ProblemCode::BodyTooLarge, detail).into());
        }
        let row = ActiveModel {
            name: Set(name.0),
            content: Set(content.0),
        };
        let replace = OnConflict::column(Column::Name)
            .update_column(Column::Content)
            .to_owned();
        Entity::insert(row)
            .on_conflict(replace)
            .exec_without_returning(&*tenant)
            .await?;
        Ok(Kept::Kept)
    }

    /// Get a file
    #[oai(path = "/files/:name", method = "get", operation_id = "getFile")]
    async fn get(&self, tenant: Tenant, name: Path<String>) -> Result<Attachment<Vec<u8>>, Failure<404>> {
        let row = Entity::find_by_id(name.0).one(&*tenant).await?;
        let row = row.ok_or_else(|| Problem::not_found("There is no such file."))?;
        Ok(Attachment::new(row.content).filename(row.name))
    }
}

fn app() -> App {
    App::new()
        .name("attachments")
        .version(env!("CARGO_PKG_VERSION"))
        .description("Keeps each tenant's files.")
        .without_users()
        .migrations([(
            "sqlite/0001_create_files.sql",
            include_str!("../migrations/sqlite/0001_create_files.sql"),
        )])
        .section::<Files>("files")
        .setup(|app, setup| async move {
            let files = setup.section::<Files>()?;
            Ok(app.api(Api { files }))
        })
}

fn main() -> ExitCode {
    app().main()
}

#[cfg(test)]
mod tests {
    use tenantry::testing::TestApp;

    const CONFIGURATION: &str = "
server: { body_limit: 4KiB }
files: { max_size: 2KiB }
";

    #[tokio::test]
    async fn a_file_comes_back_as_it_was_and_has_a_bound() {
        let server = TestApp::start_with(super::app(), ["acme", "globex"], CONFIGURATION).await;
        let (acme, globex) = (server.tenant("acme"), server.tenant("globex"));
        let picture: Vec<u8> = (0..=255).collect();
        for bytes in [vec![7; 2048], picture.clone()] {
            acme.put_bytes("/api/v1/files/picture.png", "image/png", bytes)
                .await
                .expect(204);
        }
        let answer = acme.get("/api/v1/files/picture.png").await.expect(200);
        assert_eq!(answer.body, picture);
        assert_eq!(
            answer.headers["content-disposition"],
            "attachment; filename=\"picture.png\""
        );
        globex.get("/api/v1/files/picture.png").await.expect(404);

        // The first is too large for the operation, the second for the server.
        for size in [2049, 4097] {
            let large = vec![0; size];
            let refused = acme
                .put_bytes("/api/v1/files/large", "image/png", large)
                .await
                .expect(413);
            assert_eq!(refused.json()["code"], "body_too_large");
        }
        acme.get("/api/v1/files/large").await.expect(404);
        server.stop().await;
    }
}
