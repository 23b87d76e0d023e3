"""The report in a real browser without a window. Skipped where there is no Chromium or no
playwright.
"""

import shutil
import time

import pytest
from browser_kit import PHONE, launched, until, visiting
from made_run import GLOBAL, LOCAL, make_run

from benchmarks.figures.report.report_page import write_report
from benchmarks.tables.run_view import Run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two concepts, two prompts of each kind, Perfusion at two biases of each lock; one prompt
    tries to be a script.
    """
    folder = tmp_path_factory.mktemp("browser") / "small"
    make_run(
        folder,
        {"perfusion": LOCAL[::3] + GLOBAL[::4], "cd": ("default",)},
        ["cat", "teapot"],
        prompts=2,
        images=2,
    )
    plan = (
        (folder / "plan.csv")
        .read_text()
        .replace("A {cat} in the snow", f"A {{cat}} in the snow {EVIL}")
    )
    (folder / "plan.csv").write_text(plan)
    write_report(Run(folder), folder / "index.html")
    return folder


@pytest.fixture
def visit(chromium):
    """Open a page's file, which may ask for nothing but what lies in its own folder."""
    with visiting(chromium, lambda page: (page.rsplit("/", 1)[0], "data:")) as open_page:
        yield lambda file, **settings: open_page(f"file://{file}", **settings)


def to_gallery(page):
    page.evaluate("document.getElementById('gallery').scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(".row .cell img")


def shown(page):
    """Concept and prompt of each row that passes the filters."""
    return page.evaluate("[...document.querySelectorAll('.row')].map(r => r.dataset.row)")


def cell(page, label):
    return page.locator(".row").first.locator(".cell", has_text=label)


def test_filters_by_concept_kind_words_and_method(visit, run):
    page = visit(run / "index.html")
    to_gallery(page)
    assert len(shown(page)) == 8
    page.click("#pick-concepts button:has-text('teapot')")
    assert len(shown(page)) == 4
    # filled when it comes near
    until(page, "document.querySelector('.row').textContent.includes('teapot*')")
    page.select_option("#pick-kind", "shape")
    assert len(shown(page)) == 2
    page.fill("#pick-words", "snow")
    until(page, "document.querySelectorAll('.row').length === 1")
    assert "1 of 8" in page.inner_text("#count")
    page.fill("#pick-words", "a01")  # an id, of the other concept: nothing is left
    until(page, "document.querySelectorAll('.row').length === 0")
    page.fill("#pick-words", "")
    page.click("#pick-concepts button:has-text('all')")
    until(page, "document.querySelectorAll('.row').length === 4")
    to_gallery(page)
    assert page.locator(".row >> nth=0").locator(".cell").count() == 4
    page.click("#pick-methods button:has-text('Custom Diffusion')")
    assert page.locator(".row >> nth=0").locator(".cell").count() == 3


def test_the_slider_moves_both_fronts_to_their_nearest_bias(visit, run):
    page = visit(run / "index.html")
    to_gallery(page)

    def state():
        # a row that the browser has not laid out yet (content-visibility) has a text, but no
        # inner_text
        texts = [cell(page, name).locator(".name").text_content() for name in ("local", "global")]
        sources = [
            cell(page, name).locator("img").first.get_attribute("src")
            for name in ("local", "global", "Custom")
        ]
        return [text.split("β ")[1] for text in texts], sources

    slider = page.locator("#pick-bias")
    seen = []
    for place, bias, points in (
        (0, "0.40", ["0.60", "0.40"]),
        (1, "0.60", ["0.60", "0.60"]),
        (2, "0.75", ["0.75", "0.60"]),
    ):
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(place):
            page.keyboard.press("ArrowRight")
        assert page.inner_text("#bias-now") == bias
        biases, sources = state()
        assert biases == points
        seen.append(sources)
    (a_local, a_global, a_cd), (b_local, b_global, b_cd), (c_local, c_global, c_cd) = seen
    assert (
        a_local == b_local != c_local and a_global != b_global == c_global and a_cd == b_cd == c_cd
    )
    assert all(
        source.startswith("data:image/webp;base64,") for sources in seen for source in sources
    )


def test_several_images_side_by_side_and_one_enlarged(visit, run):
    page = visit(run / "index.html")
    to_gallery(page)
    page.select_option("#pick-images", "2")
    images = cell(page, "Custom Diffusion").locator("img")
    assert images.count() == 2
    images.nth(1).click()
    until(page, "document.querySelector('dialog[open] img').naturalWidth === 64")
    assert page.locator("dialog img").get_attribute("src") == "images/cd/default/cat/s01/1.png"
    assert "A cat* on the beach" in page.inner_text("dialog")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_tables_sort_and_switch(visit, run):
    page = visit(run / "index.html")
    page.click("#results th:has-text('Text similarity') button")
    values = page.evaluate(
        "[...document.querySelectorAll('#results .sortable tbody tr')].map(r => "
        "r.cells[2].dataset.value)"
    )
    numbers = [float(value) for value in values if value]
    assert numbers == sorted(numbers, reverse=True) and values[-1] is None  # the ceiling has none
    assert page.locator("#concepts [data-name='harmonic']").is_hidden()
    page.select_option("#concepts select", "harmonic")
    assert page.locator("#concepts [data-name='harmonic']").is_visible()
    assert page.locator("#concepts [data-name='image_sim']").is_hidden()


def test_a_prompt_that_is_a_script_is_shown_as_text(visit, run):
    page = visit(run / "index.html")
    to_gallery(page)
    page.fill("#pick-words", "onerror")
    until(page, "document.querySelectorAll('.row').length === 1")
    page.wait_for_selector(".row q")
    assert page.text_content(".row q").strip('“”"') == f"A cat* in the snow {EVIL}"
    assert page.locator("img[src='x']").count() == 0


def test_the_page_travels_alone(visit, run, tmp_path):
    shutil.copy(run / "index.html", tmp_path / "mailed.html")
    page = visit(tmp_path / "mailed.html")
    to_gallery(page)
    image = cell(page, "Custom Diffusion").locator("img").first
    until(page, "document.querySelector('.row .cell img').naturalWidth === 64")
    assert page.evaluate(
        "[...document.querySelectorAll('main figure img')].every(i => i.complete && "
        "i.naturalWidth > 0)"
    )
    assert image.get_attribute("src").startswith("data:")


def test_on_a_phone_nothing_sticks_out(visit, run):
    page = visit(run / "index.html", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    to_gallery(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    across = page.evaluate(
        "new Set([...document.querySelector('.row').querySelectorAll('.cell')].map(c => "
        "c.offsetLeft)).size"
    )
    assert across >= 3  # side by side on the narrowest screen as well
    page.tap("#pick-concepts button:has-text('teapot')")
    assert len(shown(page)) == 4


def test_without_scripts_the_results_are_there(visit, run):
    page = visit(run / "index.html", java_script_enabled=False)
    assert page.locator("#results .sortable tbody tr").count() > 5
    assert "needs JavaScript" in page.inner_text("#gallery")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without biases, of prompts that keep the shape and prompts that change it."""
    folder = tmp_path_factory.mktemp("browser") / "plain"
    make_run(folder, {"cd": ("default",), "db": ("default",)}, ["cat", "dog"], prompts=2, images=1)
    write_report(Run(folder), folder / "index.html")
    return folder


def test_without_biases_there_is_no_slider(visit, plain):
    page = visit(plain / "index.html")
    to_gallery(page)
    assert page.locator("#pick-bias").is_hidden() and page.locator("#count").is_visible()
    assert page.locator("#order-by").is_hidden()


def test_the_gallery_takes_the_whole_width(visit, plain):
    page = visit(plain / "index.html", viewport={"width": 1200, "height": 800})
    to_gallery(page)
    ends = page.evaluate(
        "[document.querySelector('.row').getBoundingClientRect().right, "
        "[...document.querySelector('.row').querySelectorAll('.cell')].at(-1)"
        ".getBoundingClientRect().right]"
    )
    assert ends[0] - ends[1] < 1


def test_rows_are_sorted_by_the_score_of_a_method(visit, plain):
    page = visit(plain / "index.html")
    to_gallery(page)
    cells = Run(plain).cells
    label = page.evaluate("document.querySelector('#pick-order-by option').textContent")
    assert label == "DreamBooth"
    mine = cells[(cells["method"] == "db") & (cells["metric"] == "image_sim")].sort_values("mean")
    wanted = list(zip(mine["concept"], mine["prompt_id"]))
    planned = [(row["concept"], row["prompt"]) for row in gallery_rows(page)]
    page.focus("#pick-order")
    page.keyboard.press("i")  # as a keyboard chooses: the first that begins so
    until(page, "document.getElementById('pick-order').value === 'image up'")
    until(page, "!document.getElementById('order-by').hidden")
    order = [planned[int(number)] for number in shown(page)]
    assert order[: len(wanted)] == wanted and len(order) == 8, "without that score last"
    page.select_option("#pick-order", "image down")
    page.select_option("#pick-order-by", label="Custom Diffusion")
    mine = cells[(cells["method"] == "cd") & (cells["metric"] == "image_sim")]
    mine = mine.sort_values("mean", ascending=False)
    order = [planned[int(number)] for number in shown(page)]
    assert order[: len(mine)] == list(zip(mine["concept"], mine["prompt_id"]))


def gallery_rows(page):
    return page.evaluate("JSON.parse(document.getElementById('gallery-data').textContent).rows")


def test_a_row_without_an_image_score_says_why(visit, plain):
    page = visit(plain / "index.html")
    to_gallery(page)
    page.select_option("#pick-kind", "deform")
    page.wait_for_selector(".row .why")
    assert "changes the object" in page.text_content(".row .why")
    page.select_option("#pick-kind", "shape")
    page.wait_for_selector(".row .cell img")
    assert page.locator(".row .why").count() == 0


def ring(page):
    """What is drawn around the element that has the focus."""
    return page.evaluate(
        "(s => [s.outlineStyle, parseFloat(s.outlineWidth)])"
        "(getComputedStyle(document.activeElement))"
    )


def test_pictures_and_headings_are_reached_by_the_keyboard(visit, plain):
    page = visit(plain / "index.html")
    to_gallery(page)
    page.focus("#pick-images")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.cell button')"):
            break
    assert page.evaluate("document.activeElement.querySelector('img') !== null")
    style, width = ring(page)
    assert style == "solid" and width >= 2
    page.keyboard.press("Enter")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    until(page, "document.querySelector('dialog[open]') === null")
    assert page.evaluate("document.activeElement.matches('.cell button')")
    page.focus("nav a:last-child")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('th button')"):
            break
    style, width = ring(page)
    assert style == "solid" and width >= 2
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "descending"


def test_a_hard_cell_leads_to_its_picture(visit, run):
    page = visit(run / "index.html")
    to_gallery(page)
    page.select_option("#pick-kind", "deform")  # what is filtered away comes back
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    link = page.locator("a[data-shows][data-point^='perfusion/']").first
    place, point = link.get_attribute("data-shows"), link.get_attribute("data-point")
    method, bias = f"Perfusion, {point[10:].partition('-')[0]}", point[-10:-6]
    page.click(f"#pick-methods button:has-text('{method}')")
    text = link.text_content()
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".row.found .cell img")
    assert text in page.text_content(".row.found q") and page.inner_text("#bias-now") == bias
    assert method in page.text_content(".row.found")
    assert page.evaluate("document.activeElement.matches('.row.found')")
    assert gallery_rows(page)[int(page.locator(".row.found").get_attribute("data-row"))][
        "id"
    ] == int(place)
    box = page.locator(".row.found").bounding_box()
    assert 0 <= box["y"] < 720


def test_on_a_phone_a_wide_figure_scrolls_and_says_so(visit, run):
    page = visit(run / "index.html", **PHONE)
    figure = page.locator("figure.page").first
    assert figure.locator(".hint").is_visible()
    assert figure.locator(".scroll").evaluate("one => one.scrollWidth > one.clientWidth")
    assert page.locator("figure.column .hint").count() == 0
    wide = visit(run / "index.html", viewport={"width": 1200, "height": 800})
    assert wide.locator("figure.page .hint").first.is_hidden()


@pytest.mark.slow
def test_four_thousand_images_open_fast(visit, tmp_path):
    """Few are drawn before they are near the screen; opening is bounded by reading the file."""
    methods = {"perfusion": LOCAL[:3] + GLOBAL[:3], "cd": ("default",), "db": ("default",)}
    make_run(tmp_path / "big", methods, prompts=6, images=4)
    file = write_report(Run(tmp_path / "big"), tmp_path / "big" / "index.html")
    count = sum(1 for _ in (tmp_path / "big" / "images").rglob("*.png"))
    assert count >= 4000
    started = time.monotonic()
    page = visit(file)
    page.wait_for_selector(".row", state="attached")
    assert time.monotonic() - started < 5
    assert page.locator(".row .cell img").count() < 200
    to_gallery(page)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    until(page, "[...document.querySelectorAll('.row')].at(-1).querySelector('.cell img')")
