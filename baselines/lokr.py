"""LoKr (LyCORIS, Yeh et al. 2024): beside each attention weight the Kronecker product of two small
matrices.

The concept is `sks <super-category>`. Of LyCORIS' recipe are left out: matrices beside the
feed-forward layers and the text encoder, weights by signal-to-noise ratio, pyramid noise, captions
that are dropped, AdamW's betas of 0.9 and 0.99, and clip_skip 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from baselines.peft_method import apply_of, fit_of
from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    from baselines.peft_files import Kind

NAME, LABEL, VERSION = "lokr", "LoKr", 2
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
SETTINGS = ()
TUNED = ("lr",)
UNTUNED = True  # MINIATURE follows LoRA's
FAMILY = "adapter"
SUMMARY = "a Kronecker product of two small matrices beside all attention weights"
FORMAT = "adapter_config.json and adapter_model.safetensors; PeftModel, load_lora_adapter"
FILES = {"adapter_model.safetensors": r"base_model\.model\..+\.lokr_.*"}
KILOBYTES = 5_916
CITE = """@inproceedings{yeh2024lycoris,
  author = {Yeh, Shih-Ying and Hsieh, Yu-Guan and Gao, Zhidong and Yang, Bernard B W
            and Oh, Giyeong and Gong, Yanmin},
  title = {Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation},
  booktitle = {ICLR},
  year = {2024},
  note = {arXiv:2309.14859}
}"""
STYLE = {"marker": "s", "dash": (0, (2, 2))}


@dataclass(frozen=True)
class Config:
    """LyCORIS' lokr_config.toml; its steps are epochs of a data set, so they are LoRA's here."""

    steps: int = 500  # diffusers' README of train_dreambooth_lora.py
    batch: int = 8  # train_batch_size
    lr: float = 2e-4  # unet_lr
    # Side of the smaller matrix, -1 for the nearest to a square. Guidelines: 4 to 8; the file has
    # 6, and 8 divides every width of Stable Diffusion.
    factor: int = 8
    rank: int = 100_000  # network_dim: so large that the second matrix is whole
    weight_decay: float = 0.1  # optimizer_args
    clip: float = 1.0  # max_grad_norm
    flip: bool = False  # flip_aug
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        if self.factor < 2 and self.factor != -1:
            raise UserError(f"factor={self.factor}: -1, or at least 2, is needed")


# of so narrow layers a factor of 8 leaves a quarter of LoRA's numbers, and 4 four fifths
MINIATURE = Config(steps=75, batch=4, lr=4e-3, factor=4)


def settings_of(config: Config) -> dict[str, Any]:
    """The recipe in peft's words; the product counts once."""
    return {"r": config.rank, "alpha": config.rank, "decompose_factor": config.factor}


def adapter() -> Kind:
    """What of peft's this is."""
    from peft import LoKrConfig

    from baselines.peft_files import Kind

    return Kind(
        NAME,
        "LOKR",
        partial(LoKrConfig, init_weights="lycoris"),  # the larger matrix starts at 0
        settings=("r", "alpha", "decompose_factor", "decompose_both"),
        mark="lokr_",
        still=("lokr_w2", "lokr_w2_b"),  # whole, or of a low rank
    )


fit = fit_of(adapter, settings_of)
apply = apply_of(
    adapter,
    "`sks <super-category>` for each placeholder; the changes of several concepts add up.",
)
