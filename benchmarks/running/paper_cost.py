"""What the paper's whole benchmark costs. In: seconds of an image and of each method's fit. Out:
lines that add up.

Arithmetic over the protocol's own numbers: concepts, prompts, operating points, class images,
validation. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.planning.config import Config
from benchmarks.planning.units import FLOOR
from benchmarks.suite.catalog import PHOTOS, load_catalog


@dataclass(frozen=True)
class Line:
    """So many of these, each so many seconds."""

    what: str
    units: int
    each: float

    @property
    def hours(self) -> float:
        return self.units * self.each / 3600


def paper(image: float, fits: Mapping[str, float], looks: int) -> list[Line]:
    """image: seconds of one; fits: seconds of one, by method; looks: how often Perfusion's fit
    draws to validate.
    """
    config, catalog = Config(), load_catalog(PHOTOS)
    many, supers = len(catalog.concepts), {concept.super_category for concept in catalog.concepts}
    a_point = config.images * sum(len(catalog.prompts_for(concept)) for concept in catalog.concepts)
    points = sum(
        len(config.points.get(method, ("default",))) for method in (FLOOR, *config.methods)
    )
    return [
        Line(
            f"images: {points} operating points, super's among them, of {a_point:,}",
            points * a_point,
            image,
        ),
        Line(
            f"class images of {len(supers)} super-categories",
            len(supers) * config.prior_images,
            image,
        ),
        Line("images of perfusion's validation", many * looks * len(catalog.validation), image),
        # without those for which memory does not suffice
        *(
            Line(f"fits of {method}", many, fits[method])
            for method in config.methods
            if method in fits
        ),
    ]


def cost_table(lines: list[Line]) -> list[str]:
    """In Markdown."""
    rows = [
        f"| {line.what} | {line.units:,} | {line.each:.3g} | {line.hours:.3g} |" for line in lines
    ]
    total = sum(line.hours for line in lines)
    return ["| the whole paper | units | s each | hours |", "|---|---:|---:|---:|", *rows,
            f"| together | | | **{total:.3g}** |"]  # fmt: skip
