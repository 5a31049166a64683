"""Lets other tools migrate databases, and Tenantry go on with them. Run by ./scripts/adoption."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse

HOME = pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "adoption"
SERVER = urllib.parse.urlsplit(os.environ["TENANTRY_TEST_POSTGRES_URL"])
FLYWAY, DBMATE, GOLANG_MIGRATE, SQLX = "10.22.0", "2.36.0", "v4.18.1", "0.8.6"
STEPS = {
    1: "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL);\n",
    2: "ALTER TABLE people ADD COLUMN email text;\nCREATE INDEX people_by_name ON people (name);\n",
    3: "ALTER TABLE people ADD COLUMN phone text;\n",
}


def run(*command, check=True, **options):
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, timeout=1800, check=False, **options)
    if check and done.returncode != 0:
        raise SystemExit(f"adoption: {command[0]} failed with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def database(name):
    """Makes an empty database; gives its URL."""
    url = os.environ["TENANTRY_TEST_POSTGRES_URL"]
    for sql in (f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}"):
        run("psql", url, "-qc", sql)
    return SERVER._replace(path=f"/{name}").geturl() + "?sslmode=disable"


class Flyway:
    def install(self):
        self.folder = HOME / f"flyway-{FLYWAY}"
        if not self.folder.exists():
            artifact = f"org.flywaydb:flyway-commandline:{FLYWAY}:tar.gz"
            run("mvn", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={HOME}")
            run("tar", "xzf", HOME / f"flyway-commandline-{FLYWAY}.tar.gz", "-C", HOME)

    def name(self, version):
        return f"V{version}__Step_{version}.sql"

    def migrate(self, url, folder):
        jdbc = f"jdbc:postgresql://{SERVER.hostname}:{SERVER.port}{urllib.parse.urlsplit(url).path}"
        run(self.folder / "flyway", f"-url={jdbc}", f"-user={SERVER.username}", f"-password={SERVER.password}",
            f"-locations=filesystem:{folder}", "-target=2", "migrate", env={**os.environ, "REDGATE_DISABLE_TELEMETRY": "true"})


class Dbmate:
    def install(self):
        self.folder = HOME / "dbmate"
        self.folder.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--silent", "--no-fund", "--no-audit", f"dbmate@{DBMATE}", cwd=self.folder)

    def name(self, version):
        return f"2024010203040{version}_step.sql"

    def text(self, version):
        return f"-- migrate:up\n{STEPS[version]}\n-- migrate:down\nSELECT 1/0;\n"

    def migrate(self, url, folder):
        run(self.folder / "node_modules/.bin/dbmate", "--url", url, "--migrations-dir", folder, "--no-dump-schema", "migrate")


class GolangMigrate:
    def install(self):
        self.program = HOME / "go" / "migrate"
        if not self.program.exists():
            package = f"github.com/golang-migrate/migrate/v4/cmd/migrate@{GOLANG_MIGRATE}"
            run("go", "install", "-tags", "postgres", package, env={**os.environ, "GOBIN": str(self.program.parent)})

    def name(self, version):
        return f"00000{version}_step.up.sql"

    def more(self, folder, version):
        (folder / f"00000{version}_step.down.sql").write_text("SELECT 1/0;\n")

    def migrate(self, url, folder):
        run(self.program, "-path", folder, "-database", url, "up")


class Sqlx:
    def install(self):
        self.program = HOME / "sqlx" / "bin" / "sqlx"
        if not self.program.exists():
            run("cargo", "install", "sqlx-cli", "--version", SQLX, "--locked", "--no-default-features", "--features", "postgres,rustls",
                "--root", HOME / "sqlx", env={**os.environ, "CARGO_TARGET_DIR": str(HOME / "sqlx-target")})
            shutil.rmtree(HOME / "sqlx-target", ignore_errors=True)

    def name(self, version):
        return f"2024010203040{version}_step.sql"

    def migrate(self, url, folder):
        run(self.program, "migrate", "run", "--source", folder, "--database-url", url)


TOOLS = {"flyway": Flyway(), "dbmate": Dbmate(), "golang-migrate": GolangMigrate(), "sqlx": Sqlx()}


def adopt(name, tool):
    tool.install()
    url = database("adopted_by_" + name.replace("-", "_"))
    with tempfile.TemporaryDirectory(prefix="tenantry-adoption-") as home:
        home = pathlib.Path(home)
        folder = home / "migrations" / "postgresql"
        folder.mkdir(parents=True)

        def write(version):
            text = tool.text(version) if hasattr(tool, "text") else STEPS[version]
            (folder / tool.name(version)).write_text(text)
            if hasattr(tool, "more"):
                tool.more(folder, version)

        write(1)
        write(2)
        tool.migrate(url, folder)
        write(3)
        secret = {"url": url}
        tenancy = {"provider": {"type": "static", "tenants": {"acme": secret}}}
        (home / "config.yaml").write_text(json.dumps({"tenancy": tenancy, "migrations": {"dir": "migrations"}}))

        def tenantry(*arguments, code=0):
            done = run(os.environ["TENANTRY_PROGRAM"], "--config", home / "config.yaml", "migrate", *arguments, check=False)
            assert done.returncode == code, (name, arguments, done.returncode, done.stdout, done.stderr)
            return done.stdout

        first = tool.name(1).removesuffix(".sql").removesuffix(".up")
        third = tool.name(3).removesuffix(".sql").removesuffix(".up")
        version = first.split("_")[0].lstrip("V")
        versions = {step: version[:-1] + str(step) for step in STEPS}
        # The tool has not applied the third.
        refused = tenantry("adopt", versions[3], code=1)
        assert "is not among the versions" in refused and third in refused, refused
        # Without adoption the first file fails, and nothing of it is kept.
        tenantry("--to", versions[1], code=1)
        adopted = json.loads(tenantry("adopt", versions[2], "--json"))["tenants"][0]
        assert len(adopted["applied"]) == 2 and adopted["version"] == versions[2], adopted
        applied = json.loads(tenantry("--json"))["tenants"][0]
        assert applied["applied"] == [third], applied
        status = json.loads(tenantry("status", "--json"))["tenants"][0]
        assert status["pending"] == [] and status["version"] == versions[3], status
        columns = run("psql", url, "-Atc", "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 'people'")
        assert columns.stdout.strip() == "id name email phone", columns.stdout
    print(f"adoption: {name}: taken over at {versions[2]}, and continued to {versions[3]}", flush=True)


def main():
    options = argparse.ArgumentParser(prog="adoption", description=__doc__)
    options.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(TOOLS))
    chosen = options.parse_args().tools or list(TOOLS)
    if unknown := set(chosen) - set(TOOLS):
        raise SystemExit(f"adoption: not a tool: {', '.join(sorted(unknown))}")
    HOME.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        adopt(name, TOOLS[name])


if __name__ == "__main__":
    main()
