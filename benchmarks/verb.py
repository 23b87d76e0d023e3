"""The registry of verbs: a decorated function describes its arguments and what to run.

A verb may have subverbs, from its own room and from rooms above it. Everything heavy is imported
inside what runs.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps

Run = Callable[[argparse.Namespace], int | None]
Describe = Callable[[argparse.ArgumentParser], Run]
# what a room above does before and after a verb of a room below
Around = Callable[[argparse.Namespace], AbstractContextManager[None]]
VERBS: dict[str, Describe] = {}
# verb -> (name, summary, what describes it)
SUBVERBS: dict[str, list[tuple[str, str, Describe]]] = {}


def verb(name: str) -> Callable[[Describe], Describe]:
    """Register a verb; the function's docstring is its help, the first line its summary."""

    def register(describe: Describe) -> Describe:
        VERBS[name] = describe
        return describe

    return register


def subverb(of: str, name: str, summary: str, after: str = "") -> Callable[[Describe], Describe]:
    """Register `perfbench OF NAME`; in the help it comes last, or right after another."""

    def register(describe: Describe) -> Describe:
        known = SUBVERBS.setdefault(of, [])
        names = [other for other, _, _ in known]
        known.insert(names.index(after) + 1 if after else len(known), (name, summary, describe))
        return describe

    return register


def around(of: str) -> Callable[[Callable[[argparse.ArgumentParser], Around]], Describe]:
    """Flags that a room above gives to a verb, and what it does before and after it."""

    def register(describe: Callable[[argparse.ArgumentParser], Around]) -> Describe:
        inner = VERBS[of]

        @wraps(inner)
        def both(parser: argparse.ArgumentParser) -> Run:
            act, during = inner(parser), describe(parser)

            def acts(args: argparse.Namespace) -> int | None:
                with during(args):
                    return act(args)

            return acts

        VERBS[of] = both
        return both

    return register


def add_subverbs(parser: argparse.ArgumentParser, of: str) -> Run:
    """A parser for each subverb that was registered; what it returns runs the one that is asked
    for.
    """
    known = SUBVERBS[of]
    metavar = "|".join(name for name, _, _ in known)
    doing = parser.add_subparsers(dest="do", required=True, metavar=metavar)
    for name, summary, describe in known:
        about = f"{summary[:1].upper()}{summary[1:]}."
        sub = doing.add_parser(name, help=summary, description=about)
        sub.set_defaults(act=describe(sub))
    return lambda args: args.act(args)
