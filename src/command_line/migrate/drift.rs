//! How a tenant's database differs from what most tenants have.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::migrations::{Definition, PartName, Structure};

/// The most different parts (tables, columns, ...) that are kept, over all tenants.
const MOST_PARTS: usize = 200_000;
/// The most parts of all kept structures together, 4 bytes each. A database beyond these bounds
/// still counts as different, but what is different about it is not shown.
const MOST_KEPT: usize = 10_000_000;

type Part = (PartName, Definition);

/// The structures of the tenants' databases: each part once, and each structure once.
#[derive(Default)]
pub(super) struct Structures {
    numbers: HashMap<Arc<Part>, u32>,
    parts: Vec<Arc<Part>>,
    /// The numbers of a structure's parts, by its fingerprint.
    kept: HashMap<u64, Box<[u32]>>,
    size: usize,
}

impl Structures {
    /// Keeps a structure, and returns its fingerprint.
    pub(super) fn keep(&mut self, structure: Structure) -> u64 {
        let fingerprint = structure.fingerprint();
        let parts: Vec<Part> = structure.0.into_iter().collect();
        let new = parts.iter().filter(|part| !self.numbers.contains_key(*part)).count();
        let has_room = self.size + parts.len() <= MOST_KEPT && self.parts.len() + new <= MOST_PARTS;
        if has_room && !self.kept.contains_key(&fingerprint) {
            self.size += parts.len();
            let numbers = parts.into_iter().map(|part| self.number(part)).collect();
            self.kept.insert(fingerprint, numbers);
        }
        fingerprint
    }

    fn number(&mut self, part: Part) -> u32 {
        if let Some(number) = self.numbers.get(&part) {
            return *number;
        }
        let (number, part) = (self.parts.len() as u32, Arc::new(part));
        self.parts.push(part.clone());
        self.numbers.insert(part, number);
        number
    }

    fn structure(&self, numbers: impl IntoIterator<Item = u32>) -> Structure {
        let part = |number| Part::clone(&self.parts[number as usize]);
        Structure(numbers.into_iter().map(part).collect())
    }

    /// What most of some tenants have: each part as most of them have it, and only if it is there
    /// in most of them. Of two that are as many, what the first tenant has.
    pub(super) fn most(&self, fingerprints: impl Iterator<Item = u64>) -> Structure {
        let kept: Vec<&[u32]> = fingerprints.filter_map(|one| Some(&**self.kept.get(&one)?)).collect();
        let first: HashSet<u32> = kept.first().into_iter().copied().flatten().copied().collect();
        let mut counts = vec![0_usize; self.parts.len()];
        for number in kept.iter().copied().flatten() {
            counts[*number as usize] += 1;
        }
        let mut by_name: HashMap<&PartName, Vec<u32>> = HashMap::new();
        for (number, part) in (0..)
            .zip(&self.parts)
            .filter(|(number, _)| counts[*number as usize] > 0)
        {
            by_name.entry(&part.0).or_default().push(number);
        }
        let chosen = by_name.into_values().filter_map(|numbers| {
            let has: usize = numbers.iter().map(|number| counts[*number as usize]).sum();
            let is_in_first = numbers.iter().any(|number| first.contains(number));
            let rank = |number: &u32| (counts[*number as usize], first.contains(number));
            let most = numbers
                .iter()
                .max_by_key(|number| (rank(number), Reverse(&self.parts[**number as usize].1)))?;
            (rank(most) > (kept.len() - has, !is_in_first)).then_some(*most)
        });
        self.structure(chosen)
    }

    /// Compares structures with `other`, which `name` says in words: `the others`.
    pub(super) fn compared_with<'a>(&'a self, other: &'a Structure, name: &'a str) -> Drifts<'a> {
        Drifts {
            structures: self,
            fingerprint: other.fingerprint(),
            other,
            name,
            found: RefCell::default(),
        }
    }
}

/// The differences of structures from one of them, each found once.
pub(super) struct Drifts<'a> {
    structures: &'a Structures,
    other: &'a Structure,
    fingerprint: u64,
    name: &'a str,
    found: RefCell<HashMap<u64, Arc<[String]>>>,
}

impl Drifts<'_> {
    /// The differences of the structure with this fingerprint.
    pub(super) fn of(&self, fingerprint: u64) -> Arc<[String]> {
        let mut found = self.found.borrow_mut();
        let drift = found.entry(fingerprint).or_insert_with(|| {
            if fingerprint == self.fingerprint {
                return Arc::from([]);
            }
            match self.structures.kept.get(&fingerprint) {
                Some(own) => self
                    .structures
                    .structure(own.iter().copied())
                    .differences(self.other, self.name),
                None => vec![format!("it is not made as {}", self.name)],
            }
            .into()
        });
        drift.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(parts: &[(&str, &str, &str)]) -> Structure {
        let part = |(kind, name, definition): &(&str, &str, &str)| {
            let name = (kind.to_string(), name.to_string());
            (name, Definition::Text((*definition).into()))
        };
        Structure(parts.iter().map(part).collect())
    }

    /// The differences of each structure from what most of them have.
    fn drifts(all: &[Structure]) -> Vec<Vec<String>> {
        let mut structures = Structures::default();
        let fingerprints: Vec<u64> = all.iter().map(|one| structures.keep(one.clone())).collect();
        let most = structures.most(fingerprints.iter().copied());
        let drifts = structures.compared_with(&most, "the others");
        fingerprints.iter().map(|one| drifts.of(*one).to_vec()).collect()
    }

    const USERS: [(&str, &str, &str); 2] = [("table", "users", ""), ("column", "users.id", "bigint")];
    const NAME: (&str, &str, &str) = ("column", "users.name", "text");

    #[test]
    fn each_part_is_compared_with_what_most_tenants_have() {
        let mut all = vec![structure(&USERS)];
        let tables: Vec<String> = (2..10).map(|n| format!("custom_{n}")).collect();
        for table in &tables {
            all.push(structure(&[USERS[0], USERS[1], NAME, ("table", table, "")]));
        }
        all.push(structure(&[USERS[0], USERS[1], NAME]));
        let mut expected = vec![vec!["column users.name is missing; it is in the others".to_owned()]];
        let own = |table: &String| vec![format!("table {table} is not in the others")];
        expected.extend(tables.iter().map(own));
        expected.push(Vec::new());
        assert_eq!(drifts(&all), expected);
    }

    #[test]
    fn of_two_tenants_the_first_is_right() {
        let (without, with) = (structure(&USERS), structure(&[USERS[0], USERS[1], NAME]));
        assert_eq!(
            drifts(&[without.clone(), with.clone()]),
            [vec![], vec!["column users.name is not in the others".to_owned()]]
        );
        assert_eq!(
            drifts(&[with, without]),
            [
                vec![],
                vec!["column users.name is missing; it is in the others".to_owned()]
            ]
        );
    }

    #[test]
    fn what_most_tenants_define_otherwise_is_shown() {
        let of = |kind| structure(&[USERS[0], ("column", "users.id", kind)]);
        let found = drifts(&[of("integer"), of("bigint"), of("bigint")]);
        let wrong = "column users.id is `integer`, and `bigint` in the others".to_owned();
        assert_eq!(found, [vec![wrong], vec![], vec![]]);
    }

    #[test]
    fn more_parts_than_are_kept_are_different_without_a_reason() {
        let mut structures = Structures::default();
        let common = structures.keep(structure(&USERS));
        let names: Vec<String> = (0..=MOST_PARTS).map(|n| format!("t{n}")).collect();
        let many: Vec<_> = names.iter().map(|name| ("table", name.as_str(), "")).collect();
        let large = structures.keep(structure(&many));
        assert_eq!(structures.parts.len(), 2);
        // Parts that are known already take no more room.
        let full = structures.keep(structure(&many[..MOST_PARTS - 2]));
        let part = structures.keep(structure(&many[1..MOST_PARTS - 2]));
        assert!(structures.kept.contains_key(&full) && structures.kept.contains_key(&part));
        let most = structures.most([common, large].into_iter());
        let drifts = structures.compared_with(&most, "the others");
        assert!(drifts.of(common).is_empty());
        assert_eq!(*drifts.of(large), ["it is not made as the others".to_owned()]);
    }
}
