"""A model behind an address that grades pictures: `judge:URL#MODEL`.

In: a picture, reference pictures, the prompt; how many calls are allowed. Out: two grades, None
where the judge does not give them; `Stopped` once it may not be asked, or will not answer, any
more.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks.scoring.calls import Calls
from benchmarks.scoring.chat_endpoint import Busy, Closed, Unanswered, address_of, ask
from benchmarks.scoring.judge_question import Grades, Shown, grades_of, key_parts, messages
from benchmarks.scoring.lookup import Scorer

TRIES = 3  # calls for one picture, at most
PAUSE = 1.0  # seconds before the second of them; doubled after it
IN_VAIN = 8  # pictures without a grade before the first that has one
IN_A_ROW = 5  # pictures that fail one after the other until it is left alone


class Answers(Protocol):
    """What was answered before."""

    def get(self, of: Mapping[str, Any]) -> Grades | None: ...

    def put(self, of: Mapping[str, Any], grades: Grades) -> None: ...


class Judge:
    """One model, asked picture by picture."""

    def __init__(self, scorer: Scorer, calls: Calls, answers: Answers) -> None:
        self.scorer, self.calls, self.answers = scorer, calls, answers
        self.address = address_of(scorer.source)
        self.temperature = True  # is sent; some models refuse it
        self.answered = False  # a question, in this process
        self.some = False  # picture has a grade
        self.failing = 0  # pictures in a row that were not answered at all

    def grade(self, picture: Shown, references: Sequence[Shown], text: str) -> Grades | None:
        """From the cache, or by at most TRIES calls."""
        of = key_parts(self.address.model, picture, references, text)
        if found := self.answers.get(of):
            self.calls.known, self.some = self.calls.known + 1, True
            return found
        if grades := self._asked(picture, references, text):
            self.calls.graded, self.some = self.calls.graded + 1, True
            self.answers.put(of, grades)
            return grades
        self.calls.refused += 1
        if self.calls.refused >= IN_VAIN and not (self.calls.graded or self.calls.known):
            raise self.calls.stop(
                f"{self.address.shown} gave none of the first {IN_VAIN} pictures a grade: is "
                f"{self.address.model} a model that sees pictures? (--again asks for them again)"
            )
        return None

    def _asked(self, picture: Shown, references: Sequence[Shown], text: str) -> Grades | None:
        question, busy = messages(picture, references, text), None
        for tried in range(TRIES):
            if busy:
                time.sleep(max(busy.wait, PAUSE * 2 ** (tried - 1)))
            try:
                found, busy = grades_of(self._answer(question)), None
            except Busy as error:
                found, busy = None, error
            except Unanswered as error:
                self.failing = 0
                if self.some:
                    return None
                raise self.calls.stop(
                    f"{self.address.shown}: {error} before any picture has a grade: is "
                    f"{self.address.model} a model that sees pictures?"
                ) from None
            except Closed as closed:
                raise self.calls.stop(f"{self.address.shown}: {closed}") from None
            if found:
                self.failing = 0
                return found
        self.failing = self.failing + 1 if busy else 0
        if busy and not self.answered:
            raise self.calls.stop(
                f"{self.address.shown} was asked {TRIES} times for one picture: {busy}; what is "
                f"answered is kept, and the same command goes on from there"
            )
        if self.failing >= IN_A_ROW:
            raise self.calls.stop(
                f"{self.address.shown} failed for {IN_A_ROW} pictures in a row: {busy}; the "
                f"answers so far are kept, so give the same command again (`perfbench score "
                f"--again` asks once more for pictures without a grade)"
            )
        return None

    def _answer(self, question: Sequence[Mapping[str, Any]]) -> str:
        """The first question goes a second time, without a temperature, where it is refused."""
        self._count()
        try:
            text = ask(self.address, question, temperature=self.temperature)
        except Unanswered as error:
            if self.answered or not self.temperature or error.status != 400:
                raise
            self.temperature = False
            self._count()
            text = ask(self.address, question, temperature=False)
        self.answered = True
        return text

    def _count(self) -> None:
        """One call more, if it may be."""
        if self.calls.stopped or self.calls.sent >= self.calls.limit:
            raise self.calls.stop(f"{self.calls.sent} calls are sent, and no more are allowed",
                                  failed=False)  # fmt: skip
        self.calls.sent += 1
