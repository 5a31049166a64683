//! Adds new tables and columns to a file, and leaves its existing lines unchanged.

use super::{Piece, Pulled, quoted, same};
use crate::{
    declaration::{TableDeclaration, Tables},
    sql::Dialect,
};

pub(super) fn merge(text: &str, declared: &Tables, pieces: &[Piece], dialect: Dialect) -> Pulled {
    let mut file = File {
        lines: text.lines().map(str::to_owned).collect(),
    };
    let (mut added, mut left) = (Vec::new(), Vec::new());
    for piece in pieces {
        match declared.get(&piece.name) {
            Some(table) => file.complete(&piece.name, table, piece, &mut added, &mut left),
            None if file.append_table(piece) => added.push(format!("the table `{}`", piece.name)),
            None => left.push(format!(
                "the table `{}` is not added to lines of another form; write `tables:` and below it",
                piece.name
            )),
        }
    }
    for (name, table) in declared {
        let is_of = |piece: &&Piece| piece.name == *name || piece.others.contains(name);
        let Some(piece) = pieces.iter().find(is_of) else {
            left.push(format!("the table `{name}` is not in the database"));
            continue;
        };
        for (column, declaration) in &table.columns {
            let source = declaration.column.as_ref().unwrap_or(column);
            let is_it = |known: &str| same(dialect, source, known);
            if let Some((_, said)) = piece.unknown.iter().find(|(known, _)| is_it(known)) {
                left.push(format!("a column of `{name}`: {said}"));
            } else if !piece.columns.iter().any(|(known, _, _)| is_it(known)) {
                left.push(format!("the column `{column}` of `{name}` is not in the database"));
            }
        }
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut text = file.lines.join(end);
    text.push_str(end);
    Pulled { text, added, left }
}

struct File {
    lines: Vec<String>,
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether a line holds something.
fn counts(line: &str) -> bool {
    let trimmed = line.trim();
    !trimmed.is_empty() && !trimmed.starts_with('#')
}

/// Whether a line begins a block: a key with nothing behind it.
fn begins(line: &str, key: &str) -> bool {
    let trimmed = line.trim_start();
    let rest = [key.to_owned(), format!("\"{key}\""), format!("'{key}'")]
        .iter()
        .find_map(|key| trimmed.strip_prefix(key.as_str())?.strip_prefix(':').map(str::to_owned));
    rest.is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
}

impl File {
    /// The line of a key that begins a block, between two lines, at the least indentation there.
    fn key(&self, key: &str, from: usize, to: usize) -> Option<usize> {
        let level = self
            .lines
            .get(from..to)?
            .iter()
            .filter(|line| counts(line))
            .map(|line| indent_of(line))
            .min()?;
        (from..to).find(|at| indent_of(&self.lines[*at]) == level && begins(&self.lines[*at], key))
    }

    /// The line after the last one that belongs to the block which begins in this line.
    fn end(&self, at: usize) -> usize {
        let level = indent_of(&self.lines[at]);
        let mut end = at + 1;
        for (index, line) in self.lines.iter().enumerate().skip(at + 1) {
            if counts(line) && indent_of(line) <= level {
                break;
            }
            if counts(line) {
                end = index + 1;
            }
        }
        end
    }

    fn tables(&self) -> Option<usize> {
        self.key("tables", 0, self.lines.len())
    }

    /// Adds a table to the block of tables, and returns whether there is one. One without tables
    /// becomes a block.
    fn append_table(&mut self, piece: &Piece) -> bool {
        if self.tables().is_none()
            && let Some(line) = self
                .lines
                .iter_mut()
                .find(|line| begins(&line.replacen("{}", "", 1), "tables"))
        {
            *line = line.replacen(" {}", "", 1);
        }
        let Some(at) = self.tables() else {
            return false;
        };
        let end = self.end(at);
        let first = self.lines[at + 1..end].iter().find(|line| counts(line));
        let indent = first.map_or(2, |line| indent_of(line));
        let lines = piece.text(indent);
        self.lines.splice(end..end, lines.lines().map(str::to_owned));
        true
    }

    /// Adds the columns and the relations that a table does not have yet.
    fn complete(
        &mut self,
        name: &str,
        table: &TableDeclaration,
        piece: &Piece,
        added: &mut Vec<String>,
        left: &mut Vec<String>,
    ) {
        // What is declared has its declared name.
        let columns: Vec<(&str, &str)> = piece
            .columns
            .iter()
            .filter(|(_, name, _)| table.column(name).is_none())
            .map(|(_, name, mapping)| (name.as_str(), mapping.as_str()))
            .collect();
        self.add(name, "columns", &columns, added, left);
        let leads = |mapping: &str| {
            table.relations.values().any(|relation| {
                let mut on = relation.on.iter();
                mapping.contains(&format!("to: {},", quoted(&relation.to)))
                    && on.all(|(here, there)| mapping.contains(&format!("{}: {}", quoted(here), quoted(there))))
            })
        };
        let relations: Vec<(&str, &str)> = piece
            .relations
            .iter()
            .filter(|(name, mapping)| {
                !table.relations.contains_key(name) && !leads(mapping) && table.column(name).is_none()
            })
            .map(|(name, mapping)| (name.as_str(), mapping.as_str()))
            .collect();
        self.add(name, "relations", &relations, added, left);
    }

    fn add(
        &mut self,
        table: &str,
        block: &str,
        entries: &[(&str, &str)],
        added: &mut Vec<String>,
        left: &mut Vec<String>,
    ) {
        if entries.is_empty() {
            return;
        }
        let what = if block == "columns" {
            "the column"
        } else {
            "the relation"
        };
        let place = self.block(table, block);
        for (name, mapping) in entries {
            match place {
                Some(_) => added.push(format!("{what} `{name}` of `{table}`")),
                None => left.push(format!(
                    "{what} `{name}` of `{table}` is not added to lines of another form: `{}: {mapping}`",
                    quoted(name)
                )),
            }
        }
        if let Some((at, indent)) = place {
            let lines = entries
                .iter()
                .map(|(name, mapping)| format!("{}{}: {mapping}", " ".repeat(indent), quoted(name)));
            let lines: Vec<String> = lines.collect();
            self.lines.splice(at..at, lines);
        }
    }

    /// The line at which entries of a table's block are added, and their indentation. A missing
    /// block of relations is created.
    fn block(&mut self, table: &str, block: &str) -> Option<(usize, usize)> {
        let tables = self.tables()?;
        let at = self.key(table, tables + 1, self.end(tables))?;
        let end = self.end(at);
        if let Some(found) = self.key(block, at + 1, end) {
            let end = self.end(found);
            let first = self.lines.get(found + 1..end)?.iter().find(|line| counts(line));
            let indent = first.map_or(indent_of(&self.lines[found]) + 2, |line| indent_of(line));
            return Some((end, indent));
        }
        let indent = indent_of(self.lines.get(at + 1..end)?.iter().find(|line| counts(line))?);
        let has_another_form = self.lines[at + 1..end]
            .iter()
            .any(|line| line.trim_start().starts_with(&format!("{block}:")));
        if block != "relations" || has_another_form {
            return None;
        }
        self.lines.insert(end, format!("{}relations:", " ".repeat(indent)));
        Some((end + 1, indent + 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(columns: &[&str], relations: &[&str]) -> Piece {
        Piece {
            name: "orders".to_owned(),
            source: "orders".to_owned(),
            schema: None,
            description: None,
            key: vec!["id".to_owned()],
            columns: columns
                .iter()
                .map(|name| ((*name).to_owned(), (*name).to_owned(), "{ type: text }".to_owned()))
                .collect(),
            relations: relations
                .iter()
                .map(|name| ((*name).to_owned(), format!("{{ to: {name}, on: {{ id: id }} }}")))
                .collect(),
            unknown: Vec::new(),
            others: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_stays_and_what_is_new_is_added() {
        let text = "\
# our tables
tables:
  orders: # the orders
    key: [id]
    columns:
      id: { type: text } # the number
      # a remark of ours

    allow:
      anon: { read: { columns: [id] } }
  # the last line
";
        let id = |name: &str| {
            let column = serde_json::from_value(serde_json::json!({"type": "text"})).unwrap();
            (name.to_owned(), column)
        };
        let orders = TableDeclaration {
            table: None,
            schema: None,
            description: None,
            key: vec!["id".to_owned()],
            columns: vec![id("id")],
            relations: Default::default(),
            allow: Default::default(),
        };
        let declared = Tables::from([("orders".to_owned(), orders)]);
        let mut other = piece(&["a"], &[]);
        (other.name, other.source) = ("items".to_owned(), "items".to_owned());
        let merged = merge(
            text,
            &declared,
            &[piece(&["id", "total"], &["customers"]), other],
            Dialect::Sqlite,
        );
        let expected = "\
# our tables
tables:
  orders: # the orders
    key: [id]
    columns:
      id: { type: text } # the number
      total: { type: text }
      # a remark of ours

    allow:
      anon: { read: { columns: [id] } }
    relations:
      customers: { to: customers, on: { id: id } }
  items:
    key: [id]
    columns:
      a: { type: text }
    allow: {}
  # the last line
";
        assert_eq!(merged.text, expected);
        assert_eq!(merged.added.len(), 3, "{:?}", merged.added);
        assert!(merged.left.is_empty(), "{:?}", merged.left);
        let windows = text.replace('\n', "\r\n");
        let merged = merge(
            &windows,
            &declared,
            &[piece(&["id", "total"], &["customers"])],
            Dialect::Sqlite,
        );
        assert_eq!(merged.text.matches('\n').count(), merged.text.matches("\r\n").count());
        assert!(merged.text.starts_with(&windows[..60]), "{}", merged.text);
        let gone = merge(text, &declared, &[], Dialect::Sqlite);
        assert_eq!(gone.text, text);
        assert_eq!(gone.left, ["the table `orders` is not in the database"]);
    }
}
