"""Perfusion as a method: pictures of a concept in, a concept file out; and the file put to use at a
run-time point.

Key locking, gated rank-one edits trained as they are used, an online i_star (Sec. 4), and the
paper's ablations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_core.errors import unknown
from perfusion_core.perfusion_settings import BIAS, TEMPERATURE, Config

# a plan reads this file without torch; what trains and draws is imported where it does
if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "perfusion", "Perfusion", 1
TRAINED, PRIOR = True, False
TEXT_SIDE = True
SELECTS, USES_COVARIANCE = True, True
SETTINGS = ("lock", "bias", "temperature")
ONE_FILE = "concept.safetensors"
FILES = {"concept.safetensors": "i_star|embedding|o_v|o_k|super_encoding"}
FAMILY = "perfusion"
SUMMARY = "V of every cross-attention by one vector a layer, and a word; keys stay locked"
FORMAT = "concept.safetensors; load_concepts"
KILOBYTES = 29
CITE = """@inproceedings{tewel2023keylocked,
  author = {Tewel, Yoad and Gal, Rinon and Chechik, Gal and Atzmon, Yuval},
  title = {Key-Locked Rank One Editing for Text-to-Image Personalization},
  booktitle = {ACM SIGGRAPH 2023 Conference Proceedings},
  year = {2023},
  note = {arXiv:2305.01644}
}"""
TUNED = ("lr", "lr_embedding")
FOR_LORA = {"gate": "linear"}  # K and V are then changed by a matrix, and a LoRA is one
STYLE = {
    "colour": "#0072B2",
    "marker": "o",
    "best": "#00456b",
    "locks": {
        "local": {},
        "global": {"colour": "#56B4E9", "marker": "s", "dash": (0, (4, 1.6)), "ink": "#1f78ad"},
    },
}
MINIATURE = Config(lr=0.0075, lr_embedding=0.0015)  # results/first-world/tuning-miniature


def fit(
    backbone: Backbone,
    subject: Subject,
    config: Config,
    out: Path,
    *,
    seed: int,
    prior: Any = None,
    validate: Validation | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave `concept.safetensors` in `out`; -> what goes to fit.json.

    Args:
        subject: the concept's images, masks and super-category.
        config: the recipe.
        seed: of the order of pictures and of all noise.
        prior: class images; Perfusion uses none.
        validate: what picks the best step; without it the last one is kept.
        keep: steps whose state is also saved, under `out/step-<n>/`.
        progress: called with step, steps and loss after each step.
    """
    import torch

    from perfusion_core.prompts import TEMPLATES, named
    from perfusion_core.student import Student
    from perfusion_core.training import Batch, Latents, Recipe, equal_parts, train

    masks = subject.masks_for(config.masks)
    count = equal_parts(config.batch, config.accumulate)
    student = Student(backbone, subject, config)
    few = slice(0, config.images or None)
    masks = None if masks is None else masks[few]
    frames = None if subject.frames is None else subject.frames[few]
    flip = subject.mirrored(config.flip)
    pictures = Latents.of(backbone, subject.images[few], masks, flip=flip, frames=frames)

    def draw(rng: torch.Generator) -> Batch:
        latents, mask, sizes = pictures.draw_told(count, rng)
        which = torch.randint(len(TEMPLATES), (count,), generator=rng).tolist()
        texts = [named(TEMPLATES[n], subject.name) for n in which]
        return Batch(latents, texts, mask, sizes=sizes)

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        student.concept().save(folder / ONE_FILE)

    with student.attached():
        log = train(
            backbone,
            Recipe(config.steps, config.accumulate, checkpointing=config.checkpointing),
            student.groups(),
            draw,
            student.encode,
            seed=seed,
            out=out,
            save=save,
            prepare=student.prepare,
            state={"i_star": student.i_star, "steps": student.steps},
            current=student.current,
            validate=None if config.vanilla_rome else validate,
            keep=keep,
            progress=progress,
            pooled=student.pooled if backbone.text.joint else None,
            masks=student.masks if backbone.text.behind else None,
        )
    return log | {"bytes": (out / ONE_FILE).stat().st_size}


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """Inside the block `{name}` in a text means the concept; gives `write`, which leaves texts as
    they are.

    Args:
        fits: the trained files by concept.
        point: lock, bias and temperature; what is left out is the usual one.
    """
    from perfusion_core.concept import Concept
    from perfusion_core.student import using

    for key in point:
        if key not in ("lock", "bias", "temperature"):
            raise unknown("run-time parameter of perfusion", key, ("lock", "bias", "temperature"))
    concepts = {name: Concept.load(fitted.folder / ONE_FILE) for name, fitted in fits.items()}
    lock, bias = point.get("lock", "local"), point.get("bias", BIAS)
    with using(backbone, concepts, lock, bias, point.get("temperature", TEMPERATURE)) as write:
        yield write
