"""How figures look and how they are written: sizes for a two-column paper, fonts, files without
dates.

In: a figure. Out: the same styled, and its PDF, SVG and PNG. How each method looks: `looks`.
"""

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.disk import write_whole
from benchmarks.safe_paths import leads_out
from perfusion_core.errors import UserError

COLUMN, PAGE = 3.3, 6.9  # inches: the width of one column and of the page
FORMATS = ("pdf", "svg", "png")
GREY, FAINT, INK = "#5f6368", "#dcdfe3", "#202124"

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same on every machine
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#3c4043",
    "axes.labelcolor": "#202124",
    "text.color": "#202124",
    "xtick.color": "#3c4043",
    "ytick.color": "#3c4043",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.2,
    "pdf.fonttype": 42,  # text stays text: publishers refuse Type 3 fonts
    "svg.fonttype": "path",
    "svg.hashsalt": "perfbench",  # element ids would otherwise differ from run to run
    "savefig.dpi": 300,
    "figure.dpi": 150,
}
# asked in this order for signs that the first font has not: those that systems bring
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
NO_GLYPH = r"Glyph (\d+) .*missing from font"  # what matplotlib warns of
SHOWN = 5  # signs that a line names
# one write-up for each format: matplotlib would add the date
METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Inside the block matplotlib draws in our style; outside it is as it was. Signs that no font
    here has are drawn as boxes, which one line tells of."""
    with matplotlib.rc_context(), warnings.catch_warnings(record=True) as told:
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        matplotlib.rcParams["font.family"] = [RC["font.family"], *fallbacks()]
        warnings.filterwarnings("always", NO_GLYPH)
        yield
    missing = []
    for one in told:
        if found := re.match(NO_GLYPH, str(one.message)):
            missing.append(chr(int(found[1])))
        else:  # whatever else is told reaches whom it would have reached
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing := list(dict.fromkeys(missing)):
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        print(
            f"perfbench: no font here has {' '.join(missing[:SHOWN])}{more}, so figures show "
            f"boxes; install one that has, such as Noto Sans CJK, and draw again",
            file=sys.stderr,
        )


@cache
def fallbacks() -> tuple[str, ...]:
    """Installed fonts of FALLBACKS: a name that is not there would be warned of at each text."""
    from matplotlib.font_manager import fontManager

    known = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FALLBACKS if name in known)


def write_figure(figure: Figure, out: Path) -> list[Path]:
    """`out` with a suffix: that file; without: PDF, SVG and PNG. The same figure gives the same
    bytes.
    """
    suffix = out.suffix.lstrip(".").lower()
    if suffix and suffix not in FORMATS:
        raise UserError(
            f"cannot write a figure as {out.name!r}; --out takes .pdf, .svg or .png, or no suffix "
            f"for all three"
        )
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the figure, such as --out {out / 'figure.pdf'}")
    files = [out] if suffix else [out.parent / f"{out.name}.{kind}" for kind in FORMATS]
    for file in files:
        if leads_out(file):  # a run of somebody else may hold one to a file of yours
            file.unlink()
        kind, drawn = file.suffix[1:].lower(), io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=METADATA[kind])
        write_whole(file, drawn.getvalue())
    return files
