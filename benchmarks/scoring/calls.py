"""How many calls a command's judges may send, and what became of them.

In: a limit. Out: counts, and why nothing more is asked.
"""

from dataclasses import dataclass


class Stopped(Exception):
    """Nothing more is asked."""


@dataclass
class Calls:
    """What a command's judges asked, all together; lives in one process."""

    limit: int
    sent: int = 0
    graded: int = 0  # pictures, by a call
    known: int = 0  # pictures, by an earlier one
    refused: int = 0  # pictures without a grade
    stopped: str = ""  # why nothing more is asked
    failed: bool = False  # and it is not --limit

    def stop(self, why: str, failed: bool = True) -> Stopped:
        self.stopped, self.failed = self.stopped or why, self.failed or failed
        return Stopped(why)
