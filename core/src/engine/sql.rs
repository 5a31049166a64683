//! What is told of a statement without its values.

/// Whether a statement only reads, so that running it twice does no harm. Anything that is not plainly a read is not one: a
/// `WITH` may hold a `DELETE`, a `SELECT` may lock or write into a table.
pub(crate) fn is_read(sql: &str) -> bool {
    let sql = sql.trim_start();
    let is_select = sql.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("select "));
    is_select && !contains_word(sql, "for") && !contains_word(sql, "into")
}

fn contains_word(sql: &str, word: &str) -> bool {
    sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|token| token.eq_ignore_ascii_case(word))
}

/// A statement's text with every literal replaced by `?`, for logs: quoted texts, numbers, dollar-quoted texts; comments go.
/// Quoted identifiers stay. Bounded to 2,000 characters.
pub(crate) fn normalized(sql: &str) -> String {
    const LONGEST: usize = 2_000;
    let mut out = String::with_capacity(sql.len().min(LONGEST));
    let mut rest = sql;
    let mut word = false;
    while let Some(c) = rest.chars().next() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        let taken = match c {
            '\'' => {
                out.push('?');
                quoted_length(rest, '\'')
            }
            '"' | '`' => {
                let length = quoted_length(rest, c);
                out.push_str(&rest[..length]);
                length
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '$' if dollar_tag(rest).is_some() => {
                out.push('?');
                let tag = dollar_tag(rest).unwrap_or_default();
                rest[tag.len()..]
                    .find(tag)
                    .map_or(rest.len(), |end| end + 2 * tag.len())
            }
            '$' if !word => {
                // A parameter such as `$1` is no literal.
                let length = 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                out.push_str(&rest[..length]);
                length
            }
            c if c.is_ascii_digit() && !word => {
                out.push('?');
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .unwrap_or(rest.len())
            }
            c => {
                out.push(if c.is_whitespace() { ' ' } else { c });
                c.len_utf8()
            }
        };
        word = c.is_alphanumeric() || c == '_';
        rest = &rest[taken..];
    }
    out
}

/// The length of a quoted text with its quotes, doubled quotes inside being part of it.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        // MySQL's backslash escapes: at worst more is hidden than need be.
        if c == '\\' && quote == '\'' {
            inside.next();
        } else if c == quote {
            if inside.peek().is_some_and(|(_, next)| *next == quote) {
                inside.next();
            } else {
                return at + c.len_utf8();
            }
        }
    }
    text.len()
}

/// PostgreSQL's `$tag$`, where the text starts with one.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let name = &text[1..end - 1];
    let valid =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    valid.then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_replaced_and_names_stay() {
        let cases = [
            (
                "SELECT * FROM users WHERE id = $1 LIMIT 50",
                "SELECT * FROM users WHERE id = $1 LIMIT ?",
            ),
            (
                "select 'it''s canary', col1 from t2 -- canary\n",
                "select ?, col1 from t2  ",
            ),
            (
                r#"SELECT "a'b" FROM `x'y` WHERE e='canary'"#,
                r#"SELECT "a'b" FROM `x'y` WHERE e=?"#,
            ),
            ("select $tag$canary 'x' $tag$, 1.5e3", "select ?, ?"),
            ("select /* canary */ 0xCAFE", "select  ?"),
            (r"select 'canary\' canary' , 2", "select ? , ?"),
            ("select 'canary unterminated", "select ?"),
        ];
        for (sql, expected) in cases {
            assert_eq!(normalized(sql), expected);
        }
        assert!(normalized(&"é".repeat(5_000)).len() < 2_010);
    }

    #[test]
    fn only_a_plain_select_is_a_read() {
        assert!(is_read("SELECT \"id\" FROM \"users\" WHERE \"id\" = $1"));
        for sql in [
            "SELECT 1 FOR UPDATE",
            "SELECT * INTO t2 FROM t",
            "WITH x AS (DELETE FROM t RETURNING 1) SELECT 1",
            "INSERT INTO t SELECT 1",
            "UPDATE t SET a = 1",
            "",
        ] {
            assert!(!is_read(sql), "{sql}");
        }
    }
}
