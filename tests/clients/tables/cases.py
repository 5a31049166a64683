"""Runs the cases of cases.json with the dialect's client in Python, on a tenant of each kind of database. Run by
./scripts/tables-clients."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import sys

from postgrest import APIError, CountMethod, ReturnMethod, SyncPostgrestClient

URL = os.environ["TENANTRY_URL"]
TENANTS = os.environ["TENANTRY_TENANTS"].split()
CASES = json.loads(pathlib.Path(__file__).with_name("cases.json").read_text())

VERBS = ("select", "insert", "upsert", "update", "delete")
# What this client calls otherwise than that in JavaScript.
NAMES = {
    "is": "is_",
    "in": "in_",
    "likeAllOf": "like_all_of",
    "likeAnyOf": "like_any_of",
    "ilikeAllOf": "ilike_all_of",
    "ilikeAnyOf": "ilike_any_of",
    "maybeSingle": "maybe_single",
    "maxAffected": "max_affected",
    "stripNulls": "strip_nulls",
}
OPTIONS = {
    "defaultToNull": "default_to_null",
    "onConflict": "on_conflict",
    "ignoreDuplicates": "ignore_duplicates",
    "nullsFirst": "nullsfirst",
    "referencedTable": "foreign_table",
}


def token(tenant, role):
    """A token for a tenant, signed with HS256 (RFC 7518 §3.2)."""

    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"tenant": tenant, "role": role, "name": "ann", "exp": 4102444800}
    signed = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    secret = os.environ["TENANTRY_TOKEN_SECRET"].encode()
    return b".".join([signed, encoded(hmac.digest(secret, signed, hashlib.sha256))]).decode()


def options(given):
    """An object of options as this client's named arguments."""
    named = {OPTIONS.get(name, name): value for name, value in given.items()}
    if "count" in named:
        named["count"] = CountMethod(named["count"])
    if "ascending" in named:
        named["desc"] = not named.pop("ascending")
    return named


def call(chain, method, given):
    """One call of a chain, as it is written in Python."""
    named = options(given.pop()) if given and isinstance(given[-1], dict) and method in ("order", "limit", "range") else {}
    if method == "or":
        return chain.or_(given[0], reference_table=given[1]["referencedTable"] if given[1:] else None)
    if method == "not":
        return chain.not_.filter(*given)
    if method == "notIn":
        return chain.not_.in_(*given)
    if method == "isDistinct":
        return chain.filter(given[0], "isdistinct", given[1])
    if method.endswith("Of"):
        given = [given[0], ",".join(given[1])]
    return getattr(chain, NAMES.get(method, method))(*given, **named)


def run(client, step):
    """The answer of a step: its data, its count and its error."""
    (verb, *given), *rest = step["call"]
    assert verb in VERBS, verb
    if verb in ("select", "delete"):
        arguments, given = given[: verb == "select"], given[verb == "select" :]
    else:
        arguments, given = given[:1], given[1:]
    named = options(given[0]) if given else {}
    if verb != "select" and not any(method == "select" for method, *_ in rest):
        # Without a select the client in JavaScript asks for no rows.
        named["returning"] = ReturnMethod.minimal
    try:
        chain = getattr(client.from_(step["table"]), verb)(*arguments, **named)
        for method, *given in rest:
            chain = call(chain, method, given)
        answer = chain.execute()
    except APIError as error:
        return {"data": None, "count": None, "error": error}
    return {"data": answer.data if answer else None, "count": answer.count if answer else None, "error": None}


def canonical(value, any_order=False):
    """JSON with the members of its objects sorted; of a change also its rows, which come in no order."""
    if any_order and isinstance(value, list):
        return f"[{','.join(sorted(canonical(row) for row in value))}]"
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def differences(step, answer):
    """What is not as a step says."""
    any_order = step["call"][0][0] != "select"
    error = answer["error"]
    if ("error" in step) != (error is not None):
        yield f"error is {error!r}"
    for name, expected in step.get("error", {}).items():
        if getattr(error, name, None) != expected:
            yield f"{name} is {getattr(error, name, None)!r} and not {expected!r}"
    for name in ("data", "count"):
        if name in step and canonical(answer[name], any_order) != canonical(step[name], any_order):
            yield f"{name} is {canonical(answer[name])} and not {canonical(step[name])}"


def comparable(step, answer):
    """What must be the same on every kind of database: constraints have names of their own on each."""
    error = answer["error"]
    said = error and [error.code, "" if (error.code or "").startswith("23") else error.message, error.details, error.hint]
    return canonical([canonical(answer["data"], step["call"][0][0] != "select"), answer["count"], said])


def main():
    failed, first = 0, {}
    for tenant in TENANTS:
        made, passed = {}, 0
        for case in CASES:
            role = case.get("role", "clerk")
            if role not in made:
                headers = {"Authorization": f"Bearer {token(tenant, role)}"}
                made[role] = SyncPostgrestClient(f"{URL}/rest/v1", headers=headers)
            found = []
            for number, step in enumerate(case.get("steps", [case])):
                answer = run(made[role], step)
                found += [f"step {number + 1}: {difference}" for difference in differences(step, answer)]
                said = comparable(step, answer)
                known = first.setdefault((case["name"], number), said)
                if known != said:
                    found.append(f"step {number + 1}: {said} is not what {TENANTS[0]} says: {known}")
            passed += not found
            if found:
                failed += 1
                print(f"tables-clients: postgrest on {tenant}: {case['name']}: {'; '.join(found)}")
        print(f"tables-clients: postgrest on {tenant}: {passed} of {len(CASES)} cases passed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
