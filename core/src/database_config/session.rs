//! A secret's settings for database sessions.

/// How a session begins, and which server it is wanted of.
#[derive(Debug, Clone, Default)]
pub struct SessionConfig {
    /// The name it has in the server's lists; `None` leaves it to the driver.
    pub application_name: Option<String>,
    /// `schema`: the names of `search_path`, with commas between them.
    pub schema: Option<String>,
    /// Other settings of the server, by name, that it begins with.
    pub settings: Vec<(String, String)>,
    /// Which server is wanted, if there are several.
    pub target: SessionTarget,
}

/// Which kind of server a session is wanted of, as libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionTarget {
    /// Any.
    #[default]
    Any,
    /// A server that accepts writes.
    ReadWrite,
    /// A server that accepts no writes.
    ReadOnly,
    /// A server that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any if there is none.
    PreferStandby,
}

impl SessionTarget {
    /// Reads libpq's words, and those of PostgreSQL's JDBC driver.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "any" => Self::Any,
            "read-write" => Self::ReadWrite,
            "read-only" => Self::ReadOnly,
            "primary" | "master" => Self::Primary,
            "standby" | "secondary" | "slave" => Self::Standby,
            "prefer-standby" | "preferSecondary" | "preferSlave" => Self::PreferStandby,
            _ => return None,
        })
    }
}
