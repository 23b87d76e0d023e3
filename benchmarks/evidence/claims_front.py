"""Claims about the compared methods: fronts, areas, what the bias and fewer training steps do.

In: Evidence. Out: rows of the ledger.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from benchmarks.evidence.claim_measures import (
    INSIDE,
    LOWER,
    area_gain,
    at_point,
    choice_gain,
    dominating,
    front_gain,
    gain,
    gains,
    rows,
    selected,
)
from benchmarks.evidence.commands import EARLY
from benchmarks.evidence.ledger import Evidence, Find, Finding, both, claim
from benchmarks.evidence.verdicts import LITTLE, all_of, in_order, less, more, told
from benchmarks.planning.points import LOCKS
from benchmarks.tables.grid import FLOOR, Grid
from benchmarks.tables.statistics import Interval
from perfusion_core.errors import UserError

BASELINES = {
    "cd": "Custom Diffusion",
    "db": "DreamBooth",
    "ti": "Textual Inversion",
    "lora": "LoRA",
}
BETTER = "cd-better"  # the paper's name for Custom Diffusion with fewer steps is Better-HP


def _beyond(
    other: str, run: str = "paper", points: Callable[[Grid, str], list[int]] = rows
) -> Find:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        ours = points(grid, "perfusion")
        name = other if other == BETTER else selected(grid, other)
        gaps = [front_gain(grid, ours, m) for m in rows(grid, name)]
        gap, place = min(gaps, key=lambda one: one[0].value)
        verdict = all_of([more(one) for one, _ in gaps])
        if place == INSIDE:
            return Finding(f"{told(gap)} against {name}", verdict)
        area = area_gain(grid, ours, rows(grid, name))
        end = "below the lower end" if place == LOWER else "above the upper end"
        text = f"{told(gap)} against {name}, whose image similarity is {end} of Perfusion's front"
        return Finding(f"{text}{'; neither is beyond the other' * (gap.value == 0)}; "
                       f"area {told(area)}", verdict)  # fmt: skip

    return find


for _other, _label in BASELINES.items():
    claim(
        f"Perfusion's front lies beyond {_label}"
        + (" (not in the paper)" if _other == "lora" else ""),
        "5.1, Fig. 6",
        "text similarity of Perfusion's front (both locks) at the other's image similarity, minus "
        "the other's; its "
        "training steps selected as Perfusion's are",
    )(_beyond(_other))
claim("Perfusion's front lies beyond Custom Diffusion with fewer steps (Better-HP)", "5.1, Fig. 6",
      "the same against four fifths of Custom Diffusion's steps")(_beyond(BETTER))  # fmt: skip
for _other in ("cd", "db", "ti"):
    claim(
        f"Perfusion's front lies beyond {BASELINES[_other]} where the text encoder was not taught "
        f"to keep words apart",
        "5.1, Fig. 6",
        "the same on a copy of the miniature whose text encoder learned as CLIP's did "
        "(docs/miniature.md)",
    )(_beyond(_other, "contrastive"))
for _other, _label in BASELINES.items():
    claim(
        f"Perfusion's front lies beyond {_label}, with the paper's own learning rates",
        "5.1, Fig. 6",
        "the same on the miniature itself; Perfusion's rates are four times those that were "
        "tuned, and its kept steps "
        f"({', '.join(map(str, EARLY))}) are points of its front, which so reaches further in "
        f"image similarity. "
        "Written after the first rows, and before this run",
    )(_beyond(_other, "rates", Grid.rows))


def against(
    parts: Mapping[str, Interval], nearest: Callable[..., str], judge: Callable[[Interval], str]
) -> Finding:
    """Of differences to several methods the one nearest to failing (`min` or `max`) is shown; all
    must pass.
    """
    name = nearest(parts, key=lambda one: parts[one].value)
    return Finding(
        f"{told(parts[name])} against {name}", all_of([judge(part) for part in parts.values()])
    )


@claim("Perfusion covers more of the plane than any other method", "5.1, Fig. 6",
       "hypervolume of its front, minus that of each other method; the smallest difference is "
       "shown, and all must be "
       "above zero. It favours a method with several points")  # fmt: skip
def covers_more(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    names = {name for name, _ in grid.points if name != FLOOR and not name.startswith("perfusion")}
    if missing := [name for name in BASELINES if name not in names]:
        raise UserError(f"no {', '.join(missing)} in the run")
    areas = {
        name: area_gain(grid, rows(grid, "perfusion"), rows(grid, name)) for name in sorted(names)
    }
    return against(areas, min, more)


def _spans(run: str) -> Find:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        mine = rows(grid, "perfusion", "local")
        text, image = gains(grid, mine[-1:], mine[:1])
        steps = [
            (gain(grid, "text_sim", [b], [a]), gain(grid, "image_sim", [a], [b]))
            for a, b in pairwise(mine)
        ]
        right = sum(one.value > 0 and other.value > 0 for one, other in steps)
        order = in_order([one for step in steps for one in step])
        verdict = all_of([more(text, LITTLE), less(image, LITTLE), order])
        return Finding(
            f"text {told(text)}, image {told(image)}, {right} of {len(steps)} steps", verdict
        )

    return find


claim(
    "One trained model spans the front by its bias alone, monotonically",
    "5.1, Fig. 7",
    f"local lock, highest bias minus lowest: text higher and image lower, each by more than "
    f"{LITTLE}; steps of the "
    "bias at which both values move so",
)(_spans("paper"))
claim(
    "So it does from a bias of 0.30 to one of 1.05 (the paper shows 0.60 to 0.75)",
    "5.1, Fig. 7",
    "the same; one image a prompt. Written before this run, when Perfusion's scores at 0.60 and "
    "0.75 on ten prompts "
    "were known",
)(_spans("bias"))


@claim(
    "One trained model spans the front by what is chosen when drawing, the lock included",
    "abstract, 5.1, Fig. 6",
    f"global lock minus local lock at a bias of 0.60: text higher and image lower, each by "
    f"more than {LITTLE}. "
    "Written when all scores were there",
)
def spans_with_locks(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    a, b = (at_point(grid, "perfusion", f"{lock}-b0.60-t0.15") for lock in ("global", "local"))
    text, image = gains(grid, a, b)
    return both(text, image, all_of([more(text, LITTLE), less(image, LITTLE)]))


@claim("Choosing the point for each concept is better still (Best H)", "5.1, Fig. 6",
       "harmonic mean with each concept's own best point, minus the best one for all; chosen on "
       "one half of the "
       "images, reported on the other; t interval over concepts")  # fmt: skip
def chosen(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    better = choice_gain(grid, rows(grid, "perfusion"))
    return Finding(told(better), more(better))


@claim("DreamBooth is below Perfusion and Custom Diffusion on both axes", "5.1, Fig. 6",
       "DreamBooth minus each, training steps selected; of Perfusion's points the one furthest "
       "above it on both "
       "axes")  # fmt: skip
def below(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    db, cd = (rows(grid, selected(grid, name)) for name in ("db", "cd"))
    ours = [dominating(grid, rows(grid, "perfusion"), db[0])]
    parts = {name: gains(grid, db, them) for name, them in (("perfusion", ours), ("cd", cd))}
    figure = "; ".join(
        f"{name}: text {told(text)}, image {told(image)}" for name, (text, image) in parts.items()
    )
    return Finding(figure, all_of([less(part) for pair in parts.values() for part in pair]))


@claim("Textual Inversion has the lowest text similarity", "5.1, Fig. 6",
       "its text similarity minus that of Custom Diffusion, DreamBooth and the mean of "
       "Perfusion's points with either "
       "lock; the largest difference is shown, and all must be below zero")  # fmt: skip
def lowest_text(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    ti = rows(grid, selected(grid, "ti"))
    others = {name: rows(grid, selected(grid, name)) for name in ("cd", "db")}
    others |= {f"perfusion, {lock} lock": rows(grid, "perfusion", lock) for lock in LOCKS}
    parts = {name: gain(grid, "text_sim", ti, them) for name, them in others.items()}
    return against(parts, max, less)


@claim(
    "Custom Diffusion favours image similarity, at the cost of text similarity",
    "5.1, Fig. 6",
    "Custom Diffusion as tuned, its step not selected, minus the mean of Perfusion's points with "
    "either lock",
)
def favours_image(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    parts = {lock: gains(grid, rows(grid, "cd"), rows(grid, "perfusion", lock)) for lock in LOCKS}
    figure = "; ".join(
        f"{lock}: text {told(text)}, image {told(image)}" for lock, (text, image) in parts.items()
    )
    return Finding(
        figure,
        all_of([judged for text, image in parts.values() for judged in (less(text), more(image))]),
    )


@claim("Custom Diffusion with fewer steps moves towards text similarity (Better-HP)", "5.1, Fig. 6",
       "four fifths of its steps minus all of them")  # fmt: skip
def fewer_steps(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    few, all_steps = rows(grid, "cd-better"), rows(grid, "cd")
    text, image = gains(grid, few, all_steps)
    return both(text, image, more(text))
