"""Pictures in which it is known where the concept is: for measures that need the truth and not a
score.

In: a concept of a run and its prompts. Out: `Known`s. The miniature's own concepts are drawn in the
prompts' scenes; any other concept is shown by its concept images and their masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path

import numpy as np

from benchmarks.miniature.shipped import ELEVEN, TUNING, instance_of, photographs
from benchmarks.miniature.world.instance import Instance
from benchmarks.miniature.world.language import read
from benchmarks.miniature.world.picture import Picture, render
from benchmarks.suite.catalog import fill
from benchmarks.suite.image_files import load_image, numbered
from perfusion_core.errors import UserError

PHOTO = "A photo of a {}"  # what is said of a concept image
VISIBLE = 0.01  # share of the picture below which the object is hidden by its scene


@dataclass(frozen=True, eq=False)
class Known:
    """A picture, where the concept is in it, and the text that goes with it."""

    name: str  # the prompt's id, or the concept image's number
    template: str  # "A {cat} on the beach"
    picture: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # uint8 [H, W], 255 on the object


def known_pictures(
    folder: Path, concept: str, super_category: str, templates: Mapping[str, str]
) -> list[Known]:
    """`folder`: the concept's images as the run used them; `templates`: prompt id -> template with
    {concept}.
    """
    if drawn_here(folder, concept):
        found = in_scenes(concept, super_category, templates)
        if found:
            return found
    return photographed(folder, concept)


def drawn_here(folder: Path, concept: str) -> bool:
    """Whether the run's images of a concept are the world's own, and not another concept of the
    same name.
    """
    if concept not in ELEVEN | TUNING:
        return False
    here, ours = pictures_in(folder), photographs(concept)[0]
    return len(here) == len(ours) and all(np.array_equal(a, b) for a, b in zip(here, ours))


def pictures_in(folder: Path) -> list[np.ndarray]:
    """`0.png`, `1.png`, ... of a folder, uint8 [H, W, 3]."""
    return [np.asarray(load_image(path)) for path in numbered(folder)]


def in_scenes(
    concept: str,
    super_category: str,
    templates: Mapping[str, str],
    index: int = 0,
    own: bool = True,
) -> list[Known]:
    """The concept's instance (`own`; else any of its class) drawn in each prompt's scene; prompts
    that the world has no words for are left out. `index`: another picture of the same."""
    found, more = [], (index,) if index else ()
    for prompt, template in templates.items():
        try:
            asked = read(
                template.replace(f"{{{concept}}}", super_category), seed=(concept, prompt, *more)
            )
        except UserError:
            continue
        mine = with_instance(asked, instance_of(concept)) if own else asked
        if mine is None:
            continue
        picture, mask = render(mine, ("known", concept, prompt, *more))
        if mask.mean() >= 255 * VISIBLE:
            found.append(Known(prompt, template, picture, mask))
    return found


def with_instance(picture: Picture, mine: Instance) -> Picture | None:
    """The picture with the concept in the place of the thing of its class, and the mask asked of
    it.
    """
    if picture.one.cls == mine.cls:
        return changed(picture, one=mine, focus=0)
    if picture.other is not None and picture.other.cls == mine.cls:
        return changed(picture, other=mine, focus=1)
    return None


def photographed(folder: Path, concept: str) -> list[Known]:
    """The concept images and their masks."""
    pictures, masks = pictures_in(folder), pictures_in(folder / "masks")
    if not masks:
        raise UserError(
            f"{concept} has no masks in this run, so nobody knows where it is in its images; "
            "`perfbench run --masks clipseg` in another folder makes them"
        )
    template = fill(PHOTO, f"{{{concept}}}")
    pairs: Sequence[tuple[np.ndarray, np.ndarray]] = list(zip(pictures, masks, strict=True))
    return [
        Known(str(number), template, picture, mask[..., 0])
        for number, (picture, mask) in enumerate(pairs)
    ]
