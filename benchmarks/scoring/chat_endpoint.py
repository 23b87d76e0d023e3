"""One question to a chat endpoint as OpenAI's: what is sent where, and what is believed of the
answer.

In: `https://HOST/v1#MODEL`, messages. Out: the text of the answer; `Busy` where asking again may
help, `Unanswered` where it does not, `Closed` where no question will be answered.

The key is read from the environment for each question and goes into one header. Nothing that the
other side says comes into a message or a file: it may repeat the key. Redirects and proxies are not
followed.
"""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, responses
from typing import Any
from urllib.parse import SplitResult, urlsplit

from benchmarks.suite.download import is_safe_address
from perfusion_core.errors import UserError

KEY = "PERFBENCH_JUDGE_KEY"
SECONDS = 120.0  # for one answer, from the connection to its last byte
MOST = 1 << 18  # bytes of an answer
LONGEST_WAIT = 60.0  # seconds that a server may ask for
EXAMPLE = "judge:https://api.example.org/v1#MODEL"
AGAIN = (408, 409, 425, 429)  # and 5xx: later it may answer
PLACE = "/chat/completions"


class Busy(Exception):
    """It may answer later; `wait`: after so many seconds, where it says so."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Unanswered(Exception):
    """It does not answer this question; `status`: by which number it says so."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class Closed(Exception):
    """It will answer none."""


@dataclass(frozen=True)
class Address:
    """Where a model is asked."""

    host: str
    port: int | None
    path: str
    model: str
    secure: bool

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"


def address_of(given: str) -> Address:
    """`https://HOST/v1#MODEL`; http on this machine alone. What may be a secret is not repeated."""
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise UserError(f"judge: the address cannot be read; write {EXAMPLE}") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise UserError(
            f"judge: the address has a name, a password or a query in it, which would be written "
            f"into run.json; write {EXAMPLE}, and put the key into the variable {KEY}"
        )
    _refuse_odd(given, parts)
    path = parts.path.rstrip("/")
    path = path if path.endswith(PLACE) else path + PLACE
    return Address(str(parts.hostname), port, path, parts.fragment, parts.scheme == "https")


def _refuse_odd(given: str, parts: SplitResult) -> None:
    address = given.partition("#")[0]
    if not parts.hostname or not re.fullmatch(r"[!-~]+", address) or "\\" in address:
        raise UserError(f"judge: {address!r:.80} is no address; write {EXAMPLE}")
    if not is_safe_address(given):
        raise UserError(
            f"judge: {address} is not an https address; pictures and the key are sent by https "
            f"only, or by http to this machine (http://localhost:PORT/v1#MODEL)"
        )
    if not re.fullmatch(r"[!-~]{1,100}", parts.fragment):
        raise UserError(
            f"judge: {address} needs the model's name behind a #, of at most 100 plain characters: "
            f"judge:{address}#MODEL"
        )


def key() -> str:
    """What the environment says; empty for an endpoint that wants none."""
    found = os.environ.get(KEY, "")
    if not re.fullmatch(r"[!-~]*", found):
        raise UserError(
            f"the variable {KEY} has a character that no key has, such as a space or a line end; "
            f"set it again"
        )
    return found


def ask(
    address: Address,
    messages: Sequence[Mapping[str, Any]],
    seconds: float = 0.0,
    temperature: bool = True,
) -> str:
    """The text of the first choice. `temperature`: whether one is sent, 0."""
    cold = {"temperature": 0} if temperature else {}
    asked = {"model": address.model, **cold, "messages": list(messages)}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers["User-Agent"] = "perfbench"
    if secret := key():
        headers["Authorization"] = f"Bearer {secret}"
    body = json.dumps(asked).encode()
    try:
        with _connected(address, seconds or SECONDS) as connection:
            connection.request("POST", address.path, body, headers)
            answer = connection.getresponse()
            _refuse(answer.status, answer.headers.get("Retry-After", ""))
            content = _whole(answer)
    except TimeoutError:
        raise Busy("it took too long") from None
    except (OSError, HTTPException, ValueError) as error:  # of which only the kind is told
        raise Busy(f"the connection failed ({type(error).__name__})") from None
    return _text(content)


@contextmanager
def _connected(address: Address, seconds: float) -> Iterator[HTTPConnection]:
    """A connection that is cut after so many seconds, however slowly bytes drip in."""
    make = HTTPSConnection if address.secure else HTTPConnection
    connection, late = make(address.host, address.port, timeout=seconds), threading.Event()
    held: list[socket.socket] = []

    def cut() -> None:
        late.set()
        for one in [*held, connection.sock]:
            with suppress(OSError, ValueError, AttributeError):
                one.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(seconds, cut)
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        held.append(connection.sock)  # an answer that ends the connection takes it from there
        yield connection
        if late.is_set():  # what was cut may look as if it had ended there
            raise TimeoutError
    except (OSError, HTTPException, ValueError, Busy):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        watch.cancel()
        connection.close()


def _refuse(status: int, after: str) -> None:
    said = f"{status} {responses.get(status, '')}".strip()
    if status == 200:
        return
    if status in AGAIN or status >= 500:
        wait = float(after) if re.fullmatch(r"\d{1,4}", after.strip()) else 0.0
        raise Busy(f"it answers {said}", min(wait, LONGEST_WAIT))
    if 300 <= status < 400:
        raise Closed(f"it answers {said}, and a redirect is never followed: give the new address")
    if status in (401, 403):
        raise Closed(f"it answers {said}: is the key in {KEY} right?")
    if status in (404, 405):
        raise Closed(f"it answers {said}: are the address and the model's name right?")
    if 400 <= status < 500:
        raise Unanswered(f"it answers {said}", status)
    raise Busy(f"it answers {status}")


def _whole(answer: HTTPResponse) -> bytes:
    content = answer.read(MOST + 1)
    if len(content) > MOST:
        raise Busy(f"its answer has more than {MOST // 1024} KB")
    if answer.length:  # what it said that there would be, and is not
        raise Busy("its answer is cut off")
    return content


def _text(content: bytes) -> str:
    """Of a chat completion, the first choice; anything else is no such answer."""
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise Busy("its answer is no chat completion") from None
    return text if isinstance(text, str) else ""  # refused, or spoken
