"""Files that other programs open: a LoRA under kohya's keys, an embedding, both in one.

In: thin factors by the name of their layer, embeddings, facts for people. Out: tensors and headers
of safetensors files; and the factors of a LoRA that diffusers wrote.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from perfusion_core.errors import UserError
from perfusion_core.files import to_bytes
from perfusion_core.static_map import Factors
from perfusion_core.text_encoders import FILE_KEYS

Tensors = dict[str, torch.Tensor]
KOHYA = "lora_unet_"
# as `save_lora_weights` has written them over the years
PAIR = re.compile(r"unet\.(.+)\.(lora\.down|lora\.up|lora_A|lora_B)\.weight")
DOWN = ("lora.down", "lora_A")
# width of text encodings -> what kohya's scripts and the model-spec call the backbone
SHAPES = {
    768: ("sd_v1", "stable-diffusion-v1"),
    1024: ("sd_v2", "stable-diffusion-v2-512"),
    2048: ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
}
V2 = "sd_v2"
LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)")
MIDDLE = "mid_block.attentions.0."


def kohya_tensors(factors: Mapping[str, Factors], backbone: Any) -> Tensors:
    """A1111, ComfyUI, InvokeAI, kohya's scripts and diffusers read these names. Alpha is the rank,
    so that the product counts once."""
    found: Tensors = {}
    for name, (up, down) in factors.items():
        place = sgm_name(name, backbone.unet) if backbone.text.joint else name
        key = KOHYA + place.replace(".", "_")
        found[f"{key}.alpha"] = torch.tensor(float(len(down)))
        found[f"{key}.lora_down.weight"] = down
        found[f"{key}.lora_up.weight"] = up
    return found


def sgm_name(name: str, unet: Any) -> str:
    """What kohya's scripts call a layer of Stable Diffusion XL's U-Net: the blocks of the original
    code, numbered through."""
    each = int(unet.config.layers_per_block) + 1
    if name.startswith(MIDDLE):
        return f"middle_block.1.{name.removeprefix(MIDDLE)}"
    if not (found := LEVEL.fullmatch(name)):
        raise UserError(
            f"{name[:80]!r} is not of an attention, and kohya's files of Stable Diffusion XL have "
            f"no name for it here; open this LoRA in diffusers as it is"
        )
    side, level, number, rest = found.groups()
    first = int(level) * each + int(number)
    block = f"input_blocks.{first + 1}" if side == "down" else f"output_blocks.{first}"
    return f"{block}.1.{rest}"


def word_of(name: str) -> str:
    """What stands for the concept in A1111's and ComfyUI's prompts: the embedding file's name."""
    return f"{name}_emb"


def embedding_tensors(name: str, vector: torch.Tensor, widths: Sequence[int]) -> Tensors:
    """One tensor: diffusers takes its key as the word, the others the name of the file. Of two text
    encoders, each one's under the name that all programs give it."""
    rows = [part.float()[None] for part in vector.split(list(widths))]
    return {f"<{name}>": rows[0]} if len(rows) == 1 else dict(zip(FILE_KEYS, rows, strict=True))


def bundle_tensors(
    lora: Tensors, embeddings: Mapping[str, torch.Tensor], widths: Sequence[int]
) -> Tensors:
    """LoRA and words in one file, as A1111 and ComfyUI read it; diffusers would refuse it."""
    words: Tensors = {}
    for name, vector in embeddings.items():
        rows = embedding_tensors(name, vector, widths)
        keys = rows if len(rows) > 1 else ("string_to_param.*",)
        words |= {f"bundle_emb.{word_of(name)}.{k}": row for k, row in zip(keys, rows.values())}
    return lora | words


# ---- headers ----


def sha256_of(tensors: Tensors) -> str:
    """Of the tensors' bytes as they lie in a file, whatever its header says."""
    whole = to_bytes(tensors, {})
    return hashlib.sha256(whole[8 + int.from_bytes(whole[:8], "little") :]).hexdigest()


def model_spec(backbone: Any, digest: str, kind: str, **said: str) -> dict[str, str]:
    """Stability's model-spec 1.0.1, without a date: the same export has the same bytes."""
    config = backbone.pipe.scheduler.config
    velocity = config.prediction_type == "v_prediction"
    _, architecture = SHAPES.get(backbone.text.width, ("", "unknown"))
    if velocity:
        architecture = architecture.replace("-512", "-768-v")
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/{kind}",
        "implementation": "diffusers",
        "resolution": f"{backbone.size}x{backbone.size}",
        "prediction_type": "v" if velocity else "epsilon",
        "hash_sha256": f"0x{digest}",
    }
    return {f"modelspec.{key}": value for key, value in (spec | said).items()}


def kohya_header(backbone: Any, digest: str, rank: int, name: str) -> dict[str, str]:
    """What kohya's scripts write and other programs look at."""
    version, _ = SHAPES.get(backbone.text.width, ("", ""))
    velocity = backbone.pipe.scheduler.config.prediction_type == "v_prediction"
    tail = "_v" if velocity and not backbone.text.joint else ""
    base = {"ss_base_model_version": f"{version}{tail}"} if version else {}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{rank}.0",
        "ss_v2": str(version == V2),
        **base,
        "ss_sd_model_name": backbone.name,
        "ss_output_name": name,
        "sshs_model_hash": digest,
    }


# ---- a LoRA of diffusers ----


def read_lora(path: Path, backbone: Any) -> dict[str, Factors]:
    """Its factors by layer; every one has to fit a linear layer of this U-Net."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file, or it is truncated: {error}") from error
    if tensors and all(name.startswith(KOHYA) for name in tensors):
        raise UserError(f"{path} has kohya's keys already; other programs open it as it is")
    if "lora_adapter_metadata" in about:  # our own says none: its alpha is its rank
        raise UserError(
            f"{path} brings a scale of its own (lora_adapter_metadata), which this does not read; "
            f"export it with the program that made it"
        )
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if not (found := PAIR.fullmatch(name)):
            raise UserError(
                f"{path} is neither a concept nor a LoRA of a U-Net in diffusers' keys: it holds "
                f"{name[:80]!r}"
            )
        pairs.setdefault(found[1], {})["down" if found[2] in DOWN else "up"] = tensor
    if not pairs:
        raise UserError(f"{path} holds no tensors")
    layers = dict(backbone.unet.named_modules())
    return {
        name: fitting(path, name, pair, backbone.name, layers.get(name))
        for name, pair in sorted(pairs.items())
    }


def fitting(
    path: Path, name: str, pair: dict[str, torch.Tensor], backbone: str, layer: Any
) -> Factors:
    if not isinstance(layer, torch.nn.Linear):
        raise UserError(
            f"{path} was made for another model: {backbone} has no linear layer {name[:80]!r}"
        )
    if pair.keys() != {"down", "up"}:
        raise UserError(f"{path} is damaged: of {name[:80]!r} one half is missing")
    up, down = pair["up"], pair["down"]
    right = (len(up.shape), len(down.shape)) == (2, 2) and up.shape[1] == len(down) > 0
    if not right or (len(up), down.shape[1]) != (layer.out_features, layer.in_features):
        raise UserError(
            f"{path} was made for another model: {name[:80]!r} takes {layer.in_features} numbers "
            f"and gives {layer.out_features}, its matrices are {list(up.shape)} and "
            f"{list(down.shape)}"
        )
    for half in (up, down):
        if not half.is_floating_point() or not half.isfinite().all():
            raise UserError(f"{path} is damaged: {name[:80]!r} holds something else than numbers")
    return Factors(up, down)
