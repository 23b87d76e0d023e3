"""Claims about Perfusion's parts, that scores can tell: locks, ablations, training dynamics, pairs,
transfer.

In: Evidence. Out: rows of the ledger.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_ind

from benchmarks.evidence.claim_measures import (
    cell_gain,
    ends,
    gain,
    gains,
    honest_gain,
    matched,
    rows,
    spread_ratio,
)
from benchmarks.evidence.claims_front import compared
from benchmarks.evidence.ledger import Evidence, Finding, claim, of_parts, part
from benchmarks.evidence.verdicts import (
    LITTLE,
    LITTLE_RAW,
    SLIGHT,
    Part,
    flipped,
    judged,
    told,
)
from benchmarks.tables.grid import FLOOR, Grid
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

# uniquely shaped: Fig. A.4 names the tortoise, the others are our reading
ODD = ("tortoise", "sculpture", "cat_toy")
EVERYDAY = ("cat", "dog", "puppy", "teddy", "chair")  # Appendix F: pets, teddy bears, chairs
FIRST = ("cat", "teddy", "teapot", "chair")  # of the training dynamics
SECOND = ("cat_toy", "dog", "pot", "puppy", "sculpture", "sunglasses", "tortoise")
# parts of a claim, of a difference in text and one in image similarity
Judge = Callable[[Grid, Interval, Interval], list[Part]]
LOCKING, TRAINING, USE = "Locks", "What training consists of", "Use"
EARLIER = (
    "The verdict is over all concepts. The first four, and the other seven that were added once "
    "those had been seen, were looks at the same question"
)


# ---- the locks


def _ablation(
    says: str,
    where: str,
    measure: str,
    variant: str,
    judge: Judge,
    run: str = "ablations",
    whole: str = "perfusion",
    group: str = TRAINING,
) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        a, b = matched(grid, whole, f"perfusion-{variant}", "local")
        return both(grid, *gains(grid, a, b), judge)

    claim(says, where, measure, group)(find)


def both(grid: Grid, text: Interval, image: Interval, judge: Judge) -> Finding:
    return Finding(f"text {told(text)}, image {told(image)}", judged(*judge(grid, text, image)))


def kept(grid: Grid, image: Interval) -> Part:
    """No harm to image similarity."""
    return part(grid, "image", image, -LITTLE)


_ablation(
    "Key locking raises text similarity without significant harm to image similarity",
    "5.1, 5.3 (b), Fig. 9b",
    f"local lock minus trained K at the same biases. A loss of more than {LITTLE} is harm",
    "trained-k",
    lambda grid, text, image: [part(grid, "text", text), kept(grid, image)],
    group=LOCKING,
)


@claim("Global locking varies more over concepts than local", "Appendix F, Fig. A.4",
       "logarithm of the ratio of standard deviations of image similarity over concepts, global "
       "over local. The interval leaves out one concept at a time", LOCKING)  # fmt: skip
def varies(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    ratio = spread_ratio(
        grid, "image_sim", rows(grid, "perfusion", "global"), rows(grid, "perfusion", "local")
    )
    found = judged(part(grid, "log ratio", ratio))
    return Finding(f"{told(ratio)}, {np.exp(ratio.value):.2f} times", found)


@claim("Global locking struggles with uniquely shaped things", "Appendix F, Fig. A.4",
       f"image similarity lost from local to global lock: the mean of {', '.join(ODD)} minus that "
       f"of {', '.join(EVERYDAY)}", LOCKING)  # fmt: skip
def struggles(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    image = grid.scores["image_sim"]
    lost = image[rows(grid, "perfusion", "local")].mean(0) - image[
        rows(grid, "perfusion", "global")
    ].mean(0)
    odd, usual = (
        lost[[k for k, name in enumerate(grid.concepts) if name in kind]]
        for kind in (ODD, EVERYDAY)
    )
    if len(odd) < 2 or len(usual) < 2:
        raise UserError("too few concepts of one kind")
    interval = ttest_ind(odd, usual, equal_var=False).confidence_interval()
    difference = Interval(
        float(odd.mean() - usual.mean()), float(interval.low), float(interval.high)
    )
    return Finding(told(difference), judged(Part("", difference, len(odd) + len(usual))))


@claim("Global locking portrays attributes and activities better than local", "6.1, Fig. 10",
       "raw text similarity on the prompts that change the object, global lock minus local lock. "
       f"Less than {LITTLE_RAW} counts as nothing", LOCKING)  # fmt: skip
def portrays(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    of_global, of_local = (rows(grid, "perfusion", lock) for lock in ("global", "local"))
    better = cell_gain(grid, "text_sim_raw", of_global, of_local, "deform")
    return of_parts(part(grid, "", better, delta=LITTLE_RAW))


@claim("Global locking portrays attributes and activities better than trained K", "6.1, Fig. 10",
       "raw text similarity on the prompts that change the object, global lock minus trained K. "
       f"Less than {LITTLE_RAW} counts as nothing", LOCKING)  # fmt: skip
def portrays_better(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    ours, theirs = rows(grid, "perfusion", "global"), rows(grid, "perfusion-trained-k", "local")
    better = cell_gain(grid, "text_sim_raw", ours, theirs, "deform")
    return of_parts(part(grid, "", better, delta=LITTLE_RAW))


# ---- 5.3: ablations

SAME = "at the same biases, local lock"
_ablation(
    "Training on one image overfits slightly",
    "5.3 (a), 6.2, Figs. 8, 9a",
    f"all images minus one, {SAME}: text is higher, by less than {SLIGHT}. Less than {LITTLE} "
    f"counts as nothing",
    "one-shot",
    lambda grid, text, image: [
        part(grid, "text", text, delta=LITTLE),
        part(grid, "slightly", flipped(text), -SLIGHT),
    ],
)
_ablation(
    "The mask helps text similarity",
    "5.3 (c), Fig. 9c",
    f"with the mask minus without, {SAME}. Less than {LITTLE} counts as nothing",
    "no-mask",
    lambda grid, text, image: [part(grid, "text", text, delta=LITTLE)],
)
_ablation(
    "The mask helps text similarity where there is one training image",
    "5.3 (c), Fig. 9c",
    f"with the mask minus without, {SAME}, where training has one image: the concept's first, "
    f"before a plain wall. Less than {LITTLE} counts as nothing. Written after the row above, and "
    f"before this run",
    "no-mask",
    lambda grid, text, image: [part(grid, "text", text, delta=LITTLE)],
    "mask",
    "perfusion-one-shot",
)


def _front(says: str, where: str, measure: str, variant: str) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("ablations")
        return Finding(
            *compared(grid, *matched(grid, "perfusion", f"perfusion-{variant}", "local"))
        )

    claim(says, where, measure, TRAINING)(find)


_front("A higher bias in training gives a better front", "5.3 (d), Fig. 9d",
       "how far some point of the local front with bias 0.75 in training is ahead of that with "
       "0.55 on both axes, and the reverse", "train-bias")  # fmt: skip
_front("A temperature of 0.15 at inference is better than that of training", "5.3 (e), Fig. 9e",
       "how far some point of the local front with temperature 0.15 is ahead of that with 0.1 on "
       "both axes, and the reverse", "infer-temperature")  # fmt: skip


@claim("Vanilla ROME is worse (the paper: corrupted, because what is trained is not what is drawn)",
       "4.1, 6.1, Fig. A.1",
       "harmonic mean of Perfusion's local points, averaged, minus that of vanilla ROME. Vanilla "
       "ROME edits after training and not in it. It has a fixed word, a gate without bias and a "
       f"fixed number of steps. A loss of more than {LITTLE} is worse", TRAINING)  # fmt: skip
def vanilla(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    better = gain(
        grid, "harmonic", rows(grid, "perfusion", "local"), rows(grid, "perfusion-vanilla-rome")
    )
    return of_parts(part(grid, "", better, LITTLE))


# ---- 6: training dynamics, pairs, transfer


def _longer(says: str, measure: str, method: str, judge: Judge) -> None:
    """On all concepts; beside it what the planned ones say alone, and those that were added when
    these had been seen.
    """

    def find(evidence: Evidence) -> Finding:
        looks = []
        for only in (FIRST + SECOND, FIRST, SECOND):
            grid = evidence.grid("dynamics", only=only)
            late, early = ends(grid, method)
            looks.append(both(grid, *gains(grid, late, early), judge))
        whole, first, second = looks
        figure = f"{whole.figure}; of the first {len(FIRST)} {first.figure}; of the others "
        return Finding(figure + second.figure, whole.judged)

    claim(says, "6.2, Fig. 11", f"{measure}. {EARLIER}", TRAINING)(find)


_longer(
    "Trained K overfits as training goes on",
    f"400 steps minus 100: text falls, and image does not fall by more than {LITTLE}",
    "perfusion-trained-k",
    lambda grid, text, image: [part(grid, "text lost", flipped(text)), kept(grid, image)],
)
_longer(
    "Local key locking over-generalises instead",
    "400 steps minus 100: text rises and image falls",
    "perfusion",
    lambda grid, text, image: [
        part(grid, "text", text),
        part(grid, "image lost", flipped(image)),
    ],
)


@claim("Concepts trained apart combine in one picture, as well as Custom Diffusion's", "6, Fig. 5",
       "two differences over pairs of concepts. First, Perfusion's best point (chosen on one half "
       "of the images, reported on the other) minus Custom Diffusion's merge; a loss is more than "
       f"{LITTLE}. Second, the mean of Perfusion's points minus the plain words, in image "
       f"similarity to either concept", USE)  # fmt: skip
def combine(evidence: Evidence) -> Finding:
    grid = evidence.grid("pairs", pairs=True)
    ours, (cd, *_) = rows(grid, "perfusion"), rows(grid, "cd")
    text, image = (honest_gain(grid, metric, ours, cd) for metric in ("text_sim", "image_sim"))
    there = [gain(grid, f"image_sim_{side}", ours, grid.rows(FLOOR)) for side in "ab"]
    found = judged(
        part(grid, "text", text, -LITTLE),
        kept(grid, image),
        *(part(grid, f"concept {side} there", one) for side, one in zip("ab", there)),
    )
    above = ", ".join(map(told, there))
    return Finding(f"text {told(text)}, image {told(image)}; above the plain words {above}", found)
