"""Generates a Python client from each resolver's document and reaches a tenant with it. Run by ./scripts/clients-python."""

import importlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

import resolver_servers as servers



def ways(package, resolver, tenant, origin):
    """How a user of the generated client names a tenant: a configuration for it, and arguments of each call.

    Nothing but what the document offers is used: security schemes by name, variables of servers, parameters.
    """
    header = ({"api_key": {"TenantHeader": tenant}}, {})
    query = ({"api_key": {"TenantQuery": tenant}}, {})
    cookie = ({"api_key": {"TenantCookie": tenant}}, {})
    known = {
        "header": [header],
        "query": [query],
        "cookie": [cookie],
        "jwt": [({"access_token": servers.token(tenant)}, {})],
        "path": [({}, {"tenant": tenant})],
        "static": [({}, {})],
        "subdomain": [({"server_variables": {"tenant": tenant}}, {})],
        "host": [({"server_index": 1, "server_variables": {"host": servers.HOSTS[tenant]}}, {})],
        "chain": [
            header,
            query,
            ({"server_index": 1, "server_variables": {"tenant": tenant}}, {}),
            # The generator takes no relative server but the first from where the document is.
            ({"host": f"{origin}/t/{tenant}"}, {}),
        ],
    }
    return [(package.Configuration(**settings), arguments) for settings, arguments in known[resolver]]


def reach(package, resolver, origin):
    """Creates a user as one tenant and sees that the other has none of it."""
    tenants = servers.TENANTS[:1] if resolver == "static" else servers.TENANTS
    for tenant in tenants:
        for number, (configuration, arguments) in enumerate(ways(package, resolver, tenant, origin)):
            with package.ApiClient(configuration) as client:
                users = package.UsersApi(client)
                email = f"way{number}@{tenant}.example.com"
                created = users.create_user(user_input=package.UserInput(name="Ada", email=email), **arguments)
                emails = [user.email for user in users.list_users(limit=200, **arguments).items]
            others = [other for other in servers.TENANTS if other != tenant]
            assert created.email in emails and servers.sample_user(tenant) in emails, (resolver, tenant, emails)
            assert not any(other in email for email in emails for other in others), (resolver, tenant, emails)
            print(f"clients-python: {resolver}: {tenant} reached, {len(emails)} users")


def generate(ports, folder):
    """All clients in one run of the generator; gives what it warned about."""
    for name, port in ports.items():
        settings = {
            "generatorName": "python",
            "inputSpec": f"http://127.0.0.1:{port}/openapi.json",
            "outputDir": str(folder / name),
            "packageName": f"tenantry_{name}",
        }
        (folder / f"{name}.json").write_text(json.dumps(settings))
    configurations = [str(folder / f"{name}.json") for name in ports]
    command = [str(pathlib.Path(sys.executable).with_name("openapi-generator-cli")), "batch", "--fail-fast", *configurations]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    said = run.stdout + run.stderr
    if run.returncode:
        raise SystemExit(f"clients-python: the generator failed\n{said}")
    return sorted(set(re.findall(r"^.*(?:WARN|ERROR)\s+(.*)$", said, re.MULTILINE)))


def main():
    with servers.running() as ports, tempfile.TemporaryDirectory(prefix="tenantry-clients-") as folder:
        folder = pathlib.Path(folder)
        warnings = generate(ports, folder)
        for warning in warnings:
            print(f"clients-python: the generator warns: {warning}")
        # Every host name that stands for a tenant leads to this machine, as its owner's DNS would have it.
        look_up = socket.getaddrinfo
        example = re.compile(r"(^|\.)example\.(com|org)$")
        socket.getaddrinfo = lambda host, *rest, **more: look_up(
            "127.0.0.1" if example.search(host) else host, *rest, **more
        )
        for name, port in ports.items():
            sys.path.insert(0, str(folder / name))
            reach(importlib.import_module(f"tenantry_{name}"), name, f"http://127.0.0.1:{port}")
    print(f"clients-python: {len(ports)} clients reached their tenants")


if __name__ == "__main__":
    main()
