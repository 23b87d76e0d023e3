"""The desk of a served study: hands out sessions, takes answers in. All of its memory is files, so that it may die.

In: a study's key. Out: `answers/<session>-<rater>.json`, whole or not there, and `private/loans/`.
"""

import json
import os
import re
import secrets
import threading
import time
from pathlib import Path

from benchmarks.disk import flush_folder
from benchmarks.study.answers import Answers, Key, Refused, parse

LOAN_SECONDS = 3 * 3600  # a session nobody handed in for so long goes to the next rater
NAME = re.compile(r"(\d+)-([0-9a-f]{32})(|-stopped|-failed)\.json")


class Desk:
    """One for a study folder. Several threads may use it."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.loans = key.folder / "private" / "loans"
        self.loans.mkdir(exist_ok=True)
        key.answers.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        for folder in (self.loans, key.answers):
            for path in folder.glob(".new-*"):  # what a killed server was writing; nobody was told that it arrived
                path.unlink()

    def filed(self) -> list[tuple[int, str, str]]:
        """(session, rater, "" or "-stopped" or "-failed") of all that was handed in."""
        found = (NAME.fullmatch(path.name) for path in self.key.answers.iterdir())
        return [(int(name[1]), name[2], name[3]) for name in found if name]

    def hand_out(self, rater: str) -> tuple[int, str]:
        """(session, ticket): the one that the rater has, or the next that nobody has; none of a block he has done."""
        if not re.fullmatch(r"[0-9a-f]{32}", rater):
            raise Refused(422, "rater has to be 32 hexadecimal digits")
        with self._lock:
            filed = self.filed()
            if any(who == rater and how == "-failed" for _, who, how in filed):
                raise Refused(
                    403, "The first screens were not right, so there is no other session. Thank you for your time."
                )
            mine = {session for session, who, _ in filed if who == rater}
            blocks = {self.key.sessions[session - 1]["block"] for session in mine}
            taken = {session for session, _, how in filed if not how}
            lent = self.lent()
            kept = [session for session, who in lent.items() if who == rater and session not in mine]
            free = [
                n
                for n, session in enumerate(self.key.sessions, 1)
                if n not in taken and session["block"] not in blocks and lent.get(n, rater) == rater
            ]
            if not (kept or free):
                raise Refused(503, "There is nothing left to do for you at the moment. Thank you!")
            session = (kept or free)[0]
            self.lend(session, rater)
            return session, self.key.ticket(session, rater)

    def lent(self) -> dict[int, str]:
        """session -> rater, of loans that have not run out."""
        out = {}
        for path in self.loans.glob("*.json"):
            loan = json.loads(path.read_text())
            if time.time() - loan["since"] < LOAN_SECONDS:
                out[int(path.stem)] = loan["rater"]
        return out

    def lend(self, session: int, rater: str) -> None:
        aside = written_aside(self.loans, json.dumps({"rater": rater, "since": time.time()}).encode())
        os.replace(aside, self.loans / f"{session}.json")

    def take_in(self, data: bytes) -> Answers:
        """File answers, or say why not. Once this returns they are on the disk."""
        answers = parse(data, self.key)
        if not self.key.has_ticket(answers):
            raise Refused(403, "this session was not handed out to this rater")
        how = "-failed" if answers.tested and not answers.qualified else "" if answers.complete else "-stopped"
        stem = f"{answers.session:03d}-{answers.rater}"
        with self._lock:
            if (self.key.answers / f"{stem}.json").exists():
                raise Refused(409, "these answers have arrived before")
            target = self.key.answers / f"{stem}{how}.json"
            aside = written_aside(self.key.answers, data)
            try:
                if how and target.exists() and target.read_bytes() != data:
                    os.replace(aside, target)  # stopped, went on, stopped again: the later one holds more
                else:
                    os.link(aside, target)  # fails where there is one: of two at once, one is told that it came second
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


def written_aside(folder: Path, data: bytes) -> Path:
    """The bytes on the disk, under a name that nobody reads."""
    path = folder / f".new-{secrets.token_hex(8)}"
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return path
