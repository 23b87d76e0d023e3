"""What is measured of the miniature, on fresh renders and on what its models draw; each function
gives rows of numbers.

In: an open backbone, judges, scorers, how many. Out: `Figure`s, and the single observations behind
them as dicts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import binomtest, rankdata, t

from benchmarks.miniature.opening import drawn
from benchmarks.miniature.training.judge_data import draw_judged
from benchmarks.miniature.training.judges import JUDGED, Judges
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.language import (
    ACTIVITY,
    CONDITION,
    LOOK,
    MADE_OF,
    OUTFIT,
    PLACE,
    article,
    read,
)
from benchmarks.miniature.world.picture import (
    CONCEPT_CLASSES,
    Picture,
    draw_random,
    held_out,
    render,
)
from benchmarks.miniature.world.scenes import SCENES
from benchmarks.scoring.scorers import Clip
from benchmarks.suite.catalog import Catalog, Prompt, fill, leave_out
from perfusion_core.backbone import Backbone
from perfusion_core.sampling import as_float, decode

POOL = "verify"  # instances that nothing was trained on
DRAWS = 2000  # of the bootstrap
WORDS = {
    "material": MADE_OF,
    "style": LOOK,
    "wear": OUTFIT,
    "do": ACTIVITY,
    "state": CONDITION,
    "scene": PLACE,
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One line of the table. `goal` is what the project set itself; None: told for information."""

    what: str
    value: float
    n: int
    goal: float | None = None
    lo: float = float("nan")  # 95 %
    hi: float = float("nan")
    note: str = ""
    below: bool = False  # the goal is an upper bound

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return bool(self.value <= self.goal if self.below else self.value >= self.goal)


def mean_figure(
    what: str, values: Sequence[float] | np.ndarray, goal: float | None = None, note: str = ""
) -> Figure:
    """A mean of independent values with its t interval."""
    v = np.asarray(values, dtype=np.float64)
    half = t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
    return Figure(
        what, float(v.mean()), len(v), goal, float(v.mean() - half), float(v.mean() + half), note
    )


def rate_of(what: str, right: np.ndarray, goal: float | None = None, note: str = "") -> Figure:
    """A share of independent pictures with Wilson's interval."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Figure(
        what, float(right.mean()), len(right), goal, float(interval.low), float(interval.high), note
    )


def share_of(
    what: str, right: np.ndarray, prompts: Sequence[Any], goal: float | None = None, note: str = ""
) -> Figure:
    """A share of pictures; the interval resamples prompts, for pictures of one prompt succeed or
    fail together.
    """
    names, which = np.unique([str(p) for p in prompts], return_inverse=True)
    if right.all() or not right.any():  # resampling would say that nothing else can happen
        sure = rate_of(what, np.full(len(names), right.all()))
        return Figure(what, float(right.mean()), len(right), goal, sure.lo, sure.hi, note)
    hits, counts = np.bincount(which, right.astype(float)), np.bincount(which)
    drawn = stream("bootstrap", what).integers(len(names), size=(DRAWS, len(names)))
    shares = hits[drawn].sum(1) / counts[drawn].sum(1)
    lo, hi = np.percentile(shares, [2.5, 97.5]) if len(names) > 1 else (np.nan, np.nan)
    return Figure(what, float(right.mean()), len(right), goal, float(lo), float(hi), note)


def auc(same: np.ndarray, other: np.ndarray) -> float:
    """The chance that a pair of one instance scores above a pair of two."""
    ranks = rankdata(np.concatenate([same, other]))[: len(same)]
    return float((ranks.sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other)))


# ---- pictures


@torch.inference_mode()
def round_trip(backbone: Backbone, pictures: np.ndarray) -> np.ndarray:
    """Through the VAE and back."""
    out = []
    for k in range(0, len(pictures), 64):
        x = as_float(pictures[k : k + 64]).to(backbone.device, backbone.dtype)
        z = backbone.vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        out.append(decode(backbone, z.float() * backbone.vae.config.scaling_factor))
    return np.concatenate(out)


def harsh(backbone: Backbone, pictures: np.ndarray) -> np.ndarray:
    """The round trip, then a blur over three pixels and noise of six grey levels: worse than what
    the models draw.
    """
    x = round_trip(backbone, pictures).astype(np.float32)
    for axis in (1, 2):
        x = 0.5 * x + 0.25 * (np.roll(x, 1, axis) + np.roll(x, -1, axis))
    x = x + 6 * stream("harsh", len(x)).standard_normal(x.shape, dtype=np.float32)
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def wording(cls: str, kind: str, value: str) -> tuple[str, str]:
    """The prompt for a held-out pair, in the prompts' own phrases, and the factor that it is
    about.
    """
    factor = (
        kind
        if kind != "state"
        else next(f for f, table in WORDS.items() if value in table and f != "scene")
    )
    phrase = WORDS[factor][value][0]
    if factor in ("wear", "do", "scene"):
        text = f"{article(cls)} {phrase}"
    elif factor == "style" and not phrase.startswith("{}"):
        text = article(phrase.format(article(cls)))
    else:
        text = article(phrase.format(cls))
    return text[0].upper() + text[1:], factor


# ---- what the VAE keeps


def vae(backbone: Backbone, n: int) -> list[Figure]:
    rng = stream("verify", "vae")
    pictures = np.stack([render(draw_random(rng, POOL), ("verify", "vae", k))[0] for k in range(n)])
    error = (round_trip(backbone, pictures).astype(np.float64) - pictures) ** 2
    psnr = 10 * np.log10(255**2 / error.mean((1, 2, 3)))
    return [
        mean_figure("VAE: PSNR of fresh renders, dB", psnr, 28.0),
        Figure("VAE: PSNR, the worst twentieth, dB", float(np.percentile(psnr, 5)), n),
    ]


# ---- the judges


def judges_on_renders(backbone: Backbone, judges: Judges, n: int) -> list[Figure]:
    rng, pictures, masks, asked = stream("verify", "judges"), [], [], []
    for k in range(n):
        picture = draw_judged(rng, POOL, style=0.13, material=0.1)  # as often as in the world
        image, mask = render(picture, ("verify", "judges", k))
        pictures.append(image)
        masks.append(mask)
        asked.append(picture)
    renders, truth = np.stack(pictures), np.stack(masks) > 127
    found: list[Figure] = []
    for where, images, goal in (
        ("fresh renders", renders, 0.97),
        ("round trips", harsh(backbone, renders), 0.95),
    ):
        said = judges.factors(images)
        for name in JUDGED:
            right = said[name] == np.array([one_of(picture, name) for picture in asked])
            found.append(rate_of(f"judge of {name}: right on {where}", right, goal))
        a = judges.segment(images)
        seen = truth.any((1, 2))
        iou = (a & truth).sum((1, 2))[seen] / (a | truth).sum((1, 2))[seen]
        found.append(
            mean_figure(
                f"segmenter: IoU on {where}", iou, 0.9 if where == "fresh renders" else None
            )
        )
    return found


def one_of(picture: Picture, factor: str) -> str:
    return picture.one.cls if factor == "cls" else getattr(picture, factor) or "none"


# ---- the same thing or another


def instances(n: int, scenes: int = 4) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Of every concept's class: pictures of n instances in different scenes -> class, pictures,
    instance, scene.
    """
    for cls in CONCEPT_CLASSES:
        rng, pictures, who, where = stream("verify", "instances", cls), [], [], []
        for number in range(n):
            for scene in rng.choice(len(SCENES), scenes, replace=False):
                picture = Picture(make_instance(cls, (POOL, number)), list(SCENES)[scene])
                pictures.append(render(picture, ("verify", cls, number, int(scene)))[0])
                who.append(number)
                where.append(scene)
        yield cls, np.stack(pictures), np.array(who), np.array(where)


def identity(
    sets: Sequence[tuple], features: Any, what: str, goal: float | None, note: str = ""
) -> list[Figure]:
    """AUC of pairs of one instance against pairs of two of a class, all pairs across scenes."""
    each, pairs = {}, 0
    for cls, pictures, who, where in sets:
        v = features(pictures)
        cosine, apart = v @ v.T, np.triu(where[:, None] != where, 1)
        same = who[:, None] == who
        each[cls] = auc(cosine[apart & same], cosine[apart & ~same])
        pairs += int(apart.sum())
    worst = min(each, key=lambda cls: each[cls])
    mean = mean_figure(what, list(each.values()), goal, note or f"mean over {len(each)} classes")
    return [
        Figure(mean.what, mean.value, pairs, goal, mean.lo, mean.hi, mean.note),
        Figure(f"{what}, worst class", each[worst], pairs // len(each), note=worst),
    ]


# ---- what the models draw


def generated(backbone: Backbone, judges: Judges, n: int) -> tuple[list[Figure], Rows]:
    """n pictures of every pair that no training picture showed, judged; the same prompts rendered,
    as a control.
    """
    asked = []
    for cls, pair in sorted(held_out()):
        kind, _, value = pair.partition(":")
        text, factor = wording(cls, kind, value)
        asked += [
            (cls, kind, factor, value, text, int(s))
            for s in stream("verify", text).integers(2**31, size=n)
        ]
    texts, seeds = [row[4] for row in asked], [row[5] for row in asked]
    renders = np.stack(
        [
            render(read(text, seed=seed), ("verify", text, seed))[0]
            for text, seed in zip(texts, seeds)
        ]
    )
    figures: list[Figure] = []
    rows: Rows = [
        dict(zip(("class", "kind", "factor", "value", "prompt", "seed"), row)) for row in asked
    ]
    for where, images in (("drawn", drawn(backbone, texts, seeds)), ("rendered", renders)):
        said = judges.factors(images)
        for k, row in enumerate(rows):
            row[f"class_{where}"], row[f"value_{where}"] = said["cls"][k], said[row["factor"]][k]
        figures += shares(rows, where)
    return figures, rows


GOALS = {
    "class": 0.95,
    "scene": 0.95,
    "style": 0.9,
    "material": 0.9,
    "outfit or activity": 0.8,
    "state": 0.8,
}
PARTS = {
    "scene": ("scene",),
    "style": ("style",),
    "material": ("material",),
    "outfit or activity": ("wear", "do"),
}


def shares(rows: Rows, where: str) -> list[Figure]:
    """Of pictures that show the class and the value that their prompt names."""
    title = "held-out pairs drawn" if where == "drawn" else "control, the same prompts rendered"
    prompts = [row["prompt"] for row in rows]
    right = np.array([row["class"] == row[f"class_{where}"] for row in rows])
    found = [
        share_of(f"{title}: class", right, prompts, GOALS["class"] if where == "drawn" else None)
    ]
    for part, factors in {**PARTS, "state": ("state",)}.items():
        some = [row for row in rows if row["factor"] in factors]
        right = np.array([row["value"] == row[f"value_{where}"] for row in some])
        goal = GOALS[part] if where == "drawn" else None
        found.append(share_of(f"{title}: {part}", right, [row["prompt"] for row in some], goal))
    return found


# ---- what the scorer sees


def looks(scorer: Clip, pictures: np.ndarray) -> np.ndarray:
    parts = [
        scorer.images([Image.fromarray(p) for p in pictures[k : k + 128]])
        for k in range(0, len(pictures), 128)
    ]
    return np.concatenate(parts)


def prompt_renders(
    catalog: Catalog, n: int
) -> Iterator[tuple[str, tuple[Prompt, ...], np.ndarray]]:
    """Of every concept: its class, its group's prompts, n renders of each, of untrained
    instances.
    """
    for concept in catalog.concepts:
        cls, own = concept.super_category, catalog.prompts_for(concept)
        asked = [(fill(p.template, cls), k) for p in own for k in range(n)]
        yield (
            cls,
            own,
            np.stack([render(read(text, seed=(POOL, k)), (POOL, text, k))[0] for text, k in asked]),
        )


def retrieval(
    scorer: Clip,
    asked: Sequence[tuple[str, tuple[Prompt, ...], np.ndarray]],
    name: str,
    judged: bool,
) -> list[Figure]:
    """Top-1 of the right prompt among those of a concept's group, the object word said or left
    out.
    """
    found = []
    wordings: Mapping[str, Any] = {
        "with the object word": fill,
        "without it": lambda template, _: leave_out(template),
    }
    hits: dict[str, dict[str, np.ndarray]] = {how: {} for how in wordings}
    prompts: list[str] = []
    for cls, own, pictures in asked:
        features, n = looks(scorer, pictures), len(pictures) // len(own)
        for how, say in wordings.items():
            said = np.stack([scorer.text(say(p.template, cls)) for p in own])
            hits[how][cls] = (features @ said.T).argmax(1) == np.repeat(np.arange(len(own)), n)
        prompts += [f"{cls} {p.id}" for p in own for _ in range(n)]
    for how, goal in (("with the object word", 0.95), ("without it", 0.9)):
        each = {cls: float(right.mean()) for cls, right in hits[how].items()}
        worst = min(each, key=lambda cls: each[cls])
        what = f"{name}: finds the prompt, {how}"
        found.append(
            share_of(what, np.concatenate(list(hits[how].values())), prompts, note="over pictures")
        )
        n_worst = len(hits[how][worst])
        found.append(
            Figure(
                f"{what}, worst class", each[worst], n_worst, goal if judged else None, note=worst
            )
        )
    return found
