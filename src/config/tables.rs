//! `rest.tables` in a file of its own.

use std::{path::Path, sync::Arc};

use super::{
    fault::{Fault, Place, Step},
    read,
    tree::Node,
    yaml,
};

/// The key of the file.
const KEY: &str = "tables";

/// Puts the tables of a file where the configuration names that file. They know their lines in it.
pub(crate) fn include(root: &mut Node, base_dir: &Path, faults: &mut Vec<Fault>) {
    let path = ["rest", "tables"];
    let Some(node) = root.at_mut(&path) else { return };
    let Some(name) = node.as_text().map(str::to_owned) else {
        return;
    };
    let steps = path.map(Step::from);
    match tables(&name, base_dir, &steps, faults) {
        Ok(Some(tables)) => *node = tables,
        Ok(None) => *node = Node::from_value(&serde_json::json!({})),
        Err(message) => {
            faults.push(Fault::new(node.place.clone(), &steps, message));
            *node = Node::from_value(&serde_json::json!({}));
        }
    }
}

/// Reads a file; `None` if its own faults were told.
fn tables(name: &str, base_dir: &Path, steps: &[Step], faults: &mut Vec<Fault>) -> Result<Option<Node>, String> {
    let text = read(&base_dir.join(name)).map_err(|error| format!("the file cannot be read: {error}"))?;
    let file: Arc<str> = name.into();
    let place = Place::file(&file);
    let Some(root) = yaml::parse(&text, &place, steps, faults) else {
        return Ok(None);
    };
    for other in root.entries().iter().filter(|entry| entry.key != KEY) {
        let message = "unknown key beside `tables`";
        faults.push(Fault::new(
            other.key_place.clone(),
            &[Step::from(other.key.as_str())],
            message,
        ));
    }
    match root.get(KEY) {
        Some(tables) => Ok(Some(tables.clone())),
        None => Err("the file has no key `tables`".to_owned()),
    }
}
