//! The rules that a schema cannot say.

use tenantry_tables::TableDeclaration;

use super::{
    fault::{Fault, Step},
    sections::{Config, Rest},
    tree::Places,
    warm_up::WarmUp,
};

/// The fault of what this program is built without.
pub(crate) fn needs_feature(feature: &str) -> String {
    format!("needs the feature `{feature}`, which this program is built without")
}

/// Every rule that `config` breaks.
pub(crate) fn check(config: &Config, places: &Places) -> Vec<Fault> {
    let mut found = Found {
        places,
        faults: Vec::new(),
    };
    let server = &config.server;
    if server.body_limit.0 == 0 {
        found.add(&["server", "body_limit"], "must be at least 1 byte");
    }
    if server.limits.unread_answers.0 == 0 {
        found.add(&["server", "limits", "unread_answers"], "must be at least 1 byte");
    }
    // Port 0 is another one each time.
    if server
        .admin_listen
        .is_some_and(|address| address == server.listen && address.0.port() != 0)
    {
        found.add(&["server", "admin_listen"], "is the same address as `server.listen`");
    }
    if server.tls.is_some() && !cfg!(feature = "tls") {
        found.add(&["server", "tls"], &needs_feature("tls"));
    }
    if config.observability.enabled && !cfg!(feature = "otlp") {
        found.add(&["observability", "enabled"], &needs_feature("otlp"));
    }
    if let WarmUp::Tenants(ids) = &config.tenancy.warm_up {
        let rule = config.tenancy.id_pattern();
        for (index, id) in ids.iter().enumerate() {
            if let Err(error) = rule.parse(id) {
                let path = [Step::from("tenancy"), Step::from("warm_up"), Step::Index(index)];
                found.add_at(&path, &format!("is no tenant id: it {error}"));
            }
        }
    }
    if let Some(rest) = &config.rest {
        found.tables(rest);
    }
    found.faults
}

struct Found<'a> {
    places: &'a Places,
    faults: Vec<Fault>,
}

impl Found<'_> {
    fn tables(&mut self, rest: &Rest) {
        for wrong in TableDeclaration::check_all(&rest.tables) {
            let path: Vec<&str> = ["rest", "tables"]
                .into_iter()
                .chain(wrong.path.iter().map(String::as_str))
                .collect();
            let steps = self.places.steps(&path);
            let fault = Fault::new(self.places.value(&steps), &steps, wrong.message);
            self.faults.push(fault.with_suggestion(wrong.suggestion.as_deref()));
        }
    }

    fn add(&mut self, path: &[&str], message: &str) {
        let path: Vec<Step> = path.iter().map(|key| Step::from(*key)).collect();
        self.add_at(&path, message);
    }

    fn add_at(&mut self, path: &[Step], message: &str) {
        self.faults.push(Fault::new(self.places.value(path), path, message));
    }
}
