//! Requests and answers.

mod differences;
mod reads;
mod upserts;
mod writes;

use std::{collections::BTreeSet, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};
use serde_json::{Map, Value};
use tenantry_core::{
    BoxError, Connection, DatabaseErrorKind, TenantId,
    engine::{SchemaVersion, TenantDatabase},
};

use crate::{
    caller::{ANONYMOUS, Caller},
    catalogue::Facts,
    declaration::Tables,
    model::{Model, Table},
    plan::{
        needs::{Missing, Needs},
        planner::Planner,
    },
    refusal::{Failure, Refusal},
    request::{
        head::{Accepted, Preferences, check_profile},
        query::{Query, query, reserved},
    },
    run::{drifted, failure, has_other_type, lacks_something},
    schemas::Schemas,
    sql::Dialect,
};

/// Declared tables, ready to be served.
#[derive(Debug)]
pub struct Rest {
    pub(crate) model: Model,
    pub(crate) settings: Settings,
    schemas: Schemas,
}

/// What holds for every table.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most rows of one answer.
    pub max_rows: u64,
    /// The claim of a token that names the role; dots go deeper.
    pub role_claim: String,
    /// Query parameters that belong to something else, such as the resolver.
    pub other_parameters: Vec<String>,
}

/// A request for one table.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The table's name in the URL.
    pub table: &'a str,
    /// The path as the client wrote it.
    pub path: &'a str,
    /// The query as the client wrote it.
    pub query: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// The claims of its token, which was verified.
    pub claims: Option<&'a Map<String, Value>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// More rows than this for each row of an answer are not embedded, of one relation.
const EMBEDDED_FOR_EACH: u64 = 50;

/// A change is tried again at most so often after its transaction lost its connection: it may be
/// what breaks the connections.
const LOST_AGAIN: usize = 2;

/// A request that collides with others, and had no effect, is tried at most so often. Of several
/// that meet, the database lets one through each time.
const MOST_ATTEMPTS: usize = 20;

impl Rest {
    /// Compiles a declaration that was [checked](crate::TableDeclaration::check_all).
    pub fn new(tables: &Tables, settings: Settings) -> Self {
        Self {
            model: Model::new(tables),
            settings,
            schemas: Schemas::default(),
        }
    }

    /// The names of the tables in URLs.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.model.tables.iter().map(|table| table.name.as_str())
    }

    /// The roles that only a token gives: all but `anon`.
    pub fn roles_of_tokens(&self) -> BTreeSet<&str> {
        let roles = self.model.tables.iter().flat_map(|table| table.roles.keys());
        roles.map(String::as_str).filter(|role| *role != ANONYMOUS).collect()
    }

    /// Whether the dialect itself has a query parameter of this name, such as `select`.
    pub fn has_parameter(&self, name: &str) -> bool {
        reserved(name)
    }

    /// Answers a request on its tenant's database.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn answer(&self, database: &TenantDatabase, ask: Ask<'_>) -> Result<Answer, Failure> {
        let answered = self.answer_compared(database, ask).await;
        answered.map_err(|failure| failure.with_challenge(ask.claims.is_some()))
    }

    async fn answer_compared(&self, database: &TenantDatabase, ask: Ask<'_>) -> Result<Answer, Failure> {
        if self.schemas.is_outdated(database)
            && self.schemas.may_look_again(database.tenant())
            && let Err(Failure::Database(error)) = self.compare(database).await
        {
            let kind = DatabaseErrorKind::of(&error);
            if kind.is_lost() {
                return Err(Failure::Database(error));
            }
            // What is missing is found out by the requests that need it.
            tracing::debug!(tenant_id = %database.tenant(), ?kind, "the tenant's catalogue cannot be read");
        }
        let was_known = self.schemas.facts(database.tenant()).is_some();
        let mut answered = self.answer_once(database, ask).await;
        if !was_known && may_differ(&answered, ask.method) && self.schemas.facts(database.tenant()).is_some() {
            // Its pool was opened by this very request, and how it differs is known since then.
            answered = self.answer_once(database, ask).await;
        }
        let lacks = match &answered {
            Err(Failure::Behind { .. }) => true,
            Err(Failure::Database(error)) => lacks_something(error) || has_other_type(error),
            _ => false,
        };
        if lacks && self.schemas.may_look_again(database.tenant()) {
            // It may have been migrated since, or its schema changed otherwise.
            self.compare(database).await?;
            answered = self.answer_once(database, ask).await;
        }
        answered.map_err(|failure| drifted(behind(failure)))
    }

    async fn answer_once(&self, database: &TenantDatabase, ask: Ask<'_>) -> Result<Answer, Failure> {
        let (mut attempts, mut lost) = (1, 0);
        loop {
            match self.attempt(database, ask).await {
                Err(Failure::Database(error)) if is_undone(&error, ask.method) && lost < LOST_AGAIN => lost += 1,
                Err(failure) if collided(&failure) && attempts < MOST_ATTEMPTS => attempts += 1,
                Err(Failure::Database(error)) if is_collision(&error) => return Err(failure(error)),
                answered => return answered,
            }
        }
    }

    async fn attempt(&self, database: &TenantDatabase, ask: Ask<'_>) -> Result<Answer, Failure> {
        let request = self.request(database, ask)?;
        match *ask.method {
            Method::GET | Method::HEAD => request.read().await,
            Method::POST => request.create().await,
            Method::PATCH => request.update().await,
            Method::PUT => request.replace().await,
            Method::DELETE => request.delete().await,
            _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST117", "Unsupported HTTP method").into()),
        }
    }

    /// Compares a tenant's catalogue with the declaration, on a connection that was just opened.
    /// `version` is that of its schema, if it is known.
    ///
    /// # Errors
    /// The catalogue cannot be read. What is missing is reported then by the statements that need
    /// it.
    pub async fn compare_on(
        &self,
        tenant: &TenantId,
        driver: &str,
        backend: DbBackend,
        version: Option<&SchemaVersion>,
        connection: &mut dyn Connection,
    ) -> Result<(), BoxError> {
        let dialect = Dialect::of(driver, backend);
        let rows = connection
            .query(&Schemas::reader(&self.model, dialect).columns())
            .await?;
        self.schemas.set(tenant, &self.model, dialect, version, &rows)?;
        Ok(())
    }

    async fn compare(&self, database: &TenantDatabase) -> Result<(), Failure> {
        let dialect = Dialect::of(database.driver(), database.get_database_backend());
        let statement = Schemas::reader(&self.model, dialect).columns();
        let rows = database.query_all_raw(statement).await.map_err(Failure::Database)?;
        let version = database.schema_version();
        let set = self
            .schemas
            .set(database.tenant(), &self.model, dialect, version.as_ref(), &rows);
        set.map_err(Failure::Database)
    }

    fn request<'r>(&'r self, database: &'r TenantDatabase, ask: Ask<'r>) -> Result<Request<'r>, Refusal> {
        let Some(table) = self.model.table(ask.table) else {
            let nearest = tenantry_core::nearest(ask.table, self.table_names());
            return Err(Refusal::no_table(ask.table, nearest));
        };
        let is_read = matches!(*ask.method, Method::GET | Method::HEAD);
        check_profile(ask.headers, is_read)?;
        let dialect = Dialect::of(database.driver(), database.get_database_backend());
        Ok(Request {
            rest: self,
            table,
            database,
            dialect,
            caller: Caller::new(
                database.tenant().as_str(),
                ask.claims,
                &self.settings.role_claim,
                dialect,
            ),
            accepted: Accepted::read(ask.headers)?,
            preferences: Preferences::read(ask.headers, is_read)?,
            query: query(ask.query, &self.settings.other_parameters)?,
            facts: self.schemas.facts(database.tenant()),
            ask,
        })
    }

    pub(crate) fn most_embedded(&self) -> u64 {
        self.settings.max_rows.saturating_mul(EMBEDDED_FOR_EACH)
    }
}

/// A request that was read.
struct Request<'r> {
    rest: &'r Rest,
    table: &'r Table,
    database: &'r TenantDatabase,
    dialect: Dialect,
    caller: Caller<'r>,
    accepted: Accepted,
    preferences: Preferences,
    query: Query,
    facts: Option<Arc<Facts>>,
    ask: Ask<'r>,
}

/// Whether the database undid the request's transaction because of another one.
fn collided(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => refusal.code == "40001",
        Failure::Database(error) => is_collision(error),
        Failure::Beyond { .. } | Failure::Behind { .. } => false,
    }
}

fn is_collision(error: &DbErr) -> bool {
    DatabaseErrorKind::of(error) == DatabaseErrorKind::Serialization
}

/// Whether a change was undone because its connection was lost before the commit. A change that may
/// have taken effect is another error. Reads are repeated by the code that runs them.
fn is_undone(error: &DbErr, method: &Method) -> bool {
    DatabaseErrorKind::of(error).is_lost() && !matches!(*method, Method::GET | Method::HEAD)
}

/// Whether the answer may be another one once it is known how the tenant's schema differs. A change
/// that was made is not made again.
fn may_differ(answered: &Result<Answer, Failure>, method: &Method) -> bool {
    match answered {
        Err(Failure::Database(error)) => is_refused(error),
        // PostgreSQL returns no system columns of rows in partitions.
        Err(Failure::Refused(refusal)) if refusal.code == "0A000" => true,
        _ => matches!(*method, Method::GET | Method::HEAD),
    }
}

/// Whether the database refused a statement, which has had no effect then.
fn is_refused(error: &DbErr) -> bool {
    let kind = DatabaseErrorKind::of(error);
    matches!(kind, DatabaseErrorKind::Other | DatabaseErrorKind::TableMissing) || has_other_type(error)
}

fn behind(failure: Failure) -> Failure {
    match failure {
        Failure::Database(error) if lacks_something(&error) => Failure::Behind {
            missing: "table or column".to_owned(),
        },
        other => other,
    }
}

impl Request<'_> {
    fn planner(&self) -> Planner<'_, '_> {
        Planner::new(&self.rest.model, self.caller, &self.query, self.facts.as_deref())
    }

    /// Refuses what the tenant's database lacks.
    fn check(&self, needs: impl FnOnce(Needs<'_>) -> Missing) -> Result<(), Failure> {
        let Some(facts) = self.facts.as_deref() else {
            return Ok(());
        };
        let model = &self.rest.model;
        needs(Needs { model, facts }).map_err(|missing| Failure::Behind { missing })
    }

    fn denied(&self) -> Refusal {
        Refusal::denied(&self.table.name, self.caller.has_token())
    }

    /// The parameter that is meant: `filters` are named by their columns.
    fn parameter<'n>(&'n self, name: &'n str) -> &'n str {
        let filters = self.query.filters.iter().filter(|(path, _)| path.is_empty());
        let groups = self.query.groups.iter().filter(|(path, _)| path.is_empty());
        let mut names = filters
            .map(|(_, filter)| filter.field.as_str())
            .chain(groups.map(|(_, tree)| tree.parameter()));
        match name {
            "filters" => names.next().unwrap_or(name),
            _ => name,
        }
    }

    /// Refuses parameters that have no meaning for the method: they are never just left out.
    fn refuse_parameters(&self, names: &[&str]) -> Result<(), Refusal> {
        let query = &self.query;
        let is_given = |name: &&str| match *name {
            "columns" => query.columns.is_some(),
            "on_conflict" => query.on_conflict.is_some(),
            "after" => query.after.is_some(),
            "limit" => query.limits.iter().any(|(path, _)| path.is_empty()),
            "offset" => query.offsets.iter().any(|(path, _)| path.is_empty()),
            "filters" => {
                let of_table = |path: &[String]| path.is_empty();
                query.filters.iter().any(|(path, _)| of_table(path))
                    || query.groups.iter().any(|(path, _)| of_table(path))
            }
            _ => false,
        };
        match names.iter().find(|name| is_given(name)) {
            None => Ok(()),
            Some(name) => {
                let name = self.parameter(name);
                let message = format!("'{name}' has no meaning for {}", self.ask.method);
                Err(Refusal::bad("PGRST100", message).at_parameter(name, "has no meaning for this method"))
            }
        }
    }
}

impl Answer {
    fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header, unless its text is not valid in a header.
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn with_body(mut self, accepted: Accepted, body: Vec<u8>) -> Self {
        self.body = body;
        self.with(header::CONTENT_TYPE, accepted.content_type())
    }

    fn with_applied(self, applied: Option<String>) -> Self {
        match applied {
            Some(applied) => self.with(HeaderName::from_static("preference-applied"), &applied),
            None => self,
        }
    }
}

/// `Content-Range`: the first and the last row of an answer, and how many there are.
fn content_range(first: u64, rows: u64, total: Option<u64>) -> String {
    let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    match rows {
        0 => format!("*/{total_text}"),
        rows => format!("{first}-{}/{total_text}", first + rows - 1),
    }
}
