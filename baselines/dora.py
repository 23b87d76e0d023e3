"""DoRA (Liu et al. 2024): LoRA's matrices for the direction of each attention weight, and its
length learned beside them.

The concept is `sks <super-category>`, trained as LoRA is: diffusers has one recipe for both. The
text encoder stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from baselines.peft_method import apply_of, fit_of

if TYPE_CHECKING:  # a plan reads this file without torch
    from baselines.peft_files import Kind

NAME, LABEL, VERSION = "dora", "DoRA", 1
TRAINED, PRIOR = True, False
USES_COVARIANCE = False  # no byte of it depends on C
UNET_ONLY = True
SETTINGS = ()
TUNED = ("lr",)
UNTUNED = True  # MINIATURE follows LoRA's
FAMILY = "adapter"
SUMMARY = "directions by matrices of rank 4, and lengths, of all attention weights"
FORMAT = "adapter_config.json and adapter_model.safetensors; PeftModel, load_lora_adapter"
FILES = {"adapter_model.safetensors": r"base_model\.model\..+\.lora_(A|B|magnitude_vector).*"}
KILOBYTES = 3_650
CITE = """@inproceedings{liu2024dora,
  author = {Liu, Shih-Yang and Wang, Chien-Yi and Yin, Hongxu and Molchanov, Pavlo
            and Wang, Yu-Chiang Frank and Cheng, Kwang-Ting and Chen, Min-Hung},
  title = {DoRA: Weight-Decomposed Low-Rank Adaptation},
  booktitle = {ICML},
  year = {2024},
  note = {arXiv:2402.09353}
}"""
STYLE = {"marker": "d", "dash": (0, (4, 1, 1, 1))}


@dataclass(frozen=True)
class Config:
    """diffusers' examples/dreambooth: train_dreambooth_lora_sdxl.py --use_dora changes nothing of
    LoRA's recipe but the kind; this is that of train_dreambooth_lora.py."""

    steps: int = 500  # README: --max_train_steps=500
    batch: int = 1  # --train_batch_size=1
    lr: float = 1e-4  # --learning_rate=1e-4
    rank: int = 4  # --rank; alpha is the same, so the matrices' product counts once
    weight_decay: float = 0.01  # --adam_weight_decay
    clip: float = 1.0  # --max_grad_norm
    flip: bool = False  # train_dreambooth_lora.py never mirrors
    # Whether the U-Net's activations are computed again: less memory, a third more time.
    checkpointing: bool = False
    # Whether the loss is weighted by masks, as Perfusion's is.
    masks: bool = field(default=False, metadata={"later": True})


MINIATURE = Config(steps=75, batch=4, lr=4e-3)


def settings_of(config: Config) -> dict[str, Any]:
    """The recipe in peft's words."""
    return {"r": config.rank, "lora_alpha": config.rank}


def adapter() -> Kind:
    """What of peft's this is."""
    from peft import LoraConfig

    from baselines.peft_files import Kind

    return Kind(
        NAME,
        "LORA",
        partial(LoraConfig, use_dora=True, init_lora_weights="gaussian"),
        settings=("r", "lora_alpha"),
        mark="lora_",
        still=("lora_B",),
        fixed={"use_dora": True, "use_rslora": False},
    )


fit = fit_of(adapter, settings_of)
apply = apply_of(
    adapter,
    "`sks <super-category>` for each placeholder; of several concepts one follows the other, in "
    "the order in which they are named: the later also scales what the earlier changed.",
)
