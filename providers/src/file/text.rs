//! The text of a file of secrets.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;
use tenantry_core::{BoxError, SecretDocument, SecretValue, SecretVersion, TenantId, TenantIdPattern};

use crate::secret_text;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The most keys and values of a YAML file, those of some 200,000 tenants. The parser's own bound
/// would be reached with 14,000.
const MOST_NODES: usize = 4_000_000;

pub(super) type Tenants = BTreeMap<TenantId, Entry>;

/// A tenant's secret, or what is wrong with it: it is the other tenants' trouble no more than if
/// each secret had a file of its own.
pub(super) type Entry = Result<SecretDocument, &'static str>;

/// Why the file cannot be used: what follows "the file" or "a file that". It names a place in the
/// file, and repeats nothing of its text but valid tenant ids.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) reason: String,
    pub(super) source: Option<BoxError>,
}

impl Problem {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: None,
        }
    }

    fn io(error: std::io::Error) -> Self {
        Self {
            reason: format!("cannot be read ({})", error.kind()),
            source: Some(error.into()),
        }
    }
}

pub(super) async fn load(path: PathBuf, id_pattern: TenantIdPattern) -> Result<Tenants, Problem> {
    let loaded = tokio::task::spawn_blocking(move || {
        // Looked at first: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(&path).map_err(Problem::io)?;
        if !metadata.is_file() {
            return Err(Problem::new("is not a regular file"));
        }
        let text = read(&path, metadata.len()).map_err(Problem::io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Problem::new(format!("is larger than {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&text).map_err(|_| Problem::new("is not UTF-8 text"))?;
        let is_json = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        parse(text, is_json, &id_pattern)
    });
    // A panic's message is not passed on: it may hold what was being read.
    loaded
        .await
        .unwrap_or_else(|_| Err(Problem::new("could not be read to its end")))
}

/// Reads at most one byte more than is allowed.
fn read(path: &Path, len: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.min(MAX_BYTES) as usize + 1));
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn parse(text: &str, is_json: bool, id_pattern: &TenantIdPattern) -> Result<Tenants, Problem> {
    let mut said = None;
    let seed = TenantsSeed {
        id_pattern,
        said: &mut said,
    };
    let text = text.trim_start_matches('\u{feff}');
    // The parsers' messages may repeat the file's text, so only kind and place are used.
    let parsed = if is_json {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = seed.deserialize(&mut deserializer);
        let parsed = parsed.and_then(|tenants| deserializer.end().map(|()| tenants));
        parsed.map_err(|error| ("is not valid JSON", error.line() as u64))
    } else {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_events: 2 * MOST_NODES, max_nodes: MOST_NODES },
            with_snippet: false,
            strict_booleans: true,
        };
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            seed.deserialize(deserializer)
        });
        parsed.map_err(|error| {
            let what = match error {
                serde_saphyr::Error::DuplicateMappingKey { .. } => "holds a key twice",
                serde_saphyr::Error::Budget { .. } => "holds too many values, or some that are nested too deep",
                _ => "is not valid YAML",
            };
            (what, error.location().map_or(0, |at| at.line()))
        })
    };
    parsed.map_err(|(what, ended)| {
        let said = said.unwrap_or(Said {
            reason: what.to_owned(),
            line: 0,
        });
        let line = if said.line == 0 { ended } else { said.line };
        Problem::new(if line == 0 {
            said.reason
        } else {
            format!("{} (line {line})", said.reason)
        })
    })
}

/// A fault of the entry that begins in `line`; 0 if the parser does not report the line.
struct Said {
    reason: String,
    line: u64,
}

/// Reads the mapping from tenant id to secret, and says in its own words what is wrong with it.
struct TenantsSeed<'a> {
    id_pattern: &'a TenantIdPattern,
    said: &'a mut Option<Said>,
}

impl<'de> DeserializeSeed<'de> for TenantsSeed<'_> {
    type Value = Tenants;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tenants, D::Error> {
        // As a map, an empty YAML file would be an empty mapping; it is more likely half of a file
        // that is being written.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TenantsSeed<'_> {
    type Value = Tenants;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from tenant id to secret")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tenants, A::Error> {
        let said = self.said;
        let mut tenants = Tenants::new();
        while let Some(Spanned {
            value: name,
            referenced,
            ..
        }) = map.next_key::<Spanned<String>>()?
        {
            let mut refuse = |reason: String| {
                let error = A::Error::custom(&reason);
                *said = Some(Said {
                    reason,
                    line: referenced.line(),
                });
                error
            };
            // A name that is not an id is not repeated, since in a file of another form it may be a
            // secret.
            let id = self
                .id_pattern
                .parse(&name)
                .map_err(|error| refuse(format!("holds a tenant id that {error}")))?;
            if tenants.contains_key(&id) {
                return Err(refuse(format!("names the tenant `{id}` twice")));
            }
            tenants.insert(id, entry(SecretValue::new(map.next_value()?)));
        }
        Ok(tenants)
    }
}

fn entry(secret: SecretValue) -> Entry {
    let value = match secret.expose() {
        Value::Object(_) => secret,
        Value::String(text) => SecretValue::new(secret_text::from_url(text.trim()).ok_or("is a text and no URL")?),
        _ => return Err("is neither a mapping nor a URL"),
    };
    let version = SecretVersion::of_content(value.expose());
    Ok(SecretDocument::new(value, version))
}
