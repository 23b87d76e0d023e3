"""LoHa (FedPara's product in LyCORIS, Yeh et al. 2024): beside each attention weight the
element-wise product of two products of matrices.

The concept is `sks <super-category>`. Of LyCORIS' recipe are left out: matrices beside the
feed-forward layers and the text encoder, weights by signal-to-noise ratio, pyramid noise, captions
that are dropped, AdamW's betas of 0.9 and 0.99, and clip_skip 2. One matrix starts at 0, as in
LyCORIS; the others start uniform, as peft has them, and in LyCORIS normal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baselines.peft_method import apply_of, fit_of
from perfusion_core.errors import UserError

if TYPE_CHECKING:  # a plan reads this file without torch
    from baselines.peft_files import Kind

NAME, LABEL, VERSION = "loha", "LoHa", 1
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
SETTINGS = ()
TUNED = ("lr",)
UNTUNED = True  # MINIATURE follows LoRA's
FAMILY = "adapter"
SUMMARY = "an element-wise product of matrices of rank 8 beside all attention weights"
FORMAT = "adapter_config.json and adapter_model.safetensors; PeftModel"
FILES = {"adapter_model.safetensors": r"base_model\.model\..+\.hada_.*"}
KILOBYTES = 12_834
CITE = """@inproceedings{yeh2024lycoris,
  author = {Yeh, Shih-Ying and Hsieh, Yu-Guan and Gao, Zhidong and Yang, Bernard B W
            and Oh, Giyeong and Gong, Yanmin},
  title = {Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation},
  booktitle = {ICLR},
  year = {2024},
  note = {arXiv:2309.14859}
}

@inproceedings{hyeonwoo2022fedpara,
  author = {Hyeon-Woo, Nam and Ye-Bin, Moon and Oh, Tae-Hyun},
  title = {FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning},
  booktitle = {ICLR},
  year = {2022},
  note = {arXiv:2108.06098}
}"""
STYLE = {"marker": "X", "dash": (0, (7, 2))}


@dataclass(frozen=True)
class Config:
    """LyCORIS' loha_config.toml; its steps are epochs of a data set, so they are LoRA's here."""

    steps: int = 500  # diffusers' README of train_dreambooth_lora.py
    batch: int = 8  # train_batch_size
    lr: float = 2e-4  # unet_lr
    rank: int = 8  # network_dim
    alpha: int = 4  # network_alpha: what is added counts alpha / rank times
    weight_decay: float = 0.1  # optimizer_args
    clip: float = 1.0  # max_grad_norm
    flip: bool = False  # flip_aug
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise UserError(f"alpha={self.alpha}: a number above 0 is needed")


MINIATURE = Config(steps=75, batch=4, lr=4e-3)


def settings_of(config: Config) -> dict[str, Any]:
    """The recipe in peft's words."""
    return {"r": config.rank, "alpha": config.alpha}


def adapter() -> Kind:
    """What of peft's this is."""
    from peft import LoHaConfig

    from baselines.peft_files import Kind

    return Kind(
        NAME,
        "LOHA",
        LoHaConfig,
        settings=("r", "alpha"),
        mark="hada_",
        still=("hada_w2_b",),
    )


fit = fit_of(adapter, settings_of)
apply = apply_of(
    adapter,
    "`sks <super-category>` for each placeholder; the changes of several concepts add up.",
)
