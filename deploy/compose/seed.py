"""Writes the secrets of docker-compose.yml's tenants, each for the environments that are named as arguments.

`development` is for a program on this machine: localhost and the published ports. `compose` is for one in a container beside the
servers: their names and own ports. Writing them again replaces them. Run by the services `seed` and `seed-openbao` and by
./scripts/dev-up, with the Python that moto brings.

They go to AWS Secrets Manager, or to KV 2 of Vault or OpenBao if VAULT_ADDR and VAULT_TOKEN are set.
"""

import json
import os
import sys
import urllib.request

import boto3

# tenant: type, service, its port, the published port's variable, what else the secret says.
TENANTS = {
    "default": ("postgresql", "postgres-default", 5432, "POSTGRES_DEFAULT_PORT", {"database": "default_db"}),
    "tenant1": ("postgresql", "postgres-tenant1", 5432, "POSTGRES_TENANT1_PORT", {"database": "tenant1_db"}),
    "tenant2": ("postgresql", "postgres-tenant2", 5432, "POSTGRES_TENANT2_PORT", {"database": "tenant2_db"}),
    "tenant3": (
        "oracle",
        "oracle-tenant3",
        1521,
        "ORACLE_TENANT3_PORT",
        {"database": "FREEPDB1", "oracle": {"service": {"name": "FREEPDB1"}}},
    ),
    "tenant4": ("mysql", "mariadb-tenant4", 3306, "MARIADB_TENANT4_PORT", {"database": "tenant4_db"}),
}


def secret(tenant, environment):
    """The secret of a tenant; what is unset in the environment is an error that names the variable."""
    kind, service, port, port_variable, more = TENANTS[tenant]
    inside = environment == "compose"
    return {
        "type": kind,
        "host": service if inside else "localhost",
        "port": port if inside else int(os.environ[port_variable]),
        "username": f"{tenant}_user",
        "password": os.environ[f"{tenant.upper()}_DB_PASSWORD"],
        **more,
        # Servers without a certificate, reached on this machine.
        "tls": {"mode": "disable"},
        "pool": {"max": {"connections": 20}, "idle": {"connections": 2, "time": "5m"}},
    }


def put_into_vault(environment, tenant, value):
    request = urllib.request.Request(
        f"{os.environ['VAULT_ADDR']}/v1/secret/data/tenantry/{environment}/{tenant}",
        data=json.dumps({"data": value}).encode(),
        headers={"X-Vault-Token": os.environ["VAULT_TOKEN"]},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=10).close()
    print(f"wrote secret/tenantry/{environment}/{tenant}", flush=True)


def main():
    environments = sys.argv[1:]
    without = os.environ.get("SEED_WITHOUT", "").split()
    if not environments:
        sys.exit("usage: seed.py ENVIRONMENT...")
    vault = os.environ.get("VAULT_ADDR")
    client = None if vault else boto3.client("secretsmanager")
    for environment in environments:
        for tenant in TENANTS:
            if tenant in without:
                continue
            if vault:
                put_into_vault(environment, tenant, secret(tenant, environment))
                continue
            name = f"/tenantry/{environment}/{tenant}/database"
            value = json.dumps(secret(tenant, environment))
            try:
                client.create_secret(Name=name, SecretString=value)
            except client.exceptions.ResourceExistsException:
                client.put_secret_value(SecretId=name, SecretString=value)
            print(f"wrote {name}", flush=True)


if __name__ == "__main__":
    main()
