"""A copy of the miniature whose text encoder learned by the contrastive loss alone, as CLIP's did.

Its U-Net goes on from the given weights until it understands the new encodings; VAE, scorers and judges stay.
"""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from benchmarks.miniature.training.recipe import Build, Recipe
from benchmarks.miniature.training.stage import spent
from perfusion_core.errors import UserError

OURS = ("text_encoder", "unet", "covariance.safetensors", "build.json")
FIRST = 10.0  # minutes of the text encoder, as in the shipped weights


def contrastive(
    weights: Path,
    out: Path,
    *,
    work: Path,
    minutes: float,
    device: str,
    compile: bool = False,
    recipe: Recipe | None = None,
    deadline: float = math.inf,
) -> Path:
    """Train what is missing of both in the work folder, and put a whole backbone into `out`."""
    if minutes <= 0:
        raise UserError(f"--minutes {minutes:g}: training takes time; leave it out for 60 minutes")
    begin(weights, work)
    recipe = replace(recipe or Recipe(), own_token=0.0)
    build = Build(work, recipe, device, deadline=deadline, compile=compile)
    first = min(FIRST, minutes / 2)
    for name, share in (("text", first), ("unet", minutes - first)):
        left = share - spent(work / f"{name}.safetensors")["seconds"] / 60
        if left * 60 >= 1:
            getattr(build, name)(left)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(weights, part, ignore=lambda folder, names: {*OURS} & {*names} if Path(folder) == weights else ())
    build.text_encoder().cpu().half().save_pretrained(part / "text_encoder")
    build.trained_unet().cpu().half().save_pretrained(part / "unet")
    record = json.loads((weights / "build.json").read_text(encoding="utf-8"))
    stages = {name: spent(work / f"{name}.safetensors") for name in ("text", "unet")}
    record["contrastive"] = {"own_token": recipe.own_token, "stages": stages, "device": build.device.type}
    (part / "build.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    build.covariance(part)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return out


def begin(weights: Path, work: Path) -> None:
    """A work folder with the words, the VAE and the U-Net of these weights, unless they are there."""
    if not (work / "tokenizer").is_dir():
        shutil.copytree(weights / "tokenizer", work / "tokenizer")
    stages = json.loads((weights / "build.json").read_text(encoding="utf-8"))["stages"]
    scale = json.loads((weights / "vae" / "config.json").read_text(encoding="utf-8"))["scaling_factor"]
    for name in ("vae", "unet"):
        path = work / f"{name}.safetensors"
        if not path.exists():
            tensors = load_file(weights / name / "diffusion_pytorch_model.safetensors")
            about = {"step": str(stages[name]["steps"]), "seconds": "0", "elsewhere": "0"}
            save_file({f"ema/{name}.{key}": tensor.float() for key, tensor in tensors.items()}, path, about)
    (work / "scale.json").write_text(json.dumps(scale), encoding="utf-8")
