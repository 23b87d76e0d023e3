"""LoRA: pictures of a concept in, matrices of rank 4 beside the attention's weights out; not in the
paper, but in use.

The concept is `sks <super-category>`. peft puts the matrices in, diffusers saves and loads them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch

    from perfusion_core.backbone import Backbone
    from perfusion_core.subject import Fitted, Subject
    from perfusion_core.training import Progress, Validation, Write

NAME, LABEL, VERSION = "lora", "LoRA", 1
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
SETTINGS = ()
TUNED = ("lr",)
FAMILY = "adapter"
SUMMARY = "matrices of rank 4 beside all attention weights"
FORMAT = "pytorch_lora_weights.safetensors; pipe.load_lora_weights"
KILOBYTES = 3_226
CITE = """@inproceedings{hu2022lora,
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan
            and Li, Yuanzhi and Wang, Shean and Wang, Lu and Chen, Weizhu},
  title = {LoRA: Low-Rank Adaptation of Large Language Models},
  booktitle = {ICLR},
  year = {2022},
  note = {arXiv:2106.09685}
}"""
STYLE = {"colour": "#6F4E37", "marker": "P", "dash": (0, (6, 1.5))}
FILE = "pytorch_lora_weights.safetensors"  # diffusers' name for it
# of self- and cross-attention, as in train_dreambooth_lora.py
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Config:
    """diffusers' examples/dreambooth/train_dreambooth_lora.py."""

    steps: int = 500  # README: --max_train_steps=500
    batch: int = 1  # --train_batch_size=1
    lr: float = 1e-4  # --learning_rate=1e-4
    rank: int = 4  # --rank; alpha is the same, so the matrices' product counts once
    weight_decay: float = 0.01  # --adam_weight_decay
    clip: float = 1.0  # --max_grad_norm
    flip: bool = False  # train_dreambooth_lora.py never mirrors
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is. A recipe may leave it out.
    masks: bool = field(default=False, metadata={"later": True})


MINIATURE = Config(steps=75, batch=4, lr=4e-3)  # results/first-world/tuning-miniature


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
    """Train, and leave what `load_lora_weights` opens in `out`."""
    from baselines.parts import RARE, SLOT, frozen_text, own_pictures, refuse_projected, spelled
    from perfusion_core.training import Batch, Recipe, train

    refuse_projected(NAME, backbone)
    pictures = own_pictures(backbone, config, subject)
    words = f"{RARE} {subject.super_category}"
    text = f"a photo of {words}"

    def draw(rng: torch.Generator) -> Batch:
        latents, mask, sizes = pictures.draw_told(config.batch, rng)
        return Batch(latents, [text] * config.batch, mask, sizes=sizes)

    @contextmanager
    def current() -> Iterator[Write]:
        yield spelled({SLOT: words})

    with adapted(backbone, config.rank, seed) as matrices:
        log = train(
            backbone,
            Recipe(
                config.steps,
                weight_decay=config.weight_decay,
                clip=config.clip,
                checkpointing=config.checkpointing,
            ),
            [{"params": matrices, "lr": config.lr}],
            draw,
            frozen_text(backbone, [text]),
            seed=seed,
            out=out,
            save=lambda folder: save(backbone.unet, folder),
            current=current,
            validate=validate,
            keep=keep,
            progress=progress,
        )
    return log | {"bytes": (out / FILE).stat().st_size}


@contextmanager
def adapted(backbone: Backbone, rank: int, seed: int) -> Iterator[list[torch.nn.Parameter]]:
    """The U-Net with new matrices beside its attention weights, for the duration."""
    import torch
    from peft import LoraConfig

    unet = backbone.unet
    recipe = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LAYERS)
    )
    with torch.random.fork_rng([backbone.device] if backbone.device.type == "cuda" else []):
        torch.manual_seed(seed)  # peft draws the first matrices from the global generator
        unet.add_adapter(recipe)
    try:
        matrices = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        for matrix in matrices:
            matrix.data = matrix.data.float()
        yield matrices
    finally:
        unet.unload_lora()


def save(unet: Any, folder: Path, file: str = FILE) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    matrices = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=matrices, weight_name=file)


@contextmanager
def apply(
    backbone: Backbone, fits: Mapping[str, Fitted], point: Mapping[str, Any]
) -> Iterator[Write]:
    """`sks <super-category>` for each placeholder; the matrices of several concepts add up, as
    diffusers adds them.
    """
    from baselines.parts import RARE, refuse_points, spelled, stamps

    refuse_points(NAME, point)
    before = stamps(backbone)
    with beside(backbone, [fitted.folder / FILE for fitted in fits.values()]):
        assert_applied(backbone, before, len(fits))
        yield spelled({name: f"{RARE} {fitted.super_category}" for name, fitted in fits.items()})


@contextmanager
def beside(backbone: Backbone, files: Sequence[Path]) -> Iterator[None]:
    """The matrices of these files beside the U-Net's weights, for the duration."""
    unet = backbone.unet
    adapters = [f"concept_{n}" for n in range(len(files))]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
            for adapter, file in zip(adapters, files, strict=True):
                unet.load_lora_adapter(
                    file.parent, weight_name=file.name, prefix="unet", adapter_name=adapter
                )
        unet.set_adapters(adapters)
        yield
    finally:
        unet.unload_lora()


def assert_applied(
    backbone: Backbone, before: Mapping[str, tuple[int, int]], concepts: int
) -> None:
    """Every attention projection has matrices of each concept, none of them idle; every weight is
    where it was.
    """
    from baselines.parts import stamps

    after = stamps(backbone)
    beside = {name for name in after if ".lora_" in name}
    plain = {
        name.replace(".base_layer.", "."): stamp
        for name, stamp in after.items()
        if name not in beside
    }
    assert plain == before, "a weight of the base is changed"
    wanted = [
        name
        for name in before
        if name.startswith("unet.") and name.endswith(tuple(f".{s}.weight" for s in LAYERS))
    ]
    assert len(beside) == 2 * concepts * len(wanted), "not every attention layer is adapted"
    ups = [p for name, p in backbone.unet.named_parameters() if ".lora_B." in name]
    assert all(bool(up.any()) for up in ups), "an adapter changes nothing"
