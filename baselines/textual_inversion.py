"""Textual Inversion (Gal et al. 2022): pictures of a concept in, one word's embedding out; nothing
else is learned.

Where two text encoders read the prompt, the word has a vector in each, and both are learned.
The vector is written over an ordinary word's embedding for one call, so every row of the table
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch
    from torch import nn

    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "ti", "Textual Inversion", 1
TRAINED, PRIOR = True, False
TEXT_SIDE = True
SETTINGS = ()
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
TUNED = ("lr",)
FAMILY = "word"
SUMMARY = "one embedding"
FORMAT = "learned_embeds.safetensors; pipe.load_textual_inversion"
FILES = {"learned_embeds.safetensors": r"(?!.+\.(weight|bias|alpha)$).+"}  # any word
KILOBYTES = 3
CITE = """@inproceedings{gal2023image,
  author = {Gal, Rinon and Alaluf, Yuval and Atzmon, Yuval and Patashnik, Or and Bermano, Amit H.
            and Chechik, Gal and Cohen-Or, Daniel},
  title = {An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual
           Inversion},
  booktitle = {ICLR},
  year = {2023},
  note = {arXiv:2208.01618}
}"""
STYLE = {"colour": "#CC79A7", "marker": "D", "dash": (0, (5, 1.2, 1, 1.2)), "ink": "#a64f80"}
FILE = "learned_embeds.safetensors"  # diffusers' name for it


@dataclass(frozen=True)
class Config:
    """rinongal/textual_inversion with its settings for LDM, as the paper has it (Sec. 5)."""

    steps: int = 5000  # README: "in the paper, we use 5k training iterations"
    batch: int = 8  # txt2img-1p4B-finetune.yaml: 4, on two GPUs
    accumulate: int = 1  # micro-batches of batch / accumulate
    lr: float = 0.04  # base_learning_rate 5e-3, which its main.py multiplies by the whole batch
    weight_decay: float = 0.01  # ddpm.py leaves AdamW's default
    flip: bool = True  # personalized.py: flip_p 0.5; here never an asymmetric concept
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})


MINIATURE = Config(steps=300, lr=0.0025)  # results/first-world/tuning-miniature


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
    """Train, and leave what `load_textual_inversion` opens in `out`."""
    import torch

    from baselines.parts import (
        embedding_tensors,
        learned_text,
        own_pictures,
        refuse_projected,
        spoken,
    )
    from perfusion_core.files import write_tensors
    from perfusion_core.prompts import TEMPLATES, Word, named
    from perfusion_core.training import Batch, Recipe, equal_parts, train

    refuse_projected(NAME, backbone)
    count = equal_parts(config.batch, config.accumulate)
    vector = first_vector(backbone, subject.super_category)
    words = {subject.name: Word(subject.super_category, vector)}
    pictures = own_pictures(backbone, config, subject)

    def draw(rng: torch.Generator) -> Batch:
        which = torch.randint(len(TEMPLATES), (count,), generator=rng).tolist()
        latents, mask, sizes = pictures.draw_told(count, rng)
        texts = [named(TEMPLATES[n], subject.name) for n in which]
        return Batch(latents, texts, mask, sizes=sizes)

    @contextmanager
    def current() -> Iterator[Write]:
        with spoken(backbone, words):
            yield lambda template: named(template, subject.name)

    log = train(
        backbone,
        Recipe(
            config.steps,
            config.accumulate,
            weight_decay=config.weight_decay,
            checkpointing=config.checkpointing,
        ),
        [{"params": [vector], "lr": config.lr}],
        draw,
        learned_text(backbone, words),
        seed=seed,
        out=out,
        save=lambda folder: write_tensors(
            folder / FILE,
            embedding_tensors(backbone, f"<{subject.name}>", vector),
            {"format": "pt"},
        ),
        current=current,
        validate=validate,
        keep=keep,
        progress=progress,
    )
    return log | {"bytes": (out / FILE).stat().st_size}


def first_vector(backbone: Backbone, word: str) -> nn.Parameter:
    """The embedding of a word that is one token, to be learned further."""
    from torch import nn

    return nn.Parameter(backbone.text.token_vector(word))


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`sample` resolves the {names}, so the text stays as it is."""
    import torch

    from baselines.fitting import word_in
    from baselines.parts import assert_only, refuse_points, spelled, spoken, stamps
    from perfusion_core.prompts import Word

    refuse_points(NAME, point)
    words = {
        name: Word(fitted.super_category, word_in(NAME, backbone, fitted.folder / FILE))
        for name, fitted in fits.items()
    }
    before = stamps(backbone)
    with spoken(backbone, words):
        assert_only(before, backbone, lambda weight: False)
        for name, fitted in fits.items():
            assert not torch.equal(
                *(said(backbone, word) for word in (f"{{{name}}}", fitted.super_category))
            ), f"{{{name}}} means the same as {fitted.super_category!r}"
        yield spelled({})


def said(backbone: Backbone, text: str) -> torch.Tensor:
    import torch

    from perfusion_core.sampling import text_side

    with torch.no_grad():
        return text_side(backbone, text)[0]
