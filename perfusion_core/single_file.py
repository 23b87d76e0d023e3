"""One .safetensors checkpoint of Stable Diffusion 1.x, 2.x or XL in, a pipeline out, without a
network.

Such a file holds weights alone: the configurations are ours (layouts/), CLIP's vocabulary is the
one in open_clip.
"""

from __future__ import annotations

import json
import re
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from perfusion_core.errors import UserError

if TYPE_CHECKING:
    import torch

Layout = dict[str, Any]
UNET = "model.diffusion_model."
FIRST, TEXT = (
    f"{UNET}input_blocks.0.0.weight",
    f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight",
)
PARTS = {"VAE": "first_stage_model.", "text encoder": "cond_stage_model."}
JOINT_PARTS = {  # of XL
    "VAE": "first_stage_model.",
    "first text encoder": "conditioner.embedders.0.transformer.",
    "second text encoder": "conditioner.embedders.1.model.",
}
SECOND = "text_encoder_2"  # in a layout with two of them
# what some programs leave in a file to tell its kind; the last is how such names begin
VELOCITY, ZERO_END, EDM = "v_pred", "ztsnr", "edm_"
OLD = "cond_stage_model.transformer.embeddings."  # as some programs wrote it in 2022
V = {"v": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}


@cache
def layouts() -> dict[int, Layout]:
    """Stable Diffusion 1.x, 2.x and XL by the width of what their cross-attentions read."""
    found = [
        json.loads((files("perfusion_core") / "layouts" / name).read_text())
        for name in ("sd1.json", "sd2.json", "sdxl.json")
    ]
    return {layout["unet"]["cross_attention_dim"]: layout for layout in found}


def layout_of(place: Path) -> Layout:
    """The configurations that fit this file, with its own kind of prediction and size; reads the
    header only.
    """
    try:
        with safe_open(place, "np") as file:
            names = set(file.keys())
            shapes = {key: file.get_slice(key).get_shape() for key in (FIRST, TEXT) if key in names}
            about = file.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"{place} is damaged or not a safetensors file: {error}") from error
    if len(shapes) < 2 or shapes[TEXT][1] not in layouts():
        raise UserError(
            f"{place} is not a checkpoint of Stable Diffusion 1.x, 2.x or XL, with U-Net, VAE and "
            f"text encoder in one file (a LoRA is none); give such a file, or a folder in "
            f"diffusers layout"
        )
    layout: Layout = json.loads(json.dumps(layouts()[shapes[TEXT][1]]))
    refuse_without(place, names, JOINT_PARTS if SECOND in layout else PARTS)
    if shapes[FIRST][1] != layout["unet"]["in_channels"]:
        raise UserError(
            f"{place} reads {shapes[FIRST][1]} channels: an inpainting or depth model; give the "
            f"plain one"
        )
    if any(name.startswith(EDM) for name in names):
        raise UserError(
            f"{place} was made for a schedule that knows no betas (EDM, as Playground 2.5), and "
            f"training and drawing here need them; use its own pipeline with load_concepts"
        )
    kind = prediction(place, about, plain=layout["pad"] != "!")
    if VELOCITY in names:
        kind = V["v"]
    layout["scheduler"]["prediction_type"] = kind
    if ZERO_END in names and kind == V["v"]:  # noise alone at the last step says nothing of noise
        layout["scheduler"]["rescale_betas_zero_snr"] = True
    if layout["pad"] == "!" and kind == "v_prediction":  # 2.x: the models of 768 pixels predict v
        layout["unet"]["sample_size"], layout["vae"]["sample_size"] = 96, 768
    return layout


def refuse_without(place: Path, names: set[str], parts: dict[str, str]) -> None:
    """A file that lacks one of the parts, or has it under names that nobody reads now."""
    for part, prefix in parts.items():
        if not any(name.startswith(prefix) for name in names):
            raise UserError(
                f"{place} has no {part}; give a checkpoint with U-Net, VAE and text encoder in one "
                f'file (not a "no VAE" or pruned one), or a folder in diffusers layout'
            )
    if any(name.startswith(OLD) for name in names):
        raise UserError(
            f"{place} has its text encoder under names of 2022 ({OLD}*), which diffusers does "
            f"not read; save it anew with a current program, or give a folder in diffusers layout"
        )


def refuse_gaps(place: Path, pipe: Any) -> None:
    """A checkpoint in which single weights are missing."""
    parts = ("unet", "vae", "text_encoder", SECOND)
    gaps = [
        f"{part}.{name}"
        for part in parts
        if hasattr(pipe, part)
        for name, weight in getattr(pipe, part).named_parameters()
        if weight.is_meta
    ]
    if gaps:
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise UserError(
            f"{place} is not whole: {gaps[0]}{more} is missing; download it again, or give another "
            f"checkpoint"
        )


def prediction(place: Path, about: dict[str, str], plain: bool) -> str:
    """What the U-Net predicts; its weights do not tell: the file's header, a .yaml beside it, or
    1.x's epsilon.
    """
    if (told := about.get("modelspec.prediction_type")) in V:
        return V[told]
    beside = place.with_suffix(".yaml")
    if beside.is_file():
        found = re.search(r"parameterization:\s*[\"']?(\w+)", beside.read_text(encoding="utf-8"))
        return V.get(found[1], "epsilon") if found else "epsilon"
    if plain:
        return "epsilon"
    raise UserError(
        f"{place} is a Stable Diffusion 2.x checkpoint and does not say whether it predicts noise "
        f"(the 512 models) or v (the 768 ones): "
        f'write  parameterization: "eps"  or  parameterization: "v"  into {beside.name} there'
    )


def tokenizer_of(layout: Layout) -> Any:
    """CLIP's tokenizer, from the byte pairs in the open_clip package; 1.x pads with its end token,
    2.x with `!`.
    """
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    theirs = SimpleTokenizer()
    vocab = {
        word.replace("<start_of_text>", "<|startoftext|>").replace(
            "<end_of_text>", "<|endoftext|>"
        ): n
        for word, n in theirs.encoder.items()
    }
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.__getitem__)
    length = layout["text_encoder"]["max_position_embeddings"]
    return CLIPTokenizer(
        vocab=vocab, merges=merges, model_max_length=length, pad_token=layout["pad"]
    )


def write_layout(layout: Layout, folder: Path) -> None:
    """The folder of configurations that diffusers wants beside the weights."""
    joint = SECOND in layout
    about: dict[str, Any] = (
        {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
        if joint
        else {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    )
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    kinds["scheduler"] = layout["scheduler"]["_class_name"]
    about |= {part: ["diffusers", name] for part, name in kinds.items()}
    about |= {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    if joint:
        about |= {
            SECOND: ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    else:
        about["safety_checker"] = [None, None]
    about |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(about))
    for part in ("unet", "vae", "text_encoder", *([SECOND] if joint else []), "scheduler"):
        (folder / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(layout[part]))


def open_single_file(place: Path, dtype: torch.dtype) -> Any:
    """Text encoders stay in float32 as everywhere, and so does XL's VAE beside float16, whose
    range it leaves.
    """
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    layout = layout_of(place)
    joint = SECOND in layout
    kind: Any = StableDiffusionXLPipeline if joint else StableDiffusionPipeline
    others: dict[str, Any] = {"safety_checker": None}
    if joint:
        others = {"tokenizer_2": tokenizer_of(layout | {"pad": "!"}), "add_watermarker": False}
    with tempfile.TemporaryDirectory() as scratch:
        write_layout(layout, Path(scratch))
        try:
            pipe = kind.from_single_file(
                str(place),
                config=scratch,
                local_files_only=True,
                dtype=torch.float32,
                tokenizer=tokenizer_of(layout),
                feature_extractor=None,
                image_encoder=None,
                **others,
            )
        except NotImplementedError as error:  # a weight without numbers cannot be copied
            raise UserError(
                f"{place} is not whole, some of its weights are missing; download it again, or "
                f"give another checkpoint"
            ) from error
        except (OSError, ValueError, KeyError, SingleFileComponentError) as error:
            raise UserError(
                f"cannot open the backbone in {place}: {str(error).strip().splitlines()[0]}"
            ) from error
    refuse_gaps(place, pipe)
    for model in (pipe.unet,) if joint and dtype == torch.float16 else (pipe.unet, pipe.vae):
        # diffusers' own warns about modules that neither of them has
        torch.nn.Module.to(model, dtype)
    return pipe


def picture_side(place: Path) -> int:
    """Pixels of a side of what this file draws."""
    layout = layout_of(place)
    return int(layout["unet"]["sample_size"]) * 2 ** (len(layout["vae"]["block_out_channels"]) - 1)
