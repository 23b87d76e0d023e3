"""What `benchmarks.speed` times: pictures with and without concepts, training steps side by side,
every recipe.

In: a backbone. Out: functions to be called again and again; those of trainings give their own
seconds a step.
"""

import copy
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.parts import frozen_text
from benchmarks.planning import methods
from benchmarks.planning.config import PRESETS
from perfusion_core import rank_one
from perfusion_core.backbone import Backbone, cross_attentions
from perfusion_core.concept import Concept
from perfusion_core.editing import load_concepts
from perfusion_core.errors import UserError
from perfusion_core.perfusion import Config
from perfusion_core.prompts import TEMPLATES, named
from perfusion_core.sampling import noise, sample
from perfusion_core.student import Student
from perfusion_core.subject import Subject
from perfusion_core.training import Batch, Latents, Progress, Recipe, train

WORDS = ("cat", "dog", "teapot")
PROMPTS = {
    0: "a photo of a cat",
    1: "a photo of a {cat}",
    3: "a photo of a {cat} and a {dog} in a {teapot}",
}


# ---- models and concepts ----


def random_concept(backbone: Backbone, word: str, seed: int) -> Concept:
    """Of the right sizes, near to its word; training would take the same time to use."""
    rng = torch.Generator().manual_seed(seed)
    text, layers = backbone.text, cross_attentions(backbone.unet)
    encoding = text.super_encoding(word).cpu()
    return Concept(
        placeholder=word,
        super_category=word,
        i_star=encoding + 0.1 * torch.randn(encoding.shape, generator=rng),
        embedding=text.token_vector(word).cpu(),
        o_v=tuple(torch.randn(layer.to_v.out_features, generator=rng) for layer in layers.values()),
        o_k=None,
        super_encoding=encoding,
        text_digest=backbone.text_digest,
        text_shape=text.shape(),
        backbone=backbone.name,
        names=tuple(layers),
    )


# ---- pictures ----


@contextmanager
def forgetful() -> Iterator[None]:
    """The edit without its memory: every projection is computed again at every step."""
    kept = rank_one.Last.get
    rank_one.Last.get = lambda self, encodings, compute: compute()  # type: ignore[method-assign]
    try:
        yield
    finally:
        rank_one.Last.get = kept  # type: ignore[method-assign]


def stock_pipeline(backbone: Backbone) -> Any:
    """As people have it: all of one dtype, the same U-Net and VAE, the protocol's scheduler."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    if backbone.text.behind:
        raise UserError(
            f"the benchmark of speed times the stock pipelines of Stable Diffusion 1.x, 2.x and "
            f"XL, and {backbone.name!r} is of PixArt's or Sana's kind; give another backbone"
        )
    parts = dict(backbone.pipe.components) | {"scheduler": backbone.scheduler()}
    for reader in backbone.text.readers:
        parts[reader.part] = copy.deepcopy(reader.model).to(backbone.dtype)
    if backbone.vae.dtype != backbone.dtype:  # XL's in float16, which the pipeline decodes in more
        parts["vae"] = copy.deepcopy(backbone.vae).to(backbone.dtype)
    kind: Any = StableDiffusionPipeline
    told: dict[str, Any] = {"requires_safety_checker": False}
    if backbone.text.joint:
        kind, zeros = StableDiffusionXLPipeline, "force_zeros_for_empty_prompt"
        told = {zeros: backbone.pipe.config[zeros], "add_watermarker": False}
    pipe: Any = kind(**parts, **told)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampling_jobs(backbone: Backbone, batch: int, steps: int) -> dict[str, Callable[[], Any]]:
    pipe, seeds = stock_pipeline(backbone), range(batch)
    concepts = {word: random_concept(backbone, word, n) for n, word in enumerate(WORDS)}
    call = {
        "num_images_per_prompt": batch,
        "num_inference_steps": steps,
        "guidance_scale": 6.0,
        "output_type": "np",
    }

    def load(into: Any, many: int) -> Any:
        return load_concepts(into, dict(list(concepts.items())[:many]), c_inv=backbone.c_inv)

    def ours(many: int) -> Any:
        with load(backbone.pipe, many):
            return sample(backbone, PROMPTS[many], seeds, steps=steps)

    def alike(rows: int) -> Any:
        """As many pictures, two a prompt: one prompt a batch, or batches of so many rows."""
        texts = [
            f"a photo of a {word} number {n}" for n, word in zip(range(batch // 2), cycle(WORDS))
        ]
        twice = [text for text in texts for _ in range(2)]
        if rows:
            return sample(backbone, twice, seeds, steps=steps, rows=rows)
        return [
            sample(backbone, text, [seeds[2 * n], seeds[2 * n + 1]], steps=steps)
            for n, text in enumerate(texts)
        ]

    def theirs(many: int) -> Any:
        latents = noise(backbone, seeds).to(backbone.device, backbone.dtype)
        with load(pipe, many):
            return pipe(PROMPTS[many], latents=latents, **call)

    def naive(many: int) -> Any:
        with forgetful():
            return theirs(many)

    in_pairs = {
        "`sample`, two pictures a prompt, one prompt a batch": lambda: alike(0),
        f"`sample`, two pictures a prompt, batches of {2 * batch} rows": lambda: alike(2 * batch),
    }
    return {
        "stock pipeline, no concept": lambda: theirs(0),
        "`sample`, no concept": lambda: ours(0),
        "`sample`, 1 concept": lambda: ours(1),
        "`sample`, 3 concepts": lambda: ours(3),
        "stock pipeline + `load_concepts`, 1 concept": lambda: theirs(1),
        "stock pipeline + `load_concepts`, 3 concepts": lambda: theirs(3),
        "the same, edit recomputed at every step, 1 concept": lambda: naive(1),
        "the same, edit recomputed at every step, 3 concepts": lambda: naive(3),
        **(in_pairs if batch % 2 == 0 else {}),
    }


# ---- trainings ----

TRAINED = ("perfusion", "lora rank 4", "full U-Net")  # side by side, on the same batch
# each as its own recipe has it
METHODS = tuple(name for name in methods.BUILT_IN if methods.said(name).trained)
EACH = 4  # steps at a time


def synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_a_step(run: Callable[[Progress], Any], device: torch.device) -> float:
    """Of the steps after the first one: neither what comes before, nor the optimizer's set-up, nor
    saving counts.
    """
    ends: list[float] = []
    run(lambda step, steps, loss: ends.append(synchronised(device)))
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def subject_of(backbone: Backbone) -> Subject:
    """Four pictures of nothing, all of it unmasked."""
    size = backbone.size
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Subject("cat", "cat", images, torch.ones(4, 1, size, size))


def train_job(
    backbone: Backbone, name: str, batch: int, checkpointing: bool
) -> Callable[[], float]:
    """A few training steps of one of TRAINED through the shared loop -> seconds a step."""
    subject = subject_of(backbone)
    pictures = Latents.of(backbone, subject.images, subject.masks)

    def draw(rng: torch.Generator) -> Batch:
        latents, mask = pictures.draw(batch, rng)
        texts = [named(TEMPLATES[n % len(TEMPLATES)], "cat") for n in range(batch)]
        return Batch(latents, texts, mask)

    def loop(
        groups: list[dict[str, Any]], encode: Callable[[list[str]], torch.Tensor], **more: Any
    ) -> float:
        recipe = Recipe(EACH, checkpointing=checkpointing)
        with tempfile.TemporaryDirectory() as out:
            fixed: dict[str, Any] = {
                "seed": 0,
                "out": Path(out),
                "save": lambda folder: None,
                **more,
            }
            return seconds_a_step(
                lambda progress: train(
                    backbone, recipe, groups, draw, encode, progress=progress, **fixed
                ),
                backbone.device,
            )

    def perfusion() -> Callable[[], float]:
        student = Student(backbone, subject, Config())
        more: dict[str, Any] = {"prepare": student.prepare}
        more |= {"pooled": student.pooled} if backbone.text.joint else {}

        def act() -> float:
            with student.attached():
                return loop(student.groups(), student.encode, **more)

        return act

    def lora() -> Callable[[], float]:
        from baselines.lora import adapted

        known = PlainTexts(backbone)

        def act() -> float:
            with adapted(backbone, 4, seed=0) as matrices:
                return loop([{"params": matrices, "lr": 1e-9}], known)

        return act

    def whole() -> Callable[[], float]:
        known = PlainTexts(backbone)

        def act() -> float:  # its copy is there while it trains: ten gigabytes of XL's
            unet = copy.deepcopy(backbone.unet).float().requires_grad_(True)
            return loop([{"params": list(unet.parameters()), "lr": 1e-9}], known, unet=unet)

        return act

    return dict(zip(TRAINED, (perfusion, lora, whole), strict=True))[name]()


class PlainTexts:
    """The templates with a plain cat for {cat}, encoded once for all steps."""

    def __init__(self, backbone: Backbone) -> None:
        self.read = frozen_text(backbone, [self.plain(named(t, "cat")) for t in TEMPLATES])
        pooled = self.read.pooled
        self.pooled = pooled and (lambda texts: pooled(list(map(self.plain, texts))))

    def __call__(self, texts: list[str]) -> torch.Tensor:
        return self.read(list(map(self.plain, texts)))

    @staticmethod
    def plain(text: str) -> str:
        return text.replace("{cat}", "cat")


def recipes(backbone: Backbone) -> dict[str, Any]:
    """The Config of every method that is not refused there, as a run on this backbone takes it; on
    Stable Diffusion XL as its preset says.
    """
    small = (backbone.place / "scorer").is_dir()  # as models.find decides
    joint = backbone.text.joint
    published = PRESETS["sdxl"][1]["fit"] if joint and not small else {}
    return {
        name: methods.recipe(methods.load_method(name), name, published.get(name, {}), small)
        for name in METHODS
        if not (joint and methods.said(name).one_encoder)
    }


def recipe_job(backbone: Backbone, name: str) -> Callable[[], float]:
    """The first steps of a whole fit by its recipe, without validation -> seconds a step."""
    module, size = methods.load_method(name), backbone.size
    config = dataclasses.replace(recipes(backbone)[name], steps=EACH)
    prior = (
        np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
        if module.PRIOR
        else None
    )
    subject = subject_of(backbone)

    def act() -> float:
        with tempfile.TemporaryDirectory() as out:
            return seconds_a_step(
                lambda progress: module.fit(
                    backbone, subject, config, Path(out), seed=0, prior=prior, progress=progress
                ),
                backbone.device,
            )

    return act


def job_of(backbone: Backbone, name: str, batch: int, checkpointing: bool) -> Callable[[], float]:
    """By its name in the table: one of TRAINED, or `recipe of METHOD`."""
    if name in TRAINED:
        return train_job(backbone, name, batch, checkpointing)
    return recipe_job(backbone, name.removeprefix("recipe of "))
