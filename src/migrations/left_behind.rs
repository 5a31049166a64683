//! Finds the index that a statement with `CONCURRENTLY` has left half-built.

use sea_orm::{DbErr, Statement};
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use super::run::Run;

impl Run<'_> {
    /// `CREATE INDEX CONCURRENTLY IF NOT EXISTS` succeeds if there is an index that an earlier one
    /// left behind, which nothing can use.
    pub(super) async fn check_left_behind(&mut self, sql: &str) -> Result<(), DatabaseError> {
        let creates = target(sql).is_some_and(|(_, index)| index.is_some());
        if creates && !self.left_behind(sql).await?.is_empty() {
            let source = "an index that it names is invalid";
            return Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(source));
        }
        Ok(())
    }

    /// The statements that remove what a statement has left.
    pub(super) async fn left_behind(&mut self, sql: &str) -> Result<Vec<String>, DatabaseError> {
        let (Some(query), Some((relation, index))) = (self.driver.migration_queries().left_behind, target(sql)) else {
            return Ok(Vec::new());
        };
        let values = [relation.into(), index.into()];
        let statement = Statement::from_sql_and_values(self.driver.backend(), query, values);
        let rows = self.connection.query(&statement).await?;
        let removals: Result<_, DbErr> = rows.iter().map(|row| row.try_get_by_index(0)).collect();
        removals.map_err(|error| DatabaseError::new(DatabaseErrorKind::Other).with_source(error))
    }
}

/// What a statement with `CONCURRENTLY` is about: the table of a new index and the index's name, or
/// the table or index that is rebuilt or removed. `None` for another statement, and for an index
/// that the database names.
#[cfg(feature = "postgresql")]
fn target(sql: &str) -> Option<(String, Option<String>)> {
    use sqlparser::{
        dialect::PostgreSqlDialect,
        tokenizer::{Token, Tokenizer},
    };

    let is = |token: Option<&Token>, word: &str| match token {
        Some(Token::Word(found)) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let tokens: Vec<Token> = tokens
        .into_iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    let kind = |token: &Token| ["INDEX", "TABLE"].iter().any(|kind| is(Some(token), kind));
    let is_concurrent = tokens.iter().any(|token| is(Some(token), "CONCURRENTLY"));
    let mut rest = tokens.iter().skip_while(|token| !kind(token)).skip(1).peekable();
    if !is_concurrent
        || !["CREATE", "DROP", "REINDEX"]
            .iter()
            .any(|verb| is(tokens.first(), verb))
    {
        return None;
    }
    for word in ["CONCURRENTLY", "IF", "NOT", "EXISTS"] {
        rest.next_if(|token| is(Some(token), word));
    }
    let mut name = || {
        let mut parts = Vec::new();
        while let Some(Token::Word(part)) =
            rest.next_if(|token| matches!(token, Token::Word(_)) && !is(Some(token), "ON"))
        {
            parts.push(match part.quote_style {
                Some(_) => part.value.clone(),
                None => part.value.to_lowercase(),
            });
            if rest.next_if_eq(&&Token::Period).is_none() {
                break;
            }
        }
        let is_new = rest.next_if(|token| is(Some(token), "ON")).is_some();
        rest.next_if(|token| is(Some(token), "ONLY"));
        (parts, is_new)
    };
    let quoted = |parts: Vec<String>| {
        let quoted = parts.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
        quoted.collect::<Vec<_>>().join(".")
    };
    match name() {
        (mut index, true) => Some((quoted(name().0), Some(index.pop()?))),
        (relation, false) => (!relation.is_empty()).then(|| (quoted(relation), None)),
    }
}

/// Only PostgreSQL builds indexes in this way.
#[cfg(not(feature = "postgresql"))]
fn target(_: &str) -> Option<(String, Option<String>)> {
    None
}

#[cfg(all(test, feature = "postgresql"))]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_statement_is_found() {
        for (sql, relation, index) in [
            ("CREATE INDEX CONCURRENTLY i ON t (v)", "\"t\"", Some("i")),
            (
                "-- one\nCREATE UNIQUE INDEX CONCURRENTLY /* two */ IF NOT EXISTS By_Day\nON ONLY S.\"T t\" USING btree (v)",
                "\"s\".\"T t\"",
                Some("by_day"),
            ),
            (
                "create index concurrently \"a\"\"b\" on t(lower(v))",
                "\"t\"",
                Some("a\"b"),
            ),
            ("REINDEX INDEX CONCURRENTLY s.i", "\"s\".\"i\"", None),
            ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "\"t\"", None),
            ("DROP INDEX CONCURRENTLY IF EXISTS i", "\"i\"", None),
        ] {
            assert_eq!(
                target(sql),
                Some((relation.to_owned(), index.map(str::to_owned))),
                "{sql}"
            );
        }
        for sql in [
            "CREATE INDEX CONCURRENTLY ON t (v)",
            "CREATE INDEX i ON t (v)",
            "REINDEX SCHEMA CONCURRENTLY s",
            "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
            "INSERT INTO t VALUES ('CREATE INDEX CONCURRENTLY i ON t (v)')",
        ] {
            assert_eq!(target(sql), None, "{sql}");
        }
    }
}
