"""What is measured beyond the protocol's two scores: a registry, and how columns are called.

In: nothing. Out: MEASURES by name; of a column, which measure it is and by which scorer.

A measure's column has the measure's name, and `<name>_<scorer>` where another scorer than the
reported one gave it. It is never counted as missing: what a measure needs, a concept may lack.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SUBJECT, FOUND = "image_sim_subject", "found"  # of the thing alone (subject_alone.py cuts it out)
LOWER, HIGHER, NEITHER = "lower", "higher", ""  # which change of a measure is a loss
HELD_OUT = "held-out pictures of the concept"  # what some of them need
UNRELATED = "pictures of unrelated prompts, `perfbench run --drift`"
IMAGE, CELL = "image", "cell"  # what a value is of; one of a cell stands in each of its rows


@dataclass(frozen=True)
class Measure:
    """A column beyond the protocol."""

    name: str
    of: str  # IMAGE or CELL
    loss: str  # LOWER, HIGHER or NEITHER
    needs: str  # what has to be there, in words
    legend: str  # one line
    label: str  # of an axis
    derived: tuple[str, str] | None = None  # the first less the second, in the cells of both


MEASURES = {
    one.name: one
    for one in (
        Measure(
            "image_sim_heldout",
            IMAGE,
            LOWER,
            HELD_OUT,
            "mean cosine to the concept's held-out pictures, which no method sees",
            "Image similarity, held-out",
        ),
        Measure(
            "copy_gap",
            IMAGE,
            HIGHER,
            HELD_OUT,
            "image_sim less image_sim_heldout in the same cells: above that of the real images, "
            "copying",
            "Copy gap",
            ("image_sim", "image_sim_heldout"),
        ),
        Measure(
            "nearer",
            IMAGE,
            HIGHER,
            HELD_OUT,
            "share of pictures nearer to some training picture than to any held-out one",
            "Nearer to a training picture",
        ),
        Measure(
            "variety",
            IMAGE,
            LOWER,
            "two pictures a cell",
            "mean of 1 - cosine between the pictures of a cell; 0: all are the same",
            "Variety",
        ),
        Measure(
            "vendi",
            CELL,
            LOWER,
            "two pictures a cell",
            "Vendi score: how many different pictures a cell has, as if; 1: all are the same",
            "Vendi score",
        ),
        Measure(
            "drift",
            IMAGE,
            HIGHER,
            UNRELATED,
            "1 - cosine between pictures of unrelated prompts with and without the concept loaded; "
            "0: it leaves everything else alone",
            "Drift of unrelated prompts",
        ),
        Measure(
            "drift_class",
            IMAGE,
            HIGHER,
            UNRELATED,
            "the same of the plain class word, `A photo of a cat`",
            "Drift of the class word",
        ),
        Measure(
            "drift_pixels",
            IMAGE,
            HIGHER,
            UNRELATED,
            "root mean square difference of unrelated prompts' pixels, colours from 0 to 1",
            "Drift in pixels",
        ),
        Measure(
            SUBJECT,
            IMAGE,
            LOWER,
            "masks of the concept, and a segmenter that was measured to find it",
            "mean cosine of the thing alone, cut out and on grey, to the concept's own things; of "
            "pictures in which it was found",
            "Image similarity, subject alone",
        ),
        Measure(
            FOUND,
            IMAGE,
            LOWER,
            "masks of the concept, and a segmenter that was measured to find it",
            "share of pictures in which the thing was found",
            "Subject found",
        ),
    )
}
SCORED = tuple(name for name, one in MEASURES.items() if not one.derived)  # columns of rows
DERIVED = {name: one.derived for name, one in MEASURES.items() if one.derived}
_LONGEST_FIRST = sorted(MEASURES, key=len, reverse=True)


def measure_of(column: str) -> Measure | None:
    """The measure of a column, by whichever scorer; None for any other column."""
    for name in _LONGEST_FIRST:
        if column == name or column.startswith(f"{name}_"):
            return MEASURES[name]
    return None


def is_measure(column: str) -> bool:
    return measure_of(column) is not None


def scorer_of(column: str) -> str:
    """Whose a measure's column is: the name of another scorer; empty for the reported one."""
    one = measure_of(column)
    return column[len(one.name) + 1 :] if one else ""


def is_ambiguous(scorer: str) -> bool:
    """Whether a column with this scorer's name would be read as one of another measure."""
    named = {"image_sim": None, "text_sim_raw": None, **MEASURES}
    return any(measure_of(f"{name}_{scorer}") is not one for name, one in named.items())


def in_order(columns: Iterable[str]) -> list[str]:
    """The measures among some columns: by scorer, then as they are registered."""
    rank = {name: number for number, name in enumerate(MEASURES)}
    found = {column: one for column in columns if (one := measure_of(column))}
    return sorted(found, key=lambda column: (scorer_of(column), rank[found[column].name]))
