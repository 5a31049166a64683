//! What is left of a configuration with faults, so that everything that is wrong with it can be
//! reported at once.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;
use tenantry_core::{Registry, Sections, without_value};

use super::{
    checks,
    fault::{Fault, Place, Step, below},
    is_within, schema,
    sections::Config,
    tree::{Kind, Node, Places},
};

/// The most faults of serde, which reports one at a time.
const MOST_TRIES: usize = 50;

/// The typed parts of what has no fault.
pub(super) struct Remains {
    pub(super) config: Config,
    pub(super) sections: Sections,
}

/// Takes everything with a fault out of `root`, and checks the rest. What it finds is added to
/// `faults`. `None` if there is not enough left.
pub(super) fn of(mut root: Node, registry: &Registry, places: &Places, faults: &mut Vec<Fault>) -> Option<Remains> {
    let mut pending = faults.clone();
    let mut tried = HashSet::new();
    loop {
        take_out(&mut root, &pending);
        let mut value = root.to_value();
        let mut found = Vec::new();
        let sections = take_sections(&mut value, registry, places, &mut found);
        add_news(faults, found);
        let fault = match deserialize(value, places) {
            Ok(config) => {
                check(&config, places, faults);
                return Some(Remains { config, sections });
            }
            Err(fault) => fault,
        };
        // What is missing because it was taken out is no news.
        add_news(faults, [fault.clone()]);
        if tried.len() == MOST_TRIES || !tried.insert(fault.path.clone()) {
            return None;
        }
        pending = vec![fault];
    }
}

/// Adds each fault of `found`, unless a fault of its key, of a key above it or of a key below it is
/// known.
pub(crate) fn add_news(faults: &mut Vec<Fault>, found: impl IntoIterator<Item = Fault>) {
    let news: Vec<Fault> = found.into_iter().filter(|fault| !is_known(faults, fault)).collect();
    faults.extend(news);
}

pub(super) fn is_known(faults: &[Fault], fault: &Fault) -> bool {
    faults
        .iter()
        .any(|known| is_within(&fault.path, &known.path) || is_within(&known.path, &fault.path))
}

/// The rules that no schema expresses. A rule about something that was taken out is left out.
fn check(config: &Config, places: &Places, faults: &mut Vec<Fault>) {
    let path = |keys: &[&str]| text(&keys.iter().map(|key| Step::from(*key)).collect::<Vec<_>>());
    let has_fault = |path: &str| faults.iter().any(|fault| is_within(&fault.path, path));
    let may_lack_columns = |name: &str| {
        let table = path(&["rest", "tables", name]);
        has_fault(&path(&["rest", "tables", name, "columns"])) || faults.iter().any(|fault| fault.path == table)
    };
    let mut uncertain = Vec::new();
    for (name, table) in config.rest.iter().flat_map(|rest| &rest.tables) {
        if may_lack_columns(name) {
            uncertain.push(path(&["rest", "tables", name]));
        }
        let relations = table
            .relations
            .iter()
            .filter(|(_, relation)| may_lack_columns(&relation.to));
        uncertain.extend(relations.map(|(relation, _)| path(&["rest", "tables", name, "relations", relation])));
    }
    for (cause, rule) in [
        ("server.listen", "server.admin_listen"),
        ("tenancy.id_pattern", "tenancy.warm_up"),
    ] {
        uncertain.extend(has_fault(cause).then(|| rule.to_owned()));
    }
    let found = checks::check(config, places).into_iter();
    let certain: Vec<Fault> = found
        .filter(|fault| !uncertain.iter().any(|path| is_within(&fault.path, path)))
        .collect();
    add_news(faults, certain);
}

/// Removes each value with a fault. A resolver or provider with one becomes `type: unknown`, which
/// is not built.
fn take_out(root: &mut Node, faults: &[Fault]) {
    let mut paths: HashSet<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for family in schema::FAMILIES {
        let plugin = format!("tenancy.{family}");
        if paths.iter().any(|path| *path == "tenancy" || is_within(path, &plugin)) {
            let unknown = Node::from_value(&json!({"type": "unknown"}));
            root.set(&["tenancy".to_owned(), family.to_owned()], unknown);
            paths.retain(|path| !is_within(path, &plugin));
        }
    }
    paths.remove("tenancy");
    keep_valid(root, &[], &paths);
}

/// Returns whether `node` may stay: it has no fault, no item with one, and no key is missing in it.
fn keep_valid(node: &mut Node, path: &[Step], faults: &HashSet<&str>) -> bool {
    let own = text(path);
    let lacks = |key: &str| key.rsplit_once('.').is_some_and(|(outer, _)| outer == own);
    match &mut node.kind {
        Kind::List(items) => {
            let mut items = items.iter_mut().enumerate();
            items.all(|(index, item)| keep_valid(item, &below(path, Step::Index(index)), faults))
        }
        Kind::Map(entries) => {
            let written: HashSet<String> = entries
                .iter()
                .map(|entry| text(&below(path, entry.key.as_str())))
                .collect();
            let is_missing = |fault: &&str| lacks(fault) && !written.contains(*fault);
            let is_complete = !faults.iter().any(is_missing);
            entries.retain_mut(|entry| {
                let path = below(path, entry.key.as_str());
                keep_valid(&mut entry.value, &path, faults)
            });
            path.is_empty() || (is_complete && !faults.contains(own.as_str()))
        }
        _ => !faults.contains(own.as_str()),
    }
}

fn text(path: &[Step]) -> String {
    Fault::new(Place::Default, path, "").path
}

/// Takes the sections of a program of one's own out of the configuration.
fn take_sections(value: &mut Value, registry: &Registry, places: &Places, faults: &mut Vec<Fault>) -> Sections {
    let mut sections = Sections::default();
    for section in registry.sections() {
        let path = [Step::from(section.name)];
        if schema::is_built_in(section.name) {
            let message = "is a section of Tenantry's own; register yours by another name";
            faults.push(Fault::new(places.key(&path), &path, message));
            continue;
        }
        let written = value.as_object_mut().and_then(|root| root.shift_remove(section.name));
        let written = written.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if let Err(error) = sections.read(section, written) {
            let inside = error.path.iter().map(String::as_str);
            let steps: Vec<&str> = std::iter::once(section.name).chain(inside).collect();
            let steps = places.steps(&steps);
            faults.push(Fault::new(places.value(&steps), &steps, error.reason.as_str()));
        }
    }
    sections
}

/// Converts a checked value to `T`; serde's message passes without its values.
pub(super) fn deserialize<T: DeserializeOwned>(value: Value, places: &Places) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = Vec::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => path = below(&path, Step::Index(*index)),
                Segment::Map { key } => path = below(&path, key.as_str()),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        let message = without_value(&error.inner().to_string());
        Fault::new(places.value(&path), &path, message)
    })
}
