"""Starts the program once for each configuration in `tests/resolvers/configurations`, with two SQLite tenants and their sample data.

What a user of a tenant would be told is here too: its id, its host names, its token.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

CONFIGURATIONS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "resolvers" / "configurations"
TENANTS = ("tenant1", "tenant2")
# As in `host.yaml` there.
HOSTS = {"tenant1": "shop.example.com", "tenant2": "example.org"}
# As in `jwt.yaml` there.
SECRET = b"a secret of more than thirty-two bytes"
ISSUER = "https://login.example.com/"

# The settings of whoever runs this would change what is tested.
_LEFT_OUT = ("TENANTRY_", "MULTITENANT_", "OTEL_", "AWS_", "APP_", "TENANT_", "LOG_LEVEL", "RUST_LOG")
_DEADLINE_SECONDS = 60

_CONFIGURATION = """\
server: {{ listen: "127.0.0.1:{port}" }}
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


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(process, port, log):
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=2):
                return
        except (OSError, urllib.error.URLError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not answer: {error}\n{log.read_text()}") from None
            time.sleep(0.05)


@contextlib.contextmanager
def running(resolvers=None):
    """Runs a server for each of `resolvers`, or for all; gives their ports by name and ends them afterwards."""
    program = os.environ["TENANTRY_PROGRAM"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    with tempfile.TemporaryDirectory(prefix="tenantry-resolvers-") as folder, contextlib.ExitStack() as stack:
        servers = {}
        for name in resolvers or names():
            home = pathlib.Path(folder, name)
            home.mkdir()
            port = _free_port()
            mapping = (CONFIGURATIONS / f"{name}.yaml").read_text().splitlines()
            resolver = "\n".join(f"    {line}" for line in mapping)
            (home / "config.yaml").write_text(_CONFIGURATION.format(port=port, resolver=resolver))
            log = home / "log"
            process = subprocess.Popen(
                [program, "--config", "config.yaml", "serve"],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
            )
            stack.callback(_end, process)
            servers[name] = (process, port, log)
        for process, port, log in servers.values():
            _wait(process, port, log)
        yield {name: port for name, (_, port, _) in servers.items()}


def _end(process):
    process.kill()
    process.wait(timeout=10)
