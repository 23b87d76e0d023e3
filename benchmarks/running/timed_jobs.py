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

from benchmarks.planning import methods
from perfusion_core import rank_one
from perfusion_core.backbone import Backbone, cross_attentions, lay_out
from perfusion_core.concept import Concept
from perfusion_core.editing import load_concepts
from perfusion_core.perfusion import Config
from perfusion_core.prompts import TEMPLATES, named, super_encoding, super_token
from perfusion_core.sampling import noise, sample
from perfusion_core.student import Student
from perfusion_core.subject import Subject
from perfusion_core.training import Batch, Latents, Progress, Recipe, train
from perfusion_core.weight_digests import text_shape

WORDS = ("cat", "dog", "teapot")
PROMPTS = {
    0: "a photo of a cat",
    1: "a photo of a {cat}",
    3: "a photo of a {cat} and a {dog} in a {teapot}",
}


# ---- models ----


def random_sd15(device: str, dtype: torch.dtype) -> Backbone:
    """Stable Diffusion 1.5's sizes, all of them, with random weights: for times and bytes, not for
    pictures.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from perfusion_core.single_file import layouts, tokenizer_of

    layout = layouts()[768]
    tokenizer, scheduler = tokenizer_of(layout), DDIMScheduler.from_config(layout["scheduler"])
    torch.manual_seed(0)
    with torch.device(device):
        unet = in_dtype(dtype, lambda: UNet2DConditionModel.from_config(layout["unet"]))
        vae = in_dtype(dtype, lambda: AutoencoderKL.from_config(layout["vae"]))
        encoder = CLIPTextModel(CLIPTextConfig(**layout["text_encoder"]))
    parts = {
        "vae": vae,
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
    }
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe: Any = StableDiffusionPipeline(**parts, **none)
    pipe.set_progress_bar_config(disable=True)
    for model in (unet, vae, encoder):
        model.requires_grad_(False).eval()
    for model in (unet, vae):
        lay_out(model, torch.device(device))
    backbone = Backbone("sd15-random", Path("sd15-random"), None, pipe, torch.device(device), dtype)
    backbone.__dict__["digest"] = "0" * 16
    backbone.__dict__["c_inv"] = torch.eye(768, dtype=torch.float64, device=device)
    # there is no disk
    backbone.__dict__["fresh_unet"] = lambda dtype=torch.float32: copy.deepcopy(unet).to(dtype)
    return backbone


def in_dtype(dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """Made in `dtype` at once: 860 million numbers in float32 first would double the memory."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build()
    finally:
        torch.set_default_dtype(usual)


def random_concept(backbone: Backbone, word: str, seed: int) -> Concept:
    """Of the right sizes, near to its word; training would take the same time to use."""
    rng = torch.Generator().manual_seed(seed)
    encoding = super_encoding(backbone.text_encoder, backbone.tokenizer, word).cpu()
    rows = backbone.text_encoder.get_input_embeddings().weight
    layers = cross_attentions(backbone.unet).values()
    return Concept(
        placeholder=word,
        super_category=word,
        i_star=encoding + 0.1 * torch.randn(encoding.shape, generator=rng),
        embedding=rows[super_token(backbone.tokenizer, word)].detach().cpu(),
        o_v=tuple(torch.randn(layer.to_v.out_features, generator=rng) for layer in layers),
        o_k=None,
        super_encoding=encoding,
        text_digest=backbone.text_digest,
        text_shape=text_shape(backbone.text_encoder),
        backbone=backbone.name,
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
    from diffusers import StableDiffusionPipeline

    parts = dict(backbone.pipe.components)
    parts |= {
        "text_encoder": copy.deepcopy(backbone.text_encoder).to(backbone.dtype),
        "scheduler": backbone.scheduler(),
    }
    pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampling_jobs(backbone: Backbone, batch: int, steps: int) -> dict[str, Callable[[], Any]]:
    concepts = {word: random_concept(backbone, word, n) for n, word in enumerate(WORDS)}
    pipe, seeds = stock_pipeline(backbone), range(batch)
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

        def act() -> float:
            with student.attached():
                return loop(student.groups(), student.encode, prepare=student.prepare)

        return act

    by_text = {named(t, "cat"): backbone.encode([t.replace("{}", "cat")])[0] for t in TEMPLATES}

    def known(texts: list[str]) -> torch.Tensor:
        return torch.stack([by_text[text] for text in texts])

    def lora() -> Callable[[], float]:
        from baselines.lora import adapted

        def act() -> float:
            with adapted(backbone, 4, seed=0) as matrices:
                return loop([{"params": matrices, "lr": 1e-9}], known)

        return act

    def whole() -> Callable[[], float]:
        unet = copy.deepcopy(backbone.unet).float().requires_grad_(True)
        return lambda: loop([{"params": list(unet.parameters()), "lr": 1e-9}], known, unet=unet)

    return dict(zip(TRAINED, (perfusion, lora, whole), strict=True))[name]()


def recipes(backbone: Backbone) -> dict[str, Any]:
    """The Config of every method, as a run on this backbone takes it."""
    small = (backbone.place / "scorer").is_dir()  # as models.find decides
    return {name: methods.recipe(methods.load_method(name), name, {}, small) for name in METHODS}


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
