"""What every server of ours answers with: guarded replies, refusals in words, names that are ours.

In: requests of browsers. Out: replies with guard headers; a refusal is JSON, its status in words.
"""

import ipaddress
import json
import re
import socket
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from perfusion_core.errors import UserError

GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Refused(ValueError):
    """What is wrong with a request or an answer, with the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class GuardedHandler(BaseHTTPRequestHandler):
    """Answers one request; `guards` stand in every reply, and `name` is its own beside this
    machine's.
    """

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "perfbench", ""
    timeout = 30  # seconds for a request to arrive: a connection that says nothing does not stay
    guards: ClassVar[Mapping[str, str]] = GUARDS
    name = ""

    def answer(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Refused as refusal:
            self.close_connection = True  # a body may be left unread
            self.reply(refusal.status, {"status": str(refusal), **self.told()})

    def told(self) -> dict[str, str]:
        """What every JSON reply says beside its status."""
        return {}

    def asked(self) -> str:
        """The path of the address, undecoded, without the query."""
        try:
            return urlsplit(self.path).path
        except ValueError:
            raise Refused(400, "this is no address") from None

    def refuse_other_names(self) -> None:
        if not is_ours(self.headers.get("Host", ""), self.name):
            raise Refused(403, "this server is asked for under a name that is not its own")

    def reply(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, "application/json", json.dumps(body).encode(), "no-store")

    def send(self, status: int, kind: str, body: bytes, cache: str) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": cache,
            **self.guards,
        }
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a log would keep the visitors' addresses."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; anything else is shown, without the address."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"perfbench: while answering: {error!r}", file=sys.stderr, flush=True)


def refuse_port(port: int) -> None:
    if not 0 <= port < 65536:
        raise UserError(
            f"--port {port} is no port; write a number from 1 to 65535, or 0 for any that is free"
        )


def listening(host: str, port: int, handler: Callable[..., GuardedHandler], change: str) -> Server:
    """A server that listens; `change` names the flags that may be given another value."""
    try:
        return Server((host, port), handler)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another {change}"
        ) from None


def is_ours(host: str, name: str) -> bool:
    """Whether a Host header names this machine's loopback, or `name`: a page of another site that
    had its own name point here could read what is served, and answer it."""
    said = re.sub(r":\d*$", "", host.strip().lower()).strip("[]")
    if said in ("localhost", name.lower()):
        return bool(said)
    try:
        return ipaddress.ip_address(said).is_loopback
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except OSError as error:
        raise UserError(
            f"--host {host} is not an address of this machine ({error.strerror}); 127.0.0.1 or "
            f"0.0.0.0 always are"
        ) from None
