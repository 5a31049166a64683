//! `sqlite:tenant1.db?mode=rw`: a file, and SQLite's own parameters.

use secrecy::ExposeSecret as _;

use super::{DatabaseConfig, Refusal, common::only, parts::Parts};
use crate::SecretInvalid;

/// Fills in what the secret does not say itself.
pub(super) fn complete(config: &mut DatabaseConfig, parts: &Parts<'_>) -> Result<(), SecretInvalid> {
    let path = parts.file()?;
    config.path.get_or_insert(path);
    for parameter in parts.parameters()? {
        let value = parameter.value.expose_secret();
        let outcome = match parameter.name.as_str() {
            "mode" => mode(value).map(|create| config.create = config.create.or(Some(create))),
            "cache" => only(value, &["private"], "has to be `private`"),
            _ => Err(Refusal::Unknown),
        };
        outcome.map_err(|refusal| parts.refused(&parameter.name, refusal))?;
    }
    Ok(())
}

/// Whether a missing file is created.
fn mode(value: &str) -> Result<bool, Refusal> {
    match value {
        "rw" => Ok(false),
        "rwc" => Ok(true),
        "ro" => Err(Refusal::Because(
            "is `ro`: a tenant's file is written too, so write `rw`",
        )),
        "memory" => Err(Refusal::Because(
            "is `memory`, a database that each connection would have for itself",
        )),
        _ => Err(Refusal::Value),
    }
}
