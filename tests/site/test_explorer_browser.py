"""The explorer in a real browser without a window: by mouse, by keyboard, and on a phone."""

import shutil
import threading
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from browser_kit import PHONE, launched, until, visiting
from explorer_kit import EVIL, large_run, two_runs
from made_run import make_run
from run_kit import ROOT

from benchmarks.paths import FIRST_WORLD
from benchmarks.site.view_bundle import write_bundle
from benchmarks.site.view_server import make_view_server
from benchmarks.tables import frames
from benchmarks.tables.run_view import Run

PAPER = str(ROOT / FIRST_WORLD / "miniature-paper")
SERVED = "http://127.0.0.1:"
SLOW = 50  # milliseconds: what the browser calls a long task
LONG_TASKS = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.longest = Math.max(window.longest, one.duration);
}).observe({ entryTypes: ["longtask"] });
"""


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def places(tmp_path_factory, chromium):
    """Bundles of two runs with pictures, and of the committed run of the paper's protocol."""
    folder = tmp_path_factory.mktemp("explorer")
    runs = [*map(str, two_runs(folder / "runs"))]
    write_bundle(runs, folder / "two", 64, None)
    write_bundle([PAPER], folder / "paper", 64, None)
    return folder


@pytest.fixture
def visit(chromium, places):
    allowed = (f"file://{places}", "data:", SERVED)
    with visiting(chromium, lambda _: allowed) as open_page:
        yield lambda name, address="", **settings: open_page(
            name if name.startswith("http") else f"file://{places}/{name}/index.html{address}",
            **settings,
        )


def hash_of(page):
    return page.evaluate("location.hash")


def loaded(page, selector):
    """Whether pictures are there, of these boxes."""
    until(
        page,
        f"(all => all.length && all.every(i => i.complete && i.naturalWidth > 0))"
        f"([...document.querySelectorAll({selector!r})])",
    )


def focused(page):
    return page.evaluate("document.activeElement.textContent")


def test_any_two_columns_are_a_plane(visit, places):
    page = visit("two")
    table = Run(places / "runs" / "one").table
    assert page.locator("svg.plane .dot").count() > len(table) - 4
    page.select_option("#pick-x", "train_seconds")
    page.select_option("#pick-y", "harmonic")
    assert hash_of(page) == "#?x=train_seconds&y=harmonic"
    rows = page.evaluate(
        "[...document.querySelectorAll('#plane-table tbody tr')].map(r => [...r.cells].map(c => "
        "c.textContent))"
    )
    told = {row[0]: row for row in rows}
    [row] = table[table["method"] == "db"].to_dict("records")
    assert told["DreamBooth · one"][2].startswith(f"{row['harmonic']:.3f} [")
    page.reload()
    assert page.input_value("#pick-x") == "train_seconds"
    assert "On the front" in page.inner_text("#plane-note")


def test_a_filter_moves_the_plane_as_statistics_would(visit):
    """Class-balanced means and clustered intervals of the cells that pass, in float64 here."""
    page = visit("paper", "#?f.scenario=outfit&x=text_sim_raw&y=text_sim")
    run = Run(Path(PAPER))
    from benchmarks.tables.statistics import clustered
    from benchmarks.tables.views import scenarios

    asked = scenarios(run.plan)
    cells = run.cells[run.cells["prompt_id"].map(asked) == "outfit"]
    cells = cells[cells["metric"] == "text_sim_raw"]
    wide = {
        method: part.pivot(index="concept", columns="prompt_id", values="mean")
        for method, part in cells[cells["point"] == "default"].groupby("method")
    }
    mean, lo, hi = clustered(wide["db"].to_numpy(float))
    base = wide["super"].reindex_like(wide["db"])
    relative = float((wide["db"].mean(axis=1) / base.mean(axis=1)).mean())
    name = page.get_by_text("DreamBooth", exact=True)
    row = page.locator("#plane-table tbody tr").filter(has=name)
    assert row.locator("td").nth(0).inner_text() == f"{mean:.3f} [{lo:.3f}, {hi:.3f}]"
    assert row.locator("td").nth(1).inner_text() == f"{relative:.3f}"
    assert "no interval" in page.inner_text("#plane-note")


def test_a_difference_is_that_of_the_tables(visit):
    """Against frames.differences: its value and interval, and the order of the cells."""
    key = "miniature-paper/perfusion/local-b0.60-t0.15", "miniature-paper/db/default"
    page = visit("paper", f"#?view=compare&a={quote(key[0], '')}&b={quote(key[1], '')}")
    run = Run(Path(PAPER))
    found = frames.differences(run.cells, "perfusion")
    row = found[
        (found["point"] == "local-b0.60-t0.15")
        & (found["other"] == "db")
        & (found["metric"] == "image_sim")
    ].iloc[0]
    said = page.inner_text("#compare-sum").replace("−", "-").replace("+", "")
    assert f": {row['difference']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]" in said
    assert f"over 11 concepts and {row['n_cells']} cells" in said
    cells = run.cells[run.cells["metric"] == "image_sim"].set_index(["concept", "prompt_id"])
    mine = cells[(cells["method"] == "perfusion") & (cells["point"] == "local-b0.60-t0.15")]
    less = mine["mean"] - cells[cells["method"] == "db"]["mean"]
    texts = page.evaluate(
        "[...document.querySelectorAll('#compare-list .difference strong')].map(s => s.textContent)"
    )
    shown = [float(text.replace("−", "-")) for text in texts]
    assert shown == pytest.approx(np.sort(less.to_numpy())[: len(shown)], abs=6e-4)
    assert "no pictures" in page.inner_text("#compare-note")


def test_other_protocols_get_no_difference(visit, chromium, places):
    out = places / "apart"
    other = str(Path(PAPER).with_name("miniature-measures"))  # of the same world
    write_bundle([PAPER, other], out, 64, None)
    page = visit(
        "apart",
        "#?view=compare&a=miniature-paper%2Fsuper%2Fdefault&b=miniature-measures%2Fsuper%2Fdefault",
    )
    assert "were not measured alike" in page.inner_text("#compare-sum")
    assert set(page.locator("#compare-list .difference strong").all_inner_texts()) == {"–"}
    prompts = {name for run in (PAPER, other) for name in Run(Path(run)).plan["prompt_id"]}
    assert f" · {len(prompts)} prompts" in page.inner_text("#lead")
    page = visit("apart")
    note = page.inner_text("#plane-note")
    assert note.count("miniature-measures is left out; choose it under Runs.") == 1
    page.locator("#pick-runs summary").click()
    page.locator("#pick-runs input[value=miniature-paper]").uncheck()
    assert "left out" not in page.inner_text("#plane-note")
    assert page.locator("svg.plane .dot").count() > 3


def test_a_cell_has_an_address_that_survives_a_reload(visit):
    page = visit("two", "#?view=pictures&points=db%252Fdefault,cd%252Fdefault")
    loaded(page, "#pictures-list .item:first-child .thumb img")
    page.locator("#pictures-list .item").first.locator("a.cellbox").first.click()
    address = hash_of(page)
    assert address.startswith("#one/cat/s01/db/default")
    for _ in range(2):
        assert "DreamBooth" in page.inner_text(".method.chosen h3")
        loaded(page, ".method.chosen .thumb img")
        assert page.locator("#view-cell .own figure").count() == 2
        page.reload()
        assert hash_of(page) == address
    page.go_back()
    until(page, "!document.getElementById('view-pictures').hidden")


def test_one_prompt_shows_all_methods_with_training_and_held_out_pictures(visit):
    page = visit("two", "#one/cat/s02")
    loaded(page, ".own img")
    assert page.locator(".own figure").nth(0).locator(".thumb").count() == 5
    assert page.locator(".own figure").nth(1).locator(".thumb").count() == 3
    assert page.locator(".method").count() == 7
    assert page.locator(".method .thumb").count() == 14
    alt = page.locator(".method .thumb img").first.get_attribute("alt")
    assert "picture 1" in alt and "A cat*" in alt
    page.locator(".method .open").first.click()
    assert page.locator("dialog#light[open]").count() == 1
    page.keyboard.press("Escape")
    page = visit("two", "#one/teapot/s02")
    assert "None are in this run" in page.locator(".own figure").nth(1).inner_text()


def test_thumbnails_show_the_pictures_that_they_name(visit, places):
    """Colours of the middle of each thumbnail, against the run's own files."""
    from PIL import Image

    run = Run(places / "runs" / "one")
    page = visit("two", "#one/cat/s01", viewport={"width": 1300, "height": 2400})
    loaded(page, ".method .thumb img")
    import io

    for number, point in enumerate(("default", "global-b0.40-t0.15")):
        method = ("db", "perfusion")[number]
        card = page.locator(f".method:has(a[href*='/{method}/{point}'])").first
        shot = Image.open(io.BytesIO(card.locator(".thumb").nth(1).screenshot())).convert("RGB")
        file = Image.open(run.image_file(method, point, "cat", "s01", 1)).convert("RGB")
        for x, y in ((0.5, 0.1), (0.5, 0.6), (0.1, 0.9)):
            seen = shot.getpixel((int(x * shot.width), int(y * shot.height)))
            true = file.getpixel((int(x * file.width), int(y * file.height)))
            assert np.abs(np.subtract(seen, true)).max() < 40, (method, x, y)


def test_filters_narrow_every_list(visit):
    page = visit("two", "#?view=pictures")
    assert page.inner_text("#count") == "24 rows"
    page.select_option("#pick-concept", "teapot")
    assert page.inner_text("#count") == "12 rows"
    page.select_option("[data-filter=scenario]", "place")
    assert page.inner_text("#count") == "6 rows"
    page.fill("#pick-words", "beach")
    until(page, "document.getElementById('count').textContent === '2 rows'")
    page.click("#pick-runs summary")
    page.uncheck("#pick-runs input[value=two]")
    assert page.inner_text("#count") == "1 row"
    page.click("#pick-points summary")
    page.uncheck("#pick-points input[value='db/default']")
    assert "DreamBooth" not in page.inner_text("#pictures-list")
    page.reload()
    assert page.inner_text("#count") == "1 row" and page.input_value("#pick-words") == "beach"
    page.click("#clear")
    assert page.inner_text("#count") == "24 rows"


def test_rates_that_are_a_guess_are_told_below_the_plane(visit, places):
    said = {"methods": {"db": {"of": "db", "config": {}, "untuned": True}}}
    for name, extra in (("guess", said), ("tuned", None)):
        make_run(places / "runs" / name, {"cd": ("default",), "db": ("default",)}, ["cat"],
                 prompts=2, images=1, pictures=False, extra=extra)  # fmt: skip
        write_bundle([str(places / "runs" / name)], places / name, 64, None)
    page = visit("guess", "#?view=plane")
    assert "Untuned: the rates of db are a guess" in page.inner_text("#plane-note")
    assert "DreamBooth (untuned)" in page.inner_text("#plane-table")
    assert "Untuned" not in visit("tuned", "#?view=plane").inner_text("#plane-note")


def test_by_keyboard_alone(visit):
    page = visit("two", "#?view=plane")
    page.keyboard.press("2")
    until(page, "!document.getElementById('view-pictures').hidden")
    page.keyboard.press("ArrowDown")
    assert "beach" in focused(page)
    page.keyboard.press("ArrowDown")
    second = focused(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
    assert width >= 2
    page.keyboard.press("Enter")
    until(page, "!document.getElementById('view-cell').hidden")
    assert page.inner_text("#cell-text") == second
    first = hash_of(page)
    page.keyboard.press("ArrowDown")
    assert hash_of(page) != first and page.locator(".method.chosen").count() == 1
    page.keyboard.press("ArrowRight")
    until(page, f"document.getElementById('cell-text').textContent !== {second!r}")
    page.keyboard.press("Escape")
    until(page, "!document.getElementById('view-pictures').hidden")
    page.keyboard.press("End")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "pick-words"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog#help[open]").count() == 1


def test_every_control_has_a_name(visit):
    page = visit("two", "#?view=compare")
    for view in ("plane", "pictures", "compare", "runs"):
        page.evaluate(f"location.hash = '#?view={view}'")
        until(page, f"!document.getElementById('view-{view}').hidden")
        nameless = page.evaluate(
            "[...document.querySelectorAll('a, button, select, input, img')]"
            ".filter(e => e.checkVisibility()).filter(e => !(e.getAttribute('aria-label') || "
            "e.textContent.trim() || e.alt || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert nameless == []


def test_what_strangers_wrote_stays_text(visit):
    page = visit("two", "#?view=pictures&words=onerror")
    until(page, "document.querySelectorAll('.item').length === 1")
    assert page.inner_text(".item .head a") == f"A cat* in the snow {EVIL}"
    assert page.locator("img[src=x]").count() == 0
    for address in ("#%3Cimg%20src=x%20onerror=alert(1)%3E/a/b", "#%E0%A4%A/x/y", "#__proto__/a/b"):
        page.evaluate(f"location.hash = {address!r}")
        until(page, "!document.getElementById('trouble').hidden")
        assert "There is no run" in page.inner_text("#trouble")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out(visit, scheme):
    page = visit("two", color_scheme=scheme, **PHONE)
    views = ["#?view=plane", "#?view=pictures", "#?view=compare", "#?view=runs", "#one/cat/s02"]
    for address in views:
        page.evaluate(f"location.hash = {address!r}")
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
    page.evaluate("location.hash = '#?view=plane'")
    page.tap("#pick-points summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_committed_run_opens_without_pictures(visit):
    page = visit("paper", "#?view=pictures")
    assert page.inner_text("#count") == "472 rows"
    assert "scores and no pictures" in page.inner_text("#pictures-note")
    assert page.locator(".item img").count() == 0
    page.locator(".item a").first.click()
    until(page, "!document.getElementById('view-cell').hidden")
    assert page.locator(".method").count() == 17
    assert "scores and no pictures" in page.inner_text("#cell-note")


def test_sixty_thousand_pictures_do_not_freeze_it(visit, tmp_path):
    """First paint, rows in the document, and the longest task while one end is scrolled to."""
    folder = large_run(tmp_path / "large", pictures=True)
    server, address = make_view_server([str(folder)], 0, 64)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        page = visit(f"{address}#?view=pictures")
        until(page, "performance.getEntriesByName('first-contentful-paint').length === 1")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        assert paint < 8000, paint  # a busy machine; below a second on a quiet one
        assert page.inner_text("#count") == "3,000 rows"
        page.evaluate(LONG_TASKS)
        for part in (0.2, 0.5, 0.9, 1):
            page.evaluate(
                "part => { const box = document.getElementById('pictures-list'); "
                "box.scrollTop = part * box.scrollHeight; }",
                part,
            )
            loaded(page, "#pictures-list .thumb img")
            assert page.locator("#pictures-list .item").count() < 30
        until(page, "document.querySelector('#pictures-list [aria-posinset=\"3000\"]')")
        assert page.evaluate("window.longest") < 40 * SLOW
        began = time.monotonic()
        page.select_option("#pick-order", "up")
        until(page, "document.getElementById('pictures-list').scrollTop === 0")
        assert time.monotonic() - began < 10
        page.evaluate("location.hash = '#?view=compare'")
        until(page, "document.querySelectorAll('#compare-list .item').length > 2")
        assert page.inner_text("#count") == "3,000 pairs"
        page.close()  # before the server ends: pictures may still be on their way
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        shutil.rmtree(folder)
