//! What a user of the generated Rust client would write. Run by ./scripts/clients, which sets the
//! environment.

use std::{env, fmt::Debug};

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{TimeDelta, Utc};
use openapi::{
    apis::{
        Error,
        configuration::{ApiKey, Configuration},
        health_api::{get_tenant_health, list_tenants_health},
        table_users_api::{create_users, delete_users, read_users, update_users},
        tenant_api::{get_tenant_info, get_tenant_stats},
        users_api::{create_user, delete_user, get_user, list_users, update_user},
    },
    models::{Problem, TableUsersCreate, TableUsersUpdate, TenantStatus, User, UserInput},
};

/// The problem that a call was refused with. The types of the client's errors have a variant for
/// each status, all of them with a problem inside and told apart by nothing, so it is read from the
/// content.
fn problem_of<T: Debug, E: Debug>(answer: Result<T, Error<E>>, status: u16) -> Result<Problem> {
    let refusal = match answer {
        Err(Error::ResponseError(refusal)) => refusal,
        other => return Err(anyhow!("not a refusal: {other:?}")),
    };
    ensure!(refusal.entity.is_some(), "a refusal of no type: {refusal:?}");
    let problem: Problem = serde_json::from_str(&refusal.content)?;
    ensure!(
        refusal.status == status && problem.status == i32::from(status),
        "{problem:?}"
    );
    let texts = [&problem.title, &problem.detail, &problem.request_id];
    ensure!(texts.iter().all(|text| !text.is_empty()), "{problem:?}");
    Ok(problem)
}

fn configuration(url: &str, tenant: &str, token: Option<&str>) -> Configuration {
    let mut configuration = Configuration::new();
    configuration.base_path = url.to_owned();
    match token {
        Some(token) => configuration.bearer_access_token = Some(token.to_owned()),
        None => {
            configuration.api_key = Some(ApiKey {
                prefix: None,
                key: tenant.to_owned(),
            });
        }
    }
    configuration
}

async fn users(api: &Configuration) -> Result<()> {
    let mut created: Vec<User> = Vec::new();
    for name in ["Ada", "Grace", "Jean"] {
        let email = format!("{}@example.com", name.to_lowercase());
        created.push(create_user(api, UserInput::new(name.to_owned(), email)).await?);
    }
    let ada = &created[0];
    ensure!(
        ada.id > 0 && ada.name == "Ada" && ada.email == "ada@example.com",
        "{ada:?}"
    );
    ensure!(
        (Utc::now() - ada.created_at.to_utc()).abs() < TimeDelta::minutes(10),
        "{ada:?}"
    );

    let first = list_users(api, Some(2), None).await?;
    ensure!(first.items == created[..2], "{first:?}");
    let next = first.next.context("one page is not all")?;
    let second = list_users(api, Some(2), Some(&next)).await?;
    ensure!(second.items == created[2..] && second.next.is_none(), "{second:?}");

    ensure!(get_user(api, ada.id).await? == *ada);
    let input = UserInput::new("Ada Lovelace".to_owned(), ada.email.clone());
    let updated = update_user(api, ada.id, input).await?;
    ensure!(
        updated.name == "Ada Lovelace" && updated.updated_at >= ada.updated_at,
        "{updated:?}"
    );
    ensure!(get_user(api, ada.id).await? == updated);

    let taken = UserInput::new("Another".to_owned(), "grace@example.com".to_owned());
    let problem = problem_of(create_user(api, taken).await, 409)?;
    ensure!(problem.code == "conflict", "{problem:?}");
    let faults = problem.errors.context("a conflict says of what")?;
    let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_deref()).collect();
    ensure!(pointers == [Some("/email")], "{faults:?}");

    for user in &created {
        delete_user(api, user.id).await?;
    }
    let problem = problem_of(get_user(api, ada.id).await, 404)?;
    ensure!(problem.code == "not_found" && problem.errors.is_none(), "{problem:?}");
    Ok(())
}

async fn declared(api: &Configuration) -> Result<()> {
    let prefer = Some("return=representation");
    let input = TableUsersCreate::new("Ada".to_owned(), "ada@example.com".to_owned());
    let created = create_users(api, input, prefer).await?;
    let ada = created.first().context("a row was made")?;
    ensure!(
        ada.name.as_deref() == Some("Ada") && ada.created_at.is_some(),
        "{ada:?}"
    );
    let (select, name, order) = (Some("id,name"), Some("like.A*"), Some("id.desc"));
    let read = read_users(
        api,
        select,
        None,
        name,
        None,
        None,
        None,
        None,
        None,
        order,
        Some(1),
        None,
        None,
    )
    .await?;
    let read = read.first().context("a row is there")?;
    ensure!(read.id == ada.id && read.email.is_none(), "{read:?}");
    let id = format!("eq.{}", ada.id.context("a row has a key")?);
    let change = TableUsersUpdate {
        name: Some("Ada Lovelace".to_owned()),
        ..TableUsersUpdate::default()
    };
    let changed = update_users(api, change, Some(&id), None, None, None, None, prefer).await?;
    ensure!(
        changed.len() == 1 && changed[0].name.as_deref() == Some("Ada Lovelace"),
        "{changed:?}"
    );
    let deleted = delete_users(api, Some(&id), None, None, None, None, prefer).await?;
    ensure!(deleted.len() == 1 && deleted[0].id == ada.id, "{deleted:?}");
    Ok(())
}

async fn of_tenant(api: &Configuration, tenant: &str) -> Result<()> {
    let info = get_tenant_info(api).await?;
    ensure!(info.id == tenant && info.driver == "sqlite", "{info:?}");
    let stats = get_tenant_stats(api).await?;
    ensure!(
        stats.users == 0 && stats.pool.max > 0 && stats.queries.mean_ms > 0.0,
        "{stats:?}"
    );
    Ok(())
}

async fn health(api: &Configuration, tenant: &str) -> Result<()> {
    let own = get_tenant_health(api, tenant).await?;
    ensure!(own.status == TenantStatus::Healthy && own.error.is_none(), "{own:?}");
    ensure!(own.latency_ms.is_some() && own.checked_at.is_some(), "{own:?}");
    ensure!(own.secret.as_ref().is_some_and(|secret| !secret.stale), "{own:?}");
    let all = list_tenants_health(api, None, None, None, None).await?.tenants;
    let unused = all
        .iter()
        .find(|each| each.id == "unused")
        .context("a tenant is missing")?;
    ensure!(unused.status == TenantStatus::Idle, "{unused:?}");
    ensure!(unused.latency_ms.is_none() && unused.checked_at.is_none(), "{unused:?}");
    ensure!(unused.secret.is_none(), "{unused:?}");
    Ok(())
}

fn a_member_that_a_later_version_adds() -> Result<()> {
    let later = serde_json::json!({
        "id": 1, "name": "Ada", "email": "ada@example.com", "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z", "added_later": {"as": ["anything"]},
    });
    let user: User = serde_json::from_value(later)?;
    ensure!(user.name == "Ada", "{user:?}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (url, tenant) = (env::var("TENANTRY_URL")?, env::var("TENANTRY_TENANT")?);
    // If a token names the tenant, it is this one.
    let token = env::var("TENANTRY_TOKEN").ok();
    let api = configuration(&url, &tenant, token.as_deref());
    users(&api).await?;
    declared(&api).await?;
    of_tenant(&api, &tenant).await?;
    health(&api, &tenant).await?;

    let wrong = configuration(&url, "nobody", token.is_some().then_some("not a token"));
    let (status, code) = match token {
        None => (404, "tenant_unknown"),
        Some(_) => (401, "unauthenticated"),
    };
    let problem = problem_of(list_users(&wrong, None, None).await, status)?;
    ensure!(problem.code == code, "{problem:?}");
    a_member_that_a_later_version_adds()
}
