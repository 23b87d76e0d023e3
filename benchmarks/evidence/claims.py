"""The ledger: a row a claim of the paper that can be tested here, how it is measured, and what came out.

In: the committed runs of RUNS. Out: `Row`s. What a claim needs and is not there makes the row `not measured`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from benchmarks.evidence import LOOKED
from benchmarks.evidence.measures import area_gain, ends, gain, matched, rows, spread_gain
from benchmarks.frames import front_gaps
from benchmarks.grid import FLOOR, Grid, grid_of
from benchmarks.runs import Run
from benchmarks.stats import Interval, clustered
from benchmarks.store import attention_folder
from benchmarks.tables import split
from perfusion_core.errors import UserError

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold here", "inconclusive", "not measured"
LITTLE = 0.02  # a loss of image similarity smaller than this counts as none
ODD = ("tortoise", "sculpture", "cat_toy")  # uniquely shaped, as Fig. A.4 has them; the others are everyday things
EVERYDAY = ("cat", "dog", "puppy", "teddy", "chair")


@dataclass(frozen=True)
class Finding:
    """A figure in words, and what it says of the claim."""

    figure: str
    verdict: str


@dataclass(frozen=True)
class Row:
    claim: str
    where: str  # in the paper
    measure: str
    finding: Finding


@dataclass(frozen=True)
class Evidence:
    """The runs of one folder of results, by the names that RUNS gives them."""

    results: Path

    def run(self, name: str) -> Run:
        folder = self.results / f"miniature-{name}"
        if not (folder / "run.json").is_file():
            raise UserError(f"{folder.name} has not been made")
        return Run(folder)

    @cache  # noqa: B019  # one object, a handful of runs
    def grid(self, name: str, pairs: bool = False) -> Grid:
        cells = split(self.run(name).cells)[pairs]
        if not len(cells):
            raise UserError(f"miniature-{name} has no {'pairs' if pairs else 'single concepts'}")
        return grid_of(cells)


# ---- from an interval to a verdict


def told(interval: Interval) -> str:
    value, lo, hi = interval
    return f"{value:+.3f}" if np.isnan(lo) else f"{value:+.3f} ({lo:+.3f} to {hi:+.3f})"


def more(interval: Interval) -> str:
    """The claim says that it is above zero."""
    if np.isnan(interval.lo):
        return OPEN
    return HOLDS if interval.lo > 0 else FAILS if interval.hi < 0 else OPEN


def less(interval: Interval) -> str:
    return more(Interval(-interval.value, -interval.hi, -interval.lo))


def no_loss(interval: Interval, margin: float = LITTLE) -> str:
    """The claim says that it is not below zero by more than a little."""
    if np.isnan(interval.lo):
        return OPEN
    return HOLDS if interval.lo > -margin else FAILS if interval.hi < -margin else OPEN


def all_of(verdicts: Sequence[str]) -> str:
    """Of a claim with several parts."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if set(verdicts) == {HOLDS} else OPEN


def both(text: Interval, image: Interval, verdict: str) -> Finding:
    return Finding(f"text {told(text)}, image {told(image)}", verdict)


# ---- the claims

Find = Callable[[Evidence], Finding]
CLAIMS: list[tuple[str, str, str, Find]] = []


def claim(says: str, where: str, measure: str) -> Callable[[Find], Find]:
    def add(find: Find) -> Find:
        CLAIMS.append((says, where, measure, find))
        return find

    return add


def _beyond(other: str) -> Find:
    def find(evidence: Evidence) -> Finding:
        cells = split(evidence.run("paper").cells)[0]
        name = f"{other}-selected" if f"{other}-selected" in set(cells["method"]) else other
        gaps = front_gaps(cells)
        mine = gaps[gaps["other"] == name]
        if mine.empty:
            raise UserError(f"no {name} in miniature-paper")
        row = mine.iloc[0]
        gap = Interval(row["gap"], row["lo"], row["hi"])
        if np.isnan(gap.value):
            grid = evidence.grid("paper")
            area = area_gain(grid, rows(grid, "perfusion"), rows(grid, name))
            return Finding(f"beyond the front's ends; area {told(area)}", OPEN)
        return Finding(f"{told(gap)} against {name}", more(gap))

    return find


for _other, _label in (("cd", "Custom Diffusion"), ("db", "DreamBooth"), ("ti", "Textual Inversion"), ("lora", "LoRA")):
    claim(
        f"Perfusion's front lies beyond {_label}" + (" (not in the paper)" if _other == "lora" else ""),
        "5.1, Fig. 6",
        "text similarity of Perfusion's front at the other's image similarity, minus the other's; steps selected",
    )(_beyond(_other))


@claim("Perfusion covers more of the plane than any other method", "5.1, Fig. 6",
       "hypervolume of its front, minus that of each other method; the smallest difference")  # fmt: skip
def covers_more(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    others = sorted({name for name, _ in grid.points} - {FLOOR, "perfusion"})
    areas = {name: area_gain(grid, rows(grid, "perfusion"), rows(grid, name)) for name in others}
    least = min(areas, key=lambda name: areas[name].value)
    return Finding(f"{told(areas[least])} against {least}", more(areas[least]))


@claim("One trained model spans the front by its bias alone, monotonically", "abstract, 5.1, Fig. 7",
       "local lock, highest bias minus lowest; steps of the bias at which both move as they should")  # fmt: skip
def spans(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    mine = rows(grid, "perfusion", "local")
    text, image = (gain(grid, metric, mine[-1:], mine[:1]) for metric in ("text_sim", "image_sim"))
    level = {metric: grid.balanced[metric][0, mine] for metric in ("text_sim", "image_sim")}
    right = (np.diff(level["text_sim"]) > 0) & (np.diff(level["image_sim"]) < 0)
    verdict = all_of([more(text), less(image), HOLDS if right.all() else FAILS])
    return Finding(f"text {told(text)}, image {told(image)}, {right.sum()} of {len(right)} steps", verdict)


@claim("Key locking raises text similarity without significant harm to image similarity", "5.1, 5.3 (b), Fig. 9b",
       f"local lock minus trained K at the same biases; harm is more than {LITTLE}")  # fmt: skip
def locking(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    a, b = matched(grid, "perfusion", "perfusion-trained-k", "local")
    text, image = gain(grid, "text_sim", a, b), gain(grid, "image_sim", a, b)
    return both(text, image, all_of([more(text), no_loss(image)]))


@claim("Global locking varies more over concepts than local", "Fig. A.4",
       "standard deviation of image similarity over concepts, global minus local")  # fmt: skip
def varies(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    spread = spread_gain(grid, "image_sim", rows(grid, "perfusion", "global"), rows(grid, "perfusion", "local"))
    return Finding(told(spread), more(spread))


@claim("Global locking struggles with uniquely shaped things", "Fig. A.4",
       "image similarity lost from local to global lock: odd shapes minus everyday things")  # fmt: skip
def struggles(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    image = grid.scores["image_sim"]
    lost = image[rows(grid, "perfusion", "local")].mean(0) - image[rows(grid, "perfusion", "global")].mean(0)
    odd, usual = (lost[[k for k, name in enumerate(grid.concepts) if name in kind]] for kind in (ODD, EVERYDAY))
    if len(odd) < 2 or len(usual) < 2:
        raise UserError("too few concepts of one kind")
    interval = ttest_ind(odd, usual, equal_var=False).confidence_interval()
    difference = Interval(float(odd.mean() - usual.mean()), float(interval.low), float(interval.high))
    return Finding(told(difference), more(difference))


def _ablation(says: str, where: str, measure: str, variant: str, judge: Callable[[Interval, Interval], str]) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("ablations")
        a, b = matched(grid, "perfusion", f"perfusion-{variant}", "local")
        text, image = gain(grid, "text_sim", a, b), gain(grid, "image_sim", a, b)
        return both(text, image, judge(text, image))

    claim(says, where, measure)(find)


SAME = "at the same biases, local lock"
_ablation("Training on one image overfits slightly", "5.3 (a), Figs. 8, 9a", f"all images minus one, {SAME}",
          "one-shot", lambda text, image: more(text))  # fmt: skip
_ablation("The mask helps text similarity", "5.3 (c), Fig. 9c", f"with the mask minus without, {SAME}",
          "no-mask", lambda text, image: more(text))  # fmt: skip


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


@claim("Vanilla ROME breaks: what is trained is not what is drawn", "6.1, Fig. A.1",
       f"harmonic mean, Perfusion minus vanilla ROME, {SAME}")  # fmt: skip
def vanilla(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    a, b = rows(grid, "perfusion", "local"), rows(grid, "perfusion-vanilla-rome")
    better = gain(grid, "harmonic", a, b)
    return Finding(told(better), more(better))


@claim("Textual Inversion's attention leaves the object", "Fig. 2",
       "share of the word's attention outside the object, Textual Inversion minus Perfusion, mean over t")  # fmt: skip
def leaves(evidence: Evidence) -> Finding:
    path = attention_folder(evidence.run("paper").folder) / "cells.csv"
    if not path.is_file():
        raise UserError("attention of miniature-paper has not been measured")
    cells = pd.read_csv(path)
    known = cells.groupby(["method", "concept", "prompt_id"])["leakage"].mean().unstack("method")
    if not {"ti", "perfusion"} <= set(known):
        raise UserError("attention of ti and of perfusion is needed")
    difference = clustered((known["ti"] - known["perfusion"]).unstack("prompt_id").to_numpy(float))
    return Finding(told(difference), more(difference))


def _longer(says: str, measure: str, method: str, judge: Callable[[Interval, Interval], str]) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("dynamics")
        late, early = ends(grid, method)
        text, image = gain(grid, "text_sim", late, early), gain(grid, "image_sim", late, early)
        return both(text, image, judge(text, image))

    claim(says, "6.2, Fig. 11", measure)(find)


_longer("Trained K overfits as training goes on", "last kept step minus a quarter of it: text falls, image does not",
        "perfusion-trained-k", lambda text, image: all_of([less(text), no_loss(image)]))  # fmt: skip
_longer("Local key locking over-generalises instead", "the same: text rises, image falls",
        "perfusion", lambda text, image: all_of([more(text), less(image)]))  # fmt: skip


@claim("Concepts trained apart combine in one picture, as well as Custom Diffusion's", "6, Fig. 5",
       f"pairs: Perfusion minus Custom Diffusion's merge; a loss is more than {LITTLE}")  # fmt: skip
def combine(evidence: Evidence) -> Finding:
    grid = evidence.grid("pairs", pairs=True)
    a, b = rows(grid, "perfusion"), rows(grid, "cd")
    best = [max(a, key=lambda m: np.nanmean(grid.scores["harmonic"][m]))]
    text, image = gain(grid, "text_sim", best, b), gain(grid, "image_sim", best, b)
    return both(text, image, all_of([no_loss(text), no_loss(image)]))


@claim("A concept carries over to a fine-tuned backbone", "6.2, Fig. 12",
       "on a copy of the miniature that paints watercolours: image similarity above the plain word's")  # fmt: skip
def carries_over(evidence: Evidence) -> Finding:
    grid = evidence.grid("transfer")
    image = gain(grid, "image_sim", rows(grid, "perfusion", "local"), grid.rows(FLOOR))
    return Finding(told(image), more(image))


def looked(evidence: Evidence, run: str) -> pd.DataFrame:
    """looked.csv by method and point (looks.py)."""
    path = evidence.run(run).folder / LOOKED
    if not path.is_file():
        raise UserError(f"the pictures of miniature-{run} have not been looked at")
    return pd.read_csv(path).set_index(["method", "point"])


def best_local(evidence: Evidence, run: str) -> tuple[str, str]:
    """Perfusion's point with local lock and the highest harmonic mean."""
    grid = evidence.grid(run)
    return grid.points[max(rows(grid, "perfusion", "local"), key=lambda m: grid.balanced["harmonic"][0, m])]


def interval_of(row: pd.Series, name: str) -> Interval:
    return Interval(row[name], row[f"{name}_lo"], row[f"{name}_hi"])


@claim("The generative prior is preserved", "5.2, Appendix I",
       "Frechet distance from renders of what was asked for, Perfusion minus the plain word; harm is a quarter of the "
       "plain word's own distance")  # fmt: skip
def preserved(evidence: Evidence) -> Finding:
    frame = looked(evidence, "paper")
    harm = interval_of(frame.loc[best_local(evidence, "paper")], "harm")
    own = float(frame.loc[(FLOOR, "default"), "frechet"])
    loss = Interval(-harm.value, -harm.hi, -harm.lo)
    return Finding(f"{told(harm)}, where the plain word has {own:.3f}", no_loss(loss, own / 4))


@claim("Eight samples suffice for several good ones", "6.2, Fig. 14",
       "share of cells with two or more of eight images that show the instance and all that was asked for")  # fmt: skip
def suffice(evidence: Evidence) -> Finding:
    row = looked(evidence, "paper").loc[best_local(evidence, "paper")]
    several, good = interval_of(row, "several"), row["good"]
    over_half = Interval(several.value - 0.5, several.lo - 0.5, several.hi - 0.5)
    text = f"{several.value:.0%} ({several.lo:.0%} to {several.hi:.0%}); {good:.0%} of all images"
    return Finding(text, more(over_half))


@claim("A concept takes the outline of an unusual super-category", "6.2, Fig. 13",
       "pot as clock and shoe, cat as lamp: share of images that the judge takes for the new kind; image similarity "
       "above the plain word's")  # fmt: skip
def inherits(evidence: Evidence) -> Finding:
    grid = evidence.grid("unusual")
    image = gain(grid, "image_sim", rows(grid, "perfusion", "local"), grid.rows(FLOOR))
    outline = interval_of(looked(evidence, "unusual").loc[best_local(evidence, "unusual")], "outline")
    over_half = Interval(outline.value - 0.5, outline.lo - 0.5, outline.hi - 0.5)
    return Finding(f"outline {outline.value:.0%}, image {told(image)}", all_of([more(over_half), more(image)]))


@claim("DreamBooth is below Perfusion and Custom Diffusion on both axes", "5.1, Fig. 6",
       "DreamBooth minus each; Perfusion at its point nearest to DreamBooth's image similarity")  # fmt: skip
def below(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    db, image = rows(grid, "db"), grid.balanced["image_sim"][0]
    near = [min(rows(grid, "perfusion"), key=lambda m: abs(image[m] - image[db[0]]))]
    parts = {name: [gain(grid, metric, db, them) for metric in ("text_sim", "image_sim")]
             for name, them in (("perfusion", near), ("cd", rows(grid, "cd")))}  # fmt: skip
    figure = "; ".join(f"{name}: text {told(text)}, image {told(sim)}" for name, (text, sim) in parts.items())
    return Finding(figure, all_of([less(part) for pair in parts.values() for part in pair]))


@claim("100 KB a concept, where Custom Diffusion needs a thousand times as much", "abstract, Table of sizes",
       "kilobytes of a trained concept here; docs/baselines.md has those on Stable Diffusion 1.5")  # fmt: skip
def small(evidence: Evidence) -> Finding:
    size = evidence.run("paper").table.groupby("method")["kilobytes"].max()
    ours, theirs = size["perfusion"], size["cd"]
    return Finding(f"{ours:,.1f} kB against {theirs:,.0f} kB", HOLDS if ours < theirs / 10 else FAILS)


@claim("Less compute than Custom Diffusion", "5, 4.4",
       "mean seconds of a fit, Perfusion's validation included, class images of Custom Diffusion not")  # fmt: skip
def cheap(evidence: Evidence) -> Finding:
    seconds = evidence.run("paper").table.groupby("method")["train_seconds"].max()
    ours, theirs = seconds["perfusion"], seconds["cd"]
    return Finding(f"{ours:.0f} s against {theirs:.0f} s", HOLDS if ours < theirs else FAILS)


def ledger(evidence: Evidence) -> list[Row]:
    """Every claim with what was found."""
    found = []
    for says, where, measure, find in CLAIMS:
        try:
            finding = find(evidence)
        except UserError as reason:
            finding = Finding(str(reason), ABSENT)
        found.append(Row(says, where, measure, finding))
    return found
