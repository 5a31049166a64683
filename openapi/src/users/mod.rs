//! The users of a tenant.

mod cursor;
pub mod entity;
mod user_input;

use chrono::{DateTime, SubsecRound, Utc};
use poem::Request;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    registry::MetaSchema,
    types::Example,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde::Serialize;
use serde_json::Value;
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use crate::{
    Failure, Fault, Json, Nullable, Problem, Tenant, Timestamp,
    input::{Body, Faults, Parameter, Parsed},
    tags::ApiTags,
    tenant::target_of,
};
use cursor::Cursor;
use entity::{ActiveModel, Column, Entity, Model};
use user_input::UserInput;

/// A user.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct User {
    /// The number the database gave it.
    #[oai(validator(minimum(value = "1")))]
    id: i64,
    /// The name.
    name: String,
    /// The email address, as it was written; no two users of a tenant have the same, whatever its
    /// case.
    email: String,
    /// When the user was made.
    created_at: Timestamp,
    /// When the user was last changed.
    updated_at: Timestamp,
}

impl From<Model> for User {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            email: row.email,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
        }
    }
}

impl Example for User {
    fn example() -> Self {
        let time = Timestamp(chrono::DateTime::from_timestamp(1_767_323_045, 0).unwrap_or_default());
        Self {
            id: 1,
            name: "John Doe".to_owned(),
            email: "john@tenant1.com".to_owned(),
            created_at: time,
            updated_at: time,
        }
    }
}

/// One page of users, by their numbers.
#[derive(Debug, Object, Serialize)]
#[oai(example)]
pub(crate) struct UserPage {
    /// The users.
    items: Vec<User>,
    /// The value of `after` for the next page; null on the last page.
    next: Nullable<String>,
}

impl Example for UserPage {
    fn example() -> Self {
        Self {
            items: vec![User::example()],
            next: Some(Cursor { after: 1 }.to_text()).into(),
        }
    }
}

#[derive(ApiResponse)]
enum CreatedUser {
    /// The user that was made.
    #[oai(status = 201)]
    Created(
        Json<User>,
        /// The URL of the user.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum DeletedUser {
    /// The user is gone.
    #[oai(status = 204)]
    Deleted,
}

/// The most users on a page.
#[derive(Debug, Clone, Copy)]
struct Limit(u64);

impl Limit {
    const MAX: u64 = 200;
}

fn default_limit() -> Parsed<Limit> {
    Limit(50).into()
}

impl Parameter for Limit {
    const NAME: &'static str = "limit";

    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(Self::MAX as f64),
            example: Some(50.into()),
            ..MetaSchema::new_with_format("integer", "int32")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(limit @ 1..=Self::MAX) => Ok(Self(limit)),
            _ => Err(format!("is not a whole number from 1 to {}", Self::MAX)),
        }
    }

    fn to_value(&self) -> Value {
        self.0.into()
    }
}

/// A user's number.
#[derive(Debug, Clone, Copy)]
struct UserId(i64);

impl Parameter for UserId {
    const NAME: &'static str = "user_id";

    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            example: Some(1.into()),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id @ 1..) => Ok(Self(id)),
            _ => Err("is not a whole number from 1 to 9223372036854775807".to_owned()),
        }
    }

    fn to_value(&self) -> Value {
        self.0.into()
    }
}

/// The operations on a tenant's users.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsersApi;

#[OpenApi(prefix_path = "/api/v1/tenant", tag = "ApiTags::Users")]
impl UsersApi {
    /// List the users
    ///
    /// A page of the tenant's users, by their numbers.
    #[oai(path = "/users", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        tenant: Tenant,
        /// The most users on the page.
        #[oai(default = "default_limit")]
        limit: Query<Parsed<Limit>>,
        /// `next` of the page before; none for the first.
        after: Query<Option<Parsed<Cursor>>>,
    ) -> Result<Json<UserPage>, Failure> {
        let mut faults = Faults::default();
        let (limit, after) = (faults.parameter("limit", limit.0), faults.optional("after", after.0));
        let (Some(Limit(limit)), Some(after)) = (limit, after) else {
            return Err(faults.into());
        };
        let mut rows = Entity::find()
            .apply_if(after, |query, cursor| query.filter(Column::Id.gt(cursor.after)))
            .order_by_asc(Column::Id)
            .limit(limit + 1)
            .all(&*tenant)
            .await
            .map_err(failed)?;
        // One row more than the page has: others follow.
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| Cursor { after: row.id }.to_text()).into();
        let items = rows.into_iter().map(User::from).collect();
        Ok(Json(UserPage { items, next }))
    }

    /// Create a user
    #[oai(path = "/users", method = "post", operation_id = "createUser")]
    async fn create(
        &self,
        tenant: Tenant,
        request: &Request,
        body: Body<UserInput>,
    ) -> Result<CreatedUser, Failure<409>> {
        let mut faults = Faults::default();
        let Some(input) = faults.body(body) else {
            return Err(faults.into());
        };
        let now = now();
        let row = ActiveModel {
            name: Set(input.name.clone()),
            email: Set(input.email.clone()),
            created_at: Set(now),
            updated_at: Set(now),
            ..Default::default()
        };
        let inserted = Entity::insert(row).exec(&*tenant).await.map_err(value_taken)?;
        // All but the id is known here, so MySQL, which returns no rows, is not asked for them.
        let user = User {
            id: inserted.last_insert_id,
            name: input.name,
            email: input.email,
            created_at: Timestamp(now),
            updated_at: Timestamp(now),
        };
        // As the client called it, so that it holds under a path prefix too. The only parameter
        // that is let through is one that names the tenant.
        let target = target_of(request);
        let collection = target.path().trim_end_matches('/');
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{collection}/{}{query}", user.id);
        Ok(CreatedUser::Created(Json(user), location))
    }

    /// Get a user
    #[oai(path = "/users/:id", method = "get", operation_id = "getUser")]
    async fn get(
        &self,
        tenant: Tenant,
        /// The user's number.
        id: Path<Parsed<UserId>>,
    ) -> Result<Json<User>, Failure<404>> {
        let mut faults = Faults::default();
        let Some(UserId(id)) = faults.parameter("id", id.0) else {
            return Err(faults.into());
        };
        let row = Entity::find_by_id(id).one(&*tenant).await.map_err(failed)?;
        Ok(Json(row.ok_or_else(|| no_such_user(id))?.into()))
    }

    /// Replace a user
    #[oai(path = "/users/:id", method = "put", operation_id = "updateUser")]
    async fn update(
        &self,
        tenant: Tenant,
        /// The user's number.
        id: Path<Parsed<UserId>>,
        body: Body<UserInput>,
    ) -> Result<Json<User>, Failure<404, 409>> {
        let mut faults = Faults::default();
        let (Some(UserId(id)), Some(input)) = (faults.parameter("id", id.0), faults.body(body)) else {
            return Err(faults.into());
        };
        let changes = ActiveModel {
            id: Unchanged(id),
            name: Set(input.name),
            email: Set(input.email),
            updated_at: Set(now()),
            ..Default::default()
        };
        match changes.update(&*tenant).await {
            Ok(row) => Ok(Json(row.into())),
            // The second one if the user is deleted before MySQL, which returns no rows, is asked
            // for the row.
            Err(DbErr::RecordNotUpdated | DbErr::RecordNotFound(_)) => Err(no_such_user(id).into()),
            Err(error) => Err(value_taken(error).into()),
        }
    }

    /// Delete a user
    #[oai(path = "/users/:id", method = "delete", operation_id = "deleteUser")]
    async fn delete(
        &self,
        tenant: Tenant,
        /// The user's number.
        id: Path<Parsed<UserId>>,
    ) -> Result<DeletedUser, Failure<404>> {
        let mut faults = Faults::default();
        let Some(UserId(id)) = faults.parameter("id", id.0) else {
            return Err(faults.into());
        };
        let deleted = Entity::delete_by_id(id).exec(&*tenant).await.map_err(failed)?;
        if deleted.rows_affected == 0 {
            return Err(no_such_user(id).into());
        }
        Ok(DeletedUser::Deleted)
    }
}

/// Now, to the microsecond, as every database stores it: the answer to a write has the times that
/// later reads have.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The problem for an error of a statement on the users.
pub(crate) fn failed(error: DbErr) -> Problem {
    Problem::of_table("users", error)
}

fn no_such_user(id: i64) -> Problem {
    Problem::not_found(format!("The tenant has no user {id}."))
}

/// A violated unique value is a conflict of the column that its constraint is for. Another
/// constraint than the two that the migrations make is one of the tenant's own.
fn value_taken(error: DbErr) -> Problem {
    if DatabaseErrorKind::of(&error) != DatabaseErrorKind::UniqueViolation {
        return failed(error);
    }
    let constraint = DatabaseError::constraint_of(&error).unwrap_or_default().to_lowercase();
    match constraint.as_str() {
        "users_email_key" | "users.email" | "email" => {
            Problem::conflict("Another user of the tenant has this email address.")
                .with_faults(vec![Fault::pointer("/email", "is taken")])
        }
        "users_pkey" | "primary" | "users.id" => {
            tracing::error!("the database gave a new user an id that is taken: its sequence lags behind the table");
            Problem::conflict(
                "The database gave the new user an id that another user has; an operator must correct its sequence.",
            )
            .with_faults(vec![Fault::pointer("/id", "is taken")])
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_value_is_the_constraint_s_column() {
        let pointer = |name: Option<&str>| {
            let mut error = DatabaseError::new(DatabaseErrorKind::UniqueViolation);
            if let Some(name) = name {
                error = error.with_constraint(name);
            }
            let problem = value_taken(error.into_db_err());
            assert_eq!(problem.code(), crate::ProblemCode::Conflict);
            problem.faults().first().and_then(|fault| fault.pointer.clone())
        };
        for email in ["users_email_key", "USERS_EMAIL_KEY", "users.email", "email"] {
            assert_eq!(pointer(Some(email)).as_deref(), Some("/email"), "{email}");
        }
        for id in ["users_pkey", "PRIMARY", "users.id"] {
            assert_eq!(pointer(Some(id)).as_deref(), Some("/id"), "{id}");
        }
        for own in ["SYS_C0012345", "users_name_without_email", "users.name, users.email"] {
            assert_eq!(pointer(Some(own)), None, "{own}");
        }
        assert_eq!(pointer(None), None);
    }
}
