"""Claims about Perfusion's parts, that scores can tell: locks, ablations, training dynamics, pairs,
transfer.

In: Evidence. Out: rows of the ledger.
"""

from collections.abc import Callable
from functools import partial

from scipy.stats import ttest_ind

from benchmarks.evidence.claim_measures import (
    area_gain,
    cell_gain,
    ends,
    gain,
    gains,
    honest_gain,
    matched,
    rows,
    spread_gain,
)
from benchmarks.evidence.ledger import Evidence, Finding, both, claim
from benchmarks.evidence.verdicts import LITTLE, SLIGHT, all_of, flipped, less, more, no_loss, told
from benchmarks.tables.grid import FLOOR
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

# uniquely shaped: Fig. A.4 names the tortoise, the others are our reading
ODD = ("tortoise", "sculpture", "cat_toy")
EVERYDAY = ("cat", "dog", "puppy", "teddy", "chair")  # Appendix F: pets, teddy bears, chairs
FIRST = ("cat", "teddy", "teapot", "chair")  # of the training dynamics
SECOND = ("cat_toy", "dog", "pot", "puppy", "sculpture", "sunglasses", "tortoise")
Judge = Callable[[Interval, Interval], str]  # of a difference in text, and one in image similarity


# ---- the locks


def _ablation(
    says: str,
    where: str,
    measure: str,
    variant: str,
    judge: Judge,
    run: str = "ablations",
    whole: str = "perfusion",
) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        a, b = matched(grid, whole, f"perfusion-{variant}", "local")
        text, image = gains(grid, a, b)
        return both(text, image, judge(text, image))

    claim(says, where, measure)(find)


_ablation(
    "Key locking raises text similarity without significant harm to image similarity",
    "5.1, 5.3 (b), Fig. 9b",
    f"local lock minus trained K at the same biases; harm is more than {LITTLE}",
    "trained-k",
    lambda text, image: all_of([more(text), no_loss(image)]),
)


@claim("Global locking varies more over concepts than local", "Appendix F, Fig. A.4",
       "standard deviation of image similarity over concepts, global minus local")  # fmt: skip
def varies(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    spread = spread_gain(
        grid, "image_sim", rows(grid, "perfusion", "global"), rows(grid, "perfusion", "local")
    )
    return Finding(told(spread), more(spread))


@claim("Global locking struggles with uniquely shaped things", "Appendix F, Fig. A.4",
       f"image similarity lost from local to global lock: {', '.join(ODD)} minus "
       f"{', '.join(EVERYDAY)}")  # fmt: skip
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
    return Finding(told(difference), more(difference))


@claim("Global locking portrays attributes and activities better than local", "6.1, Fig. 10",
       "raw text similarity on the prompts that change the object, global minus local")  # fmt: skip
def portrays(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    of_global, of_local = (rows(grid, "perfusion", lock) for lock in ("global", "local"))
    better = cell_gain(grid, "text_sim_raw", of_global, of_local, "deform")
    return Finding(told(better), more(better))


@claim("Global locking portrays attributes and activities better than trained K", "6.1, Fig. 10",
       "the same, global lock minus trained K")  # fmt: skip
def portrays_better(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    ours, theirs = rows(grid, "perfusion", "global"), rows(grid, "perfusion-trained-k", "local")
    better = cell_gain(grid, "text_sim_raw", ours, theirs, "deform")
    return Finding(told(better), more(better))


# ---- 5.3: ablations

SAME = "at the same biases, local lock"
_ablation(
    "Training on one image overfits slightly",
    "5.3 (a), 6.2, Figs. 8, 9a",
    f"all images minus one, {SAME}: text is higher, by less than {SLIGHT}",
    "one-shot",
    lambda text, image: all_of([more(text), no_loss(flipped(text), SLIGHT)]),
)
_ablation(
    "The mask helps text similarity",
    "5.3 (c), Fig. 9c",
    f"with the mask minus without, {SAME}",
    "no-mask",
    lambda text, image: more(text),
)
_ablation(
    "The mask helps text similarity where there is one training image",
    "5.3 (c), Fig. 9c",
    "the same with one image in training, a concept's first, before a plain wall. Written after "
    "the row above, "
    "and before this run",
    "no-mask",
    lambda text, image: more(text),
    "mask",
    "perfusion-one-shot",
)


def _front(says: str, where: str, measure: str, variant: str) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("ablations")
        a, b = matched(grid, "perfusion", f"perfusion-{variant}", "local")
        area = area_gain(grid, a, b)
        return Finding(f"area {told(area)}", more(area))

    claim(says, where, measure)(find)


_front("A higher bias in training gives a better front", "5.3 (d), Fig. 9d",
       "area under the local front, bias 0.75 minus 0.55 in training", "train-bias")  # fmt: skip
_front("A temperature of 0.15 at inference is better than that of training", "5.3 (e), Fig. 9e",
       "area under the local front, temperature 0.15 minus 0.1", "infer-temperature")  # fmt: skip


@claim("Vanilla ROME is worse (the paper: corrupted, because what is trained is not what is drawn)",
       "4.1, 6.1, Fig. A.1",
       "harmonic mean, the mean of Perfusion's local points minus vanilla ROME: edited after "
       "training and not in it, "
       "with a fixed word, a gate without bias and a fixed number of steps; worse where it loses "
       "more than "
       f"{LITTLE}")  # fmt: skip
def vanilla(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    better = gain(
        grid, "harmonic", rows(grid, "perfusion", "local"), rows(grid, "perfusion-vanilla-rome")
    )
    return Finding(told(better), more(better, LITTLE))


# ---- 6: training dynamics, pairs, transfer


def _longer(says: str, measure: str, method: str, judge: Judge) -> None:
    """On the concepts that were planned, on those that were added when these had been seen, and on
    both.
    """

    def find(evidence: Evidence, only: tuple[str, ...]) -> Finding:
        grid = evidence.grid("dynamics", only=only)
        late, early = ends(grid, method)
        text, image = gains(grid, late, early)
        return both(text, image, judge(text, image))

    claim(says, "6.2, Fig. 11", f"{measure}; {', '.join(FIRST)}")(partial(find, only=FIRST))
    claim(
        f"{says} (the other {len(SECOND)} concepts)",
        "6.2, Fig. 11",
        "the same; written and run after the row above was seen to be open",
    )(partial(find, only=SECOND))
    claim(
        f"{says} (all {len(FIRST + SECOND)})",
        "6.2, Fig. 11",
        "the same; written when both rows above were seen",
    )(partial(find, only=FIRST + SECOND))


_longer(
    "Trained K overfits as training goes on",
    f"400 steps minus 100: text falls, image does not by more than {LITTLE}",
    "perfusion-trained-k",
    lambda text, image: all_of([less(text), no_loss(image)]),
)
_longer(
    "Local key locking over-generalises instead",
    "400 steps minus 100: text rises, image falls",
    "perfusion",
    lambda text, image: all_of([more(text), less(image)]),
)


@claim("Concepts trained apart combine in one picture, as well as Custom Diffusion's", "6, Fig. 5",
       "pairs: Perfusion's best point (chosen on one half of the images, reported on the other) "
       "minus Custom "
       f"Diffusion's merge, a loss being more than {LITTLE}; and the mean of its points minus the "
       f"plain words, in "
       "image similarity to either concept")  # fmt: skip
def combine(evidence: Evidence) -> Finding:
    grid = evidence.grid("pairs", pairs=True)
    ours, (cd, *_) = rows(grid, "perfusion"), rows(grid, "cd")
    text, image = (honest_gain(grid, metric, ours, cd) for metric in ("text_sim", "image_sim"))
    there = [gain(grid, f"image_sim_{side}", ours, grid.rows(FLOOR)) for side in "ab"]
    verdict, above = (
        all_of([no_loss(text), no_loss(image), *map(more, there)]),
        ", ".join(map(told, there)),
    )
    return Finding(
        f"text {told(text)}, image {told(image)}; above the plain words {above}", verdict
    )
