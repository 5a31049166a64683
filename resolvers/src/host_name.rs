//! Host names as configuration writes them and as requests send them.

use std::net::Ipv6Addr;

use tenantry_core::{MalformedReason, RequestHead, Resolution, ResolveError, TenantId};

/// A host name of the configuration in the form that [`normal`] gives: lower case, without the
/// root's dot.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn checked(written: &str) -> Result<String, &'static str> {
    if let Some(address) = written.strip_prefix('[') {
        let address = address
            .strip_suffix(']')
            .ok_or("is an address without its `]`, or with a port")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "is not an IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    let name = written.strip_suffix('.').unwrap_or(written);
    if name.is_empty() {
        return Err("is empty");
    }
    if name.contains(':') {
        return Err("has a port or a scheme, and must be the host's name only");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let well_formed = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    if name.len() > 253 || !name.split('.').all(well_formed) {
        return Err("is not a host name (one with letters beyond ASCII is written in its `xn--` form)");
    }
    Ok(name.to_ascii_lowercase())
}

/// A request's host name for comparison: in lower case (RFC 4343), and without the dot at the end
/// of `example.com.`. An IPv6 address is in its shortest form (RFC 5952).
pub(crate) fn normal(host: &str) -> String {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        return format!("[{address}]");
    }
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The tenant of a request's host, found by `read`.
///
/// # Errors
/// The host cannot be read, or belongs to no tenant. [`ResolveError::Mismatch`] if the forwarded
/// host of a trusted proxy and the request's own host name different tenants, since a client may
/// have set one of them.
pub(crate) fn tenant_of(
    request: &RequestHead<'_>,
    read: impl Fn(&str) -> Result<Option<TenantId>, ResolveError>,
) -> Result<Resolution, ResolveError> {
    let malformed = |reason: MalformedReason| ResolveError::malformed("the host name", reason);
    let own = request.own_host().map_err(malformed)?;
    let forwarded = request.forwarded_host().map_err(malformed)?;
    let read = |host: Option<&str>| host.map_or(Ok(None), |host| read(&normal(host)));
    let named = match forwarded {
        Some(_) => read(forwarded)?,
        None => return Ok(read(own)?.map_or(Resolution::Absent, Resolution::found)),
    };
    match (named, read(own)) {
        (Some(named), Ok(Some(own))) if named != own => Err(ResolveError::Mismatch),
        (named, _) => Ok(named.map_or(Resolution::Absent, Resolution::found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_kept_in_lower_case() {
        assert_eq!(checked("Example.COM.").as_deref(), Ok("example.com"));
        assert_eq!(checked("localhost").as_deref(), Ok("localhost"));
        assert_eq!(checked("[0:0::1]").as_deref(), Ok("[::1]"));
        assert_eq!(normal("Example.COM."), "example.com");
    }

    #[test]
    fn an_ipv6_address_has_one_form() {
        for written in ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"] {
            assert_eq!(normal(written), "[::1]");
            assert_eq!(checked(written).as_deref(), Ok("[::1]"));
        }
        for mapped in ["[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"] {
            assert_eq!(Ok(normal(mapped)), checked(mapped));
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = "a".repeat(64);
        for name in [
            "",
            ".",
            "..",
            ".example.com",
            "a..b",
            "example.com:80",
            "https://x",
            "a b",
            "a/b",
            "ü.de",
            "[::1",
            "[x]",
            &long,
        ] {
            assert!(checked(name).is_err(), "{name}");
        }
    }
}
