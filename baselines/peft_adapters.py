"""Adapters of peft beside the attention's weights: pictures of a concept in, peft's own files out.

In: a kind of adapter, its recipe. Out: `adapter_config.json` and `adapter_model.safetensors`, as
`PeftModel.from_pretrained(unet, folder)` opens them; the backbone with the files of several
concepts in it. A file of another kind, or for other layers, is an error (peft_files.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from baselines.fitting import refuse_misfit
from baselines.lora import LAYERS, projections
from baselines.parts import (
    CLASS,
    RARE,
    SLOT,
    Masking,
    beside_class,
    class_pictures,
    frozen_text,
    own_pictures,
    refuse_points,
    refuse_projected,
    spelled,
    stamps,
    with_whole,
)
from baselines.peft_files import ABOUT, WEIGHTS, Kind, read_adapter, write_adapter
from perfusion_core.errors import UserError
from perfusion_core.training import Batch, Recipe, train

if TYPE_CHECKING:
    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

TRAINING = "default"  # peft's name for the adapter that is trained, which no file has


class AdapterRecipe(Masking, Protocol):
    """What the Config of every kind has."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def checkpointing(self) -> bool: ...


# ---- training ----


def train_adapter(
    kind: Kind,
    settings: Mapping[str, Any],
    backbone: Backbone,
    subject: Subject,
    config: AdapterRecipe,
    out: Path,
    *,
    seed: int,
    prior: Any = None,
    prior_weight: float | None = None,
    validate: Validation | None = None,
    keep: Iterable[int] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, and leave what peft opens in `out`; with `prior_weight` beside class images."""
    refuse_projected(kind.method, backbone)
    pictures = own_pictures(backbone, config, subject)
    beside = None
    if prior_weight is not None:
        beside = class_pictures(backbone, kind.method, config, subject, prior)
    words = f"{RARE} {subject.super_category}"
    mine, theirs = f"a photo of {words}", CLASS.format(subject.super_category)

    def draw(rng: torch.Generator) -> Batch:
        count = config.batch
        latents, mask, sizes = pictures.draw_told(count, rng)
        if beside is None:
            return Batch(latents, [mine] * count, mask, sizes=sizes)
        return Batch(
            torch.cat([latents, beside.draw(count, rng)[0]]),
            [mine] * count + [theirs] * count,
            beside_class(mask, count),
            prior=count,
            sizes=with_whole(backbone, sizes, count),
        )

    @contextmanager
    def current() -> Iterator[Write]:
        yield spelled({SLOT: words})

    wanted = kind.config(target_modules=list(LAYERS), **settings)
    with attached(backbone, wanted, seed) as matrices:
        log = train(
            backbone,
            Recipe(
                config.steps,
                prior_weight=1.0 if prior_weight is None else prior_weight,
                weight_decay=config.weight_decay,
                clip=config.clip,
                checkpointing=config.checkpointing,
            ),
            [{"params": matrices, "lr": config.lr}],
            draw,
            frozen_text(backbone, [mine, theirs]),
            seed=seed,
            out=out,
            save=lambda folder: write_adapter(folder, backbone.unet, wanted, TRAINING),
            current=current,
            validate=validate,
            keep=keep,
            progress=progress,
        )
    return log | {"bytes": sum((out / name).stat().st_size for name in (ABOUT, WEIGHTS))}


@contextmanager
def attached(backbone: Backbone, wanted: Any, seed: int) -> Iterator[list[torch.nn.Parameter]]:
    """The U-Net with new matrices beside its attention weights, for the duration."""
    try:
        with seeded(backbone, seed):  # peft draws the first matrices from the global generator
            put_beside(backbone, wanted, TRAINING)
        for layer in adapted_layers(backbone.unet):
            layer.eval()  # no dropout is asked for, which peft would draw numbers for
        matrices = [one for one in backbone.unet.parameters() if one.requires_grad]
        for matrix in matrices:
            matrix.data = matrix.data.float()
        yield matrices
    finally:
        backbone.unet.unload_lora()


@contextmanager
def seeded(backbone: Backbone, seed: int) -> Iterator[None]:
    """Inside the block the global generator starts at a seed; outside it is as it was."""
    with torch.random.fork_rng([backbone.device] if backbone.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def put_beside(backbone: Backbone, wanted: Any, name: str) -> None:
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        # several are meant; a size that does not divide a layer's width becomes the next one
        warnings.simplefilter("ignore")
        inject_adapter_in_model(wanted, backbone.unet, name)


def adapted_layers(unet: torch.nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]


# ---- drawing ----


@contextmanager
def adapters(
    kind: Kind, backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`sks <super-category>` for each placeholder; what the files of several concepts change adds
    up, or is done one after the other where it is no sum: oft turns again, and dora's later lengths
    also scale what the earlier changed."""
    refuse_points(kind.method, point)
    folders = {f"concept_{n}": fitted.folder for n, fitted in enumerate(fits.values())}
    with loaded(kind, backbone, folders):
        for name, folder in folders.items():
            refuse_gaps(kind, backbone, folder, name)
            assert_moved(kind, backbone, name)
        yield spelled({name: f"{RARE} {fitted.super_category}" for name, fitted in fits.items()})


@contextmanager
def loaded(kind: Kind, backbone: Backbone, folders: Mapping[str, Path]) -> Iterator[None]:
    """The U-Net with the files of several folders, by names for peft; its own weights are where
    they were."""
    unet, before = backbone.unet, stamps(backbone)
    try:
        for name, folder in folders.items():
            load(kind, backbone, folder, name)
        for layer in adapted_layers(unet):
            layer.eval()
            layer.set_adapter(list(folders))
        unet.requires_grad_(False)
        plain = {
            key.replace(".base_layer.", "."): stamp
            for key, stamp in stamps(backbone).items()
            if f".{kind.mark}" not in key
        }
        assert plain == before, "a weight of the base is changed"
        yield
    finally:
        unet.unload_lora()


def load(kind: Kind, backbone: Backbone, folder: Path, name: str) -> None:
    """One file's matrices in their places, each of them, and nothing else."""
    from peft import set_peft_model_state_dict

    unet = backbone.unet
    settings, tensors, modules = read_adapter(kind, backbone, folder)
    try:
        with seeded(backbone, 0):  # numbers that the file's take the place of
            put_beside(backbone, kind.config(target_modules=modules, **settings), name)
        if kind.float32:
            for parameter in of_adapter(unet, kind, name).values():
                parameter.data = parameter.data.float()
        found: Any = set_peft_model_state_dict(unet, tensors, name)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} does not fit {backbone.name}, says peft: {told}") from None
    missing = [key for key in found.missing_keys if f".{name}" in key]
    if missing or found.unexpected_keys:
        odd = [*missing, *found.unexpected_keys]
        raise UserError(
            f"{folder}: {len(odd)} matrices are not those that its {ABOUT} tells of, "
            f"such as {odd[0]}"
        )


def refuse_gaps(kind: Kind, backbone: Backbone, folder: Path, name: str) -> None:
    """A file without one of the layers that the method trains is half a concept."""
    mine = of_adapter(backbone.unet, kind, name)
    found = {key.partition(f".{kind.mark}")[0]: () for key in mine}
    wanted = dict.fromkeys(projections(backbone.unet), ())
    refuse_misfit(kind.method, backbone, folder / WEIGHTS, found, wanted)


def of_adapter(unet: torch.nn.Module, kind: Kind, name: str) -> dict[str, torch.nn.Parameter]:
    """The matrices of one adapter, by their names in the U-Net."""
    return {
        key: parameter
        for key, parameter in unet.named_parameters()
        if f".{kind.mark}" in key and name in key.split(".")
    }


def assert_moved(kind: Kind, backbone: Backbone, name: str) -> None:
    """An adapter's matrices are there, and training has moved what was 0."""
    mine = of_adapter(backbone.unet, kind, name)
    moved = [matrix for key, matrix in mine.items() if set(kind.still) & set(key.split("."))]
    assert any(bool(matrix.any()) for matrix in moved), "an adapter changes nothing"
