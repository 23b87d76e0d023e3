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
    "the verdict is over all concepts; the first four and the other seven, which were added when "
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
    f"local lock minus trained K at the same biases; harm is more than {LITTLE}",
    "trained-k",
    lambda grid, text, image: [part(grid, "text", text), kept(grid, image)],
    group=LOCKING,
)


@claim("Global locking varies more over concepts than local", "Appendix F, Fig. A.4",
       "logarithm of the ratio of standard deviations of image similarity over concepts, global "
       "over local; interval by leaving out one concept at a time", LOCKING)  # fmt: skip
def varies(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    ratio = spread_ratio(
        grid, "image_sim", rows(grid, "perfusion", "global"), rows(grid, "perfusion", "local")
    )
    found = judged(part(grid, "log ratio", ratio))
    return Finding(f"{told(ratio)}, {np.exp(ratio.value):.2f} times", found)


@claim("Global locking struggles with uniquely shaped things", "Appendix F, Fig. A.4",
       f"image similarity lost from local to global lock: {', '.join(ODD)} minus "
       f"{', '.join(EVERYDAY)}", LOCKING)  # fmt: skip
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
       "raw text similarity on the prompts that change the object, global minus local; nothing "
       f"is less than {LITTLE_RAW}", LOCKING)  # fmt: skip
def portrays(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    of_global, of_local = (rows(grid, "perfusion", lock) for lock in ("global", "local"))
    better = cell_gain(grid, "text_sim_raw", of_global, of_local, "deform")
    return of_parts(part(grid, "", better, delta=LITTLE_RAW))


@claim("Global locking portrays attributes and activities better than trained K", "6.1, Fig. 10",
       "the same, global lock minus trained K", LOCKING)  # fmt: skip
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
    f"all images minus one, {SAME}: text is higher, by less than {SLIGHT}; nothing is less than "
    f"{LITTLE}",
    "one-shot",
    lambda grid, text, image: [
        part(grid, "text", text, delta=LITTLE),
        part(grid, "slightly", flipped(text), -SLIGHT),
    ],
)
_ablation(
    "The mask helps text similarity",
    "5.3 (c), Fig. 9c",
    f"with the mask minus without, {SAME}; nothing is less than {LITTLE}",
    "no-mask",
    lambda grid, text, image: [part(grid, "text", text, delta=LITTLE)],
)
_ablation(
    "The mask helps text similarity where there is one training image",
    "5.3 (c), Fig. 9c",
    "the same with one image in training, a concept's first, before a plain wall. Written after "
    "the row above, "
    "and before this run",
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
       "the local front, bias 0.75 in training, against 0.55: how far some point is ahead on both "
       "axes, and the reverse", "train-bias")  # fmt: skip
_front("A temperature of 0.15 at inference is better than that of training", "5.3 (e), Fig. 9e",
       "the same, temperature 0.15 against 0.1", "infer-temperature")  # fmt: skip


@claim("Vanilla ROME is worse (the paper: corrupted, because what is trained is not what is drawn)",
       "4.1, 6.1, Fig. A.1",
       "harmonic mean, the mean of Perfusion's local points minus vanilla ROME: edited after "
       "training and not in it, "
       "with a fixed word, a gate without bias and a fixed number of steps; worse where it loses "
       "more than "
       f"{LITTLE}", TRAINING)  # fmt: skip
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

    claim(says, "6.2, Fig. 11", f"{measure}; {EARLIER}", TRAINING)(find)


_longer(
    "Trained K overfits as training goes on",
    f"400 steps minus 100: text falls, image does not by more than {LITTLE}",
    "perfusion-trained-k",
    lambda grid, text, image: [part(grid, "text lost", flipped(text)), kept(grid, image)],
)
_longer(
    "Local key locking over-generalises instead",
    "400 steps minus 100: text rises, image falls",
    "perfusion",
    lambda grid, text, image: [
        part(grid, "text", text),
        part(grid, "image lost", flipped(image)),
    ],
)


@claim("Concepts trained apart combine in one picture, as well as Custom Diffusion's", "6, Fig. 5",
       "pairs: Perfusion's best point (chosen on one half of the images, reported on the other) "
       "minus Custom "
       f"Diffusion's merge, a loss being more than {LITTLE}; and the mean of its points minus the "
       f"plain words, in "
       "image similarity to either concept", USE)  # fmt: skip
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
