"""What schemathesis is told about Tenantry beyond its document: a check of its own, and a count of cases.

A tenant is named by an API key in the document, yet a name is not a proof: a request without it is 400 `tenant_missing` and one
for nobody's is 404 `tenant_unknown`, where schemathesis' own check `ignored_auth` knows only 401 and 403. So that check is off for
tenant operations (and no others), and `tenant_is_required` asks the same of them with the right answers.
"""

import os
import threading

import requests
import schemathesis

TABLE_PATHS = "/rest/v1/"
TENANT_PATHS = ("/api/v1/tenant/", TABLE_PATHS)
HEADER = os.environ.get("CONFORMANCE_TENANT_HEADER", "X-Tenant-ID")

_confirmed = set()
_lock = threading.Lock()


@schemathesis.hook
def before_call(context, case, kwargs):
    """New rows are answered, as the document says: without this preference the answer has no body, which it has no words for."""
    if case.method == "POST" and case.operation.path.startswith(TABLE_PATHS):
        case.headers = {**(case.headers or {}), "Prefer": "return=representation"}


@schemathesis.check
def tenant_is_required(ctx, response, case):
    """A tenant operation that succeeds fails without a tenant and for an unknown one."""
    operation = case.operation.label
    if not case.operation.path.startswith(TENANT_PATHS) or not 200 <= response.status_code < 300:
        return
    with _lock:
        if operation in _confirmed:
            return
        _confirmed.add(operation)
    sent = response.request
    for tenant, status, code in [(None, 400, "tenant_missing"), ("nobody-has-this-name", 404, "tenant_unknown")]:
        headers = {name: value for name, value in sent.headers.items() if name.lower() != HEADER.lower()}
        if tenant is not None:
            headers[HEADER] = tenant
        answer = requests.request(sent.method, sent.url, headers=headers, data=sent.body, timeout=30)
        found = answer.json().get("code") if "json" in answer.headers.get("Content-Type", "") else None
        assert (answer.status_code, found) == (status, code), (
            f"{operation} with the tenant {tenant!r}: expected {status} {code}, got {answer.status_code} {found}"
        )
