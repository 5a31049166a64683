//! A service of AWS in which tenants' secrets are, each below its own name.

use std::{collections::BTreeSet, fmt, time::Duration};

use aws_config::SdkConfig;
use serde_json::Value;
use tenantry_core::{BuildContext, BuildError, ProviderError, SecretValue, TenantId};
use tokio::time::timeout;

use super::{NameRule, Names, Settings, names, settle};
use crate::defaults;

/// The longest that a list may take, over all its pages. The engine waits for 30 seconds only.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one service, with the names of the tenants' secrets there.
pub(crate) struct Store<C> {
    pub(crate) client: C,
    pub(crate) names: Names,
    defaults: SecretValue,
}

/// One answer of a list: the names in it, and what asks for the next one.
pub(crate) struct Page {
    pub(crate) names: Vec<String>,
    pub(crate) next: Option<String>,
}

impl<C> fmt::Debug for Store<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}

impl<C> Store<C> {
    /// Reads the settings; `client` makes a client of the SDK's settings and the endpoint. Nothing
    /// is sent.
    pub(crate) async fn open(
        sdk: &SdkConfig,
        mut settings: Settings,
        rule: &NameRule,
        context: &BuildContext,
        client: impl FnOnce(&SdkConfig, Option<String>) -> C,
    ) -> Result<Self, BuildError> {
        let (sdk, endpoint) = settle(sdk, &mut settings).await?;
        Ok(Self {
            client: client(&sdk, endpoint),
            names: names(settings.prefix.as_deref(), rule, context)?,
            defaults: settings.defaults.unwrap_or_default(),
        })
    }

    /// A secret that was read, completed by the defaults.
    pub(crate) fn complete(&self, value: Value) -> Value {
        defaults::complete(value, &self.defaults)
    }

    /// The tenants with a secret in a list. `page` requests one page of it; `what` names the listed
    /// things.
    pub(crate) async fn tenants<F>(
        &self,
        what: &str,
        most_pages: usize,
        mut page: impl FnMut(Option<String>) -> F,
    ) -> Result<Vec<TenantId>, ProviderError>
    where
        F: Future<Output = Result<Page, ProviderError>>,
    {
        let pages = async {
            let mut tenants = BTreeSet::new();
            let mut next = None;
            for _ in 0..most_pages {
                let listed = page(next).await?;
                let ids = listed.names.iter().filter_map(|name| self.names.tenant_in(name));
                tenants.extend(ids);
                next = listed.next;
                if next.is_none() {
                    return Ok(tenants.into_iter().collect());
                }
            }
            let reason = format!("the list of {what} does not end after {most_pages} pages");
            Err(ProviderError::Unavailable(reason.into()))
        };
        let late = format!("the list of {what} took longer than {LIST_TIMEOUT:?}");
        timeout(LIST_TIMEOUT, pages)
            .await
            .unwrap_or_else(|_| Err(ProviderError::Unavailable(late.into())))
    }
}
