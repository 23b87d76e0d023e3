"""The explorer on this machine alone: one page, its thumbnails, and single pictures.

In: runs and a port. Out: replies to GET and HEAD. Nothing is written, and an address holds numbers
alone: which file they mean, the run's own plan says.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock, Semaphore
from typing import Any, ClassVar

from benchmarks.site.explored import Explored, open_runs
from benchmarks.site.explorer_data import explorer_data
from benchmarks.site.explorer_page import page_text
from benchmarks.site.picture_strips import Missing, own_strip, strip
from benchmarks.study.local_http import (
    GUARDS,
    GuardedHandler,
    Refused,
    Server,
    listening,
    refuse_port,
)
from perfusion_core.errors import UserError

HOST, PORT = "127.0.0.1", 8017
KEPT = 64 * 2**20  # bytes of thumbnails that are kept in memory
AT_ONCE = 2  # sheets that are made at the same time
PLACE = re.compile(
    r"/(?:(?P<page>(?:index\.html)?)"
    r"|strips/(?P<run>\d{1,3})/(?P<question>\d{1,7})-(?P<number>\d{1,6})\.webp"
    r"|own/(?P<of>\d{1,3})/(?P<concept>\d{1,6})\.webp"
    r"|pictures/(?P<in>\d{1,3})/(?P<point>\d{1,5})/(?P<place>\d{1,7})-(?P<index>\d{1,6})\.png)",
    re.ASCII,
)


class Desk:
    """What is served: the page, made once, and sheets, made when they are first asked for."""

    def __init__(self, runs: Sequence[Explored], tile: int) -> None:
        self.runs, self.tile = runs, tile
        self.page = page_text({**explorer_data(runs, tile), "full": True}).encode()
        self._sheets: OrderedDict[str, bytes] = OrderedDict()
        self._size, self._lock, self._making = 0, Lock(), Semaphore(AT_ONCE)

    def run(self, number: str) -> Explored:
        if int(number) >= len(self.runs):
            raise Missing
        return self.runs[int(number)]

    def sheet(self, address: str, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if address in self._sheets:
                self._sheets.move_to_end(address)
                return self._sheets[address]
        with self._making:
            made = make()
        with self._lock:
            if address not in self._sheets:
                self._sheets[address] = made
                self._size += len(made)
            while self._size > KEPT and len(self._sheets) > 1:
                _, old = self._sheets.popitem(last=False)
                self._size -= len(old)
        return made

    def picture(self, one: Explored, point: int, question: int, number: int) -> bytes:
        """A picture's own file, if the run has it."""
        if point >= len(one.points) or question >= len(one.questions):
            raise Missing
        if number not in one.images[point][question]:
            raise Missing
        return one.picture_file(point, question, number).read_bytes()


class ViewHandler(GuardedHandler):
    """GET and HEAD of the page, sheets and pictures; everything else is refused."""

    guards: ClassVar[Mapping[str, str]] = {
        **GUARDS,
        "Content-Security-Policy": "frame-ancestors 'none'",  # the page's own is in its head
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def __init__(self, desk: Desk, *args: Any) -> None:
        self.desk = desk
        super().__init__(*args)

    def do_GET(self) -> None:
        self.answer(self.get)

    def do_HEAD(self) -> None:
        self.answer(self.get)

    def refuse(self) -> None:
        self.answer(self.only_read)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse

    def only_read(self) -> None:
        self.refuse_other_names()
        raise Refused(405, "this server is for looking: it takes GET and HEAD")

    def get(self) -> None:
        self.refuse_other_names()
        if self.headers.get("Sec-Fetch-Site") == "cross-site" and self.asked() != "/":
            raise Refused(403, "a page of another site asked for this")
        found = PLACE.fullmatch(self.asked())
        if not found:
            raise Refused(404, "there is nothing here")
        try:
            kind, content = self.found(found)
        except (Missing, OSError, UserError):
            raise Refused(404, "there is nothing here") from None
        self.send(
            200, kind, content, "no-store" if kind.startswith("text") else "private, no-cache"
        )

    def found(self, place: re.Match[str]) -> tuple[str, bytes]:
        desk = self.desk
        if place["run"]:
            one = desk.run(place["run"])
            make = partial(strip, one, int(place["question"]), int(place["number"]), desk.tile)
            return "image/webp", desk.sheet(place[0], make)
        if place["of"]:
            one = desk.run(place["of"])
            make = partial(own_strip, one, int(place["concept"]), desk.tile)
            return "image/webp", desk.sheet(place[0], make)
        if place["in"]:
            numbers = (int(place[name]) for name in ("point", "place", "index"))
            return "image/png", desk.picture(desk.run(place["in"]), *numbers)
        return "text/html; charset=utf-8", desk.page


def make_view_server(given: Sequence[str], port: int, tile: int) -> tuple[Server, str]:
    """(server, its address)."""
    refuse_port(port)
    handler = partial(ViewHandler, Desk(open_runs(given), tile))
    server = listening(HOST, port, handler, "--port, such as 0 for any that is free")
    return server, f"http://{HOST}:{server.server_address[1]}/"


def serve_view(given: Sequence[str], port: int, tile: int) -> None:
    """Until Ctrl-C."""
    server, address = make_view_server(given, port, tile)
    print(address, flush=True)
    print("for this machine alone; Ctrl-C ends it", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
