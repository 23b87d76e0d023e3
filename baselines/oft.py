"""OFT (Qiu et al. 2023): an orthogonal matrix of a few blocks turns what goes into each attention
weight, so that angles between neurons stay.

The concept is `sks <super-category>`, trained beside class images as its authors do. Their bound of
the turn (COFT) is left out: in their code it grows with the square of a block's side, in peft not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baselines.peft_method import apply_of, fit_of
from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    from baselines.peft_files import Kind
    from perfusion_core.backbone import Backbone

NAME, LABEL, VERSION = "oft", "OFT", 1
TRAINED, PRIOR = True, True
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
SETTINGS = ()
TUNED = ("lr",)
UNTUNED = True  # MINIATURE follows LoRA's
FAMILY = "adapter"
SUMMARY = "an orthogonal matrix of 4 blocks before all attention weights, beside class images"
FORMAT = "adapter_config.json and adapter_model.safetensors; PeftModel"
FILES = {"adapter_model.safetensors": r"base_model\.model\..+\.oft_.*"}
KILOBYTES = 46_430
CITE = """@inproceedings{qiu2023oft,
  author = {Qiu, Zeju and Liu, Weiyang and Feng, Haiwen and Xue, Yuxuan and Feng, Yao
            and Liu, Zhen and Zhang, Dan and Weller, Adrian and Sch{\\"o}lkopf, Bernhard},
  title = {Controlling Text-to-Image Diffusion by Orthogonal Finetuning},
  booktitle = {NeurIPS},
  year = {2023},
  note = {arXiv:2306.07280}
}"""
STYLE = {"marker": "o", "dash": (0, (1, 1))}


@dataclass(frozen=True)
class Config:
    """The authors' oft-db/train_dreambooth_oft.sh on Stable Diffusion 1.5; 200 class images."""

    steps: int = 2005  # --max_train_steps at 5f024e5; later 10005
    # --train_batch_size=1: so many pictures of the concept, and as many class images
    batch: int = 1
    lr: float = 6e-5  # --learning_rate
    blocks: int = 4  # --r
    prior_weight: float = 1.0  # --prior_loss_weight
    weight_decay: float = 0.01  # train_dreambooth_oft.py: --adam_weight_decay
    clip: float = 1.0  # train_dreambooth_oft.py: --max_grad_norm
    flip: bool = False  # as train_dreambooth.py, which it follows
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})


# a unit of rate moves a weight nearly twice as far as LoRA's does
MINIATURE = Config(steps=150, batch=4, lr=1e-3)


def refuse_uneven(backbone: Backbone, config: Config) -> None:
    """peft would take another number in those layers that it does not divide."""
    import torch

    from baselines.lora import LAYERS

    refuse_undivided(
        config,
        backbone.name,
        {
            layer.in_features
            for name, layer in backbone.unet.named_modules()
            if isinstance(layer, torch.nn.Linear)
            and name.endswith(tuple(f".{one}" for one in LAYERS))
        },
    )


def refuse_undivided(config: Config, name: str, widths: Iterable[int]) -> None:
    if uneven := sorted(width for width in widths if width % config.blocks):
        raise UserError(
            f"blocks={config.blocks} does not divide {', '.join(map(str, uneven))}, widths of "
            f"{name}'s attentions; give a number that divides them all"
        )


def refuse_backbone(config: Config, name: str, unet: Mapping[str, Any]) -> None:
    """By a plan, which knows a U-Net's configuration and not its layers."""
    kinds, channels = unet.get("down_block_types", ()), unet.get("block_out_channels", ())
    text = unet.get("cross_attention_dim", ())
    widths = {n for kind, n in zip(kinds, channels) if "CrossAttn" in kind}
    widths |= {text} if isinstance(text, int) else set(text or ())
    refuse_undivided(config, name, widths)


def settings_of(config: Config) -> dict[str, Any]:
    """The recipe in peft's words."""
    return {"r": config.blocks, "oft_block_size": 0, "use_cayley_neumann": False}


def adapter() -> Kind:
    """What of peft's this is."""
    from peft import OFTConfig

    from baselines.peft_files import Kind

    return Kind(
        NAME,
        "OFT",
        OFTConfig,
        settings=(
            "r",
            "oft_block_size",
            "block_share",
            "use_cayley_neumann",
            "num_cayley_neumann_terms",
        ),
        mark="oft_R",
        still=("oft_R",),
        fixed={"coft": False},
        float32=True,  # a matrix is inverted
    )


fit = fit_of(adapter, settings_of, check=refuse_uneven)
apply = apply_of(
    adapter,
    "`sks <super-category>` for each placeholder; of several concepts one turn follows the other, "
    "in the order in which they are named.",
)
