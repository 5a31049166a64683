//! `POST`, `PATCH`, `PUT` and `DELETE`.

use http::{Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Answer, Request, content_range};
use crate::{
    json::Writer,
    model::{Access, Grant},
    plan::{
        Condition, Read,
        condition::rule,
        write::{Reader, Rows},
    },
    refusal::{At, Failure, Refusal},
    request::{
        body::{self, Body},
        filter::{Operator, Test},
        head::{Representation, Resolution},
        query::decoded,
    },
    run::write::{Changed, Job, Upsert},
    sql::{Assignment, Target},
    value::{Datum, Malformed},
};

impl Request<'_> {
    pub(super) async fn create(&self) -> Result<Answer, Failure> {
        self.refuse_parameters(&["after", "limit", "offset", "filters"])?;
        let access = self.access(|grant| &grant.create)?;
        let body = self.body()?;
        let rows = self.reader(access).new_rows(&body)?;
        let rule = rule(self.table, access, self.caller);
        let representation = self.representation()?;
        let resolution = self.preferences.resolution;
        let (target, update) = match resolution {
            // As in PostgREST, `on_conflict` has no effect then. Its columns must be there.
            None => {
                self.conflict_target()?;
                (Vec::new(), None)
            }
            Some(resolution) => self.conflict(&rows, resolution)?,
        };
        let (before, after) = self.allowed_update(&target, &update)?;
        let upsert = resolution.map(|_| Upsert {
            target: &target,
            update: update.as_deref(),
            before: &before,
            after: &after,
        });
        self.check_insert(&rows, &representation, &rule)?;
        let changed = self.insertion(&representation).insert(&rows, &rule, upsert).await?;
        let status = match (resolution, changed.new) {
            (Some(Resolution::Merge), 0) => StatusCode::OK,
            _ => StatusCode::CREATED,
        };
        let range = content_range(0, 0, self.counted(changed.affected));
        let mut answer = Answer::new(status).with(header::CONTENT_RANGE, &range);
        if self.preferences.representation == Some(Representation::HeadersOnly)
            && self.reads_key()
            && let [key] = changed.keys.as_slice()
        {
            answer = answer.with(header::LOCATION, &self.location(key));
        }
        self.represented(answer, &representation, &changed)
    }

    pub(super) async fn update(&self) -> Result<Answer, Failure> {
        self.refuse_parameters(&["after", "limit", "offset", "on_conflict"])?;
        let access = self.access(|grant| &grant.update)?;
        let wanted = self.wanted(access, "UPDATE")?;
        let body = self.body()?;
        let changes = self.reader(access).changes(&body)?;
        let rule = rule(self.table, access, self.caller);
        let representation = self.representation()?;
        self.check(|needs| {
            needs.table(self.table)?;
            needs.columns(self.table, changes.iter().map(|(place, _)| place))?;
            needs.condition(self.table, &wanted)?;
            representation.iter().try_for_each(|read| needs.read(read))
        })?;
        let changed = self.job(&representation).update(&changes, &wanted, &rule).await?;
        let range = content_range(0, changed.affected, self.counted(changed.affected));
        let answer = Answer::new(self.changed_status()).with(header::CONTENT_RANGE, &range);
        self.represented(answer, &representation, &changed)
    }

    pub(super) async fn delete(&self) -> Result<Answer, Failure> {
        self.refuse_parameters(&["after", "limit", "offset", "on_conflict", "columns"])?;
        let access = self.access(|grant| &grant.delete)?;
        let wanted = self.wanted(access, "DELETE")?;
        let representation = self.representation()?;
        self.check(|needs| {
            needs.table(self.table)?;
            needs.condition(self.table, &wanted)?;
            representation.iter().try_for_each(|read| needs.read(read))
        })?;
        let changed = self.job(&representation).delete(&wanted).await?;
        let range = content_range(0, 0, self.counted(changed.affected));
        let answer = Answer::new(self.changed_status()).with(header::CONTENT_RANGE, &range);
        self.represented(answer, &representation, &changed)
    }

    /// `PUT`: one row, with its whole key in the filters.
    pub(super) async fn replace(&self) -> Result<Answer, Failure> {
        let has = |of: &[(Vec<String>, u64)]| of.iter().any(|(path, _)| path.is_empty());
        if has(&self.query.limits) || has(&self.query.offsets) {
            let message = "limit/offset querystring parameters are not allowed for PUT";
            return Err(Refusal::bad("PGRST114", message).into());
        }
        self.refuse_parameters(&["after", "on_conflict"])?;
        let access = self.access(|grant| &grant.create)?;
        let body = self.body()?;
        let key = self.key_filter()?;
        let reader = Reader {
            given: Some((&self.table.key, &key)),
            ..self.reader(access)
        };
        let rows = reader.new_rows(&body)?;
        self.check_key(&rows, &key)?;
        let rule = rule(self.table, access, self.caller);
        let representation = self.representation()?;
        let (target, update) = (self.table.key.clone(), Some(self.updated(&rows, &self.table.key)));
        let (before, after) = self.allowed_update(&target, &update)?;
        let upsert = Upsert {
            target: &target,
            update: update.as_deref(),
            before: &before,
            after: &after,
        };
        self.check_insert(&rows, &representation, &rule)?;
        let job = self.insertion(&representation);
        let changed = job.insert(&rows, &rule, Some(upsert)).await?;
        let status = match self.preferences.representation {
            Some(Representation::Full) if changed.new > 0 => StatusCode::CREATED,
            Some(Representation::Full) => StatusCode::OK,
            _ => StatusCode::NO_CONTENT,
        };
        self.represented(Answer::new(status), &representation, &changed)
    }

    fn check_insert(&self, rows: &Rows, read: &Option<Read<'_>>, rule: &Condition<'_>) -> Result<(), Failure> {
        self.check(|needs| {
            needs.table(self.table)?;
            needs.columns(self.table, &rows.columns)?;
            needs.condition(self.table, rule)?;
            read.iter().try_for_each(|read| needs.read(read))
        })
    }

    pub(super) fn access(&self, of: fn(&Grant) -> &Option<Access>) -> Result<&Access, Refusal> {
        let access = self
            .table
            .roles
            .get(self.caller.role)
            .and_then(|grant| of(grant).as_ref());
        access.ok_or_else(|| self.denied())
    }

    pub(super) fn reads(&self) -> Option<&Access> {
        self.table.roles.get(self.caller.role)?.read.as_ref()
    }

    /// Whether the caller may know the keys of rows.
    fn reads_key(&self) -> bool {
        let reads = self.reads();
        reads.is_some_and(|access| self.table.key.iter().all(|place| access.has(*place)))
    }

    fn body(&self) -> Result<Body<'_>, Refusal> {
        let named = self
            .ask
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = named
            .unwrap_or("application/json")
            .split(';')
            .next()
            .unwrap_or_default();
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/json" | "application/vnd.pgrst.object+json" | "application/vnd.pgrst.array+json" | "" => {
                body::json(self.ask.body)
            }
            "text/csv" => body::csv(self.ask.body),
            "application/x-www-form-urlencoded" => body::form(self.ask.body),
            _ => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                // As on every route: PostgREST answers 400 here.
                "unsupported_media_type",
                "The body's Content-Type is not supported",
            )
            .at(
                At::Header("Content-Type"),
                "is not application/json, text/csv or application/x-www-form-urlencoded",
            )),
        }
    }

    fn reader<'s>(&'s self, access: &'s Access) -> Reader<'s, 's> {
        Reader {
            table: self.table,
            table_place: self.rest.model.place(self.table),
            facts: self.facts.as_deref(),
            access,
            caller: self.caller,
            columns: self.query.columns.as_deref(),
            missing: self.preferences.missing,
            given: None,
        }
    }

    fn representation(&self) -> Result<Option<Read<'_>>, Refusal> {
        let planner = self.planner();
        if self.preferences.representation == Some(Representation::Full) {
            return planner.representation(self.table).map(Some);
        }
        // Nothing of it is returned, but it is refused if it is wrong.
        let is_nested = self.query.paths().any(|path| !path.is_empty());
        if self.query.select.is_some() || !self.query.orders.is_empty() || is_nested {
            planner.representation(self.table)?;
        }
        Ok(None)
    }

    /// An insert, for which `max-affected` has no meaning.
    fn insertion<'s>(&'s self, representation: &'s Option<Read<'s>>) -> Job<'s, 's> {
        Job {
            max_affected: None,
            ..self.job(representation)
        }
    }

    fn job<'s>(&'s self, representation: &'s Option<Read<'s>>) -> Job<'s, 's> {
        Job {
            database: self.database,
            target: Target {
                dialect: self.dialect,
                model: &self.rest.model,
                table: self.table,
                facts: self.facts.clone(),
            },
            representation: representation.as_ref(),
            is_ordered: self.query.orders.iter().any(|(path, _)| path.is_empty()),
            accepted: self.accepted,
            wants_keys: self.preferences.representation == Some(Representation::HeadersOnly),
            // New rows are as many as the body says.
            max_affected: match *self.ask.method {
                Method::PATCH | Method::DELETE => self.preferences.max_affected,
                _ => None,
            },
            most_rows: self.rest.most_embedded(),
            most_embedded: self.rest.most_embedded(),
            has_token: self.caller.has_token(),
            body: self.ask.body.len(),
        }
    }

    /// The rows that filters choose of those that the role may change and may see. Without a filter
    /// nothing is changed: it was most likely forgotten.
    fn wanted<'s>(&'s self, access: &'s Access, verb: &str) -> Result<Condition<'s>, Refusal> {
        let any = self.query.filters.iter().any(|(path, _)| path.is_empty())
            || self.query.groups.iter().any(|(path, _)| path.is_empty());
        if !any {
            return Err(Refusal::bad("21000", format!("{verb} requires a WHERE clause"))
                .hint("Add a filter, such as the row's key."));
        }
        let reads = self.reads().ok_or_else(|| self.denied())?;
        let chosen = self.planner().chosen(self.table, reads)?;
        Ok(Condition::all([
            chosen,
            rule(self.table, access, self.caller),
            rule(self.table, reads, self.caller),
        ]))
    }

    /// The key in the filters of a `PUT`.
    fn key_filter(&self) -> Result<Vec<Datum>, Refusal> {
        let wrong = || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "PGRST105",
                "Filters must include all and only primary key columns with 'eq' operators",
            )
        };
        let of_table = self.query.filters.iter().filter(|(path, _)| path.is_empty());
        let filters: Vec<_> = of_table.map(|(_, filter)| filter).collect();
        let has_groups = self.query.groups.iter().any(|(path, _)| path.is_empty());
        if has_groups || filters.len() != self.table.key.len() || filters.is_empty() {
            return Err(wrong());
        }
        let value = |place: &usize| {
            let column = &self.table.columns[*place];
            let filter = filters
                .iter()
                .find(|filter| filter.field == column.name)
                .ok_or_else(wrong)?;
            match (&filter.test, filter.negated) {
                (Test::Compare(Operator::Equal, text), false) => Datum::parse(&column.kind, text)
                    .and_then(|value| match self.dialect.holds(&column.kind, &value) {
                        true => Ok(value),
                        false => Err(Malformed::Syntax),
                    })
                    .map_err(|malformed| crate::plan::condition::refuse(column, malformed)),
                _ => Err(wrong()),
            }
        };
        self.table.key.iter().map(value).collect()
    }

    fn check_key(&self, rows: &Rows, key: &[Datum]) -> Result<(), Refusal> {
        let matches = match rows.rows.as_slice() {
            [row] => self.table.key.iter().zip(key).all(|(place, value)| {
                let at = rows.columns.iter().position(|known| known == place);
                at.and_then(|at| row.get(at)) == Some(&Assignment::Value(value.clone()))
            }),
            _ => false,
        };
        match matches {
            true => Ok(()),
            false => Err(Refusal::bad(
                "PGRST115",
                "Payload values do not match URL in primary key column(s)",
            )),
        }
    }

    fn counted(&self, affected: u64) -> Option<u64> {
        self.preferences.count.map(|_| affected)
    }

    fn changed_status(&self) -> StatusCode {
        match self.preferences.representation {
            Some(Representation::Full) => StatusCode::OK,
            _ => StatusCode::NO_CONTENT,
        }
    }

    /// The URL of a new row.
    fn location(&self, key: &[Datum]) -> String {
        let each = self.table.key.iter().zip(key).map(|(place, value)| {
            let text = value.to_text();
            let value = utf8_percent_encode(&text, NON_ALPHANUMERIC);
            let name = self.table.columns[*place].parameter().replace('"', "%22");
            format!("{name}=eq.{value}")
        });
        // A tenant that is named in the query is named in the new URL too.
        let others = self.ask.query.split('&').filter(|parameter| {
            let key = parameter.split('=').next().and_then(decoded);
            key.is_some_and(|key| self.rest.settings.other_parameters.iter().any(|other| *other == key))
        });
        let parameters: Vec<String> = others.map(str::to_owned).chain(each).collect();
        format!("{}?{}", self.ask.path, parameters.join("&"))
    }

    fn represented(
        &self,
        answer: Answer,
        representation: &Option<Read<'_>>,
        changed: &Changed,
    ) -> Result<Answer, Failure> {
        let answer = answer.with_applied(self.preferences.applied(self.ask.method));
        let (Some(read), Some(fetched)) = (representation, &changed.fetched) else {
            return Ok(answer);
        };
        let writer = Writer {
            dialect: self.dialect,
            without_nulls: self.accepted.without_nulls,
        };
        let body = writer.body(self.accepted.form, read, fetched)?;
        Ok(answer.with_body(self.accepted, body))
    }
}
