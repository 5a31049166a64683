//! The statements that were translated already.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tenantry_core::DatabaseError;

use crate::dialect::{Plan, translate};

/// How many are kept. Those of a program are few; texts with values in them would come without end.
const CAPACITY: usize = 1000;

/// The longest statement that is kept, in bytes. A longer one is mostly rows or lists of values
/// whose number changes, and its plan takes several times its memory.
const LONGEST_KEPT: usize = 4_096;

/// The translated statements, shared by all connections of all tenants, since a translation does
/// not depend on them.
#[derive(Debug, Default)]
pub(crate) struct Plans(RwLock<HashMap<String, Arc<Plan>>>);

impl Plans {
    /// Returns the plan for this statement.
    ///
    /// # Errors
    /// It is not a valid statement, or Oracle has no equivalent.
    pub(crate) fn of(&self, sql: &str) -> Result<Arc<Plan>, DatabaseError> {
        if let Some(plan) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(sql) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(translate(sql)?);
        if sql.len() > LONGEST_KEPT {
            return Ok(plan);
        }
        let mut plans = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= CAPACITY {
            plans.clear();
        }
        plans.insert(sql.to_owned(), Arc::clone(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_translated_once_within_a_bounded_cache() {
        let plans = Plans::default();
        let first = plans.of("SELECT 1").unwrap();
        assert!(Arc::ptr_eq(&first, &plans.of("SELECT 1").unwrap()));
        for number in 0..2 * CAPACITY {
            plans.of(&format!("SELECT {number}")).unwrap();
            assert!(plans.0.read().unwrap().len() <= CAPACITY);
        }
        assert!(plans.of("SELEKT 1").is_err());
    }

    #[test]
    fn a_long_statement_is_not_kept() {
        let plans = Plans::default();
        let kept = |length: usize| {
            plans.of(&format!("{:<length$}", "SELECT 1")).unwrap();
            plans.0.read().unwrap().len()
        };
        assert_eq!((kept(LONGEST_KEPT), kept(LONGEST_KEPT + 1)), (1, 1));
    }
}
