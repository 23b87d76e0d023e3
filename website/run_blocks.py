"""`python -m website.run_blocks [PAGE ...]`: runs every block of the site, or prints why not.

In: pages (default: all, also those made from the code). Out: a line a block, the counts, exit
status 1 where one failed.

Blocks of a page share a folder, in their order, and its Python blocks share one interpreter. The
folder holds what the page's `given` comment names. `perfbench` is this checkout's. There is no
network for models, and no GPU. Runs are made small by one rule (`micro`).
"""

import argparse
import doctest
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from website.navigation import ROOT, pages
from website.page_blocks import SHELL, Block, given, page_blocks
from website.reference import made_pages

LIMIT = 120.0  # seconds a block
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE  # `...` stands for what differs each time


@dataclass(frozen=True)
class Outcome:
    """One block that was run: its seconds, and what is wrong (nothing: it went through)."""

    block: Block
    seconds: float
    wrong: str = ""


def micro(text: str) -> str:
    """The documented rule: a run of the presets `quick` and `paper` is one of `micro`."""
    return re.sub(r"--preset[ =](?:quick|paper)\b", "--preset micro", text)


def texts(root: Path = ROOT) -> dict[str, str]:
    """Every page of the site, by its place."""
    written = {page: (root / page).read_text(encoding="utf-8") for page in pages(root)}
    return {**written, **made_pages()}


def environment(home: Path) -> dict[str, str]:
    """A newcomer's: nothing of the user, no hub, one thread; `perfbench` is this checkout's."""
    bin_dir = home / "bin"
    bin_dir.mkdir(parents=True, exist_ok=True)
    for name, words in {"perfbench": "-m benchmarks.cli ", "python": ""}.items():
        script = bin_dir / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(home / "data"),
        "PERFBENCH_CACHE": str(home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


class Page:
    """A page's folder, and its interpreter once one is needed."""

    def __init__(self, text: str, folder: Path, home: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.environment = {**environment(home), "PERFBENCH_DATA": str(folder / ".data")}
        self.python: subprocess.Popen[str] | None = None
        for name, place in given(text).items():
            source, target = ROOT / place, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)

    def logs(self, name: str) -> tuple[Path, Path]:
        """What goes to stdout and to stderr, beside the folder."""
        beside = self.folder.parent / f"{self.folder.name}-{name}"
        return Path(f"{beside}.out"), Path(f"{beside}.err")

    def run(self, block: Block) -> Outcome:
        """Into a log of its own, so that a block that hangs can be told with what it said."""
        began = time.monotonic()
        said, told = self.logs(str(block.line))
        with said.open("w") as out, told.open("w") as err:
            if block.kind == SHELL:
                wrong = self.shell(block, out.fileno(), err.fileno())
            else:
                wrong = self.block_of_python(block, out.fileno(), err.fileno())
        printed, errors = (one.read_text("utf-8", errors="replace") for one in (said, told))
        if not wrong and block.prints is not None:
            same = doctest.OutputChecker().check_output(block.prints, printed, SAME)
            wrong = "" if same else "printed something else than the page says"
        seconds = time.monotonic() - began
        all_of_it = f"{wrong}\n{printed.strip()[-3000:]}\n{errors.strip()[-3000:]}"
        return Outcome(block, seconds, all_of_it.strip() if wrong else "")

    def shell(self, block: Block, out: int, err: int) -> str:
        call = ["bash", "-euo", "pipefail", "-c", micro(block.text)]
        running = subprocess.Popen(
            call, cwd=self.folder, env=self.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        )  # fmt: skip
        try:
            status = running.wait(self.limit)
        except subprocess.TimeoutExpired:
            ended(running)
            return f"was ended after {self.limit:.0f} s"
        return f"ended with status {status}" if status else ""

    def block_of_python(self, block: Block, out: int, err: int) -> str:
        """The interpreter's two streams go to files that grow; this block's part is copied."""
        if self.python is None:
            self.open_python()
        assert self.python is not None and self.python.stdin is not None
        before = [file.stat().st_size for file in self.streams]
        sent = {"kind": block.kind, "text": micro(block.text), "place": block.place}
        self.python.stdin.write(json.dumps(sent) + "\n")
        self.python.stdin.flush()
        answer = self.answer()
        for file, at, to in zip(self.streams, before, (out, err), strict=True):
            with file.open("rb") as stream:
                stream.seek(at)
                os.write(to, stream.read())
        if answer is None:
            ended(self.python)
            self.python = None
            return f"was ended after {self.limit:.0f} s, or ended Python"
        return "failed" if answer["failed"] else ""

    def open_python(self) -> None:
        self.streams = self.logs("python")
        self.answers, theirs = os.pipe()
        with self.streams[0].open("w") as out, self.streams[1].open("w") as err:
            self.python = subprocess.Popen(
                [sys.executable, "-m", "website.session", str(theirs)],
                cwd=self.folder, env=self.environment, text=True, pass_fds=[theirs],
                stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        os.close(theirs)

    def answer(self) -> dict[str, bool] | None:
        ready, _, _ = select.select([self.answers], [], [], self.limit)
        line = os.read(self.answers, 4096) if ready else b""
        return json.loads(line) if line else None

    def close(self) -> None:
        if self.python is not None:
            ended(self.python)


def ended(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """With all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_page(page: str, text: str, home: Path, limit: float = LIMIT) -> list[Outcome]:
    """Its blocks in order; after one that failed the others are not tried."""
    wanted = [one for one in page_blocks(page, text) if not one.reason and not one.test]
    if not wanted:
        return []
    folder = home / "pages" / page.replace("/", "-")
    folder.mkdir(parents=True)
    open_page, outcomes = Page(text, folder, home, limit), list[Outcome]()
    try:
        for block in wanted:
            outcomes.append(open_page.run(block))
            if outcomes[-1].wrong:
                break
    finally:
        open_page.close()
    return outcomes


def unrun(blocks: Sequence[Block]) -> list[str]:
    """The counts of what is run elsewhere or not at all, by reason."""
    tests = Counter(block.test for block in blocks if block.test)
    reasons = Counter(block.reason for block in blocks if block.reason)
    return [
        *(f"{count:4} run by {test}" for test, count in sorted(tests.items())),
        *(f"{count:4} not run: {reason}" for reason, count in sorted(reasons.items())),
    ]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m website.run_blocks", description=__doc__)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="docs/tutorial.md; default: all")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    parser.add_argument("--jobs", type=int, default=2, help="pages at the same time (default: 2)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a block")
    args = parser.parse_args(words)
    known = texts()
    if lacking := [page for page in args.pages if page not in known]:
        parser.error(f"{', '.join(lacking)}: no such page; known: {', '.join(known)}")
    wanted = {page: known[page] for page in (args.pages or known)}
    blocks = [block for page, text in wanted.items() for block in page_blocks(page, text)]
    here = [block for block in blocks if not block.reason and not block.test]
    outcomes: list[Outcome] = []
    began = time.monotonic()
    if not args.list:
        with (
            tempfile.TemporaryDirectory(prefix="perfbench-blocks-") as home,
            ThreadPoolExecutor(max(args.jobs, 1)) as pool,
        ):
            made = pool.map(
                lambda page: run_page(page, wanted[page], Path(home), args.limit), wanted
            )
            for each in made:
                outcomes += each
                for one in each:
                    state = "FAILED" if one.wrong else "ran"
                    print(f"{one.block.place:<40}{one.block.kind:<9}{one.seconds:6.1f} s  {state}")
                    print(*one.wrong.splitlines(), sep="\n    ", end="\n" if one.wrong else "")
    for block in here if args.list else ():
        print(f"{block.place:<40}{block.kind:<9} to be run")
    failed = [one for one in outcomes if one.wrong]
    print(f"{len(blocks)} blocks of commands and Python on {len(wanted)} pages:")
    print(f"{len(here):4} run here" + (" (not now)" if args.list else ""))
    print(*unrun(blocks), sep="\n")
    if not args.list:
        stopped = len(here) - len(outcomes)
        print(
            f"{len(failed)} failed" + (f", {stopped} behind them were not tried" * bool(stopped)),
            f"in {time.monotonic() - began:.0f} s",
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
