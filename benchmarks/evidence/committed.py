"""How much of results/ git keeps: at most 15 files a folder, and 18 MB in all. In: a folder. Out:
its files.
"""

import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paths import FIRST_WORLD
from perfusion_core.errors import UserError

FILES, BYTES = 15, 18_000_000


def committed(folder: Path, new: bool = False) -> list[Path]:
    """The files that git keeps under a folder; with `new` also those that `git add` would bring."""
    others = ("--others", "--exclude-standard") if new else ()
    call = ["git", "-C", str(folder), "ls-files", "-z", "--cached", *others]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    found = {folder / name for name in said.split("\0") if name}
    # not those that packing has just removed
    return sorted(path for path in found if path.is_file())


def folder_of(path: Path, results: Path) -> str:
    """The folder of results that a file lies in, also where that was moved aside; empty for what
    lies beside the folders.
    """
    *above, _ = path.relative_to(results).parts
    aside = 1 if above[:1] == [FIRST_WORLD.name] else 0
    return "/".join(above[: 1 + aside]) if len(above) > aside else ""


def too_much(results: Path, files: Sequence[Path]) -> list[str]:
    """What is over the limits, in words."""
    counted = Counter(name for path in files if (name := folder_of(path, results)))
    size = sum(path.stat().st_size for path in files)
    over = [
        f"{name} has {n} files, at most {FILES}" for name, n in sorted(counted.items()) if n > FILES
    ]
    return [*over, *([f"all have {size:,} bytes, at most {BYTES:,}"] if size > BYTES else [])]


def to_commit(run: Path) -> str:
    """How much of a packed run there is to commit; too much of it is a mistake."""
    try:
        files = committed(run, new=True)
    except (OSError, subprocess.CalledProcessError):
        return ""  # no checkout: nothing is committed
    if over := too_much(run.parent, files):
        raise UserError(
            f"{'; '.join(over)}: {', '.join(path.name for path in files)}; leave some out"
        )
    return f"; {len(files)} files, {sum(path.stat().st_size for path in files):,} bytes to commit"
