"""The one file in which a day on a GPU is sent: tables, rows, run.json, logs, figures, reports.

In: a day's folder. Out: a .tar.gz without weights and without photographs. What may be in it is
listed; everything else stays.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.disk import written_whole
from benchmarks.safe_paths import lies_below
from benchmarks.store.run_json import anonymous

NAME = "gpu-day.tar.gz"
OF_THE_DAY = ("day.json", "facts.json", "speed.md", "logs/*.log")
# the report is made anew without pictures: index.html of the run itself shows some
OF_A_RUN = ("run.json", "*.csv", "table.md", "rows/**/*.csv", "failed/*", "figures/pareto.*")
TEXTS = (".json", ".log", ".md", ".txt")  # of these the home folder is left out


def pack(root: Path, runs: Iterable[str], report: Callable[[Path], None]) -> Path:
    """`report`: writes the page of a run folder, which here has no pictures to show."""
    target = root / NAME
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=root) as aside:
        inside = Path(aside) / "gpu-day"
        _copy(root, OF_THE_DAY, inside)
        for run in runs:
            _copy(root / run, OF_A_RUN, inside / run)
            report(inside / run)
        with written_whole(target) as file, tarfile.open(file, "w:gz") as archive:
            archive.add(inside, "gpu-day", filter=_of_nobody)
    return target


def _copy(source: Path, patterns: Iterable[str], into: Path) -> None:
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            if not path.is_file() or not lies_below(source, path):
                continue
            to = into / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in TEXTS:
                text = path.read_text(encoding="utf-8", errors="replace")
                to.write_text(str(anonymous(text)), encoding="utf-8")
            else:
                shutil.copyfile(path, to)


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of who packed it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
