"""A judge's endpoint: what is sent, what is believed, and what a slow, wrong or malicious one can
do: cost a bounded time, and learn nothing.
"""

import json
import time
import traceback

import pytest
from judge_kit import KEY, chat, endpoint, grades, http

from benchmarks.scoring import chat_endpoint
from benchmarks.scoring.chat_endpoint import Busy, Closed, Unanswered, address_of, ask
from benchmarks.scoring.judge_question import Grades, grades_of, instructions
from benchmarks.scoring.lookup import find_scorer
from perfusion_core.errors import UserError

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(chat_endpoint.KEY, KEY)


def asked(here, **more):
    return ask(address_of(here.judge.partition(":")[2]), MESSAGES, **more)


def test_what_is_sent():
    with endpoint(chat("fine")) as here:
        assert asked(here) == "fine"
    sent = here.asked[0]
    assert sent.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    headers = dict(line.split(b": ", 1) for line in sent.head.split(b"\r\n")[1:])
    assert headers[b"Authorization"] == f"Bearer {KEY}".encode()
    assert headers[b"Host"] == f"127.0.0.1:{here.port}".encode()
    assert set(headers) == {b"Authorization", b"Host", b"Content-Type", b"Accept", b"User-Agent",
                            b"Accept-Encoding", b"Content-Length"}  # fmt: skip
    assert sent.raw.count(KEY.encode()) == 1
    assert sent.body == {"model": "small-eye", "temperature": 0, "messages": MESSAGES}


def test_without_a_key_there_is_no_header(monkeypatch):
    monkeypatch.delenv(chat_endpoint.KEY)
    with endpoint(chat("fine")) as here:
        asked(here)
    assert b"authorization" not in here.asked[0].head.lower()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_sees_the_key(monkeypatch, name):
    with endpoint(chat("proxied")) as proxy, endpoint(chat("fine")) as here:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert asked(here) == "fine" and proxy.asked == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_a_redirect_is_never_followed(status):
    with endpoint(chat("stolen")) as thief:
        place = f"Location: http://127.0.0.1:{thief.port}/v1/chat/completions"
        with endpoint(http("", status, place)) as here, pytest.raises(Closed, match="redirect"):
            asked(here)
    assert thief.asked == []


ECHO = f"{KEY} " * 3
HOSTILE = {  # what comes -> what it counts as
    "its key in the reason": (http("", f"401 {KEY}"), Closed),
    "its key in the body": (http(ECHO, "403 Forbidden"), Closed),
    "no such model": (http(ECHO, "404 Not Found"), Closed),
    "a filter": (http(ECHO, "400 Bad Request"), Unanswered),
    "too much at once": (http(ECHO, f"429 {KEY}", "Retry-After: 7"), Busy),
    "broken": (http(ECHO, f"500 {KEY}"), Busy),
    "a number of nothing": (http(ECHO, "999 What"), Busy),
    "a status that is none": (f"HTTP/1.1 {KEY}\r\n\r\n".encode(), Busy),
    "no http": (f"{KEY}\r\n\r\n".encode(), Busy),
    "nothing": (b"", Busy),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", Busy),
    "half a body": (chat("x" * 500)[:-200], Busy),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{", Busy),
    "an endless line": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, Busy),
    "a thousand headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", Busy),
    "huge": (chat("x" * (chat_endpoint.MOST + 1)), Busy),
    "a huge promise": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", Busy),
    "no JSON": (http(f"<html>{KEY}"), Busy),
    "a deep one": (http("[" * 100_000), Busy),
    "a number of digits": (http("9" * 100_000), Busy),
    "no choice": (http('{"choices": []}'), Busy),
    "another shape": (http('{"choices": {"0": 1}}'), Busy),
    "no object": (http("[1, 2]"), Busy),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_of_a_hostile_answer_is_repeated(case):
    reply, kind = HOSTILE[case]
    with endpoint(reply) as here, pytest.raises(kind) as told:
        asked(here, seconds=5)
    shown = "".join(traceback.format_exception(told.value))
    assert KEY not in shown and "Traceback" in shown
    assert len(str(told.value)) < 200
    if case == "too much at once":
        assert told.value.wait == 7.0


@pytest.mark.parametrize(
    "reply",
    [
        [5.0],
        [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n", 0.1] * 50],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b" ", 0.1] * 50],
        [b"HTTP/1.1 100 Continue\r\n\r\n", 0.1] * 50,
    ],
    ids=["silence", "a head that drips", "a body that drips", "continue, continue"],
)
def test_a_slow_answer_is_cut_off(reply):
    started = time.monotonic()
    with endpoint(reply) as here, pytest.raises(Busy, match="too long"):
        asked(here, seconds=0.4)
    assert time.monotonic() - started < 3


def test_nobody_there():
    with endpoint(b"") as here:
        pass
    with pytest.raises(Busy, match=r"failed \(ConnectionRefusedError\)"):
        asked(here)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"subject": 4, "prompt": 0}', Grades(4, 0)),
        (' {"prompt": 1,\n "subject": 3} \n', Grades(3, 1)),
        ('{"subject": 5, "prompt": 0}', None),
        ('{"subject": -1, "prompt": 0}', None),
        ('{"subject": 3.0, "prompt": 0}', None),
        ('{"subject": "3", "prompt": 0}', None),
        ('{"subject": true, "prompt": 0}', None),
        ('{"subject": NaN, "prompt": 0}', None),
        ('{"subject": null, "prompt": 0}', None),
        ('{"subject": 3}', None),
        ('{"subject": 3, "prompt": 1, "why": "nice"}', None),
        ('{"subject": 3, "subject": 4, "prompt": 1}', None),
        ('[{"subject": 3, "prompt": 1}]', None),
        ('Here: {"subject": 3, "prompt": 1}', None),
        ('```json\n{"subject": 3, "prompt": 1}\n```', None),
        ("I cannot grade pictures of people.", None),
        ("[" * 100_000, None),
        ("9" * 100_000, None),
        ("", None),
    ],
)
def test_only_two_whole_numbers_are_an_answer(text, found):
    assert grades_of(text) == found


@pytest.mark.parametrize("content", [None, 3, ["text"], {"subject": 3, "prompt": 1}])
def test_a_message_that_is_no_text_is_no_answer(content):
    with endpoint(chat(content)) as here:
        assert grades_of(asked(here)) is None


def test_the_name_has_the_model_and_the_questions_digest(monkeypatch):
    one = find_scorer("judge:https://api.example.org/v1#org/eye:2", "", None)
    two = find_scorer("judge:https://api.example.org/v1#org/eye-2", "", None)
    assert one.name != two.name and one.name.startswith("judge-org-eye-2-")
    assert one.name.rsplit("-", 1)[1] == one.preprocessing[:8]
    elsewhere = find_scorer(
        "judge:https://other.example.org/v1/chat/completions#org/eye:2", "", None
    )
    assert elsewhere.name == one.name
    monkeypatch.setattr("benchmarks.scoring.judge_question.instructions", lambda: "Grade.")
    assert find_scorer(one.source and f"judge:{one.source}", "", None).name != one.name
    assert "0 to 4" in instructions()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://api.example.org/v1#m", "not an https address"),
        ("ftp://localhost/v1#m", "not an https address"),
        ("file:///etc/passwd#m", "is no address|not an https"),
        ("//localhost/v1#m", "not an https address"),
        ("localhost/v1#m", "is no address"),
        ("http://localhost.example.org/v1#m", "not an https address"),
        ("https://me:hidden@api.example.org/v1#m", "a name, a password"),
        ("https://api.example.org/v1?key=hidden#m", "a query"),
        ("https://api.example.org/v1", "needs the model's name"),
        ("https://api.example.org/v1#", "needs the model's name"),
        ("https://api.example.org/v1#a model", "needs the model's name"),
        ("https://api.example.org:zzz/v1#m", "cannot be read"),
        ("https://api.example.org:99999/v1#m", "cannot be read"),
        ("https://[::1/v1#m", "cannot be read"),
        ("https://api.example.org/a b#m", "is no address"),
        ("https://api.example.org\\@evil.example.org/v1#m", "is no address|cannot|a name"),
        ("", "is no address"),
    ],
)
def test_addresses_that_are_refused(given, told):
    with pytest.raises(UserError, match=told) as error:
        find_scorer(f"judge:{given}", "", None)
    assert "hidden" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["two words", "line\nend", "tab\t", "\u00e4"])
def test_a_key_that_is_none_is_not_shown(monkeypatch, key):
    monkeypatch.setenv(chat_endpoint.KEY, key)
    with pytest.raises(UserError, match="a character that no key has") as error:
        find_scorer("judge:https://api.example.org/v1#m", "", None)
    assert key not in str(error.value)


def test_it_picks_no_training_steps():
    with pytest.raises(UserError, match="a judge cannot pick training steps"):
        find_scorer("judge:https://api.example.org/v1#m", "", None, selects=True)


def test_grades_of_the_kit():
    with endpoint(grades(2, 3)) as here:
        assert json.loads(asked(here)) == {"subject": 2, "prompt": 3}
