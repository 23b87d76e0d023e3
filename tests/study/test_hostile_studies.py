"""A study that is served to people who lie, and a study folder that somebody else made."""

import http.client
import json
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hostile_kit import NAMES, command, make_victim, refused, untouched
from study_kit import answer_file, make_run, rater_id

from benchmarks.study import desk as desks
from benchmarks.study.answers import Refused, parse_answers, read_key
from benchmarks.study.contact_sheet import write_private
from benchmarks.study.design import Design
from benchmarks.study.desk import Desk
from benchmarks.study.export import export
from benchmarks.study.serve import make_server, token_of
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "toy", ("cat", "teapot"), prompts=4, size=16)


@pytest.fixture
def study(run, tmp_path):
    export(run, "ranking", tmp_path / "study", Design(session=4))
    return tmp_path / "study"


@pytest.fixture
def victim(tmp_path):
    return make_victim(tmp_path / "victim")


@pytest.fixture
def ask(study):
    """-> (status, body) of a request to the served study."""
    server, link = make_server(study, "127.0.0.1", 0, name="ratings.example.org")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    parts = urlsplit(link)

    def request(
        method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    request.address = (parts.hostname, parts.port)
    yield request
    server.shutdown()
    server.server_close()
    thread.join()


def session_of(ask, number: int) -> tuple[int, dict]:
    status, body = ask("GET", f"/api/session?rater={rater_id(number)}")
    return status, json.loads(body)


def answers_of(study: Path, session: int, number: int, screens: int | None = None) -> bytes:
    document = answer_file(
        read_key(study), session, rater_id(number), lambda task, random: [3, 2, 1]
    )
    return json.dumps({**document, "answers": document["answers"][:screens]}).encode()


def post(ask, path: str, body: bytes) -> int:
    return ask("POST", path, body, **{"Content-Type": "application/json"})[0]


# ---- raters who are made up ----


@pytest.mark.parametrize("begin", [False, True])
def test_made_up_raters_keep_nobody_out(study, ask, begin):
    """Twenty requests took all sessions for three hours; twice as many did with made-up ranks."""
    for number in range(1000, 1020):
        status, told = session_of(ask, number)
        assert status == 200
        if begin:
            made_up = answers_of(study, told["session"], number, screens=1)
            assert post(ask, "/api/begun", made_up) == 200
    for number in range(len(read_key(study).sessions)):
        status, told = session_of(ask, number)
        assert status == 200
        assert post(ask, "/api/begun", answers_of(study, told["session"], number, screens=1)) == 200
        assert post(ask, "/api/answers", answers_of(study, told["session"], number)) == 201
    assert len({path.name[:3] for path in (study / "answers").iterdir()}) == len(
        read_key(study).sessions
    )


def test_a_session_is_kept_for_who_has_answered_a_screen(study, ask, monkeypatch):
    monkeypatch.setattr(desks, "EACH", 100)  # here, all raters have one address
    sessions = range(len(read_key(study).sessions))
    mine = []
    for number in sessions:
        mine.append(session_of(ask, number)[1]["session"])
        assert post(ask, "/api/begun", answers_of(study, mine[number], number, screens=1)) == 200
    assert [session_of(ask, number)[1]["session"] for number in sessions] == mine, (
        "also after a reload"
    )
    assert session_of(ask, 98)[1]["session"] == mine[0], "the oldest, where all are begun"
    assert session_of(ask, 99)[1]["session"] == mine[0], "the only one that is not begun"
    for number in sessions:
        assert post(ask, "/api/answers", answers_of(study, mine[number], number)) == 201
    status, told = session_of(ask, 100)
    assert status == 503 and "nothing left" in told["status"]


def test_who_begins_has_to_have_been_given_the_session(study, ask):
    _, told = session_of(ask, 1)
    good = json.loads(answers_of(study, told["session"], 1, screens=1))
    assert post(ask, "/api/begun", json.dumps({**good, "answers": []}).encode()) == 422
    assert post(ask, "/api/begun", json.dumps({**good, "ticket": None}).encode()) == 403
    assert post(ask, "/api/begun", json.dumps({**good, "rater": rater_id(2)}).encode()) == 403
    assert post(ask, "/api/begun", b"{}") == 422 and post(ask, "/api/begun", b"[" * 10_000) == 400
    assert not list((study / "answers").iterdir())


def test_a_session_without_an_answer_is_free_soon(study, monkeypatch):
    desk = Desk(read_key(study))
    first, _ = desk.hand_out(rater_id(1))
    second, _ = desk.hand_out(rater_id(2))
    desk.begin(answers_of(study, second, 2, screens=1))
    monkeypatch.setattr(desks, "WAIT_SECONDS", -1)
    assert set(desk.lent()) == {second}
    assert desk.hand_out(rater_id(3))[0] == first


def test_whose_session_went_to_another_may_still_hand_it_in(study):
    desk, key = Desk(read_key(study)), read_key(study)
    handed = {
        rater_id(n): desk.hand_out(rater_id(n), f"10.0.0.{n}") for n in range(len(key.sessions) + 1)
    }
    (session, ticket), (again, _) = handed[rater_id(0)], handed[rater_id(len(key.sessions))]
    assert session == again, "the one that waited longest"
    document = answers_of(study, session, 0)
    assert json.loads(document)["ticket"] == ticket and desk.take_in(document).complete


def test_an_address_holds_a_few_sessions_without_an_answer(study, monkeypatch):
    monkeypatch.setattr(desks, "EACH", 2)
    desk = Desk(read_key(study))
    first, second, third = (desk.hand_out(rater_id(n), "10.0.0.1")[0] for n in range(3))
    assert len({first, second, third}) == 3 and set(desk.lent()) == {second, third}
    desk.begin(answers_of(study, second, 1, screens=1))
    fourth, _ = desk.hand_out(rater_id(4), "10.0.0.1")
    assert set(desk.lent()) == {second, fourth}, "what was begun counts, and is taken last"
    desk.begin(answers_of(study, fourth, 4, screens=1))
    fifth, _ = desk.hand_out(rater_id(5), "10.0.0.1")
    assert set(desk.lent()) == {fourth, fifth}
    other, _ = desk.hand_out(rater_id(6), "10.0.0.2")
    assert set(desk.lent()) == {fourth, fifth, other}
    assert not any(
        "10.0.0" in path.read_text() for path in (study / "private").rglob("*") if path.is_file()
    )


def test_loans_that_are_damaged_are_none(study):
    desk = Desk(read_key(study))
    texts = ["", "[]", '{"rater": 5}', '{"rater": "a", "since": "now"}']
    files = {f"{number}.json": text for number, text in enumerate(texts, 1)}
    for name, text in {**files, "x.json": '{"rater": "a", "since": 1e99}'}.items():
        (desk.loans / name).write_text(text)
    assert desk.lent() == {} and desk.hand_out(rater_id(1))[0] == 1


# ---- pages of other sites ----

OTHERS = [
    "evil.example",
    "evil.example:8765",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "",
    "10.0.0.1",
    "[::2]",
    "0x7f000001x",
    "ratings.example.org.evil",
    "user@localhost",
]
OURS = [
    "127.0.0.1",
    "127.0.0.1:8765",
    "localhost",
    "LOCALHOST:1",
    "[::1]",
    "[::1]:8765",
    "127.1.2.3",
    "ratings.example.org",
    "Ratings.Example.org:443",
]


def test_a_page_of_another_site_takes_no_session(study, ask):
    """A browser says where a request comes from; the link itself may stand anywhere."""
    path, other = f"/api/session?rater={rater_id(1)}", {"Sec-Fetch-Site": "cross-site"}
    for verb in ("GET", "HEAD"):
        assert ask(verb, path, **other)[0] == 403
    assert not list((study / "private" / "loans").iterdir())
    assert ask("GET", "/", **other)[0] == 200
    assert ask("GET", path, **{"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_secrets_are_never_readable_by_others(study, monkeypatch):
    """Also before a mode could be set."""
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    before = os.umask(0)
    try:
        token_of(study)
        write_private(study / "private", {"sessions": [], "secret": "x"}, {})
        write_private(study / "page", {"sessions": [], "secret": "x"}, {})
    finally:
        os.umask(before)
    for path in ("private/token", "private/key.json", "page/key.json"):
        assert (study / path).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", OTHERS)
def test_another_sites_name_reads_nothing(study, ask, host):
    """By DNS that points its own name here."""
    _, told = session_of(ask, 1)
    for path in ("/", "/index.html", f"/api/session?rater={rater_id(2)}"):
        status, body = ask("GET", path, Host=host)
        assert status == 403 and b"not its own" in body
    kind = {"Content-Type": "application/json"}
    assert (
        ask("POST", "/api/answers", answers_of(study, told["session"], 1), Host=host, **kind)[0]
        == 403
    )
    assert not list((study / "answers").iterdir())


@pytest.mark.parametrize("host", OURS)
def test_this_machine_has_several_names(ask, host):
    assert ask("GET", "/", Host=host)[0] == 200


def test_an_address_that_is_none_is_refused(ask):
    with socket.create_connection(ask.address, timeout=20) as connection:
        connection.sendall(b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(99).startswith(b"HTTP/1.1 400 ")


def test_without_a_name_there_is_no_other(study):
    from benchmarks.study.local_http import is_ours

    assert (
        is_ours("localhost", "") and not is_ours("", "") and not is_ours("ratings.example.org", "")
    )


# ---- a study folder of somebody else ----


def spoil(study: Path, change) -> None:
    path = study / "private" / "key.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


DAMAGE = {
    "schema": lambda about: about.update(schema="perfbench-study-key/9"),
    "no secret": lambda about: about.pop("secret"),
    "a secret that is no secret": lambda about: about.update(secret="../x"),
    "a study that is a path": lambda about: about.update(study="../../victim/secret"),
    "sessions as a text": lambda about: about.update(sessions="12"),
    "a session without trials": lambda about: about["sessions"][0].pop("trials"),
    "a session without a block": lambda about: about["sessions"][0].update(block="1"),
    "a trial that is a number": lambda about: about["sessions"][0]["trials"].append(5),
    "a trial without an order": lambda about: about["sessions"][0]["trials"][0].pop("order"),
    "a design that is a list": lambda about: about.update(design=[]),
    **{
        f"method {kind}": lambda about, kind=kind: about.update(methods=[NAMES[kind], "cd", "db"])
        for kind in NAMES
    },
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_key_of_nonsense_is_one_sentence(study, victim, monkeypatch, capsys, kind):
    spoil(study, DAMAGE[kind])
    with untouched(victim):
        for words in (["study", "analyse", study], ["study", "serve", study, "--port", 0]):
            assert "key.json is damaged" in refused(monkeypatch, capsys, *words)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "[" * 100_000, "\0"])
def test_a_key_that_is_no_object_is_one_sentence(study, monkeypatch, capsys, text):
    (study / "private" / "key.json").write_text(text)
    assert "key.json is damaged" in refused(monkeypatch, capsys, "study", "analyse", study)


@pytest.mark.parametrize(
    "name", ["answers", "private", "private/key.json", "private/loans", "analysis"]
)
def test_links_out_of_a_study_are_refused(study, victim, monkeypatch, capsys, name):
    import shutil

    key = read_key(study)
    document = answer_file(key, 1, rater_id(1), lambda task, random: [3, 2, 1])
    (key.answers / "001.json").write_text(json.dumps(document))
    place = study / name
    if place.exists():
        shutil.move(place, victim / "moved")
    os.symlink(victim / "moved", place)
    words = ["serve", study, "--port", 0] if name == "private/loans" else ["analyse", study]
    with untouched(victim):
        assert "leads out" in refused(monkeypatch, capsys, "study", *words)


def test_an_analysis_writes_through_no_link(study, victim, monkeypatch, capsys):
    key = read_key(study)
    document = answer_file(key, 1, rater_id(1), lambda task, random: [3, 2, 1])
    (key.answers / "001.json").write_text(json.dumps(document))
    (study / "analysis").mkdir()
    for name in ("table.csv", "study.png", "table.md"):
        os.symlink(victim / "secret", study / "analysis" / name)
    with untouched(victim):
        assert "leads out" in refused(monkeypatch, capsys, "study", "analyse", study)


def test_an_answer_that_is_a_link_is_not_read(study, victim, monkeypatch, capsys):
    key = read_key(study)
    for session in (1, 2):
        document = answer_file(key, session, rater_id(session), lambda task, random: [3, 2, 1])
        (key.answers / f"{session}.json").write_text(json.dumps(document))
    (key.answers / "2.json").rename(victim / "2.json")
    os.symlink(victim / "2.json", key.answers / "2.json")
    with untouched(victim):
        assert command(monkeypatch, capsys, "study", "analyse", study)[0] == 0
    assert "a link to another folder" in (study / "analysis" / "table.md").read_text()


def test_a_page_serves_no_file_of_the_user(study, victim, ask):
    picture = next((study / "page" / "images").iterdir())
    picture.unlink()
    os.symlink(victim / "secret", picture)
    with untouched(victim):
        status, body = ask("GET", f"/images/{picture.name}")
    assert status == 404 and b"precious" not in body


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("field", ["study", "rater", "ticket"])
def test_answers_name_no_file(study, victim, kind, field):
    key = read_key(study)
    document = answer_file(key, 1, rater_id(1), lambda task, random: [3, 2, 1])
    with untouched(victim), pytest.raises(Refused):
        Desk(key).take_in(json.dumps({**document, field: NAMES[kind]}).encode())
    assert parse_answers(json.dumps(document).encode(), key).complete


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_that_is_none_is_one_sentence(study, port):
    with pytest.raises(UserError, match="is no port"):
        make_server(study, "127.0.0.1", int(port))
