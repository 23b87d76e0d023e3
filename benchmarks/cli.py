"""The `perfbench` command: words in, an exit status out; each room brings its verbs.

Nothing heavy is imported before a verb runs.
"""

import argparse
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from inspect import cleandoc
from itertools import groupby
from textwrap import fill

from benchmarks.advice import advised
from benchmarks.disk import places_of_the_user
from benchmarks.verb import VERBS
from perfusion_core.errors import UserError, unknown

ROOMS = (
    "running",
    "store",
    "tables",
    "figures",
    "exchange",
    "study",
    "site",
    "suite",
    "miniature",
    "evidence",
)
# what each is for -> its verbs, as `perfbench --help` shows them
GROUPS = {
    "make a run": ("run", "plan", "design", "tune", "gpu-day"),
    "score and decide": ("score", "table", "check", "compare"),
    "pictures and methods from elsewhere": ("measure", "import", "evaluate"),
    "look": ("plot", "report", "view", "attention", "study"),
    "one concept": ("fit", "generate"),
    "for other programs": ("export", "push", "publish"),
    "send a result, compare results": ("submission", "board"),
    "concepts, prompts, methods": ("ls", "concepts", "catalog", "masks"),
    "models and this machine": ("miniature", "covariance", "doctor", "cache", "clean"),
}
# where threads work together for long
DRAWING = ("run", "fit", "tune", "generate", "attention", "export", "push")
READING = ("ls", "plan", "design", "check", "catalog")  # write nothing
import_module("benchmarks.running.fit_command")
import_module("benchmarks.exchange.submissions.submission_command")
import_module("benchmarks.exchange.board.board_command")
for room in ROOMS:  # each owns its verbs
    import_module(f"benchmarks.{room}.command")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks and examples; only a paragraph that is wider than the terminal is filled
    anew."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = []
        for prose, lines in groupby(text.splitlines(), lambda line: bool(line[:1].strip())):
            kept = [indent + line for line in lines]
            wide = prose and max(map(len, kept)) > width
            parts.append(fill(" ".join(kept), width) if wide else "\n".join(kept))
        return "\n".join(parts)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UserErrors, and whose help keeps the examples' line breaks."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", Formatter)
        super().__init__(allow_abbrev=False, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message}; `{self.prog} --help` shows what is allowed")


def versions() -> str:
    """Our version and commit, and those of the libraries that decide the numbers; read without
    importing them.
    """
    from importlib.metadata import PackageNotFoundError, version

    from benchmarks.paths import git_commit
    from perfusion_core import __version__

    lines = [f"perfbench {__version__}" + (f" ({commit})" if (commit := git_commit()) else "")]
    for name in ("torch", "diffusers", "transformers", "open_clip_torch"):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} missing: pip install {name}")
    return "\n".join(lines)


def listed(name: str) -> str:
    """A verb and the first line of its help."""
    return f"  {name:<12}{(VERBS[name].__doc__ or '').strip().splitlines()[0]}"


def described(docstring: str) -> str:
    """A verb's help: paragraphs at the margin, examples two columns to the right."""
    return re.sub(r"^perfbench ", "  perfbench ", cleandoc(docstring), flags=re.MULTILINE)


def usage() -> str:
    """The page of `perfbench --help`."""
    rows = "\n".join(
        line for purpose, verbs in GROUPS.items() for line in (f"{purpose}:", *map(listed, verbs))
    )
    return f"""usage: perfbench VERB [options]

Perfbench compares methods of text-to-image personalization: it trains, generates, scores and
plots them side by side. Its default backbone, the miniature, is in the package and needs no GPU.

{rows}

a first run, then its figure and its report:
  perfbench run --methods perfusion,super --concepts cat,teapot --preset quick
  perfbench plot pareto
  perfbench report

  VERB --help  all options of a verb, with examples
  --version    this program's version and those of torch, diffusers, transformers, open_clip"""


def run(argv: Sequence[str]) -> int:
    """One verb, from its words to its exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(versions())
        return 0
    if argv[0] not in VERBS:
        raise unknown("verb", argv[0], VERBS)
    if sys.platform == "win32" and argv[0] not in READING and "--help" not in argv:
        raise UserError(
            f"perfbench {argv[0]} writes and locks files as Linux and macOS do: on Windows, use "
            f"WSL; what only reads is tried: {', '.join(READING)}"
        )
    if argv[0] in DRAWING and "--help" not in argv:
        give_way()
    describe = VERBS[argv[0]]
    parser = Parser(prog=f"perfbench {argv[0]}", description=described(describe.__doc__ or ""))
    act = describe(parser)
    args = parser.parse_args(argv[1:])
    with places_of_the_user(argv[1:]):
        return act(args) or 0


def give_way() -> None:
    """Beside other work, threads that wait for each other sleep. Spinning beside a busy core made a
    micro run ten times as long; on a quiet machine it saves a quarter. No byte depends on it.
    """
    from perfusion_core.hardware import BUSY, busy_cores

    if "OMP_WAIT_POLICY" not in os.environ and busy_cores() >= BUSY:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded


def mismatched(error: BaseException | None) -> UserError | None:
    """torch and torchvision from different builds fail deep inside other imports; say what it is
    and what to type.
    """
    while error is not None:
        if "torchvision::nms does not exist" in str(error):
            return UserError(
                "torch and torchvision do not belong together (operator torchvision::nms does not "
                "exist); install both "
                "from one place: pip install --force-reinstall torch torchvision, with the same "
                "--index-url for both"
            )
        error = error.__cause__ or error.__context__
    return None


# a light install has none of them; package -> what pip calls it
HEAVY = {
    "torch": "torch",
    "torchvision": "torchvision",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "open_clip": "open_clip_torch",
    "peft": "peft",
    "accelerate": "accelerate",
    "datasets": "datasets",
}


def missing(error: BaseException | None) -> UserError | None:
    """A library for models that is not installed, in whatever it was imported for."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in HEAVY:
            return UserError(
                f"this needs {package}, which is not installed: pip install {HEAVY[package]}; "
                f"README.md says how without the CUDA libraries"
            )
        error = error.__cause__ or error.__context__
    return None


def main() -> None:
    """The console script: 0 done, 1 something failed, 2 a mistake in what was asked, 130
    interrupted, 143 and 129 ended by SIGTERM and SIGHUP.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  closed by `>&-`
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a terminal of ASCII shows \u2265 as it is spelled
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ended_by_signals():
            status = run(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"perfbench: {advised(error)}", file=sys.stderr)
        status = 2
    except (ImportError, RuntimeError) as error:
        if not (mistake := mismatched(error) or missing(error)):
            raise
        print(f"perfbench: {mistake}", file=sys.stderr)
        status = 2
    except Ended as end:
        print(f"perfbench: ended by {end}; the same command goes on from here", file=sys.stderr)
        status = end.status
    except KeyboardInterrupt:
        print("perfbench: interrupted; the same command goes on from here", file=sys.stderr)
        status = 130
    # `perfbench ls prompts | head`: what is left goes nowhere, also at the interpreter's end
    except BrokenPipeError:
        to_nowhere()
        status = 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        to_nowhere()
        print("perfbench: what it prints is on a full disk; free some space", file=sys.stderr)
        status = 2
    try:
        sys.stdout.flush()
    except OSError:  # of the sentence before it, the disk that is full
        to_nowhere()
    sys.exit(status)


class Ended(KeyboardInterrupt):
    """A signal that asks a program to end: everything is left as by Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside the block SIGTERM (Slurm, `timeout`) and SIGHUP (a closed terminal) end the command as
    Ctrl-C does; under `nohup` SIGHUP stays ignored."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # one is enough: what is open is being closed
        raise Ended(number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in wanted}
    mine = [number for number in wanted if before[number] == signal.SIG_DFL]
    try:
        for number in mine:
            signal.signal(number, end)
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


def to_nowhere() -> None:
    """What is left to print is dropped, also at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
