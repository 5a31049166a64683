//! The parts of a URL, divided as libpq divides them (`conninfo_uri_parse_options`).

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::{Refusal, invalid};
use crate::SecretInvalid;

/// A URL, divided and not decoded yet.
pub(super) struct Parts<'a> {
    /// The scheme in lower case, without `jdbc:` and without what follows a `+`.
    pub(super) scheme: String,
    /// Whether it begins with `jdbc:`.
    pub(super) is_jdbc: bool,
    /// The text after the scheme and its colon, up to the query.
    before_query: &'a str,
    query: Option<&'a str>,
    user_info: Option<&'a str>,
    servers: &'a str,
    path: Option<&'a str>,
}

/// The server, the database and the login of a URL.
pub(super) struct Target {
    pub(super) servers: Vec<(String, Option<u16>)>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
}

/// A parameter of the query, decoded.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: SecretString,
}

/// The reason for refusing a URL with an `@` after the host.
const PASTED: &str = "has an `@` behind its host: in a user name or a password, write `@` as `%40` and `/` as `%2F`";

impl<'a> Parts<'a> {
    /// # Errors
    /// It has no scheme.
    pub(super) fn split(url: &'a str) -> Result<Self, SecretInvalid> {
        let no_url = || invalid("is not a URL");
        let url = url.trim_matches(|c: char| c.is_ascii_whitespace());
        let is_jdbc = url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("jdbc:"));
        let (scheme, rest) = url[if is_jdbc { 5 } else { 0 }..].split_once(':').ok_or_else(no_url)?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(is_word) {
            return Err(no_url());
        }
        let scheme = scheme.split('+').next().unwrap_or(scheme).to_ascii_lowercase();
        let authority = rest.strip_prefix("//").unwrap_or(rest);
        // The user's name and password end at the first `@` that no `/` precedes.
        let slash = authority.find('/').unwrap_or(authority.len());
        let (user_info, behind) = match authority[..slash].find('@') {
            None => (None, authority),
            Some(at) => {
                // A host cannot have an `@`, so it was in the password.
                let host = &authority[at + 1..];
                let host = &host[..host.find(['/', '?']).unwrap_or(host.len())];
                let at = host.rfind('@').map_or(at, |more| at + 1 + more);
                (Some(&authority[..at]), &authority[at + 1..])
            }
        };
        let (place, query) = match behind.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (behind, None),
        };
        let (servers, path) = match place.split_once('/') {
            Some((servers, path)) => (servers, Some(path)),
            None => (place, None),
        };
        Ok(Self {
            scheme,
            is_jdbc,
            before_query: rest.split('?').next().unwrap_or(rest),
            query,
            user_info,
            servers,
            path,
        })
    }

    /// The path in a file's URL: everything after the scheme, without `//`.
    pub(super) fn file(&self) -> Result<String, SecretInvalid> {
        decode(self.before_query.strip_prefix("//").unwrap_or(self.before_query))
    }

    /// # Errors
    /// It has no `//`, or a part of it is malformed.
    pub(super) fn place(&self) -> Result<Target, SecretInvalid> {
        if !self.before_query.starts_with("//") {
            return Err(invalid("has no `//` after its scheme"));
        }
        if self.path.is_some_and(|path| path.contains('@')) {
            return Err(invalid(PASTED));
        }
        let (username, password) = match self.user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
            Some((username, password)) => (some(decode(username)?), some(decode(password)?)),
            None => (None, None),
        };
        let servers = match self.servers.is_empty() {
            true => Vec::new(),
            false => self.servers.split(',').map(server).collect::<Result<_, _>>()?,
        };
        Ok(Target {
            servers,
            database: some(decode(self.path.unwrap_or_default())?),
            username,
            password: password.map(SecretString::from),
        })
    }

    /// # Errors
    /// A parameter has no value, or an escape in it is malformed.
    pub(super) fn parameters(&self) -> Result<Vec<Parameter>, SecretInvalid> {
        let words = self
            .query
            .unwrap_or_default()
            .split('&')
            .filter(|word| !word.is_empty());
        let parameter = |word: &str| {
            let (name, value) = match word.split_once('=') {
                Some(parts) => parts,
                None if self.has_at_in_query() => return Err(invalid(PASTED)),
                None => return Err(invalid("has a parameter without `=`")),
            };
            Ok(Parameter {
                name: decode(name)?,
                value: SecretString::from(decode(value)?),
            })
        };
        words.map(parameter).collect()
    }

    /// Names a parameter that is refused. No part of a pasted password precedes an `@`.
    pub(super) fn refused(&self, name: &str, refusal: Refusal) -> SecretInvalid {
        const LONGEST_NAME: usize = 40;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
        if self.has_at_in_query() && refusal == Refusal::Unknown {
            return invalid(PASTED);
        }
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_name) {
            return invalid("has a parameter that is not known");
        }
        let reason = match refusal {
            Refusal::Unknown => "which is not known and would be ignored: remove it",
            Refusal::Value => "which has no such value",
            Refusal::Because(reason) => return invalid(format!("has the parameter `{name}`, which {reason}")),
        };
        invalid(format!("has the parameter `{name}`, {reason}"))
    }

    fn has_at_in_query(&self) -> bool {
        self.query.is_some_and(|query| query.contains('@'))
    }
}

/// One host and its port.
fn server(text: &str) -> Result<(String, Option<u16>), SecretInvalid> {
    let malformed = || invalid("has a host that is malformed");
    let (host, port) = match text.strip_prefix('[') {
        Some(address) => {
            let (address, port) = address.split_once(']').ok_or_else(malformed)?;
            match port.strip_prefix(':') {
                Some(port) => (address, port),
                None if port.is_empty() => (address, port),
                None => return Err(malformed()),
            }
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    Ok((host_name(decode(host)?)?, parse_port(port)?))
}

/// # Errors
/// It holds a character that no host and no path of a socket has.
pub(super) fn host_name(host: String) -> Result<String, SecretInvalid> {
    let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    let is_path = host.starts_with('/') && !host.chars().any(char::is_control);
    if host.is_empty() || !(is_path || host.chars().all(is_host)) {
        return Err(invalid("has a host that is malformed"));
    }
    Ok(host)
}

/// # Errors
/// It is not a port.
pub(super) fn parse_port(port: &str) -> Result<Option<u16>, SecretInvalid> {
    match port {
        "" => Ok(None),
        port => match port.parse() {
            Ok(port @ 1..) => Ok(Some(port)),
            _ => Err(invalid("has a port that is not from 1 to 65535")),
        },
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// # Errors
/// A `%` does not begin an escape, or the text is not UTF-8 or holds a NUL character.
fn decode(text: &str) -> Result<String, SecretInvalid> {
    let escapes = text.split('%').skip(1);
    let is_escape = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !escapes.into_iter().all(is_escape) {
        return Err(invalid("has a `%` that begins no escape: write it as `%25`"));
    }
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| invalid("is not UTF-8"))?;
    match text.contains('\0') {
        true => Err(invalid("holds a NUL character")),
        false => Ok(text.into_owned()),
    }
}
