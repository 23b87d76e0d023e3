"""Answers over http: what is taken, what is refused and how, and that nothing is lost."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from study_kit import answer_file, make_run, rater_id

from benchmarks.study.answers import MAX_BYTES, parse_answers, read_key
from benchmarks.study.design import Design
from benchmarks.study.desk import Desk
from benchmarks.study.export import export
from benchmarks.study.serve import make_server
from perfusion_core.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "toy", ("cat", "teapot"), prompts=4, size=16)


@pytest.fixture
def study(run, tmp_path):
    export(run, "ranking", tmp_path / "study", Design(session=4))
    return tmp_path / "study"


class Client:
    """Speaks to a server; keeps no state but its address."""

    def __init__(self, link):
        parts = urlsplit(link)
        self.host, self.port, self.base = parts.hostname, parts.port, parts.path

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, self.base + path, body, headers)
            reply = connection.getresponse()
            data = reply.read()
            return (
                reply.status,
                json.loads(data)
                if reply.headers.get_content_type() == "application/json"
                else data,
                reply.headers,
            )
        finally:
            connection.close()

    def session(self, rater):
        return self.ask("GET", f"api/session?rater={rater}")

    def hand_in(self, document):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, reply, _ = self.ask(
            "POST", "api/answers", body, **{"Content-Type": "application/json"}
        )
        return status, reply["status"]


@pytest.fixture
def client(study):
    server, link = make_server(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Client(link)
    server.shutdown()
    server.server_close()
    thread.join()


def good(study, number, client=None):
    """What rater `number` hands in, in the session that the server gave him."""
    rater = rater_id(number)
    session = client.session(rater)[1]["session"] if client else 1
    return answer_file(read_key(study), session, rater, lambda task, random: [3, 2, 1])


def test_a_session_from_the_link_to_the_file(study, client):
    status, page, headers = client.ask("GET", "")
    assert status == 200 and b"<title>Which picture fits best?</title>" in page
    assert (
        "default-src 'none'" in headers["Content-Security-Policy"]
        and headers["Referrer-Policy"] == "no-referrer"
    )
    picture = next((study / "page" / "images").iterdir())
    status, data, _ = client.ask("GET", f"images/{picture.name}")
    assert status == 200 and data == picture.read_bytes()
    status, reply, _ = client.session(rater_id(1))
    document = answer_file(
        read_key(study), reply["session"], rater_id(1), lambda task, random: [1, 3, 2]
    )
    assert document["ticket"] == reply["ticket"]
    assert client.hand_in(document) == (201, "arrived")
    (filed,) = (study / "answers").iterdir()
    assert json.loads(filed.read_text()) == document
    assert parse_answers(filed.read_bytes(), read_key(study)).complete


OUTSIDE = [
    "private/key.json",
    "../private/key.json",
    "images/../../private/key.json",
    "images/%2e%2e/%2e%2e/private/key.json",
    "answers/",
    "images/",
    "index.html%00",
    "/etc/passwd",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_but_the_page_can_be_fetched(client, path):
    status, reply, _ = client.ask("GET", path)
    assert (status, reply["status"]) == (404, "there is nothing here")


def test_raters_get_different_sessions_and_the_same_one_again_after_a_reload(study, client):
    first, again, other = (client.session(rater_id(n))[1]["session"] for n in (1, 1, 2))
    assert first == again != other
    assert client.hand_in(good(study, 1, client))[0] == 201
    blocks = [session["block"] for session in read_key(study).sessions]
    second = client.session(rater_id(1))[1]["session"]
    assert blocks[second - 1] != blocks[first - 1]


def test_a_loan_runs_out(study, monkeypatch):
    desk = Desk(read_key(study))
    first, _ = desk.hand_out(rater_id(1))
    assert desk.hand_out(rater_id(2))[0] != first
    monkeypatch.setattr("benchmarks.study.desk.LOAN_SECONDS", -1)
    assert Desk(read_key(study)).hand_out(rater_id(3))[0] == first


def changed(document, **fields):
    return {**document, **fields}


def with_answer(document, **fields):
    return changed(
        document, answers=[{**document["answers"][0], **fields}, *document["answers"][1:]]
    )


REFUSALS = {
    "not JSON": (400, lambda d, k: b"{'trial': 1"),
    "not UTF-8": (400, lambda d, k: b"\xff\xfe\x00"),
    "not an object": (400, lambda d, k: b"[1, 2]"),
    "no number": (400, lambda d, k: json.dumps(d).replace("[3, 2, 1]", "[NaN, 2, 1]", 1).encode()),
    "nested too deep": (400, lambda d, k: b"[" * 100_000),
    "a field more": (422, lambda d, k: changed(d, name="me")),
    "a field less": (422, lambda d, k: {key: value for key, value in d.items() if key != "rater"}),
    "rater's name": (422, lambda d, k: changed(d, rater="../../etc/cron.d/x")),
    "session as text": (422, lambda d, k: changed(d, session="1")),
    "session true": (422, lambda d, k: changed(d, session=True)),
    "session too high": (422, lambda d, k: changed(d, session=10_000)),
    "answers no list": (422, lambda d, k: changed(d, answers={})),
    "ranks too few": (422, lambda d, k: with_answer(d, ranks=[1, 2])),
    "ranks tied": (422, lambda d, k: with_answer(d, ranks=[3, 3, 1])),
    "rank 4": (422, lambda d, k: with_answer(d, ranks=[4, 2, 1])),
    "rank 2.5": (422, lambda d, k: with_answer(d, ranks=[2.5, 2, 1])),
    "rank true": (422, lambda d, k: with_answer(d, ranks=[True, 2, 3])),
    "an answer twice": (422, lambda d, k: changed(d, answers=[*d["answers"], d["answers"][0]])),
    "another study": (403, lambda d, k: changed(d, study="0123456789ab")),
    "a forged screen": (
        403,
        lambda d, k: with_answer(
            d,
            trial=d["answers"][0]["trial"][:-1]
            + ("0" if d["answers"][0]["trial"][-1] != "0" else "1"),
        ),
    ),
    "another session's screen": (
        403,
        lambda d, k: with_answer(d, trial=k.sessions[1 - (d["session"] - 1)]["trials"][0]["id"]),
    ),
    "a ticket of half a character": (
        403,
        lambda d, k: json.dumps(d).replace(d["ticket"], "\\ud800").encode(),
    ),
    "no ticket": (403, lambda d, k: changed(d, ticket=None)),
    "another rater's ticket": (
        403,
        lambda d, k: changed(d, ticket=k.ticket(d["session"], rater_id(99))),
    ),
    "a replay under another name": (403, lambda d, k: changed(d, rater=rater_id(99))),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_answers_are_refused_with_their_status(study, client, name):
    expected, spoil = REFUSALS[name]
    document = good(study, 1, client)
    status, said = client.hand_in(spoil(document, read_key(study)))
    assert status == expected and said
    assert not list((study / "answers").iterdir())
    assert client.hand_in(document) == (201, "arrived")  # and the honest one is still taken


def test_a_replay_is_refused(study, client):
    document = good(study, 1, client)
    assert client.hand_in(document)[0] == 201
    assert client.hand_in(document) == (409, "these answers have arrived before")
    better = with_answer(document, ranks=[1, 2, 3])
    assert client.hand_in(better)[0] == 409
    assert json.loads(next((study / "answers").iterdir()).read_text()) == document


def test_oversized_answers_are_refused_before_they_are_read(study, client):
    assert client.hand_in(b" " * (MAX_BYTES + 1))[0] == 413
    connection = http.client.HTTPConnection(client.host, client.port, timeout=20)
    connection.putrequest("POST", "/api/answers")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    assert client.ask("POST", "api/answers", b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert client.ask("POST", "index.html", b"{}", **{"Content-Type": "application/json"})[0] == 404


def test_stopping_early_is_filed_and_can_be_completed_later(study, client):
    document = good(study, 1, client)
    half = changed(document, answers=document["answers"][:7])
    assert client.hand_in(half)[0] == 201
    assert client.hand_in(half)[0] == 409
    assert [path.name for path in (study / "answers").iterdir()] == [
        f"{document['session']:03d}-{rater_id(1)}-stopped.json"
    ]
    # someone else may do it whole
    assert client.session(rater_id(2))[1]["session"] == document["session"]
    assert client.hand_in(document)[0] == 201
    assert [path.name for path in (study / "answers").iterdir()] == [
        f"{document['session']:03d}-{rater_id(1)}.json"
    ]
    assert client.hand_in(half)[0] == 409


def test_who_fails_the_qualification_gets_no_second_session(study, client):
    session = client.session(rater_id(1))[1]["session"]
    failed = answer_file(
        read_key(study), session, rater_id(1), lambda task, random: [3, 2, 1], known=False
    )
    failed["answers"] = failed["answers"][:5]
    assert client.hand_in(failed)[0] == 201
    status, reply, _ = client.session(rater_id(1))
    assert status == 403 and "Thank you" in reply["status"]
    assert client.session(rater_id(2))[1]["session"] == session  # the session is free again


def test_of_two_equal_answers_at_once_one_is_taken(study, client):
    document = json.dumps(good(study, 1, client)).encode()
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(status for status, _ in pool.map(client.hand_in, [document] * 8))
    assert statuses == [201] + [409] * 7
    assert len(list((study / "answers").iterdir())) == 1


def test_many_raters_at_once_get_different_sessions_and_all_arrive(study, client):
    n = len(read_key(study).sessions)

    def sit(number):
        return client.hand_in(good(study, number, client))[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sit, range(n))) == [201] * n
    assert sorted(int(path.name[:3]) for path in (study / "answers").iterdir()) == list(
        range(1, n + 1)
    )
    status, reply, _ = client.session(rater_id(999))
    assert status == 503 and "nothing left" in reply["status"]


def start(study, *flags):
    command = [
        sys.executable,
        "-m",
        "benchmarks.cli",
        "study",
        "serve",
        str(study),
        "--port",
        "0",
        *flags,
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return server, Client(server.stdout.readline().strip())


def test_kill_9_loses_nothing_that_was_said_to_have_arrived(study):
    key = read_key(study)
    arrived, started = [], threading.Event()
    server, client = start(study)

    def sit(number):
        try:
            document = good(study, number, client)
            if client.hand_in(document)[0] == 201:
                arrived.append(document)
                if len(arrived) >= 4:
                    started.set()
        except (OSError, http.client.HTTPException):
            pass  # killed in the middle of it

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(sit, n) for n in range(len(key.sessions))]
        assert started.wait(30)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        for job in work:
            job.result()
    assert 4 <= len(arrived) < len(key.sessions)
    # as a server killed while writing leaves one
    (key.answers / ".new-0123").write_text('{"half": ')
    for path in key.answers.glob("*.json"):
        assert parse_answers(path.read_bytes(), key).complete  # nothing half written
    for document in arrived:
        assert (
            json.loads(
                (key.answers / f"{document['session']:03d}-{document['rater']}.json").read_text()
            )
            == document
        )

    server, client = start(study)
    try:
        second, _ = start(study)
        assert second.wait() == 2  # one server a study
        assert not list(key.answers.glob(".new-*"))
        assert client.hand_in(arrived[0])[0] == 409
        for number in range(100, 100 + len(key.sessions)):
            status, reply, _ = client.session(rater_id(number))
            if status == 503:
                break
            document = answer_file(
                key, reply["session"], rater_id(number), lambda task, random: [3, 2, 1]
            )
            assert client.hand_in(document)[0] == 201
    finally:
        server.terminate()
        server.wait()


def test_the_network_needs_the_token_that_is_printed(study):
    server, client = start(study, "--host", "0.0.0.0")
    try:
        token = client.base.strip("/")
        assert len(token) == 16
        client.host = "127.0.0.1"
        assert client.ask("GET", "")[0] == 200
        assert client.session(rater_id(1))[0] == 200
        document = good(study, 1, client)
        for wrong in ("/", f"/{token[:-1]}/", "/x/"):
            client.base = wrong
            status, reply, _ = client.ask("GET", "")
            assert status == 403 and "whole link" in reply["status"]
            assert client.hand_in(document)[0] == 403
        assert not list((study / "answers").iterdir())
    finally:
        server.terminate()
        server.wait()
    server, again = start(study, "--host", "0.0.0.0")
    server.terminate()
    server.wait()
    assert again.base.strip("/") == token  # links that were given out still work


def test_mistakes_are_one_sentence(study, tmp_path):
    with pytest.raises(UserError, match=r"is not a study: there is no .*key\.json"):
        make_server(tmp_path, "127.0.0.1", 0)
    with pytest.raises(UserError, match=r"cannot listen on 127.0.0.1:[0-9]+ .*in use"):
        server, _ = make_server(study, "127.0.0.1", 0)
        try:
            make_server(study, "127.0.0.1", server.server_address[1])
        finally:
            server.server_close()
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1"):
        make_server(study, "192.0.2.1", 0)  # an address that no machine has
