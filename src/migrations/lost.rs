//! What a file's statements left in a session that has ended.
//!
//! A run that continues a file has a new session. It makes the settings again, and nothing else: no
//! computed variable, temporary table or generated key of the old session.

use std::collections::BTreeSet;

use tenantry_core::{ScriptStatement, StatementEffect};

use super::script::verb;

/// Functions of the keys and rows of the statements before, in the same session.
const OF_EARLIER_STATEMENTS: [&str; 4] = ["@@identity", "found_rows", "last_insert_id", "last_insert_rowid"];

/// Functions that count the rows which the statement before has changed, by the kind of database.
const ROWS_CHANGED: [(&str, &[&str]); 2] = [("mysql", &["row_count"]), ("sqlite", &["total_changes", "changes"])];

/// How words begin whose value differs from one session or moment to another. A call has a
/// parenthesis.
const COMPUTED: [&str; 7] = [
    "@@identity",
    "@@insert_id",
    "@@last_insert_id",
    "@@timestamp",
    "current_",
    "localtime",
    "utc_",
];

/// A statement that needs something of a session that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// What it needs, as the statement names it.
    pub(super) name: String,
    /// The statement's index.
    pub(super) needed_by: usize,
}

/// Finds the first statement from `from` on that needs something which the statements before
/// `from` left in their session.
pub(super) fn lost(statements: &[ScriptStatement<'_>], driver: &str, from: usize) -> Option<Lost> {
    let (before, after) = statements.split_at(from.min(statements.len()));
    let mut session = Session::of(driver);
    for statement in before {
        session.read(&statement.code(driver), statement.effect);
    }
    after.iter().enumerate().find_map(|(index, statement)| {
        let name = session.needed_by(&statement.code(driver), statement.effect)?;
        let needed_by = from + index;
        Some(Lost { name, needed_by })
    })
}

/// Whether a statement creates a temporary table, view or sequence.
pub(super) fn creates_temporary(code: &str, driver: &str) -> bool {
    temporary(code, &words(code, driver), driver).is_some()
}

/// The function that counts the rows of the statement before, if a statement calls one. In a file
/// that runs statement by statement, that statement is Tenantry's own record.
pub(super) fn counts_rows(code: &str, driver: &str) -> Option<&'static str> {
    let (_, functions) = ROWS_CHANGED.iter().find(|(of, _)| *of == driver)?;
    // They have no argument; with one it is a column list or a function of the user's own.
    let called = functions.iter().find(|function| calls_bare(code, function)).copied();
    called.filter(|_| !is_program(&words(code, driver)))
}

/// Whether a setting is of computed variables alone, which no other session computes in the same
/// way.
pub(super) fn is_computed_variable(code: &str) -> bool {
    let mut depth = 0_usize;
    let mut assignments = code.trim_start().trim_start_matches("set").split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    verb(code) == "SET" && is_computed(code) && assignments.all(|one| is_variable(one.trim_start()))
}

fn is_computed(code: &str) -> bool {
    let value = code.split_once('=').map_or("", |(_, value)| value);
    let is_of_session = |word: String| COMPUTED.iter().any(|computed| word.starts_with(computed));
    value.contains('(') || words(value, "mysql").into_iter().any(is_of_session)
}

/// What the session had that a new one has not.
#[derive(Default)]
struct Session {
    driver: String,
    /// Variables and temporary tables.
    left: BTreeSet<String>,
    /// Statements that `PREPARE` has named.
    prepared: BTreeSet<String>,
    /// Variables that the settings of the new session make again.
    set: BTreeSet<String>,
    /// Whether a procedure may have set any variable.
    is_any_left: bool,
    has_inserted: bool,
}

impl Session {
    fn of(driver: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            ..Self::default()
        }
    }

    /// A statement that the old session ran.
    fn read(&mut self, code: &str, effect: StatementEffect) {
        let words = words(code, &self.driver);
        self.has_inserted |= sets_insert_id(code);
        let variables = words.iter().filter(|word| is_variable(word));
        let verb = verb(code);
        match verb.as_str() {
            "SET" if effect == StatementEffect::Session => {
                let is_left = is_computed(code) || words.iter().skip(2).any(|word| self.is_left(word));
                for variable in variables {
                    let (to, out_of) = if is_left {
                        (&mut self.left, &mut self.set)
                    } else {
                        (&mut self.set, &mut self.left)
                    };
                    out_of.remove(variable);
                    to.insert(variable.clone());
                }
            }
            "CREATE" => self
                .left
                .extend(temporary(code, &words, &self.driver).map(str::to_owned)),
            "PREPARE" => self.prepared.extend(words.get(1).cloned()),
            "DEALLOCATE" if words.last().is_some_and(|word| word == "all") => self.prepared.clear(),
            "DEALLOCATE" => self.prepared.retain(|name| !words.contains(name)),
            "DISCARD" if words[1..].iter().any(|word| word.starts_with("temp")) => self.left.clear(),
            "DROP" => match words.get(1).map(String::as_str) {
                Some("prepare") => self.prepared.retain(|name| !words.contains(name)),
                Some("table" | "view" | "sequence" | "temporary") => self.left.retain(|name| !words.contains(name)),
                _ => {}
            },
            "CALL" | "EXECUTE" => {
                self.is_any_left = true;
                self.has_inserted = true;
                self.set.clear();
            }
            _ => {
                self.left
                    .extend(temporary(code, &words, &self.driver).map(str::to_owned));
                self.has_inserted |= matches!(verb.as_str(), "INSERT" | "REPLACE" | "WITH" | "LOAD");
                let reads = matches!(
                    verb.as_str(),
                    "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "SELECT" | "WITH"
                );
                let sets = !reads || code.contains(":=") || words.windows(2).any(sets);
                if sets {
                    let variables: Vec<String> = variables.cloned().collect();
                    self.set.retain(|name| !variables.contains(name));
                    self.left.extend(variables);
                }
            }
        }
    }

    /// What the next statement of the new session needs and the session lacks.
    fn needed_by(&mut self, code: &str, effect: StatementEffect) -> Option<String> {
        let words = words(code, &self.driver);
        if is_program(&words) && effect != StatementEffect::Several {
            return None;
        }
        let verb = verb(code);
        if let Some(name) = self.prepared_for(&words, &verb) {
            return Some(name);
        }
        let mut made = None;
        for (at, word) in words.iter().enumerate() {
            let is_earlier = OF_EARLIER_STATEMENTS.contains(&word.as_str()) && self.has_inserted;
            if is_earlier && (word.starts_with('@') || calls_bare(code, word)) {
                return Some(word.clone());
            }
            if !self.is_left(word) {
                continue;
            }
            let is_only = words.iter().filter(|other| *other == word).count() == 1;
            let is_set = verb == "SET" && at == 1 || at > 0 && sets(&words[at - 1..=at]);
            let is_created = temporary(code, &words, &self.driver) == Some(word);
            let is_dropped = verb == "DROP" && words.get(1).is_some_and(|kind| kind == "temporary");
            if !(is_only && (is_set || is_created) || is_dropped) {
                return Some(word.clone());
            }
            made = Some(word.clone());
        }
        if let Some(made) = made {
            self.left.remove(&made);
            self.set.insert(made);
        }
        if matches!(verb.as_str(), "INSERT" | "REPLACE") || sets_insert_id(code) {
            self.has_inserted = false;
        }
        None
    }

    /// The prepared statement of the old session that a statement needs. One that prepares it anew
    /// needs none.
    fn prepared_for(&mut self, words: &[String], verb: &str) -> Option<String> {
        let named = match verb {
            "PREPARE" => {
                self.prepared.retain(|name| words.get(1) != Some(name));
                return None;
            }
            "DEALLOCATE" => words.iter().find(|word| self.prepared.contains(*word)),
            "DROP" if words.get(1).is_some_and(|kind| kind == "prepare") => words.get(2),
            _ => {
                let execute = words.iter().position(|word| word == "execute")?;
                words.get(execute + 1)
            }
        };
        named.filter(|name| self.prepared.contains(*name)).cloned()
    }

    fn is_left(&self, word: &str) -> bool {
        self.left.contains(word) || (self.is_any_left && is_variable(word) && !self.set.contains(word))
    }
}

/// The words of a statement's code, with the `@` before a variable of MySQL. After a name or a
/// quote it is the `@` of an account, such as `'app'@localhost`.
fn words(code: &str, driver: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in code.chars() {
        let word = words
            .last_mut()
            .filter(|word| c != '@' || matches!(word.as_str(), "" | "@"));
        match word {
            Some(word) if c.is_alphanumeric() || matches!(c, '_' | '$') => word.push(c),
            Some(word) if c == '@' && driver == "mysql" && !matches!(before, '\'' | '"' | '`') => word.push(c),
            _ => words.push(String::new()),
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_variable(word: &str) -> bool {
    word.len() > 1 && word.starts_with('@') && !word.starts_with("@@")
}

/// Whether two words are `INTO @variable`.
fn sets(pair: &[String]) -> bool {
    pair[0] == "into" && is_variable(&pair[1])
}

/// What stands behind the parenthesis of each call of a function.
fn calls<'a>(code: &'a str, function: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(function).filter_map(move |(at, _)| {
        let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        code[at + function.len()..]
            .trim_start()
            .strip_prefix('(')
            .filter(|_| is_whole)
    })
}

/// Whether a call of a function without an argument stands in a statement.
fn calls_bare(code: &str, function: &str) -> bool {
    calls(code, function).any(|after| after.trim_start().starts_with(')'))
}

/// Whether a statement sets the value that `LAST_INSERT_ID()` has afterwards.
fn sets_insert_id(code: &str) -> bool {
    calls(code, "last_insert_id").any(|after| !after.trim_start().starts_with(')'))
}

/// The name of the temporary table, view or sequence that a statement creates.
fn temporary<'a>(code: &str, words: &'a [String], driver: &str) -> Option<&'a str> {
    let is_temporary = |word: &&String| matches!(word.as_str(), "temp" | "temporary" | "pg_temp");
    let position = |kinds: &[&str]| words.iter().position(|word| kinds.contains(&word.as_str()));
    let is_select = driver == "postgresql" && matches!(words.first()?.as_str(), "select" | "with");
    let at = match words.first()?.as_str() {
        // What a stored program creates, it creates when it runs.
        "create" if is_program(words) => return None,
        "create" => position(&["table", "view", "sequence", "index"]).filter(|at| words[*at] != "index")?,
        _ if is_select => words
            .windows(2)
            .position(|pair| pair[1] == "into" && !matches!(pair[0].as_str(), "insert" | "merge"))
            .map(|before| before + 1)?,
        _ => return None,
    };
    let is_left_out = |word: &&String| matches!(word.as_str(), "if" | "not" | "exists" | "table" | "local" | "global");
    let mut named = words[at + 1..].iter().filter(|word| !is_left_out(word)).peekable();
    let is_schema = is_select || begins_temporary_schema(code, &words[at], driver);
    let is_in_schema = named.next_if(|word| is_schema && is_temporary(word)).is_some();
    let name = named.next().filter(|name| *name != "from")?;
    (is_in_schema || words[..at].iter().any(|word| is_temporary(&word))).then_some(name)
}

/// Whether the schema of temporary tables stands behind the kind of what is created. Another
/// database may have a schema or a table of that name.
fn begins_temporary_schema(code: &str, kind: &str, driver: &str) -> bool {
    let schema = match driver {
        "postgresql" => "pg_temp",
        "sqlite" => "temp",
        _ => return false,
    };
    let named = code.split_once(kind).map_or("", |(_, named)| named.trim_start());
    let named = named.strip_prefix("if not exists").unwrap_or(named).trim_start();
    named
        .strip_prefix(schema)
        .is_some_and(|rest| rest.trim_start().starts_with('.'))
}

/// Whether a statement creates a stored program. It needs something when the program runs.
fn is_program(words: &[String]) -> bool {
    let decides = |word: &&String| {
        let kinds = [
            "table",
            "view",
            "index",
            "procedure",
            "function",
            "trigger",
            "event",
            "package",
        ];
        kinds.contains(&word.as_str())
    };
    let kind = words.iter().take(24).find(decides);
    words.first().is_some_and(|first| first == "create")
        && kind.is_some_and(|kind| !matches!(kind.as_str(), "table" | "view" | "index"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(before: &[&'static str], after: &[&'static str]) -> Option<String> {
        found_on("mysql", before, after)
    }

    fn found_on(driver: &str, before: &[&'static str], after: &[&'static str]) -> Option<String> {
        let of = |sql: &&'static str| ScriptStatement {
            line: 1,
            sql,
            effect: match verb(sql).as_str() {
                "SET" => StatementEffect::Session,
                _ => StatementEffect::CommitsByItself,
            },
        };
        let statements: Vec<_> = before.iter().chain(after).map(of).collect();
        let lost = lost(&statements, driver, before.len())?;
        assert_eq!(lost.needed_by, statements.len() - 1);
        Some(lost.name)
    }

    #[test]
    fn what_a_session_had_is_found_where_it_is_needed() {
        for (before, after, name) in [
            (
                &["SET @id = LAST_INSERT_ID()"][..],
                &["SELECT 1", "INSERT INTO t VALUES (@id)"][..],
                "@id",
            ),
            (
                &["SET @Now = CURRENT_TIMESTAMP", "SET @b = @now"],
                &["INSERT INTO t VALUES (@b)"],
                "@b",
            ),
            (
                &["SELECT max(id) INTO\n@a, @id FROM t"],
                &["INSERT INTO t VALUES (@id)"],
                "@id",
            ),
            (
                &["SELECT @id := max(id) FROM t"],
                &["INSERT INTO t VALUES (@id)"],
                "@id",
            ),
            (&["SET @id = 7", "CALL p(@id)"], &["INSERT INTO t VALUES (@id)"], "@id"),
            (&["EXECUTE s"], &["SET @a = @id"], "@id"),
            (&["SET @id = (SELECT 1)"], &["SET @id = @id + 1"], "@id"),
            (
                &["CREATE TEMPORARY TABLE IF NOT EXISTS Own (i int)"],
                &["INSERT INTO t SELECT * FROM `own`"],
                "own",
            ),
            (&["CREATE TEMP TABLE own AS SELECT 1"], &["DROP TABLE own"], "own"),
            (
                &["INSERT INTO t VALUES (1)"],
                &["INSERT INTO u VALUES (LAST_INSERT_ID())"],
                "last_insert_id",
            ),
            (
                &["INSERT INTO t VALUES (1)"],
                &["SELECT 1", "SET @id = @@identity"],
                "@@identity",
            ),
            (
                &["INSERT INTO t VALUES (1)"],
                &["INSERT INTO u SELECT last_insert_rowid ()"],
                "last_insert_rowid",
            ),
            (&["SET @`I` = UUID()"], &["INSERT INTO t VALUES (@i)"], "@i"),
            (&["SET @k = UUID()"], &["INSERT INTO t VALUES (@'K')"], "@k"),
            (
                &["UPDATE t SET i = LAST_INSERT_ID(i + 1)"],
                &["INSERT INTO u VALUES (LAST_INSERT_ID())"],
                "last_insert_id",
            ),
            (&["SET @sql = 'SELECT 1'", "PREPARE s FROM @sql"], &["EXECUTE s"], "s"),
            (&["PREPARE s FROM @sql", "EXECUTE s"], &["DEALLOCATE PREPARE s"], "s"),
        ] {
            assert_eq!(found(before, after).as_deref(), Some(name), "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_a_new_session_has_again_is_not_lost() {
        for (before, after) in [
            (
                &["SET @utc = 'current_date()'"][..],
                &["INSERT INTO t VALUES (@utc)"][..],
            ),
            (
                &["SET @own = 7", "SET @old = @@sql_mode"],
                &["INSERT INTO t VALUES (@own, @old)"],
            ),
            (
                &["SET @id = LAST_INSERT_ID()", "SET @id = 3"],
                &["INSERT INTO t VALUES (@id)"],
            ),
            (&["SET @id = LAST_INSERT_ID()"], &["ALTER TABLE t ADD i int"]),
            (
                &["SET @id = LAST_INSERT_ID()"],
                &["SET @id = (SELECT max(id) FROM t)", "INSERT INTO t VALUES (@id)"],
            ),
            (
                &["CALL p(@id)"],
                &["SELECT max(id) INTO @id FROM t", "INSERT INTO t VALUES (@id)"],
            ),
            (
                &["CREATE TEMP TABLE own (i int)", "DROP TABLE own"],
                &["INSERT INTO own VALUES (1)"],
            ),
            (
                &["CREATE TEMP TABLE own (i int)"],
                &["CREATE TEMP TABLE own (i int)", "INSERT INTO own VALUES (1)"],
            ),
            (
                &["CREATE TEMPORARY TABLE own (i int)"],
                &["DROP TEMPORARY TABLE IF EXISTS own"],
            ),
            (
                &["INSERT INTO t VALUES (1)"],
                &["INSERT INTO t VALUES (2)", "INSERT INTO u VALUES (LAST_INSERT_ID())"],
            ),
            (
                &["INSERT INTO t VALUES (1)"],
                &["CREATE PROCEDURE p() SELECT LAST_INSERT_ID()"],
            ),
            (&["INSERT INTO t VALUES (1)"], &["CREATE TABLE u (last_insert_id int)"]),
            (
                &["INSERT INTO t VALUES (@own, 'a@b')"],
                &["INSERT INTO t VALUES (@own)"],
            ),
            (
                &["CREATE USER 'app'@localhost", "CALL p()"],
                &["GRANT SELECT ON t TO 'app'@localhost, `b`@'localhost', c@localhost"],
            ),
            (
                &["INSERT INTO t VALUES (1)"],
                &["UPDATE t SET i = LAST_INSERT_ID(i + 1)", "SELECT LAST_INSERT_ID()"],
            ),
            (
                &["PREPARE s FROM @sql"],
                &["PREPARE s FROM @sql", "EXECUTE s", "DEALLOCATE PREPARE s"],
            ),
            (&["PREPARE s FROM @sql", "DROP PREPARE s"], &["SELECT s FROM t"]),
            (&["CREATE TABLE temp (i int)"], &["INSERT INTO temp VALUES (1)"]),
            (
                &["CREATE PROCEDURE p() BEGIN CREATE TEMPORARY TABLE ids (i int); END"],
                &["ALTER TABLE t ADD ids json"],
            ),
            (&["CREATE TABLE temp (i int, CHECK (temp.i > 0))"], &["SELECT i FROM u"]),
            (
                &["CREATE INDEX i ON readings (temporary, view, created)"],
                &["SELECT created FROM readings"],
            ),
        ] {
            assert_eq!(found(before, after), None, "{before:?} {after:?}");
        }
    }

    #[test]
    fn postgresql_loses_temporary_tables_and_prepared_statements() {
        for (before, after, name) in [
            ("SELECT 1 AS i INTO TEMP own", "INSERT INTO t SELECT * FROM own", "own"),
            (
                "WITH a AS (SELECT 1) SELECT * INTO LOCAL TEMPORARY TABLE own FROM a",
                "DROP TABLE own",
                "own",
            ),
            ("CREATE TABLE pg_temp.own (i int)", "SELECT * FROM own", "own"),
            (
                "CREATE TABLE IF NOT EXISTS pg_temp . own (i int)",
                "SELECT * FROM own",
                "own",
            ),
            (
                "WITH a AS (INSERT INTO t SELECT 1 RETURNING i) SELECT * INTO TEMP own FROM a",
                "SELECT * FROM own",
                "own",
            ),
            ("PREPARE q AS SELECT 1", "CREATE TABLE u AS EXECUTE q(1)", "q"),
        ] {
            let found = found_on("postgresql", &[before], &[after]);
            assert_eq!(found.as_deref(), Some(name), "{before} {after}");
            assert_eq!(
                found_on("postgresql", &[before, "DISCARD TEMP", "DEALLOCATE ALL"], &[after]),
                None,
                "{before}"
            );
        }
        for (before, after) in [
            ("SELECT 1 AS i INTO own", "INSERT INTO t SELECT * FROM own"),
            ("SELECT * INTO temp FROM t", "INSERT INTO temp SELECT 1"),
            (
                "WITH a AS (SELECT 1) INSERT INTO temp SELECT * FROM a",
                "DELETE FROM temp",
            ),
            ("SELECT 1 AS i INTO TEMP own", "SELECT 1 AS i INTO TEMP own"),
            ("CALL p()", "SELECT @a FROM t WHERE b <@c AND d @> e"),
            (
                "PREPARE q AS SELECT 1",
                "CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION q()",
            ),
        ] {
            assert_eq!(found_on("postgresql", &[before], &[after]), None, "{before} {after}");
        }
    }

    #[test]
    fn a_count_of_the_last_rows_is_found() {
        for (driver, code, function) in [
            ("mysql", "set @n = row_count ( )", Some("row_count")),
            ("sqlite", "insert into t values (changes())", Some("changes")),
            ("sqlite", "select total_changes()", Some("total_changes")),
            ("mysql", "insert into t values (changes())", None),
            ("sqlite", "select row_count()", None),
            ("postgresql", "select row_count(), changes(), total_changes()", None),
            ("oracle", "select changes() from dual", None),
        ] {
            assert_eq!(counts_rows(code, driver), function, "{driver} {code}");
        }
        for code in [
            "create table t (changes int, row_count int)",
            "create table changes (id int)",
            "alter table t add key row_count (n)",
            "select old_changes()",
            "create procedure p() select row_count()",
        ] {
            assert_eq!(
                counts_rows(code, "mysql").or(counts_rows(code, "sqlite")),
                None,
                "{code}"
            );
        }
    }

    #[test]
    fn a_setting_of_computed_variables_alone_is_not_repeated() {
        for code in [
            "set @id = last_insert_id()",
            "set @a = f(1, 2), @b = 3",
            "set @now := current_timestamp",
        ] {
            assert!(is_computed_variable(code), "{code}");
        }
        for code in [
            "set @id = 7",
            "set @current_tenant := 7",
            "set @old = @@sql_mode",
            "set sql_mode = concat(@@sql_mode, '')",
            "set @id = f(), sql_mode = ''",
            "select set_config('', '', false)",
        ] {
            assert!(!is_computed_variable(code), "{code}");
        }
    }
}
