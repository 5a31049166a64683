"""A page in headless Chromium, as a person uses it. Used by ./scripts/browser, ./scripts/fleet-page and ./scripts/tables-clients."""

import base64
import json
import os
import shutil
import time
import urllib.parse

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

# Selenium would look for a driver elsewhere, and report that it ran.
os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
WAIT_SECONDS = 30
WIDTH = 1120

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
    f"--window-size={WIDTH},2000",
    "--hide-scrollbars",
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

    def write_token_into_scalar(self, url, token):
        """Chooses the tenant's token as the way to authenticate, and writes one."""
        self.driver.get(url)
        for element, text in ("button", "Auth Type"), ("li", "TenantToken"):
            path = f"//{element}[contains(., '{text}')]"
            WebDriverWait(self.driver, WAIT_SECONDS).until(lambda _: self.driver.find_elements(By.XPATH, path), text)
            self.driver.find_elements(By.XPATH, path)[0].click()
        field = self.one("input[placeholder=Token]")
        field.send_keys(token)
        assert field.get_attribute("value") == token
        # Longer than its stores wait before they write.
        time.sleep(2)

    def set_server_variable(self, name, value):
        for row in self.all(".servers table tr"):
            if row.find_element(By.CSS_SELECTOR, "td").text == name:
                self.fill(self.one("input", row), value)
                return
        raise AssertionError(f"no server variable {name}")

    def try_out(self, operation_id, parameters, body=None, tag="Users"):
        """Runs an operation by Try it out; gives status and body of the answer as the page shows them."""
        operation = self.one(f"#operations-{tag}-{operation_id}")
        self.click(".opblock-summary-control", operation)
        # Where the page opens with the form ready, there is no such button.
        for button in self.all(".try-out__btn:not(.cancel)", operation):
            button.click()
        for name, value in parameters.items():
            self.fill(self.one(f"tr[data-param-name={name}] input", operation), value)
        if body is not None:
            self.fill(self.one("textarea.body-param__text", operation), json.dumps(body))
        self.click(".execute", operation)
        status = self.one(".live-responses-table tbody .response-col_status", operation)
        answer = self.one(".live-responses-table .highlight-code, .live-responses-table .microlight", operation)
        return status.text.split()[0], answer.text

    def stored(self):
        """What the page has stored in the browser, where it outlives the page."""
        return self.driver.execute_script("return JSON.stringify([{...localStorage}, {...sessionStorage}]) + document.cookie")

    def fold(self, operation_id):
        """Closes an operation, so that the next answer is not beside an old one."""
        self.click(".opblock-summary-control", self.one(f"#operations-Users-{operation_id}"))

    def save_screenshot(self, file):
        """The page from its head to the end of the answer that it shows; what stands before the users is folded."""
        self.click("#operations-tag-Tenant")
        bottom = self.driver.execute_script(
            "document.activeElement.blur();"
            "const answer = document.querySelector('.live-responses-table .highlight-code');"
            "return window.scrollY + answer.getBoundingClientRect().bottom"
        )
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": bottom + 4, "scale": 1}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(picture["data"]))

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
