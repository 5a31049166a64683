//! The configuration: read from a file, completed from the environment, checked as a whole, and
//! split into typed sections.
//!
//! # Sources
//!
//! The file that `--config` names, else `TENANTRY_CONFIG`, else `config.yaml` in the working
//! directory, else the shipped file, which is inside the program. Each key may be set from the
//! environment instead: `TENANTRY__SERVER__LISTEN=0.0.0.0:80` sets `server.listen`. `__` separates
//! the levels, upper and lower case are alike, and missing sections are created. The variables of
//! [`WELL_KNOWN`] and [`WELL_KNOWN_OF_PLUGINS`] set keys too; a `TENANTRY__` variable for the same
//! key wins over them. A variable that sets a whole section replaces all that the file and those
//! variables say of it. The variables of [`OF_LEFT_OUT_KEYS`] come last, and set a key only if
//! nothing else does. Environment goes over file, file over defaults.
//!
//! In the file's values, `${VAR}` and `${VAR:-default}` are replaced; `$${` stands for `${` as
//! text. The text of a variable is converted to the type of its key: a number, `true` or `false`,
//! null if it is empty and the key may be `null`, a list (`[a, b]` or `a, b`), a mapping (`{a: 1,
//! b: 2}`). Values from the environment hold no references.
//!
//! A `type` of the resolver or the provider from the environment replaces the file's plugin. Keys
//! in the file that the new plugin does not have are then ignored.
//!
//! # In which order
//!
//! [`load`] runs these steps. Only the first and the fourth read a file.
//!
//! 1. `find` reads the file, and `yaml` parses it into a `tree` in which each key and value knows
//!    its place.
//! 2. `substitute` replaces the references in values. Keys stay as they are.
//! 3. `default_resolver` adds the default resolver, then `environment` sets the keys that variables
//!    set.
//! 4. `tables` reads the file that `rest.tables` names. References in that file stay as they are.
//! 5. `schema` makes the JSON Schema for the plugins that were chosen; `coerce` converts the texts
//!    from the environment to the types that it allows.
//! 6. `validate` compares the tree with the schema.
//! 7. serde makes the typed `sections`, and `checks` applies the rules that no schema expresses.
//!    Faults of earlier steps do not end this: `remains` takes out what has a fault.
//! 8. `unread` warns of variables that nothing reads.
//!
//! What a plugin finds wrong with its own settings is reported later, when `src/installation.rs`
//! builds it. The configuration is read once: nothing here runs while the server serves.
//!
//! # What is checked
//!
//! Everything, before anything is built. [`load`] returns every [`Fault`], each with its file, line
//! and column or its environment variable, the path of its key, and the nearest valid name. A fault
//! never contains a value.
//!
//! How to add a setting: `CONTRIBUTING.md`, "Add a setting".

mod checks;
mod coerce;
mod environment;
mod fault;
mod plugins;
mod remains;
mod schema;
mod sections;
mod substitute;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod unread;
mod validate;
mod values;
mod warm_up;
mod yaml;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use tenantry_core::{BuildError, Registry, Sections};

#[cfg(not(feature = "tls"))]
pub(crate) use checks::needs_feature;
pub use environment::{Environment, NotUtf8, OF_LEFT_OUT_KEYS, OVERRIDE_PREFIX, WELL_KNOWN, WELL_KNOWN_OF_PLUGINS};
pub use fault::{Fault, Faults, Place};
pub use plugins::{Drivers, PluginConfig};
pub(crate) use remains::add_news;
pub use schema::schema;
pub use sections::{
    Admin, App, Config, Docs, Forwarded, LogFormat, Logging, Metrics, Migrations, Observability, OtlpProtocol, Rest,
    Sample, Server, ServerLimits, ServerTls, Service, Tenancy, Trace,
};
pub(crate) use tables::{Absent, tables_of_file};
pub use tenantry_core::ByteSize;
pub use values::{Endpoint, IdPattern, ListenAddress, LogFilter, Network, NotOfForm};
pub use warm_up::WarmUp;

use crate::product::Product;

use fault::Step;
use tree::{Entry, Kind, Node, Places};

/// The file that is used if there is no other.
pub const SHIPPED: &str = include_str!("../../config.yaml");

/// The variable that names the file if `--config` is not given.
pub const FILE_VARIABLE: &str = "TENANTRY_CONFIG";

/// The file that is looked for in the working directory.
const DEFAULT_FILE: &str = "config.yaml";

/// The most bytes a file may have.
const MOST_BYTES: u64 = 1 << 20;

/// The source of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The shipped file inside the program.
    Shipped,
}

/// A configuration, and the places at which its keys were written.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Its source.
    pub origin: Origin,
    /// The folder that relative paths in it are taken from: the file's, or the working directory.
    pub base_dir: PathBuf,
    /// The file that `rest.tables` names.
    pub(crate) tables_file: Option<PathBuf>,
    /// The sections of a program of one's own.
    pub sections: Sections,
    /// What the program is called.
    pub(crate) product: Product,
    /// What is wrong with it: the rest of it is as if that were not written.
    pub(crate) faults: Vec<Fault>,
    /// Variables that look as if they were meant for it and that nothing reads.
    pub(crate) warnings: Vec<String>,
    places: Places,
}

impl Loaded {
    /// Sets the program's own name, which is the default of `app.name` and of the service's name.
    pub(crate) fn of_product(mut self, product: Product) -> Self {
        let is_written = |path: &[&str]| {
            let steps: Vec<Step> = path.iter().map(|key| Step::from(*key)).collect();
            self.places.has(&steps) && (self.origin != Origin::Shipped || self.places.value(&steps).is_variable())
        };
        let is_named = is_written(&["app", "name"]);
        let has_service = is_written(&["observability", "service", "name"]);
        if !is_named {
            self.config.app.name.clone_from(&product.name);
        }
        if !has_service {
            self.config.observability.service.name.clone_from(&product.name);
        }
        self.product = product;
        self
    }

    /// A fault that is found later, at the place of `path`; a number in `path` is an index if there
    /// is a list.
    pub fn fault_at(&self, path: &[&str], reason: impl Into<String>) -> Fault {
        let steps = self.places.steps(path);
        Fault::new(self.places.value(&steps), &steps, reason)
    }

    /// As [`fault_at`](Self::fault_at), of a plugin that could not be built; `plugin` is the path
    /// of its mapping.
    pub fn build_fault(&self, plugin: &[&str], error: &BuildError) -> Fault {
        let inside = error.path.iter().map(String::as_str);
        let path: Vec<&str> = plugin.iter().copied().chain(inside).collect();
        self.fault_at(&path, error.reason.as_str())
    }

    /// Whether something is wrong at `path`, above it or below it.
    pub(crate) fn has_fault_at(&self, path: &[&str]) -> bool {
        remains::is_known(&self.faults, &self.fault_at(path, ""))
    }

    /// `path` if it is absolute, else `path` below the base folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// Finds, reads and checks the configuration. `source` is the file that the command line names. It
/// reads a file and blocks while it does, so it is called before there is an async runtime.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(source: Option<&Path>, environment: &Environment, registry: &Registry) -> Result<Loaded, Faults> {
    load_in(Path::new(""), source, environment, registry)
}

/// Like [`load`], but a configuration with faults is returned as far as it could be read, with
/// them, so that what is built by it can be checked too.
///
/// # Errors
/// Everything that is wrong with a configuration of which too little is left.
pub(crate) fn read_all(
    source: Option<&Path>,
    environment: &Environment,
    registry: &Registry,
    absent: Absent,
) -> Result<Loaded, Faults> {
    load_with(Path::new(""), source, environment, registry, absent)
}

/// Like [`load`], with another working directory.
fn load_in(
    working_dir: &Path,
    source: Option<&Path>,
    environment: &Environment,
    registry: &Registry,
) -> Result<Loaded, Faults> {
    let loaded = load_with(working_dir, source, environment, registry, Absent::Refused)?;
    Faults::check(loaded.faults.clone())?;
    Ok(loaded)
}

fn load_with(
    working_dir: &Path,
    source: Option<&Path>,
    environment: &Environment,
    registry: &Registry,
    absent: Absent,
) -> Result<Loaded, Faults> {
    let found = find(working_dir, source, environment)?;
    let mut faults = Vec::new();
    let read = yaml::parse(&found.text, &Place::file(&found.name), &[], &mut faults);
    let Some(mut root) = read else {
        return Err(refused(faults));
    };
    if !matches!(root.kind, Kind::Map(_) | Kind::Null) {
        faults.push(Fault::new(root.place.clone(), &[], "the file must contain a mapping"));
        return Err(refused(faults));
    }
    substitute::substitute(&mut root, &[], environment);
    default_resolver(&mut root);
    environment.apply(&mut root, registry, &mut faults);

    let tables_file = tables::include(&mut root, &found.base_dir, absent, &mut faults);
    let schema = schema::for_configuration(registry, &root);
    coerce::coerce(&mut root, Some(&schema), &[], &mut faults);
    let places = root.places(&Place::file(&found.name));
    faults.extend(root.broken());
    // A value that could not be read, or a repeated key, already has a fault. A second fault for
    // the same place is left out.
    remains::add_news(&mut faults, validate::validate(&root, &places, &schema));
    let unread = unread::unread(environment, &found.text, &schema);

    let Some(remains) = remains::of(root, registry, &places, &mut faults) else {
        faults.extend(unread);
        return Err(refused(faults));
    };
    // They may be why something is missing.
    let (unread, warnings) = match faults.is_empty() {
        true => (Vec::new(), unread.iter().map(ToString::to_string).collect()),
        false => (unread, Vec::new()),
    };
    faults.extend(unread);
    Ok(Loaded {
        sections: remains.sections,
        product: Product::default(),
        config: remains.config,
        origin: found.origin,
        base_dir: found.base_dir,
        tables_file,
        faults,
        warnings,
        places,
    })
}

/// Whether `path` is `outer` or below it.
fn is_within(path: &str, outer: &str) -> bool {
    let rest = path.strip_prefix(outer);
    !outer.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The faults of what could not be read at all.
fn refused(faults: Vec<Fault>) -> Faults {
    match Faults::check(faults) {
        Err(faults) => faults,
        Ok(()) => Fault::new(Place::Default, &[], "cannot be read").into(),
    }
}

/// A file's text and what is known of it.
struct Found {
    text: String,
    name: Arc<str>,
    origin: Origin,
    base_dir: PathBuf,
}

fn find(working_dir: &Path, source: Option<&Path>, environment: &Environment) -> Result<Found, Faults> {
    let named = match source {
        Some(path) => Some(path.to_owned()),
        None => {
            let variable = environment
                .get(FILE_VARIABLE)
                .map_err(|error| Fault::new(Place::variable(FILE_VARIABLE), &[], error.to_string()))?;
            variable.filter(|path| !path.is_empty()).map(PathBuf::from)
        }
    };
    let (path, must_exist) = match named {
        Some(path) => (path, true),
        None => (PathBuf::from(DEFAULT_FILE), false),
    };
    let name: Arc<str> = path.display().to_string().into();
    match read(&working_dir.join(&path)) {
        Ok(text) => {
            let file = working_dir.join(&path);
            let folder = file.parent().unwrap_or(Path::new(""));
            Ok(Found {
                text,
                name,
                base_dir: folder_or_here(folder),
                origin: Origin::File(path),
            })
        }
        Err(error) if !must_exist && error.kind() == io::ErrorKind::NotFound => Ok(Found {
            text: SHIPPED.to_owned(),
            name: "config.yaml (built in)".into(),
            base_dir: folder_or_here(working_dir),
            origin: Origin::Shipped,
        }),
        Err(error) => {
            let message = format!("the configuration file cannot be read: {error}");
            Err(Fault::new(Place::file(&name), &[], message).into())
        }
    }
}

fn folder_or_here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        folder.to_owned()
    }
}

/// The text of a file of at most [`MOST_BYTES`].
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })
}

/// Writes the default resolver into a file that names none, so that the environment can change it
/// like any other.
fn default_resolver(root: &mut Node) {
    if matches!(root.kind, Kind::Null) {
        root.kind = Kind::Map(Vec::new());
    }
    let tenancy = root.get("tenancy").map(|node| &node.kind);
    if !matches!(tenancy, None | Some(Kind::Null | Kind::Map(_))) || root.at(&["tenancy", "resolver"]).is_some() {
        return;
    }
    if let Kind::Map(entries) = &mut root.kind
        && !entries.iter().any(|entry| entry.key == "tenancy")
    {
        entries.push(Entry {
            key: "tenancy".to_owned(),
            key_place: root.place.whole_file(),
            value: Node::new(root.place.clone(), Kind::Map(Vec::new())),
        });
    }
    let default = Node::from_value(&PluginConfig::default_resolver().mapping());
    if let Some(tenancy) = root.at_mut(&["tenancy"]) {
        tenancy.set(&["resolver".to_owned()], default);
    }
}
