"""What the regression gate catches and what it lets through: `python -m
benchmarks.tables.gate_simulation` writes the tables of docs/statistics.md.

In: a committed reference with its check.toml. Out: shares of simulated runs that FAIL, and that
fail with --strict, of repeats that lost nothing and of runs that lost something somewhere.

A cell of a repeat is the reference's, and noise of that cell alone; as large as check.toml allows:
as many repeats as it was made from give its margins or its floors. Long tails are those of
Student's t with 3 degrees of freedom: a few cells go far. Verdicts are of the gate's own code.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.disk import write_whole
from benchmarks.tables.comparable import scored
from benchmarks.tables.gate import allowed, paired
from benchmarks.tables.grid import FLOOR
from benchmarks.tables.judging import FAIL, INCONCLUSIVE, Scores, judge
from benchmarks.tables.margins import LIMITS, OTHER_SEED, Margin, Margins, read_margins
from benchmarks.tables.run_view import Run
from benchmarks.tables.table_text import aligned

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "statistics.md"
BEGIN, END = "<!-- gate: begin -->", "<!-- gate: end -->"
DRAWS, REPEATS, SIZED = 200, 1000, 100  # of a loss, of nothing lost, to size the noise
LOSSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
DF = 3  # of the noise
IMAGE, TEXT = "image_sim", "text_sim_raw"
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Where = Callable[[Scores], np.ndarray]  # [C, P] 1 where the loss is planted


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(DF, shape) / np.sqrt(DF / (DF - 2))


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


@dataclass(frozen=True)
class World:
    """The layout of a reference's operating points, and its limits."""

    points: Mapping[str, tuple[Scores, ...]]  # metric -> one for each operating point
    limits: Margins
    repeats: int  # that the margins were made of
    sd: Mapping[str, float]  # of one image in its cell, pooled
    images: int
    text: float  # raw text similarity of `super`: what a relative loss is in

    def drawn(self, metric: str, rng: np.random.Generator, noise: Noise, sd: float) -> list[Scores]:
        """Operating points of two runs that differ by chance."""
        return [
            replace(s, now=s.before + sd * (noise(rng, s.before.shape)
                                            - noise(rng, s.before.shape)))
            for s in self.points[metric]
        ]  # fmt: skip


@cache
def world_of(folder: Path, name: str) -> World:
    run = Run(folder)
    cells = scored(run.cells)
    cells = cells[cells["method"].isin([*{*cells["method"]} - {FLOOR}])]
    points: dict[str, tuple[Scores, ...]] = {IMAGE: (), TEXT: ()}
    for key, scores in paired(cells, cells).items():
        points[key[3]] += (scores,)
    title, limits = read_margins(folder, name, name)
    base = scored(run.cells).query("method == @FLOOR and metric == @TEXT")["mean"].mean()
    sd = {str(m): float(np.sqrt((own["sd"] ** 2).mean())) for m, own in cells.groupby("metric")}
    return World(
        points, limits, repeats_of(folder, title), sd, int(cells["n"].iloc[0]), float(base)
    )


def repeats_of(folder: Path, name: str) -> int:
    import tomllib

    told = tomllib.loads((folder / "check.toml").read_text(encoding="utf-8"))
    return len(told[name]["runs"])


def calibrated(
    world: World, metric: str, rng: np.random.Generator, noise: Noise, sd: float, repeats: int
) -> Margin:
    """The limits that so many repeats would give, not rounded."""
    scores = world.points[metric]
    made = [[sd * noise(rng, s.before.shape) for s in scores] for _ in range(repeats)]
    found = [
        allowed(replace(s, before=s.before + a, now=s.before + b))
        for i, one in enumerate(made)
        for other in made[:i]
        for s, a, b in zip(scores, one, other)
    ]
    return Margin(*(max(getattr(m, part) for m in found) for part in LIMITS))


def noise_of(world: World, metric: str, noise: Noise, rng: np.random.Generator) -> float:
    """The standard deviation of a cell's noise with which repeats like those of check.toml give its
    margin, its floor and its limit of a prompt, in the middle of many tries; the smallest of them,
    as limits are rounded up and none is under two thousandths.
    """
    limit = world.limits[metric]
    tries = [calibrated(world, metric, rng, noise, 1.0, world.repeats) for _ in range(SIZED)]
    told = [part for part in LIMITS if getattr(limit, part) is not None]
    middle = {part: float(np.median([getattr(one, part) for one in tries])) for part in told}
    return min(getattr(limit, part) / middle[part] for part in told)


def shares(
    world: World,
    metric: str,
    limit: Margin,
    noise: Noise,
    sd: float,
    rng: np.random.Generator,
    n: int,
    loss: float = 0.0,
    where: Where | None = None,
) -> tuple[float, float]:
    """Of n runs: that FAIL, and that fail with --strict."""
    failed, open_ = 0, 0
    for _ in range(n):
        verdicts = set()
        for s in world.drawn(metric, rng, noise, sd):
            lost = s if where is None else replace(s, now=s.now - loss * where(s))
            verdicts |= {one.verdict for one in judge(("", "", "", metric), lost, limit)}
        failed += FAIL in verdicts
        open_ += FAIL in verdicts or INCONCLUSIVE in verdicts
    return failed / n, open_ / n


# ---- where a loss may lie ----


def everywhere(s: Scores) -> np.ndarray:
    return np.ones(s.before.shape)


def concepts(n: int) -> Where:
    return lambda s: (np.arange(len(s.concepts)) < n)[:, None] * everywhere(s)


def kind(name: str) -> Where:
    return lambda s: (s.kinds == name)[None] * everywhere(s)


def one_prompt(name: str) -> Where:
    """The prompt of a kind that most concepts have."""

    def where(s: Scores) -> np.ndarray:
        count = (~np.isnan(s.before)).sum(0) * (s.kinds == name)
        return (np.arange(len(s.prompts)) == count.argmax())[None] * everywhere(s)

    return where


def one_cell(s: Scores) -> np.ndarray:
    return one_prompt("shape")(s) * concepts(1)(s)


PLACES: dict[str, tuple[tuple[str, ...], Where]] = {
    "all": ((IMAGE, TEXT), everywhere),
    "one concept": ((IMAGE, TEXT), concepts(1)),
    "three concepts": ((IMAGE, TEXT), concepts(3)),
    "deform prompts only": ((TEXT,), kind("deform")),
    "shape prompts only": ((TEXT,), kind("shape")),
    "one shape prompt, all concepts": ((IMAGE, TEXT), one_prompt("shape")),
    "one deform prompt, seven concepts": ((TEXT,), one_prompt("deform")),
    "one cell": ((IMAGE, TEXT), one_cell),
}


def percent(share: tuple[float, float]) -> str:
    failed, strict = (f"{100 * one:.0f}" for one in share)
    return failed if failed == strict else f"{failed} / {strict}"


def unit(world: World, metric: str) -> float:
    return world.text if metric == TEXT else 1.0


def detection(world: World, n: int, places: Iterable[str]) -> list[list[str]]:
    """Rows: where, the axis, and the shares of each loss."""
    sd = {m: noise_of(world, m, normal, np.random.default_rng(1)) for m in (IMAGE, TEXT)}
    rows = []
    for place in places:
        metrics, where = PLACES[place]
        for metric in metrics:
            rng = np.random.default_rng([2, *map(ord, place + metric)])
            rows.append([place, "image" if metric == IMAGE else "text"])
            for loss in LOSSES:
                planted = loss * unit(world, metric)
                share = shares(world, metric, world.limits[metric], normal, sd[metric], rng, n,
                               planted, where)  # fmt: skip
                rows[-1].append(percent(share))
    return rows


def false_alarms(worlds: Mapping[str, World], n: int) -> list[list[str]]:
    rows = []
    for name, world in worlds.items():
        for words, noise in (("normal", normal), ("with long tails", heavy)):
            rng = np.random.default_rng(3)
            both = []
            for metric in (IMAGE, TEXT):
                sd = noise_of(world, metric, noise, rng)
                both.append(shares(world, metric, world.limits[metric], noise, sd, rng, n))
            rows.append(
                [name, words]
                + [f"{100 * one:.1f}" for pair in both for one in pair]
            )  # fmt: skip
    return rows


def of_other_seeds(world: World, n: int, repeats: int = 5) -> list[list[str]]:
    """[other-seed] margins of five repeats whose images are all others: the noise is that of the
    reference's own images in their cells.
    """
    rows = []
    for metric in (IMAGE, TEXT):
        rng = np.random.default_rng(4)
        sd = world.sd[metric] / np.sqrt(world.images)
        limit = calibrated(world, metric, rng, normal, sd, repeats)
        rows.append(["image" if metric == IMAGE else "text", f"{limit.margin:.3f}"])
        for loss in (0.0, *LOSSES[2:]):
            planted = loss * unit(world, metric)
            share = shares(world, metric, limit, normal, sd, rng, n, planted, everywhere)
            rows[-1].append(percent(share))
    return rows


def tables(draws: int, repeats: int) -> str:
    quick = world_of(ROOT / "results" / "miniature-quick", "same-weights")
    start = world_of(ROOT / "results" / "miniature-quickstart", "retrained")
    losses = [f"{loss:g}" for loss in LOSSES]
    alarms = false_alarms({"miniature-quick": quick, "miniature-quickstart": start}, repeats)
    heads = ["reference", "noise", "image FAIL", "or undecided", "text FAIL", "or undecided"]
    seeds = ["axis", "margin", "0", *losses[2:]]
    return "\n\n".join(
        [
            f"Repeats that lost nothing, {repeats:,} of each: % that FAIL, and % that FAIL or are "
            f"undecided (what `--strict` fails).",
            aligned([heads, *alarms]),
            f"Losses in Perfusion's four operating points, against `results/miniature-quick`: % of "
            f"{draws} runs that FAIL (after the stroke, where it differs: that fail with "
            f"`--strict`).",
            aligned([["where", "axis", *losses], *detection(quick, draws, PLACES)]),
            f"Another seed, with `[{OTHER_SEED}]` margins of five repeats: the same of losses "
            f"everywhere.",
            aligned([seeds, *of_other_seeds(quick, draws)]),
        ]
    )


def main() -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    write_whole(PAGE, f"{before}{BEGIN}\n\n{tables(DRAWS, REPEATS)}\n\n{END}{after}")
    print(PAGE)


if __name__ == "__main__":
    main()
