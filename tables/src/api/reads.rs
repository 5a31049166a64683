//! `GET` and `HEAD`.

use http::{Method, StatusCode, header};

use super::{Answer, Request, content_range};
use crate::{
    json::Writer,
    plan::{Page, Read, cursor},
    refusal::{Failure, Refusal},
    request::{
        head::range,
        query::{LONGEST_QUERY, decoded},
    },
    run::read::{Answered, Asked, run},
};

impl Request<'_> {
    pub(super) async fn read(&self) -> Result<Answer, Failure> {
        self.refuse_parameters(&["columns", "on_conflict"])?;
        let mut read = self.planner().read(self.table)?;
        self.check(|needs| needs.read(&read))?;
        read.page = self.page(read.page)?;
        let after = self
            .query
            .after
            .as_deref()
            .map(|text| cursor::values(&read, text, self.dialect))
            .transpose()?;
        let asked = Asked {
            after: after.as_deref(),
            count: self.preferences.count.is_some(),
            most_embedded: self.rest.most_embedded(),
        };
        let answered = run(self.database, self.dialect, &self.rest.model, &mut read, asked).await?;
        self.written(&read, &answered, after.is_some())
    }

    /// The page that `limit` and `offset` name, within that of `Range` and `max_rows`.
    fn page(&self, asked: Page) -> Result<Page, Refusal> {
        let ranged = match *self.ask.method {
            Method::GET | Method::HEAD => range(self.ask.headers)?,
            _ => None,
        };
        let most = self.rest.settings.max_rows;
        let (mut offset, mut limit) = (asked.offset, asked.limit.unwrap_or(most));
        if let Some((first, count)) = ranged {
            let end = offset.saturating_add(limit);
            let end = count.map_or(end, |count| end.min(first.saturating_add(count)));
            offset = offset.max(first);
            limit = end.saturating_sub(offset).min(limit);
            // Without `limit` the page of a range that begins later is as long as any.
            if asked.limit.is_none() {
                limit = count.map_or(most, |count| first.saturating_add(count).saturating_sub(offset));
            }
        }
        if offset > i64::MAX.unsigned_abs() {
            return Err(Refusal::range("The offset is larger than any table."));
        }
        Ok(Page {
            offset,
            limit: Some(limit.min(most)),
        })
    }

    fn written(&self, read: &Read<'_>, answered: &Answered, is_after: bool) -> Result<Answer, Failure> {
        let rows = answered.fetched.rows.len() as u64;
        let offset = read.page.offset;
        if self.accepted.is_single() && rows != 1 {
            return Err(Refusal::not_single(rows).into());
        }
        if let Some(total) = answered.total
            && offset > total
        {
            let details = format!("An offset of {offset} was requested, but there are only {total} rows.");
            return Err(Failure::Beyond {
                refusal: Box::new(Refusal::range(details)),
                rows: total,
            });
        }
        let status = match answered.total {
            Some(total) if rows < total => StatusCode::PARTIAL_CONTENT,
            _ => StatusCode::OK,
        };
        let writer = Writer {
            dialect: self.dialect,
            without_nulls: self.accepted.without_nulls,
        };
        let body = match *self.ask.method {
            Method::HEAD => Ok(Vec::new()),
            _ => writer.body(self.accepted.form, read, &answered.fetched),
        };
        // The offset of a page that begins after a given row is not known.
        let ranged = match is_after {
            true => content_range(0, 0, answered.total),
            false => content_range(offset, rows, answered.total),
        };
        let mut answer = Answer::new(status)
            .with(header::CONTENT_RANGE, &ranged)
            .with_applied(self.preferences.applied(self.ask.method))
            .with_body(self.accepted, body?);
        if answered.has_more && rows > 0 {
            let next = self.next_page(read, answered, &writer)?;
            answer = answer.with(header::LINK, &format!("<{next}>; rel=\"next\""));
        }
        Ok(answer)
    }

    /// The URL of the page after this one: after its last row if rows can be found again by the
    /// order, and if a query has room for that. Otherwise it counts rows from where this page does.
    fn next_page(&self, read: &Read<'_>, answered: &Answered, writer: &Writer) -> Result<String, Failure> {
        let mut parameters: Vec<String> = self
            .ask
            .query
            .split('&')
            .filter(|parameter| {
                let key = parameter.split('=').next().and_then(decoded).unwrap_or_default();
                !matches!(&*key, "" | "after" | "offset")
            })
            .map(str::to_owned)
            .collect();
        let page = read.page;
        let is_limited = self.query.limits.iter().any(|(path, _)| path.is_empty());
        if let (false, Some(limit)) = (
            is_limited,
            page.limit.filter(|limit| *limit < self.rest.settings.max_rows),
        ) {
            parameters.push(format!("limit={limit}"));
        }
        let length: usize = parameters.iter().map(|parameter| parameter.len() + 1).sum();
        match self.cursor(read, answered, writer)? {
            Some(cursor) if length + "after=".len() + cursor.len() <= LONGEST_QUERY => {
                parameters.push(format!("after={cursor}"));
            }
            _ => {
                let next = page.offset.saturating_add(answered.fetched.rows.len() as u64);
                parameters.extend(self.query.after.as_ref().map(|cursor| format!("after={cursor}")));
                parameters.push(format!("offset={next}"));
            }
        }
        Ok(format!("{}?{}", self.ask.path, parameters.join("&")))
    }

    /// The cursor of the last row, if it has one.
    fn cursor(&self, read: &Read<'_>, answered: &Answered, writer: &Writer) -> Result<Option<String>, Failure> {
        let (Some(places), Some(last)) = (cursor::places(read), answered.fetched.rows.last()) else {
            return Ok(None);
        };
        let values = places.iter().map(|place| {
            let slot = read.columns.iter().position(|known| known == place).unwrap_or_default();
            writer.read(read, last, slot)
        });
        let values: Vec<_> = values.collect::<Result<_, _>>().map_err(Failure::Database)?;
        Ok(cursor::text(read, &values))
    }
}
