"""The desk of a served study: hands out sessions, takes answers in. All that raters rely on is
files: it may die.

In: a study's key. Out: `answers/<session>-<rater>.json`, whole or not there, and `private/loans/`.
"""

import json
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.disk import flush_folder, read_json, write_whole
from benchmarks.safe_paths import below
from benchmarks.study.answers import Answers, Key, Refused, parse_answers

LOAN_SECONDS = 3 * 3600  # a session nobody handed in for so long goes to the next rater
# the same before its first screen is answered: an address costs nothing to make up
WAIT_SECONDS = 15 * 60
# sessions not handed in that one address may hold; with another one it loses its oldest
EACH = 8
NAME = re.compile(r"(\d+)-([0-9a-f]{32})(|-stopped|-failed)\.json")


@dataclass(frozen=True)
class Loan:
    """Who has a session, since when, and whether a screen of it was answered."""

    rater: str
    since: float
    begun: bool


class Desk:
    """One for a study folder. Several threads may use it."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.loans = below(key.folder, "private", "loans")
        self.loans.mkdir(exist_ok=True)
        # address -> (session, rater); never on the disk
        self.waiting: dict[str, list[tuple[int, str]]] = {}
        key.answers.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        for folder in (self.loans, key.answers):
            # what a killed server was writing; nobody was told that it arrived
            for path in folder.glob(".new-*"):
                path.unlink()

    def filed(self) -> list[tuple[int, str, str]]:
        """(session, rater, "" or "-stopped" or "-failed") of all that was handed in."""
        found = (NAME.fullmatch(path.name) for path in self.key.answers.iterdir())
        return [(int(name[1]), name[2], name[3]) for name in found if name]

    def hand_out(self, rater: str, address: str = "") -> tuple[int, str]:
        """(session, ticket): the one that the rater has, or the next that nobody has; none of a
        block he has done.

        Where all are lent, one that lacks its answers: first those of which no screen is answered,
        then the oldest. Whoever holds it may still hand it in, and raters who were made up keep
        nobody out.
        """
        if not re.fullmatch(r"[0-9a-f]{32}", rater):
            raise Refused(422, "rater has to be 32 hexadecimal digits")
        with self._lock:
            filed = self.filed()
            if any(who == rater and how == "-failed" for _, who, how in filed):
                raise Refused(
                    403,
                    "The first screens were not right, so there is no other session. Thank you "
                    "for your time.",
                )
            mine = {session for session, who, _ in filed if who == rater}
            blocks = {self.key.sessions[session - 1]["block"] for session in mine}
            taken = {session for session, _, how in filed if not how}
            lent = self.lent()
            kept = [
                session
                for session, loan in lent.items()
                if loan.rater == rater and session not in mine
            ]
            left = [
                n
                for n, session in enumerate(self.key.sessions, 1)
                if n not in taken and session["block"] not in blocks
            ]
            free = [n for n in left if n not in lent or lent[n].rater == rater]
            idle = sorted(
                (n for n in left if n in lent), key=lambda n: (lent[n].begun, lent[n].since)
            )
            if not (kept or free or idle):
                raise Refused(503, "There is nothing left to do for you at the moment. Thank you!")
            session = (kept or free or idle)[0]
            self.lend(session, rater, begun=session in kept and lent[session].begun)
            self.count(session, rater, address)
            return session, self.key.ticket(session, rater)

    def begin(self, data: bytes) -> None:
        """Keep a session for who has answered a screen of it: it is his for LOAN_SECONDS."""
        answers = parse_answers(data, self.key)
        if not self.key.has_ticket(answers):
            raise Refused(403, "this session was not handed out to this rater")
        if not answers.ranks:
            raise Refused(422, "no screen is answered yet")
        with self._lock:
            loan = self.lent().get(answers.session)
            if loan is None or loan.rater == answers.rater:
                self.lend(answers.session, answers.rater, begun=True)

    def lent(self) -> dict[int, Loan]:
        """session -> loan, of loans that have not run out."""
        out = {}
        for path in self.loans.glob("*.json"):
            loan = read_loan(path)
            if loan and time.time() - loan.since < (
                LOAN_SECONDS if loan.begun else min(WAIT_SECONDS, LOAN_SECONDS)
            ):
                out[int(path.stem)] = loan
        return out

    def lend(self, session: int, rater: str, begun: bool = False) -> None:
        loan = {"rater": rater, "since": time.time(), "begun": begun}
        write_whole(self.loans / f"{session}.json", json.dumps(loan))

    def count(self, session: int, rater: str, address: str) -> None:
        """Take a session from an address that holds too many: the oldest, of those of which no
        screen is answered where there are any.
        """
        lent = self.lent()
        mine = [(n, who) for n, who in self.waiting.get(address, []) if n != session and n in lent
                and lent[n].rater == who]  # fmt: skip
        oldest = sorted(mine, key=lambda one: lent[one[0]].begun)
        lost = oldest[: max(0, len(mine) + 1 - EACH)]
        for n, _ in lost:
            (self.loans / f"{n}.json").unlink(missing_ok=True)
        self.waiting[address] = [*(one for one in mine if one not in lost), (session, rater)]

    def take_in(self, data: bytes) -> Answers:
        """File answers, or say why not. Once this returns they are on the disk."""
        answers = parse_answers(data, self.key)
        if not self.key.has_ticket(answers):
            raise Refused(403, "this session was not handed out to this rater")
        how = (
            "-failed"
            if answers.tested and not answers.qualified
            else ""
            if answers.complete
            else "-stopped"
        )
        stem = f"{answers.session:03d}-{answers.rater}"
        with self._lock:
            if (self.key.answers / f"{stem}.json").exists():
                raise Refused(409, "these answers have arrived before")
            target = self.key.answers / f"{stem}{how}.json"
            aside = written_aside(self.key.answers, data)
            try:
                if how and target.exists() and target.read_bytes() != data:
                    # stopped, went on, stopped again: the later one holds more
                    os.replace(aside, target)
                else:
                    # fails where there is one: of two at once, one is told that it came second
                    os.link(aside, target)
            except FileExistsError:
                raise Refused(409, "these answers have arrived before") from None
            finally:
                aside.unlink(missing_ok=True)
            if not how:
                for older in ("-stopped", "-failed"):
                    (self.key.answers / f"{stem}{older}.json").unlink(missing_ok=True)
            flush_folder(self.key.answers)
            (self.loans / f"{answers.session}.json").unlink(missing_ok=True)
        return answers


def read_loan(path: Path) -> Loan | None:
    """None where the file is damaged: the session is free."""
    about = read_json(path) or {}
    rater, since = about.get("rater"), about.get("since")
    if not (path.stem.isdecimal() and isinstance(rater, str) and isinstance(since, (int, float))):
        return None
    return Loan(rater, float(since), about.get("begun") is True)


def written_aside(folder: Path, data: bytes) -> Path:
    """The bytes on the disk, under a name that nobody reads."""
    path = folder / f".new-{secrets.token_hex(8)}"
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return path
