"""One session's answers as a file: is it whole, is it ours, was it there before.

In: the bytes that a browser sent or downloaded, and the study's key. Out: `Answers`, or `Refused`
with a clear status.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.safe_paths import below, is_name, shown
from benchmarks.study.design import QUALIFY, RATE
from benchmarks.study.local_http import Refused
from benchmarks.study.signing import genuine, sign
from perfusion_core.errors import UserError

SCHEMA = "perfbench-study-answers/1"
KEY_SCHEMA = "perfbench-study-key/1"
FIELDS = {"schema", "study", "rater", "session", "ticket", "answers"}
MAX_BYTES = 256 * 1024  # a session of 500 screens takes less


@dataclass(frozen=True)
class Key:
    """key.json, read."""

    folder: Path
    about: dict[str, Any]

    @property
    def study(self) -> str:
        return str(self.about["study"])

    @property
    def secret(self) -> str:
        return str(self.about["secret"])

    @property
    def untuned(self) -> list[str]:
        """Its methods whose rates were a guess."""
        return list(self.about.get("untuned", []))

    @property
    def sessions(self) -> list[dict[str, Any]]:
        return list(self.about["sessions"])

    @property
    def answers(self) -> Path:
        return below(self.folder, "answers")

    @cached_property
    def trials(self) -> dict[str, dict[str, Any]]:
        """Signed id -> trial, with its session."""
        return {
            t["id"]: {**t, "session": n}
            for n, s in enumerate(self.sessions, 1)
            for t in s["trials"]
        }

    def task(self, trial: dict[str, Any]) -> dict[str, Any]:
        return dict(self.about["pool" if trial["role"] == QUALIFY else "tasks"][trial["task"]])

    def ticket(self, session: int, rater: str) -> str:
        """What the server hands out with a session: only this rater can hand this session in."""
        return sign(self.secret, self.study, "ticket", session, rater)

    def has_ticket(self, answers: "Answers") -> bool:
        return genuine(
            self.secret, answers.ticket or "", self.study, "ticket", answers.session, answers.rater
        )


@dataclass(frozen=True)
class Answers:
    """One rater's session. `ranks[trial id][place]` is the number given to the picture shown at
    that place.
    """

    rater: str
    session: int
    ticket: str | None
    ranks: dict[str, tuple[int, ...]]
    complete: bool  # every screen of the session is answered
    tested: bool  # every screen with a known answer is answered
    qualified: bool  # and enough of them are right


def read_key(folder: Path) -> Key:
    """The key of a study folder; one sentence where there is none."""
    path = below(folder, "private", "key.json")
    try:
        about = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is not a study: there is no {path}; `perfbench study export` makes a study "
            f"folder"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({error}); take it from a backup, without it answers mean nothing"
        ) from None
    if why := wrong_key(about):
        raise UserError(
            f"{path} is damaged ({why}); take it from a backup, without it answers mean nothing"
        )
    return Key(folder, about)


PARTS = {
    "study": str,
    "kind": str,
    "methods": list,
    "design": dict,
    "secret": str,
    "tasks": list,
    "pool": list,
    "sessions": list,
}


def wrong_key(about: Any) -> str:
    """What keeps a file from being a study's key; empty where nothing does. Its names become rows
    and files.
    """
    if not isinstance(about, dict) or about.get("schema") != KEY_SCHEMA:
        return f"its schema is not {KEY_SCHEMA}"
    for name, kind in PARTS.items():
        if not isinstance(about.get(name), kind):
            return f"it has no {name}"
    if not re.fullmatch(r"([0-9a-f]{2})+", about["secret"]) or not re.fullmatch(
        r"[0-9a-f]+", about["study"]
    ):
        return "its secret or its study is not hexadecimal"
    if bad := next((name for name in about["methods"] if not is_name(name)), None):
        return f"its method {shown(bad)} is no name"
    guessed = about.get("untuned", [])
    if not isinstance(guessed, list) or not all(isinstance(name, str) for name in guessed):
        return "its untuned is no list of methods"
    for session in about["sessions"]:
        trials = session.get("trials") if isinstance(session, dict) else None
        if not isinstance(trials, list) or type(session.get("block")) is not int:
            return "a session has no block or no trials"
        if not all(
            isinstance(trial, dict) and {"id", "role", "task", "order"} <= set(trial)
            for trial in trials
        ):
            return "a trial has no id, role, task or order"
    return ""


def parse_answers(data: bytes, key: Key) -> Answers:
    """Answers that belong to this study, or Refused."""
    if len(data) > MAX_BYTES:
        raise Refused(413, f"the answers are {len(data):,} bytes; at most {MAX_BYTES:,} are taken")
    document = read_json(data)
    if set(document) != FIELDS or document["schema"] != SCHEMA:
        raise Refused(
            422,
            f"this is not a file of answers: the fields {', '.join(sorted(FIELDS))} are needed, "
            f"schema {SCHEMA}",
        )
    if document["study"] != key.study:
        raise Refused(403, "these answers belong to another study")
    rater, session, ticket = document["rater"], document["session"], document["ticket"]
    if not (isinstance(rater, str) and re.fullmatch(r"[0-9a-f]{32}", rater)):
        raise Refused(422, "rater has to be 32 hexadecimal digits")
    if type(session) is not int or not 1 <= session <= len(key.sessions):
        raise Refused(422, f"session has to be a number from 1 to {len(key.sessions)}")
    if not (ticket is None or isinstance(ticket, str)):
        raise Refused(422, "ticket has to be a text or null")
    if not isinstance(document["answers"], list):
        raise Refused(422, "answers has to be a list")
    ranks: dict[str, tuple[int, ...]] = {}
    for answer in document["answers"]:
        name, given = check_answer(answer, session, key)
        if name in ranks:
            raise Refused(422, f"screen {name.rsplit('-', 1)[0]} is answered twice")
        ranks[name] = given
    trials = key.sessions[session - 1]["trials"]
    complete = all(trial["id"] in ranks for trial in trials)
    tested = all(trial["id"] in ranks for trial in trials if trial["role"] == QUALIFY)
    passed = tested and right_answers(ranks, trials, key) >= key.about["design"]["pass_mark"]
    return Answers(rater, session, ticket, ranks, complete, tested, passed)


def read_json(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"this is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, "this is not a JSON object")
    return document


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def check_answer(answer: Any, session: int, key: Key) -> tuple[str, tuple[int, ...]]:
    """The signed id and the numbers of one screen."""
    if (
        not isinstance(answer, dict)
        or set(answer) != {"trial", "ranks"}
        or not isinstance(answer["trial"], str)
    ):
        raise Refused(422, "each answer needs trial and ranks, and nothing else")
    name, ranks = answer["trial"], answer["ranks"]
    # ids hold 128 bits of signature: one that is not ours is not in the key
    trial = key.trials.get(name)
    if trial is None:
        raise Refused(403, f"screen {name[:60]!r} is not signed by this study")
    if trial["session"] != session:
        raise Refused(403, f"screen {name.rsplit('-', 1)[0]} does not belong to session {session}")
    n = len(trial["order"])
    if (
        not isinstance(ranks, list)
        or len(ranks) != n
        or any(type(rank) is not int or not 1 <= rank <= 3 for rank in ranks)
    ):
        raise Refused(
            422, f"ranks of screen {name.rsplit('-', 1)[0]} have to be {n} numbers from 1 to 3"
        )
    if key.about["kind"] == "ranking" and len(set(ranks)) != n:
        raise Refused(
            422, f"ranks of screen {name.rsplit('-', 1)[0]} have to differ from each other"
        )
    return name, tuple(ranks)


def by_choice(trial: dict[str, Any], ranks: tuple[int, ...]) -> list[int]:
    """Numbers in the order of the task's choices: the order of display undone."""
    out = [0] * len(ranks)
    for place, choice in enumerate(trial["order"]):
        out[choice] = ranks[place]
    return out


def right_answers(ranks: dict[str, tuple[int, ...]], trials: list[dict[str, Any]], key: Key) -> int:
    """How many known answers are right: the task's first choice, alone at the top."""
    right = 0
    for trial in trials:
        if trial["role"] == QUALIFY and trial["id"] in ranks:
            first, *others = by_choice(trial, ranks[trial["id"]])
            right += all(first > other for other in others)
    return right


def rated(answers: Answers, key: Key) -> int:
    """How many of the study's own trials these answers hold."""
    return sum(key.trials[name]["role"] == RATE for name in answers.ranks)
