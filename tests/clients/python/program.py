"""What a user of the generated Python client would write. Run by ./scripts/clients, which sets the environment."""

import datetime
import json
import os

import openapi_client as tenantry
from openapi_client.exceptions import ApiException

URL = os.environ["TENANTRY_URL"]
TENANT = os.environ["TENANTRY_TENANT"]
# Where a token names the tenant, it is this one.
TOKEN = os.environ.get("TENANTRY_TOKEN")


def problem_of(error: ApiException, status: int) -> tenantry.Problem:
    problem = error.data
    assert isinstance(problem, tenantry.Problem), error
    assert error.status == problem.status == status, problem
    assert problem.title and problem.detail and problem.request_id, problem
    return problem


def client_of(tenant: str, token: str | None) -> tenantry.ApiClient:
    if token is None:
        return tenantry.ApiClient(tenantry.Configuration(host=URL, api_key={"TenantHeader": tenant}))
    return tenantry.ApiClient(tenantry.Configuration(host=URL, access_token=token))


def users(api: tenantry.UsersApi) -> None:
    names = ["Ada", "Grace", "Jean"]
    inputs = [tenantry.UserInput(name=name, email=f"{name.lower()}@example.com") for name in names]
    created = [api.create_user(each) for each in inputs]
    ada = created[0]
    assert ada.id > 0 and (ada.name, ada.email) == ("Ada", "ada@example.com"), ada
    assert abs(datetime.datetime.now(datetime.timezone.utc) - ada.created_at) < datetime.timedelta(minutes=10), ada

    first = api.list_users(limit=2)
    assert first.items == created[:2] and first.next is not None, first
    second = api.list_users(limit=2, after=first.next)
    assert second.items == created[2:] and second.next is None, second

    assert api.get_user(ada.id) == ada
    updated = api.update_user(ada.id, tenantry.UserInput(name="Ada Lovelace", email=ada.email))
    assert updated.name == "Ada Lovelace" and updated.updated_at >= ada.updated_at, updated
    assert api.get_user(ada.id) == updated

    try:
        api.create_user(tenantry.UserInput(name="Another", email="grace@example.com"))
        raise AssertionError("an email address was taken twice")
    except ApiException as error:
        problem = problem_of(error, 409)
        assert problem.code == "conflict", problem
        assert problem.errors is not None and [fault.pointer for fault in problem.errors] == ["/email"], problem

    for user in created:
        api.delete_user(user.id)
    try:
        api.get_user(ada.id)
        raise AssertionError("a deleted user is still there")
    except ApiException as error:
        problem = problem_of(error, 404)
        assert (problem.code, problem.errors) == ("not_found", None), problem


def declared(api: tenantry.TableUsersApi) -> None:
    prefer = "return=representation"
    (ada,) = api.create_users(tenantry.TableUsersCreate(name="Ada", email="ada@example.com"), prefer=prefer)
    assert ada.id is not None and ada.name == "Ada" and ada.created_at is not None, ada
    (read,) = api.read_users(select="id,name", name="like.A*", order="id.desc", limit=1)
    assert (read.id, read.name, read.email) == (ada.id, "Ada", None), read
    (changed,) = api.update_users(tenantry.TableUsersUpdate(name="Ada Lovelace"), id=f"eq.{ada.id}", prefer=prefer)
    assert changed.name == "Ada Lovelace", changed
    (deleted,) = api.delete_users(id=f"eq.{ada.id}", prefer=prefer)
    assert deleted.id == ada.id, deleted


def tenant(api: tenantry.TenantApi) -> None:
    info = api.get_tenant_info()
    assert (info.id, info.driver) == (TENANT, "sqlite"), info
    stats = api.get_tenant_stats()
    assert stats.users == 0 and stats.pool.max > 0 and stats.queries.mean_ms > 0, stats


def health(api: tenantry.HealthApi) -> None:
    own = api.get_tenant_health(TENANT)
    assert own.status == tenantry.TenantStatus.HEALTHY and own.error is None, own
    assert own.latency_ms is not None and own.checked_at is not None, own
    assert own.secret is not None and not own.secret.stale, own
    (unused,) = [each for each in api.list_tenants_health().tenants if each.id == "unused"]
    assert unused.status == tenantry.TenantStatus.IDLE, unused
    assert unused.latency_ms is None and unused.checked_at is None and unused.secret is None, unused


def wrong_tenant(api: tenantry.UsersApi) -> None:
    try:
        api.list_users()
        raise AssertionError("somebody else was let in")
    except ApiException as error:
        if TOKEN is None:
            assert problem_of(error, 404).code == "tenant_unknown"
        else:
            assert problem_of(error, 401).code == "unauthenticated"


def a_member_that_a_later_version_adds(user: tenantry.User) -> None:
    text = json.dumps(json.loads(user.to_json()) | {"added_later": {"as": ["anything"]}})
    later = tenantry.User.from_json(text)
    assert later is not None and later.name == user.name, later


def main() -> None:
    with client_of(TENANT, TOKEN) as client:
        users(tenantry.UsersApi(client))
        declared(tenantry.TableUsersApi(client))
        tenant(tenantry.TenantApi(client))
        health(tenantry.HealthApi(client))
    with client_of("nobody", TOKEN and "not a token") as client:
        wrong_tenant(tenantry.UsersApi(client))
    now = datetime.datetime.now(datetime.timezone.utc)
    a_member_that_a_later_version_adds(
        tenantry.User(id=1, name="Ada", email="ada@example.com", created_at=now, updated_at=now)
    )


if __name__ == "__main__":
    main()
