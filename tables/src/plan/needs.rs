//! What a request needs of the tenant's schema.

use super::{Condition, Read, TermColumn};
use crate::{
    catalogue::Facts,
    model::{Column, Model, Relation, Table},
};

/// Looks for what a tenant's database lacks.
pub(crate) struct Needs<'a> {
    pub(crate) model: &'a Model,
    pub(crate) facts: &'a Facts,
}

/// What is missing, in words: the table, or the column of a table.
pub(crate) type Missing = Result<(), String>;

impl Needs<'_> {
    pub(crate) fn table(&self, table: &Table) -> Missing {
        match self.facts.lacks_table(self.model.place(table)) {
            false => Ok(()),
            true => Err(format!("table `{}`", table.source)),
        }
    }

    pub(crate) fn columns<'c>(&self, table: &Table, columns: impl IntoIterator<Item = &'c usize>) -> Missing {
        columns.into_iter().try_for_each(|column| self.column(table, *column))
    }

    fn column(&self, table: &Table, column: usize) -> Missing {
        match self.facts.lacks_column(self.model.place(table), column) {
            false => Ok(()),
            true => Err(format!(
                "column `{}` of the table `{}`",
                table.columns[column].source, table.source
            )),
        }
    }

    pub(crate) fn read(&self, read: &Read<'_>) -> Missing {
        self.table(read.table)?;
        self.columns(read.table, &read.columns)?;
        self.condition(read.table, &read.condition)?;
        for term in &read.order {
            match term.column {
                TermColumn::Own(column) => self.column(read.table, column)?,
                TermColumn::Related(child, column) => {
                    let child = &read.children[child];
                    self.relation(read.table, child.relation)?;
                    self.column(child.read.table, column)?;
                }
            }
        }
        for child in &read.children {
            self.relation(read.table, child.relation)?;
            self.read(&child.read)?;
        }
        Ok(())
    }

    fn relation(&self, table: &Table, relation: &Relation) -> Missing {
        let target = self.model.target(relation);
        self.table(target)?;
        self.columns(table, relation.on.iter().map(|(here, _)| here))?;
        self.columns(target, relation.on.iter().map(|(_, there)| there))
    }

    pub(crate) fn condition(&self, table: &Table, condition: &Condition<'_>) -> Missing {
        match condition {
            Condition::Always | Condition::Never | Condition::Embedded(_) => Ok(()),
            Condition::Column(column, _) => self.tested(table, column),
            Condition::Not(inner) => self.condition(table, inner),
            Condition::All(each) | Condition::Any(each) => each.iter().try_for_each(|one| self.condition(table, one)),
        }
    }

    fn tested(&self, table: &Table, column: &Column) -> Missing {
        table.place(column).map_or(Ok(()), |column| self.column(table, column))
    }
}
