"""Uses the fleet page in headless Chromium. Run by ./scripts/fleet-page."""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

import resolver_servers as servers
from browser import Page

TOKEN = "the-operator-token-of-this-test"
FAILING = "failing-shop"
PAUSED = "paused-shop"
WAIT_SECONDS = 60
FIRST_PAINT_MS = 1000
CONFIGURATION = """\
app: {{ environment: test }}
server: {{ listen: "127.0.0.1:{port}", admin_listen: "127.0.0.1:{operators}" }}
admin: {{ token: "{token}" }}
tenancy:
  provider: {{ type: file, path: tenants.json }}
  pools: {{ acquire_timeout: 2s }}
migrations: {{ on_connect: true, sample_data: true }}
logging: {{ level: warn }}
"""


@contextlib.contextmanager
def running(count):
    """Runs a server with so many tenants; gives its ports and the file of its secrets."""
    with tempfile.TemporaryDirectory(prefix="tenantry-fleet-") as folder:
        home = pathlib.Path(folder)
        port, operators = servers._free_port(), servers._free_port()
        text = CONFIGURATION.format(port=port, operators=operators, token=TOKEN)
        (home / "config.yaml").write_text(text)
        secrets = {f"shop-{number:06}": {"type": "sqlite", "path": f"{number}.db"} for number in range(count - 2)}
        # Nothing listens there.
        secrets[FAILING] = {"type": "postgresql", "host": "127.0.0.1", "port": 9, "database": "d", "username": "u", "password": "p"}
        secrets[PAUSED] = {"type": "sqlite", "path": "paused.db"}
        (home / "tenants.json").write_text(json.dumps(secrets))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(servers._LEFT_OUT)}
        log = home / "log"
        process = subprocess.Popen(
            [os.environ["TENANTRY_PROGRAM"], "--config", "config.yaml", "serve"],
            cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )
        try:
            servers._wait(process, operators, log)
            yield port, operators, home / "tenants.json", secrets
        finally:
            servers._end(process)


def status_of(url, method="GET", headers=None):
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def check_rights(operators):
    """What is served without the token says nothing about a tenant."""
    base = f"http://127.0.0.1:{operators}"
    status, page = status_of(f"{base}/admin")
    assert status == 200 and "shop" not in page, status
    for method, path in [
        ("GET", "/health/tenants"), ("GET", f"/health/tenant/{PAUSED}"), ("GET", "/health/cache"), ("GET", "/metrics"),
        ("POST", f"/admin/tenants/{PAUSED}/suspend"), ("POST", f"/admin/tenants/{PAUSED}/resume"),
        ("POST", f"/admin/tenants/{PAUSED}/refresh"), ("DELETE", f"/admin/tenants/{PAUSED}/pool"),
    ]:
        status, body = status_of(base + path, method)
        assert status == 401 and "shop" not in body, (path, status)


def prepare(port, operators):
    """Some tenants have requests, one fails, one is suspended."""
    # A slow machine may take longer to read the secrets of so many tenants than the first request waits.
    deadline = time.monotonic() + WAIT_SECONDS
    first = {"X-Tenant-ID": "shop-000000"}
    while status_of(f"http://127.0.0.1:{port}/api/v1/tenant/info", headers=first)[0] != 200 and time.monotonic() < deadline:
        time.sleep(1)
    for number in range(12):
        for _ in range(1 + 4 * (number % 5)):
            headers = {"X-Tenant-ID": f"shop-{number:06}"}
            status, body = status_of(f"http://127.0.0.1:{port}/api/v1/tenant/users", headers=headers)
            assert status == 200, body
    status, _ = status_of(f"http://127.0.0.1:{port}/api/v1/tenant/users", headers={"X-Tenant-ID": FAILING})
    assert status == 503, status
    operator = {"Authorization": f"Bearer {TOKEN}"}
    status, _ = status_of(f"http://127.0.0.1:{operators}/admin/tenants/{PAUSED}/suspend", "POST", operator)
    assert status == 204, status


class Fleet(Page):
    """The fleet page, as a person uses it."""

    def wait(self, condition, what):
        WebDriverWait(self.driver, WAIT_SECONDS, 0.05).until(lambda _: condition(), what)

    def rows(self):
        script = "return [...document.querySelectorAll('#rows tr')].map(row => [row.dataset.tenant, row.querySelector('.status').textContent])"
        return [tuple(row) for row in self.driver.execute_script(script)]

    def choose(self, status):
        Select(self.one("#status")).select_by_visible_text(status)

    def type(self, selector, text):
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def do(self, label, tenant):
        """Presses a tenant's button, and answers the question."""
        self.click(f"button[aria-label='{label} {tenant}']")
        question = self.one("#question").text
        assert tenant in question, question
        self.click("#yes")

    def text(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector).text


def visit(page, count, port, operators, file, secrets):
    base = f"http://127.0.0.1:{operators}"
    page.driver.get(f"{base}/admin")
    paint = "return performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)"
    page.wait(lambda: page.driver.execute_script(paint), "no first paint")
    painted = page.driver.execute_script(paint)[0]
    assert painted < FIRST_PAINT_MS, f"first painted after {painted:.0f} ms"

    page.type("#token", TOKEN)
    began = time.monotonic()
    page.click("#login button")
    page.wait(page.rows, "no rows")
    assert not page.driver.find_element(By.ID, "login").is_displayed(), "the page still asks for the token"
    seen = time.monotonic() - began
    page.wait(lambda: page.text("#count") == f"{count:,} of {count:,} tenants", "not all tenants")
    whole = time.monotonic() - began
    print(f"fleet-page: first painted after {painted:.0f} ms; first tenants after {seen:.1f} s, all after {whole:.1f} s", flush=True)
    assert len(page.rows()) == 50, len(page.rows())

    # The failing tenant, by its status; it is mended, and its secret read anew.
    page.choose("unhealthy")
    page.wait(lambda: page.rows() == [(FAILING, "unhealthy")], "the failing tenant")
    assert "unreachable" in page.text("#rows tr"), page.text("#rows tr")
    secrets[FAILING] = {"type": "sqlite", "path": "mended.db"}
    replaced = file.with_suffix(".new")
    replaced.write_text(json.dumps(secrets))
    replaced.replace(file)
    # A slow machine may take longer to read the secrets of so many tenants than a request may take.
    for attempt in range(5):
        page.do("Refresh", FAILING)
        try:
            page.wait(lambda: page.rows() == [] or page.text("#problem"), "no answer")
            assert page.rows() == [], page.text("#problem")
            break
        except AssertionError:
            assert attempt < 4, page.text("#problem")
    status, body = status_of(f"http://127.0.0.1:{port}/api/v1/tenant/info", headers={"X-Tenant-ID": FAILING})
    assert status == 200, body

    # The suspended tenant, by its name.
    page.choose("any")
    page.type("#name", "paused")
    page.wait(lambda: page.rows() == [(PAUSED, "suspended")], "the suspended tenant")
    page.do("Resume", PAUSED)
    page.wait(lambda: page.rows() and page.rows()[0][1] != "suspended", "the tenant is still suspended")
    status, body = status_of(f"http://127.0.0.1:{port}/api/v1/tenant/info", headers={"X-Tenant-ID": PAUSED})
    assert status == 200, body
    page.click(f"button[aria-label='Check {PAUSED}']")
    page.wait(lambda: page.rows() == [(PAUSED, "healthy")], "the tenant is not healthy")
    page.do("Close pool", PAUSED)
    page.wait(lambda: page.rows() and page.rows()[0][1] == "idle", "the pool is not closed")

    # What is cancelled does nothing.
    page.click(f"button[aria-label='Suspend {PAUSED}']")
    page.click("#confirm button[value=no]")
    time.sleep(0.2)
    assert page.rows() == [(PAUSED, "idle")], page.rows()

    page.type("#name", " ")
    page.wait(lambda: len(page.rows()) == 50, "the filter stays")
    page.click("#heads th:nth-child(2) button")
    page.wait(lambda: page.rows()[0][1] == "healthy", "not sorted by status")
    for number in range(8):
        for _ in range(80 if number == 3 else 10 * (1 + number % 6)):
            headers = {"X-Tenant-ID": f"shop-{number:06}"}
            status_of(f"http://127.0.0.1:{port}/api/v1/tenant/users", headers=headers)
    page.wait(lambda: "shop-000003" in page.text("#busiest"), "no busiest tenant")
    # Which ones are slowest depends on the machine.
    slowest = page.text("#slowest").split("\n")
    assert len(slowest) >= 8 and any("shop-" in line for line in slowest) and any(" ms" in line for line in slowest), slowest
    assert "0002" in page.text("#versions"), page.text("#versions")
    assert "of 200 connections" in page.text("#budget"), page.text("#budget")


def check_accessible(page):
    """Every control has a name, headings go down by one, and nothing is wider than a phone."""
    unnamed = page.driver.execute_script(
        "return [...document.querySelectorAll('button, input, select')].filter(control => control.checkVisibility()"
        " && !control.textContent.trim() && !control.ariaLabel && !(control.labels && control.labels.length))"
        ".map(control => control.outerHTML)")
    assert unnamed == [], unnamed
    levels = page.driver.execute_script("return [...document.querySelectorAll('h1, h2, h3')].filter(one => one.checkVisibility()).map(one => one.tagName)")
    assert levels[0] == "H1" and set(levels[1:]) == {"H2"}, levels
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    widths = page.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1], widths


def save(page, file, width, height, mobile):
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})
    page.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    picture = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
    file.write_bytes(base64.b64decode(picture["data"]))


def main():
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
    options = argparse.ArgumentParser(prog="fleet-page", description=__doc__)
    options.add_argument("--tenants", type=int, default=100_000)
    options.add_argument("--screenshot", type=pathlib.Path, metavar="FILE")
    options.add_argument("--screenshots", type=pathlib.Path, metavar="FOLDER")
    options = options.parse_args()
    with running(options.tenants) as (port, operators, file, secrets), tempfile.TemporaryDirectory(
        prefix="tenantry-browser-", ignore_cleanup_errors=True
    ) as profile:
        check_rights(operators)
        prepare(port, operators)
        page = Fleet(profile)
        try:
            visit(page, options.tenants, port, operators, file, secrets)
            if options.screenshot:
                save(page, options.screenshot, 1280, 1000, False)
            check_accessible(page)
            if options.screenshots:
                options.screenshots.mkdir(parents=True, exist_ok=True)
                save(page, options.screenshots / "desktop.png", 1280, 1000, False)
                save(page, options.screenshots / "phone.png", 390, 1600, True)
            assert TOKEN not in page.stored(), "the token is stored in the browser"
            problems = page.problems({"127.0.0.1"})
            assert problems == [], problems
        finally:
            page.driver.quit()
    print(f"fleet-page: found, refreshed and resumed tenants among {options.tenants:,}")


if __name__ == "__main__":
    main()
