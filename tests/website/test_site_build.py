"""The site itself: built strictly once, then read as programs, browsers and people without
JavaScript read it.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser

import pytest
from browser_kit import PATIENCE, launched

from website.built_pages import problems
from website.navigation import ENTRIES, ROOT
from website.staged_files import staged

pytest.importorskip("mkdocs", reason="no mkdocs here: pip install '.[docs]'")


def build(out):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `tox -e docs` left in site/ is another build; this one is of the files as they are."""
    out = tmp_path_factory.mktemp("site") / "built"
    done = build(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Words(HTMLParser):
    """What a page says, without its scripts."""

    def __init__(self):
        super().__init__()
        self.quiet, self.said = 0, []

    def handle_starttag(self, tag, attrs):
        self.quiet += tag in ("script", "style", "template")

    def handle_endtag(self, tag):
        self.quiet -= tag in ("script", "style", "template")

    def handle_data(self, data):
        if not self.quiet:
            self.said.append(data)


def test_the_folder_has_every_page_and_nothing_foreign(site):
    assert problems(site) == []
    for place in ENTRIES:
        if place in staged():
            name = place.replace("README.md", "index.md").removesuffix(".md")
            assert (site / f"{name}.html").is_file(), place


def test_every_page_lies_beside_its_html_as_markdown(site):
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) > 60
    for path in pages:
        assert path.with_suffix(".md").is_file(), path
        said = path.read_text(encoding="utf-8")
        [copy] = re.findall(r'<link rel="alternate" type="text/markdown" href="([^"]+)"', said)
        assert (path.parent / copy).is_file()
    for page in ("docs/statistics.md", "README.md", "results/README.md"):
        assert (site / page).read_bytes() == (ROOT / page).read_bytes()


def test_llms_txt_names_pages_that_are_there(site):
    said = (site / "llms.txt").read_text(encoding="utf-8")
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", said, re.M)
    assert len(links) == len(set(links)) > 60
    assert all((site / link).is_file() for link in links)


def test_search_knows_a_flag_and_a_word(site):
    docs = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    wanted = (("--select-step", "docs/reference/perfbench-run.html"), ("Best H", "docs/"))
    for words, place in wanted:
        assert any(words in d["text"] and d["location"].startswith(place) for d in docs), words


def test_a_page_can_be_read_without_scripts(site):
    """Its text, its menu and its links are in the HTML."""
    page = (site / "docs" / "glossary.html").read_text(encoding="utf-8")
    words = Words()
    words.feed(page)
    said = " ".join(" ".join(words.said).split())
    assert "particular thing, shown by" in said and "Ten minutes" in said and "Add a method" in said


def test_the_published_address_stands_in_llms_txt(tmp_path):
    from website.plain_copies import write_copies

    write_copies({"README.md": "# P\n\nOne.\n"}, tmp_path, "https://owner.github.io/perfbench/")
    said = (tmp_path / "llms.txt").read_text()
    assert "(https://owner.github.io/perfbench/README.md)" in said
    assert (tmp_path / "index.md").read_text() == "# P\n\nOne.\n"


# ---- in a browser ----


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


def test_a_browser_asks_no_other_host_and_search_finds(chromium, address):
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    for place in ("/", "/docs/worked-example.html", "/docs/reference/commands.html"):
        page.goto(address + place)
        page.wait_for_load_state("networkidle")
    page.locator("input[name=query]").click()
    page.locator("input[name=query]").press_sequentially("vendi")  # it listens to keys
    page.locator(".md-search-result__link").first.wait_for()
    found = [one.get_attribute("href") for one in page.locator(".md-search-result__link").all()]
    assert any("docs/statistics.html" in href for href in found)
    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert foreign == [] and faults == [] and len(asked) > 10
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_follow_the_system_and_can_be_switched(chromium, address, scheme):
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}/docs/tutorial.html")
    names = {"light": "default", "dark": "slate"}
    body = page.locator("body")
    assert body.get_attribute("data-md-color-scheme") == names[scheme]
    page.locator("label.md-header__button[for^=__palette]:visible").first.click()
    other = names["dark" if scheme == "light" else "light"]
    assert body.get_attribute("data-md-color-scheme") == other
    context.close()


def test_a_phone_needs_no_sideways_scrolling(chromium, address):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    for place in ("/", "/docs/statistics.html", "/docs/reference/perfbench-run.html"):
        page.goto(address + place)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 391, (place, width)
    context.close()


def test_links_and_menu_work_without_javascript(chromium, address):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}/docs/index.html")
    page.locator("article a", has_text="Is a difference real?").first.click()
    assert page.url.endswith("/docs/worked-example.html")
    assert page.locator("h2#the-interval").is_visible()
    page.locator("nav.md-tabs a", has_text="Reference").click()
    assert page.url.endswith("/docs/reference/commands.html")
    context.close()


def test_a_broken_link_fails_the_build(tmp_path):
    """The check is on: a page that links to nothing, built strictly, is an error."""
    copy = tmp_path / "copy"
    heavy = {".git", ".tox", ".venv", "site", ".mypy_cache", "benchmarks/miniature/weights"}
    left_out = {str(ROOT / name) for name in heavy}
    shutil.copytree(
        ROOT,
        copy,
        ignore=lambda folder, names: [n for n in names if os.path.join(folder, n) in left_out],
        symlinks=True,
    )
    page = copy / "docs" / "cite.md"
    page.write_text(page.read_text() + "\n[a](nowhere.md) [b](statistics.md#no-such-heading)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "s")],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr and "no-such-heading" in done.stderr
