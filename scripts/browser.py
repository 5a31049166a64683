"""Opens Swagger UI under each resolver in headless Chromium and reaches a tenant by hand. Run by ./scripts/browser."""

import json
import os
import pathlib
import shutil
import sys
import tempfile
import urllib.parse

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import resolver_servers as servers

TENANT = "tenant2"
ONE_TENANT = "tenant1"
WAIT_SECONDS = 30

# Names that stand for tenants lead to this machine; no other name leads anywhere.
RULES = "MAP *.example.com 127.0.0.1, MAP example.org 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--window-size=1280,1600",
    f"--host-resolver-rules={RULES}",
]


class Page:
    """Swagger UI in a browser of its own."""

    def __init__(self, profile):
        options = webdriver.ChromeOptions()
        options.binary_location = found("chromium", "google-chrome", "chromium-browser")
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(found("chromedriver")))

    def open(self, url):
        self.driver.get(url)
        self.one("#operations-Users-listUsers")

    def all(self, selector, within=None):
        return (within or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, within=None):
        """The element, waited for until a person could see it."""

        def visible(_):
            return next((element for element in self.all(selector, within) if element.is_displayed()), None)

        return WebDriverWait(self.driver, WAIT_SECONDS).until(visible, f"no {selector}")

    def click(self, selector, within=None):
        element = self.one(selector, within)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, element, text):
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text)

    def authorize(self, scheme, value):
        """Writes a value beside the scheme of this name in the dialogue behind "Authorize"."""
        self.click(".auth-wrapper .btn.authorize")
        self.one(".modal-ux")
        for container in self.all(".modal-ux .auth-container"):
            if container.find_element(By.CSS_SELECTOR, "h4").text.split()[0] == scheme:
                self.fill(self.one("input", container), value)
                self.click(".btn.authorize", container)
                break
        else:
            raise AssertionError(f"no scheme {scheme} in the dialogue")
        self.click(".modal-ux .btn-done")

    def set_server_variable(self, name, value):
        for row in self.all(".servers table tr"):
            if row.find_element(By.CSS_SELECTOR, "td").text == name:
                self.fill(self.one("input", row), value)
                return
        raise AssertionError(f"no server variable {name}")

    def choose_server(self, contained):
        for option in self.all(".servers select option"):
            if contained in option.get_attribute("value"):
                option.click()
                return
        raise AssertionError(f"no server with {contained}")

    def list_users(self, parameters):
        """Runs "list users" by Try it out; gives status and body of the answer as the page shows them."""
        operation = self.one("#operations-Users-listUsers")
        self.click(".opblock-summary-control", operation)
        for name, value in parameters.items():
            self.fill(self.one(f"tr[data-param-name={name}] input", operation), value)
        self.click(".execute", operation)
        status = self.one(".live-responses-table tbody .response-col_status", operation)
        body = self.one(".live-responses-table .highlight-code, .live-responses-table .microlight", operation)
        return status.text.split()[0], body.text

    def problems(self, hosts):
        """What the console complained about, and requests to anywhere but `hosts`."""
        found = [f"console: {entry['level']} {entry['message']}" for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] != "Network.requestWillBeSent":
                continue
            url = urllib.parse.urlsplit(message["params"]["request"]["url"])
            # The browser's own pages, such as that of a new tab, are in the browser.
            if url.scheme not in ("data", "blob", "chrome") and url.hostname not in hosts:
                found.append(f"a request to {url.scheme}://{url.netloc}")
        return found


def found(*programs):
    for program in programs:
        if path := shutil.which(program):
            return path
    raise SystemExit(f"browser: {programs[0]} not found: apt-get install chromium chromium-driver")


def steps(resolver):
    """What a person does under each resolver: the host of the page, then a step on it, and parameters of the operation."""
    key = {"header": "TenantHeader", "query": "TenantQuery", "cookie": "TenantCookie", "chain": "TenantHeader"}
    if resolver in key:
        return "127.0.0.1", lambda page: page.authorize(key[resolver], TENANT), {}
    if resolver == "jwt":
        return "127.0.0.1", lambda page: page.authorize("TenantToken", servers.token(TENANT)), {}
    if resolver == "subdomain":
        return f"{TENANT}.example.com", lambda page: page.set_server_variable("tenant", TENANT), {}
    if resolver == "host":
        return servers.HOSTS[TENANT], lambda page: page.choose_server(servers.HOSTS[TENANT]), {}
    return "127.0.0.1", lambda page: None, {"tenant": TENANT} if resolver == "path" else {}


def visit(resolver, port, screenshots):
    host, step, parameters = steps(resolver)
    with tempfile.TemporaryDirectory(prefix="tenantry-browser-", ignore_cleanup_errors=True) as profile:
        page = Page(profile)
        try:
            page.open(f"http://{host}:{port}/docs")
            step(page)
            status, body = page.list_users(parameters)
            if screenshots:
                page.driver.save_screenshot(str(screenshots / f"{resolver}.png"))
            problems = page.problems({host})
        finally:
            page.driver.quit()
    tenant = ONE_TENANT if resolver == "static" else TENANT
    if status != "200" or servers.sample_user(tenant) not in body:
        problems.append(f"the page shows {status}: {body[:500]}")
    return problems


def main():
    # Selenium would look for a driver elsewhere, and report that it ran.
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
    arguments = sys.argv[1:]
    screenshots = None
    if arguments[:1] == ["--screenshots"]:
        screenshots = pathlib.Path(arguments[1])
        screenshots.mkdir(parents=True, exist_ok=True)
        arguments = arguments[2:]
    failed = False
    with servers.running(arguments or None) as ports:
        for resolver, port in ports.items():
            problems = visit(resolver, port, screenshots)
            failed |= bool(problems)
            print(f"browser: {resolver}: {'; '.join(problems) or 'reached its tenant'}", flush=True)
    if failed:
        raise SystemExit("browser: failed")
    print(f"browser: Swagger UI reached a tenant under {len(ports)} resolvers")


if __name__ == "__main__":
    main()
