"""The pages of the admin as a person sees them: served by runserver, in Chromium."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.project import Project

webdriver = pytest.importorskip("selenium.webdriver")
exceptions = pytest.importorskip("selenium.common.exceptions")
wait = pytest.importorskip("selenium.webdriver.support.wait")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs Chromium and its driver"
)

ADMIN = """
DEBUG = True
INSTALLED_APPS += [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
"""

URLS = """\
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
    # Chromium asks for it, and would log an error.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
]
"""

HOSTILE = """
# </pre><script>document.title = "owned"</script>
# <img src="x" onerror="document.title = 'owned'">
# {long_line}
"""


@pytest.fixture
def site(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose database has a ghost with hostile code."""
    project.have("users: 0001 > 0002_prefs > 0003_theme", ADMIN)
    (project.folder / "urls.py").write_text(URLS)
    ghost = project.path("users.0002_prefs")
    with ghost.open("a") as file:
        file.write(HOSTILE.format(long_line="long " * 200))
    project.manage("migrate")
    ghost.unlink()
    project.path("users.0003_theme").unlink()
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "secret")
    project.manage(
        "createsuperuser", "--noinput", "--username=root", "--email=root@example.com"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    server = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", f"{host}:{port}"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_it_answers(server, (host, port))
        yield f"http://{host}:{port}/admin/"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["light", "dark"])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in [
        "headless",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-dev-shm-usage",
        "disable-sync",
        "window-size=1280,900",
        f"user-data-dir={tmp_path / 'chromium'}",
    ]:
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(CHROMEDRIVER)
    )
    theme = {"name": "prefers-color-scheme", "value": request.param}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    try:
        yield browser
    finally:
        browser.quit()


def wait_until_it_answers(
    server: subprocess.Popen[bytes], address: tuple[str, int]
) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(address).close()
        except OSError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return


def test_a_person_finds_a_ghost_and_what_to_do(site: str, browser: Any) -> None:
    browser.get(site)
    one(browser, "#id_username").send_keys("root")
    one(browser, "#id_password").send_keys("secret")
    one(browser, "#login-form [type=submit]").click()
    wait_for_page(browser, "Site administration")
    one(browser, "#content-main a[href$='/migrationcode/']").click()
    wait_for_page(browser, "Select stored migration to view")

    click_link(browser, "ghost")
    wait_for_page(browser, "Select stored migration to view", "?status=ghost")
    links = browser.find_elements("css selector", "#result_list .field-migration_name")
    assert [link.text for link in links] == ["0002_prefs", "0003_theme"]

    click_link(browser, "0002_prefs")
    wait_for_page(browser, "View stored migration")
    banner = one(browser, ".messagelist .warning")
    assert "'manage.py migrate users " in banner.text

    assert 'document.title = "owned"' in one(browser, ".rewind-source").text
    assert browser.title.startswith("users.0002_prefs | View stored migration")
    assert_lines_stand_beside_their_numbers(browser)
    assert_wide_code_scrolls_alone(browser)
    assert_legible(browser)

    one(browser, ".closelink").click()
    wait_for_page(browser, "Select stored migration to view")
    assert browser.get_log("browser") == []


def wait_for_page(browser: Any, heading: str, address: str = "") -> None:
    def is_there(browser: Any) -> bool:
        headings = browser.find_elements("css selector", "#content h1")
        texts = [element.text for element in headings]
        return texts == [heading] and browser.current_url.endswith(address)

    stale = exceptions.StaleElementReferenceException
    wait.WebDriverWait(browser, 30, ignored_exceptions=[stale]).until(is_there)


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def click_link(browser: Any, text: str) -> None:
    browser.find_element("link text", text).click()


def assert_lines_stand_beside_their_numbers(browser: Any) -> None:
    numbers, source = browser.find_elements("css selector", ".rewind-source code")
    assert len(numbers.text.splitlines()) > 10
    assert numbers.rect["y"] == source.rect["y"]
    assert numbers.rect["height"] == source.rect["height"]
    assert numbers.rect["x"] + numbers.rect["width"] < source.rect["x"]


def assert_wide_code_scrolls_alone(browser: Any) -> None:
    wider_than_it_shows = "return arguments[0].scrollWidth > arguments[0].clientWidth"
    page, block = one(browser, "html"), one(browser, ".rewind-source")
    assert browser.execute_script(wider_than_it_shows, block)
    assert not browser.execute_script(wider_than_it_shows, page)


def assert_legible(browser: Any) -> None:
    """The text stands out from its background, in light and in dark."""
    text, background = browser.execute_script(
        """
        const color = (element, name) =>
            getComputedStyle(document.querySelector(element))[name]
                .match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
        return [
            color(".rewind-source pre:last-child code", "color"),
            color("body", "backgroundColor"),
        ];
        """
    )
    assert abs(text - background) > 3 * 128
