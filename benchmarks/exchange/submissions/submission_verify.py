"""`perfbench submission verify`: what of an archive can be believed, and why.

In: an archive of anybody; trained files and places that whoever checks it has. Out: a `Verdict`:
`recomputed` where every table follows from its rows, `verified` where a random sample of every
method was drawn again as well, `refused` with one sentence. Nothing of an archive is executed.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.exchange.submissions.checked_submission import Asked, Checked, checked
from benchmarks.exchange.submissions.known_here import Places
from benchmarks.exchange.submissions.submission_archive import Refused
from benchmarks.exchange.submissions.submitted_vae import vae_as_told
from benchmarks.safe_paths import one_line
from perfusion_core.errors import UserError

RECOMPUTED, VERIFIED, REFUSED = "recomputed", "verified", "refused"


@dataclass(frozen=True)
class Verdict:
    """What a check found; `redrawn` has an entry a method that was drawn again."""

    archive: str
    sha256: str
    verdict: str
    why: str = ""  # of a refusal, or of what keeps it from being verified
    name: str = ""
    by: str = ""
    protocol: str = ""
    images: int = 0
    cells: int = 0
    thumbnails: int = 0
    told: list[str] = field(default_factory=list)  # taken as it is told
    redrawn: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def verify(archive: Path, places: Places, asked: Asked | None = None) -> Verdict:
    """The whole of a check."""
    asked = asked or Asked()
    plain = Verdict(archive.name, "", REFUSED)
    try:
        with checked(archive, places) as found:
            told = replace(
                plain,
                sha256=found.submission.sha256,
                verdict=RECOMPUTED,
                name=found.submission.name,
                by=str(found.submission.manifest["by"]),
                protocol=str(found.about["protocol"]["preset"]),
                images=found.images,
                cells=len(found.rows),
                thumbnails=found.thumbnails,
                told=found.known.told,
            )
            return with_redraw(told, found, places, asked)
    except Refused as error:
        return replace(plain, why=str(error))


def with_redraw(told: Verdict, found: Checked, places: Places, asked: Asked) -> Verdict:
    if not asked.cells:
        return replace(told, why="no cell was drawn again: --trained DIR --redraw N does it")
    from benchmarks.exchange.submissions.redraw import redraw

    sample = redraw(found, places, asked)
    methods = {row.method for row in found.rows}
    left = sorted(methods - sample.keys())
    believed = [one for one in told.told if one != vae_as_told(found.about)]
    told = replace(told, redrawn=sample, told=believed)
    if left:
        return replace(told, why=f"not drawn again: {', '.join(left)}")
    return replace(told, verdict=VERIFIED)


# ---- telling ----


def refuse_idle_flags(asked: Asked) -> None:
    """A flag that changes nothing would be a check that nobody made."""
    if not asked.cells and (asked.trained or asked.method_files or asked.seed is not None):
        raise UserError("--trained, --sample and --method-file are of --redraw N; give it as well")


def told_text(found: Verdict) -> str:
    """Lines for people, the verdict last."""
    if found.verdict == REFUSED:
        return f"{one_line(f'{found.archive}: refused: {found.why}')}\n"
    lines = [
        f"{found.name}{f' by {found.by}' if found.by else ''}: protocol {found.protocol}, "
        f"{found.cells:,} cells, {found.images:,} images; tables made again from rows, and equal"
    ]
    lines += [f"taken as it is told: {one}" for one in found.told]
    for method, of in found.redrawn.items():
        lines.append(
            f"{method}: {of['cells']} cells drawn again, {of['same_bytes']} of them the same "
            f"bytes; largest difference of a cell's score {of['largest']:.4f}"
        )
    lines.append(f"{found.verdict}{f' ({found.why})' if found.why else ''}")
    return "".join(f"{one_line(line)}\n" for line in lines)
