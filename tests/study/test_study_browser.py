"""The page in a real browser without a window: a session by mouse and keys, a reload in its middle,
the download.
"""

import json
import shutil
import threading
from pathlib import Path

import pytest
from browser_kit import launched
from study_kit import make_run

from benchmarks.study.answers import parse_answers, read_key
from benchmarks.study.design import QUALIFY, Design
from benchmarks.study.export import export
from benchmarks.study.serve import make_server

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(chromium):
    """Open pages that fail the test on any script error, console complaint or request to
    elsewhere.
    """
    trouble, contexts = [], []

    def open_page(url, expected="", **settings):
        context = chromium.new_context(**settings)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "console",
            lambda line: (
                trouble.append(line.text)
                if line.type in ("error", "warning") and not (expected and expected in line.text)
                else None
            ),
        )
        page.on(
            "request",
            lambda r: (
                trouble.append(r.url)
                if not r.url.startswith((url.split("#")[0].rsplit("/", 1)[0], "data:", "blob:"))
                else None
            ),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    run = make_run(root / "run", ("cat", "teapot", "chair"), prompts=4, size=64)
    for kind in ("ranking", "realism"):
        export(run, kind, root / kind, Design(session=6, qualify=3, pass_mark=3, repeats=1))
    return root


@pytest.fixture
def ranking(studies, tmp_path):
    """Its own copy, so that answers of one test are not in the way of another."""
    return Path(shutil.copytree(studies / "ranking", tmp_path / "ranking"))


def address(folder, session=None):
    return f"file://{folder}/page/index.html" + (f"#s={session}" if session else "")


def screens(folder, session):
    return read_key(folder).sessions[session - 1]["trials"]


def right_ranks(trial):
    """Numbers by place that pass a qualification trial."""
    return [3 - choice for choice in trial["order"]]


def by_mouse(page, ranks):
    for place, rank in enumerate(ranks):
        page.locator(f"#choice-{place} .rank").nth(3 - rank).click()


def by_keys(page, ranks):
    for rank in ranks:
        page.keyboard.press(str(rank))


def count(page):
    return page.inner_text("#count")


def shown_ranks(page):
    return page.evaluate(
        "[...document.querySelectorAll('.choice')].map(c => Number((c.querySelector(':checked') "
        "|| {}).value || 0))"
    )


def begin(page):
    page.click("#begin")
    page.click("#start")


def download(page):
    with page.expect_download() as found:
        page.click("#download")
    return json.loads(Path(found.value.path()).read_text()), found.value.suggested_filename


def test_a_session_by_mouse_and_keys_with_a_reload_in_the_middle(ranking, visit):
    key, trials = read_key(ranking), screens(ranking, 2)
    assert len(trials) == 3 + 6 + 1
    page = visit(address(ranking, 2))
    assert page.inner_text("#welcome h1") == "Which picture fits best?"
    assert "10 screens" in page.inner_text("#welcome")
    begin(page)
    given = {}
    for at, trial in enumerate(trials):
        assert count(page) == f"Screen {at + 1} of 10"
        assert page.inner_text("#text") == key.task(trial)["text"]
        assert (
            page.locator("#references img").count() == 2
            and page.locator("#choices img").count() == 3
        )
        ranks = (
            right_ranks(trial)
            if trial["role"] == QUALIFY
            else [[1, 2, 3], [2, 3, 1], [3, 1, 2]][at % 3]
        )
        given[trial["id"]] = ranks
        if at % 2:
            by_mouse(page, ranks)
            assert shown_ranks(page) == ranks
            page.click("#next")
        else:
            by_keys(page, ranks)
            assert shown_ranks(page) == ranks
            page.keyboard.press("Enter")
        if at == 2:
            assert page.inner_text("#passed h1") == "Well done"
            assert "7 screens are left" in page.inner_text("#passed")
            page.click("#onward")
        if at == 5:
            page.reload()
            assert count(page) == "Screen 7 of 10"
            page.click("#back")
            assert shown_ranks(page) == ranks  # what was given before the reload is there
            page.click("#next")
    assert "All 10 screens are answered" in page.inner_text("#end")
    document, name = download(page)
    assert name.startswith(f"answers-{key.study}-session-2-") and name.endswith(".json")
    assert {answer["trial"]: answer["ranks"] for answer in document["answers"]} == given
    answers = parse_answers(json.dumps(document).encode(), key)
    assert answers.complete and answers.qualified and answers.session == 2
    # nothing else about the rater
    assert set(document) == {"schema", "study", "rater", "session", "ticket", "answers"}
    page.reload()
    assert "All 10 screens are answered" in page.inner_text("#end")
    assert download(page)[0] == document


def test_ranks_stay_unique_and_the_last_one_is_filled_in(ranking, visit):
    page = visit(address(ranking, 1))
    begin(page)
    by_mouse(page, [3])
    assert shown_ranks(page) == [3, 0, 0]
    # it says that it is disabled, and answers a click with what is missing
    page.click("#next", force=True)
    assert count(page) == "Screen 1 of 10" and "needs a number" in page.inner_text("#missing")
    page.locator("#choice-1 .rank").nth(0).click()  # 3 is taken away from A
    assert shown_ranks(page) == [0, 3, 0]
    page.locator("#choice-0 .rank").nth(2).click()
    assert shown_ranks(page) == [1, 3, 2]
    assert page.inner_text("#said") == "A: 1, worst. B: 3, best. C: 2, middle."
    page.locator("#choice-2 .rank").nth(0).click()  # and exchanged
    assert shown_ranks(page) == [1, 2, 3]


def test_by_keyboard_alone_from_the_welcome_on(ranking, visit):
    page = visit(address(ranking, 3))
    page.keyboard.press("Tab")
    for _step in range(12):
        if page.evaluate("document.activeElement.id") == "begin":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _step in range(12):
        if page.evaluate("document.activeElement.id") == "start":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert count(page) == "Screen 1 of 10"
    page.keyboard.press("c")
    page.keyboard.press("3")
    page.keyboard.press("b")
    page.keyboard.press("1")
    assert shown_ranks(page) == [2, 1, 3]
    # the native radio buttons: arrows change the number
    page.locator("#choice-0 input").nth(1).focus()
    page.keyboard.press("ArrowDown")
    assert shown_ranks(page) == [1, 2, 3]
    page.keyboard.press("Enter")
    assert count(page) == "Screen 2 of 10"


def test_too_few_right_answers_end_the_session(ranking, visit):
    page = visit(address(ranking, 1))
    begin(page)
    for trial in screens(ranking, 1)[:3]:
        by_keys(
            page,
            right_ranks(trial)
            if trial != screens(ranking, 1)[1]
            else [4 - rank for rank in right_ranks(trial)],
        )
        page.keyboard.press("Enter")
    assert page.inner_text("#end h1") == "That is all"
    assert page.locator("#resume").is_hidden()
    document, _ = download(page)
    answers = parse_answers(json.dumps(document).encode(), read_key(ranking))
    assert answers.tested and not answers.qualified and len(answers.ranks) == 3
    page.goto("about:blank")
    page.goto(address(ranking, 2))
    assert page.inner_text("#end h1") == "That is all"  # another session is no second chance


def test_stopping_early_keeps_and_hands_in_what_is_there(ranking, visit):
    page = visit(address(ranking, 1))
    begin(page)
    by_keys(page, right_ranks(screens(ranking, 1)[0]))
    page.keyboard.press("Enter")
    page.click("#stop")
    page.keyboard.press("Escape")
    assert count(page) == "Screen 2 of 10"
    page.click("#stop")
    page.click("#sure [value=yes]")
    page.locator("#end").wait_for()
    assert "1 of 10 screens" in page.inner_text("#end")
    assert len(download(page)[0]["answers"]) == 1
    page.click("#resume")
    assert count(page) == "Screen 2 of 10"
    page.click("#stop")
    page.click("#sure [value=yes]")
    page.click("#forget")
    page.click("#sure [value=yes]")
    page.get_by_text("have been deleted").wait_for()
    page.reload()
    assert page.locator("#welcome").is_visible()


def test_without_a_number_in_the_link_it_is_asked_for(ranking, visit):
    page = visit(address(ranking))
    assert page.locator("#number").is_visible()
    page.fill("#number", "99")
    page.click("#begin")
    assert "from 1 to" in page.inner_text("#warning")
    page.fill("#number", "2")
    page.keyboard.press("Enter")
    page.click("#start")
    assert page.inner_text("#text") == read_key(ranking).task(screens(ranking, 2)[0])["text"]


@pytest.mark.parametrize("kind", ["ranking", "realism"])
@pytest.mark.parametrize("size", ["1", "3"])
def test_on_a_phone_by_touch(studies, visit, kind, size):
    page = visit(address(studies / kind, 1), **PHONE)
    page.tap(f'.sizes [data-size="{size}"]')
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(fits)
    page.tap("#begin")
    assert page.evaluate(fits)
    page.tap("#start")
    assert page.evaluate(fits)
    small = """[...document.querySelectorAll('.rank, #next, #stop, .sizes button')]
        .map(b => b.getBoundingClientRect()).filter(r => r.width < 44 || r.height < 44).length"""
    assert page.evaluate(small) == 0
    for place, rank in enumerate([2, 3, 1][: page.locator(".choice").count()]):
        page.locator(f"#choice-{place} .rank").nth(3 - rank).tap()
    page.locator("#choice-0 .picture").tap()
    assert page.locator("#large").is_visible()
    page.locator("#large button").tap()
    assert page.locator("#large").is_hidden()
    page.tap("#next")
    assert count(page) == "Screen 2 of 10"


def test_realism_allows_ties(studies, visit):
    page = visit(address(studies / "realism", 1))
    begin(page)
    by_keys(page, [2, 2])
    assert shown_ranks(page) == [2, 2]
    page.keyboard.press("Enter")
    assert count(page) == "Screen 2 of 10"


def test_everything_has_a_name_for_screen_readers(ranking, visit):
    page = visit(address(ranking, 1))
    begin(page)
    assert page.locator("img:not([alt])").count() == 0
    group = page.get_by_role("group", name="Picture B")
    assert group.get_by_role("radio", name="3, best").count() == 1
    assert page.get_by_role("button", name="Picture C, enlarge").count() == 1
    assert page.get_by_role("progressbar", name="Screen 1 of 10").count() == 1
    assert page.get_by_role("button", name="The object, picture 1, enlarge").count() == 1
    # a new screen is read from its head
    assert page.evaluate("document.activeElement.id") == "count"
    assert page.evaluate("document.documentElement.lang") == "en"
    nameless = """[...document.querySelectorAll('button')]
        .filter(b => b.offsetParent && !b.innerText.trim() && \
!b.getAttribute('aria-label')).length"""
    assert page.evaluate(nameless) == 0


def test_the_size_of_the_text_is_kept(ranking, visit):
    page = visit(address(ranking, 1))
    before = page.evaluate("getComputedStyle(document.body).fontSize")
    page.click('.sizes [data-size="3"]')
    page.reload()
    assert float(page.evaluate("getComputedStyle(document.body).fontSize")[:-2]) >= 1.7 * float(
        before[:-2]
    )


def test_the_pages_sha256_is_sha256(ranking, visit):
    import hashlib

    page = visit(address(ranking, 1))
    for text in ("", "abc", "é" * 40, "x" * 55, "x" * 56, "x" * 64, "2-1-" + "0" * 200):
        assert (
            page.evaluate("text => sha256(text)", text) == hashlib.sha256(text.encode()).hexdigest()
        )


def test_any_web_server_will_do(ranking, visit):
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=ranking / "page"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        page = visit(f"http://127.0.0.1:{server.server_address[1]}/index.html#s=2", expected="404")
        begin(page)
        by_keys(page, right_ranks(screens(ranking, 2)[0]))
        page.keyboard.press("Enter")
        page.wait_for_function(  # they come one by one
            "[...document.images].every(image => image.naturalWidth > 0 || !image.src)"
        )
        page.click("#stop")
        page.click("#sure [value=yes]")
        page.locator("#end").wait_for()
        assert page.locator("#send").is_hidden() and len(download(page)[0]["answers"]) == 1
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_served_the_answers_arrive_and_another_session_follows(ranking, visit):
    key = read_key(ranking)
    server, link = make_server(ranking, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        page = visit(link)
        page.click("#begin")
        session = page.evaluate("state.session")
        page.click("#start")
        for at, trial in enumerate(screens(ranking, session)):
            by_keys(page, right_ranks(trial))
            page.keyboard.press("Enter")
            if at == 2:
                page.click("#onward")
        page.get_by_text("Your answers have arrived").wait_for()
        (path,) = key.answers.glob("*.json")
        assert parse_answers(path.read_bytes(), key).complete
        page.click("#another")
        page.locator("#begin").wait_for()
        again = page.evaluate("state.session")
        assert key.sessions[again - 1]["block"] != key.sessions[session - 1]["block"]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_first_answered_screen_keeps_the_session(ranking, visit):
    """Until then the server may give it to somebody else."""
    server, link = make_server(ranking, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        page = visit(link)
        begin(page)
        session = page.evaluate("state.session")
        loan = ranking / "private" / "loans" / f"{session}.json"
        assert json.loads(loan.read_text())["begun"] is False
        by_keys(page, right_ranks(screens(ranking, session)[0]))
        with page.expect_response("**/api/begun") as told:
            page.keyboard.press("Enter")
        assert told.value.status == 200 and json.loads(loan.read_text())["begun"] is True
        # pictures of the screens ahead are on their way, and a server that ends would cut them off
        page.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_when_the_server_is_gone_the_answers_can_be_sent_later(ranking, visit):
    server, link = make_server(ranking, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    key = read_key(ranking)
    try:
        page = visit(link, expected="status of 503")
        begin(page)
        session = page.evaluate("state.session")
        away = {
            "status": 503,
            "content_type": "application/json",
            "body": '{"status": "out for lunch"}',
        }
        page.route("**/api/answers", lambda route: route.fulfill(**away))
        for at, trial in enumerate(screens(ranking, session)):
            by_keys(page, right_ranks(trial))
            page.keyboard.press("Enter")
            if at == 2:
                page.click("#onward")
        page.get_by_text("could not be sent (out for lunch)").wait_for()
        assert not list(key.answers.glob("*.json"))
        page.unroute("**/api/answers")
        page.click("#send")
        page.get_by_text("Your answers have arrived").wait_for()
        assert len(list(key.answers.glob("*.json"))) == 1
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_where_the_browser_keeps_nothing_the_page_says_so_and_works(ranking, visit):
    """Storage that throws, as strict settings make it."""
    page = visit(address(ranking, 1))
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied', "
        "'SecurityError') }})"
    )
    page.reload()
    begin(page)
    assert "do not close or reload" in page.inner_text("#warning")
    page.keyboard.press("3")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    assert count(page) == "Screen 2 of 10"


@pytest.mark.parametrize("size", ["1", "2", "3"])
def test_nothing_is_cut_off_on_the_narrowest_phone(ranking, visit, size):
    page = visit(
        address(ranking, 1), viewport={"width": 320, "height": 568}, is_mobile=True, has_touch=True
    )
    page.tap(f'.sizes [data-size="{size}"]')
    for step in ("#begin", "#start", "#stop"):
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, step
        page.tap(step)
    page.tap('#sure button[value="yes"]')
    page.locator("#end").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
