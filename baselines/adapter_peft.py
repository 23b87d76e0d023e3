"""A folder of peft's in a pipeline: LoRA, DoRA, LoHa, LoKr or OFT, trained here or elsewhere.

In: `adapter_config.json` and `adapter_model.safetensors`. Out: the U-Net with the adapter; a
sentence where it is of another kind, or for other layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baselines import dora, loha, lokr, oft
from baselines.peft_adapters import loaded
from baselines.peft_files import ABOUT, Kind, read_about
from perfusion_core.backbone import Backbone
from perfusion_core.errors import UserError

ELSEWHERE = "elsewhere"  # peft's name for the adapter


def kind_of(folder: Path) -> Kind:
    """What draws with it: one of our methods, or peft's plain LoRA."""
    from peft import LoraConfig

    told = read_about(folder / ABOUT)
    found, lengths = told.get("peft_type"), told.get("use_dora") is True
    if found == "LORA" and not lengths:
        return Kind(
            "lora", "LORA", LoraConfig, ("r", "lora_alpha"), "lora_", ("lora_B",),
            fixed={"use_dora": False, "use_rslora": False},
        )  # fmt: skip
    kinds = {kind.peft_type: kind for kind in (one.adapter() for one in (dora, loha, lokr, oft))}
    if found in kinds:
        return kinds[found]
    raise UserError(
        f"{folder / ABOUT} tells of an adapter of the kind {found!r:.40}, and these can be drawn "
        f"with: {', '.join(kinds)}"
    )


@contextmanager
def peft_folder(backbone: Backbone, folder: Path, _name: str) -> Iterator[None]:
    """The U-Net with what the folder holds, for the duration; sentences name the folder."""
    with loaded(kind_of(folder), backbone, {ELSEWHERE: folder}):
        yield
