//! Reads YAML into the tree. The parser's messages and snippets repeat values, so they are never
//! shown unchanged.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map},
    fmt,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess},
};
use serde_json::Number;
use serde_saphyr::{
    DuplicateKeyPolicy, Error as YamlError, Location, NonFiniteFloatPolicy, Options, Spanned, UserMessageFormatter,
};

use super::{
    fault::{Fault, Place, Step, below},
    tree::{Entry, Kind, Node},
};

/// Reads one YAML document from `place`. In a file each node gets its line and column. In a
/// variable, or a `${VAR}` of a file, all nodes have the place of that value. Every duplicate key
/// is reported.
pub(crate) fn parse(text: &str, place: &Place, path: &[Step], faults: &mut Vec<Fault>) -> Option<Node> {
    let read: Result<Option<Spanned<Raw>>, YamlError> = serde_saphyr::from_str_with_options(text, options());
    match read {
        Ok(Some(raw)) => {
            let found = RefCell::new(Vec::new());
            let node = raw_to_node(raw, place, path, &found);
            faults.append(&mut found.into_inner());
            Some(node)
        }
        Ok(None) => Some(Node::new(place.clone(), Kind::Null)),
        Err(error) => {
            let place = error.location().map_or_else(|| place.clone(), |at| located(place, at));
            faults.push(Fault::new(place, path, yaml_message(&error)));
            None
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_nodes: 200_000,
            max_depth: 32,
            flow_nesting_limit: 32,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        // Passed through instead of refused, so that every one of them is reported.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        // A snippet would print values.
        with_snippet: false,
    }
}

/// The parser's message without the parts that repeat the text.
fn yaml_message(error: &YamlError) -> String {
    let detail = match error.without_snippet() {
        YamlError::AliasError { error, .. } => return yaml_message(error),
        // The scanner's own messages repeat no more than a single character.
        YamlError::ExternalMessage { .. } => error.render_with_formatter(&UserMessageFormatter),
        YamlError::Eof { .. } => "it ends too early".to_owned(),
        YamlError::MultipleDocuments { .. } => "it contains more than one document".to_owned(),
        YamlError::UnknownAnchor { .. } => "an alias names an unknown anchor".to_owned(),
        YamlError::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` merges what is no mapping".to_owned(),
        YamlError::RecursiveReferencesRequireWeakTypes { .. } => "an alias contains itself".to_owned(),
        YamlError::NonFiniteFloat { .. } => "a number is not finite".to_owned(),
        YamlError::UnsupportedTag { .. } => "a tag is not known".to_owned(),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => "it is too large or nested too deep".to_owned(),
        YamlError::Unexpected { expected, .. } => format!("expected {expected}"),
        _ => return "is not valid YAML".to_owned(),
    };
    // The place comes before the message, so it is removed from the message.
    let detail = detail.split(" at line ").next().unwrap_or(&detail);
    format!("is not valid YAML: {detail}")
}

fn located(place: &Place, location: Location) -> Place {
    match place {
        Place::File { file, position: None } if location != Location::UNKNOWN => Place::File {
            file: Arc::clone(file),
            position: Some((location.line(), location.column())),
        },
        other => other.clone(),
    }
}

/// A node as the parser gives it; mappings keep duplicates.
enum Raw {
    Scalar(Kind),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn raw_to_node(raw: Spanned<Raw>, outer: &Place, path: &[Step], faults: &RefCell<Vec<Fault>>) -> Node {
    let place = located(outer, raw.referenced);
    let kind = match raw.value {
        Raw::Scalar(kind) => kind,
        Raw::List(items) => {
            let items = items.into_iter().enumerate();
            let node = |(index, item)| raw_to_node(item, outer, &below(path, Step::Index(index)), faults);
            Kind::List(items.map(node).collect())
        }
        Raw::Map(members) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(members.len());
            let mut first_places: HashMap<String, Place> = HashMap::with_capacity(members.len());
            for (key, value) in members {
                let key_place = located(outer, key.referenced);
                let path = below(path, key.value.as_str());
                let value = raw_to_node(value, outer, &path, faults);
                match first_places.entry(key.value.clone()) {
                    hash_map::Entry::Vacant(free) => {
                        free.insert(key_place.clone());
                    }
                    hash_map::Entry::Occupied(first) => {
                        let message = match first.get() {
                            Place::File {
                                position: Some((line, _)),
                                ..
                            } if *first.get() != key_place => format!("duplicate key, first written on line {line}"),
                            _ => "duplicate key".to_owned(),
                        };
                        faults.borrow_mut().push(Fault::new(key_place, &path, message));
                        continue;
                    }
                }
                entries.push(Entry {
                    key: key.value,
                    key_place,
                    value,
                });
            }
            Kind::Map(entries)
        }
    };
    Node::new(place, kind)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Number(value.into())))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Number(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(Raw::Scalar(Kind::Number(number))),
            None => Err(E::custom("a number is not finite")),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Text(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Kind::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut faults = Vec::new();
        let node = parse(text, &Place::file(&"c.yaml".into()), &[], &mut faults);
        (node, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_and_value_knows_its_line_and_column() {
        let (node, faults) = read("a:\n  b: { c: 1 }\nd:\n  - x\n  - 2: y\n");
        assert!(faults.is_empty(), "{faults:?}");
        let places = node.unwrap().places(&Place::Default);
        let key = |path: &[Step]| places.key(path).to_string();
        let value = |path: &[Step]| places.value(path).to_string();
        let abc: Vec<Step> = ["a", "b", "c"].map(Step::from).to_vec();
        assert_eq!((key(&abc), value(&abc)), ("c.yaml:2:8".into(), "c.yaml:2:11".into()));
        let item = [Step::from("d"), Step::Index(1), Step::from("2")];
        assert_eq!((key(&item), value(&item)), ("c.yaml:5:5".into(), "c.yaml:5:8".into()));
        assert_eq!(value(&[Step::from("a"), Step::from("nowhere")]), "c.yaml:1:1");
    }

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        let (node, _) = read("[1, -1, 1.5, true, yes, ~, '1', 0755, 1_000, x, \"\", 18446744073709551615]");
        let expected = serde_json::json!([1, -1, 1.5, true, "yes", null, "1", "0755", "1_000", "x", "", u64::MAX]);
        assert_eq!(node.unwrap().to_value(), expected);
    }

    #[test]
    fn every_duplicate_key_is_told_with_its_place() {
        let (_, faults) = read("a: 1\nb: { c: canary, c: 2 }\na: 3\n");
        assert_eq!(
            faults,
            [
                "c.yaml:2:17: b.c: duplicate key, first written on line 2",
                "c.yaml:3:1: a: duplicate key, first written on line 1"
            ]
        );
    }

    #[test]
    fn aliases_and_merges_are_followed() {
        let (node, faults) = read("base: &b { x: 1, y: 2 }\nuse: { <<: *b, y: 3 }\nagain: *b\n");
        assert!(faults.is_empty(), "{faults:?}");
        let value = node.unwrap().to_value();
        assert_eq!(value["use"], serde_json::json!({"y": 3, "x": 1}));
        assert_eq!(value["again"], value["base"]);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [canary]\n".to_owned();
        for n in 1..30 {
            text.push_str(&format!("a{n}: &a{n} [*a{m}, *a{m}, *a{m}]\n", m = n - 1));
        }
        let (node, faults) = read(&text);
        assert!(node.is_none());
        assert!(faults[0].contains("too large"), "{faults:?}");
    }

    #[test]
    fn broken_yaml_is_told_with_its_place_and_without_its_text() {
        let broken = [
            "a: [canary\n",
            "a: 'canary\n",
            "a: canary: b\n",
            "a: *canary\n",
            "a: !canary b\n",
            "a:\n\tcanary: 1\n",
            "a: .nan\n",
            "a: 1\n---\ncanary: 2\n",
            "? [canary]\n: 1\n",
            "a: %canary\n",
            "@canary: 1\n",
            "a: \"\\qcanary\"\n",
        ];
        for text in broken {
            let (node, faults) = read(text);
            assert!(node.is_none(), "{text:?}");
            assert!(faults[0].starts_with("c.yaml:"), "{faults:?}");
            assert!(faults[0].contains("is not valid YAML"), "{faults:?}");
            assert!(!faults[0].contains("canary"), "{faults:?}");
        }
    }

    #[test]
    fn an_empty_document_is_nothing() {
        for text in ["", "# only a comment\n", "---\n"] {
            let (node, faults) = read(text);
            assert!(faults.is_empty(), "{faults:?}");
            assert!(matches!(node.unwrap().kind, Kind::Null), "{text:?}");
        }
    }
}
