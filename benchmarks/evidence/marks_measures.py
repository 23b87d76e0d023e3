"""Whether marks of an instance survive when a picture of it is encoded, noised and drawn again: is
what the models draw still this instance, or any of its class?

In: an open backbone, judges, renders of instances in several scenes. Out: `Figure`s, and a row a
picture. Captions name a class, and at times a colour or a pattern. What else of an instance is
still there, the VAE kept and the U-Net read out of the noisy latent. Guidance leads away from what
the caption does not say. So pictures are also drawn anew without it, which was added once the
figure with it was known, and has no goal.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.evidence.miniature_measures import (
    POOL,
    Figure,
    Rows,
    auc,
    mean_figure,
    round_trip,
)
from benchmarks.evidence.segmenter_measures import redrawn
from benchmarks.miniature.training.judges import Judges
from benchmarks.miniature.world.instance import make_instance, stream
from benchmarks.miniature.world.language import caption
from benchmarks.miniature.world.picture import Picture
from benchmarks.miniature.world.scenes import SCENES
from perfusion_core.backbone import Backbone

# The share of the protocol's steps that are drawn anew. At half of them the noise has one and a
# half times the latent's spread, so what is finer than the outline has to be told from noise. The
# thing keeps its place and outline: the segmenter's overlap with the render's mask was 0.68 at 0.4
# and 0.61 at 0.6, and beyond that a picture is another one.
MIDDLE = 0.5
# Written before anything was measured: of what the judge tells above chance on fresh renders, four
# fifths are still told. There its AUC is 0.992 (results/miniature-verify), so 0.5 + 0.8 * 0.492. In
# words: nine times in ten a picture drawn anew is nearer to its own instance than to another. The
# number stays when judges or VAE change, so that a worse one cannot lower it.
KEPT = 0.89
WHAT = "marks of an instance"


def marks(
    backbone: Backbone, judges: Judges, sets: Sequence[tuple], again: int
) -> tuple[list[Figure], Rows]:
    """Of every class, `again` pictures of each instance: as they are, through the VAE, and drawn
    anew. Each is compared with fresh renders in other scenes, of its instance and of the others.

    `sets`: class, pictures, instance, scene (miniature_measures.instances).
    """
    ways = {
        "fresh renders": lambda pictures, texts: pictures,
        "round trips": lambda pictures, texts: round_trip(backbone, pictures),
        f"drawn anew, strength {MIDDLE:g}, without guidance": lambda pictures, texts: redrawn(
            backbone, pictures, texts, MIDDLE, guidance=1
        ),
        f"drawn anew, strength {MIDDLE:g}": lambda pictures, texts: redrawn(
            backbone, pictures, texts, MIDDLE
        ),
    }
    told: dict[str, dict[str, float]] = {way: {} for way in ways}
    rows: Rows = []
    for cls, pictures, who, where in sets:
        known = judges.identity(pictures)
        some = first_of_each(who, again)
        texts = [true_caption(cls, int(who[k]), int(where[k])) for k in some]
        for way, make in ways.items():
            cosine = judges.identity(make(pictures[some], texts)) @ known.T
            own, others = pairs_apart(cosine, who[some], where[some], who, where)
            told[way][cls] = auc(cosine[own], cosine[others])
            rows += [
                {
                    "class": cls,
                    "instance": int(who[k]),
                    "prompt": texts[n],
                    "way": way,
                    "own": f"{cosine[n][own[n]].mean():.4f}",
                    "others": f"{cosine[n][others[n]].mean():.4f}",
                }
                for n, k in enumerate(some)
            ]
    return figures(told, sum(row["way"] == "fresh renders" for row in rows)), rows


def figures(told: dict[str, dict[str, float]], pictures: int) -> list[Figure]:
    """AUC by way: the mean over classes; of what was drawn anew also the worst. The goal is the
    last way's."""
    found = []
    for way, each in told.items():
        goal = KEPT if way == list(told)[-1] else None
        what = f"{WHAT}: AUC on {way}"
        mean = mean_figure(what, list(each.values()), goal, f"mean over {len(each)} classes")
        found.append(Figure(what, mean.value, pictures, goal, mean.lo, mean.hi, mean.note))
    worst = min(each, key=lambda cls: each[cls])
    return [*found, Figure(f"{what}, worst class", each[worst], pictures // len(each), note=worst)]


def first_of_each(who: np.ndarray, again: int) -> list[int]:
    """Places of the first so many pictures of every instance."""
    each = (np.flatnonzero(who == one)[:again] for one in dict.fromkeys(who.tolist()))
    return [int(k) for some in each for k in some]


def true_caption(cls: str, number: int, scene: int) -> str:
    """What the training's captions would say of one of these renders."""
    picture = Picture(make_instance(cls, (POOL, number)), list(SCENES)[scene])
    return caption(picture, stream("verify", "marks", cls, number, scene))


def pairs_apart(
    cosine: np.ndarray, who: np.ndarray, where: np.ndarray, known: np.ndarray, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """bool [seen, known] twice: pairs in different scenes of one instance, and of two."""
    apart, same = where[:, None] != there, who[:, None] == known
    assert cosine.shape == apart.shape
    return apart & same, apart & ~same
