"""Claims that the scores of runs can tell: fronts, locks, ablations, training dynamics, pairs, transfer.

In: Evidence. Out: rows of the ledger.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from scipy.stats import ttest_ind

from benchmarks.evidence.ledger import Evidence, Find, Finding, both, claim
from benchmarks.evidence.measures import (
    INSIDE,
    LOWER,
    area_gain,
    cell_gain,
    choice_gain,
    dominating,
    ends,
    front_gain,
    gain,
    honest_gain,
    matched,
    rows,
    selected,
    spread_gain,
)
from benchmarks.evidence.verdicts import LITTLE, SLIGHT, all_of, flipped, in_order, less, more, no_loss, told
from benchmarks.grid import FLOOR
from benchmarks.stats import Interval
from perfusion_core.errors import UserError

BASELINES = {"cd": "Custom Diffusion", "db": "DreamBooth", "ti": "Textual Inversion", "lora": "LoRA"}
BETTER = "cd-better"  # the paper's name for Custom Diffusion with fewer steps is Better-HP
ODD = ("tortoise", "sculpture", "cat_toy")  # uniquely shaped: Fig. A.4 names the tortoise, the others are our reading
EVERYDAY = ("cat", "dog", "puppy", "teddy", "chair")  # Appendix F: pets, teddy bears, chairs
Judge = Callable[[Interval, Interval], str]  # of a difference in text, and one in image similarity


# ---- 5.1: the compared methods


def _beyond(other: str, run: str = "paper") -> Find:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        name = other if other == BETTER else selected(grid, other)
        gaps = [front_gain(grid, rows(grid, "perfusion"), m) for m in rows(grid, name)]
        gap, place = min(gaps, key=lambda one: one[0].value)
        verdict = all_of([more(one) for one, _ in gaps])
        if place == INSIDE:
            return Finding(f"{told(gap)} against {name}", verdict)
        area = area_gain(grid, rows(grid, "perfusion"), rows(grid, name))
        end = "below the lower end" if place == LOWER else "above the upper end"
        text = f"{told(gap)} against {name}, whose image similarity is {end} of Perfusion's front"
        return Finding(f"{text}{'; neither is beyond the other' * (gap.value == 0)}; "
                       f"area {told(area)}", verdict)  # fmt: skip

    return find


for _other, _label in BASELINES.items():
    claim(
        f"Perfusion's front lies beyond {_label}" + (" (not in the paper)" if _other == "lora" else ""),
        "5.1, Fig. 6",
        "text similarity of Perfusion's front (both locks) at the other's image similarity, minus the other's; its "
        "training steps selected as Perfusion's are",
    )(_beyond(_other))
claim("Perfusion's front lies beyond Custom Diffusion with fewer steps (Better-HP)", "5.1, Fig. 6",
      "the same against four fifths of Custom Diffusion's steps")(_beyond(BETTER))  # fmt: skip
for _other in ("cd", "db", "ti"):
    claim(
        f"Perfusion's front lies beyond {BASELINES[_other]} where the text encoder was not taught to keep words apart",
        "5.1, Fig. 6",
        "the same on a copy of the miniature whose text encoder learned as CLIP's did (docs/miniature.md)",
    )(_beyond(_other, "contrastive"))


def against(parts: Mapping[str, Interval], nearest: Callable[..., str], judge: Callable[[Interval], str]) -> Finding:
    """Of differences to several methods the one nearest to failing (`min` or `max`) is shown; all must pass."""
    name = nearest(parts, key=lambda one: parts[one].value)
    return Finding(f"{told(parts[name])} against {name}", all_of([judge(part) for part in parts.values()]))


@claim("Perfusion covers more of the plane than any other method", "5.1, Fig. 6",
       "hypervolume of its front, minus that of each other method; the smallest difference is shown, and all must be "
       "above zero. It favours a method with several points")  # fmt: skip
def covers_more(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    names = {name for name, _ in grid.points if name != FLOOR and not name.startswith("perfusion")}
    if missing := [name for name in BASELINES if name not in names]:
        raise UserError(f"no {', '.join(missing)} in the run")
    areas = {name: area_gain(grid, rows(grid, "perfusion"), rows(grid, name)) for name in sorted(names)}
    return against(areas, min, more)


def _spans(run: str) -> Find:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid(run)
        mine = rows(grid, "perfusion", "local")
        text, image = (gain(grid, metric, mine[-1:], mine[:1]) for metric in ("text_sim", "image_sim"))
        steps = [(gain(grid, "text_sim", [b], [a]), gain(grid, "image_sim", [a], [b])) for a, b in pairwise(mine)]
        right = sum(one.value > 0 and other.value > 0 for one, other in steps)
        order = in_order([one for step in steps for one in step])
        verdict = all_of([more(text, LITTLE), less(image, LITTLE), order])
        return Finding(f"text {told(text)}, image {told(image)}, {right} of {len(steps)} steps", verdict)

    return find


claim("One trained model spans the front by its bias alone, monotonically", "abstract, 5.1, Fig. 7",
      f"local lock, highest bias minus lowest: text higher and image lower, each by more than {LITTLE}; steps of the "
      "bias at which both values move so")(
    _spans("paper")
)  # fmt: skip
claim("So it does from a bias of 0.30 to one of 1.05 (the paper shows 0.60 to 0.75)", "abstract, 5.1, Fig. 7",
      "the same; one image a prompt")(_spans("bias"))  # fmt: skip


@claim("Choosing the point for each concept is better still (Best H)", "5.1, Fig. 6",
       "harmonic mean with each concept's own best point, minus the best one for all; chosen on one half of the "
       "images, reported on the other")  # fmt: skip
def chosen(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    better = choice_gain(grid, rows(grid, "perfusion"))
    return Finding(told(better), more(better))


@claim("DreamBooth is below Perfusion and Custom Diffusion on both axes", "5.1, Fig. 6",
       "DreamBooth minus each, training steps selected; of Perfusion's points the one furthest above it on both "
       "axes")  # fmt: skip
def below(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    db, cd = (rows(grid, selected(grid, name)) for name in ("db", "cd"))
    ours = [dominating(grid, rows(grid, "perfusion"), db[0])]
    parts = {name: [gain(grid, metric, db, them) for metric in ("text_sim", "image_sim")]
             for name, them in (("perfusion", ours), ("cd", cd))}  # fmt: skip
    figure = "; ".join(f"{name}: text {told(text)}, image {told(image)}" for name, (text, image) in parts.items())
    return Finding(figure, all_of([less(part) for pair in parts.values() for part in pair]))


@claim("Textual Inversion has the lowest text similarity", "5.1, Fig. 6",
       "its text similarity minus that of Custom Diffusion, DreamBooth and the mean of Perfusion's points; the "
       "smallest difference is shown")  # fmt: skip
def lowest_text(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    ti = rows(grid, selected(grid, "ti"))
    others = {name: rows(grid, selected(grid, name)) for name in ("cd", "db")} | {"perfusion": rows(grid, "perfusion")}
    parts = {name: gain(grid, "text_sim", ti, them) for name, them in others.items()}
    return against(parts, max, less)


@claim("Custom Diffusion favours image similarity, at the cost of text similarity", "5.1, Fig. 6",
       "Custom Diffusion minus the mean of Perfusion's points")  # fmt: skip
def favours_image(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    cd, ours = rows(grid, "cd"), rows(grid, "perfusion")
    text, image = gain(grid, "text_sim", cd, ours), gain(grid, "image_sim", cd, ours)
    return both(text, image, all_of([less(text), more(image)]))


@claim("Custom Diffusion with fewer steps moves towards text similarity (Better-HP)", "5.1, Fig. 6",
       "four fifths of its steps minus all of them")  # fmt: skip
def fewer_steps(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    few, all_steps = rows(grid, "cd-better"), rows(grid, "cd")
    text, image = gain(grid, "text_sim", few, all_steps), gain(grid, "image_sim", few, all_steps)
    return both(text, image, more(text))


# ---- the locks


@claim("Key locking raises text similarity without significant harm to image similarity", "5.1, 5.3 (b), Fig. 9b",
       f"local lock minus trained K at the same biases; harm is more than {LITTLE}")  # fmt: skip
def locking(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    a, b = matched(grid, "perfusion", "perfusion-trained-k", "local")
    text, image = gain(grid, "text_sim", a, b), gain(grid, "image_sim", a, b)
    return both(text, image, all_of([more(text), no_loss(image)]))


@claim("Global locking varies more over concepts than local", "Appendix F, Fig. A.4",
       "standard deviation of image similarity over concepts, global minus local")  # fmt: skip
def varies(evidence: Evidence) -> Finding:
    grid = evidence.grid("paper")
    spread = spread_gain(grid, "image_sim", rows(grid, "perfusion", "global"), rows(grid, "perfusion", "local"))
    return Finding(told(spread), more(spread))


@claim("Global locking struggles with uniquely shaped things", "Appendix F, Fig. A.4",
       f"image similarity lost from local to global lock: {', '.join(ODD)} minus {', '.join(EVERYDAY)}")  # fmt: skip
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


def _ablation(says: str, where: str, measure: str, variant: str, judge: Judge) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("ablations")
        a, b = matched(grid, "perfusion", f"perfusion-{variant}", "local")
        text, image = gain(grid, "text_sim", a, b), gain(grid, "image_sim", a, b)
        return both(text, image, judge(text, image))

    claim(says, where, measure)(find)


_ablation("Training on one image overfits slightly", "5.3 (a), 6.2, Figs. 8, 9a",
          f"all images minus one, {SAME}: text is higher, by less than {SLIGHT}",
          "one-shot", lambda text, image: all_of([more(text), no_loss(flipped(text), SLIGHT)]))  # fmt: skip
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


@claim("Vanilla ROME breaks: what is trained is not what is drawn", "4.1, 6.1, Fig. A.1",
       f"harmonic mean, the mean of Perfusion's local points minus vanilla ROME, whose gate has no bias; it "
       f"breaks where it loses more than {LITTLE}")  # fmt: skip
def vanilla(evidence: Evidence) -> Finding:
    grid = evidence.grid("ablations")
    better = gain(grid, "harmonic", rows(grid, "perfusion", "local"), rows(grid, "perfusion-vanilla-rome"))
    return Finding(told(better), more(better, LITTLE))


# ---- 6: training dynamics, pairs, transfer


def _longer(says: str, measure: str, method: str, judge: Judge) -> None:
    def find(evidence: Evidence) -> Finding:
        grid = evidence.grid("dynamics")
        late, early = ends(grid, method)
        text, image = gain(grid, "text_sim", late, early), gain(grid, "image_sim", late, early)
        return both(text, image, judge(text, image))

    claim(says, "6.2, Fig. 11", measure)(find)


_longer("Trained K overfits as training goes on",
        f"400 steps minus 100: text falls, image does not by more than {LITTLE}",
        "perfusion-trained-k", lambda text, image: all_of([less(text), no_loss(image)]))  # fmt: skip
_longer("Local key locking over-generalises instead", "the same: text rises, image falls",
        "perfusion", lambda text, image: all_of([more(text), less(image)]))  # fmt: skip


@claim("Concepts trained apart combine in one picture, as well as Custom Diffusion's", "6, Fig. 5",
       "pairs: Perfusion's best point (chosen on one half of the images, reported on the other) minus Custom "
       f"Diffusion's merge, a loss being more than {LITTLE}; and the mean of its points minus the plain words, in "
       "image similarity to either concept")  # fmt: skip
def combine(evidence: Evidence) -> Finding:
    grid = evidence.grid("pairs", pairs=True)
    ours, (cd, *_) = rows(grid, "perfusion"), rows(grid, "cd")
    text, image = (honest_gain(grid, metric, ours, cd) for metric in ("text_sim", "image_sim"))
    there = [gain(grid, f"image_sim_{side}", ours, grid.rows(FLOOR)) for side in "ab"]
    verdict, above = all_of([no_loss(text), no_loss(image), *map(more, there)]), ", ".join(map(told, there))
    return Finding(f"text {told(text)}, image {told(image)}; above the plain words {above}", verdict)
