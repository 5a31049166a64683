//! `rest.tables` in a separate file. References to variables are not replaced in it, since
//! `tables pull` also writes it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use tenantry_tables::Tables;

use super::{
    fault::{Fault, Faults, Place, Step, key_text},
    read, refused,
    remains::deserialize,
    tree::Node,
    validate::validate,
    yaml,
};

/// The key of the file.
const KEY: &str = "tables";

/// What is done if a tables file is not there, or is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It is a fault.
    Refused,
    /// It has no tables yet: `tables pull` is about to write it.
    Empty,
}

/// Replaces the name of a tables file by the tables in it. They keep their lines in that file.
/// Returns the file's path.
pub(crate) fn include(root: &mut Node, base_dir: &Path, absent: Absent, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let path = ["rest", "tables"];
    let node = root.at_mut(&path)?;
    let name = node.as_text().map(str::to_owned)?;
    let steps = path.map(Step::from);
    let file = base_dir.join(&name);
    let is_absent = match read(&file) {
        Ok(text) => text.trim().is_empty(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_absent && absent == Absent::Empty {
        *node = Node::from_value(&serde_json::json!({}));
        return Some(file);
    }
    match tables(&name, base_dir, &steps, faults) {
        Ok(Some(tables)) => *node = tables,
        Ok(None) => *node = Node::from_value(&serde_json::json!({})),
        Err(message) => {
            faults.push(Fault::new(node.place.clone(), &steps, message));
            *node = Node::from_value(&serde_json::json!({}));
        }
    }
    Some(file)
}

/// Reads and checks the tables of a separate file like those of a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn tables_of_file(path: &Path, text: &str) -> Result<Tables, Faults> {
    let file: Arc<str> = path.display().to_string().into();
    let place = Place::file(&file);
    let mut faults = Vec::new();
    let root = yaml::parse(text, &place, &[], &mut faults);
    let Some(root) = root.filter(|_| faults.is_empty()) else {
        return Err(refused(faults));
    };
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let schema = settings
        .into_generator()
        .into_root_schema_for::<TablesFile>()
        .to_value();
    let places = root.places(&place);
    Faults::check(validate(&root, &places, &schema))?;
    let TablesFile { tables } = deserialize(root.to_value(), &places)?;
    Ok(tables)
}

/// A file with the tables alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TablesFile {
    tables: Tables,
}

/// Reads a file; `None` if it has faults, which are added to `faults`.
fn tables(name: &str, base_dir: &Path, steps: &[Step], faults: &mut Vec<Fault>) -> Result<Option<Node>, String> {
    let text = read(&base_dir.join(name)).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; `tenantry tables pull --tenant ID` writes it from a tenant's database",
            _ => "",
        };
        format!("the file cannot be read: {error}{hint}")
    })?;
    let file: Arc<str> = name.into();
    let place = Place::file(&file);
    let Some(root) = yaml::parse(&text, &place, steps, faults) else {
        return Ok(None);
    };
    for other in root.entries().iter().filter(|entry| entry.key != KEY) {
        let message = format!("{}: unknown key beside `tables`", key_text(&other.key));
        // It is no key of the configuration, so it has no path there.
        faults.push(Fault::new(other.key_place.clone(), &[], message));
    }
    match root.get(KEY) {
        Some(tables) => Ok(Some(tables.clone())),
        None => Err("the file has no key `tables`".to_owned()),
    }
}
