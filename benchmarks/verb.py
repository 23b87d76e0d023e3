"""The registry of verbs: a decorated function describes its arguments and what to run.

Everything heavy is imported inside the function that runs.
"""

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], int | None]
Describe = Callable[[argparse.ArgumentParser], Run]
VERBS: dict[str, Describe] = {}


def verb(name: str) -> Callable[[Describe], Describe]:
    """Register a verb; the function's docstring is its help, the first line its summary."""

    def register(describe: Describe) -> Describe:
        VERBS[name] = describe
        return describe

    return register
