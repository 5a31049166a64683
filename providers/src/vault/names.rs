//! How tenants are named in a mount: a text with `{tenant}` in it.

use tenantry_core::TenantId;

const TENANT: &str = "{tenant}";

/// The names of a mount.
pub(super) struct Names {
    /// The text before and after the tenant's id; the second is `None` if there is no id in the
    /// text.
    before: String,
    after: Option<String>,
}

impl Names {
    /// Reads a text such as `tenantry/{tenant}`, without empty segments.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim_matches('/');
        if text.is_empty() || text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err("is empty, or has an empty part");
        }
        let (before, after) = match text.split_once(TENANT) {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        if after.is_some_and(|after| after.contains(TENANT)) {
            return Err("holds `{tenant}` more than once");
        }
        if before.contains(['{', '}']) || after.is_some_and(|after| after.contains(['{', '}'])) {
            return Err("holds a brace that is neither `{tenant}` nor `{environment}`");
        }
        Ok(Self {
            before: before.to_owned(),
            after: after.map(str::to_owned),
        })
    }

    /// Whether each tenant has a name of its own.
    pub(super) fn name_tenants(&self) -> bool {
        self.after.is_some()
    }

    /// A tenant's name.
    pub(super) fn of(&self, tenant: &TenantId) -> String {
        match &self.after {
            Some(after) => format!("{}{tenant}{after}", self.before),
            None => self.before.clone(),
        }
    }

    /// The folder with one entry for each tenant id. If the names continue below those entries,
    /// also the folders on the way and the last part.
    #[allow(clippy::type_complexity)]
    pub(super) fn folder_and_rest(&self) -> (&str, Option<(Vec<&str>, &str)>) {
        let folder = self.before.rsplit_once('/').map_or("", |(folder, _)| folder);
        let rest = self.after.as_deref().and_then(|after| after.split_once('/'));
        let rest = rest.map(|(_, rest)| {
            let mut parts: Vec<&str> = rest.split('/').collect();
            let leaf = parts.pop().unwrap_or_default();
            (parts, leaf)
        });
        (folder, rest)
    }

    /// The tenant's id in an entry of that folder.
    pub(super) fn tenant_in<'a>(&self, entry: &'a str) -> Option<&'a str> {
        let before = self.before.rsplit_once('/').map_or(&*self.before, |(_, before)| before);
        let after = self.after.as_deref()?;
        let after = after.split_once('/').map_or(after, |(after, _)| after);
        entry.strip_prefix(before)?.strip_suffix(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_and_found_again() {
        let cases = [
            ("{tenant}", "a", "", "a", None),
            ("tenantry/{tenant}", "tenantry/a", "tenantry", "a", None),
            ("/x/app-{tenant}-rw/", "x/app-a-rw", "x", "app-a-rw", None),
            (
                "x/{tenant}/database",
                "x/a/database",
                "x",
                "a",
                Some((vec![], "database")),
            ),
            ("x/{tenant}-y/z/d", "x/a-y/z/d", "x", "a-y", Some((vec!["z"], "d"))),
        ];
        for (text, name, folder, entry, rest) in cases {
            let names = Names::new(text).unwrap();
            assert_eq!(names.of(&"a".parse().unwrap()), name);
            assert_eq!(names.folder_and_rest(), (folder, rest), "{text}");
            assert_eq!(names.tenant_in(entry), Some("a"), "{text}");
        }
        assert!(!Names::new("app").unwrap().name_tenants());
        assert_eq!(Names::new("app").unwrap().of(&"a".parse().unwrap()), "app");
    }

    #[test]
    fn a_text_that_cannot_be_a_name_is_refused() {
        for text in [
            "",
            "/",
            "a//b",
            "a/../b",
            "{tenant}/{tenant}",
            "{tenants}",
            "a/{x}/{tenant}",
        ] {
            assert!(Names::new(text).is_err(), "{text}");
        }
    }
}
