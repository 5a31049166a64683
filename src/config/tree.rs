//! The configuration as a tree; every key and every value has the place at which it was written.

use std::collections::HashMap;

use serde_json::{Number, Value};

use super::fault::{Fault, Place, Step};

/// A value and its place.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// Text from the environment: it is read as what the schema expects at its place.
    Loose(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value that could not be read. Its fault is reported unless a variable has replaced it.
    Broken(Box<Fault>),
}

/// One key of a mapping.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn new(place: Place, kind: Kind) -> Self {
        Self { place, kind }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(crate) fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| match &mut node.kind {
            Kind::Map(entries) => {
                let entry = entries.iter_mut().find(|entry| entry.key == *key);
                entry.map(|entry| &mut entry.value)
            }
            _ => None,
        })
    }

    /// The faults of what could not be read.
    pub(crate) fn broken(&self) -> Vec<Fault> {
        match &self.kind {
            Kind::Broken(fault) => vec![fault.as_ref().clone()],
            Kind::List(items) => items.iter().flat_map(Self::broken).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|entry| entry.value.broken()).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) | Kind::Loose(text) => Some(text),
            _ => None,
        }
    }

    /// Sets what `path` leads to, making the mappings on the way.
    pub(crate) fn set(&mut self, path: &[String], value: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        let place = value.place.clone();
        let mut entries = match std::mem::replace(&mut self.kind, Kind::Null) {
            Kind::Map(entries) => entries,
            _ => {
                self.place = place.clone();
                Vec::new()
            }
        };
        match entries.iter_mut().find(|entry| &entry.key == first) {
            Some(entry) => {
                if rest.is_empty() {
                    entry.key_place = place;
                }
                entry.value.set(rest, value);
            }
            None => {
                let mut inner = Self::new(place.clone(), Kind::Null);
                inner.set(rest, value);
                entries.push(Entry {
                    key: first.clone(),
                    key_place: place,
                    value: inner,
                });
            }
        }
        self.kind = Kind::Map(entries);
    }

    /// A default.
    pub(crate) fn from_value(value: &Value) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(value) => Kind::Number(value.clone()),
            Value::String(text) => Kind::Text(text.clone()),
            Value::Array(items) => Kind::List(items.iter().map(Self::from_value).collect()),
            Value::Object(members) => {
                let entry = |(key, value): (&String, &Value)| Entry {
                    key: key.clone(),
                    key_place: Place::Default,
                    value: Self::from_value(value),
                };
                Kind::Map(members.iter().map(entry).collect())
            }
        };
        Self::new(Place::Default, kind)
    }

    /// The same without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null | Kind::Broken(_) => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(text) | Kind::Loose(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Self::to_value).collect(),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_value()))
                .collect(),
        }
    }

    /// The same without values.
    pub(crate) fn places(&self, key_place: &Place) -> Places {
        let below = match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| (Step::Key(entry.key.clone()), entry.value.places(&entry.key_place)))
                .collect(),
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (Step::Index(index), item.places(&item.place)))
                .collect(),
            _ => HashMap::new(),
        };
        Places {
            key: key_place.clone(),
            value: self.place.clone(),
            below,
        }
    }
}

/// The places of all keys and values.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    key: Place,
    value: Place,
    below: HashMap<Step, Places>,
}

impl Places {
    /// The place of the value of `path`; for a missing value, the place of the key that should
    /// contain it.
    pub(crate) fn value(&self, path: &[Step]) -> Place {
        self.find(path)
            .map_or_else(|outer| outer.key.clone(), |found| found.value.clone())
    }

    /// The place of the key of `path`; for a missing key, the place of the key that should contain
    /// it.
    pub(crate) fn key(&self, path: &[Step]) -> Place {
        match self.find(path) {
            Ok(found) | Err(found) => found.key.clone(),
        }
    }

    /// Whether something is written at `path`.
    pub(crate) fn has(&self, path: &[Step]) -> bool {
        self.find(path).is_ok()
    }

    /// `path` as steps; a number is an index if there is a list.
    pub(crate) fn steps(&self, path: &[&str]) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(path.len());
        for text in path {
            let index = text.parse().map(Step::Index).ok();
            let index = index.filter(|index| {
                self.find(&[steps.as_slice(), std::slice::from_ref(index)].concat())
                    .is_ok()
            });
            steps.push(index.unwrap_or_else(|| Step::from(*text)));
        }
        steps
    }

    /// What `path` leads to, or the last on the way that is there.
    fn find(&self, path: &[Step]) -> Result<&Self, &Self> {
        path.iter()
            .try_fold(self, |node, step| node.below.get(step).ok_or(node))
    }
}
