//! `tenantry init`: writes a first configuration file. It asks for everything that no flag sets.
//!
//! The file is the shipped one with another resolver, provider and drivers, so additions to the
//! shipped file appear here too. The comments on a plugin's keys come from its documentation, so a
//! plugin of your own is offered and explained like the built-in ones.

mod file;
mod questions;

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use tenantry_core::{Registered, Registry, nearest};

use super::{DONE, Stop, report};
use file::{Choices, Extra};
use questions::Question;

/// The file that is written if no flag names one.
const DEFAULT_OUTPUT: &str = "config.yaml";

/// The flags of `tenantry init`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// The resolver, one of those that `tenantry plugins` lists
    #[arg(long, value_name = "TYPE")]
    resolver: Option<String>,
    /// The secret provider, one of those that `tenantry plugins` lists
    #[arg(long, value_name = "TYPE")]
    provider: Option<String>,
    /// A kind of database that tenants have (may be given more than once)
    #[arg(long, value_name = "TYPE")]
    driver: Vec<String>,
    /// The file to write [default: the one that --config names, else config.yaml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl Flags {
    /// With `config` as the file to write, unless `--output` names another one.
    pub(super) fn or_to(mut self, config: Option<PathBuf>) -> Self {
        self.output = self.output.or(config);
        self
    }
}

pub(super) fn run(registry: &Registry, flags: Flags) -> Result<u8, Stop> {
    let output = flags.output.as_deref().unwrap_or(Path::new(DEFAULT_OUTPUT));
    if !flags.force && is_there(output) {
        return Err(exists(output));
    }
    let choices = choose(registry, &flags)?;
    let text = file::configuration(registry, &choices).map_err(Stop::Failure)?;
    let folder = output.parent().unwrap_or(Path::new(""));
    write(output, &text, flags.force)?;
    let mut wrote = vec![output.display().to_string()];
    let extras = file::extras(&choices);
    // What is in a folder that was there before is not ours to add to: each file in it is a tenant.
    let taken: Vec<PathBuf> = extras
        .iter()
        .filter_map(|extra| extra.folder(folder))
        .filter(|path| is_there(path))
        .collect();
    for extra in extras {
        let path = folder.join(&extra.path);
        let keep = extra.folder(folder).is_some_and(|folder| taken.contains(&folder));
        if !keep && write_extra(&path, &extra)? {
            wrote.push(path.display().to_string());
        } else {
            let kept = if keep { path.parent().unwrap_or(&path) } else { &path };
            report::print(format_args!("kept {}, which was there", kept.display()))?;
        }
    }
    report::print(format_args!("wrote {}", wrote.join(", ")))?;
    let named = match output.to_str() {
        Some(DEFAULT_OUTPUT) => String::new(),
        _ => format!("--config {} ", output.display()),
    };
    report::print(format_args!(
        "next: `tenantry {named}check`, then `tenantry {named}serve`"
    ))?;
    Ok(DONE)
}

/// The choices: from the flags, else from answers at a terminal, else the defaults.
fn choose(registry: &Registry, flags: &Flags) -> Result<Choices, Stop> {
    let mut resolvers = Question::new("resolver", "How does a request name its tenant?", "header");
    resolvers.options = options(registry.resolvers());
    let mut providers = Question::new("provider", "Where are the secrets of the tenants' databases?", "static");
    providers.options = options(registry.providers());
    let kinds = "Which kinds of database do tenants have? (several: 1 3)";
    let mut drivers = Question::new("drivers", kinds, "sqlite");
    drivers.options = options(registry.drivers());

    let flag = |question: &Question, value: &str| match question.options.iter().find(|(name, _)| *name == value) {
        Some((name, _)) => Ok(*name),
        None => Err(unknown(question, value)),
    };
    let given =
        |question: &Question, value: &Option<String>| value.as_deref().map(|value| flag(question, value)).transpose();
    // All flags are checked before the first question.
    let resolver = given(&resolvers, &flags.resolver)?;
    let provider = given(&providers, &flags.provider)?;
    let mut chosen_drivers = Vec::new();
    for value in &flags.driver {
        let driver = flag(&drivers, value)?;
        if !chosen_drivers.contains(&driver) {
            chosen_drivers.push(driver);
        }
    }

    let ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let one = |question: &Question| -> Result<&'static str, Stop> {
        if ask {
            question.ask_one(&mut io::stdin().lock(), &mut io::stderr())
        } else {
            question
                .default()
                .ok_or_else(|| Stop::Failure(format!("there is no {}", question.what)))
        }
    };
    let resolver = resolver.map_or_else(|| one(&resolvers), Ok)?;
    let provider = provider.map_or_else(|| one(&providers), Ok)?;
    if chosen_drivers.is_empty() {
        chosen_drivers = if ask {
            drivers.ask_several(&mut io::stdin().lock(), &mut io::stderr())?
        } else {
            vec![one(&drivers)?]
        };
    }
    Ok(Choices {
        resolver,
        provider,
        drivers: chosen_drivers,
    })
}

fn options<'a, T: ?Sized + 'a>(plugins: impl Iterator<Item = &'a Registered<T>>) -> Vec<(&'static str, String)> {
    plugins.map(|plugin| (plugin.type_name, plugin.summary())).collect()
}

fn unknown(question: &Question, value: &str) -> Stop {
    let known = || question.options.iter().map(|(name, _)| *name);
    let all = known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = nearest(value, known()).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    let flag = question.what.trim_end_matches('s');
    Stop::Misuse(format!("--{flag}: must be one of {all}{hint}"))
}

fn exists(path: &Path) -> Stop {
    Stop::Failure(format!("{} is there already; --force replaces it", path.display()))
}

fn write(path: &Path, text: &str, replace: bool) -> Result<(), Stop> {
    let mut options = OpenOptions::new();
    options.write(true);
    // Without --force a file that came into being since it was looked for is not touched either.
    if replace {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Stop::Failure(format!("{} cannot be written: {error}", path.display())),
    })
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Writes a file of secrets that only its owner can read. An existing file is not changed. Returns
/// whether the file was written.
fn write_extra(path: &Path, extra: &Extra) -> Result<bool, Stop> {
    let failed = |error: io::Error| Stop::Failure(format!("{} cannot be written: {error}", path.display()));
    if let Some(parent) = path
        .parent()
        .filter(|parent| !is_there(parent) && !parent.as_os_str().is_empty())
    {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(parent).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => file.write_all(extra.text.as_bytes()).map(|()| true).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tenantry_core::TenantId;

    use super::*;
    use crate::{
        config::{self, Environment},
        installation::Installation,
        telemetry::Telemetry,
    };

    fn registry() -> Registry {
        let mut registry = Registry::new();
        crate::plugins::register(&mut registry);
        registry
    }

    fn flags(folder: &Path, arguments: &[&str]) -> Flags {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            flags: Flags,
        }
        let output = folder.join("config.yaml").display().to_string();
        let line = ["init", "--output", &output]
            .into_iter()
            .chain(arguments.iter().copied());
        <Line as clap::Parser>::parse_from(line).flags
    }

    fn refused(outcome: Result<u8, Stop>) -> String {
        match outcome {
            Err(Stop::Failure(message) | Stop::Misuse(message)) => message,
            Ok(code) => panic!("it ended with {code}"),
        }
    }

    async fn build(folder: &Path) -> (String, Installation) {
        let file = folder.join("config.yaml");
        let loaded = config::load(Some(&file), &Environment::default(), &registry())
            .unwrap_or_else(|faults| panic!("{faults}\n{}", fs::read_to_string(&file).unwrap()));
        let telemetry = Telemetry::silent(&loaded).unwrap();
        let installation = Installation::build(loaded, Arc::new(registry()), telemetry, None).await;
        let text = fs::read_to_string(&file).unwrap();
        (
            text.clone(),
            installation.unwrap_or_else(|faults| panic!("{faults}\n{text}")),
        )
    }

    #[tokio::test]
    async fn every_choice_gives_a_file_that_builds() {
        let registry = registry();
        let resolvers: Vec<_> = registry.resolvers().map(|plugin| plugin.type_name).collect();
        let providers: Vec<_> = registry.providers().map(|plugin| plugin.type_name).collect();
        let drivers: Vec<_> = registry.drivers().map(|plugin| plugin.type_name).collect();
        assert!(resolvers.len() >= 9 && providers.len() >= 5 && drivers.len() >= 3);
        for (index, resolver) in resolvers.iter().enumerate() {
            let provider = providers[index % providers.len()];
            let driver = drivers[index % drivers.len()];
            let folder = tempfile::tempdir().unwrap();
            let arguments = ["--resolver", resolver, "--provider", provider, "--driver", driver];
            assert!(matches!(run(&registry, flags(folder.path(), &arguments)), Ok(DONE)));
            let (text, installation) = build(folder.path()).await;
            let config = &installation.loaded().config;
            assert_eq!(config.tenancy.resolver.type_name(), *resolver, "{text}");
            assert_eq!(config.tenancy.provider.type_name(), provider, "{text}");
            let on: Vec<_> = drivers.iter().filter(|name| config.drivers.is_enabled(name)).collect();
            assert_eq!(on, [&driver], "{text}");
            assert!(!config.migrations.sample_data, "{text}");
        }
    }

    #[tokio::test]
    async fn a_tenant_of_each_chosen_kind_is_there_to_begin_with() {
        for provider in ["static", "file", "directory"] {
            let folder = tempfile::tempdir().unwrap();
            let arguments = [
                "--provider",
                provider,
                "--driver",
                "postgresql",
                "--driver",
                "sqlite",
                "--driver",
                "sqlite",
            ];
            assert!(matches!(run(&registry(), flags(folder.path(), &arguments)), Ok(DONE)));
            let (text, installation) = build(folder.path()).await;
            let mut tenants = installation.tenants().list().await.unwrap();
            tenants.sort_unstable();
            let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
            assert_eq!(names, ["tenant1", "tenant2"], "{text}");
            let sqlite = installation.tenants().probe(&tenants[1]).await.unwrap();
            assert_eq!(
                (sqlite.driver.as_deref(), sqlite.error),
                (Some("sqlite"), None),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        fs::write(&file, "mine").unwrap();
        let told = refused(run(&registry(), flags(folder.path(), &[])));
        assert!(told.contains("is there already") && told.contains("--force"), "{told}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");

        fs::create_dir(folder.path().join("secrets")).unwrap();
        let arguments = ["--force", "--provider", "directory"];
        assert!(matches!(run(&registry(), flags(folder.path(), &arguments)), Ok(DONE)));
        assert_eq!(fs::read_dir(folder.path().join("secrets")).unwrap().count(), 0);

        let secrets = folder.path().join("tenants.yaml");
        fs::write(&secrets, "mine").unwrap();
        let arguments = ["--force", "--provider", "file"];
        assert!(matches!(run(&registry(), flags(folder.path(), &arguments)), Ok(DONE)));
        assert_ne!(fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&secrets).unwrap(), "mine");
    }

    #[test]
    fn an_unknown_type_writes_nothing_and_is_told_with_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        for (flag, typo, meant) in [
            ("--resolver", "headr", "header"),
            ("--provider", "directry", "directory"),
            ("--driver", "postgres", "postgresql"),
        ] {
            let outcome = run(&registry(), flags(folder.path(), &[flag, typo]));
            assert!(matches!(outcome, Err(Stop::Misuse(_))));
            let told = refused(outcome);
            assert!(
                told.starts_with(flag) && told.contains(&format!("did you mean `{meant}`?")),
                "{told}"
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn secrets_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for provider in ["file", "directory"] {
            let arguments = ["--force", "--provider", provider];
            assert!(matches!(run(&registry(), flags(folder.path(), &arguments)), Ok(DONE)));
        }
        for (path, mode) in [
            ("tenants.yaml", 0o600),
            ("secrets", 0o700),
            ("secrets/tenant1.json", 0o600),
        ] {
            let metadata = folder.path().join(path).metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
        }
    }
}
