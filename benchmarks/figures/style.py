"""How figures look: one colour, marker and dash for each method; sizes for a two-column paper; files without dates.

In: names of methods and locks. Out: `Look`s, a styled figure, and PDF, SVG and PNG files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.planning.ablations import ABLATIONS
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
# one write-up for each format: matplotlib would add the date
METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Look:
    """What tells a series apart: any one of colour, marker and dash is enough."""

    label: str
    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]] = "-"
    ink: str = ""  # the colour of its text, dark enough to read on white
    fill: bool = True

    @property
    def text(self) -> str:
        return self.ink or self.colour

    @property
    def face(self) -> str:
        return self.colour if self.fill else "white"


# Okabe and Ito's colours (safe for every kind of colour blindness), in the paper's roles: Perfusion is blue and cyan.
LOOKS = {
    "perfusion/local": Look("Perfusion, local lock", "#0072B2", "o"),
    "perfusion/global": Look("Perfusion, global lock", "#56B4E9", "s", (0, (4, 1.6)), ink="#1f78ad"),
    "perfusion": Look("Perfusion", "#0072B2", "o"),
    "best-h": Look("Perfusion Best H", "#00456b", "*"),
    "db": Look("DreamBooth", "#009E73", "^", (0, (1, 1.2)), ink="#00795a"),
    "ti": Look("Textual Inversion", "#CC79A7", "D", (0, (5, 1.2, 1, 1.2)), ink="#a64f80"),
    "cd": Look("Custom Diffusion", "#D55E00", "v", (0, (3, 1.2)), ink="#b04e00"),
    "cd-better": Look("CD Better-HP", "#E69F00", ">", (0, (3, 1.2, 1, 1.2, 1, 1.2)), ink="#946600"),
    "lora": Look("LoRA", "#6F4E37", "P", (0, (6, 1.5))),
    "super": Look("Super-category", "#5f6368", "X", (0, (1, 2))),
}
# methods that came by entry point or by file, in the order of their names
STRANGERS = [
    Look("", "#332288", "p", (0, (2, 1))),
    Look("", "#882255", "h", (0, (7, 2))),
    Look("", "#117733", "<", (0, (1, 1))),
    Look("", "#88641f", "d", (0, (4, 1, 1, 1))),
    Look("", "#444444", "8", (0, (2, 2))),
]


VARIANTS = {"selected": "selected step", **{one.name: one.label for one in ABLATIONS}}


def split_variant(method: str) -> tuple[str, str]:
    """`perfusion-one-shot` -> (`perfusion`, `one-shot`): a method that is no method of ours but begins like one."""
    if method in LOOKS:
        return method, ""
    bases = [base for base in LOOKS if method.startswith(f"{base}-")]
    base = max(bases, key=len, default=method)
    return base, method[len(base) + 1 :]


def look(method: str, lock: str | None = None, strangers: Sequence[str] = ()) -> Look:
    """The look of a method (and lock). A variant is its method's, hollow; a method nobody knows takes its turn."""
    base, variant = split_variant(method)
    known = LOOKS.get(f"{base}/{lock}") or LOOKS.get(base)
    if known and variant:
        name = LOOKS[base].label if lock == "local" else known.label  # local is the lock of every ablation
        return replace(known, label=f"{name}, {VARIANTS.get(variant, variant.replace('-', ' '))}", fill=False)
    if known:
        return known
    turn = sorted(strangers).index(method) if method in strangers else 0
    return replace(STRANGERS[turn % len(STRANGERS)], label=method)


@contextmanager
def styled() -> Iterator[None]:
    """Inside the block matplotlib draws in our style; outside it is as it was."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def write(figure: Figure, out: Path) -> list[Path]:
    """`out` with a suffix: that file; without: PDF, SVG and PNG. The same figure gives the same bytes."""
    suffix = out.suffix.lstrip(".").lower()
    if suffix and suffix not in FORMATS:
        raise UserError(
            f"cannot write a figure as {out.name!r}; --out takes .pdf, .svg or .png, or no suffix for all three"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    files = [out] if suffix else [out.parent / f"{out.name}.{kind}" for kind in FORMATS]
    for file in files:
        if leads_out(file):  # a run of somebody else may hold one to a file of yours
            file.unlink()
        figure.savefig(file, metadata=METADATA[file.suffix[1:].lower()])
    return files
