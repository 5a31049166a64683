"""Starts the program once for each configuration in `tests/resolvers/configurations`, with two SQLite tenants and their sample data.

What a user of a tenant would be told is here too: its id, its host names, its token.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import time

import serving

CONFIGURATIONS = serving.REPOSITORY / "tests" / "resolvers" / "configurations"
TENANTS = ("tenant1", "tenant2")
# As in `host.yaml` there.
HOSTS = {"tenant1": "shop.example.com", "tenant2": "example.org"}
# As in `jwt.yaml` there.
SECRET = b"a secret of more than thirty-two bytes"
ISSUER = "https://login.example.com/"

_CONFIGURATION = """\
tenancy:
  resolver:
{resolver}
  provider: {{ type: static, tenants: {{ tenant1: {{ type: sqlite, path: one.db }}, tenant2: {{ type: sqlite, path: two.db }} }} }}
migrations: {{ on_connect: true, sample_data: true }}
rest:
  tables:
    users:
      key: [id]
      columns:
        id: {{ type: int8, generated: true }}
        name: {{ type: text }}
        email: {{ type: text }}
      allow: {{ anon: {{ read: {{}} }} }}
logging: {{ level: warn }}
"""


def names():
    """The resolvers, as their configurations are named."""
    return sorted(path.stem for path in CONFIGURATIONS.glob("*.yaml"))


def token(tenant):
    """A token for `tenant` that the resolver of `jwt.yaml` accepts for an hour."""

    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"tenant": tenant, "iss": ISSUER, "exp": int(time.time()) + 3600}
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(SECRET, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, encoded(signature)]).decode()


def sample_user(tenant):
    """The address of a user that only this tenant has."""
    return f"john@{tenant}.com"


@contextlib.contextmanager
def running(resolvers=None):
    """Runs a server for each of `resolvers`, or for all; gives their ports by name and ends them afterwards."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in resolvers or names():
            mapping = (CONFIGURATIONS / f"{name}.yaml").read_text().splitlines()
            resolver = "\n".join(f"    {line}" for line in mapping)
            servers[name] = stack.enter_context(serving.configured(_CONFIGURATION.format(resolver=resolver))).port
        yield servers
