"""Training that goes on from finished weights, whose networks may be smaller than today's.

In: a workshop, a folder of weights. Out: stages in the work folder that hold the weights' numbers,
with an optimizer that knows nothing yet.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel

from benchmarks.disk import read_json
from benchmarks.miniature.training.growth import grown
from benchmarks.miniature.training.hyperparameters import STAGES
from benchmarks.miniature.training.judge_training import judge_module
from benchmarks.miniature.training.judges import FOLDER, JUDGES
from benchmarks.miniature.training.networks import SCORERS
from benchmarks.miniature.training.scorer_training import scorer_module
from benchmarks.miniature.training.stage import Stage
from benchmarks.miniature.training.text_encoder import text_modules
from benchmarks.miniature.training.unet import unet_module
from benchmarks.miniature.training.vae import vae_module
from benchmarks.miniature.training.weights_export import RECORD, read_record
from benchmarks.miniature.training.workshop import Workshop
from perfusion_core.covariance import FILE as COVARIANCE
from perfusion_core.errors import UserError

Numbers = dict[str, torch.Tensor]


def are_weights(folder: Path) -> bool:
    """Whether a folder holds exported weights, and not packed stages."""
    return (folder / RECORD).is_file()


def take_words(weights: Path, work: Path) -> None:
    """The tokenizer of the weights, before a workshop makes one of its own."""
    if not (work / "tokenizer").is_dir():
        aside = work / "tokenizer.part"  # whole or not there
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(weights / "tokenizer", aside)
        aside.rename(work / "tokenizer")


def words_of(folder: Path) -> Any:
    """Vocabulary and merges of the tokenizer in it; None where there is none."""
    told = read_json(folder / "tokenizer" / "tokenizer.json")
    return None if told is None else told.get("model")


def go_on(shop: Workshop, weights: Path, names: Iterable[str] = STAGES) -> list[str]:
    """Begin these stages with what the weights hold; a stage that is there stays. -> the stages
    begun."""
    if (weights / "text_encoder_2").is_dir():
        raise UserError(
            f"{weights} is a miniature-xl, and what was asked for goes on from a miniature; give "
            f"the weights that it grew from"
        )
    stages, begun = read_record(weights)["stages"], []
    for name in names:
        if shop.file(name).exists() or not _file(weights, name).is_file():
            continue
        modules = _modules(shop, name)
        grown(modules[_main(name)], _numbers(weights, name))
        stage = Stage(modules, shop.file(name), lr=1)
        before = stages.get(name, {"steps": 0, "seconds": 0, "elsewhere": 0})
        stage.step, stage.elsewhere = before["steps"], before["seconds"] + before["elsewhere"]
        stage.save()
        begun.append(name)
    return begun


def kept_covariance(shop: Workshop, weights: Path, out: Path) -> bool:
    """Copy C of the weights, unless their text encoder was trained on here. -> whether it was."""
    if shop.spent("text")["seconds"] or not (weights / COVARIANCE).is_file():
        return False
    shutil.copyfile(weights / COVARIANCE, out / COVARIANCE)
    return True


def _modules(shop: Workshop, name: str) -> dict[str, Any]:
    """What a stage trains, as it is before its first step."""
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "text": lambda: text_modules(shop),
        "vae": lambda: {"vae": vae_module(shop)},
        "unet": lambda: {"unet": unet_module(shop)},
        **{each: lambda: {"scorer": scorer_module(shop, name)} for each in SCORERS},
        **{each: lambda: {name: judge_module(shop, name)} for each in JUDGES},
    }
    return made[name]()


def _main(name: str) -> str:
    """Which module of a stage is exported."""
    return "scorer" if name in SCORERS else name


def _file(weights: Path, name: str) -> Path:
    """Where the weights keep what a stage made."""
    if name in JUDGES:
        return weights / FOLDER / f"{name}.safetensors"
    if name in SCORERS:
        return weights / name / "open_clip_model.safetensors"
    folder = {"text": "text_encoder"}.get(name, name)
    file = "model" if name == "text" else "diffusion_pytorch_model"
    return weights / folder / f"{file}.safetensors"


def _numbers(weights: Path, name: str) -> Numbers:
    if name == "text":  # transformers says what the tensors in its files are called
        text: Any = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
        return dict(text.state_dict())
    return {key: tensor.float() for key, tensor in load_file(_file(weights, name)).items()}
