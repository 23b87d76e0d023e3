"""A study on one network: the page over http, answers into files.

In: a study folder, an address. Out: files in `answers/`. Nothing but the page's own files can be
fetched.
"""

import hmac
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from benchmarks.disk import Locks, write_secret
from benchmarks.safe_paths import below
from benchmarks.study.answers import MAX_BYTES, rated, read_key
from benchmarks.study.desk import Desk
from benchmarks.study.local_http import (
    GUARDS,
    GuardedHandler,
    Refused,
    Server,
    is_loopback,
    listening,
    refuse_port,
)
from perfusion_core.errors import UserError

INLINE = "'unsafe-inline'"  # the page is one file
POLICY = (
    f"default-src 'none'; img-src 'self' data:; style-src {INLINE}; script-src {INLINE}; "
    f"connect-src 'self'"
)
PICTURE = re.compile(r"images/[0-9a-f]{16}\.png")


class Handler(GuardedHandler):
    """GET the page, its pictures, a session; POST answers. Every refusal is JSON with a status in
    words.
    """

    guards: ClassVar[Mapping[str, str]] = {"Content-Security-Policy": POLICY, **GUARDS}

    def __init__(self, desk: Desk, token: str, name: str, *args: Any) -> None:
        self.desk, self.token, self.name = desk, token, name
        super().__init__(*args)

    def do_GET(self) -> None:
        self.answer(lambda: self.get(self.inside()))

    def do_HEAD(self) -> None:
        self.answer(lambda: self.get(self.inside()))

    def do_POST(self) -> None:
        self.answer(lambda: self.post(self.inside()))

    def told(self) -> dict[str, str]:
        return {"study": self.desk.key.study}

    def inside(self) -> str:
        """The path below the token, `index.html` for none."""
        path = self.asked()
        if not self.token:
            self.refuse_other_names()
        if self.token:
            given, _, path = path.lstrip("/").partition("/")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refused(
                    403, "the address is not complete: use the whole link that you were given"
                )
        return path.lstrip("/") or "index.html"

    def get(self, path: str) -> None:
        if path == "api/session":
            # it lends a session; a picture's address in a page of another site can ask for it
            if self.headers.get("Sec-Fetch-Site") == "cross-site":
                raise Refused(403, "a page of another site asked for this: use the study's link")
            rater = parse_qs(urlsplit(self.path).query).get("rater", [""])[0]
            session, ticket = self.desk.hand_out(rater, self.client_address[0])
            self.reply(
                200,
                {
                    "status": "ok",
                    "study": self.desk.key.study,
                    "session": session,
                    "ticket": ticket,
                },
            )
        elif path == "index.html":
            self.send(200, "text/html; charset=utf-8", self.file(path), "no-store")
        elif PICTURE.fullmatch(path):
            self.send(200, "image/png", self.file(path), "private, max-age=86400")
        else:
            raise Refused(404, "there is nothing here")

    def file(self, path: str) -> bytes:
        """A file of the page; never what a link in it leads to."""
        try:
            return below(self.desk.key.folder, "page", *path.split("/")).read_bytes()
        except (OSError, UserError):
            raise Refused(404, "there is nothing here") from None

    def post(self, path: str) -> None:
        if path not in ("api/answers", "api/begun"):
            raise Refused(404, "there is nothing here")
        data = self.body()
        if path == "api/begun":
            self.desk.begin(data)
            return self.reply(200, {"status": "ok", "study": self.desk.key.study})
        answers = self.desk.take_in(data)
        said = (
            "did not qualify"
            if answers.tested and not answers.qualified
            else "complete"
            if answers.complete
            else "stopped early"
        )
        print(
            f"session {answers.session}: {rated(answers, self.desk.key)} trials, {said}",
            file=sys.stderr,
            flush=True,
        )
        self.reply(201, {"status": "arrived", "study": self.desk.key.study})

    def body(self) -> bytes:
        """What was posted, of a length that was said and is allowed."""
        # a page of another site cannot send this type unasked
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "answers are sent as application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,15}", length):  # isdigit() takes a superscript, too
            raise Refused(411, "the length of the answers has to be said")
        if int(length) > MAX_BYTES:
            # a browser that is still sending would not see the reply
            self.rfile.read(min(int(length), 4 * MAX_BYTES))
            raise Refused(
                413, f"the answers are {int(length):,} bytes; at most {MAX_BYTES:,} are taken"
            )
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise Refused(400, "the answers broke off")
        return data


def token_of(folder: Path) -> str:
    """The study's token, made once: after a restart the links that were given out still work."""
    path = below(folder, "private", "token")
    if not path.is_file():
        write_secret(path, secrets.token_urlsafe(12))
    return path.read_text().strip()


def reachable(host: str) -> str:
    """The address to tell others: for 0.0.0.0, the one of the network that this machine would
    use.
    """
    if host != "0.0.0.0":
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # a documentation address; choosing a route sends nothing
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def make_server(folder: Path, host: str, port: int, name: str = "") -> tuple[Server, str]:
    """(server, the link for raters); `name`: the one under which a server in front of this one is
    reached.
    """
    if not host:
        raise UserError("--host is empty; write 127.0.0.1, or 0.0.0.0 for the network")
    key = read_key(folder)
    # its start sweeps up what a killed server was writing
    if not Locks(folder / "private").try_lock("serve"):
        raise UserError(f"{folder} is being served already; end that server first")
    refuse_port(port)
    token = "" if is_loopback(host) else token_of(folder)
    server = listening(host, port, partial(Handler, Desk(key), token, name), "--port or --host")
    link = f"http://{reachable(host)}:{server.server_address[1]}/{token + '/' if token else ''}"
    return server, link


def serve(folder: Path, host: str, port: int, name: str = "") -> None:
    """Until Ctrl-C."""
    server, link = make_server(folder, host, port, name)
    print(link, flush=True)
    print(
        f"answers go to {folder / 'answers'}; Ctrl-C ends, the same command goes on",
        file=sys.stderr,
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
