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

from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    import torch

    from baselines.adapter_files import Layer
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
FILES = {"pytorch_lora_weights.safetensors": r"(?!base_model\.).*lora.*"}
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
# what may be adapted, by the ends of names: all of these, or where other methods act
WHERE = {
    "all": LAYERS,
    "cross": ("attn2.to_k", "attn2.to_v"),  # Custom Diffusion
    "values": ("attn2.to_v",),  # Perfusion, whose keys are locked
}


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
    # Which projections: `all` attention's, K and V of `cross`-attention, or its `values` alone.
    layers: str = field(default="all", metadata={"later": True})

    def __post_init__(self) -> None:
        if self.layers not in WHERE:
            raise UserError(f"layers={self.layers}: give one of {', '.join(WHERE)}")


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

    with adapted(backbone, config.rank, seed, config.layers) as matrices:
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
def adapted(
    backbone: Backbone, rank: int, seed: int, layers: str = "all"
) -> Iterator[list[torch.nn.Parameter]]:
    """The U-Net with new matrices beside its attention weights, for the duration."""
    import torch
    from peft import LoraConfig

    unet = backbone.unet
    recipe = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(WHERE[layers])
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
    with beside(NAME, backbone, [fitted.folder / FILE for fitted in fits.values()]) as pairs:
        assert_applied(backbone, before, pairs)
        yield spelled({name: f"{RARE} {fitted.super_category}" for name, fitted in fits.items()})


@contextmanager
def beside(method: str, backbone: Backbone, files: Sequence[Path]) -> Iterator[int]:
    """The matrices of these files beside the U-Net's weights, for the duration; a file of another
    kind or model, or one that is not whole, is a sentence. -> how many pairs of matrices.
    """
    unet = backbone.unet
    adapters = [f"concept_{n}" for n in range(len(files))]
    each = [layers_in(method, backbone, file) for file in files]
    try:
        for adapter, file, layers in zip(adapters, files, each, strict=True):
            load(unet, file, adapter)
            refuse_other_matrices(unet, file, adapter, layers)
        unet.set_adapters(adapters)
        yield sum(map(len, each))
    finally:
        unet.unload_lora()


def layers_in(method: str, backbone: Backbone, file: Path) -> list[Layer]:
    """The pairs of matrices in a file: one for each projection of the U-Net's attentions, or of
    those that `WHERE` names.
    """
    from baselines.adapter_files import layers_of, refuse_misfits
    from baselines.fitting import refuse_misfit, tensors_in

    tensors = tensors_in(file)
    layers = layers_of(tensors, str(file), backbone)
    refuse_misfits(backbone, layers, str(file))
    found = {f"{layer.part}.{layer.module}": () for layer in layers}
    sets = [
        [f"unet.{name}" for name in projections(backbone.unet, ends)] for ends in WHERE.values()
    ]
    wanted = next((names for names in sets if found.keys() == set(names)), sets[0])
    refuse_misfit(method, backbone, file, found, dict.fromkeys(wanted, ()))
    if kohya := [key for key in tensors if not key.startswith("unet.")]:
        raise UserError(
            f"{file} has keys of kohya's scripts, such as {min(kohya):.200}, and {method} reads "
            f"those of diffusers"
        )
    return layers


def projections(unet: Any, layers: Sequence[str] = LAYERS) -> list[str]:
    """The names of attention projections, which matrices may stand beside already."""
    ends = tuple(f".{layer}.weight" for layer in layers)
    names = (name.replace(".base_layer.", ".") for name, _ in unet.named_parameters())
    return [name.removesuffix(".weight") for name in names if name.endswith(ends)]


def load(unet: Any, file: Path, adapter: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
            unet.load_lora_adapter(
                file.parent, weight_name=file.name, prefix="unet", adapter_name=adapter
            )
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be loaded by diffusers: {told}") from None


def refuse_other_matrices(unet: Any, file: Path, adapter: str, layers: Sequence[Layer]) -> None:
    """diffusers only logs what it leaves out, and a header may ask for more than the file holds."""
    import torch

    held = {n: matrix for n, matrix in unet.named_parameters() if adapter in n.split(".")}
    wanted = {
        f"{layer.module}.lora_{side}.{adapter}.weight": matrix
        for layer in layers
        for side, matrix in layer.matrices.items()
    }
    odd = [
        name
        for name in held.keys() | wanted.keys()
        if name not in held
        or name not in wanted
        or not torch.equal(held[name], wanted[name].to(held[name]))
    ]
    if odd:
        raise UserError(
            f"{file}: diffusers has {len(odd)} matrices otherwise than the file, such as "
            f"{min(odd)}; save it again without a configuration in its header"
        )


def assert_applied(backbone: Backbone, before: Mapping[str, tuple[int, int]], pairs: int) -> None:
    """All pairs of matrices that the files hold are there, none of them idle; every weight is where
    it was.
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
    assert len(beside) == 2 * pairs, "not every matrix of the files is there"
    ups = [p for name, p in backbone.unet.named_parameters() if ".lora_B." in name]
    assert all(bool(up.any()) for up in ups), "an adapter changes nothing"
