"""Works with declared tables by hand on a react-admin page in headless Chromium. Run by ./scripts/tables-clients."""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import tempfile
import threading
import urllib.parse

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import browser_page

WAIT_SECONDS = 60
PAGE = '<!doctype html><meta charset="utf-8"><title>Films</title><div id="root"></div><script src="settings.js"></script><script src="admin.js"></script>'
# Of the client's and the server's headers those that concern the body and not the connection.
FORWARDED = ("accept", "authorization", "content-type", "prefer", "range")
RETURNED = ("content-type", "content-range", "preference-applied", "location")


def token(tenant):
    """A clerk's token, signed with HS256 (RFC 7518 §3.2)."""

    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"tenant": tenant, "role": "clerk", "exp": 4102444800}
    signed = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.digest(os.environ["TENANTRY_TOKEN_SECRET"].encode(), signed, hashlib.sha256)
    return b".".join([signed, encoded(signature)]).decode()


@contextlib.contextmanager
def page_of(tenant, bundle):
    """Serves the page and the API at one origin, as a proxy in front of both does; gives the URL."""
    server = urllib.parse.urlsplit(os.environ["TENANTRY_URL"])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            files = {
                "/": ("text/html", PAGE.encode()),
                "/admin.js": ("text/javascript", bundle),
                "/settings.js": ("text/javascript", f"window.tenantry = {json.dumps(settings)}".encode()),
                "/favicon.ico": ("image/x-icon", b""),
            }
            if self.path.startswith("/rest/"):
                self.forward()
            elif found := files.get(self.path):
                self.answer(200, [("Content-Type", found[0])], found[1])
            else:
                self.answer(404, [], b"")

        def forward(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() in FORWARDED}
            connection = http.client.HTTPConnection(server.hostname, server.port, timeout=WAIT_SECONDS)
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            returned = [(name, value) for name, value in answer.getheaders() if name.lower() in RETURNED]
            self.answer(answer.status, returned, answer.read())

        do_POST = do_PATCH = do_DELETE = forward

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as pages:
        url = f"http://127.0.0.1:{pages.server_address[1]}"
        settings = {"url": f"{url}/rest/v1", "token": token(tenant)}
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        try:
            yield url
        finally:
            pages.shutdown()


class Admin:
    """The page in a browser of its own."""

    def __init__(self, url, profile):
        options = webdriver.ChromeOptions()
        options.binary_location = browser_page.found("chromium", "google-chrome", "chromium-browser")
        for flag in [*browser_page.FLAGS, f"--user-data-dir={profile}", "--window-size=1200,800"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.url = url
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(browser_page.found("chromedriver")))

    def wait(self, found, what):
        """Waits for what `found` gives; the page may replace an element at any time."""
        return WebDriverWait(self.driver, WAIT_SECONDS, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda _: found(), what
        )

    def one(self, selector):
        def visible():
            return next((e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None)

        return self.wait(visible, f"no {selector}")

    def click(self, selector):
        self.wait(lambda: self.one(selector).click() is None, f"{selector} cannot be clicked")

    def fill(self, name, text):
        field = self.one(f'input[name="{name}"]')
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE if text == "" else text)

    def open(self, path):
        self.driver.get(f"{self.url}/#/reviews{path}")

    def column(self, name):
        """The texts of a column of the list."""
        return [cell.text for cell in self.driver.find_elements(By.CSS_SELECTOR, f"td.column-{name}")]

    def shows(self, name, expected):
        """Waits until a column of the list is this."""
        try:
            self.wait(lambda: self.column(name) == expected, "")
        except Exception:
            raise AssertionError(f"the list's `{name}` is {self.column(name)} and not {expected}") from None

    def complaints(self):
        return [f"{entry['level']} {entry['message']}" for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def work(admin):
    """Lists, sorts, filters, creates, edits and deletes."""
    space, rashomon = "2001: A Space Odyssey", "Rashomon"
    admin.open("")
    admin.shows("author", ["ann", "bob", "ann"])
    admin.shows("film_id", [space, space, rashomon])
    admin.click("th.column-stars .MuiTableSortLabel-root")
    admin.shows("stars", ["2", "4", "5"])
    admin.click("th.column-stars .MuiTableSortLabel-root")
    admin.shows("stars", ["5", "4", "2"])
    admin.fill("author@ilike", "BO")
    admin.shows("author", ["bob"])
    admin.fill("author@ilike", "")
    admin.shows("author", ["ann", "ann", "bob"])
    admin.open("/create")
    for name, text in {"film_id": "5", "author": "cleo", "stars": "1", "body": 'Wet, and "grey"'}.items():
        admin.fill(name, text)
    admin.click("button[type=submit]")
    admin.shows("author", ["ann", "ann", "bob", "cleo"])
    admin.shows("film_id", [space, rashomon, space, "The Piano"])
    admin.wait(lambda: admin.driver.find_elements(By.CSS_SELECTOR, "td.column-author")[3].click() is None, "no row")
    assert admin.one('input[name="body"]').get_attribute("value") == 'Wet, and "grey"'
    admin.fill("stars", "3")
    admin.fill("body", "Wet")
    admin.click("button[type=submit]")
    admin.shows("stars", ["5", "4", "3", "2"])
    admin.shows("body", ['Slow (very), but "good"', "a,b", "Wet", ""])


def delete(admin):
    admin.wait(lambda: admin.driver.find_elements(By.CSS_SELECTOR, "td.column-author")[2].click() is None, "no row")
    admin.click("button.ra-delete-button")
    admin.click("button.ra-confirm")
    admin.shows("author", ["ann", "ann", "bob"])


def visit(tenant, bundle, screenshot):
    """Works on the page of a tenant, and gives what was not as it should be."""
    with tempfile.TemporaryDirectory(prefix="tenantry-admin-", ignore_cleanup_errors=True) as profile:
        with page_of(tenant, bundle) as url:
            admin = Admin(url, profile)
            try:
                work(admin)
                if screenshot:
                    screenshot.write_bytes(admin.driver.get_screenshot_as_png())
                delete(admin)
                return admin.complaints()
            except Exception as error:
                if screenshot:
                    screenshot.write_bytes(admin.driver.get_screenshot_as_png())
                return [f"{error}", *admin.complaints()]
            finally:
                admin.driver.quit()


def main():
    options = argparse.ArgumentParser(prog="tables-admin", description=__doc__)
    options.add_argument("bundle", type=pathlib.Path)
    options.add_argument("--screenshots", type=pathlib.Path, metavar="FOLDER")
    options = options.parse_args()
    bundle = options.bundle.read_bytes()
    if options.screenshots:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    failed = False
    for tenant in os.environ["TENANTRY_TENANTS"].split():
        problems = visit(tenant, bundle, options.screenshots and options.screenshots / f"{tenant}.png")
        failed |= bool(problems)
        said = "; ".join(problems) or "listed, sorted, filtered, created, edited and deleted"
        print(f"tables-clients: react-admin on {tenant}: {said}", flush=True)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
