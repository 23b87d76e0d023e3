"""What a plan consists of: priors, fits and cells, each with the digest of all that determines its
bytes as its key.

Nothing else enters a key: no device, no engine, no order. Pure, no torch.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from benchmarks.digests import digest
from benchmarks.scoring.cell_row import CellRow
from benchmarks.scoring.reserved import FLOOR as FLOOR


@dataclass(frozen=True)
class Facts:
    """What the plan must know of the models; found by reading files, not by loading them."""

    backbone: str  # digest of the weights and configurations
    covariance: str  # digest of C; empty where the backbone has none
    dtype: str
    selector: str = ""  # digest of the scorer that picks training steps
    rows: int = 32  # of the U-Net's batch
    compiled: bool = False  # by torch.compile, which has low bits of its own
    vae: str = ""  # digest of another VAE; empty: the backbone's own

    @property
    def model(self) -> dict[str, Any]:
        """What of the backbone decides bytes; plain ones are called what they always were."""
        compiled = {"compile": True} if self.compiled else {}
        vae = {"vae": self.vae} if self.vae else {}
        return {"backbone": self.backbone, "dtype": self.dtype, **compiled, **vae}


@dataclass(frozen=True)
class Method:
    """A method, or a named variant of one, as the plan sees it."""

    name: str  # in rows and in the paths of images
    base: str  # whose module does it; in the paths of fits
    version: str
    trained: bool
    prior: bool
    config: Mapping[str, Any]
    select: bool = False  # its training step is picked by validation
    points: tuple[str, ...] = ()  # its own, where the configuration names none
    # what its points may set; None: what `apply` looks at
    settings: tuple[str, ...] | None = None
    pairs: bool = True  # can draw two of its concepts together
    text_side: bool = False  # its pictures share batches with those of other points and methods
    covariance: bool = True  # C of the backbone decides its bytes
    needs_covariance: bool = False  # and without C it cannot begin
    one_encoder: bool = False  # and a backbone with two text encoders is none for it
    unet_only: bool = False  # and a backbone of PixArt's or Sana's kind is none for it
    # whether its fits weigh the loss by masks; None: its recipe knows none, or is not used here
    masks: bool | None = None
    one_file: str = ""  # all that a fit leaves; empty: a folder
    untuned: bool = False  # its rates for the miniature are a guess, and tables say so
    label: str = ""
    family: str = ""
    # of a method that is not built in, as the two above: for figures
    style: Mapping[str, Any] = field(default_factory=dict)
    cite: str = ""  # BibTeX of such a method, for cards


@dataclass(frozen=True)
class Prior:
    """Class images of a super-category."""

    super_category: str
    seeds: tuple[int, ...]
    key: str


@dataclass(frozen=True)
class Given:
    """Files of a fit that was trained elsewhere."""

    files: tuple[tuple[str, str, str], ...]  # name in the fit's folder, where it is, sha256
    # of them all: unlike a training, the end does not determine the states kept on the way
    digest: str
    about: Mapping[str, Any] = field(default_factory=dict)  # what is told of the training

    @property
    def steps(self) -> set[int]:
        """Kept training steps."""
        return {step for name, _, _ in self.files if (step := step_of(name)) is not None}


def step_of(name: str) -> int | None:
    """The training step whose kept state a file of a fit belongs to."""
    found = re.match(r"step-(\d+)/", name)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Fit:
    """One method trained on one concept."""

    method: str  # base
    concept: str
    super_category: str
    config: Mapping[str, Any]
    prior: Prior | None
    select: bool
    keep: tuple[int, ...]  # not in the key: what is kept on the way does not change the end
    seed: int
    key: str
    given: Given | None = None  # copied, not trained


@dataclass(frozen=True)
class Cell:
    """One method, point, concept (or pair) and prompt, with an image a seed."""

    method: str
    base: str
    point: str
    settings: Mapping[str, Any]  # of the point
    step: int  # the kept training step; 0: the fit as it ended
    concepts: tuple[str, ...]
    super_categories: tuple[str, ...]
    group: str
    prompt_id: str
    kind: str
    template: str  # a placeholder for each concept: "A {cat} on the beach"
    text: str  # what its images are scored against: "A on the beach"
    seeds: tuple[int, ...]
    fits: tuple[Fit, ...]
    key: str
    text_side: bool = False  # of its method; not in the key

    @property
    def concept(self) -> str:
        return "+".join(self.concepts)

    @property
    def row(self) -> CellRow:
        """The cell as plan.csv and scoring know it."""
        return CellRow(
            self.method,
            self.point,
            self.concept,
            self.group,
            self.prompt_id,
            self.kind,
            len(self.seeds),
            self.key,
            "+".join(fit.key for fit in self.fits),
            self.template,
            self.text,
            "+".join(self.super_categories),
            self.seeds,
        )


Unit = Prior | Fit | Cell


@dataclass(frozen=True)
class Plan:
    """Units, in the order in which they are done."""

    priors: tuple[Prior, ...]
    fits: tuple[Fit, ...]
    cells: tuple[Cell, ...]
    batch: int = 8  # images a batch
    drift: tuple[Cell, ...] = ()  # beside the protocol: what concepts do to everything else

    @property
    def images(self) -> int:
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def drawn(self) -> tuple[Cell, ...]:
        """All cells in the order in which they are drawn: those that measure drift after the
        protocol's of the same fit and point, the plain backbone's first."""
        beside: dict[tuple[str, str, tuple[str, ...]], list[Cell]] = {}
        for cell in self.drift:
            beside.setdefault((cell.method, cell.point, cell.concepts), []).append(cell)
        groups = groupby(self.cells, key=lambda cell: (cell.method, cell.point, cell.concepts))
        cells = [cell for cell in self.drift if cell.row.is_base]
        for group, mine in groups:
            cells += [*mine, *beside.get(group, ())]
        return tuple(cells)

    @property
    def units(self) -> tuple[Unit, ...]:
        return (*self.priors, *self.fits, *self.cells, *self.drift)

    def spared(self, done: Collection[str]) -> frozenset[str]:
        """Keys of trainings and class images that are not there and that no picture left needs."""
        keys = [(cell.key, {fit.key for fit in cell.fits}) for cell in (*self.cells, *self.drift)]
        known = frozenset[str]().union(*(fits for _, fits in keys))
        needed = frozenset[str]().union(*(fits for key, fits in keys if key not in done))
        spared = known - needed - frozenset(done)
        there = spared.union(done)
        waiting = {fit.prior.key for fit in self.fits if fit.prior and fit.key not in there}
        return spared | ({one.key for one in self.priors} - waiting - there)

    @property
    def digest(self) -> str:
        """Of the protocol's units."""
        mine: tuple[Unit, ...] = (*self.priors, *self.fits, *self.cells)
        return digest([unit.key for unit in mine])
